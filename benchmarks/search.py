"""Search over many chunks: latency and recall of each index, with and without full text.

    .venv/bin/python benchmarks/search.py                          # 100,000 drawn embeddings
    .venv/bin/python benchmarks/search.py --vectors embeddings.npy # real ones, shape (n, 384)

It starts a PostgreSQL of its own, loads the chunks, and asks 500 questions through
`runner.rag.search`, all but the embedding of the question included. Of real embeddings the last 500
are the questions. Texts are drawn by Zipf's law.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncEngine

sys.path.insert(0, str(Path(__file__).parents[1]))

from runner import database, postgres
from runner.config import EMBEDDING_DIMENSIONS, RAG, Agent, Database
from runner.dbserver import EMBEDDED_PORT, EMBEDDED_USER
from runner.rag.search import Search
from runner.rag.vector_index import ensure_vector_index
from runner.services import Supervisor

Vectors = NDArray[np.float32]

QUESTIONS = 500
TOP = 5
TOPICS = 2_000
LATENT = 96  # dimensions that meaning varies in
VOCABULARY = 30_000
STOP_WORDS = 30
WORDS = 150  # of a chunk of 1000 characters
QUESTION_WORDS = 8
DATABASE = Database("localhost", 5432, "benchmark", "postgres", "NO_PASSWORD", 1, 4, 5)
NOBODY = Agent("nobody", "none", "", "none", "none", "", "en")
DOCUMENTS = RAG(
    enabled=True,
    docs_dir="docs",
    chunk_size=1000,
    chunk_overlap=200,
    top_k=TOP,
    deadline_ms=50,
    min_similarity=-1,
    embedding_url="http://localhost/v1",
    embedding_model="all-MiniLM-L6-v2",
)


@dataclass(frozen=True)
class Library:
    """What is searched, and what for; ``nearest`` holds the true five of each question."""

    chunks: Vectors
    questions: Vectors
    nearest: NDArray[np.int64]
    words: list[str]


class Known:
    """An embedder that knows its questions by their numbers."""

    def __init__(self, questions: Vectors) -> None:
        self._questions = questions

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of ``<number> word word …``."""
        return [self._questions[int(text.split()[0])].tolist() for text in texts]


def drawn(count: int, rng: np.random.Generator) -> Vectors:
    """Vectors around topics, which lie in fewer dimensions than they have: as texts' do."""
    spectrum = np.arange(1, LATENT + 1) ** -0.4
    topics = rng.standard_normal((TOPICS, LATENT)) * spectrum
    which = rng.integers(TOPICS, size=count)
    latent = topics[which] + 0.7 * rng.standard_normal((count, LATENT)) * spectrum
    basis, _ = np.linalg.qr(rng.standard_normal((EMBEDDING_DIMENSIONS, LATENT)))
    vectors = latent @ basis.T + 0.01 * rng.standard_normal((count, EMBEDDING_DIMENSIONS))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def library(count: int, file: Path | None) -> Library:
    """The chunks, the questions and the truth."""
    rng = np.random.default_rng(1)
    if file:
        vectors = np.load(file).astype(np.float32)[-count - QUESTIONS :]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    else:
        vectors = drawn(count + QUESTIONS, rng)
    chunks, questions = vectors[:-QUESTIONS], vectors[-QUESTIONS:]
    nearest = np.argsort(-(questions @ chunks.T), axis=1)[:, :TOP]
    return Library(chunks, questions, nearest, [f"word{at}" for at in range(VOCABULARY)])


def texts(words: list[str], count: int, length: int) -> list[str]:
    """Texts of so many words by Zipf's law; the commonest 30 would be stop words."""
    rng = np.random.default_rng(2)
    shares = 1 / (np.arange(len(words)) + STOP_WORDS)
    picked = rng.choice(len(words), size=(count, length), p=shares / shares.sum())
    return [" ".join(words[at] for at in row) for row in picked]


def load(socket: str, books: Library) -> None:
    """Copy the chunks in, a file a chunk."""
    with (
        psycopg.connect(
            host=socket, port=EMBEDDED_PORT, user=EMBEDDED_USER, dbname="benchmark"
        ) as c,
        c.cursor() as cursor,
    ):
        into = "COPY rag_documents (filename, content, chunk_index, total_chunks, embedding)"
        with cursor.copy(f"{into} FROM STDIN") as copy:
            contents = texts(books.words, len(books.chunks), WORDS)
            for at, (content, vector) in enumerate(zip(contents, books.chunks, strict=True)):
                copy.write_row((str(at), content, 0, 1, str(vector.tolist())))
    with psycopg.connect(
        host=socket, port=EMBEDDED_PORT, user=EMBEDDED_USER, dbname="benchmark", autocommit=True
    ) as connection:
        connection.execute("VACUUM ANALYZE rag_documents")


async def measure(engine: AsyncEngine, books: Library, rag: RAG) -> str:
    """A row: median, 95th percentile, recall@5."""
    search = Search(engine, Known(books.questions), rag)  # type: ignore[arg-type]
    asked = texts(books.words, QUESTIONS, QUESTION_WORDS)
    for at in range(20):
        await search(f"{at} before {asked[at]}")
    times, right = [], 0
    for at, text in enumerate(asked):
        began = time.perf_counter()
        hits = await search(f"{at} {text}")
        times.append((time.perf_counter() - began) * 1000)
        right += len({int(hit.filename) for hit in hits} & set(books.nearest[at].tolist()))
    await search.aclose()
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    recall = f"{right / QUESTIONS / TOP:>10.3f}" if not rag.hybrid else f"{'':>10}"
    return f"{cuts[9]:>9.1f}{cuts[18]:>9.1f}{recall}"


async def compare(engine: AsyncEngine, books: Library) -> None:
    """All indexes, then the one by default with full text."""
    print(f"{'index':<22}{'p50 ms':>9}{'p95 ms':>9}{'recall@5':>10}{'build s':>9}")
    choices = [
        ("exact", replace(DOCUMENTS, index="exact", hybrid=False)),
        ("ivfflat", replace(DOCUMENTS, index="ivfflat", hybrid=False)),
        ("hnsw", replace(DOCUMENTS, index="hnsw", hybrid=False)),
        ("hnsw and full text", replace(DOCUMENTS, index="hnsw", hybrid=True)),
    ]
    for name, rag in choices:
        began = time.perf_counter()
        await ensure_vector_index(engine, rag)
        built = time.perf_counter() - began
        print(f"{name:<22}{await measure(engine, books, rag)}{built:>9.1f}", flush=True)


async def main() -> None:
    """Start, load, compare, end."""
    parser = argparse.ArgumentParser(description="Latency and recall of a search.")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--vectors", type=Path)
    options = parser.parse_args()
    books = library(options.chunks, options.vectors)
    kind = "real" if options.vectors else "drawn"
    print(f"{len(books.chunks)} chunks with {kind} embeddings, {QUESTIONS} questions")
    async with AsyncExitStack() as exits:
        # Not below root's own folders, which the account that PostgreSQL runs as cannot enter.
        folder = exits.enter_context(tempfile.TemporaryDirectory(prefix="runner-", dir="/var/tmp"))
        Path(folder).chmod(0o755)  # noqa: ASYNC240
        data = Path(folder, "data")
        supervisor = await exits.enter_async_context(Supervisor(lambda *_: None, 60))
        await supervisor.start([postgres.service(data)])
        socket = postgres.socket_dir(data)
        await database.prepare(DATABASE, socket, NOBODY)
        await asyncio.to_thread(load, socket, books)
        engine = database.engine(DATABASE, socket, pool_size=2, application_name="benchmark")
        exits.push_async_callback(engine.dispose)
        await compare(engine, books)


asyncio.run(main())
