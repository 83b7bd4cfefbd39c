"""Retention: old conversations go, the others stay, and the archive has what is gone."""

import json
import uuid
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import Sessions
from runner.errors import ServiceError
from runner.fingerprint import fingerprint, of_configuration
from runner.store import Expired, Opening, Store
from runner.upkeep import forget
from tests.composed import composed

SESSIONS = Sessions(
    timeout_minutes=30, idle_check_s=60, grace_s=30, retention_days=7, archive="none"
)


async def conversation(
    store: Store, superuser: psycopg.Connection, *, ended_days_ago: int | None
) -> uuid.UUID:
    """A session of two messages; None: it has not ended."""
    session_id = uuid.uuid4()
    await store.open_session(
        session_id, Opening(room_id="r", participant_id="p", llm_provider="vllm", context={"a": 1})
    )
    for text in ("Hello", "Goodbye"):
        await store.add_message(session_id, uuid.uuid4(), role="user", content=text, metadata={})
    if ended_days_ago is not None:
        await store.end_session(session_id)
        superuser.execute(
            "UPDATE agent_sessions SET ended_at = NOW() - make_interval(days => %s) "
            "WHERE session_id = %s",
            [ended_days_ago, session_id],
        )
    return session_id


@pytest.fixture
async def kept(engine: AsyncEngine, superuser: psycopg.Connection) -> list[uuid.UUID]:
    """Three old conversations are there, and these two."""
    store = Store(engine)
    for _ in range(3):
        await conversation(store, superuser, ended_days_ago=8)
    return [await conversation(store, superuser, ended_days_ago=days_ago) for days_ago in (6, None)]


def left(superuser: psycopg.Connection) -> tuple[list[uuid.UUID], int]:
    """Which sessions are there, and how many messages."""
    sessions = superuser.execute("SELECT session_id FROM agent_sessions ORDER BY id").fetchall()
    messages = superuser.execute("SELECT count(*) FROM conversation_messages").fetchone()
    assert messages
    return [row[0] for row in sessions], messages[0]


async def test_only_what_ended_long_ago_goes_with_its_messages(
    engine: AsyncEngine, superuser: psycopg.Connection, kept: list[uuid.UUID], tmp_path: Path
) -> None:
    store = Store(engine)
    assert await store.count_expired(7) == Expired(sessions=3, messages=6)
    assert await forget(store, SESSIONS, tmp_path) == 3
    assert left(superuser) == (kept, 4)
    assert await forget(store, SESSIONS, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


async def test_batches_follow_each_other(
    engine: AsyncEngine,
    superuser: psycopg.Connection,
    kept: list[uuid.UUID],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runner.upkeep._BATCH_SESSIONS", 2)
    assert await forget(Store(engine), replace(SESSIONS, archive="jsonl"), tmp_path) == 3
    assert left(superuser) == (kept, 4)
    [path] = tmp_path.iterdir()
    archived = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(archived) == 3
    assert [message["content"] for message in archived[0]["messages"]] == ["Hello", "Goodbye"]
    assert archived[0]["context"] == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_goes_is_in_the_table_of_the_archive(
    engine: AsyncEngine, superuser: psycopg.Connection, kept: list[uuid.UUID], tmp_path: Path
) -> None:
    assert await forget(Store(engine), replace(SESSIONS, archive="table"), tmp_path) == 3
    assert left(superuser) == (kept, 4)
    query = "SELECT jsonb_array_length(session->'messages') FROM conversation_archive"
    assert superuser.execute(query).fetchall() == [(2,)] * 3


async def test_what_cannot_be_archived_is_not_deleted(
    engine: AsyncEngine, superuser: psycopg.Connection, kept: list[uuid.UUID], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="Make room there"):
        await forget(Store(engine), replace(SESSIONS, archive="jsonl"), tmp_path / "file")
    assert left(superuser)[1] == 10


async def test_a_configuration_is_kept_once_and_holds_no_secret(
    engine: AsyncEngine, superuser: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-very-secret")
    config = composed()
    for _ in range(2):
        await Store(engine).keep_configuration(fingerprint(config), of_configuration(config))
    query = "SELECT key, value::text FROM system_config WHERE key LIKE 'configuration:%'"
    [(key, value)] = superuser.execute(query).fetchall()
    assert key == f"configuration:{fingerprint(config)}"
    assert json.loads(value)["llm"]["name"] == "vllm"
    assert "very-secret" not in value


def test_another_configuration_has_another_fingerprint_and_another_task_has_not() -> None:
    assert fingerprint(composed()) == fingerprint(composed("task=doctor"))
    assert fingerprint(composed()) != fingerprint(composed("rag.top_k=3"))
