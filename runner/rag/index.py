"""The documents' folder brought into ``rag_documents``: what is new or changed, and only that."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runner import sql
from runner.config import RAG
from runner.errors import DatabaseError
from runner.rag.chunks import Chunk, chunks
from runner.rag.documents import DocumentError, document_name, documents, read
from runner.rag.embedding import Embedder

Report = Callable[[str], None]

_SQL = sql.queries("rag.sql")
_RECIPE = 1  # of chunks and metadata; another number and everything is indexed again
_BATCH_TEXTS = 16  # a caller's question waits at the embedding server behind no more than that
_LOCK_POLL_S = 0.5  # a waiting query would run into the engine's lock_timeout


@dataclass
class Summary:
    """What an indexing did. ``indexed``, ``unchanged``, ``removed`` count documents, ``chunks``
    those that were embedded; ``failed`` holds names with their reasons.
    """

    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


async def index(
    engine: AsyncEngine, embedder: Embedder, rag: RAG, root: Path, report: Report
) -> Summary:
    """Make ``rag_documents`` hold what can be read below ``root``, and nothing else.

    A file's chunks are replaced in one transaction. A file that cannot be read is told to
    ``report`` and left out, the others go in. Runners take turns.

    Raises:
        ProviderError: the embedding server does not serve; what was done until then stays.
        DatabaseError: the database does not.
    """
    began = time.monotonic()
    if not await asyncio.to_thread(root.is_dir):
        report(f"The documents folder {root} is missing. Create it, or set rag.docs_dir.")
        return Summary()
    try:
        async with _turn(engine, report):
            summary = await _Indexing(engine, embedder, rag, root, report).run()
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise DatabaseError(f"The documents could not be indexed: {reason}") from error
    summary.seconds = time.monotonic() - began
    return summary


@asynccontextmanager
async def _turn(engine: AsyncEngine, report: Report) -> AsyncIterator[None]:
    """Only one runner on a database is inside."""
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
        for attempt in count():
            if await _locked(connection):
                break
            if attempt == 0:
                report("Another runner is indexing; waiting for it.")
            await asyncio.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            await connection.exec_driver_sql(_SQL["unlock"])


async def _locked(connection: AsyncConnection) -> bool:
    return bool((await connection.exec_driver_sql(_SQL["try_lock"])).scalar_one())


class _Indexing:
    """One run over one folder."""

    def __init__(
        self, engine: AsyncEngine, embedder: Embedder, rag: RAG, root: Path, report: Report
    ) -> None:
        self._engine = engine
        self._embedder = embedder
        self._rag = rag
        self._root = root
        self._report = report
        self._summary = Summary()
        self._known: dict[str, str] = {}

    async def run(self) -> Summary:
        async with self._engine.connect() as connection:
            rows = await connection.exec_driver_sql(_SQL["indexed_documents"])
            self._known = {row.filename: row.file_hash for row in rows}
        gone = set(self._known)
        for path in await asyncio.to_thread(lambda: list(documents(self._root))):
            if name := await self._document(path):
                gone.discard(name)
        await self._remove(sorted(gone))
        if not self._summary.indexed and not self._summary.unchanged:
            self._report(f"The documents folder {self._root} holds no .md or .txt file to index.")
        return self._summary

    async def _document(self, path: Path) -> str | None:
        """Index one file. Its name, or None if it cannot be read."""
        try:
            name = document_name(path, self._root)
            text = await asyncio.to_thread(read, path)
        except DocumentError as error:
            self._fail(path, str(error))
            return None
        size, overlap = self._rag.chunk_size, self._rag.chunk_overlap
        fingerprint = self._fingerprint(text)
        if self._known.get(name) == fingerprint:
            self._summary.unchanged += 1
            return name
        pieces = await asyncio.to_thread(chunks, text, size, overlap)
        await self._replace(name, fingerprint, pieces)
        self._summary.indexed += 1
        self._summary.chunks += len(pieces)
        self._report(f"{name}: {len(pieces)} chunks")
        return name

    def _fail(self, path: Path, reason: str) -> None:
        name = path.relative_to(self._root).as_posix()
        shown = "".join(char if char.isprintable() else "\ufffd" for char in name)
        self._summary.failed.append((shown, reason))
        self._report(f"{shown} is left out. {reason}")

    def _fingerprint(self, text: str) -> str:
        """Another content, another way of cutting or another embedding: another fingerprint."""
        rag = self._rag
        recipe = [_RECIPE, rag.chunk_size, rag.chunk_overlap, rag.embedding_model]
        return sha256(f"{json.dumps(recipe)}\n{text}".encode()).hexdigest()

    async def _replace(self, name: str, fingerprint: str, pieces: list[Chunk]) -> None:
        vectors: list[str] = []
        for start in range(0, len(pieces), _BATCH_TEXTS):
            batch = [piece.text for piece in pieces[start : start + _BATCH_TEXTS]]
            vectors += map(str, await self._embedder.embed(batch))
        rows = [
            {
                "filename": name,
                "content": piece.text,
                "chunk_index": piece.index,
                "total_chunks": len(pieces),
                "embedding": vector,
                "file_hash": fingerprint,
                "metadata": json.dumps(_metadata(name, piece)),
            }
            for piece, vector in zip(pieces, vectors, strict=True)
        ]
        async with self._engine.begin() as connection:
            await connection.exec_driver_sql(_SQL["delete_document"], {"filename": name})
            await connection.exec_driver_sql(_SQL["insert_chunk"], rows)

    async def _remove(self, names: list[str]) -> None:
        async with self._engine.begin() as connection:
            for name in names:
                await connection.exec_driver_sql(_SQL["delete_document"], {"filename": name})
        self._summary.removed = len(names)


def _metadata(name: str, piece: Chunk) -> dict[str, object]:
    return {
        "file_type": Path(name).suffix.lower().removeprefix("."),
        "heading": piece.heading,
        "in_code": piece.in_code,
    }
