"""What the indexer's process is told, and what it tells."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from runner.config import RAG, Database, Log
from runner.rag.index import Progress, Summary


@dataclass(frozen=True)
class Settings:
    """The process' only argument, as JSON. It holds no secret: the password is in a variable."""

    rag: RAG
    folder: Path
    database: Database
    postgres_socket: str | None
    log: Log


@dataclass(frozen=True)
class Event:
    """A line of its output; one of the fields is set."""

    line: str | None = None
    progress: Progress | None = None
    summary: Summary | None = None
    error: str | None = None


SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
