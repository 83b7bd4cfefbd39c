"""One child process: its output, its end, and that it never outlives its parent."""

import asyncio
import contextlib
import ctypes
import logging
import os
import pwd
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from runner.errors import ServiceError

_LINES = 50  # kept for error messages
_LINE_BYTES = 2_000  # a longer line is cut
_STOP_TRIES = 10  # stop signals, and then SIGKILL
_STOP_EVERY_S = 1.0
_DRAIN_S = 1.0  # for the output that is still in the pipe when a child has ended
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # found before any fork
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Command:
    """What to execute. ``user``: the account to drop to when the parent is root."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # on top of the parent's environment
    cwd: Path | None = None
    user: str | None = None


class Child(asyncio.SubprocessProtocol):
    """A running process in a group of its own. Made by `spawn`.

    Its output goes to the log at DEBUG and, as the last 50 lines, to `last_words`.
    """

    def __init__(self, name: str, stop_signal: signal.Signals) -> None:
        self.name = name
        self._stop_signal = stop_signal
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""
        self._swept = False
        self._ended = asyncio.Event()
        self._drained = asyncio.Event()

    @classmethod
    async def spawn(
        cls, name: str, command: Command, stop_signal: signal.Signals = signal.SIGTERM
    ) -> Self:
        """Start ``command``. Call it from the main thread: the kernel ties the child's life to
        the thread that made it.

        Raises:
            OSError: the program cannot be executed.
            ServiceError: ``command.user`` does not exist.
        """
        child = cls(name, stop_signal)
        starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *command.argv,
                env={**os.environ, **command.env},
                cwd=command.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=tied_to(os.getpid(), stop_signal),
                **_account(command.user),
            )
        )
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:  # asyncio would kill it alone, and not its own children
            await starting
            await child.stop()
            raise
        return child

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.is_set()

    def last_words(self, lines: int = 10) -> str:
        """The end of its output, indented for an error message."""
        kept = list(self._lines)[-lines:]
        if not kept:
            return "It said nothing."
        return "\n".join(["Its last words:", *(f"    {line}" for line in kept)])

    async def wait(self) -> str:
        """Wait for its end, and say how it ended: ``"ended with status 1"``.

        Whatever it left running in its group is killed.
        """
        await self._ended.wait()
        self._send(signal.SIGKILL)
        self._swept = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), _DRAIN_S)
        self._transport.close()
        status = self._transport.get_returncode() or 0
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    async def stop(self) -> None:
        """Ask the whole group to end, again every second, and kill it after ten.

        One signal is not enough for LiveKit: the first lets its calls go on, the second ends
        them; and one that comes in the first 0.1 s of serving is lost.
        """
        try:
            for _ in range(_STOP_TRIES):
                self._send(self._stop_signal)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _STOP_EVERY_S)
                    break
            else:
                _log.warning("%s did not end when asked to and is killed", self.name)
        finally:
            self._send(signal.SIGKILL)
        await self.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._swept:  # its number may be another's by now
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a zombie
            os.killpg(self.pid, number)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the process runs."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Asyncio's: a piece of output, of any length."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(line)
        if len(self._rest) > _LINE_BYTES:
            self._hear(self._rest)
            self._rest = b""

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Asyncio's: nobody holds the output open any more."""
        self._hear(self._rest)
        self._drained.set()

    def process_exited(self) -> None:
        """Asyncio's: the process has ended; others of its group may not have."""
        self._ended.set()

    def _hear(self, line: bytes) -> None:
        text = _ESCAPES.sub("", line[:_LINE_BYTES].decode(errors="replace")).expandtabs()
        text = "".join(letter for letter in text if letter.isprintable()).rstrip()
        if text:
            self._lines.append(text)
            _log.debug("%s: %s", self.name, text)


def tied_to(parent: int, stop_signal: signal.Signals) -> Callable[[], None] | None:
    """Run in the child before exec: let the kernel send ``stop_signal`` when the parent dies.

    It runs after setuid, which would clear the setting. macOS has no such call: there
    `runner.guard` alone takes the children of a killed parent down.
    """
    if _PRCTL is None:
        return None

    def tie() -> None:
        _PRCTL(_PR_SET_PDEATHSIG, stop_signal.value, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return tie


def _account(user: str | None) -> dict[str, Any]:
    """Arguments of Popen that drop root's rights for those of ``user``."""
    if user is None or os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ServiceError(f"There is no user {user} to run a service as.") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
