"""What calls read and write, against a real server."""

import asyncio
import uuid
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import Agent, Database
from runner.database import engine as open_engine
from runner.errors import DatabaseError
from runner.store import Instructions, Message, Opening, Orphan, Store

HOSTILE = [
    "'; DROP TABLE conversation_messages; --",
    "%s %(role)s %% {} :name $1 \\ \\x00 ''",
    "Ünïcödé 日本語 😀 \u200f\u202e right to left",
    "a\nline, a\ttab, a\rreturn",
    "",
]


@pytest.fixture
def store(engine: AsyncEngine) -> Store:
    return Store(engine)


async def opened(store: Store, room: str = "room") -> uuid.UUID:
    """A new session's id."""
    session_id = uuid.uuid4()
    await store.open_session(
        session_id, Opening(room_id=room, participant_id="caller", llm_provider="vllm", context={})
    )
    return session_id


async def say(
    store: Store, session_id: uuid.UUID, role: str, text: str, metadata: dict[str, object]
) -> None:
    """Stores a new message."""
    await store.add_message(session_id, uuid.uuid4(), role=role, content=text, metadata=metadata)


def session_row(superuser: psycopg.Connection, session_id: uuid.UUID, columns: str) -> object:
    query = f"SELECT {columns} FROM agent_sessions WHERE session_id = %s"
    return superuser.execute(query.encode(), [session_id]).fetchone()


def add_persona(superuser: psycopg.Connection, name: str, more: str, *values: object) -> None:
    query = (
        "INSERT INTO agent_instructions (name, instructions, is_local_mode, language, is_active, "
        f"updated_at) VALUES (%s, 'Be kind.', true, {more})"
    )
    superuser.execute(query.encode(), [name, *values])


# Instructions.


async def test_the_persona_is_what_the_database_was_seeded_with(store: Store) -> None:
    found = await store.instructions("en")
    assert found == Instructions(1, "assistant", "You are a voice assistant.", "Hello!", "en")


async def test_an_update_reaches_the_next_call(store: Store, superuser: psycopg.Connection) -> None:
    assert await store.instructions("en")
    superuser.execute(
        "UPDATE agent_instructions SET instructions = 'You are a banking assistant.', "
        "initial_greeting = NULL WHERE is_active = true AND is_local_mode = true"
    )
    found = await store.instructions("en")
    assert found
    assert (found.instructions, found.greeting) == ("You are a banking assistant.", None)


async def test_the_call_s_language_comes_before_the_latest_change(
    store: Store, superuser: psycopg.Connection
) -> None:
    add_persona(superuser, "español", "'es', true, NOW() - INTERVAL '1 year'")
    add_persona(superuser, "latest", "'de', true, NOW() + INTERVAL '1 year'")
    found = await store.instructions("es")
    assert found
    assert (found.name, found.language) == ("español", "es")


async def test_another_language_serves_where_the_call_s_has_no_persona(
    store: Store, superuser: psycopg.Connection
) -> None:
    add_persona(superuser, "older", "'es', true, NOW() - INTERVAL '1 year'")
    add_persona(superuser, "latest", "'de', true, NOW() + INTERVAL '1 year'")
    found = await store.instructions("fr")
    assert found
    assert found.name == "latest"


async def test_the_latest_change_wins_among_personas_of_one_language(
    store: Store, superuser: psycopg.Connection
) -> None:
    add_persona(superuser, "latest", "'en', true, NOW() + INTERVAL '1 hour'")
    add_persona(superuser, "undated", "'en', true, NULL")
    found = await store.instructions("en")
    assert found
    assert found.name == "latest"


@pytest.mark.parametrize("column", ["is_active", "is_local_mode"])
async def test_a_persona_that_is_not_active_or_not_local_is_not_used(
    store: Store, superuser: psycopg.Connection, column: str
) -> None:
    superuser.execute(f"UPDATE agent_instructions SET {column} = false".encode())
    assert await store.instructions("en") is None


async def test_a_seed_changes_no_active_persona(store: Store, agent: Agent) -> None:
    await store.seed(replace(agent, instructions="You are a pirate."))
    found = await store.instructions("en")
    assert found
    assert found.instructions == agent.instructions


async def test_a_seed_fills_a_table_that_has_no_active_persona(
    store: Store, superuser: psycopg.Connection
) -> None:
    superuser.execute("DELETE FROM agent_instructions")
    await store.seed(Agent("pirate", "You are a pirate.", "", "Sorry.", "Again?", "There!", "es"))
    found = await store.instructions("es")
    assert found
    assert (found.name, found.greeting, found.language) == ("pirate", "", "es")


# Sessions and messages.


async def test_a_session_is_stored_with_the_specification_s_defaults(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = uuid.uuid4()
    context: dict[str, object] = {"page": "/", "tries": 2**63}
    await store.open_session(
        session_id, Opening(room_id="r1", participant_id="p1", llm_provider="vllm", context=context)
    )
    columns = (
        "room_id, participant_id, llm_provider, status, context, message_count, ended_at, "
        "created_at = last_activity, abs(extract(epoch FROM now()::timestamp - created_at)) < 60"
    )
    assert session_row(superuser, session_id, columns) == (
        "r1", "p1", "vllm", "active", context, 0, None, True, True,
    )  # fmt: skip


async def test_messages_come_back_in_order_and_count_as_activity(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    for number in range(5):
        await say(store, session_id, "user", f"message {number}", {"number": number})
    history = await store.history(session_id)
    assert [message.content for message in history] == [f"message {n}" for n in range(5)]
    assert [message.meta for message in history] == [{"number": n} for n in range(5)]
    assert {message.role for message in history} == {"user"}
    assert session_row(superuser, session_id, "message_count, last_activity > created_at") == (
        5,
        True,
    )


@pytest.mark.parametrize("said", HOSTILE)
async def test_what_is_said_is_stored_to_the_letter(store: Store, said: str) -> None:
    session_id = await opened(store, room=said)
    await say(store, session_id, "user", said, {said: said})
    [message] = await store.history(session_id)
    assert (message.content, message.meta) == (said, {said: said})


async def test_what_postgres_cannot_hold_does_not_lose_the_message(store: Store) -> None:
    session_id = await opened(store, room="room\0")
    await say(store, session_id, "user", "a\0b\ud800c", {"a\0": "\udfff", "e2e_s": float("nan")})
    [message] = await store.history(session_id)
    assert message.content == "a\ufffdb\ufffdc"
    assert message.meta == {"a\ufffd": "\ufffd", "e2e_s": None}


async def test_numbers_in_metadata_stay_what_they_are(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    metadata: dict[str, object] = {
        "tokens": 2**31,
        "huge": 10**30,
        "negative": -1,
        "e2e_s": 0.1,
        "interrupted": False,
        "nothing": None,
        "sources": [{"chunk": 7}],
    }
    await say(store, session_id, "assistant", "Yes.", metadata)
    [message] = await store.history(session_id)
    assert message.meta == metadata
    query = "SELECT jsonb_typeof(metadata->'tokens') FROM conversation_messages"
    assert superuser.execute(query).fetchone() == ("number",)


async def test_a_message_of_an_unknown_session_is_refused(
    store: Store, superuser: psycopg.Connection
) -> None:
    stranger = uuid.uuid4()
    with pytest.raises(DatabaseError, match=f"The session {stranger} is not in agent_sessions"):
        await say(store, stranger, "user", "Hello?", {})
    assert superuser.execute("SELECT count(*) FROM conversation_messages").fetchone() == (0,)


async def test_callers_at_once_do_not_mix(store: Store, superuser: psycopg.Connection) -> None:
    async def call(number: int) -> list[str]:
        session_id = await opened(store, f"room {number}")
        for turn in range(4):
            await say(store, session_id, "user", f"{number}.{turn}", {})
        return [message.content for message in await store.history(session_id)]

    heard = await asyncio.gather(*(call(number) for number in range(25)))
    assert heard == [[f"{number}.{turn}" for turn in range(4)] for number in range(25)]
    counts = superuser.execute("SELECT DISTINCT message_count FROM agent_sessions").fetchall()
    assert counts == [(4,)]


async def test_names_that_are_longer_than_the_columns_are_cut(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = uuid.uuid4()
    await store.open_session(
        session_id,
        Opening(room_id="r" * 300, participant_id="p" * 300, llm_provider="l" * 300, context={}),
    )
    lengths = "length(room_id), length(participant_id), length(llm_provider)"
    assert session_row(superuser, session_id, lengths) == (255, 255, 50)


async def test_messages_go_with_their_session(store: Store, superuser: psycopg.Connection) -> None:
    session_id = await opened(store)
    await say(store, session_id, "user", "Hello", {})
    superuser.execute("DELETE FROM agent_sessions")
    assert await store.history(session_id) == []


# The end.


async def test_a_session_that_ended_keeps_its_first_end(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    await store.end_session(session_id)
    first = session_row(superuser, session_id, "status, ended_at")
    await store.end_session(session_id)
    assert session_row(superuser, session_id, "status, ended_at") == first
    assert first
    assert session_row(superuser, session_id, "status, ended_at >= created_at") == ("ended", True)


async def test_only_sessions_without_a_message_for_so_long_are_ended(
    store: Store, superuser: psycopg.Connection
) -> None:
    silent, talking, over = [await opened(store, room) for room in ("silent", "talking", "over")]
    await store.end_session(over)
    superuser.execute("UPDATE agent_sessions SET last_activity = NOW() - INTERVAL '31 minutes'")
    await say(store, talking, "user", "Still here", {})
    assert await store.end_idle(32) == []
    assert await store.end_idle(30) == ["silent"]
    assert await store.end_idle(30) == []
    assert session_row(superuser, silent, "status, ended_at IS NOT NULL") == ("ended", True)
    assert session_row(superuser, talking, "status, ended_at IS NOT NULL") == ("active", False)


async def test_a_session_without_a_room_can_be_idle(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    superuser.execute(
        "UPDATE agent_sessions SET room_id = NULL, last_activity = NOW() - INTERVAL '1 day'"
    )
    assert await store.end_idle(30) == []
    assert session_row(superuser, session_id, "status") == ("ended",)


async def test_a_late_message_is_stored_and_does_not_revive_its_session(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    await store.end_session(session_id)
    await say(store, session_id, "assistant", "Goodbye", {})
    assert [message.content for message in await store.history(session_id)] == ["Goodbye"]
    assert session_row(superuser, session_id, "status") == ("ended",)


async def test_a_message_that_is_written_twice_is_stored_and_counted_once(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id, message_id = await opened(store), uuid.uuid4()
    for _ in range(2):
        await store.add_message(session_id, message_id, role="user", content="Hello", metadata={})
    assert len(await store.history(session_id)) == 1
    assert session_row(superuser, session_id, "message_count") == (1,)


async def test_a_session_that_is_opened_twice_is_one(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = uuid.uuid4()
    for room in ("first", "second"):
        await store.open_session(
            session_id, Opening(room_id=room, participant_id="p", llm_provider="vllm", context={})
        )
    assert session_row(superuser, session_id, "room_id") == ("first",)


async def test_a_message_that_comes_late_has_the_time_at_which_it_was_said(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    await store.add_message(
        session_id, uuid.uuid4(), role="user", content="Hi", metadata={}, age_s=3600
    )
    age = "extract(epoch FROM now()::timestamp - created_at)::integer / 60"
    row = superuser.execute(f"SELECT {age} FROM conversation_messages".encode()).fetchone()
    assert row == (60,)
    assert session_row(superuser, session_id, "last_activity > now() - interval '1 minute'") == (
        True,
    )


# Trouble.


async def test_a_database_that_is_away_is_told_in_a_sentence_without_what_was_said(
    database: Database,
) -> None:
    away = open_engine(replace(database, port=1), None, pool_size=1, application_name="test")
    with pytest.raises(DatabaseError) as caught:
        await say(Store(away), uuid.uuid4(), "user", "my card number", {})
    sentence = str(caught.value)
    assert sentence.startswith("PostgreSQL at localhost did not serve: ")
    assert "\n" not in sentence
    assert "card" not in f"{sentence} {caught.value.__cause__}"


async def test_a_store_outlives_the_connections_that_the_server_cut(
    store: Store, superuser: psycopg.Connection
) -> None:
    session_id = await opened(store)
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'test'"
    )
    await say(store, session_id, "user", "Hello again", {})
    assert len(await store.history(session_id)) == 1


# Workers, and callers who come back.


def opening(worker_id: uuid.UUID, job_id: str, room: str = "room", caller: str = "p") -> Opening:
    return Opening(room, caller, "vllm", {}, worker_id=str(worker_id), job_id=job_id)


async def resumable(store: Store, worker_id: uuid.UUID) -> uuid.UUID:
    """A session of the job one, with two messages."""
    session_id = uuid.uuid4()
    await store.open_session(session_id, opening(worker_id, "one"))
    await say(store, session_id, "user", "Hello", {})
    await say(store, session_id, "assistant", "Hi", {})
    return session_id


async def test_a_caller_in_the_same_room_goes_on_with_the_session(store: Store) -> None:
    worker_id = uuid.uuid4()
    session_id = await resumable(store, worker_id)
    assert await store.resume_session(opening(worker_id, "two"), 30) == session_id
    assert await store.recall(session_id, 10) == [
        Message("user", "Hello"),
        Message("assistant", "Hi"),
    ]
    assert await store.recall(session_id, 1) == [Message("assistant", "Hi")]


@pytest.mark.parametrize(("room", "caller"), [("other", "p"), ("room", "other")])
async def test_nobody_else_goes_on_with_it(store: Store, room: str, caller: str) -> None:
    worker_id = uuid.uuid4()
    await resumable(store, worker_id)
    assert await store.resume_session(opening(worker_id, "two", room, caller), 30) is None


async def test_a_session_goes_on_within_the_grace_period_and_not_after_it(
    store: Store, superuser: psycopg.Connection
) -> None:
    worker_id = uuid.uuid4()
    session_id = await resumable(store, worker_id)
    await store.end_session(session_id, "one")
    back = "UPDATE agent_sessions SET ended_at = ended_at - make_interval(secs => %s)"
    superuser.execute(back, [20])
    assert await store.resume_session(opening(worker_id, "two"), 30) == session_id
    assert session_row(superuser, session_id, "status, ended_at") == ("active", None)
    await store.end_session(session_id, "two")
    superuser.execute(back, [40])
    assert await store.resume_session(opening(worker_id, "three"), 30) is None


async def test_a_job_may_not_end_a_session_with_which_another_goes_on(
    store: Store, superuser: psycopg.Connection
) -> None:
    worker_id = uuid.uuid4()
    session_id = await resumable(store, worker_id)
    await store.resume_session(opening(worker_id, "two"), 30)
    await store.end_session(session_id, "one")
    assert session_row(superuser, session_id, "status") == ("active",)
    await store.end_session(session_id, "two")
    assert session_row(superuser, session_id, "status") == ("ended",)


async def test_sessions_of_a_worker_that_is_no_more_are_adopted_once(store: Store) -> None:
    dead, one, other = (uuid.uuid4() for _ in range(3))
    for worker_id in (dead, one, other):
        await store.beat(worker_id)
    session_id = await resumable(store, dead)
    await resumable(store, one)
    assert await store.adopt_orphans(one) == []
    await store.leave(dead, beat=1)  # it has beaten since: it lives
    assert dead in await store.beat(one)
    await store.leave(dead, beat=0)
    assert await store.adopt_orphans(one) == [Orphan(session_id, "room", "p")]
    assert await store.adopt_orphans(other) == []


async def test_a_room_s_session_ends_with_it(store: Store, superuser: psycopg.Connection) -> None:
    session_id = await resumable(store, uuid.uuid4())
    other = await opened(store, "another room")
    await store.end_room("room")
    assert session_row(superuser, session_id, "status") == ("ended",)
    assert session_row(superuser, other, "status") == ("active",)
