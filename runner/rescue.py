"""Callers whose agent died are given another one, who knows what was said.

A job that dies takes its line with it, which its worker sees at once. A worker that dies leaves its
sessions to the others, who see its beat stand still.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from runner.config import Config
from runner.errors import DatabaseAwayError, DatabaseError, RunnerError
from runner.folders import outbox_dir
from runner.lease import BEAT_S, Lease
from runner.outbox import deliver_left
from runner.rooms import Rooms
from runner.store import Store

log = logging.getLogger(__name__)

_TRIES = 3
_TRIES_WITHIN_S = 60.0
_REMEMBERED_ROOMS = 1000


class Rescue:
    """Of one worker, for as long as `running`'s block lasts."""

    def __init__(self, config: Config, store: Store, rooms: Rooms, worker_id: uuid.UUID) -> None:
        self._outbox = outbox_dir(config.deployment)
        self._memory_mb = config.limits.call_memory_mb
        self._store = store
        self._rooms = rooms
        self._lease = Lease(store, worker_id)
        self._tried: dict[str, list[float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps the lease in the background of the block, and gives it up after it."""
        beating = asyncio.create_task(self._beat(), name="lease")
        try:
            yield
        finally:
            self._ended = True
            for task in (beating, *self._tasks):
                task.cancel()
            await asyncio.gather(beating, *self._tasks, return_exceptions=True)
            with suppress(DatabaseError):
                await self._lease.end()

    def lost(self, room: str, *, killed: bool = False) -> None:
        """A job of this worker has died in ``room``; ``killed``: for what it did, so that another
        one would only do it again. Returns at once."""
        if self._ended:
            return
        if killed:
            log.error(
                "the call in %s was ended: it took more than %d MB (limits.call_memory_mb), or did "
                "not answer for a minute",
                *(room, self._memory_mb),
            )
        else:
            log.error("the agent in %s died", room)
        self._start(room, killed=killed)

    def _start(self, room: str, *, killed: bool = False) -> None:
        task = asyncio.create_task(self._rescue(room, killed=killed), name=f"rescue {room}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        while True:
            try:
                for orphan in await self._lease.renew():
                    if orphan.room_id:
                        self._start(orphan.room_id)
            except DatabaseError as error:
                log.debug("no beat: %s", error)
            await asyncio.sleep(BEAT_S)

    async def _rescue(self, room: str, *, killed: bool) -> None:
        """What the dead agent has left is stored; then another one comes, or the session ends."""
        with suppress(DatabaseAwayError):
            await deliver_left(self._store, self._outbox)
        try:
            if killed or not await self._rooms.callers(room):
                await self._end(room)
            elif self._too_often(room):
                log.error("no agent lives in %s, the call is ended", room)
                await self._end(room)
            else:
                await self._rooms.dispatch(room)
                log.warning("another agent goes on in %s", room)
        except RunnerError as error:
            log.warning("nobody could be sent to %s: %s", room, error)

    async def _end(self, room: str) -> None:
        """The room as well: who comes back to it is given an agent only when it is made anew."""
        await self._rooms.close(room)
        await self._store.end_room(room)

    def _too_often(self, room: str) -> bool:
        now = time.monotonic()
        recent = [at for at in self._tried.pop(room, []) if now - at < _TRIES_WITHIN_S]
        self._tried[room] = [*recent, now]
        if len(self._tried) > _REMEMBERED_ROOMS:
            del self._tried[next(iter(self._tried))]
        return len(recent) >= _TRIES
