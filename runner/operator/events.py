"""What changes, told to the pages that are open: each thing once a second at most."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from runner.calls import Calls
from runner.errors import RunnerError
from runner.operator.routes import Events, Route
from runner.operator.streams import Streams

log = logging.getLogger(__name__)

_PACE_S = 1.0
_WAITING = 20  # events of a page that does not read; it is dropped soon after

News = tuple[str, str]
"""An event's name and its data."""


class EventsApi:
    """Looks once a second while anybody listens, and tells what is not as it was.

    ``looks``: for each event what to look at; None: nothing has changed since the last look.
    """

    def __init__(
        self,
        streams: Streams,
        calls: Calls,
        looks: Mapping[str, Callable[[], Awaitable[object]]],
    ) -> None:
        self._streams = streams
        self._calls = calls
        self._looks = looks
        self._readers: set[asyncio.Queue[News]] = set()
        self._last: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """What is served of it."""
        return [Route("GET", "/api/events", self.events)]

    async def events(self, request: web.Request) -> Events:
        """Events named calls, providers, documents, plots and sessions, whenever these change.

        The data is what a GET of that name answers; of sessions it is empty, and says that there
        is something new.
        """
        news: asyncio.Queue[News] = asyncio.Queue(_WAITING)
        self._readers.add(news)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="operator's events")
        try:
            async with self._streams.open(request) as stream:
                while not news.full():
                    if told := await stream.next(news):
                        name, data = told
                        await stream.send(data, name)
        finally:
            self._readers.discard(news)
            if not self._readers and self._looking:
                self._looking.cancel()
                self._looking = None
        return stream.response

    async def _look(self) -> None:
        changes = self._calls.changes
        while True:
            for name, look in self._looks.items():
                await self._tell(name, look)
            if changes != self._calls.changes:
                changes = self._calls.changes
                self._send(("sessions", "{}"))
            await asyncio.sleep(_PACE_S)

    async def _tell(self, name: str, look: Callable[[], Awaitable[object]]) -> None:
        try:
            seen = await look()
        except RunnerError as error:
            log.info("the operator's pages are not told of %s: %s", name, error)
            return
        if seen is None:
            return
        data = _json(seen)
        if self._last.get(name) != data:
            self._last[name] = data
            self._send((name, data))

    def _send(self, news: News) -> None:
        for reader in self._readers:
            if not reader.full():
                reader.put_nowait(news)


def _json(answer: object) -> str:
    return json.dumps(TypeAdapter(Any).dump_python(answer, mode="json", by_alias=True))
