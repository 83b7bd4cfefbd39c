"""A worker is dead when its beat stands still, by the clock of who watches."""

import uuid

import pytest

from runner import lease
from runner.errors import DatabaseAwayError
from runner.lease import Lease
from runner.store import Orphan

ME, OTHER = uuid.uuid4(), uuid.uuid4()
ORPHAN = Orphan(uuid.uuid4(), "call-1", "caller-1")


class Table:
    """The table of workers: who beats, and who was struck off."""

    def __init__(self) -> None:
        self.beats = {OTHER: 7}
        self.struck_off: list[tuple[uuid.UUID, int | None]] = []
        self.away = False

    async def beat(self, _: uuid.UUID) -> dict[uuid.UUID, int]:
        if self.away:
            raise DatabaseAwayError("away")
        return dict(self.beats)

    async def leave(self, worker_id: uuid.UUID, beat: int | None = None) -> None:
        self.struck_off.append((worker_id, beat))
        self.beats.pop(worker_id, None)

    async def adopt_orphans(self, _: uuid.UUID) -> list[Orphan]:
        return [] if OTHER in self.beats else [ORPHAN]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The watcher's clock."""
    clock = [100.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock[0])
    return clock


async def watch(mine: Lease, now: list[float], seconds: float) -> list[Orphan]:
    """What turns up in so many seconds."""
    found = []
    for _ in range(int(seconds)):
        now[0] += 1
        found += await mine.renew()
    return found


async def test_a_worker_whose_beat_stands_still_is_dead(table: Table, now: list[float]) -> None:
    mine = Lease(table, ME)
    assert await watch(mine, now, 3) == []
    assert await watch(mine, now, 1) == [ORPHAN]
    assert table.struck_off == [(OTHER, 7)]


async def test_a_worker_whose_beat_goes_on_lives(table: Table, now: list[float]) -> None:
    mine = Lease(table, ME)
    for _ in range(20):
        table.beats[OTHER] += 1
        assert await watch(mine, now, 2) == []
    assert table.struck_off == []


async def test_nobody_dies_while_the_database_is_away(table: Table, now: list[float]) -> None:
    mine = Lease(table, ME)
    await watch(mine, now, 2)
    table.away = True
    with pytest.raises(DatabaseAwayError):
        await watch(mine, now, 1)
    now[0] += 3600
    table.away = False
    assert await watch(mine, now, 3) == []
    assert await watch(mine, now, 1) == [ORPHAN]


async def test_sessions_that_turn_up_late_are_found_without_a_death(
    table: Table, now: list[float]
) -> None:
    table.beats.clear()
    assert await watch(Lease(table, ME), now, 1) == [ORPHAN]


async def test_a_worker_that_ends_is_struck_off(table: Table) -> None:
    await Lease(table, ME).end()
    assert table.struck_off == [(ME, None)]
