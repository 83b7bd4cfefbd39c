"""The database dies while calls talk: nothing of what was said is lost or doubled."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database, postgres
from runner.config import Agent, Database
from runner.errors import DatabaseAwayError, DatabaseError
from runner.outbox import Entry, Outbox, deliver_left
from runner.store import Store
from tests.faults.own_postgres import kill_postgres, own_postgres

MESSAGES = 150


@pytest.fixture
def settings(template: Database) -> Database:
    """A database of the test's own server."""
    return template


@pytest.fixture
async def engine(data_dir: Path, settings: Database, agent: Agent) -> AsyncIterator[AsyncEngine]:
    """A pool at a Postgres of the test's own, which is started again whenever it dies."""
    async with own_postgres(data_dir, settings, agent) as socket:
        pool = database.engine(settings, socket, pool_size=5, application_name="test")
        yield pool
        await pool.dispose()


def opening(session_id: uuid.UUID) -> Entry:
    values = {"room_id": "r", "participant_id": "p", "llm_provider": "vllm", "context": {}}
    return Entry("open", str(session_id), values)


def message(session_id: uuid.UUID, text: str) -> Entry:
    values = {"role": "user", "content": text, "metadata": {}}
    return Entry("message", str(session_id), values)


async def stored(engine: AsyncEngine, session_id: uuid.UUID, count: int) -> list[str]:
    """What is stored, once so much of it is, or the database answers again."""
    async with asyncio.timeout(60):
        while True:
            try:
                texts = [row.content for row in await Store(engine).history(session_id)]
            except DatabaseError:
                texts = []
            if len(texts) >= count:
                return texts
            await asyncio.sleep(0.05)


async def test_18_postgres_is_killed_twice_while_five_calls_talk(
    engine: AsyncEngine, data_dir: Path, tmp_path: Path
) -> None:
    sessions = [uuid.uuid4() for _ in range(5)]
    paths = [tmp_path / f"{session}.jsonl" for session in sessions]
    boxes = [Outbox(Store(engine), path) for path in paths]
    for session, box in zip(sessions, boxes, strict=True):
        box.put(opening(session))
    for number in range(MESSAGES):
        if number in (40, 90):
            kill_postgres(data_dir)
        for session, box in zip(sessions, boxes, strict=True):
            box.put(message(session, f"{number}"))
        await asyncio.sleep(0.01)
    for session in sessions:
        assert await stored(engine, session, MESSAGES) == [f"{n}" for n in range(MESSAGES)]
    await asyncio.gather(*(box.aclose() for box in boxes))
    assert not any(path.exists() for path in paths)


CALL = """
import asyncio, sys, uuid
from pathlib import Path
from runner.config import Database
from runner import database
from runner.outbox import Entry, Outbox
from runner.store import Store

async def main():
    session, path, socket, name = sys.argv[1:]
    settings = Database("localhost", 5432, name, "postgres", "NO_PASSWORD", 1, 2, 5)
    store = Store(database.engine(settings, socket, pool_size=1, application_name="call"))
    box = Outbox(store, Path(path))
    values = {"room_id": "r", "participant_id": "p", "llm_provider": "vllm", "context": {}}
    box.put(Entry("open", session, values))
    for number in range(1_000_000):
        box.put(Entry("message", session, {"role": "user", "content": f"{number}", "metadata": {}}))
        await asyncio.sleep(0.002)
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_killed_call_s_words_are_stored_by_the_worker(
    engine: AsyncEngine, data_dir: Path, settings: Database, tmp_path: Path
) -> None:
    session = uuid.uuid4()
    path = tmp_path / f"{session}.jsonl"
    call = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALL, str(session), str(path)),
        *(postgres.socket_dir(data_dir), settings.name),
        stdout=asyncio.subprocess.PIPE,
    )
    assert call.stdout
    said = 0
    async for line in call.stdout:
        said = int(line)
        if said == 50:
            kill_postgres(data_dir)
        if said == 120:
            call.kill()
            break
    await call.wait()
    async with asyncio.timeout(60):
        while path.exists():
            with suppress(DatabaseAwayError):
                await deliver_left(Store(engine), tmp_path)
            await asyncio.sleep(0.05)  # Postgres is started again meanwhile
    texts = await stored(engine, session, said - 1)
    assert texts == [f"{number}" for number in range(len(texts))]
    assert len(texts) in (said, said + 1, said + 2)  # the last one may have been on its way
