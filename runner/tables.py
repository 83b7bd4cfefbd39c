"""The tables as SQLModel classes. ``sql/schema.sql`` is what creates them; the classes say the same
to Python.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import DDL, BigInteger, DateTime, Index, UniqueConstraint, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel, Text

from runner.config import EMBEDDING_DIMENSIONS


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


class AgentInstructionsHistory(SQLModel, table=True):
    """A version of a persona."""

    __tablename__ = "agent_instructions_history"

    version: int | None = Field(default=None, primary_key=True)
    instructions_id: int
    change: str = Field(max_length=10)
    content: dict[str, Any] = Field(sa_type=JSONB, nullable=False)
    changed_by: str | None = Field(default=None, max_length=255)
    changed_at: datetime | None = _now()


class AgentSession(SQLModel, table=True):
    """A call."""

    __tablename__ = "agent_sessions"
    __table_args__ = (
        Index(
            "agent_sessions_active_last_activity_idx",
            "last_activity",
            postgresql_where=text("status = 'active'"),
        ),
        Index("agent_sessions_room_id_idx", "room_id"),
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
    worker_id: UUID | None = None
    job_id: str | None = Field(default=None, max_length=255)


class Worker(SQLModel, table=True):
    """A runner that takes calls, and lives while ``beat`` goes up."""

    __tablename__ = "workers"

    worker_id: UUID = Field(primary_key=True)
    beat: int = Field(sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    started_at: datetime | None = _now()
    seen_at: datetime | None = _now()


class ConversationMessage(SQLModel, table=True):
    """What was said. ``meta`` is the column ``metadata``: SQLAlchemy keeps that name."""

    __tablename__ = "conversation_messages"
    __table_args__ = (
        Index("conversation_messages_session_id_created_at_idx", "session_id", "created_at"),
        Index(
            "conversation_messages_content_idx",
            text("to_tsvector('simple', left(content, 10000))"),
            postgresql_using="gin",
        ),
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
            postgresql_with={"fastupdate": "off"},
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


class OperatorAudit(SQLModel, table=True):
    """A change that an operator made."""

    __tablename__ = "operator_audit"

    id: int | None = Field(default=None, primary_key=True)
    changed_at: datetime | None = _now()
    changed_by: str = Field(max_length=255)
    action: str = Field(max_length=50)
    subject: str = Field(max_length=500)
    before: dict[str, Any] | None = _json()
    after: dict[str, Any] | None = _json()


event.listen(
    RagDocument.__table__,  # type: ignore[attr-defined]
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "ALTER TABLE rag_documents ALTER COLUMN embedding SET STORAGE MAIN"
    ),
)
