"""The chunks of the documents that answer a question best."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic_core import to_json
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from runner import sql
from runner.config import RAG
from runner.errors import DatabaseError
from runner.rag.embedding import Embedder

_CANDIDATES = 30  # answered 151 of 171 questions to the manual right, 12 did 148, 80 did 154
_CACHED_QUESTIONS = 64
_EF_SEARCH = 100  # benchmarks/search.py: finds 995 of 1000 neighbours, 60 finds 989
_COMMON = 50  # a word in more chunks than that says little about which one is meant
_TELLING = 0.1  # the weight of one word that ten chunks hold: such a chunk is about the question
_FUZZY = 300  # of a word's chunks so many are looked at, which tells the common ones
_WORDS = 20  # of a question; each is a look-up
_HOLD_S = 0.05  # a slow embedding server shall not keep the call's two connections
_TURNS_TO_ASK = 2  # of the event loop: in the first the question is sent, then the first query
_RRF = 60  # Cormack, Clarke and Büttcher 2009: a rank's weight is 1 / (60 + rank)
_SQL = sql.queries("search.sql")
_BOTH = {
    nearest: _SQL["both"].format(nearest=_SQL[nearest], with_words=_SQL["chunks_with_words"])
    for nearest in ("nearest_chunks", "nearest_chunks_by_index")
}

T = TypeVar("T")


@dataclass(frozen=True)
class Hit:
    """A chunk that was found.

    ``similarity`` is the cosine with the question, -1 to 1; ``score`` is what hits are ordered
    by: the similarity, or with ``rag.hybrid`` the sum of its reciprocal ranks. ``by_words``: it
    holds rare words of the question. ``heading`` stands above the chunk's beginning, ``page`` is
    the page where the format has such; ``in_code``: it begins inside fenced code.
    """

    filename: str
    chunk_index: int
    heading: str | None
    content: str
    similarity: float
    in_code: bool = False
    page: int | None = None
    score: float = 0.0
    by_words: bool = False


@dataclass(frozen=True)
class _Found:
    """A search's result, and of which state of the documents; no revision: of an unknown one."""

    vector: str
    revision: str | None
    hits: list[Hit]


@dataclass(frozen=True)
class _Asked:
    """A connection, what it said of the index, and the filter."""

    connection: AsyncConnection
    state: Any
    filename: str

    async def rows(self, query: str, values: dict[str, Any]) -> list[Hit]:
        """What a query finds."""
        rows = await self.connection.exec_driver_sql(_SQL[query], values)
        return [Hit(**row) for row in rows.mappings()]

    async def lists(self, nearest: str, values: dict[str, Any]) -> tuple[list[Hit], list[Hit]]:
        """The chunks that are near, and those with words, by one round trip."""
        found = await self.connection.exec_driver_sql(_BOTH[nearest], values)
        lists: tuple[list[Hit], list[Hit]] = ([], [])
        for row in found.mappings():
            values = dict(row)
            del values["place"]
            lists[values.pop("list")].append(Hit(**values))
        return lists


class Search:
    """Cosine search, exact or by an index, with full text beside it where ``rag.hybrid`` says so.

    The same question again is answered from a small cache until a document changes; at the same
    time, it is searched once. ``on_miss`` is called whenever `in_time` was not.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        embedder: Embedder,
        rag: RAG,
        on_miss: Callable[[], None] = lambda: None,
    ) -> None:
        # Without transactions: their two round trips are a third of a search's.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._embedder = embedder
        self._rag = rag
        self._on_miss = on_miss
        self._took_s: float | None = None
        self._searches: OrderedDict[tuple[str, str], asyncio.Task[_Found]] = OrderedDict()

    async def __call__(self, question: str, filename: str = "") -> list[Hit]:
        """The best ``rag.top_k`` chunks, best first, of documents whose name holds ``filename``.

        Each reaches ``rag.min_similarity``, or holds rare words of the question.

        Raises:
            ProviderError: the question could not be embedded.
            DatabaseError: the database did not answer.
        """
        found = await self.candidates(question, filename)
        least = self._rag.min_similarity
        return [hit for hit in found if hit.by_words or hit.similarity >= least][: self._rag.top_k]

    async def in_time(self, question: str) -> list[Hit]:
        """The same, or nothing when it takes longer than ``rag.deadline_ms``."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._rag.deadline_ms / 1000):
                return await self(question)
        except TimeoutError:
            self._on_miss()
            return []
        finally:
            self._took_s = time.perf_counter() - began

    def taken_s(self) -> float | None:
        """How long the latest `in_time` took; None: there was none since this was asked."""
        took_s, self._took_s = self._took_s, None
        return took_s

    async def ahead(self, transcript: str) -> None:
        """Begin the search for what a caller seems to be asking; whoever asks later finds it.

        Comes back when the embedding server and the database are at work: what the caller does
        next would keep this loop from asking them.
        """
        if transcript.strip():
            self._search(transcript, "")
            for _ in range(_TURNS_TO_ASK):
                await asyncio.sleep(0)

    async def candidates(self, question: str, filename: str = "") -> list[Hit]:
        """More chunks than an LLM is given, however far off: for whoever looks into each of them.

        Raises:
            ProviderError, DatabaseError: as above.
        """
        # A caller who gives up leaves the search to finish: the next one may want it.
        found = await asyncio.shield(self._search(question, filename))
        return list(found.hits)

    def _search(self, question: str, filename: str) -> asyncio.Task[_Found]:
        key = (" ".join(question.split()), filename)
        task = self._searches.pop(key, None)
        if task is None or task.done():
            task = asyncio.create_task(self._find(*key, _result(task)))
            task.add_done_callback(_result)  # asyncio would report a failure as unseen
        self._searches[key] = task
        if len(self._searches) > _CACHED_QUESTIONS:
            self._searches.popitem(last=False)
        return task

    async def _find(self, question: str, filename: str, known: _Found | None) -> _Found:
        """The words are looked up while the question is embedded, which takes longer."""
        embedding = asyncio.create_task(self._vector(question, known))
        embedding.add_done_callback(_result)  # the database may have failed before
        await asyncio.sleep(0)  # it takes longest, so it goes first
        try:
            async with self._engine.connect() as connection:
                asked = _Asked(connection, await self._state(connection), filename)
                if known and known.revision and known.revision == asked.state.revision:
                    return known
                words = await self._words(asked, question)
                if await _soon(embedding):
                    return await self._found(asked, embedding.result(), words)
            vector = await embedding
            async with self._engine.connect() as connection:
                asked = _Asked(connection, await self._state(connection), filename)
                return await self._found(asked, vector, words)
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            raise DatabaseError(f"The documents could not be searched: {reason}") from error
        finally:
            embedding.cancel()

    async def _vector(self, question: str, known: _Found | None) -> str:
        if known:
            return known.vector
        [vector] = await self._embedder.embed([question])
        return to_json(vector).decode()  # ten times as quick as str()

    async def _found(self, asked: _Asked, vector: str, words: dict[str, Any] | None) -> _Found:
        values = {
            "question": vector,
            "filename": asked.filename,
            "count": max(_CANDIDATES, self._rag.top_k),
        }
        nearest = self._nearest(asked)
        if words and words["ids"]:
            values |= words | {"telling": _TELLING}
            near, with_words = await asked.lists(nearest, values)
        else:
            near, with_words = await asked.rows(nearest, values), []
        hits = [replace(hit, score=hit.similarity) for hit in near]
        return _Found(
            vector, asked.state.revision, hits if words is None else fused(near, with_words)
        )

    async def _words(self, asked: _Asked, question: str) -> dict[str, Any] | None:
        """The chunks that hold words of the question, and how much these weigh; None: no hybrid."""
        if not (self._rag.hybrid and asked.state.has_words):
            return None
        values = {"text": question, "words": _WORDS, "common": _COMMON}
        found = (await asked.connection.exec_driver_sql(_SQL["words_in_chunks"], values)).all()
        return {"ids": [row.id for row in found], "weights": [row.weight for row in found]}

    async def _state(self, connection: AsyncConnection) -> Any:
        values = {"ef_search": _EF_SEARCH, "fuzzy": _FUZZY}
        return (await connection.exec_driver_sql(_SQL["search_state"], values)).one()

    def _nearest(self, asked: _Asked) -> str:
        """By the index where it is the one that ``rag.index`` means; exactly where it is not."""
        means = {"auto": "hnsw"}.get(self._rag.index, self._rag.index)
        by_index = asked.state.method == means and not asked.filename
        return "nearest_chunks_by_index" if by_index else "nearest_chunks"


def fused(near: Sequence[Hit], with_words: Sequence[Hit]) -> list[Hit]:
    """Both lists as one by reciprocal rank fusion, no longer than the longer one."""
    scores: dict[tuple[str, int], float] = {}
    hits: dict[tuple[str, int], Hit] = {}
    for found in (near, with_words):
        for rank, hit in enumerate(found, 1):
            key = (hit.filename, hit.chunk_index)
            hits[key] = hit
            scores[key] = scores.get(key, 0) + 1 / (_RRF + rank)
    best = sorted(hits, key=lambda key: -scores[key])[: max(len(near), len(with_words))]
    return [replace(hits[key], score=scores[key]) for key in best]


async def _soon(embedding: asyncio.Task[str]) -> bool:
    """Whether it is there before the connection is better given back. Raises nothing of it."""
    done, _ = await asyncio.wait({embedding}, timeout=_HOLD_S)
    return bool(done)


def _result(task: asyncio.Task[T] | None) -> T | None:
    """What a task ended with; None where it failed."""
    if task is None or task.cancelled() or task.exception() is not None:
        return None
    return task.result()
