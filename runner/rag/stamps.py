"""What a file looked like when it was last read, so that it is read again only when it changed."""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runner.rag.documents import fingerprint

_LONGEST_WAIT_S = 60.0  # for a file that never stops growing; then it goes in as it is

_Look = tuple[int, ...]


class Stamps:
    """The fingerprints of files.

    ``recipe`` gives, for a suffix, what beside the content makes the chunks. A file that changed
    less than ``settle_s`` ago is taken to be still being written.
    """

    def __init__(self, recipe: Callable[[str], str], settle_s: float) -> None:
        self._recipe = recipe
        self._settle_s = settle_s
        self._known: dict[Path, tuple[_Look, str]] = {}
        self._waiting: dict[Path, float] = {}

    def keep(self, paths: Iterable[Path]) -> None:
        """Forget all others."""
        there = set(paths)
        self._known = {path: known for path, known in self._known.items() if path in there}
        self._waiting = {path: since for path, since in self._waiting.items() if path in there}

    async def fingerprint(self, path: Path) -> str | None:
        """Of content and recipe; None while the file is being written.

        Raises:
            DocumentError: it cannot be read, or is too large.
        """
        look = _look(path)
        seen, content = self._known.get(path, ((), ""))
        if look and seen == look:
            return content
        if look and self._is_fresh(path, look):
            return None
        content = await asyncio.to_thread(fingerprint, path, self._recipe(path.suffix.lower()))
        self._known[path] = look, content
        return content

    def changed(self, path: Path) -> bool:
        """Whether the file is no longer what its fingerprint was taken of."""
        return self._known[path][0] != _look(path)

    def _is_fresh(self, path: Path, look: _Look) -> bool:
        age_s = time.time() - look[-1] / 1e9
        if not 0 <= age_s < self._settle_s:
            self._waiting.pop(path, None)
            return False
        now = time.monotonic()
        return now - self._waiting.setdefault(path, now) < _LONGEST_WAIT_S


def _look(path: Path) -> _Look:
    """What changes whenever a file is written; its ctime, the last, cannot be set back."""
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
