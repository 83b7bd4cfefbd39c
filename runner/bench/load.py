"""What processes take: CPU and memory of a process with all its children."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

_MB = 1_000_000


@dataclass
class Shares:
    """Of one core, by name, while a block ran; and how long that was."""

    cpu: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def shares(pids: dict[str, int | None]) -> Iterator[Shares]:
    """Fills the result when the block ends; None: a process that nobody knows takes nothing."""
    found = Shares()
    began, before = time.monotonic(), {name: _cpu_s(pid) for name, pid in pids.items()}
    try:
        yield found
    finally:
        found.seconds = time.monotonic() - began
        found.cpu = {
            name: (_cpu_s(pid) - before[name]) / max(found.seconds, 0.001)
            for name, pid in pids.items()
        }


def _cpu_s(pid: int | None) -> float:
    total_s = 0.0
    for process in _family(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


def memory_mb(pid: int | None) -> float:
    """What the family has to itself, and its share of what it shares (PSS); where the system does
    not tell that, what it has to itself (USS)."""
    total = 0
    for process in _family(pid):
        with suppress(psutil.Error):
            told = process.memory_full_info()
            total += getattr(told, "pss", told.uss)
    return total / _MB


def _family(pid: int | None) -> list[psutil.Process]:
    if pid is None:
        return []
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def own_cpu_s() -> float:
    """Of this process alone, without its children."""
    times = psutil.Process().cpu_times()
    return times.user + times.system


def process_of(*words: str) -> int | None:
    """A process on whose command line all ``words`` are."""
    for process in psutil.process_iter(["cmdline"]):
        if set(words) <= set(process.info["cmdline"] or []):
            return int(process.pid)
    return None
