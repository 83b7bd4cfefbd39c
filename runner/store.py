"""What calls read from the tables and write to them.

Every time is the database's ``NOW()``, in its time zone and without naming it: Python's clock is
never written.
"""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import CursorResult
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from runner import sql
from runner.config import Agent
from runner.errors import DatabaseAwayError, DatabaseError
from runner.tables import ConversationMessage

_AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout)
"""What SQLAlchemy raises while there is no server, no connection, or it goes down."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates, which PostgreSQL refuses
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Instructions:
    """The persona of a call."""

    id: int
    name: str
    instructions: str
    greeting: str | None
    language: str


@dataclass(frozen=True)
class Opening:
    """How a session begins. ``job_id``: the LiveKit job that talks in it; ``worker_id``: the worker
    that answers for the job; None: nobody does, such as in the terminal."""

    room_id: str
    participant_id: str
    llm_provider: str
    context: dict[str, object]
    worker_id: str | None = None
    job_id: str = ""


@dataclass(frozen=True)
class Message:
    """What was said before, by whom."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Orphan:
    """A session in state active whose worker is dead."""

    session_id: UUID
    room_id: str | None
    participant_id: str | None


@dataclass(frozen=True)
class Expired:
    """How much is old enough to be deleted."""

    sessions: int
    messages: int


class Store:
    """Sessions, messages and instructions. Every write is one statement and one round trip.

    All methods raise `DatabaseError` when the database does not carry them out.
    """

    _file = "queries.sql"

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def instructions(self, language: str, otherwise: str = "") -> Instructions | None:
        """The active persona for ``language``: in it, in a relative of it (pt for pt-br), for any
        language, in ``otherwise``, else in another; of several the latest. None: none is active."""
        result = await self._run("instructions", language=language, otherwise=otherwise)
        row = result.mappings().one_or_none()
        return Instructions(**row) if row else None

    async def languages(self) -> list[str]:
        """The languages of the active personas, as they are written there."""
        return list((await self._run("languages")).scalars())

    async def live_settings(self) -> dict[str, object]:
        """What ``system_config`` says beside what the program itself keeps there."""
        result = await self._run("live_settings")
        return {row.key: row.value for row in result}

    async def seed(self, agent: Agent) -> None:
        """Make ``agent`` the persona, unless one is active already."""
        await self._run("seed_instructions", **asdict(agent))

    async def open_session(self, session_id: UUID, opening: Opening) -> None:
        """Begin a session, unless it has begun."""
        values = storable(asdict(opening))
        values["context"] = Jsonb(values["context"])
        await self._run("open_session", session_id=session_id, **values)

    async def resume_session(self, opening: Opening, grace_s: float) -> UUID | None:
        """Go on with the session of the same caller in the same room, if it is active, or ended no
        longer ago than ``grace_s``. A job that talked in it before may not end it any more.

        Returns:
            Its id; None: there is none, or it has ended for good.
        """
        values = storable(asdict(opening))
        del values["context"], values["llm_provider"]
        result = await self._run("resume_session", **values, grace_s=grace_s)
        return result.scalar_one_or_none()

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
            content=storable(content),
            metadata=Jsonb(storable(metadata)),
        )
        if not result.rowcount:
            raise DatabaseError(f"The session {session_id} is not in agent_sessions.")

    async def recall(self, session_id: UUID, limit: int) -> list[Message]:
        """What was said last in a session, ``limit`` messages at most, in order."""
        result = await self._run("recall", session_id=session_id, limit=limit)
        return [Message(**row) for row in result.mappings()]

    async def end_session(self, session_id: UUID, job_id: str | None = None) -> None:
        """End a session; one that has ended already keeps its time. ``job_id``: only if no other
        job has gone on with it."""
        await self._run("end_session", session_id=session_id, job_id=job_id)

    async def end_room(self, room_id: str) -> None:
        """End what is active in a room."""
        await self._run("end_room", room_id=storable(room_id))

    async def beat(self, worker_id: UUID) -> dict[UUID, int]:
        """Say that a worker lives.

        Returns:
            The beats of all others.
        """
        result = await self._run("beat", worker_id=worker_id)
        return {row.worker_id: row.beat for row in result}

    async def leave(self, worker_id: UUID, beat: int | None = None) -> None:
        """Strike a worker off; with ``beat`` only if it has not moved on from there."""
        await self._run("leave", worker_id=worker_id, beat=beat)

    async def adopt_orphans(self, worker_id: UUID) -> list[Orphan]:
        """The active sessions whose workers were struck off; they are this worker's from now on."""
        result = await self._run("adopt_orphans", worker_id=worker_id)
        return [Orphan(**row) for row in result.mappings()]

    async def now_s(self) -> float:
        """The database's time, in seconds since 1970."""
        result = await self._run("now")
        return float(result.scalar_one())

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
            value=Jsonb(storable(configuration)),
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
            return await connection.exec_driver_sql(sql.queries(self._file)[query], values)

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


def storable(value: Any) -> Any:
    """``value`` with everything replaced that PostgreSQL cannot hold as TEXT or JSONB."""
    match value:
        case str():
            return _UNSTORABLE.sub(_REPLACEMENT, value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {storable(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value
