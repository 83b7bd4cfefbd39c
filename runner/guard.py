"""Ends the process groups that a killed parent left behind.

The kernel's parent-death signal (`runner.child`) reaches a direct child only, and only on Linux.
What that child started itself is reached from here: a small process beside the children, in a
session of its own so that neither Ctrl-C nor the parent's group takes it along. It reads lines
``+ <group> <signal>`` and ``- <group>``; the end of its input means that the parent is gone,
however it went.

A process that leaves its group (a daemon calling ``setsid``) is out of reach.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

_TRIES = 10  # stop signals, and then SIGKILL; several for the reason that `Child.stop` gives
_EVERY_S = 1.0
_POLL_S = 0.02


class Guard:
    """The parent's end: which process groups to take down should the parent not get to it."""

    def __init__(self) -> None:
        read_end, self._pipe = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603  this very file
            [sys.executable, "-I", "-S", __file__],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(read_end)

    def watch(self, group: int, stop_signal: signal.Signals) -> None:
        """From now on ``group`` gets ``stop_signal``, then SIGKILL, when this process dies."""
        self._tell(f"+ {group} {stop_signal.value}\n")

    def forget(self, group: int) -> None:
        """``group`` has ended."""
        self._tell(f"- {group}\n")

    def close(self) -> None:
        """Dismiss the guard; what it still watches is ended by it first."""
        os.close(self._pipe)
        self._process.wait()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # killed by hand: the kernel's signal remains
            os.write(self._pipe, line.encode())


def main() -> None:
    """The guard's own process: collect groups until the input ends, then end them."""
    groups: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", group, stop_signal]:
                groups[int(group)] = int(stop_signal)
            case ["-", group]:
                groups.pop(int(group), None)
    _end(groups)


def _end(groups: dict[int, int]) -> None:
    left = list(groups)
    for _ in range(_TRIES):
        left = [group for group in left if _send(group, groups[group])]
        deadline = time.monotonic() + _EVERY_S
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            left = [group for group in left if _send(group, 0)]
    for group in left:
        _send(group, signal.SIGKILL)


def _send(group: int, number: int) -> bool:
    """Whether anyone was there to get the signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
