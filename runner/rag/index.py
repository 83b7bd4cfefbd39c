"""The documents folder brought into ``rag_documents``: what is new or changed, and only that."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import RAG
from runner.errors import DatabaseError, RunnerError
from runner.rag.batches import Batches
from runner.rag.chunks import Chunk, amount, chunks
from runner.rag.documents import PARSED, DocumentError, document_name, documents, read
from runner.rag.embedding import Embeds
from runner.rag.parsed import Page, Parsed
from runner.rag.parser import Limits, Parser
from runner.rag.shelf import Entry, Failure, Shelf, turn
from runner.rag.stamps import Stamps
from runner.rag.vector_index import ensure_vector_index

_RECIPE = 2  # of chunks and metadata; another number and everything is indexed again
_AT_ONCE = 6  # files: while some are embedded, the next is read
_MARKDOWN = {".md", ".txt", *PARSED}
_UNSTORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Progress:
    """How far an indexing is: ``done`` of ``total`` files; ``chunks`` were embedded."""

    done: int = 0
    total: int = 0
    chunks: int = 0


@dataclass
class Summary:
    """What an indexing did. ``indexed``, ``unchanged``, ``removed`` count documents, ``chunks``
    those that were embedded; ``waiting`` counts files that are still being written; ``failed``
    holds names with their reasons.
    """

    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    waiting: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Listener:
    """Who is told: ``line`` in words, ``progress`` in numbers."""

    line: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None


async def index(
    engine: AsyncEngine,
    embedder: Embeds,
    rag: RAG,
    root: Path,
    report: Callable[[str], None],
    progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Make ``rag_documents`` hold what can be read below ``root``, once. See `Indexer.run`."""
    indexer = Indexer(engine, embedder, rag, root, Listener(report, progress))
    try:
        return await indexer.run()
    finally:
        await indexer.aclose()


class Indexer:
    """Indexes one folder, as often as it is asked to.

    ``settle_s``: a file that changed less than so long ago waits for the next run.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        embedder: Embeds,
        rag: RAG,
        root: Path,
        listener: Listener,
        settle_s: float = 0.0,
    ) -> None:
        self._engine = engine
        self._batches = Batches(embedder)
        self._rag = rag
        self._root = root
        self._listener = listener
        limits = Limits(rag.parser_timeout_s, rag.parser_memory_mb)
        self._parser = Parser(limits, rag.docling_models)
        self._first = True
        self._stamps = Stamps(lambda suffix: _recipe(rag, suffix), settle_s)

    async def run(self) -> Summary:
        """Make ``rag_documents`` hold what can be read below the folder, and nothing else.

        A file's chunks are replaced in one transaction. A file that cannot be read is told,
        recorded and left out until it changes, the others go in. Runners take turns.

        Raises:
            RunnerError: the folder is missing; nothing is forgotten.
            ProviderError: the embedding server does not serve; what was done until then stays.
            DatabaseError: the database does not.
        """
        began = time.monotonic()
        if not await asyncio.to_thread(self._root.is_dir):
            raise RunnerError(
                f"The documents folder {self._root} is missing. Create it, or set rag.docs_dir."
            )
        try:
            async with turn(self._engine, self._listener.line):
                summary = await self._run()
                if self._first or summary.indexed or summary.removed:
                    await ensure_vector_index(self._engine, self._rag, self._listener.line)
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            raise DatabaseError(f"The documents could not be indexed: {reason}") from error
        self._first = False
        summary.seconds = time.monotonic() - began
        return summary

    async def aclose(self) -> None:
        """End the parser."""
        await self._parser.aclose()

    async def _run(self) -> Summary:
        shelf = Shelf(self._engine)
        paths = await asyncio.to_thread(lambda: list(documents(self._root, self._rag.exclude)))
        self._stamps.keep(paths)
        run = _Run(shelf, await shelf.documents(), await shelf.failures(), len(paths))
        self._listener.progress(run.progress)
        await _each(paths, lambda path: self._file(path, run))
        gone = (run.known.keys() | run.failures.keys()) - run.seen
        await shelf.remove(sorted(gone))
        run.summary.removed = len(gone & run.known.keys())
        run.summary.failed.sort()
        if not paths and self._first:
            self._listener.line(f"The documents folder {self._root} holds no file to index.")
        return run.summary

    async def _file(self, path: Path, run: "_Run") -> None:
        try:
            name = document_name(path, self._root)
        except DocumentError as error:
            run.fail(path.relative_to(self._root).as_posix(), str(error))
        else:
            run.seen.add(name)
            await self._document(path, name, run)
        run.progress = replace(run.progress, done=run.progress.done + 1, chunks=run.summary.chunks)
        self._listener.progress(run.progress)

    async def _document(self, path: Path, name: str, run: "_Run") -> None:
        try:
            content = await self._stamps.fingerprint(path)
        except DocumentError as error:
            await self._fail(run, name, Failure("", str(error)))  # tried again next time
            return
        failure = run.failures.get(name)
        if content is None:
            run.summary.waiting += 1
        elif run.known.get(name) == content:
            run.summary.unchanged += 1
        elif failure and failure.file_hash == content:
            run.fail(name, failure.reason)
        else:
            try:
                await self._replace(path, name, content, run)
            except DocumentError as error:
                await self._fail(run, name, Failure(content, str(error)))

    async def _replace(self, path: Path, name: str, content: str, run: "_Run") -> None:
        source = run.names.get(content)
        if source and await run.shelf.copy(source, name, content):
            pieces = 0
        else:
            entries = await self._entries(path)
            if self._stamps.changed(path):
                run.summary.waiting += 1
                return
            await run.shelf.replace(name, content, entries)
            pieces = len(entries)
        run.names[content] = name
        run.summary.indexed += 1
        run.summary.chunks += pieces
        self._listener.line(f"{name}: {amount(pieces)}" if pieces else f"{name}: as {source}")

    async def _entries(self, path: Path) -> list[Entry]:
        """A file read, cut and embedded."""
        suffix = path.suffix.lower()
        if suffix in PARSED:
            parsed = await self._parser.parse(path)
        else:
            parsed = Parsed([Page(None, await asyncio.to_thread(read, path))])
        pieces = await asyncio.to_thread(_pieces, parsed, suffix, self._rag)
        if not pieces:
            raise DocumentError("It holds no text; write something into it or remove it.")
        vectors = await self._batches.embed([piece.text for piece in pieces])
        return [
            Entry(piece.text, vector, _metadata(suffix, piece) | parsed.metadata)
            for piece, vector in zip(pieces, vectors, strict=True)
        ]

    async def _fail(self, run: "_Run", name: str, failure: Failure) -> None:
        if run.known.get(name) or run.failures.get(name) != failure:
            await run.shelf.fail(name, failure)
        run.fail(name, failure.reason)
        self._listener.line(f"{name} is left out. {failure.reason}")


@dataclass
class _Run:
    """One run over the folder; ``known`` and ``failures`` are what the database held before."""

    shelf: Shelf
    known: dict[str, str]
    failures: dict[str, Failure]
    total: int
    seen: set[str] = field(default_factory=set)
    summary: Summary = field(default_factory=Summary)

    def __post_init__(self) -> None:
        self.progress = Progress(total=self.total)
        self.names = {content: name for name, content in self.known.items()}

    def fail(self, name: str, reason: str) -> None:
        """A file was left out. Its name may hold anything."""
        shown = "".join(char if char.isprintable() else "\ufffd" for char in name)
        self.summary.failed.append((shown, reason))


async def _each(paths: Iterable[Path], work: Callable[[Path], Coroutine[None, None, None]]) -> None:
    """Do ``work`` on all of them, a few at once; the first error ends it."""
    left = iter(paths)

    async def worker() -> None:
        for path in left:
            await work(path)

    workers = [asyncio.create_task(worker()) for _ in range(_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _recipe(rag: RAG, suffix: str) -> str:
    """Another way of cutting, reading or embedding makes other chunks of the same file."""
    reading = rag.docling_models if suffix == ".pdf" else ""
    embedding = [rag.embedder, rag.embedding_model]
    return json.dumps([_RECIPE, rag.chunk_size, rag.chunk_overlap, *embedding, reading])


def _pieces(parsed: Parsed, suffix: str, rag: RAG) -> list[Chunk]:
    text = ""
    starts = []
    for page in parsed.pages:
        clean = _UNSTORABLE.sub("", page.text)
        if page.number is not None:
            starts.append((len(text), page.number))
        text += f"{clean}\n\n" if len(parsed.pages) > 1 else clean
    return chunks(
        text.rstrip() if suffix in PARSED else text,
        rag.chunk_size,
        rag.chunk_overlap,
        markdown=suffix in _MARKDOWN,
        pages=starts,
    )


def _metadata(suffix: str, piece: Chunk) -> dict[str, object]:
    found: dict[str, object] = {
        "file_type": suffix.removeprefix("."),
        "heading": piece.heading,
        "in_code": piece.in_code,
    }
    if piece.page is not None:
        found |= {"page": piece.page, "last_page": piece.last_page}
    return found
