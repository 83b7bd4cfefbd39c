"""A folder of documents that is watched: what comes, changes, moves and goes; bad files; and the
indexer's process beside the calls."""

import asyncio
import json
import os
import re
import signal
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import RAG, Config, Database
from runner.errors import ProviderError, RunnerError
from runner.indexing import Indexing
from runner.rag.embedding import Embedder
from runner.rag.index import Indexer, Listener, Progress, Summary
from runner.rag.watch import watch
from tests.composed import composed
from tests.integration import samples

PATIENCE_S = 40.0  # a test that waits longer has failed
SETTLE_S = 0.3


def vector(text: str) -> list[float]:
    """384 numbers by the words of ``text``; never all zero."""
    numbers = [0.0] * 384
    for word in re.findall(r"\w+", text.casefold()) or ["nothing"]:
        numbers[zlib.crc32(word.encode()) % 384] += 1
    return numbers


class Words:
    """Embeds by words, and remembers which texts it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        return [vector(text) for text in texts]

    async def aclose(self) -> None: ...


@pytest.fixture
def words() -> Words:
    return Words()


def rag(**changes: object) -> RAG:
    return composed(*(f"{k}={v}" for k, v in changes.items())).rag


@dataclass
class Folder:
    """Documents on disk, who indexes them, and what was heard of it."""

    root: Path
    engine: AsyncEngine
    words: Words
    settings: RAG
    lines: list[str] = field(default_factory=list)
    far: list[Progress] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def indexer(self, settle_s: float = 0.0) -> Indexer:
        listener = Listener(self.lines.append, self.far.append)
        return Indexer(self.engine, self.words, self.settings, self.root, listener, settle_s)

    async def index(self) -> Summary:
        indexer = self.indexer()
        try:
            return await indexer.run()
        finally:
            await indexer.aclose()


@pytest.fixture
def folder(engine: AsyncEngine, words: Words, tmp_path: Path) -> Folder:
    root = tmp_path / "docs"
    root.mkdir()
    return Folder(root, engine, words, rag(**{"rag.exclude": '[drafts/,"*.log"]'}))


def stored(superuser: psycopg.Connection) -> dict[str, str]:
    """The text of each document in the database."""
    rows = superuser.execute(
        "SELECT filename, string_agg(content, '|' ORDER BY chunk_index) FROM rag_documents"
        " GROUP BY 1"
    )
    return dict(rows.fetchall())


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  (a database and a folder send no event)
            await asyncio.sleep(0.02)


async def test_a_renamed_or_copied_document_is_not_embedded_again(
    folder: Folder, words: Words, superuser: psycopg.Connection
) -> None:
    folder.write("a.md", "apples")
    await folder.index()
    (folder.root / "a.md").rename(folder.root / "b.md")
    folder.write("sub/c.md", "apples")
    summary = await folder.index()
    assert stored(superuser) == {"b.md": "apples", "sub/c.md": "apples"}
    assert (summary.indexed, summary.removed, summary.chunks) == (2, 1, 0)
    assert words.texts == ["apples"]


async def test_what_is_excluded_is_not_there_and_what_becomes_so_is_forgotten(
    folder: Folder, superuser: psycopg.Connection
) -> None:
    for name in ("a.md", "drafts/b.md", "c.log", "~$d.docx", ".e.md"):
        folder.write(name, "text")
    await folder.index()
    assert stored(superuser) == {"a.md": "text"}
    folder.settings = rag(**{"rag.exclude": "[a.md]"})
    await folder.index()
    assert set(stored(superuser)) == {"c.log", "drafts/b.md"}


async def test_a_bad_file_is_told_again_but_not_tried_again_until_it_changes(
    folder: Folder, superuser: psycopg.Connection
) -> None:
    bad = folder.write("a.html", "")
    folder.write("b.md", "bananas")
    first = await folder.index()
    assert first.failed == [("a.html", "It is empty; save it again or remove it.")]

    indexer = folder.indexer()
    second = await indexer.run()
    assert second.failed == first.failed
    assert indexer._parser._process is None
    bad.write_text("<p>apples</p>")
    third = await indexer.run()
    await indexer.aclose()
    assert (third.failed, third.indexed) == ([], 1)
    assert stored(superuser) == {"a.html": "apples", "b.md": "bananas"}
    assert superuser.execute(
        "SELECT count(*) FROM system_config WHERE key LIKE 'rag_failed:%'"
    ).fetchone() == (0,)


async def test_formats_pages_and_properties_reach_the_rows(
    folder: Folder, superuser: psycopg.Connection
) -> None:
    samples.pdf(folder.root / "a.pdf", "The pump is loud.", "The valve is quiet. " * 60)
    samples.docx(folder.root / "b.docx", "The boiler holds forty litres.")
    folder.write("c.json", '{"# not": "a heading"}')
    assert (await folder.index()).failed == []
    rows = superuser.execute(
        "SELECT filename, metadata FROM rag_documents ORDER BY filename, chunk_index"
    ).fetchall()
    pages = [(row[1]["page"], row[1]["last_page"]) for row in rows if row[0] == "a.pdf"]
    assert pages[0] == (1, 2)
    assert pages[-1] == (2, 2)
    found = dict(rows)
    assert found["a.pdf"]["title"] == "The pump"
    assert found["a.pdf"]["extraction"] == "text only"
    assert found["b.docx"]["authors"] == ["Ann Author", "Bob Builder"]
    assert found["b.docx"]["heading"] == "Upkeep"
    assert found["c.json"] == {"file_type": "json", "heading": None, "in_code": False}


async def test_vectors_of_a_wrong_dimension_are_refused_before_the_first_row(
    folder: Folder, superuser: psycopg.Connection
) -> None:
    async with serving(lambda texts: [[0.5] * 1024 for _ in texts]) as url:
        folder.write("a.md", "apples")
        folder.words = Embedder(url, "large")  # type: ignore[assignment]
        with pytest.raises(ProviderError, match=r"1024 numbers.*rag\.embedding_model"):
            await folder.index()
        await folder.words.aclose()
    assert stored(superuser) == {}


async def test_progress_counts_files_and_chunks(folder: Folder) -> None:
    for at in range(5):
        folder.write(f"{at}.md", f"text {at}")
    await folder.index()
    assert [far.done for far in folder.far] == [0, 1, 2, 3, 4, 5]
    assert {far.total for far in folder.far} == {5}
    assert folder.far[-1].chunks == 5


async def test_chunks_of_several_files_are_embedded_together(folder: Folder) -> None:
    batches: list[int] = []

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        batches.append(len(texts))
        await asyncio.sleep(0.01)
        return [vector(text) for text in texts]

    folder.words.embed = embed  # type: ignore[method-assign]
    for at in range(20):
        folder.write(f"{at:02}.md", f"text {at}")
    assert (await folder.index()).chunks == 20
    assert sum(batches) == 20
    assert 1 < max(batches) <= 16


@asynccontextmanager
async def watching(
    folder: Folder, hear: Callable[[Summary | RunnerError], None]
) -> AsyncIterator[None]:
    """A watch over ``folder``; ``hear`` is told how each look of it went."""
    indexer = folder.indexer(SETTLE_S)
    task = asyncio.create_task(watch(indexer, folder.root, hear))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await indexer.aclose()
        assert task.cancelled()


async def test_the_watch_follows_what_comes_changes_moves_and_goes(
    folder: Folder, words: Words, superuser: psycopg.Connection
) -> None:
    folder.write("a.md", "apples")
    told: list[Summary | RunnerError] = []
    async with watching(folder, told.append):
        await until(lambda: stored(superuser) == {"a.md": "apples"})
        folder.write("sub/b.md", "bananas")
        await until(lambda: "sub/b.md" in stored(superuser))
        folder.write("a.md", "pears")
        await until(lambda: stored(superuser)["a.md"] == "pears")
        (folder.root / "sub").rename(folder.root / "moved")
        await until(lambda: stored(superuser) == {"a.md": "pears", "moved/b.md": "bananas"})
        (folder.root / "a.md").unlink()
        await until(lambda: stored(superuser) == {"moved/b.md": "bananas"})
    assert words.texts == ["apples", "bananas", "pears"]
    assert all(isinstance(outcome, Summary) for outcome in told)


async def test_a_file_that_is_still_being_written_waits(
    folder: Folder, words: Words, superuser: psycopg.Connection
) -> None:
    folder.settings = rag()
    told: list[Summary | RunnerError] = []
    async with watching(folder, told.append):
        await until(lambda: told)
        with (folder.root / "a.log").open("w") as file:
            for at in range(30):
                file.write(f"line {at}\n")
                file.flush()
                os.utime(file.fileno(), (0, 0))  # as a copy that keeps the times
                await asyncio.sleep(SETTLE_S / 6)
        await until(lambda: "a.log" in stored(superuser))
    assert len(words.texts) == 1
    assert "line 29" in words.texts[0]


async def test_a_folder_that_goes_is_an_error_and_one_that_comes_back_is_indexed(
    folder: Folder, superuser: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.rag.watch._RETRY_S", 0.1)
    folder.write("a.md", "apples")
    elsewhere = folder.root.with_name("elsewhere")
    told: list[Summary | RunnerError] = []
    async with watching(folder, told.append):
        await until(lambda: stored(superuser))
        folder.root.rename(elsewhere)
        await until(lambda: isinstance(told[-1], RunnerError))
        assert "is missing" in str(told[-1])
        assert stored(superuser) == {"a.md": "apples"}
        (elsewhere / "b.md").write_text("bananas")
        elsewhere.rename(folder.root)
        await until(lambda: set(stored(superuser)) == {"a.md", "b.md"})
        folder.write("c.md", "cherries")
        await until(lambda: "c.md" in stored(superuser))


async def test_a_folder_that_goes_right_after_a_look_is_missed_at_once(folder: Folder) -> None:
    told: list[Summary | RunnerError] = []

    def hear(what: Summary | RunnerError) -> None:
        told.append(what)
        if isinstance(what, Summary):
            folder.root.rename(folder.root.with_name("elsewhere"))

    async with watching(folder, hear):
        await until(lambda: told and isinstance(told[-1], RunnerError))


@asynccontextmanager
async def serving(embed: Callable[[list[str]], list[list[float]]]) -> AsyncIterator[str]:
    """An OpenAI-shaped embedding server; its base URL."""

    async def embeddings(request: web.Request) -> web.Response:
        vectors = embed((await request.json())["input"])
        data = [{"index": at, "embedding": numbers} for at, numbers in enumerate(vectors)]
        return web.json_response({"data": data})

    application = web.Application(client_max_size=2**24)
    application.router.add_post("/v1/embeddings", embeddings)
    server = web.AppRunner(application, shutdown_timeout=0)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    host, port = server.addresses[0][:2]
    yield f"http://{host}:{port}/v1"
    await server.cleanup()


@pytest.fixture
async def settings(database: Database, folder: Folder) -> AsyncIterator[Config]:
    """A whole configuration for ``folder`` and a database of the test's own."""
    async with serving(lambda texts: [vector(text) for text in texts]) as url:
        overrides = [
            f"rag.docs_dir={folder.root}",
            f"rag.embedding_url={url}",
            f"database.name={database.name}",
        ]
        yield composed(*overrides)


@asynccontextmanager
async def indexing(
    settings: Config, postgres_socket: str
) -> AsyncIterator[tuple[Indexing, list[str]]]:
    lines: list[str] = []
    running = Indexing(settings, postgres_socket, lambda _, line: lines.append(line))
    running.start()
    try:
        yield running, lines
    finally:
        await running.stop()


def indexers(root: Path) -> list[psutil.Process]:
    """The children of this process that index ``root``."""
    children = psutil.Process().children()
    return [child for child in children if str(root) in " ".join(child.cmdline())]


async def test_a_process_beside_the_calls_keeps_the_documents_known(
    folder: Folder, settings: Config, postgres_socket: str, superuser: psycopg.Connection
) -> None:
    folder.write("a.md", "apples")
    folder.write("b.txt", "")
    async with indexing(settings, postgres_socket) as (running, lines):
        await running.looked(PATIENCE_S)
        await until(lambda: running.state()["documents"] == 1)  # it may have been written just now
        assert stored(superuser) == {"a.md": "apples"}
        state = json.loads(json.dumps(running.state()))
        assert (state["documents"], state["error"]) == (1, None)
        assert state["failed"][0]["name"] == "b.txt"
        assert state["progress"] == {"done": 2, "total": 2, "chunks": 1}
        assert lines[-1] == f"ready, 1 in {folder.root}"
        folder.write("c.md", "cherries")
        await until(lambda: "c.md" in stored(superuser))
        [indexer] = indexers(folder.root)
    assert not indexer.is_running()


async def test_an_indexer_that_was_killed_is_started_again(
    folder: Folder, settings: Config, postgres_socket: str, superuser: psycopg.Connection
) -> None:
    async with indexing(settings, postgres_socket) as (running, _):
        await running.looked(PATIENCE_S)
        [indexer] = indexers(folder.root)
        indexer.send_signal(signal.SIGKILL)
        await until(lambda: running.state()["error"])
        folder.write("a.md", "apples")
        await until(lambda: stored(superuser))
        await until(lambda: running.state()["error"] is None)


async def test_a_missing_folder_does_not_keep_the_calls_waiting(
    folder: Folder, settings: Config, postgres_socket: str
) -> None:
    folder.root.rmdir()
    async with indexing(settings, postgres_socket) as (running, _):
        await running.looked(PATIENCE_S)
        assert "is missing" in str(running.state()["error"])
