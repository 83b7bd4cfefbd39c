"""A day of calls in short: whatever becomes of them, nothing is left behind."""

from pathlib import Path

from tests.faults.day import day, files_left

SESSIONS_AN_HOUR = 15


async def test_a_day_with_killed_calls_and_databases_leaves_nothing_behind(data_dir: Path) -> None:
    async with day(data_dir) as today:
        await today.hour(SESSIONS_AN_HOUR, kill_database=False, kill_process=False)
        early = today.sample()
        await today.hour(SESSIONS_AN_HOUR, kill_database=True, kill_process=False)
        await today.hour(SESSIONS_AN_HOUR, kill_database=False, kill_process=True)
        await today.hour(SESSIONS_AN_HOUR, kill_database=False, kill_process=False)
        late = today.sample()
        assert today.query(
            "SELECT status, count(*), count(ended_at) FROM agent_sessions GROUP BY status"
        ) == [("ended", 4 * SESSIONS_AN_HOUR, 4 * SESSIONS_AN_HOUR)]
        assert today.lost_or_doubled() == []
        assert files_left(today.config) == []
        assert today.rooms.calls == {}
        assert (late.tasks, late.connections) == (early.tasks, 0)
        assert late.threads <= early.threads + 2  # of the pool for blocking work
        assert late.files <= early.files + 2
        assert late.sockets <= early.sockets + 2
