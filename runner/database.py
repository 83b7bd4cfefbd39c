"""The database behind the calls: its engine and pool, whether it serves, making what it lacks."""

from contextlib import AsyncExitStack
from dataclasses import asdict

import psycopg
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Identifier
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runner import sql
from runner.config import Agent, Database
from runner.dbserver import SCHEMA_VERSION, Connection, Server, State
from runner.errors import DatabaseError

_LOCK = "SELECT pg_advisory_lock(8534970459466069358)"  # any number; held until disconnected
_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s "
    "-c jit=off"  # compiling takes longer than these short queries
)


def url(database: Database, socket_dir: str | None) -> URL:
    """The address for SQLAlchemy. It holds the password, which its repr and str leave out."""
    server = Server(database, socket_dir)
    return URL.create(
        "postgresql+psycopg",
        username=server.user,
        password=server.password,
        database=database.name,
        query={"host": server.host, "port": str(server.port), **server.parameters},
    )


def engine(
    database: Database,
    socket_dir: str | None,
    *,
    pool_size: int,
    application_name: str,
    overflow: int = 0,
) -> AsyncEngine:
    """An engine that opens connections when they are needed and keeps ``pool_size`` of them.

    ``overflow`` more are opened under load and closed after each use. A larger pool is nearly
    always better: with 5 + 25 instead of 30 + 0, 25 sessions store less than half as much.
    """
    return create_async_engine(
        url(database, socket_dir),
        pool_size=pool_size,
        max_overflow=overflow,
        pool_timeout=database.connect_timeout_s,
        pool_pre_ping=True,
        hide_parameters=True,  # they are what callers said
        connect_args={
            "connect_timeout": Server(database, socket_dir).connect_timeout_s,
            "application_name": application_name,
            "client_encoding": "UTF8",
            "options": _OPTIONS,
        },
    )


async def warm(pool: AsyncEngine, connections: int) -> None:
    """Open so many connections now, so that the first callers do not wait for theirs."""
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            await stack.enter_async_context(pool.connect())


async def probe(database: Database, socket_dir: str | None) -> str | None:
    """None where calls can be stored now, else one sentence: what is wrong, and the mend.

    What `prepare` creates (database, extension, tables) is reported, too, while it is missing.
    """
    server = Server(database, socket_dir)
    try:
        async with await server.enter() as connection:
            state = await server.state(connection)
    except psycopg.Error as error:
        return await server.explain(error)
    except DatabaseError as error:
        return str(error)
    return server.obstacle(state) or server.lack(state)


async def prepare(database: Database, socket_dir: str | None, seed: Agent) -> None:
    """Create what is missing: the database, the extension, the tables, the persona ``seed``.

    Several processes may do so at once: they take turns.

    Raises:
        DatabaseError: with a sentence as `probe` gives it.
    """
    server = Server(database, socket_dir)
    try:
        async with await _enter(server) as connection:
            await connection.execute(_LOCK)
            state = await server.state(connection)
            if trouble := server.obstacle(state):
                raise DatabaseError(trouble)
            await _create_schema(connection, state)
            await connection.execute(sql.queries()["seed_instructions"].encode(), asdict(seed))
    except psycopg.Error as error:
        raise DatabaseError(await server.explain(error)) from error


async def _enter(server: Server) -> Connection:
    """A connection to the database, which is created where it is missing and the user may."""
    try:
        return await server.enter()
    except psycopg.OperationalError:
        if not await _create_database(server):
            raise
        return await server.enter()


async def _create_database(server: Server) -> bool:
    """Whether the database is there now."""
    connection = await server.enter_maintenance()
    if connection is None:
        return False
    async with connection:
        await connection.execute(_LOCK)
        presence = await server.presence(connection)
        if presence.creatable and not presence.present:
            # template0: the server's own template may have another encoding
            create = SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
            await connection.execute(create.format(Identifier(server.database.name)))
    return presence.present or presence.creatable


async def _create_schema(connection: Connection, state: State) -> None:
    if not state.lacks and state.version == SCHEMA_VERSION:
        return  # running the script all the same would wait for the calls in progress
    try:
        async with connection.transaction():
            await connection.execute(sql.script("schema.sql").encode())
    except InsufficientPrivilege:
        if state.lacks:
            raise
        # Somebody else's tables, without our indexes and trigger: slower, but they serve.
