"""The chunks of the documents that answer a question best."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from pydantic_core import to_json
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import sql
from runner.config import RAG
from runner.errors import DatabaseError
from runner.rag.connection import OwnConnection
from runner.rag.embedding import Embedder

_CANDIDATES = 30  # answered 151 of 171 questions to the manual right, 12 did 148, 80 did 154
_CACHED_QUESTIONS = 64
_EF_SEARCH = 100  # benchmarks/search.py: finds 995 of 1000 neighbours, 60 finds 989
_COMMON = 50  # a word in more chunks than that says little about which one is meant
_TELLING = 0.1  # the weight of one word that ten chunks hold: such a chunk is about the question
_FUZZY = 300  # of a word's chunks so many are looked at, which tells the common ones
_WORDS = 20  # of a question; each is a look-up
_TURNS_TO_SEND = 3  # of the event loop, until the question is on its way to be embedded …
_TURNS_TO_ASK = _TURNS_TO_SEND + 2  # … and the first query to the database
_RRF = 60  # Cormack, Clarke and Büttcher 2009: a rank's weight is 1 / (60 + rank)
_SQL = sql.queries("search.sql")
_HITS = {
    nearest: _SQL["hits"].format(nearest=_SQL[nearest])
    for nearest in ("nearest", "nearest_by_index")
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
class _State:
    """What is known before the question's embedding is: how to search, and the chunks that hold
    its words, with their weights."""

    revision: str | None
    method: str | None
    has_words: bool
    ids: list[int] | None
    weights: list[float] | None


@dataclass(frozen=True)
class _Found:
    """A search's result, and of which state of the documents; no revision: of an unknown one."""

    vector: str
    revision: str | None
    hits: list[Hit]


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
        self._connection = OwnConnection(engine)
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

    async def aclose(self) -> None:
        """Closes its connection."""
        await self._connection.aclose()

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
        try:
            for _ in range(_TURNS_TO_SEND):
                await asyncio.sleep(0)
            state = await self._state(question)
            if known and known.revision and known.revision == state.revision:
                return known
            vector = await embedding
            hits = await self._hits(state, vector, filename)
            return _Found(vector, state.revision, hits)
        except (SQLAlchemyError, psycopg.Error) as error:
            reason = str(error).splitlines()[0]
            raise DatabaseError(f"The documents could not be searched: {reason}") from error
        finally:
            embedding.cancel()

    async def _vector(self, question: str, known: _Found | None) -> str:
        if known:
            return known.vector
        [vector] = await self._embedder.embed([question])
        return to_json(vector).decode()  # ten times as quick as str()

    async def _state(self, question: str) -> _State:
        values = {
            "ef_search": _EF_SEARCH,
            "fuzzy": _FUZZY,
            "hybrid": self._rag.hybrid,
            "text": question,
            "words": _WORDS,
            "common": _COMMON,
        }
        [state] = await self._connection.rows(_SQL["search_state"], values)
        return _State(*state)

    async def _hits(self, state: _State, vector: str, filename: str) -> list[Hit]:
        """By the index where it is the one that ``rag.index`` means; exactly where it is not."""
        means = {"auto": "hnsw"}.get(self._rag.index, self._rag.index)
        by_index = state.method == means and not filename
        values = {
            "question": vector,
            "filename": filename,
            "count": max(_CANDIDATES, self._rag.top_k),
            "ids": state.ids,
            "weights": state.weights,
            "telling": _TELLING,
            "rrf": _RRF,
            "fused": state.has_words,
        }
        query = _HITS["nearest_by_index" if by_index else "nearest"]
        return [Hit(*row) for row in await self._connection.rows(query, values)]


def _result(task: asyncio.Task[T] | None) -> T | None:
    """What a task ended with; None where it failed."""
    if task is None or task.cancelled() or task.exception() is not None:
        return None
    return task.result()
