"""The chunks of the documents that answer a question best."""

import asyncio
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psycopg
from pydantic import TypeAdapter
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
_FIRST = "hello"
_TURNS_TO_SEND = 3  # of the event loop, until the question is on its way to be embedded
_RRF = 60  # Cormack, Clarke and Büttcher 2009: a rank's weight is 1 / (60 + rank)
_ALL = -1.0  # the least of cosines


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


_HITS = TypeAdapter(list[Hit])


@dataclass(frozen=True, slots=True)
class _Question:
    """``count`` chunks are wanted, none less similar than ``least`` but for its words."""

    text: str
    filename: str
    count: int
    least: float


class Search:
    """Cosine search, exact or by an index, with full text beside it where ``rag.hybrid`` says so.

    The same question again is not embedded again; at the same time, it is searched once.
    ``on_miss`` is called whenever `in_time` was not.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        embedder: Embedder,
        rag: RAG,
        on_miss: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = OwnConnection(engine, sql.queries("search.sql")["search"])
        self._embedder = embedder
        self._rag = rag
        self._on_miss = on_miss
        self._took_s: float | None = None
        self._vectors: OrderedDict[str, bytes] = OrderedDict()
        self._running: dict[_Question, asyncio.Task[list[Hit]]] = {}

    async def __call__(self, question: str, filename: str = "") -> list[Hit]:
        """The best ``rag.top_k`` chunks, best first, of documents whose name holds ``filename``.

        Each reaches ``rag.min_similarity``, or holds rare words of the question.

        Raises:
            ProviderError: the question could not be embedded.
            DatabaseError: the database did not answer.
        """
        return await self._found(self._question(question, filename))

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

        Comes back when the embedding server is at work: what the caller does next would keep this
        loop from asking it.
        """
        if transcript.strip():
            self._search(self._question(transcript))
            for _ in range(_TURNS_TO_SEND):
                await asyncio.sleep(0)

    def warm(self) -> None:
        """Begin a search that nobody waits for: it opens the lines, and has the query planned,
        before the first question."""
        self._search(self._question(_FIRST))

    async def aclose(self) -> None:
        """Ends what still runs, and closes its connection."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._connection.aclose()

    async def candidates(self, question: str, filename: str = "") -> list[Hit]:
        """More chunks than an LLM is given, however far off: for whoever looks into each of them.

        Raises:
            ProviderError, DatabaseError: as above.
        """
        count = max(_CANDIDATES, self._rag.top_k)
        return await self._found(_Question(_plain(question), filename, count, _ALL))

    def _question(self, text: str, filename: str = "") -> _Question:
        """For an LLM."""
        return _Question(_plain(text), filename, self._rag.top_k, self._rag.min_similarity)

    async def _found(self, question: _Question) -> list[Hit]:
        # A caller who gives up leaves the search to finish: the next one may want it.
        return list(await asyncio.shield(self._search(question)))

    def _search(self, question: _Question) -> asyncio.Task[list[Hit]]:
        task = self._running.get(question)
        if task is None:
            task = asyncio.create_task(self._find(question))
            self._running[question] = task
            task.add_done_callback(partial(self._ended, question))
        return task

    def _ended(self, question: _Question, task: asyncio.Task[list[Hit]]) -> None:
        del self._running[question]
        if not task.cancelled():
            task.exception()  # asyncio would report a failure as unseen

    async def _find(self, question: _Question) -> list[Hit]:
        vector = await self._vector(question.text)
        values: dict[str, str | bytes] = {
            "question": vector,
            "text": question.text,
            "filename": question.filename,
            "method": {"auto": "hnsw"}.get(self._rag.index, self._rag.index),
            "hybrid": str(self._rag.hybrid),
            "ef_search": str(_EF_SEARCH),
            "fuzzy": str(_FUZZY),
            "words": str(_WORDS),
            "common": str(_COMMON),
            "telling": str(_TELLING),
            "rrf": str(_RRF),
            "count": str(max(_CANDIDATES, self._rag.top_k)),
            "top_k": str(question.count),
            "least": str(question.least),
        }
        try:
            return _HITS.validate_json(await self._connection.value(values))
        except (SQLAlchemyError, psycopg.Error) as error:
            reason = str(error).splitlines()[0]
            raise DatabaseError(f"The documents could not be searched: {reason}") from error

    async def _vector(self, text: str) -> bytes:
        """The embedding of ``text`` as pgvector receives it: its length, 0, its numbers."""
        if text in self._vectors:
            self._vectors.move_to_end(text)
            return self._vectors[text]
        [vector] = await self._embedder.embed([text])
        self._vectors[text] = struct.pack(f">HH{len(vector)}f", len(vector), 0, *vector)
        if len(self._vectors) > _CACHED_QUESTIONS:
            self._vectors.popitem(last=False)
        return self._vectors[text]


def _plain(text: str) -> str:
    return " ".join(text.split())
