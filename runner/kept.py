"""Sentences that the agent says again and again in the same words, such as its greeting: their
sound is kept in files, so that it is there at once, and there when no voice answers.

Nothing else is kept: no answer, and nothing of a caller.
"""

import asyncio
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

log = logging.getLogger(__name__)

KEPT = "kept"
"""Who served, where a kept sound was played: nobody was asked."""

_READ_S = 0.25  # a disk that takes longer is not waited for
_FILE_BYTES = 60 * 48_000  # a minute of 16-bit samples at 24 kHz
_FOLDER_BYTES = 64_000_000
_FOLDER_FILES = 500
_SUFFIX = ".pcm"


@dataclass(frozen=True)
class Voice:
    """All that makes a sentence's sound: another value of any of them is another sound.

    ``address``: of the server, without a user or a password.
    """

    provider: str
    address: str
    model: str
    voice: str
    speed: float
    rate_hz: int

    def key(self, text: str) -> str:
        """The name under which its sound of ``text`` is kept."""
        made_of = json.dumps([*astuple(self), text], ensure_ascii=False)
        return hashlib.sha256(made_of.encode()).hexdigest()


@dataclass(frozen=True)
class Sound:
    """A sentence that is kept: 16-bit samples, and the model that made them."""

    samples: bytes
    model: str


class Kept:
    """``sentences``, as voices are given them, each in its sound by one or more of ``voices``, by
    provider. The folder is shared by all calls and configurations."""

    def __init__(self, folder: Path, voices: Mapping[str, Voice], sentences: Iterable[str]) -> None:
        self.sentences = frozenset(sentences)
        self._folder = folder
        self._voices = voices
        self._writing: set[asyncio.Task[None]] = set()

    def knows(self, sentence: str) -> bool:
        """Whether it is one of those that are kept."""
        return sentence in self.sentences

    def missing(self, provider: str) -> list[str]:
        """The sentences of which there is no sound by ``provider``."""
        return [one for one in self.sentences if not self._path(one, provider).is_file()]

    async def find(self, sentence: str, providers: Iterable[str]) -> Sound | None:
        """Its sound by the first of ``providers`` of whom there is one."""
        if not self.knows(sentence):
            return None
        paths = {name: self._path(sentence, name) for name in providers}
        try:
            async with asyncio.timeout(_READ_S):
                found = await asyncio.to_thread(_first, paths)
        except TimeoutError:
            log.warning("a kept sentence could not be read within %g s", _READ_S)
            return None
        return Sound(found[1], self._voices[found[0]].model) if found else None

    def keep(self, sentence: str, provider: str, samples: bytes) -> None:
        """Keeps the whole sound of a sentence that it knows; the caller waits for nothing."""
        if self.knows(sentence):
            task = asyncio.create_task(self.write(sentence, provider, samples), name="keep")
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def write(self, sentence: str, provider: str, samples: bytes) -> None:
        """Writes a sound, and removes those that were not played for the longest time."""
        if len(samples) > _FILE_BYTES:
            return
        try:
            await asyncio.to_thread(_write, self._path(sentence, provider), samples)
        except OSError as error:
            log.warning("a sentence is not kept in %s: %s", self._folder, error.strerror)

    def _path(self, sentence: str, provider: str) -> Path:
        return self._folder / f"{self._voices[provider].key(sentence)}{_SUFFIX}"


def _first(paths: Mapping[str, Path]) -> tuple[str, bytes] | None:
    for name, path in paths.items():
        try:
            with path.open("rb") as file:
                samples = file.read(_FILE_BYTES)
        except OSError:
            continue
        if samples:
            with suppress(OSError):
                os.utime(path)  # it was played: others are older
            return name, samples
    return None


def _write(path: Path, samples: bytes) -> None:
    """Whole, or not at all: a machine that is switched off leaves no half of a sentence."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{uuid.uuid4()}.new")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(samples)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _make_room(path.parent)


def _make_room(folder: Path) -> None:
    files = sorted(_files(folder))
    size, count = sum(size for _, size, _ in files), len(files)
    for _, its_size, path in files:
        if size <= _FOLDER_BYTES and count <= _FOLDER_FILES:
            return
        path.unlink(missing_ok=True)
        size, count = size - its_size, count - 1


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each was played last, and its size; other calls write and remove some meanwhile."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
