"""Permits: so many LLM requests at once over all calls, which are processes of their own.

A permit is a lock on a file: the kernel frees it when its holder dies, however it dies.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

_POLL_S = 0.01


class Permits:
    """At most ``count`` holders at once among all processes that use ``folder``."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._slots = [folder / f"{number}.lock" for number in range(count)]

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Holds a permit for the block; waits until one is free."""
        while (slot := self._take()) is None:  # noqa: ASYNC110  another process frees it
            await asyncio.sleep(_POLL_S)
        with slot:
            yield

    def _take(self) -> BinaryIO | None:
        for path in self._slots:
            slot = path.open("wb")
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                slot.close()
            else:
                return slot
        return None
