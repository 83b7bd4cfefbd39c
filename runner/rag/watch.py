"""The documents folder kept known: looked through at the start, and whenever a file changes."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

from watchfiles import awatch

from runner.errors import RunnerError
from runner.rag.index import Indexer, Summary

SETTLE_S = 1.0
"""A file that changed less than so long ago is taken to be still being written."""

_QUIET_MS = 300  # changes that come closer together are one
_LONGEST_MS = 2_000  # … for no longer than that
_TICK_S = 1.0
_RETRY_S = 10.0  # after an error: the embedding server starts again, the folder comes back
_RESCAN_S = 60.0  # network folders tell of no changes

_log = logging.getLogger(__name__)


async def watch(
    indexer: Indexer, root: Path, told: Callable[[Summary | RunnerError], None]
) -> NoReturn:
    """Index ``root`` now and after every change; ``told`` hears how each time went.

    Errors end one look at the folder, not the watch.
    """
    due = 0.0
    async for changed in _changes(root):
        if changed or time.monotonic() >= due:
            pause_s = await _look(indexer, told)
            due = time.monotonic() + pause_s
    raise AssertionError  # the changes have no end


async def _look(indexer: Indexer, told: Callable[[Summary | RunnerError], None]) -> float:
    """Index; the seconds after which to look again, changes or none."""
    try:
        summary = await indexer.run()
    except RunnerError as error:
        told(error)
        return _RETRY_S
    told(summary)
    return SETTLE_S if summary.waiting else _RESCAN_S


async def _changes(root: Path) -> AsyncIterator[bool]:
    """At once and then every second: whether something may have changed since."""
    yield True
    blind = gone = False
    while True:
        news = False
        try:
            async for changed in _changes_of_one(root):
                blind = gone = False
                yield changed
        except FileNotFoundError:  # told by the indexer, once
            news, gone = not gone, True
        except (OSError, RuntimeError) as error:
            if not blind:
                _log.warning(
                    "Changes in %s are seen within %g s only, for it cannot be watched: %s",
                    root,
                    _RESCAN_S,
                    error,
                )
            blind = True
        await asyncio.sleep(_TICK_S)
        yield news


async def _changes_of_one(root: Path) -> AsyncIterator[bool]:
    """As `_changes`, until another folder is at ``root``."""
    identity, first = _identity(root), True
    async for changes in awatch(
        root,
        watch_filter=None,
        step=_QUIET_MS,
        debounce=_LONGEST_MS,
        rust_timeout=int(_TICK_S * 1000),
        yield_on_timeout=True,
    ):
        yield first or bool(changes)  # first: what happened before it watched
        first = False
        if _identity(root) != identity:
            return


def _identity(root: Path) -> tuple[int, int]:
    state = root.stat()
    return state.st_dev, state.st_ino
