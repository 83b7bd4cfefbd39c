"""40: a clock jumps, the machine's or the database's, and nobody's call ends for it."""

import ast
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database as databases
from runner import outbox
from runner.config import Config, Database
from runner.outbox import Entry, Outbox
from runner.store import Opening, Store
from runner.upkeep import Upkeep
from tests.unit.conftest import composed, settings  # noqa: F401  fixtures

ROOT = Path(__file__).parents[2]
DAY_S = 86_400
OPENING = Opening(room_id="r", participant_id="p", llm_provider="vllm", context={})

WALL_CLOCK = {
    "bench/session_io.py": "LiveKit is told in it when playback began",
    "calls.py": "the operator is shown since when a call is on",
    "operator/health.py": "… and when it was looked",
    "operator/plots.py": "… and the times below a plot",
    "timeline.py": "… of which these are the steps",
    "traces.py": "spans have times of day",
    "hearing.py": "LiveKit is told in it when speech ended",
    "loudspeaker.py": "… and when it began to be heard",
    "outbox.py": "what happened before the machine was started anew",
    "providers/refusals.py": "a provider names the time of day at which it may be asked again",
    "rag/stamps.py": "the times of files",
    "simulator/chat.py": "a field of OpenAI's answer",
    "simulator/certificate.py": "the validity of a certificate",
    "worker.py": "agents of different machines are told apart by it",
    "upkeep.py": "the month in the name of an archive",
}
"""Who asks what time of day it is, and for what."""


class Rooms:
    """Notes which rooms are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def close(self, room: str) -> None:
        self.closed.append(room)


def asks_the_time(tree: ast.Module) -> bool:
    calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return any(call.endswith(("time.time", "datetime.now", "datetime.utcnow")) for call in calls)


def test_nothing_is_measured_by_the_time_of_day() -> None:
    asking = {
        path.relative_to(ROOT / "runner").as_posix()
        for path in (ROOT / "runner").rglob("*.py")
        if asks_the_time(ast.parse(path.read_text()))
    }
    assert asking == WALL_CLOCK.keys()


@contextmanager
def clock_set(monkeypatch: pytest.MonkeyPatch, by_s: float) -> Iterator[None]:
    """This machine's clock is set, for whoever asks it."""
    right = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + by_s)
        yield


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S])
def test_an_entry_is_as_old_as_it_is(by_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("message", str(uuid.uuid4()))
    with clock_set(monkeypatch, by_s):
        assert 0 <= entry.age_s < DAY_S / 2
        monkeypatch.setattr(outbox, "_BOOT", "another run of the machine")
        assert entry.age_s == pytest.approx(max(by_s, 0), abs=DAY_S / 2)


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S])
async def test_the_machine_s_clock_is_set_while_a_call_talks(
    by_s: float, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session, store = uuid.uuid4(), Store(engine)
    box = Outbox(store, tmp_path / "call.jsonl")
    await store.open_session(session, OPENING)
    box.put(Entry("message", str(session), {"role": "user", "content": "1", "metadata": {}}))
    with clock_set(monkeypatch, by_s):
        box.put(Entry("message", str(session), {"role": "user", "content": "2", "metadata": {}}))
        await box.aclose()
        assert await store.end_idle(30) == []
    first, second = await store.history(session)
    assert (first.content, second.content) == ("1", "2")
    assert first.created_at
    assert second.created_at
    assert abs((second.created_at - first.created_at).total_seconds()) < DAY_S / 2


@pytest.fixture
def set_database_clock(superuser: psycopg.Connection, database: Database) -> Callable[[int], None]:
    """Sets the clock of the test's database by so many seconds, for new connections: they find
    another ``now`` before PostgreSQL's own."""
    superuser.execute("CREATE SCHEMA jump")

    def jump(by_s: int) -> None:
        superuser.execute(
            "CREATE OR REPLACE FUNCTION jump.now() RETURNS timestamptz STABLE LANGUAGE sql "
            f"AS $$ SELECT pg_catalog.now() + make_interval(secs => {by_s}) $$"
        )

    jump(0)
    superuser.execute(f"ALTER DATABASE {database.name} SET search_path = jump, pg_catalog, public")
    return jump


@pytest.mark.parametrize("by_s", [400 * DAY_S, -400 * DAY_S])
async def test_the_database_s_clock_is_set_and_no_call_ends_and_nothing_is_deleted(
    by_s: int,
    settings: Config,  # noqa: F811
    postgres_socket: str,
    database: Database,
    set_database_clock: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(settings, sessions=replace(settings.sessions, retention_days=7))
    engine = databases.engine(database, postgres_socket, pool_size=2, application_name="test")
    store, rooms = Store(engine), Rooms()
    upkeep = Upkeep(config, store, rooms)  # type: ignore[arg-type]
    ended = uuid.uuid4()
    await store.open_session(uuid.uuid4(), OPENING)
    await store.open_session(ended, replace(OPENING, room_id="ended"))
    await store.end_session(ended)
    await upkeep.end_idle()
    set_database_clock(by_s)
    await upkeep.end_idle()
    await upkeep.forget()
    assert rooms.closed == []
    assert (await store.count_expired(7)).sessions == (1 if by_s > 0 else 0)

    later = time.monotonic() + 2 * DAY_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    set_database_clock(by_s + 2 * DAY_S)
    await upkeep.end_idle()  # a clock that goes as time does is believed again
    assert rooms.closed == (["r"] if by_s > 0 else [])
    await engine.dispose()
