"""Searching a real Postgres: the cache, the filter, words, the deadline, and the indexes.

Embeddings are made here, by the words of a text.
"""

import asyncio
import re
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import database as db
from runner import pgwheel, sql
from runner.config import RAG, Agent, Database
from runner.errors import DatabaseError
from runner.folders import RESOURCES
from runner.rag import vector_index
from runner.rag.connection import OwnConnection
from runner.rag.search import Hit, Search
from runner.rag.vector_index import VectorIndex, ensure_vector_index

OURS = "rag_documents_embedding_idx"
DOCUMENTS = RAG(
    enabled=True,
    docs_dir="docs",
    chunk_size=1000,
    chunk_overlap=200,
    top_k=5,
    deadline_ms=20_000,
    min_similarity=0.1,
    embedding_url="http://localhost/v1",
    embedding_model="all-MiniLM-L6-v2",
    hybrid=False,
)


class Embedder:
    """Vectors by the words of a text, the digits left out: codes look alike."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.texts += texts
        self.called.set()
        await self.open.wait()
        return [vector(text) for text in texts]


def vector(text: str) -> list[float]:
    numbers = [0.0] * 384
    for word in re.findall(r"[^\W\d]+", text.casefold()) or ["nothing"]:
        numbers[zlib.crc32(word.encode()) % 384] += 1
    return numbers


@pytest.fixture
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture
def search(engine: AsyncEngine, embedder: Embedder) -> Search:
    return searching(engine, embedder)


def searching(engine: AsyncEngine, embedder: Embedder, **changes: object) -> Search:
    return Search(engine, embedder, replace(DOCUMENTS, **changes))  # type: ignore[arg-type]


def add(superuser: psycopg.Connection, filename: str, content: str, **metadata: object) -> None:
    superuser.execute(
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding, metadata)"
        " VALUES (%s, %s, 0, %s, %s)",
        [filename, content, str(vector(content)), psycopg.types.json.Jsonb(metadata)],
    )


def fill(superuser: psycopg.Connection, count: int) -> np.ndarray:
    """So many chunks around a few topics; their vectors."""
    rng = np.random.default_rng(1)
    topics = rng.standard_normal((20, 384))
    vectors = topics[rng.integers(20, size=count)] + 0.6 * rng.standard_normal((count, 384))
    with superuser.cursor() as cursor:
        into = "COPY rag_documents (filename, content, chunk_index, embedding) FROM STDIN"
        with cursor.copy(into) as copy:
            for at, one in enumerate(vectors):
                copy.write_row((f"{at}.md", f"chunk {at}", 0, str(one.tolist())))
    superuser.execute("ANALYZE rag_documents")
    return vectors


def names(hits: list[Hit]) -> list[str]:
    return [hit.filename for hit in hits]


def indexes(superuser: psycopg.Connection) -> dict[str, str]:
    """The indexes on the embeddings."""
    rows = superuser.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%vector_cosine_ops%'"
    )
    return dict(rows.fetchall())


# The cache.


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("DELETE FROM rag_documents WHERE filename = 'a.md'", ["b.md"]),
        ("UPDATE rag_documents SET filename = 'c.md' WHERE filename = 'a.md'", ["b.md", "c.md"]),
        ("TRUNCATE rag_documents", []),
    ],
)
async def test_a_change_of_the_documents_is_seen_at_once_and_the_question_embedded_once(
    search: Search,
    embedder: Embedder,
    superuser: psycopg.Connection,
    change: str,
    left: list[str],
) -> None:
    add(superuser, "a.md", "apples")
    add(superuser, "b.md", "apples")
    assert names(await search("apples")) == ["a.md", "b.md"]
    superuser.execute(change.encode())
    assert sorted(names(await search("apples"))) == left
    assert embedder.texts == ["apples"]


async def test_a_change_that_is_not_committed_yet_is_not_missed_afterwards(
    search: Search, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    with superuser.transaction():
        add(superuser, "b.md", "apples")
        assert names(await search("apples")) == ["a.md"]
    assert names(await search("apples")) == ["a.md", "b.md"]


async def test_the_cache_is_bounded(
    search: Search, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    for at in range(65):
        await search(f"apples {at}")
    await search("apples 64")
    await search("apples 0")
    assert embedder.texts[65:] == ["apples 0"]


async def test_a_search_ahead_on_the_transcript_serves_the_question(
    search: Search, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    await search.ahead("apples")
    await search.ahead("apples ")
    await search.ahead("  ")
    assert names(await search("apples")) == ["a.md"]
    assert embedder.texts == ["apples"]


async def test_a_search_that_is_late_is_counted_and_serves_the_next_time(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    misses: list[str] = []
    documents = replace(DOCUMENTS, deadline_ms=1)
    search = Search(engine, embedder, documents, lambda: misses.append("late"))
    embedder.open.clear()
    assert await search.in_time("apples") == []
    assert misses == ["late"]
    embedder.open.set()
    assert names(await search("apples")) == ["a.md"]
    assert embedder.texts == ["apples"]


async def test_a_query_of_its_own_connection_is_planned_once(engine: AsyncEngine) -> None:
    query = "SELECT custom_plans FROM pg_prepared_statements WHERE %(least)s <= custom_plans"
    connection = OwnConnection(engine, query)
    assert [await connection.value({"least": "0"}) for _ in range(3)] == [b"0"] * 3
    await connection.aclose()


async def test_a_search_that_is_warmed_ends_with_its_call(
    search: Search, embedder: Embedder
) -> None:
    embedder.open.clear()
    search.warm()
    await embedder.called.wait()
    await search.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_embedding_server_does_not_keep_the_connections(
    postgres_socket: str, database: Database, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    pool = db.engine(database, postgres_socket, pool_size=1, application_name="test")
    search = searching(pool, embedder, hybrid=True)
    embedder.open.clear()
    asked = asyncio.create_task(search("apples"))
    await embedder.called.wait()
    async with pool.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    assert not asked.done()
    embedder.open.set()
    assert names(await asked) == ["a.md"]
    await pool.dispose()


# What is found.


async def test_a_filter_leaves_the_documents_whose_name_holds_it(
    search: Search, superuser: psycopg.Connection
) -> None:
    for name in ("Handbook/pets.md", "handbook/100%_pets.md", "menu.md"):
        add(superuser, name, "dogs and cats")
    assert len(await search("dogs")) == 3
    assert names(await search("dogs", "handbook/")) == ["Handbook/pets.md", "handbook/100%_pets.md"]
    assert names(await search("dogs", "%_")) == ["handbook/100%_pets.md"]
    assert await search("dogs", "nowhere") == []


async def test_a_hit_says_its_page_and_heading(
    search: Search, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.pdf", "apples", page=7, heading="Fruit")
    [hit] = await search("apples")
    assert (hit.page, hit.heading) == (7, "Fruit")
    assert hit.score == hit.similarity == pytest.approx(1)


async def test_a_code_that_no_embedding_tells_apart_is_found_by_its_letters(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    for at in range(100, 140):
        add(superuser, f"{at}.md", f"Alarm E-{at} of the engine")
    add(superuser, "other.md", "elsewhere K/977 was written down")
    near = searching(engine, embedder)
    both = searching(engine, embedder, hybrid=True)
    assert "131.md" not in names(await near("What is alarm E 131 of the engine?"))
    hits = await both("What is alarm E 131 of the engine?")
    assert [hit.filename for hit in hits[:2] if hit.by_words] == ["131.md"]
    assert "other.md" not in names(await near("Where is 977?"))
    assert "other.md" in names(await both("Where is 977?"))[:2]


async def test_a_word_that_many_chunks_hold_tells_nothing(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    for at in range(51):
        add(superuser, f"{at}.md", f"zebra 7 place{'abcdefghij'[at % 10]}")
    search = searching(engine, embedder, hybrid=True)
    assert not any(hit.by_words for hit in await search("7 zebra"))


async def test_words_are_looked_up_by_the_index_as_soon_as_chunks_are_there(
    superuser: psycopg.Connection,
) -> None:
    for number in range(200):
        fruits = " ".join(f"{zlib.crc32(bytes([number, at])):x}" for at in range(100))
        add(superuser, f"{number}.md", f"apples {fruits}")
    superuser.execute("ANALYZE rag_documents")
    values = {"text": "apples", "words": 20, "common": 50, "telling": 0.1, "rrf": 60, "count": 30}
    values |= {"ef_search": 100, "fuzzy": 300, "hybrid": True, "method": "hnsw", "filename": ""}
    values |= {"question": str(vector("apples")), "top_k": 5, "least": 0.1}
    search = sql.queries("search.sql")["search"]
    with psycopg.ClientCursor(superuser) as cursor:
        cursor.execute(f"EXPLAIN {search}", values)  # type: ignore[arg-type]
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "rag_documents_content_idx" in plan


async def test_what_is_near_and_holds_the_words_comes_first(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    """Ranks in the list of the nearest, and in that of the words: both.md 2 and 1, words.md 3 and
    2, near.md 1 and none."""
    add(superuser, "near.md", "apples 1")
    add(superuser, "both.md", "apples pears 2")
    superuser.execute("UPDATE rag_documents SET content = 'nothing' WHERE filename = 'near.md'")
    add(superuser, "words.md", "stones")
    superuser.execute("UPDATE rag_documents SET content = 'apples' WHERE filename = 'words.md'")
    found = await searching(engine, embedder, hybrid=True).candidates("apples")
    assert names(found) == ["both.md", "words.md", "near.md"]
    assert [hit.score for hit in found] == pytest.approx([1 / 61 + 1 / 62, 1 / 62 + 1 / 63, 1 / 61])
    assert [hit.by_words for hit in found] == [True, True, False]


async def test_a_connection_that_was_lost_is_made_again(
    search: Search, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    assert names(await search("apples")) == ["a.md"]
    superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'test' AND datname = current_database()"
    )
    assert names(await search("pears and apples")) == ["a.md"]


async def test_questions_at_the_same_time_get_their_own_answers(
    search: Search, superuser: psycopg.Connection
) -> None:
    fruits = ["apples", "pears", "plums", "figs"]
    for fruit in fruits:
        add(superuser, f"{fruit}.md", fruit)
    await search("before")  # a connection is there
    found = await asyncio.gather(*(search(fruit) for fruit in fruits))
    assert [names(hits) for hits in found] == [[f"{fruit}.md"] for fruit in fruits]


async def test_documents_that_cannot_be_searched_are_told_of_and_then_found_again(
    search: Search, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    superuser.execute("ALTER TABLE rag_documents RENAME TO away")
    for _ in range(2):
        with pytest.raises(DatabaseError, match=r"could not be searched.*rag_documents"):
            await search("apples")
    superuser.execute("ALTER TABLE away RENAME TO rag_documents")
    assert names(await search("apples")) == ["a.md"]
    superuser.execute("ALTER TABLE rag_documents RENAME TO away")
    with pytest.raises(DatabaseError, match=r"could not be searched.*rag_documents"):
        await search("apples")
    superuser.execute("ALTER TABLE away RENAME TO rag_documents")
    assert names(await search("apples")) == ["a.md"]


async def test_a_hostile_question_is_only_words(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    add(superuser, "a.md", "apples")
    search = searching(engine, embedder, hybrid=True)
    for question in ("'; DROP TABLE rag_documents; --", "apples & | ! <-> :* \\ %s", "((( '' )))"):
        await search(question, "%s'")
        await search(question)
    assert names(await search("apples")) == ["a.md"]


# The indexes.


async def test_few_chunks_are_searched_exactly_and_many_by_hnsw(
    engine: AsyncEngine, superuser: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "_MANY_CHUNKS", 300)
    monkeypatch.setattr(vector_index, "_STILL_MANY", 150)
    fill(superuser, 299)
    assert await ensure_vector_index(engine, DOCUMENTS) is None
    assert indexes(superuser) == {}
    add(superuser, "one more.md", "apples")
    assert await ensure_vector_index(engine, DOCUMENTS) == VectorIndex("hnsw")
    assert "USING hnsw" in indexes(superuser)[OURS]
    superuser.execute("DELETE FROM rag_documents WHERE id % 4 = 0")
    assert await ensure_vector_index(engine, DOCUMENTS) == VectorIndex("hnsw")
    superuser.execute("DELETE FROM rag_documents WHERE id % 4 < 3")
    assert await ensure_vector_index(engine, DOCUMENTS) is None
    assert indexes(superuser) == {}


async def test_an_index_that_fits_is_not_built_again(
    engine: AsyncEngine, superuser: psycopg.Connection
) -> None:
    fill(superuser, 400)
    built: list[str] = []
    by_lists = replace(DOCUMENTS, index="ivfflat")
    assert await ensure_vector_index(engine, by_lists, built.append) == VectorIndex("ivfflat", 20)
    assert await ensure_vector_index(engine, by_lists, built.append) == VectorIndex("ivfflat", 20)
    assert built == ["indexing 400 embeddings (ivfflat)"]


async def test_ivfflat_s_lists_follow_the_rows(
    engine: AsyncEngine, superuser: psycopg.Connection
) -> None:
    by_lists = replace(DOCUMENTS, index="ivfflat")
    fill(superuser, 400)
    await ensure_vector_index(engine, by_lists)
    superuser.execute(
        "INSERT INTO rag_documents (filename, content, chunk_index, embedding)"
        " SELECT 'more ' || filename, content, n, embedding"
        " FROM rag_documents, generate_series(1, 4) AS n"
    )
    assert await ensure_vector_index(engine, by_lists) == VectorIndex("ivfflat", 45)


async def test_the_index_of_the_specification_that_was_made_empty_is_replaced(
    engine: AsyncEngine, embedder: Embedder, superuser: psycopg.Connection
) -> None:
    make = "CREATE INDEX {} ON rag_documents USING ivfflat (embedding vector_cosine_ops)"
    superuser.execute(f"{make.format(OURS)} WITH (lists = 100)".encode())
    superuser.execute(make.format("another").encode())
    add(superuser, "a.md", "apples")
    assert names(await searching(engine, embedder)("apples")) == ["a.md"]
    assert await ensure_vector_index(engine, replace(DOCUMENTS, index="hnsw")) is not None
    assert list(indexes(superuser)) == [OURS]
    assert "USING hnsw" in indexes(superuser)[OURS]


@pytest.mark.parametrize("index", ["exact", "hnsw", "ivfflat"])
async def test_every_index_finds_the_nearest(
    engine: AsyncEngine, superuser: psycopg.Connection, index: str
) -> None:
    vectors = fill(superuser, 2000)
    documents = replace(DOCUMENTS, index=index, min_similarity=-1)  # type: ignore[arg-type]
    await ensure_vector_index(engine, documents)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = vectors[::100] + 0.3 * np.random.default_rng(2).standard_normal((20, 384))

    class Known:
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return [questions[int(text)].tolist() for text in texts]

    search = Search(engine, Known(), documents)  # type: ignore[arg-type]
    right = 0
    for at, question in enumerate(questions):
        nearest = {f"{one}.md" for one in np.argsort(-(units @ question))[:5]}
        right += len(nearest & set(names(await search(str(at)))))
    assert right >= 99


async def test_an_index_that_cannot_be_built_leaves_the_one_that_was_there(
    engine: AsyncEngine, superuser: psycopg.Connection
) -> None:
    fill(superuser, 400)
    await ensure_vector_index(engine, replace(DOCUMENTS, index="hnsw"))
    superuser.execute("CREATE TABLE rag_documents_embedding_new ()")
    with pytest.raises(DatabaseError, match=r"could not be indexed.*embedding_new"):
        await ensure_vector_index(engine, replace(DOCUMENTS, index="ivfflat"))
    assert "USING hnsw" in indexes(superuser)[OURS]


# A database of before.


async def test_a_database_of_before_loses_what_told_searches_of_changes(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    superuser.execute(
        "CREATE FUNCTION rag_documents_revision() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE ''asked''; END'"
    )
    superuser.execute(
        "CREATE TRIGGER rag_documents_revision AFTER INSERT ON rag_documents"
        " FOR EACH STATEMENT EXECUTE FUNCTION rag_documents_revision()"
    )
    superuser.execute(
        "INSERT INTO system_config (key, value) VALUES ('rag_documents_revision', '7')"
    )
    superuser.execute("COMMENT ON TABLE agent_sessions IS 'runner schema 4'")
    await db.prepare(database, postgres_socket, agent)
    add(superuser, "a.md", "apples")
    left = "SELECT count(*) FROM system_config WHERE key = 'rag_documents_revision'"
    assert superuser.execute(left).fetchone() == (0,)


async def test_an_older_database_gets_what_searches_need_and_keeps_its_rows(
    superuser: psycopg.Connection, postgres_socket: str, database: Database, agent: Agent
) -> None:
    superuser.execute("DROP INDEX rag_documents_content_idx")
    superuser.execute("COMMENT ON TABLE agent_sessions IS NULL")  # … and says so
    add(superuser, "a.md", "apples")
    await db.prepare(database, postgres_socket, agent)
    await db.prepare(database, postgres_socket, agent)
    made = superuser.execute(
        "SELECT to_regclass('rag_documents_content_idx') IS NOT NULL,"
        " (SELECT count(*) FROM rag_documents)"
    ).fetchone()
    assert made == (True, 1)


# The specification's queries.


def test_the_query_for_a_file_name_finds_its_chunks_in_order(
    superuser: psycopg.Connection,
) -> None:
    add(superuser, "product prices.md", "It is free.")
    add(superuser, "menu.md", "Soup.")
    query = sql.queries("monitoring.sql")["chunks_by_filename"].replace(":'filename'", "'product'")
    assert superuser.execute(query.encode()).fetchall() == [("product prices.md", 0, "It is free.")]


def test_the_query_for_all_documents_lists_each_once(superuser: psycopg.Connection) -> None:
    add(superuser, "a.md", "apples")
    add(superuser, "b.md", "bananas")
    rows = superuser.execute(sql.queries("monitoring.sql")["documents"].encode()).fetchall()
    assert sorted(row[:2] for row in rows) == [("a.md", 1), ("b.md", 1)]


def test_old_documents_are_removed_and_new_ones_stay(
    superuser: psycopg.Connection, postgres_socket: str, database: Database
) -> None:
    add(superuser, "old.md", "apples")
    add(superuser, "new.md", "bananas")
    superuser.execute(
        "UPDATE rag_documents SET created_at = NOW() - INTERVAL '31 days' WHERE filename = 'old.md'"
    )
    done = subprocess.run(
        [
            pgwheel.binaries(Path(), shared=False) / "psql",
            *("-h", postgres_socket, "-U", "postgres", "-d", database.name, "-X"),
            *("-v", "ON_ERROR_STOP=1", "-f", RESOURCES / "sql" / "cleanup.sql"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    left = superuser.execute("SELECT filename FROM rag_documents").fetchall()
    assert left == [("new.md",)]
