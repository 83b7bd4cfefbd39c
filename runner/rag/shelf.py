"""What the database holds of the documents: their chunks, and the files that could not be read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runner import sql

_SQL = sql.queries("rag.sql")
_LOCK_POLL_S = 0.5  # a waiting query would run into the engine's lock_timeout


@dataclass(frozen=True)
class Failure:
    """A file that was left out: the state of its content, and a sentence with why and the mend."""

    file_hash: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A chunk, ready to be stored."""

    text: str
    vector: Sequence[float]
    metadata: dict[str, object]


class Shelf:
    """The rows of ``rag_documents``, document by document. Each change is one transaction.

    Its methods raise SQLAlchemyError.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def documents(self) -> dict[str, str]:
        """The fingerprint of each document by its name."""
        async with self._engine.connect() as connection:
            rows = await connection.exec_driver_sql(_SQL["indexed_documents"])
            return {row.filename: row.file_hash for row in rows}

    async def failures(self) -> dict[str, Failure]:
        """The files that could not be read, by name."""
        async with self._engine.connect() as connection:
            rows = await connection.exec_driver_sql(_SQL["failed_documents"])
            return {row.filename: Failure(row.file_hash, row.reason) for row in rows}

    async def replace(self, name: str, file_hash: str, entries: Sequence[Entry]) -> None:
        """Put a document in the place of whatever had its name."""
        rows = [
            {
                "filename": name,
                "content": entry.text,
                "chunk_index": index,
                "total_chunks": len(entries),
                "embedding": str(list(entry.vector)),
                "file_hash": file_hash,
                "metadata": json.dumps(entry.metadata),
            }
            for index, entry in enumerate(entries)
        ]
        async with self._emptied(name) as connection:
            await connection.exec_driver_sql(_SQL["insert_chunk"], rows)

    async def copy(self, source: str, name: str, file_hash: str) -> bool:
        """Give ``name`` the chunks of ``source``; False where it holds another content by now."""
        async with self._emptied(name) as connection:
            result = await connection.exec_driver_sql(
                _SQL["copy_document"], {"source": source, "filename": name, "file_hash": file_hash}
            )
            return result.rowcount > 0

    async def fail(self, name: str, failure: Failure) -> None:
        """Record why a file is left out, and forget what an earlier state of it held."""
        values = {"filename": name, "file_hash": failure.file_hash, "reason": failure.reason}
        async with self._emptied(name) as connection:
            await connection.exec_driver_sql(_SQL["record_failure"], values)

    async def remove(self, names: Sequence[str]) -> None:
        """Forget documents and failures."""
        for name in names:
            async with self._emptied(name):
                pass

    @asynccontextmanager
    async def _emptied(self, name: str) -> AsyncIterator[AsyncConnection]:
        """A transaction in which nothing of that name is left."""
        async with self._engine.begin() as connection:
            await connection.exec_driver_sql(_SQL["delete_document"], {"filename": name})
            await connection.exec_driver_sql(_SQL["forget_failure"], {"filename": name})
            yield connection


@asynccontextmanager
async def turn(engine: AsyncEngine, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Only one runner on a database is inside; the others wait, and say so to ``report``."""
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        for attempt in count():
            if (await connection.exec_driver_sql(_SQL["try_lock"])).scalar_one():
                break
            if attempt == 0:
                report("Another runner is indexing; waiting for it.")
            await asyncio.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            await connection.exec_driver_sql(_SQL["unlock"])
