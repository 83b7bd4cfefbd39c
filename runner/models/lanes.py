"""Lanes: who waits for what. One lane a kind of work, so that none waits behind another kind.

Within a lane, work is done in turns, first come first served: a transcription of ten minutes or
a text of forty sentences goes to the end of the queue after each piece.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class LaneFullError(Exception):
    """As many requests as may wait are waiting."""


class Lane:
    """A queue with its own threads for blocking native work.

    ``threads`` are the turns taken at once, ``max_waiting`` the requests that may stand behind
    them. ``niceness`` above 0 lets the other lanes have the cores first (on Linux, where a
    thread has a priority of its own).
    """

    def __init__(self, name: str, threads: int, max_waiting: int, niceness: int = 0) -> None:
        self.threads = threads
        self._max_waiting = max_waiting
        self._admitted = 0
        self._pool = ThreadPoolExecutor(threads, name, _be_nice, (niceness,))

    @property
    def waiting(self) -> int:
        """Requests that stand behind those being served."""
        return max(0, self._admitted - self.threads)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the lane for one request.

        Raises:
            LaneFullError: there is none.
        """
        if self._admitted >= self.threads + self._max_waiting:
            raise LaneFullError
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def turns(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """What ``steps`` yields; each step is one turn in the lane's threads.

        A caller that stops listening ends the work at the next step.
        """
        loop = asyncio.get_running_loop()
        end: Any = object()
        while (item := await loop.run_in_executor(self._pool, next, steps, end)) is not end:
            yield item

    def close(self) -> None:
        """Drop what waits; a step that runs is left to end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _be_nice(niceness: int) -> None:
    if niceness and sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
