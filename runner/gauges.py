"""What the metrics cannot count as it happens: looked at now and then, beside the calls."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.calls import Calls
from runner.errors import DatabaseError
from runner.indexing import Indexing
from runner.metrics import Metrics, Spool
from runner.operator.archive import Archive
from runner.switchboard import Switchboard
from runner.timeline import Timeline

log = logging.getLogger(__name__)

_TICK_S = 1.0
_LOOK_S = 15.0
_MOST_BYTES = 50_000_000  # of an outbox' file that is counted


@dataclass(frozen=True)
class Seen:
    """What a worker sees of its calls."""

    calls: Calls
    metrics: Metrics
    timeline: Timeline


class Gauges:
    """Looks for as long as `running`'s block lasts. ``spool``: the outboxes' folder."""

    def __init__(self, seen: Seen, switchboard: Switchboard, spool: Path) -> None:
        self._metrics = seen.metrics
        self._timeline = seen.timeline
        self._switchboard = switchboard
        self._spool = spool

    @asynccontextmanager
    async def running(self, archive: Archive, indexing: Indexing) -> AsyncIterator[None]:
        """Everything in its interval, in the background of the block."""
        tasks = [
            asyncio.create_task(self._tick(), name="lag"),
            asyncio.create_task(self._look(archive, indexing), name="gauges"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due = now() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._metrics.lag.observe(max(now() - due, 0.0))
            self._timeline.wait(self._switchboard.waiting)

    async def _look(self, archive: Archive, indexing: Indexing) -> None:
        known: dict[str, Any] = {}
        while True:
            self._metrics.spool(await asyncio.to_thread(spooled, self._spool))
            if known != (state := indexing.state()):
                known = await self._documents(archive, state, known)
            await asyncio.sleep(_LOOK_S)

    async def _documents(
        self, archive: Archive, state: dict[str, Any], known: dict[str, Any]
    ) -> dict[str, Any]:
        """Counts them, for they have changed; what is known of the indexer then."""
        try:
            found = await archive.indexed()
        except DatabaseError as error:
            log.debug("the documents were not counted: %s", error)
            return known
        self._metrics.documents(len(found), sum(row["chunks"] for row in found.values()))
        return state


def spooled(folder: Path) -> Spool:
    """What lies in the outboxes' folder: a line an entry."""
    files = entries = size = 0
    for path in folder.glob("*.jsonl"):
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES)
        except OSError:  # it was delivered this moment
            continue
        files += 1
        entries += content.count(b"\n")
        size += len(content)
    return Spool(files, entries, size)
