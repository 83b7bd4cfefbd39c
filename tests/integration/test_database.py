"""Making a database, and what is said of one that cannot be used. All against a real server."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database as db
from runner import dbserver, pgwheel, sql, tables
from runner.config import Agent, Database
from runner.errors import DatabaseError
from runner.folders import RESOURCES

CATALOG = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
           a.attnotnull::text, a.attstorage::text, coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'S')
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '', ''
    FROM pg_indexes WHERE schemaname = 'public'
"""
TABLES = {
    "agent_instructions": "id name instructions is_active is_local_mode initial_greeting language "
    "created_at updated_at",
    "agent_sessions": "id session_id room_id participant_id llm_provider status context "
    "message_count created_at last_activity ended_at worker_id job_id",
    "conversation_messages": "id session_id role content metadata created_at message_id",
    "rag_documents": "id filename content chunk_index total_chunks embedding file_hash metadata "
    "created_at updated_at",
    "system_config": "key value description created_at updated_at",
    "workers": "worker_id beat started_at seen_at",
    "agent_instructions_history": "version instructions_id change content changed_by changed_at",
    "operator_audit": "id changed_at changed_by action subject before after",
}


def rows(connection: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()


def missing(template: Database) -> Database:
    return replace(template, name="not_there")


@pytest.fixture
def nobody(superuser: psycopg.Connection) -> Iterator[str]:
    """A role that may log in and nothing else."""
    superuser.execute("CREATE ROLE poor LOGIN PASSWORD 'opensesame'")
    yield "poor"
    superuser.execute("DROP OWNED BY poor")
    superuser.execute("DROP ROLE poor")


@pytest.fixture
def outside(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, nobody: str
) -> Iterator[Database]:
    """``database`` as somebody else's server has it: that role must give its password."""
    hba = Path(str(rows(superuser, "SHOW hba_file")[0][0]))
    trusting = hba.read_text()
    hba.write_text(f"local all {nobody} scram-sha-256\n{trusting}")
    superuser.execute("SELECT pg_reload_conf()")
    yield replace(database, host=postgres_socket, user=nobody)
    hba.write_text(trusting)
    superuser.execute("SELECT pg_reload_conf()")


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    monkeypatch.setenv(database.password_env, "opensesame")


@pytest.fixture
def empty(superuser: psycopg.Connection, database: Database) -> Database:
    """A database without the schema."""
    superuser.execute("DROP SCHEMA public CASCADE")
    superuser.execute("CREATE SCHEMA public")
    superuser.execute("GRANT USAGE ON SCHEMA public TO public")
    return database


@pytest.fixture
def fresh(superuser: psycopg.Connection, database: Database) -> Iterator[Database]:
    """A database that is not there yet, with a name that needs quoting."""
    config = replace(database, name='a "quoted" name; DROP TABLE x')
    yield config
    superuser.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(config.name)))


# What is created.


async def test_a_missing_database_is_created_whole_and_seeded(
    postgres_socket: str, fresh: Database, agent: Agent
) -> None:
    await db.prepare(fresh, postgres_socket, agent)
    assert await db.probe(fresh, postgres_socket) is None
    with psycopg.connect(host=postgres_socket, user="postgres", dbname=fresh.name) as inside:
        assert rows(inside, "SHOW server_encoding") == [("UTF8",)]
        assert rows(
            inside,
            "SELECT name, instructions, initial_greeting, language, is_active, is_local_mode "
            "FROM agent_instructions",
        ) == [("assistant", "You are a voice assistant.", "Hello!", "en", True, True)]


async def test_several_first_starts_at_once_create_one_database(
    postgres_socket: str, fresh: Database, agent: Agent
) -> None:
    await asyncio.gather(*(db.prepare(fresh, postgres_socket, agent) for _ in range(8)))
    with psycopg.connect(host=postgres_socket, user="postgres", dbname=fresh.name) as inside:
        assert rows(inside, "SELECT count(*) FROM agent_instructions") == [(1,)]


async def test_preparing_again_changes_nothing(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    superuser.execute("UPDATE agent_instructions SET instructions = 'You are a pirate.'")
    await db.prepare(database, postgres_socket, agent)
    assert rows(superuser, "SELECT instructions FROM agent_instructions") == [
        ("You are a pirate.",)
    ]


async def test_without_an_active_local_persona_the_seed_becomes_one(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    superuser.execute("UPDATE agent_instructions SET is_active = false")
    await db.prepare(database, postgres_socket, agent)
    assert rows(superuser, "SELECT is_active FROM agent_instructions ORDER BY id") == [
        (False,),
        (True,),
    ]


async def test_tables_that_are_missing_are_created_beside_those_that_are_there(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    superuser.execute("INSERT INTO system_config (key, value) VALUES ('kept', '1')")
    superuser.execute("DROP TABLE rag_documents")
    assert await db.probe(database, postgres_socket) == (
        f"The database {database.name} still lacks the table rag_documents. "
        "`python -m runner` creates what is missing."
    )
    await db.prepare(database, postgres_socket, agent)
    assert await db.probe(database, postgres_socket) is None
    assert rows(superuser, "SELECT key FROM system_config") == [("kept",)]


async def test_a_prepared_database_is_not_locked_by_the_next_start(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    with superuser.transaction():
        superuser.execute("LOCK TABLE rag_documents, conversation_messages IN SHARE MODE")
        await db.prepare(database, postgres_socket, agent)


# The schema.


def test_the_schema_is_safe_to_run_again(superuser: psycopg.Connection) -> None:
    before = rows(superuser, CATALOG)
    superuser.execute(sql.script("schema.sql").encode())
    assert rows(superuser, CATALOG) == before


def test_the_tables_have_the_specification_s_columns_in_its_order_and_ours_after_them(
    superuser: psycopg.Connection,
) -> None:
    columns = rows(
        superuser,
        "SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name",
    )
    assert dict(columns) == TABLES


async def test_the_classes_and_the_schema_make_the_same_catalog(
    superuser: psycopg.Connection, engine: AsyncEngine
) -> None:
    from_schema = sorted(rows(superuser, CATALOG))
    superuser.execute(f"DROP TABLE {', '.join(TABLES)} CASCADE".encode())
    assert rows(superuser, CATALOG) == []
    async with engine.begin() as connection:
        await connection.run_sync(tables.AgentInstructions.metadata.create_all)
    assert sorted(rows(superuser, CATALOG)) == from_schema


def test_an_embedding_lies_beside_its_row(superuser: psycopg.Connection) -> None:
    assert rows(
        superuser,
        "SELECT attstorage::text FROM pg_attribute "
        "WHERE attrelid = 'rag_documents'::regclass AND attname = 'embedding'",
    ) == [("m",)]


# Monitoring.


def test_the_monitoring_queries_run_in_psql(
    superuser: psycopg.Connection, postgres_socket: str, database: Database
) -> None:
    vector = f"[1{',0' * 383}]"
    superuser.execute(
        "WITH session AS (INSERT INTO agent_sessions (session_id, llm_provider, message_count) "
        "VALUES ('11111111-1111-1111-1111-111111111111', 'vllm', 1) RETURNING session_id), "
        "message AS (INSERT INTO conversation_messages (session_id, role, content) "
        "SELECT session_id, 'user', 'What does it cost?' FROM session) "
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding) "
        "VALUES ('product prices.md', 'It is free.', 0, %s)",
        [vector],
    )
    done = subprocess.run(
        [
            pgwheel.binaries(Path(), shared=False) / "psql",
            *("-h", postgres_socket, "-U", "postgres", "-d", database.name, "-X"),
            *("-v", "ON_ERROR_STOP=1", "-v", "session_id=11111111-1111-1111-1111-111111111111"),
            *("-v", "filename=product", "-f", RESOURCES / "sql" / "monitoring.sql"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("vllm") >= 3
    assert done.stdout.count("What does it cost?") == 1
    assert done.stdout.count("It is free.") == 2
    assert done.stdout.count("You are a voice assistant.") == 1
    assert done.stdout.count("Execution Time:") == 2


# What is said of a database that cannot be used.


async def test_a_prepared_database_has_nothing_wrong_with_it(
    postgres_socket: str, database: Database
) -> None:
    assert await db.probe(database, postgres_socket) is None


async def test_a_database_that_does_not_exist_is_named(
    postgres_socket: str, template: Database
) -> None:
    assert await db.probe(missing(template), postgres_socket) == (
        f"The database not_there does not exist in PostgreSQL (embedded) at {postgres_socket}. "
        "`python -m runner` creates what is missing."
    )


@pytest.mark.usefixtures("password")
async def test_a_user_who_may_not_create_the_database_is_told_what_a_superuser_types(
    outside: Database, agent: Agent
) -> None:
    config = missing(outside)
    sentence = (
        f"The database not_there does not exist in PostgreSQL at {outside.host}:5432, and the "
        "user poor may not create it. Let a superuser run: "
        'CREATE DATABASE "not_there" OWNER "poor";'
    )
    assert await db.probe(config, None) == sentence
    with pytest.raises(DatabaseError) as caught:
        await db.prepare(config, None, agent)
    assert str(caught.value) == sentence


async def test_a_wrong_password_is_named_by_its_variable_and_not_printed(
    outside: Database, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(outside.password_env, "hunter2")
    sentence = (
        f"PostgreSQL at {outside.host}:5432 did not accept the user poor with the password in "
        "RUNNER_TEST_PASSWORD. Correct that variable (database.password_env), or database.user "
        "(POSTGRES_USER)."
    )
    assert await db.probe(outside, None) == sentence
    with pytest.raises(DatabaseError) as caught:
        await db.prepare(outside, None, agent)
    assert str(caught.value) == sentence


async def test_a_missing_password_is_asked_for(outside: Database) -> None:
    assert await db.probe(outside, None) == (
        f"PostgreSQL at {outside.host}:5432 wants a password from the user poor. Put it into the "
        "environment variable RUNNER_TEST_PASSWORD (database.password_env)."
    )


async def test_a_port_where_nobody_listens_is_named_with_its_keys(database: Database) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        assert await db.probe(replace(database, port=port), None) == (
            f"PostgreSQL at localhost:{port} refused the connection. Start PostgreSQL there, or "
            "set database.host and database.port (POSTGRES_HOST, POSTGRES_PORT) to where it runs."
        )


async def test_an_unknown_host_is_named(database: Database) -> None:
    sentence = await db.probe(replace(database, host="nowhere.invalid"), None)
    assert sentence
    assert sentence.startswith("PostgreSQL at nowhere.invalid:5432 cannot be found: ")


async def test_a_server_that_says_nothing_is_given_up(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = replace(
            database, host="127.0.0.1", port=listener.getsockname()[1], connect_timeout_s=2
        )
        sentence = await db.probe(silent, None)
    assert sentence
    assert sentence.startswith(f"PostgreSQL at 127.0.0.1:{silent.port} did not answer within 2 s. ")


async def test_something_else_at_the_port_is_not_taken_for_postgres(database: Database) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sentence = await db.probe(replace(database, host="127.0.0.1", port=port), None)
    assert sentence
    assert sentence.startswith(f"What answers at 127.0.0.1:{port} is not PostgreSQL. ")


async def test_a_database_of_an_older_runner_is_brought_up_to_date(
    database: Database, postgres_socket: str, superuser: psycopg.Connection, agent: Agent
) -> None:
    superuser.execute("COMMENT ON TABLE agent_sessions IS NULL")
    superuser.execute("ALTER TABLE conversation_messages DROP COLUMN message_id")
    assert "lacks what schema 5 added to 1" in str(await db.probe(database, postgres_socket))
    await db.prepare(database, postgres_socket, agent)
    assert await db.probe(database, postgres_socket) is None
    query = "SELECT obj_description('agent_sessions'::regclass, 'pg_class')"
    assert rows(superuser, query) == [("runner schema 5",)]


async def test_a_database_of_a_newer_runner_is_refused(
    database: Database, postgres_socket: str, superuser: psycopg.Connection, agent: Agent
) -> None:
    superuser.execute("COMMENT ON TABLE agent_sessions IS 'runner schema 6'")
    with pytest.raises(DatabaseError, match=r"newer runner \(schema 6, this one knows 5\)"):
        await db.prepare(database, postgres_socket, agent)


async def test_a_server_that_is_too_old_is_told_by_its_version(
    postgres_socket: str, database: Database, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbserver, "_OLDEST_VERSION", 99)
    sentence = await db.probe(database, postgres_socket)
    assert sentence
    assert " has version 18, and 99 or later is needed. " in sentence
    with pytest.raises(DatabaseError, match="99 or later"):
        await db.prepare(database, postgres_socket, agent)


async def test_a_server_without_pgvector_is_told_so(
    superuser: psycopg.Connection, postgres_socket: str, empty: Database, agent: Agent
) -> None:
    superuser.execute("CREATE SCHEMA shadow")
    superuser.execute(
        "CREATE VIEW shadow.pg_available_extensions AS "
        "SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'vector'"
    )
    path = SQL("ALTER DATABASE {} SET search_path = shadow, pg_catalog, public")
    superuser.execute(path.format(Identifier(empty.name)))
    sentence = await db.probe(empty, postgres_socket)
    assert sentence
    assert " is without pgvector. Install it there " in sentence
    with pytest.raises(DatabaseError, match="is without pgvector"):
        await db.prepare(empty, postgres_socket, agent)


@pytest.mark.usefixtures("password")
async def test_a_user_who_may_not_create_the_extension_is_told_what_a_superuser_types(
    superuser: psycopg.Connection, empty: Database, outside: Database, agent: Agent
) -> None:
    assert await db.probe(outside, None) == (
        f"The database {empty.name} in PostgreSQL at {outside.host}:5432 is without the extension "
        "vector, and the user poor may not create it. Let a superuser run in that database: "
        "CREATE EXTENSION vector;"
    )
    superuser.execute("CREATE EXTENSION vector")
    sentence = await db.probe(outside, None)
    assert sentence
    assert 'GRANT CREATE ON SCHEMA public TO "poor";' in sentence
    superuser.execute("GRANT CREATE ON SCHEMA public TO poor")
    await db.prepare(outside, None, agent)
    assert await db.probe(outside, None) is None


@pytest.mark.usefixtures("password")
async def test_tables_made_by_somebody_else_serve_without_our_indexes(
    superuser: psycopg.Connection, outside: Database, agent: Agent
) -> None:
    superuser.execute("DROP INDEX agent_sessions_active_last_activity_idx")
    superuser.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO poor")
    await db.prepare(outside, None, agent)
    assert await db.probe(outside, None) is None


@pytest.mark.usefixtures("password")
async def test_a_right_that_is_missing_is_named_in_the_server_s_words(
    outside: Database, agent: Agent
) -> None:
    with pytest.raises(DatabaseError) as caught:
        await db.prepare(outside, None, agent)
    assert str(caught.value) == (
        f"PostgreSQL at {outside.host}:5432 failed: permission denied for table agent_instructions."
    )


# The pool.


async def test_a_query_that_hangs_is_ended_by_the_server(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            shown = await connection.execute(text(f"SHOW {setting}"))
            assert shown.scalar_one() != "0", setting


async def test_what_callers_said_is_not_in_an_error(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT FROM nowhere WHERE x = :said"), {"said": "hush"})
    assert "hush" not in str(caught.value)


async def test_a_pool_can_be_opened_before_the_first_caller(
    superuser: psycopg.Connection, engine: AsyncEngine
) -> None:
    await db.warm(engine, 3)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test'"
    assert rows(superuser, count) == [(3,)]


async def test_a_pool_opens_no_more_connections_than_it_may(
    superuser: psycopg.Connection, database: Database, postgres_socket: str
) -> None:
    impatient = replace(database, connect_timeout_s=0.2)
    pool = db.engine(impatient, postgres_socket, pool_size=2, application_name="runner")
    try:
        async with pool.connect(), pool.connect():
            with pytest.raises(PoolTimeout):
                async with pool.connect():
                    pass
            count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runner'"
            assert rows(superuser, count) == [(2,)]
    finally:
        await pool.dispose()


async def test_a_wait_for_a_lock_ends_before_the_call_s_patience(
    superuser: psycopg.Connection, engine: AsyncEngine
) -> None:
    async with engine.connect() as connection:
        shown = [
            (await connection.execute(text(f"SHOW {setting}"))).scalar_one()
            for setting in ("lock_timeout", "statement_timeout")
        ]
    assert shown == ["5s", "10s"]


async def test_a_pool_outlives_the_connections_that_the_server_cut(
    superuser: psycopg.Connection, engine: AsyncEngine
) -> None:
    await db.warm(engine, 2)
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'test'"
    )
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
