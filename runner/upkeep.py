"""What the store needs beside the calls: idle sessions end, what calls have left is stored, old
conversations go."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from runner.clock import Clock
from runner.config import Config, Sessions
from runner.errors import RunnerError, ServiceError
from runner.folders import archive_dir, outbox_dir
from runner.live import Settings
from runner.outbox import deliver_left
from runner.rooms import Rooms
from runner.store import Store

log = logging.getLogger(__name__)

_LEFT_CHECK_S = 10.0
_SETTINGS_CHECK_S = 10.0
_RETENTION_CHECK_S = 3600.0
_RETENTION_STEADY_S = 86_400.0  # after a clock jumped, somebody has a day to set it right
_BATCH_SESSIONS = 500


class Upkeep:
    """Runs for as long as its ``async with`` block."""

    def __init__(self, config: Config, store: Store, rooms: Rooms) -> None:
        self._config = config
        self._store = store
        self._rooms = rooms
        self._settings = Settings(store, config)
        self._clock = Clock(store)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything in its interval, in the background of the block."""
        sessions = self._config.sessions
        tasks = [
            asyncio.create_task(_every(sessions.idle_check_s, self.end_idle)),
            asyncio.create_task(_every(_SETTINGS_CHECK_S, self._settings.look)),
            asyncio.create_task(_every(_LEFT_CHECK_S, self.deliver_left)),
            asyncio.create_task(_every(_RETENTION_CHECK_S, self.forget)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def end_idle(self) -> None:
        """Ends the sessions without a word for so long, and their calls. How long that is may
        change meanwhile. When the clock jumped, the time without a word begins anew."""
        await self._settings.look()
        sessions = self._settings.config.sessions
        if await self._clock.steady_s() < 60 * sessions.timeout_minutes:
            return
        rooms = await self._store.end_idle(sessions.timeout_minutes)
        if rooms:
            log.info("%d idle sessions were ended", len(rooms))
            for room in rooms:
                with suppress(ServiceError):  # most likely it is gone
                    await self._rooms.close(room)

    async def deliver_left(self) -> None:
        """Stores what calls have left: killed ones, or those that ended while the database was
        away."""
        if count := await deliver_left(self._store, outbox_dir(self._config.deployment)):
            log.info("%d entries that calls had left were stored", count)

    async def forget(self) -> None:
        """Retention, where it is set."""
        if self._config.sessions.retention_days is None:
            return
        if await self._clock.steady_s() < _RETENTION_STEADY_S:
            return
        folder = archive_dir(self._config.deployment)
        if count := await forget(self._store, self._config.sessions, folder):
            log.info("%d sessions were older than sessions.retention_days and are gone", count)


async def _every(seconds: float, care: Any) -> None:
    while True:
        try:
            await care()
        except RunnerError as error:
            log.warning("the upkeep has to wait: %s", error)
        await asyncio.sleep(seconds)


async def forget(store: Store, sessions: Sessions, archive: Path) -> int:
    """Deletes the sessions that ended more than ``sessions.retention_days`` ago, with their
    messages, a batch at a time; before that they are archived where ``sessions.archive`` says so.

    Raises:
        DatabaseError: not all are gone; what is gone was archived.
        ServiceError: the archive cannot be written; nothing more is deleted.
    """
    assert sessions.retention_days is not None
    count = 0
    while batch := await store.expired(sessions.retention_days, _BATCH_SESSIONS):
        if sessions.archive == "jsonl":
            await asyncio.to_thread(_archive, archive, await store.whole(batch))
        await store.forget(batch, archive=sessions.archive == "table")
        count += len(batch)
    return count


def _archive(folder: Path, sessions: list[dict[str, Any]]) -> None:
    """A line of JSON a session, with its messages, into the file of this month."""
    path = folder / f"{datetime.now(UTC):%Y-%m}.jsonl"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
            _write(file, sessions)
    except OSError as error:
        raise ServiceError(
            f"Old conversations cannot be archived in {path}: {error.strerror}. Make room there, "
            "or set sessions.archive=table or none."
        ) from None


def _write(file: IO[str], sessions: list[dict[str, Any]]) -> None:
    for session in sessions:
        file.write(json.dumps(session, default=str) + "\n")
    file.flush()
    os.fsync(file.fileno())  # what is deleted next must be on the disk
