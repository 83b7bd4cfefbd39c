"""A PostgreSQL server as it is found: the way in, what is there, and in a sentence what is not."""

import math
import os
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import ConnectionTimeout
from psycopg.rows import class_row

from runner import sql
from runner.config import Database
from runner.config.address import from_url
from runner.errors import DatabaseError

EMBEDDED_PORT = 5432  # nothing listens there: it names the socket's file
EMBEDDED_USER = "postgres"

Connection = psycopg.AsyncConnection[Any]
Row = TypeVar("Row")

SCHEMA_VERSION = 5
"""Of sql/schema.sql, which writes it into the database."""

_OLDEST_VERSION = 13
_MAINTENANCE_DATABASE = "postgres"  # entered where the configured one cannot be
_OPTIONS = "-c statement_timeout=60s"  # another start may hold the lock under which things are made
_ADDRESS = "database.host and database.port (POSTGRES_HOST, POSTGRES_PORT)"
_OURS = (
    *("host", "hostaddr", "port", "dbname", "user", "password", "passfile"),
    *("connect_timeout", "client_encoding", "application_name", "options"),
)
"""Of libpq's parameters: those that the configuration and the program give."""
_START_IT = f"Start PostgreSQL there, or set {_ADDRESS} to where it runs."
_AT_START = "`python -m runner` creates what is missing."


@dataclass(frozen=True)
class Presence:
    """Whether a database is there, and whether the user may create it."""

    present: bool
    creatable: bool


@dataclass(frozen=True)
class State:
    """What of the schema is there, and what the user may create."""

    has_vector: bool
    vector_available: bool
    may_create_vector: bool
    may_create_tables: bool
    missing_tables: list[str]
    version: int

    @property
    def lacks(self) -> str:
        """What calls cannot do without, in words; empty: nothing."""
        missing = [] if self.has_vector else ["the extension vector"]
        missing += [f"the table {table}" for table in self.missing_tables]
        if not missing and self.version < SCHEMA_VERSION:
            missing.append(f"what schema {SCHEMA_VERSION} added to {self.version}")
        return ", ".join(missing)


@dataclass(frozen=True)
class Server:
    """The server that a configuration means.

    ``socket_dir`` stands for the embedded one of `runner.postgres`: its superuser, over a private
    Unix socket. ``None`` stands for the one at ``database.host`` and ``database.port``.
    """

    database: Database
    socket_dir: str | None

    @property
    def user(self) -> str:
        """The role that the runner is there."""
        return EMBEDDED_USER if self.socket_dir else self.database.user

    @property
    def password(self) -> str | None:
        """From the environment; None leaves it to libpq (PGPASSWORD, ~/.pgpass)."""
        if self.socket_dir:
            return None
        in_url = from_url(self.database.url_env).get("password")
        return in_url or os.environ.get(self.database.password_env) or None

    @property
    def parameters(self) -> dict[str, str]:
        """What else libpq is told: what the URL of the environment says beyond the keys of the
        configuration, such as sslmode."""
        if self.socket_dir:
            return {}
        parts = from_url(self.database.url_env)
        return {name: value for name, value in parts.items() if name not in _OURS}

    @property
    def host(self) -> str:
        """A name or an address; beginning with /: the folder of a Unix socket."""
        return self.socket_dir or self.database.host

    @property
    def port(self) -> int:
        """The TCP port, or the number in the socket's name."""
        return EMBEDDED_PORT if self.socket_dir else self.database.port

    @property
    def address(self) -> str:
        """A URL for psql and other clients, without the password."""
        user, name = quote(self.user, safe=""), quote(self.database.name, safe="")
        if self.host.startswith("/"):
            folder = quote(self.host, safe="")
            return f"postgresql://{user}@/{name}?host={folder}&port={self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}@{host}:{self.port}/{name}"

    @property
    def connect_timeout_s(self) -> int:
        """In whole seconds, as libpq counts."""
        return math.ceil(self.database.connect_timeout_s)

    def __str__(self) -> str:
        if self.socket_dir:
            return f"PostgreSQL (embedded) at {self.socket_dir}"
        return f"PostgreSQL at {self.host}:{self.port}"

    async def enter(self) -> Connection:
        """A connection to the configured database.

        Raises:
            psycopg.OperationalError: which `explain` turns into a sentence.
            DatabaseError: the server is too old.
        """
        connection = await self._connect(self.database.name, autocommit=False)
        if (version := connection.info.server_version // 10_000) >= _OLDEST_VERSION:
            return connection
        await connection.close()
        raise DatabaseError(
            f"{self} has version {version}, and {_OLDEST_VERSION} or later is needed. Upgrade it, "
            f"or set {_ADDRESS} to a newer one."
        )

    async def enter_maintenance(self) -> Connection | None:
        """A connection, in autocommit, to the database that every server has; None: refused."""
        try:
            return await self._connect(_MAINTENANCE_DATABASE, autocommit=True)
        except psycopg.OperationalError:
            return None

    async def _connect(self, name: str, *, autocommit: bool) -> Connection:
        return await psycopg.AsyncConnection.connect(
            make_conninfo(**self.parameters),
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=name,
            connect_timeout=self.connect_timeout_s,
            client_encoding="UTF8",
            application_name="runner",
            options=_OPTIONS,
            autocommit=autocommit,
        )

    async def presence(self, connection: Connection) -> Presence:
        """Whether the configured database is there, seen from another one."""
        return await _one(connection, "database_presence", Presence, name=self.database.name)

    async def state(self, connection: Connection) -> State:
        """What is there of the schema, seen from inside the configured database."""
        return await _one(connection, "database_state", State)

    def obstacle(self, state: State) -> str | None:
        """What stands in the way of calls, and cannot be created by the configured user."""
        within = f"The database {self.database.name} in {self}"
        if state.version > SCHEMA_VERSION:
            return (
                f"{within} is of a newer runner (schema {state.version}, this one knows "
                f"{SCHEMA_VERSION}). Start that one, or set database.name (POSTGRES_DB) to another."
            )
        if not state.has_vector and not state.vector_available:
            return (
                f"{self} is without pgvector. Install it there (Debian: the package "
                f"postgresql-<version>-pgvector), or set {_ADDRESS} to a server that has it."
            )
        if not state.has_vector and not state.may_create_vector:
            return (
                f"{within} is without the extension vector, and the user {self.user} may not "
                "create it. Let a superuser run in that database: CREATE EXTENSION vector;"
            )
        if state.missing_tables and not state.may_create_tables:
            return (
                f"{within} is without {state.lacks}, and the user {self.user} may not create "
                "tables. Let its owner run sql/schema.sql there, or: "
                f'GRANT CREATE ON SCHEMA public TO "{self.user}";'
            )
        return None

    def lack(self, state: State) -> str | None:
        """What is missing, and `runner.database.prepare` creates."""
        if not state.lacks:
            return None
        return f"The database {self.database.name} still lacks {state.lacks}. {_AT_START}"

    async def explain(self, error: psycopg.Error) -> str:
        """One sentence for what the driver raised.

        A refused log-in has no SQLSTATE, and its text is in the server's language: so the server
        is asked for the reason through its maintenance database.
        """
        reason = _reason(error)
        if error.sqlstate:
            return f"{self} failed: {reason}."
        if trouble := self._unreachable(error, reason):
            return trouble
        if connection := await self.enter_maintenance():
            async with connection:
                return self._no_entry(await self.presence(connection), reason)
        if error.pgconn and error.pgconn.needs_password:
            return (
                f"{self} wants a password from the user {self.user}. Put it into the environment "
                f"variable {self.database.password_env} (database.password_env)."
            )
        if error.pgconn and error.pgconn.used_password:
            in_url = "password" in from_url(self.database.url_env)
            key = "url_env" if in_url else "password_env"
            return (
                f"{self} did not accept the user {self.user} with the password in "
                f"{getattr(self.database, key)}. Correct that variable (database.{key}), or "
                "database.user (POSTGRES_USER)."
            )
        return f"{self} failed: {reason}."

    def _unreachable(self, error: psycopg.Error, reason: str) -> str | None:
        if isinstance(error, ConnectionTimeout):
            return f"{self} did not answer within {self.connect_timeout_s} s. {_START_IT}"
        if "failed to resolve host" in reason:
            return f"{self} cannot be found: no host has that name. {_START_IT}"
        if "Connection refused" in reason or "No such file" in reason:
            return f"{self} refused the connection. {_START_IT}"
        if "invalid response" in reason or "expected authentication request" in reason:
            return f"What answers at {self.host}:{self.port} is not PostgreSQL. {_START_IT}"
        return None

    def _no_entry(self, presence: Presence, reason: str) -> str:
        """Why the database cannot be entered, although its server can."""
        missing = f"The database {self.database.name} does not exist in {self}"
        if presence.present:
            return f"{self} failed: {reason}."
        if presence.creatable:
            return f"{missing}. {_AT_START}"
        return (
            f"{missing}, and the user {self.user} may not create it. Let a superuser run: "
            f'CREATE DATABASE "{self.database.name}" OWNER "{self.user}";'
        )


async def _one(connection: Connection, query: str, row: type[Row], **values: object) -> Row:
    async with connection.cursor(row_factory=class_row(row)) as cursor:
        await cursor.execute(sql.queries()[query].encode(), values)
        return (await cursor.fetchall())[0]


def _reason(error: psycopg.Error) -> str:
    """The server's or libpq's own words, on one line, without its preamble."""
    text = error.diag.message_primary or str(error)
    return text.strip().splitlines()[0].rpartition("FATAL:  ")[2].rstrip(".")
