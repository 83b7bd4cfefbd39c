"""19, 29: nobody waits for the database, and nothing grows without end."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from livekit.agents import ConversationItemAddedEvent, llm
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database as databases
from runner import outbox, postgres
from runner.config import Database
from runner.outbox import Entry, Outbox
from runner.sessions import Recorder, UserSession
from runner.store import Opening, Store
from tests.calls.conftest import Runner
from tests.faults.caller import calling

QUESTION = "Are you there?"
HELD = 20
SAID = 200
SPOKEN = 1100
OPENING = Opening(room_id="r", participant_id="p", llm_provider="vllm", context={})


def said(session: uuid.UUID, number: int) -> Entry:
    values = {"role": "user", "content": f"{number}", "metadata": {}}
    return Entry("message", str(session), values)


async def test_19_a_call_goes_on_while_somebody_has_locked_the_tables(running: Runner) -> None:
    socket = postgres.find_running(running.data_dir)
    assert socket
    async with calling(running) as caller:
        with psycopg.connect(host=socket, user="postgres", dbname="voice_agent") as locking:
            locking.execute("LOCK TABLE agent_sessions, conversation_messages")
            assert await caller.ask(QUESTION)
            assert await caller.ask(QUESTION)
            locking.rollback()
        room = caller.room.name
    running.until(
        f"SELECT 1 FROM agent_sessions WHERE room_id = '{room}' AND status = 'ended' "
        "AND message_count = 5"
    )


@asynccontextmanager
async def exhausted(engine: AsyncEngine, connections: int) -> AsyncIterator[None]:
    """Somebody else has all the connections of the pool."""
    held = [await engine.connect() for _ in range(connections)]
    try:
        yield
    finally:
        for connection in held:
            await connection.close()


async def test_19_with_an_exhausted_pool_what_is_said_waits_in_bounds_and_in_order(
    database: Database, postgres_socket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_HELD_ENTRIES", HELD)
    pool = databases.engine(database, postgres_socket, pool_size=1, application_name="test")
    session, store = uuid.uuid4(), Store(pool)
    await store.open_session(session, OPENING)
    box = Outbox(store, tmp_path / "call.jsonl")
    async with exhausted(pool, 1):
        for number in range(SAID):
            box.put(said(session, number))
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            while len((tmp_path / "call.jsonl").read_bytes().splitlines()) < SAID:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(box._held) <= 2 * HELD  # the rest is in the file
    await box.aclose()
    assert [row.content for row in await store.history(session)] == [f"{n}" for n in range(SAID)]
    await pool.dispose()


async def test_29_a_page_that_does_not_read_costs_no_message_and_no_memory(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    never = asyncio.Event()
    told: list[str] = []

    async def publish(line: str) -> None:
        told.append(line)
        await never.wait()

    store, user = Store(engine), UserSession("r", "p", "vllm")
    await store.open_session(user.session_id, OPENING)
    box = Outbox(store, tmp_path / "call.jsonl")
    recorder = Recorder(user, box, dict, publish)
    for number in range(SPOKEN):
        message = llm.ChatMessage(role="user", content=[f"{number}"])
        recorder.on_item(ConversationItemAddedEvent(item=message))
        if number % 250 == 0:
            await asyncio.sleep(0.01)
    assert recorder._lines.qsize() == recorder._lines.maxsize == 1000
    async with asyncio.timeout(60):
        while len(await store.history(user.session_id)) < SPOKEN:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert [json.loads(line)["text"] for line in told] == ["0"]
    recorder._publisher.cancel()
    await box.aclose()
