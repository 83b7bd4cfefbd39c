"""What a Hydra sweeper that optimises is given of a combination; the smaller, the better."""

import math
from collections.abc import Callable, Mapping, Sequence

from runner.bench.summary import Group, Key
from runner.config import Objective


def value(
    found: Sequence[Group], key: Key, chosen: Sequence[Objective]
) -> float | tuple[float, ...]:
    """The ``chosen`` objective of the group ``key``, or several in their order. Infinite, so that
    it is never the best: it lost a turn, or nothing that counts was measured."""
    group = next((one for one in found if one.key == key), None)
    values = tuple(_told(group, _OF[name]) for name in chosen)
    return values[0] if len(values) == 1 else values


def _told(group: Group | None, of: Callable[[Group], float | None]) -> float:
    told = None if group is None or group.lost else of(group)
    return math.inf if told is None else told


def _wait(group: Group, share: float) -> float | None:
    waited = group.wait(share)
    return waited.value if waited else None


def _false_ends(group: Group) -> float | None:
    return group.cut / len(group.hesitating) if group.hesitating else None


_OF: Mapping[Objective, Callable[[Group], float | None]] = {
    "p50_s": lambda group: _wait(group, 50),
    "p95_s": lambda group: _wait(group, 95),
    "cpu_s": lambda group: group.cpu_s_per_call_minute,
    "memory_mb": lambda group: group.memory_mb,
    "false_ends": _false_ends,
}
