"""Texts of several documents, embedded together: small files come with a chunk or two."""

import asyncio
from collections import deque
from collections.abc import Sequence

from runner.rag.embedding import Embeds

_TEXTS = 16  # a caller's question waits at the embedding server behind no more than that


class Batches:
    """Hands texts on in the order in which they came, one request at a time.

    While one is under way the next ones gather, so that a request is full when there is much to do
    and goes out at once when there is little.
    """

    def __init__(self, embedder: Embeds) -> None:
        self._embedder = embedder
        self._queue: deque[tuple[str, asyncio.Future[list[float]]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in their order; raises what the embedder raises."""
        loop = asyncio.get_running_loop()
        vectors: list[asyncio.Future[list[float]]] = [loop.create_future() for _ in texts]
        self._queue.extend(zip(texts, vectors, strict=True))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await asyncio.gather(*vectors)

    async def _send(self) -> None:
        while self._queue:
            count = min(_TEXTS, len(self._queue))
            batch = [self._queue.popleft() for _ in range(count)]
            wanted = [(text, vector) for text, vector in batch if not vector.done()]
            try:
                found = await self._embedder.embed([text for text, _ in wanted])
            except Exception as error:  # noqa: BLE001  (whoever waits for a text is told)
                for _, vector in wanted:
                    if not vector.done():
                        vector.set_exception(error)
            else:
                for (_, vector), numbers in zip(wanted, found, strict=True):
                    if not vector.done():
                        vector.set_result(numbers)
