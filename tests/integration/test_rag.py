"""Documents in a real Postgres: indexed once, replaced, removed, found again.

Embeddings come from a server of the test's own, by the words of a text.
"""

import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from runner.config import RAG
from runner.errors import DatabaseError, ProviderError, RunnerError
from runner.rag.embedding import Embedder
from runner.rag.index import Summary, index
from runner.rag.search import Search

PATIENCE_S = 20.0  # a test that waits longer has failed


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


def vector(text: str) -> list[float]:
    """384 numbers by the words of ``text``; never all zero."""
    numbers = [0.0] * 384
    for word in re.findall(r"\w+", text.casefold()) or ["nothing"]:
        numbers[zlib.crc32(word.encode()) % 384] += 1
    return numbers


class Server:
    """An OpenAI-shaped embedding server that counts, and misbehaves when told to."""

    def __init__(self) -> None:
        self.url = ""
        self.batches: list[list[str]] = []
        self.answer: Callable[[list[str]], web.Response] = self._embeddings
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["model"] == "all-MiniLM-L6-v2"
        self.batches.append(body["input"])
        self.asked.set()
        await self.open.wait()
        return self.answer(body["input"])

    @staticmethod
    def _embeddings(texts: list[str]) -> web.Response:
        items = [{"index": at, "embedding": vector(text)} for at, text in enumerate(texts)]
        return web.json_response({"object": "list", "data": items[::-1]})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/v1/embeddings", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/v1"
    yield server
    server.open.set()
    await runner.cleanup()


@pytest.fixture
async def embedder(server: Server) -> AsyncIterator[Embedder]:
    embedder = Embedder(server.url, "all-MiniLM-L6-v2")
    yield embedder
    await embedder.aclose()


@pytest.fixture
def rag(server: Server) -> RAG:
    return RAG(
        enabled=True,
        docs_dir="docs",
        chunk_size=100,
        chunk_overlap=20,
        top_k=3,
        deadline_ms=50,
        min_similarity=0.1,
        embedding_url=server.url,
        embedding_model="all-MiniLM-L6-v2",
    )


class Library:
    """A folder of documents, and what indexing it reported."""

    def __init__(self, engine: AsyncEngine, embedder: Embedder, rag: RAG, folder: Path) -> None:
        self.folder = folder
        self.reports: list[str] = []
        self.reported = asyncio.Event()
        self._engine = engine
        self._embedder = embedder
        self._rag = rag

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def index(self, **changes: object) -> Summary:
        rag = replace(self._rag, **changes)  # type: ignore[arg-type]
        return await index(self._engine, self._embedder, rag, self.folder, self._report)

    def _report(self, line: str) -> None:
        self.reports.append(line)
        self.reported.set()


@pytest.fixture
def library(engine: AsyncEngine, embedder: Embedder, rag: RAG, tmp_path: Path) -> Library:
    folder = tmp_path / "docs"
    folder.mkdir()
    return Library(engine, embedder, rag, folder)


@pytest.fixture
def search(engine: AsyncEngine, embedder: Embedder, rag: RAG) -> Search:
    return Search(engine, embedder, rag)


def stored(superuser: psycopg.Connection) -> dict[str, list[str]]:
    """The chunks of each document in the database, in order."""
    rows = superuser.execute(
        "SELECT filename, array_agg(content ORDER BY chunk_index) FROM rag_documents GROUP BY 1"
    )
    return dict(rows.fetchall())


async def test_documents_become_rows_with_all_that_a_citation_needs(
    library: Library, superuser: psycopg.Connection
) -> None:
    text = "# Ports\n\n" + "The page is on port 3000. " * 10
    library.write("guides/ports.md", text)
    summary = await library.index()

    rows = superuser.execute(
        "SELECT filename, content, chunk_index, total_chunks, vector_dims(embedding),"
        " length(file_hash), metadata FROM rag_documents ORDER BY chunk_index"
    ).fetchall()
    assert [row[1] for row in rows] == [text[at : at + 100] for at in (0, 80, 160, 240)]
    assert {row[0] for row in rows} == {"guides/ports.md"}
    assert [row[2:6] for row in rows] == [(at, 4, 384, 64) for at in range(4)]
    assert rows[3][6] == {"file_type": "md", "heading": "Ports", "in_code": False}
    assert (summary.indexed, summary.chunks, summary.failed) == (1, 4, [])
    assert library.reports == ["guides/ports.md: 4 chunks"]


async def test_an_unchanged_document_is_not_embedded_again(
    library: Library, server: Server
) -> None:
    library.write("a.md", "apples " * 30)
    await library.index()
    embedded = len(server.texts)
    (library.folder / "a.md").touch()
    summary = await library.index()
    assert (summary.unchanged, summary.indexed, summary.chunks) == (1, 0, 0)
    assert len(server.texts) == embedded > 0


async def test_a_changed_document_is_replaced_whole(
    library: Library, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples " * 60)
    library.write("b.md", "pears")
    await library.index()
    library.write("a.md", "bananas")
    summary = await library.index()
    assert (summary.indexed, summary.unchanged) == (1, 1)
    assert stored(superuser) == {"a.md": ["bananas"], "b.md": ["pears"]}


async def test_a_removed_document_disappears(
    library: Library, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples")
    library.write("b.md", "bananas")
    await library.index()
    (library.folder / "a.md").unlink()
    assert (await library.index()).removed == 1
    assert stored(superuser) == {"b.md": ["bananas"]}


@pytest.mark.parametrize(
    "change", [{"chunk_size": 60}, {"chunk_overlap": 10}, {"embedding_model": "another"}]
)
async def test_another_cut_or_another_model_indexes_everything_again(
    library: Library, change: dict[str, object]
) -> None:
    library.write("a.md", "apples")
    await library.index()
    assert (await library.index(**change)).indexed == 1


async def test_a_bad_file_is_reported_and_the_others_go_in(
    library: Library, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples")
    (library.folder / "sub").mkdir()
    (library.folder / "sub" / "garbage.txt").write_bytes(b"\x00\x01\x02" * 99)
    library.write("new\nline.md", "a forged line of the log")
    library.write("z.md", "zebras")
    summary = await library.index()
    assert (summary.indexed, len(summary.failed)) == (2, 2)
    assert summary.failed[0][0] == "new\N{REPLACEMENT CHARACTER}line.md"
    assert summary.failed[1] == (
        "sub/garbage.txt",
        "It is not a text file; save it as UTF-8 text.",
    )
    assert "sub/garbage.txt is left out. It is not a text file; save it as UTF-8 text." in (
        library.reports
    )
    assert stored(superuser) == {"a.md": ["apples"], "z.md": ["zebras"]}


async def test_what_a_document_held_is_forgotten_when_it_becomes_unreadable(
    library: Library, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples")
    await library.index()
    (library.folder / "a.md").write_bytes(b"\x00" * 9)
    await library.index()
    assert stored(superuser) == {}


async def test_names_and_texts_are_stored_as_they_are(
    library: Library, superuser: psycopg.Connection
) -> None:
    text = "'; DROP TABLE rag_documents; -- %s %(filename)s :name $1 \\ {}"
    library.write("'; DROP TABLE %s.md", text)
    await library.index()
    assert stored(superuser) == {"'; DROP TABLE %s.md": [text]}


async def test_a_missing_folder_is_one_sentence_and_nothing_is_forgotten(
    library: Library, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples")
    await library.index()
    library.folder.rename(library.folder.with_name("elsewhere"))
    with pytest.raises(RunnerError, match=r"is missing.*rag\.docs_dir"):
        await library.index()
    assert stored(superuser) == {"a.md": ["apples"]}


async def test_an_empty_folder_is_one_sentence(library: Library) -> None:
    assert (await library.index()).indexed == 0
    [sentence] = library.reports
    assert sentence == f"The documents folder {library.folder} holds no file to index."


async def test_two_runners_take_turns_and_embed_each_document_once(
    library: Library, server: Server
) -> None:
    library.write("a.md", "apples")
    server.open.clear()
    first = asyncio.create_task(library.index())
    await soon(server.asked)
    second = asyncio.create_task(library.index())
    await soon(library.reported)
    assert library.reports == ["Another runner is indexing; waiting for it."]
    server.open.set()
    assert (await first).indexed == 1
    assert (await second).unchanged == 1
    assert server.texts == ["apples"]


async def test_a_runner_that_is_cancelled_lets_the_next_one_in(
    library: Library, server: Server
) -> None:
    library.write("a.md", "apples")
    server.open.clear()
    first = asyncio.create_task(library.index())
    await soon(server.asked)
    first.cancel()
    await asyncio.wait([first])
    server.open.set()
    assert (await library.index()).indexed == 1


async def test_without_the_embedding_server_the_old_chunks_stay(
    library: Library, server: Server, superuser: psycopg.Connection
) -> None:
    library.write("a.md", "apples")
    await library.index()
    library.write("a.md", "bananas")
    server.answer = lambda _: web.Response(status=503, text="too many requests")
    with pytest.raises(ProviderError, match=r"rag\.embedding_url.*503.*too many requests"):
        await library.index()
    assert stored(superuser) == {"a.md": ["apples"]}


async def test_without_the_table_there_is_a_sentence(
    library: Library, search: Search, superuser: psycopg.Connection
) -> None:
    superuser.execute("DROP TABLE rag_documents")
    with pytest.raises(DatabaseError, match=r"could not be indexed.*rag_documents"):
        await library.index()
    with pytest.raises(DatabaseError, match=r"could not be searched.*rag_documents"):
        await search("apples")


async def test_the_nearest_chunks_come_first_with_their_similarity(
    library: Library, search: Search
) -> None:
    library.write("fruit.md", "# Apples\n\napples grow")
    library.write("page.md", "the page has a port")
    library.write("port.md", "the port")
    await library.index()
    near, far = await search("the port")
    assert (near.filename, near.content, near.chunk_index) == ("port.md", "the port", 0)
    assert near.similarity == pytest.approx(1)
    assert far.filename == "page.md"
    assert far.similarity == pytest.approx(2 / (2 * 5) ** 0.5)
    [fruit] = await search("apples")
    assert (fruit.heading, fruit.in_code) == ("Apples", False)


async def test_an_llm_is_given_the_best_few_and_a_reader_more(
    library: Library, search: Search
) -> None:
    for at in range(40):
        library.write(f"{at}.md", f"port number{at}")
    library.write("z.md", "zebras")
    await library.index()
    assert len(await search("port")) == 3
    assert len(await search.candidates("port")) == 30
    assert await search("elephants") == []
    assert len(await search.candidates("elephants")) == 30


async def test_an_approximate_index_does_not_hide_the_nearest_chunk(
    library: Library, search: Search, superuser: psycopg.Connection
) -> None:
    superuser.execute(
        "CREATE INDEX ON rag_documents USING ivfflat (embedding vector_cosine_ops)"
        " WITH (lists = 100)"
    )
    library.write("words.txt", " ".join(f"word{at}" for at in range(3000)))
    await library.index()
    superuser.execute("ANALYZE rag_documents")
    for at in range(5, 3000, 299):
        question = f"word{at - 1} word{at} word{at + 1}"
        assert any(f"word{at} " in hit.content for hit in await search(question)), question


async def test_a_question_is_searched_once_however_often_it_is_asked(
    library: Library, search: Search, server: Server
) -> None:
    library.write("a.md", "apples")
    await library.index()
    server.batches.clear()
    hits = await asyncio.gather(*(search("apples?") for _ in range(5)), search(" apples? "))
    assert await search("apples?") == hits[0] == hits[5]
    assert server.batches == [["apples?"]]


async def test_a_caller_who_gives_up_leaves_the_search_to_the_next(
    library: Library, search: Search, server: Server
) -> None:
    library.write("a.md", "apples")
    await library.index()
    server.batches.clear()
    server.asked.clear()
    server.open.clear()
    hasty = asyncio.create_task(search("apples"))
    await soon(server.asked)
    hasty.cancel()
    await asyncio.wait([hasty])
    server.open.set()
    assert len(await search("apples")) == 1
    assert len(server.batches) == 1


async def test_a_search_that_failed_is_tried_again(
    library: Library, search: Search, server: Server
) -> None:
    library.write("a.md", "apples")
    await library.index()
    works = server.answer
    server.answer = lambda _: web.Response(status=500)
    with pytest.raises(ProviderError, match="status 500"):
        await search("apples")
    server.answer = works
    assert len(await search("apples")) == 1


async def test_texts_are_sent_in_batches_and_come_back_in_order(
    embedder: Embedder, server: Server
) -> None:
    texts = [f"text number{at}" for at in range(150)]
    assert await embedder.embed(texts) == [vector(text) for text in texts]
    assert [len(batch) for batch in server.batches] == [64, 64, 22]
    assert await embedder.embed([]) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"data": [{"index": 0, "embedding": [0.5] * 1536}]}, "rag.embedding_model"),
        ({"data": [{"index": 0, "embedding": [0.0] * 384}]}, "vector of zeros"),
        ({"data": []}, "it answered 0"),
        ({"data": [{"index": 1, "embedding": [0.5] * 384}]}, "asked for 1 text"),
        ({"data": [{"index": 0, "embedding": [1e999] * 384}]}, "not that of an embedding server"),
        ({"error": "no"}, "not that of an embedding server"),
        ("<html>", "not that of an embedding server"),
        ("x" * 9_000_000, "longer than"),
    ],
)
async def test_an_answer_that_is_none_is_refused_with_the_reason(
    embedder: Embedder, server: Server, answer: object, reason: str
) -> None:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    server.answer = lambda _: web.Response(text=body, content_type="application/json")
    with pytest.raises(ProviderError, match=re.escape(reason)):
        await embedder.embed(["text"])


async def test_a_server_that_is_not_there_is_named(embedder: Embedder) -> None:
    away = Embedder("http://127.0.0.1:9/v1", "all-MiniLM-L6-v2")
    with pytest.raises(ProviderError, match=r"http://127\.0\.0\.1:9/v1.*rag\.embedding_url"):
        await away.embed(["text"])
    await away.aclose()
