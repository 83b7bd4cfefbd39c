"""Server-sent events to pages that may stop reading."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import web

from runner.operator.routes import Events, Refused

_BEAT_S = 15.0
_MOST = 50
_SLOW_S = 5.0  # who has not taken an event by then is dropped
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy in front of the port hands events on at once
}

T = TypeVar("T")


class Stream:
    """One reader's."""

    def __init__(self, response: Events) -> None:
        self.response = response

    async def next(self, queue: asyncio.Queue[T]) -> T | None:
        """What comes next; None: nothing for a while, and the reader was told that."""
        try:
            return await asyncio.wait_for(queue.get(), _BEAT_S)
        except TimeoutError:
            await self.write(": beat\n\n")
            return None

    async def send(self, data: str, event: str = "message") -> None:
        """Sends an event. ``data``: one line.

        Raises:
            ConnectionError: the reader is gone, or too slow.
        """
        await self.write(f"event: {event}\ndata: {data}\n\n")

    async def write(self, text: str) -> None:
        """Sends as it is. Raises as `send` does."""
        try:
            async with asyncio.timeout(_SLOW_S):
                await self.response.write(text.encode())
        except TimeoutError:
            raise ConnectionResetError("too slow") from None


class Streams:
    """Those of the port: so many at once, and no more."""

    def __init__(self) -> None:
        self._open = 0

    @asynccontextmanager
    async def open(self, request: web.Request) -> AsyncIterator[Stream]:
        """A stream for as long as the block lasts and its reader reads."""
        if self._open >= _MOST:
            raise Refused(503, "Too many pages are open. Close one.")
        response = Events(headers=_HEADERS)
        await response.prepare(request)
        self._open += 1
        try:
            stream = Stream(response)
            await stream.write(": hello\n\n")
            yield stream
        except ConnectionError:
            if request.transport:
                request.transport.abort()  # what is buffered for a slow reader goes with it
        finally:
            self._open -= 1
