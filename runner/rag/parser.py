"""Foreign formats read in a process that may be killed: this is its owner's side."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from runner.child import tied_to
from runner.errors import ServiceError
from runner.rag.documents import DocumentError
from runner.rag.parsed import Parsed

_START_TIMEOUT_S = 120.0  # Docling's libraries from a cold disk, on cores that others use
_FILES = 500  # then a fresh process: what libraries leak stays small
_ANSWER_BYTES = 64 * 2**20  # 5 million characters, each of up to 12 bytes in JSON
_MEMORY = b'{"memory": true}'
_PARSED = TypeAdapter(Parsed)


@dataclass(frozen=True)
class Limits:
    """What reading one file may take. ``memory_mb`` counts beside the program itself."""

    timeout_s: float
    memory_mb: int


class Parser:
    """Docling, one file at a time, in a process that starts when it is needed.

    ``models``: the folder of Docling's layout weights, or nothing.
    """

    def __init__(self, limits: Limits, models: str) -> None:
        self._limits = limits
        self._settings = json.dumps({"memory_mb": limits.memory_mb, "models": models})
        self._process: Process | None = None
        self._left = 0
        self._turn = asyncio.Lock()

    async def parse(self, path: Path) -> Parsed:
        """The text of a file and its properties.

        Raises:
            DocumentError: it has none, or reading it takes more than the limits.
            ServiceError: the parser does not start.
        """
        async with self._turn:
            process = await self._ready()
            self._left -= 1
            try:
                line = await self._answer(process, path)
            except BaseException:  # also a cancelled one: its answer must not be the next one's
                await self._kill()
                raise
            if not line or line.strip() == _MEMORY:
                await self._kill()
                raise DocumentError(
                    f"Reading it takes more than {self._limits.memory_mb} MB of memory "
                    "(rag.parser_memory_mb), or breaks the parser; save it anew or split it."
                )
        return _parsed(line)

    async def aclose(self) -> None:
        """End the process."""
        async with self._turn:
            await self._kill()

    async def _ready(self) -> Process:
        if self._process is None or self._process.returncode is not None or not self._left:
            await self._kill()
            self._process = await self._started()
            self._left = _FILES
        return self._process

    async def _started(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runner.rag.docling_child", self._settings),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=_ANSWER_BYTES,
            start_new_session=True,
            preexec_fn=tied_to(os.getpid(), signal.SIGKILL),
        )
        self._process = process
        assert process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)
        if not line:
            await self._kill()
            raise ServiceError(
                "The parser of PDFs, web pages and office files does not start. "
                f"`{sys.executable} -m runner.rag.docling_child '{self._settings}'` says why; "
                "install requirements/run.txt anew, or leave such files out (rag.exclude)."
            )
        return process

    async def _answer(self, process: Process, path: Path) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"path": str(path), "seconds": self._limits.timeout_s}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        try:
            return await asyncio.wait_for(process.stdout.readline(), self._limits.timeout_s)
        except TimeoutError:
            raise DocumentError(
                f"Reading it takes longer than {self._limits.timeout_s:g} s "
                "(rag.parser_timeout_s); split it into smaller files."
            ) from None
        except ValueError:  # a line longer than the limit
            raise DocumentError("It holds too much text; split it into smaller files.") from None

    async def _kill(self) -> None:
        process, self._process, self._left = self._process, None, 0
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _parsed(line: bytes) -> Parsed:
    """What a process said that has read a hostile file, so it is checked."""
    try:
        answer = json.loads(line)
        if "error" in answer:
            raise DocumentError(str(answer["error"]))
        return _PARSED.validate_python(answer)
    except (ValueError, TypeError):
        raise DocumentError("It breaks the parser; save it anew.") from None
