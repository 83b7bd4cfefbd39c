"""The five tables as SQLModel classes, and what calls read from them and write to them.

``sql/schema.sql`` is what creates the tables; the classes say the same to Python. Every time is
the database's ``NOW()``, in its time zone and without naming it: Python's clock is never written.
"""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from psycopg.types.json import Jsonb
from sqlalchemy import DDL, CursorResult, DateTime, Index, UniqueConstraint, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import Field, SQLModel, Text, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from runner import sql
from runner.config import EMBEDDING_DIMENSIONS, Agent
from runner.errors import DatabaseAwayError, DatabaseError

_AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""What SQLAlchemy raises while there is no server, no connection, or it goes down."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates, which PostgreSQL refuses
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _default(expression: str, **column: Any) -> Any:
    """A nullable column whose value the database sets."""
    return Field(default=None, sa_column_kwargs={"server_default": text(expression)}, **column)


def _now() -> Any:
    return _default("now()", sa_type=DateTime)


def _json(name: str | None = None) -> Any:
    column = {"name": name} if name else {}
    return Field(default=None, sa_type=JSONB(none_as_null=True), sa_column_kwargs=column)


class AgentInstructions(SQLModel, table=True):
    """What the agent is told, and how it greets."""

    __tablename__ = "agent_instructions"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=255)
    instructions: str = Field(sa_type=Text)
    is_active: bool | None = _default("true")
    is_local_mode: bool | None = _default("false")
    initial_greeting: str | None = Field(default=None, sa_type=Text)
    language: str | None = _default("'en'", max_length=10)
    created_at: datetime | None = _now()
    updated_at: datetime | None = _now()


class AgentSession(SQLModel, table=True):
    """A call."""

    __tablename__ = "agent_sessions"
    __table_args__ = (
        Index(
            "agent_sessions_active_last_activity_idx",
            "last_activity",
            postgresql_where=text("status = 'active'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    session_id: UUID = Field(unique=True)
    room_id: str | None = Field(default=None, max_length=255)
    participant_id: str | None = Field(default=None, max_length=255)
    llm_provider: str | None = Field(default=None, max_length=50)
    status: str | None = _default("'active'", max_length=20)
    context: dict[str, Any] | None = _json()
    message_count: int | None = _default("0")
    created_at: datetime | None = _now()
    last_activity: datetime | None = _now()
    ended_at: datetime | None = Field(default=None, sa_type=DateTime)


class ConversationMessage(SQLModel, table=True):
    """What was said. ``meta`` is the column ``metadata``: SQLAlchemy keeps that name."""

    __tablename__ = "conversation_messages"
    __table_args__ = (
        Index("conversation_messages_session_id_created_at_idx", "session_id", "created_at"),
    )

    id: int | None = Field(default=None, primary_key=True)
    session_id: UUID | None = Field(
        default=None, foreign_key="agent_sessions.session_id", ondelete="CASCADE"
    )
    role: str = Field(max_length=20)
    content: str = Field(sa_type=Text)
    meta: dict[str, Any] | None = _json("metadata")
    created_at: datetime | None = _now()
    message_id: UUID | None = Field(default=None, unique=True)


class RagDocument(SQLModel, table=True):
    """A chunk of a document."""

    __tablename__ = "rag_documents"
    __table_args__ = (
        UniqueConstraint("filename", "chunk_index"),
        Index(
            "rag_documents_content_idx",
            text("to_tsvector('english', regexp_replace(content, '[^[:alnum:]]+', ' ', 'g'))"),
            postgresql_using="gin",
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    filename: str = Field(max_length=500)
    content: str = Field(sa_type=Text)
    chunk_index: int
    total_chunks: int | None = None
    embedding: list[float] | None = Field(default=None, sa_type=VECTOR(EMBEDDING_DIMENSIONS))
    file_hash: str | None = Field(default=None, max_length=64)
    meta: dict[str, Any] | None = _json("metadata")
    created_at: datetime | None = _now()
    updated_at: datetime | None = _now()


class SystemConfig(SQLModel, table=True):
    """A setting that changes while calls run."""

    __tablename__ = "system_config"

    key: str = Field(primary_key=True, max_length=255)
    value: Any = Field(sa_type=JSONB, nullable=False)
    description: str | None = Field(default=None, sa_type=Text)
    created_at: datetime | None = _now()
    updated_at: datetime | None = _now()


@dataclass(frozen=True)
class Instructions:
    """The persona of a call."""

    id: int
    name: str
    instructions: str
    greeting: str | None
    language: str


@dataclass(frozen=True)
class Expired:
    """How much is old enough to be deleted."""

    sessions: int
    messages: int


class Store:
    """Sessions, messages and instructions. Every write is one statement and one round trip.

    All methods raise `DatabaseError` when the database does not carry them out.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def instructions(self, language: str) -> Instructions | None:
        """The latest active persona, those in ``language`` first; None: none is active."""
        result = await self._run("instructions", language=language)
        row = result.mappings().one_or_none()
        return Instructions(**row) if row else None

    async def seed(self, agent: Agent) -> None:
        """Make ``agent`` the persona, unless one is active already."""
        await self._run("seed_instructions", **asdict(agent))

    async def open_session(
        self,
        session_id: UUID,
        *,
        room_id: str,
        participant_id: str,
        llm_provider: str,
        context: dict[str, object],
    ) -> None:
        """Begin a session, unless it has begun."""
        await self._run(
            "open_session",
            session_id=session_id,
            room_id=_storable(room_id),
            participant_id=_storable(participant_id),
            llm_provider=llm_provider,
            context=Jsonb(_storable(context)),
        )

    async def add_message(
        self,
        session_id: UUID,
        message_id: UUID,
        *,
        role: str,
        content: str,
        metadata: dict[str, object],
        age_s: float = 0.0,
    ) -> None:
        """Store a message that was said ``age_s`` ago, and that its session is alive. One that is
        stored already stays as it is.

        What PostgreSQL has no place for is replaced: NUL and lone surrogates by U+FFFD, and in
        ``metadata`` NaN and infinities by null.
        """
        result = await self._run(
            "add_message",
            session_id=session_id,
            message_id=message_id,
            age_s=age_s,
            role=role,
            content=_storable(content),
            metadata=Jsonb(_storable(metadata)),
        )
        if not result.rowcount:
            raise DatabaseError(f"The session {session_id} is not in agent_sessions.")

    async def end_session(self, session_id: UUID) -> None:
        """End a session; one that has ended already keeps its time."""
        await self._run("end_session", session_id=session_id)

    async def end_idle(self, timeout_minutes: int) -> list[str]:
        """End all sessions without a message for so long, and name their rooms."""
        result = await self._run("end_idle", minutes=timeout_minutes)
        return [room for room in result.scalars() if room is not None]

    async def expired(self, retention_days: int, limit: int) -> list[UUID]:
        """Sessions that ended more than so many days ago, the oldest first, ``limit`` at most."""
        result = await self._run("expired_sessions", days=retention_days, limit=limit)
        return list(result.scalars())

    async def count_expired(self, retention_days: int) -> Expired:
        """How much `expired` would find without a limit."""
        result = await self._run("count_expired_sessions", days=retention_days)
        return Expired(**result.mappings().one())

    async def whole(self, session_ids: list[UUID]) -> list[dict[str, Any]]:
        """Sessions with their messages in order, as JSON has them."""
        result = await self._run("whole_sessions", session_ids=session_ids)
        return list(result.scalars())

    async def forget(self, session_ids: list[UUID], *, archive: bool) -> None:
        """Delete sessions with their messages; ``archive``: into ``conversation_archive`` first,
        in the same transaction."""
        if archive:
            await self._run("create_archive")
        query = "archive_and_delete_sessions" if archive else "delete_sessions"
        await self._run(query, session_ids=session_ids)

    async def keep_configuration(self, fingerprint: str, configuration: dict[str, Any]) -> None:
        """Store a configuration under its fingerprint, unless it is there."""
        await self._run(
            "keep_configuration",
            key=f"configuration:{fingerprint}",
            value=Jsonb(_storable(configuration)),
        )

    async def history(self, session_id: UUID) -> list[ConversationMessage]:
        """A session's messages in their order."""
        message = ConversationMessage
        query = (
            select(message)
            .where(col(message.session_id) == session_id)
            .order_by(col(message.created_at), col(message.id))
        )
        async with self._connected() as connection, AsyncSession(connection) as session:
            return list(await session.exec(query))

    async def _run(self, query: str, **values: object) -> CursorResult[Any]:
        async with self._connected() as connection:
            return await connection.exec_driver_sql(sql.queries()[query], values)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection in which every statement is a transaction of its own."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            line = str(reason).strip().partition("\n")[0].rstrip(".")
            host = self._engine.url.query["host"]
            kind = DatabaseAwayError if isinstance(error, _AWAY) else DatabaseError
            raise kind(
                f"PostgreSQL at {host} did not serve: {line}. `task=doctor` says more."
            ) from error


def _storable(value: Any) -> Any:
    """``value`` with everything replaced that PostgreSQL cannot hold as TEXT or JSONB."""
    match value:
        case str():
            return _UNSTORABLE.sub(_REPLACEMENT, value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {_storable(str(key)): _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case _:
            return value


event.listen(
    RagDocument.__table__,  # type: ignore[attr-defined]
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "ALTER TABLE rag_documents ALTER COLUMN embedding SET STORAGE MAIN"
    ),
)
