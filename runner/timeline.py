"""What the operator's plots are drawn from: the last hours in steps, in memory."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.calls import Call, Told

STEP_S = 15
"""The finest step."""

_KEPT_STEPS = 6 * 3600 // STEP_S
_POINTS = 120  # of a plot, at most; more are put together
_MOST_VALUES = 500  # of a stage in a step; 20 calls have 10

STAGES = ("stt", "end_of_turn", "retrieval", "llm_ttft", "tts_ttfb", "e2e")
"""Of a turn, as they are named in its ``stages_s``."""


@dataclass
class _Step:
    turns: int = 0
    failovers: int = 0
    waiting: int = 0
    stages_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Plots:
    """Series of the same length, a value each ``step_s`` seconds since ``since`` (seconds since
    1970); None: nothing was measured."""

    step_s: int
    since: float
    series: dict[str, list[float | None]]


class Timeline:
    """The last six hours."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._steps: deque[tuple[int, _Step]] = deque(maxlen=_KEPT_STEPS)

    def turn(self, _: Call, told: Told) -> None:
        """Takes note of an answer."""
        if told["role"] != "assistant":
            return
        step = self._now()
        step.turns += 1
        step.failovers += sum(len(service["failovers"]) for service in told["services"].values())
        for stage, seconds in told["stages_s"].items():
            if len(values := step.stages_s[stage]) < _MOST_VALUES:
                values.append(seconds)

    def wait(self, waiting: int) -> None:
        """Takes note of how many requests wait for their permit; the most of a step counts."""
        if waiting:
            step = self._now()
            step.waiting = max(step.waiting, waiting)

    def plots(self, minutes: int) -> Plots:
        """The last ``minutes``, the current step included."""
        wanted = max(minutes * 60 // STEP_S, 1)
        wide = math.ceil(wanted / _POINTS)
        points = math.ceil(wanted / wide)
        last = int(self._clock()) // (STEP_S * wide)
        first = last - points + 1
        grouped: dict[int, list[_Step]] = defaultdict(list)
        for number, step in self._steps:
            grouped[number // wide].append(step)
        steps = [grouped.get(number, []) for number in range(first, last + 1)]
        return Plots(STEP_S * wide, float(first * STEP_S * wide), _series(steps, STEP_S * wide))

    def _now(self) -> _Step:
        number = int(self._clock()) // STEP_S
        if not self._steps or self._steps[-1][0] != number:
            self._steps.append((number, _Step()))
        return self._steps[-1][1]


def _series(points: list[list[_Step]], step_s: int) -> dict[str, list[float | None]]:
    series: dict[str, list[float | None]] = {
        "turns_per_minute": [sum(s.turns for s in steps) * 60 / step_s for steps in points],
        "failovers": [float(sum(s.failovers for s in steps)) for steps in points],
        "waiting": [float(max((s.waiting for s in steps), default=0)) for steps in points],
    }
    for stage in STAGES:
        values = [sorted(v for s in steps for v in s.stages_s.get(stage, ())) for steps in points]
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            series[f"{stage}_{name}_s"] = [_percentile(found, share) for found in values]
    return series


def _percentile(ordered: list[float], share: float) -> float | None:
    """The nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
