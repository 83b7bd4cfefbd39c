"""A backup comes back whole, or nothing has changed."""

import json
import uuid
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database as db
from runner.backup import TABLES, backup, read_manifest, restore
from runner.config import Agent, Database
from runner.dbserver import Connection, Server
from runner.errors import DatabaseError
from runner.personas import Draft, Personas
from runner.store import Opening

HOSTILE = "'; DROP TABLE x; --\n\t\\N \\. 日本語 😀 \u202e"
SESSION = uuid.uuid4()


def silent(*_: str) -> None:
    """A report that nobody reads."""


def everything(connection: psycopg.Connection) -> dict[str, list[Any]]:
    return {
        table: connection.execute(
            f"SELECT to_jsonb(t) FROM {table} t ORDER BY to_jsonb(t)::text".encode()
        ).fetchall()
        for table in TABLES
        if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,)
    }


@asynccontextmanager
async def inside(database: Database, socket: str) -> AsyncIterator[Connection]:
    async with await Server(database, socket).enter() as connection:
        yield connection


@pytest.fixture
async def full(engine: AsyncEngine, superuser: psycopg.Connection) -> dict[str, list[Any]]:
    """Everything that a database may hold, and what it holds then."""
    store = Personas(engine)
    await store.add(Draft("bank", HOSTILE, None, "es"))
    await store.open_session(SESSION, Opening("room", "caller", "vllm", {"a": [HOSTILE]}))
    for text in (HOSTILE, ""):
        await store.add_message(
            SESSION, uuid.uuid4(), role="user", content=text, metadata={"x": None}
        )
    await store.keep_configuration("abc", {"b": 1})
    superuser.execute(
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding) "
        "VALUES ('a.md', %s, 0, %s)",
        [HOSTILE, f"[1{',0.5' * 383}]"],
    )
    superuser.execute("INSERT INTO system_config (key, value) VALUES ('rag.top_k', '3')")
    return everything(superuser)


@pytest.fixture
async def copy(
    full: dict[str, list[Any]], database: Database, postgres_socket: str, tmp_path: Path
) -> Path:
    path = tmp_path / "agent.zip"
    async with inside(database, postgres_socket) as connection:
        await backup(connection, path, silent)
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["agent.zip"]
    return path


async def test_everything_comes_back_into_an_empty_database(
    copy: Path,
    full: dict[str, list[Any]],
    template: Database,
    postgres_socket: str,
    agent: Agent,
    superuser: psycopg.Connection,
) -> None:
    other = replace(template, name="restored")
    try:
        await db.prepare(other, postgres_socket, agent)
        async with inside(other, postgres_socket) as connection:
            await restore(connection, copy, read_manifest(copy), agent, silent, overwrite=False)
        with psycopg.connect(host=postgres_socket, user="postgres", dbname=other.name) as there:
            assert everything(there) == full
            there.execute("INSERT INTO agent_instructions (name, instructions) VALUES ('n', 'i')")
            there.execute("UPDATE rag_documents SET content = 'new'")
    finally:
        superuser.execute("DROP DATABASE IF EXISTS restored WITH (FORCE)")


async def test_a_database_that_holds_something_is_left_alone_unless_told(
    copy: Path,
    database: Database,
    postgres_socket: str,
    agent: Agent,
    superuser: psycopg.Connection,
    full: dict[str, list[Any]],
) -> None:
    superuser.execute("DELETE FROM conversation_messages")
    superuser.execute("INSERT INTO system_config (key, value) VALUES ('rag.hybrid', 'false')")
    changed = everything(superuser)
    manifest = read_manifest(copy)
    async with inside(database, postgres_socket) as connection:
        with pytest.raises(DatabaseError, match=r"not empty \(sessions: 1, chunks: 1, personas: 1"):
            await restore(connection, copy, manifest, agent, silent, overwrite=False)
        assert everything(superuser) == changed
        await restore(connection, copy, manifest, agent, silent, overwrite=True)
    assert everything(superuser) == full


async def test_nothing_is_restored_under_a_runner_that_works(
    copy: Path, database: Database, postgres_socket: str, agent: Agent
) -> None:
    runner = db.engine(database, postgres_socket, pool_size=1, application_name="runner-call")
    await db.warm(runner, 1)
    try:
        async with inside(database, postgres_socket) as connection:
            with pytest.raises(DatabaseError, match="A runner works on this database"):
                await restore(connection, copy, read_manifest(copy), agent, silent, overwrite=True)
    finally:
        await runner.dispose()


@pytest.fixture(params=["fewer rows", "a row that does not fit", "an unknown column"])
def spoilt(request: pytest.FixtureRequest, copy: Path, tmp_path: Path) -> Path:
    """A backup that is found to be wrong only when most of it is restored."""
    path, harm = tmp_path / "spoilt.zip", request.param
    with zipfile.ZipFile(copy) as good, zipfile.ZipFile(path, "w") as archive:
        for name in good.namelist():
            data = good.read(name)
            if name == "rag_documents.copy" and harm == "fewer rows":
                data = b""
            if name == "rag_documents.copy" and harm == "a row that does not fit":
                data = b"not a row\n"
            if name == "manifest.json" and harm == "an unknown column":
                told = json.loads(data)
                told["tables"]["rag_documents"]["columns"][0] = 'x"; DROP TABLE agent_sessions; --'
                data = json.dumps(told).encode()
            archive.writestr(name, data)
    return path


async def test_a_backup_that_fails_half_way_has_changed_nothing(
    spoilt: Path,
    database: Database,
    postgres_socket: str,
    agent: Agent,
    superuser: psycopg.Connection,
) -> None:
    before, manifest = everything(superuser), read_manifest(spoilt)
    with pytest.raises((DatabaseError, psycopg.Error)):
        async with inside(database, postgres_socket) as connection:
            await restore(connection, spoilt, manifest, agent, silent, overwrite=True)
    assert everything(superuser) == before


async def test_a_damaged_file_is_told(copy: Path, tmp_path: Path) -> None:
    data = bytearray(copy.read_bytes())
    cut, flipped, newer = tmp_path / "cut", tmp_path / "flipped", tmp_path / "newer"
    cut.write_bytes(data[:-100])
    with zipfile.ZipFile(copy) as archive:
        at = archive.getinfo("rag_documents.copy").header_offset
    data[at + 80] ^= 0xFF
    flipped.write_bytes(data)
    for path in (cut, flipped):
        with pytest.raises(DatabaseError, match="is no backup, or a damaged one"):
            read_manifest(path)
    with zipfile.ZipFile(newer, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"format": 1, "schema": 99, "tables": {}}))
    with pytest.raises(DatabaseError, match="is of a newer runner"):
        read_manifest(newer)


async def test_a_folder_that_is_not_there_leaves_no_file(
    database: Database, postgres_socket: str, tmp_path: Path
) -> None:
    async with inside(database, postgres_socket) as connection:
        with pytest.raises(DatabaseError, match="cannot be written: No such file"):
            await backup(connection, tmp_path / "nowhere" / "a.zip", silent)
