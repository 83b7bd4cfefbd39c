"""The chunks of the documents that are nearest to a question."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from runner import sql
from runner.config import RAG
from runner.errors import DatabaseError
from runner.rag.embedding import Embedder

_CANDIDATES = 30  # answered 151 of 171 questions to the manual right, 12 did 148, 80 did 154
_CACHED_QUESTIONS = 64
_FRESH_S = 10.0  # after that a new document must be found
_FIND = sql.queries("rag.sql")["nearest_chunks"]


@dataclass(frozen=True)
class Hit:
    """A chunk that was found. ``similarity`` is the cosine with the question, -1 to 1.

    ``heading`` stands above the chunk's beginning; ``in_code``: it begins inside fenced code.
    """

    filename: str
    chunk_index: int
    heading: str | None
    content: str
    similarity: float
    in_code: bool = False


class Search:
    """Exact cosine search. The same question again, or at the same time, is searched once."""

    def __init__(self, engine: AsyncEngine, embedder: Embedder, rag: RAG) -> None:
        self._engine = engine
        self._embedder = embedder
        self._rag = rag
        self._searches: OrderedDict[str, tuple[float, asyncio.Task[list[Hit]]]] = OrderedDict()

    async def __call__(self, question: str) -> list[Hit]:
        """The best ``rag.top_k`` chunks that reach ``rag.min_similarity``, best first.

        Raises:
            ProviderError: the question could not be embedded.
            DatabaseError: the database did not answer.
        """
        found = await self.candidates(question)
        near = [hit for hit in found if hit.similarity >= self._rag.min_similarity]
        return near[: self._rag.top_k]

    async def candidates(self, question: str) -> list[Hit]:
        """More chunks than an LLM is given, however far off: for whoever looks into each of them.

        Raises:
            ProviderError, DatabaseError: as above.
        """
        # A caller who gives up leaves the search to finish: the next one may want it.
        return list(await asyncio.shield(self._search(" ".join(question.split()))))

    def _search(self, question: str) -> asyncio.Task[list[Hit]]:
        now = asyncio.get_running_loop().time()
        begun, task = self._searches.pop(question, (now, None))
        if task is None or now - begun > _FRESH_S or _failed(task):
            begun, task = now, asyncio.create_task(self._find(question))
            task.add_done_callback(_failed)
        self._searches[question] = begun, task
        if len(self._searches) > _CACHED_QUESTIONS:
            self._searches.popitem(last=False)
        return task

    async def _find(self, question: str) -> list[Hit]:
        [vector] = await self._embedder.embed([question])
        count = max(_CANDIDATES, self._rag.top_k)
        try:
            async with self._engine.connect() as connection:
                rows = await connection.exec_driver_sql(
                    _FIND, {"question": str(vector), "count": count}
                )
                return [Hit(**row) for row in rows.mappings()]
        except SQLAlchemyError as error:
            reason = str(error).splitlines()[0]
            raise DatabaseError(f"The documents could not be searched: {reason}") from error


def _failed(task: asyncio.Task[list[Hit]]) -> bool:
    """Whether it ended without hits. Asking also keeps asyncio from reporting it as unseen."""
    return task.done() and (task.cancelled() or task.exception() is not None)
