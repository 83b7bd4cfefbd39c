"""A call's way into the database: what happened in it is written once and in order, whatever
happens to the database, the disk or the call.

`put` costs the call nothing. A task writes the entry into a file, and only then into the database;
when the database has it, the file is emptied. What a call leaves behind, killed or while the
database was away, is delivered by the worker (`deliver_left`). An entry that arrives twice is
stored once: it has an id.
"""

import asyncio
import fcntl
import json
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from runner.errors import DatabaseAwayError, DatabaseError
from runner.store import Opening, Store

log = logging.getLogger(__name__)

_QUEUED_ENTRIES = 1000
_HELD_ENTRIES = 1000  # in memory; more of them are read back from the file
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_FLUSH_TIMEOUT_S = 3.0  # LiveKit kills a job 10 s after its end has begun


def _boot() -> str:
    """Which run of the machine this is: as long as it lasts, processes share a monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())  # no Linux: this process and its like


_BOOT = _boot()


@dataclass(frozen=True)
class Entry:
    """Something that happened in a call. ``at``: when, in seconds since 1970. ``tick``: the same
    on the monotonic clock of the machine's run ``boot``."""

    kind: Literal["configuration", "open", "message", "end"]
    session_id: str
    values: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    at: float = field(default_factory=time.time)
    tick: float = field(default_factory=time.monotonic)
    boot: str = _BOOT

    def line(self) -> bytes:
        """How it stands in the file."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @property
    def age_s(self) -> float:
        """How long ago it happened, whatever was done to the clock. Only after the machine was
        started anew the clock is asked; it may have been set back, but no age is negative."""
        if self.boot == _BOOT:
            return time.monotonic() - self.tick
        return max(time.time() - self.at, 0.0)


class Journal:
    """The file of one call's entries. Whoever has it open owns it: others leave it alone."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise

    def append(self, entries: list[Entry]) -> None:
        """Adds ``entries``; they outlive this process, if not the machine."""
        self._file.write(b"".join(entry.line() for entry in entries))
        self._file.flush()

    def entries(self) -> list[Entry]:
        """All that is in it; a last line that was not written whole is none."""
        self._file.seek(0)
        return list(_whole(self._file))

    def clear(self) -> None:
        """Forgets everything."""
        self._file.truncate(0)

    def close(self, *, keep: bool) -> None:
        """Gives it up; without ``keep`` it is removed."""
        if not keep:
            self._path.unlink(missing_ok=True)
        self._file.close()


def _whole(lines: IO[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            yield Entry(**json.loads(line))
        except (ValueError, TypeError):
            log.warning("an entry of %s is not whole and is left out", lines.name)


class Outbox:
    """One call's."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._journal = Journal(path)
        self._queue: asyncio.Queue[Entry] = asyncio.Queue(_QUEUED_ENTRIES)
        self._held: deque[Entry] = deque()
        self._more_in_file = False
        self._written = asyncio.Event()
        self._file = asyncio.Lock()
        self._tasks = [
            asyncio.create_task(self._write(), name="outbox to file"),
            asyncio.create_task(self._deliver(), name="outbox to database"),
        ]

    def put(self, entry: Entry) -> None:
        """Takes an entry. Never waits; one that has no place any more is lost, and told."""
        try:
            self._queue.put_nowait(entry)
        except asyncio.QueueFull:
            log.error("the outbox is full: a %s of %s is lost", entry.kind, entry.session_id)

    async def aclose(self) -> None:
        """Delivers what is left, for a few seconds at most; the rest is left to the worker."""
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                await self._queue.join()
                while not self._delivered:  # noqa: ASYNC110  of two tasks and a lock
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("the database is away; what is left of a call is stored when it is back")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._journal.close(keep=not self._delivered)

    @property
    def _delivered(self) -> bool:
        return not self._held and not self._more_in_file and self._queue.empty()

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < _HELD_ENTRIES:
                batch.append(self._queue.get_nowait())
            async with self._file:
                await self._append(batch)
                if len(self._held) < _HELD_ENTRIES and not self._more_in_file:
                    self._held.extend(batch)
                else:
                    self._more_in_file = True
            self._written.set()
            for _ in batch:
                self._queue.task_done()

    async def _append(self, batch: list[Entry]) -> None:
        """A full disk costs nothing while the database is there."""
        try:
            await asyncio.to_thread(self._journal.append, batch)
        except OSError as error:
            log.warning("the outbox cannot be written to its file: %s", error.strerror)

    async def _deliver(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._written.wait()
            try:
                while self._held:
                    await deliver(self._store, self._held[0])
                    self._held.popleft()
                    pause_s = _FIRST_PAUSE_S
                await self._settle()
            except DatabaseAwayError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _settle(self) -> None:
        """The file is emptied when the database has all of it, or read where it has more."""
        async with self._file:
            if self._more_in_file:
                self._held.extend(await asyncio.to_thread(self._journal.entries))
                self._more_in_file = False
            elif not self._held:
                await asyncio.to_thread(self._journal.clear)
                self._written.clear()


async def deliver(store: Store, entry: Entry) -> None:
    """Stores one entry; one that the database refuses for good is told and left out.

    Raises:
        DatabaseAwayError: it is not stored yet.
    """
    session_id = uuid.UUID(entry.session_id)
    try:
        match entry.kind:
            case "configuration":
                await store.keep_configuration(**entry.values)
            case "open":
                await store.open_session(session_id, Opening(**entry.values))
            case "message":
                await store.add_message(
                    session_id, uuid.UUID(entry.id), **entry.values, age_s=entry.age_s
                )
            case "end":
                await store.end_session(session_id, **entry.values)
    except DatabaseAwayError:
        raise
    except DatabaseError as error:
        log.error("a %s of session %s is not stored: %s", entry.kind, session_id, error)


async def deliver_left(store: Store, folder: Path) -> int:
    """Delivers what calls have left in ``folder`` that are no more; how many entries those were.

    Raises:
        DatabaseAwayError: not all of it was delivered; the rest stays.
    """
    count = 0
    for path in sorted(folder.glob("*.jsonl")):  # noqa: ASYNC240  a few names
        try:
            journal = Journal(path)
        except OSError:
            continue  # its call lives
        delivered = False
        try:
            for entry in journal.entries():
                await deliver(store, entry)
                count += 1
            delivered = True
        finally:
            journal.close(keep=not delivered)
    return count
