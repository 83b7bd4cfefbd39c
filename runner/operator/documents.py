"""The documents: what is known of each, put into their folder and taken out of it, searched.

The indexer watches the folder and does the rest (`runner.indexing`).
"""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import AwareDatetime, StringConstraints

from runner.config import RAG
from runner.errors import ServiceError
from runner.indexing import Indexing
from runner.operator.archive import Archive
from runner.operator.routes import Actor, Done, Given, Plain, Refused, Route, Shown, Upload
from runner.rag.documents import PARSED, TEXT, DocumentError, document_name, documents, largest
from runner.rag.search import Search

_PIECE_BYTES = 256 * 1024
_UPLOAD_S = 300.0
_LISTED = 5000

_MALFORMED = (ValueError, AssertionError, HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises of a form that is none, or ends in the middle."""

Filename = Annotated[Plain, StringConstraints(min_length=1, max_length=500)]


class Name(Given):
    """Of a document: its path below the folder."""

    filename: Filename


class Question(Given):
    """``filename``: only in documents whose names hold it."""

    query: Annotated[Plain, StringConstraints(min_length=1, max_length=1000)]
    filename: Annotated[Plain, StringConstraints(max_length=500)] = ""


class Progress(Shown):
    """How far the indexer is."""

    done: int
    total: int
    chunks: int


class Document(Shown):
    """A file of the folder. ``waiting``: it is not indexed yet."""

    filename: str
    status: Literal["indexed", "waiting", "failed"]
    chunks: int
    bytes: int
    modified_at: AwareDatetime
    indexed_at: AwareDatetime | None
    reason: str | None


class Library(Shown):
    """The folder and its documents. ``error``: why nothing is indexed now. ``writable``: whether
    files may be put into the folder and taken out of it."""

    folder: str
    indexing: bool
    error: str | None
    progress: Progress
    formats: list[str]
    max_bytes: int
    writable: bool
    files: list[Document]


class Passage(Shown):
    """A chunk that was found. ``similarity``: the cosine with the question; ``score``: what the
    hits are ordered by."""

    filename: str
    chunk_index: int
    heading: str | None
    page: int | None
    content: str
    similarity: float
    score: float


class Hits(Shown):
    """What an LLM would be given, the best first."""

    hits: list[Passage]
    took_s: float


class Documents:
    """Those of ``rag.docs_dir``."""

    def __init__(self, rag: RAG, indexing: Indexing, archive: Archive, search: Search) -> None:
        self._rag = rag
        self._indexing = indexing
        self._archive = archive
        self._search = search
        self._seen: dict[str, Any] = {}

    def routes(self) -> list[Route]:
        """What is served of them."""
        gone = {404: "There is no such document."}
        put = {
            400: "The form has no file.",
            409: "A document has that name already, or the folder cannot be written.",
        }
        return [
            Route("GET", "/api/documents", self.all),
            Route("POST", "/api/documents", self.add, put),
            Route("POST", "/api/documents/{filename:.+}/reindex", self.index_again, gone),
            Route("DELETE", "/api/documents/{filename:.+}", self.remove, gone),
            Route("GET", "/api/search", self.find),
        ]

    async def all(self) -> Library:
        """The folder, and each of its documents."""
        state = self._indexing.state()
        found = await asyncio.to_thread(self._files)
        indexed, failed = await self._archive.indexed(), await self._archive.failed()
        return Library(
            folder=str(state["folder"]),
            indexing=bool(state["indexing"]),
            error=state["error"],
            progress=Progress(**state["progress"]),
            formats=sorted(TEXT | PARSED),
            max_bytes=largest(".pdf"),
            writable=os.access(self._indexing.folder, os.W_OK),
            files=[_document(name, path, indexed, failed) for name, path in found.items()],
        )

    async def if_changed(self) -> Library | None:
        """The same; None: the indexer has told nothing new since it was asked last."""
        state = self._indexing.state()
        if state == self._seen:
            return None
        self._seen = state
        return await self.all()

    async def add(self, upload: Upload, by: Actor) -> Done:
        """Put a document into the folder."""
        part = await _file_of(upload.request)
        path = self._place(part.filename or "")
        await self._archive.note(by, "add the document", path.name)
        draft = path.with_name(f".{uuid4()}.part")  # hidden: the indexer leaves it alone
        try:
            async with asyncio.timeout(_UPLOAD_S):
                await _receive(part, draft, largest(path.suffix.lower()))
            await asyncio.to_thread(os.link, draft, path)  # never over another document
        except TimeoutError:
            raise Refused(408, "The file did not come in time.") from None
        except _MALFORMED:
            raise Refused(400, "The file did not come whole. Send it again.") from None
        except FileExistsError:
            raise Refused(409, _taken(path.name)) from None
        except OSError as error:
            raise ServiceError(_unwritable(path.parent, error)) from None
        finally:
            with suppress(OSError):
                await asyncio.to_thread(draft.unlink, missing_ok=True)
        return Done(done=f"{path.name} is there, and is being indexed.")

    async def remove(self, place: Name, by: Actor) -> Done:
        """Take a document out of the folder, for good."""
        path = await self._path(place.filename)
        await self._archive.note(
            by, "remove the document", place.filename, {"bytes": path.stat().st_size}
        )
        try:
            await asyncio.to_thread(path.unlink)
        except OSError as error:
            raise ServiceError(_unwritable(path.parent, error)) from None
        return Done(done=f"{place.filename} is gone.")

    async def index_again(self, place: Name, by: Actor) -> Done:
        """Read a document anew; until that is done it is found as it was."""
        path = await self._path(place.filename)
        await self._archive.note(by, "index again", place.filename)
        await self._archive.index_again(place.filename)
        try:
            await asyncio.to_thread(os.utime, path)  # the indexer sees that something happened
        except OSError as error:
            raise ServiceError(_unwritable(path.parent, error)) from None
        return Done(done=f"{place.filename} is being indexed again.")

    async def find(self, query: Question) -> Hits:
        """Search as a call does."""
        began = time.perf_counter()
        hits = await self._search(query.query, query.filename)
        took_s = round(time.perf_counter() - began, 4)
        return Hits(hits=[Passage(**asdict(hit)) for hit in hits], took_s=took_s)

    def _files(self) -> dict[str, Path]:
        """The documents of the folder by name; those whose names cannot be shown are left out."""
        found: dict[str, Path] = {}
        if not self._indexing.folder.is_dir():
            return found
        for path in documents(self._indexing.folder, self._rag.exclude):
            with suppress(DocumentError):
                found[document_name(path, self._indexing.folder)] = path
            if len(found) >= _LISTED:
                break
        return found

    async def _path(self, name: str) -> Path:
        """Of a document that is listed: no other file can be named."""
        files = await asyncio.to_thread(self._files)
        if name not in files:
            raise Refused(404, "There is no such document.")
        return files[name]

    def _place(self, name: str) -> Path:
        """Where a file of that name goes.

        Raises:
            Refused: it is no name of a document.
        """
        folder = self._indexing.folder
        path = Path(name)
        if not name.isprintable() or path.name != name or name.startswith((".", "~$")):
            raise Refused(422, "The file's name is none that a document can have. Rename it.")
        if "\\" in name or len(name.encode()) > 200:
            raise Refused(422, "The file's name is too long, or holds a backslash. Rename it.")
        if path.suffix.lower() not in TEXT | PARSED:
            known = ", ".join(sorted(TEXT | PARSED))
            raise Refused(422, f"Files of that format are not indexed; these are: {known}.")
        if (folder / name).exists():
            raise Refused(409, _taken(name))
        return folder / name


def _document(name: str, path: Path, indexed: dict[str, Any], failed: dict[str, str]) -> Document:
    try:
        state = path.stat()
        size, modified = state.st_size, state.st_mtime
    except OSError:  # it went this moment
        size, modified = 0, 0.0
    row = indexed.get(name)
    reason = failed.get(name)
    return Document(
        filename=name,
        status="failed" if reason else "indexed" if row else "waiting",
        chunks=row["chunks"] if row else 0,
        bytes=size,
        modified_at=datetime.fromtimestamp(modified, UTC),
        indexed_at=row["indexed_at"] if row else None,
        reason=reason,
    )


async def _file_of(request: web.Request) -> BodyPartReader:
    if request.content_type != "multipart/form-data":
        raise Refused(415, "Send the file as multipart/form-data, in the field file.")
    try:
        async for part in await request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "file" and part.filename:
                return part
    except _MALFORMED:
        pass  # told below
    raise Refused(400, "The form has no file in its field file.")


async def _receive(part: BodyPartReader, draft: Path, most: int) -> None:
    received = 0
    with draft.open("xb") as file:
        while piece := await part.read_chunk(_PIECE_BYTES):
            received += len(piece)
            if received > most:
                raise Refused(413, f"It is larger than {most // 1_000_000} MB. Split it.")
            await asyncio.to_thread(file.write, piece)


def _taken(name: str) -> str:
    return f"There is a document {name} already. Remove it first, or rename the file."


def _unwritable(folder: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"The documents folder {folder} cannot be changed: {reason}. Mend its permissions."
