"""The documents of ``task=serve``: kept known by a process beside the calls, for as long as they
are taken."""

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from runner.config import Config
from runner.folders import documents_dir
from runner.rag.index import Progress, Summary
from runner.rag.settings import EVENTS, SETTINGS, Event, Settings
from runner.services import READY, Report

_NAME = "documents"
_LINE_BYTES = 16 * 2**20  # a summary names every file that was left out
_STOP_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # between a death and the next start

_log = logging.getLogger(__name__)


class Indexing:
    """Starts the indexer, starts it again when it dies, and knows how far it is."""

    def __init__(self, config: Config, postgres_socket: str | None, report: Report) -> None:
        self.folder = documents_dir(config.rag.docs_dir)
        self._settings = Settings(
            config.rag, self.folder, config.database, postgres_socket, config.log
        )
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._progress = Progress()
        self._summary: Summary | None = None
        self._error: str | None = None

    def start(self) -> None:
        """Index in the background from now on."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the process; a document that it works on is indexed next time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def looked(self, timeout_s: float) -> None:
        """Wait for the first look at the folder to end, well or badly, but not for longer."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), timeout_s)

    def state(self) -> dict[str, Any]:
        """How far it is. ``error``: why nothing is indexed now."""
        summary = self._summary
        return {
            "folder": str(self.folder),
            "indexing": summary is None and self._error is None,
            "progress": asdict(self._progress),
            "documents": summary and summary.indexed + summary.unchanged,
            "failed": [
                {"name": name, "reason": reason}
                for name, reason in (summary.failed if summary else ())
            ],
            "error": self._error,
        }

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            began = asyncio.get_running_loop().time()
            status = await self._serve()
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            self._fail(f"The indexer ended with status {status}; next start in {pause_s:g} s.")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _serve(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runner.rag", SETTINGS.dump_json(self._settings).decode()),
            stdin=PIPE,
            stdout=PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the runner, which ends it in its turn
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                with suppress(ValidationError):  # a library printed something
                    self._hear(EVENTS.validate_json(line))
        finally:
            await _end(process)
        return process.returncode or 0

    def _hear(self, event: Event) -> None:
        if event.progress:
            self._progress = event.progress
        if event.line:
            self._tell(event.line)
        if event.error:
            self._fail(event.error)
        if event.summary:
            self._take(event.summary)

    def _take(self, summary: Summary) -> None:
        told = self._summary.failed if self._summary else []
        for name, reason in summary.failed:
            if (name, reason) not in told:
                _log.warning("%s is not indexed: %s", name, reason)
        if self._summary is None or self._error or summary.indexed or summary.removed:
            known = summary.indexed + summary.unchanged
            self._report(_NAME, f"{READY}, {known} in {self.folder}")
        self._summary, self._error = summary, None
        self._looked.set()

    def _fail(self, sentence: str) -> None:
        if sentence != self._error:
            _log.error("The documents were not indexed: %s", sentence)
        self._error = sentence
        self._looked.set()

    def _tell(self, line: str) -> None:
        far = self._progress
        self._report(_NAME, f"{far.done} of {far.total} files, {line}")


async def _end(process: Process) -> None:
    """It ends with its input."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
