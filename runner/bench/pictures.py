"""The results as plots, each with the name of its file."""

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.bench.plots import COLOURS, Bar, Series, bars, lines, shares
from runner.bench.summary import Group, by_callers
from runner.bench.turns import OURS, Turn

_MADE = {
    "stt": "until the transcript",
    "llm": "until the first token",
    "tts": "until the first sound",
    "heard": "until it was heard",
}
_TOLD = {
    "stt": "speech to transcript",
    "end_of_turn": "speech to end of turn",
    "llm_ttft": "LLM to first token",
    "tts_ttfb": "TTS to first sound",
}

Names = Mapping[tuple[str, str], str]
"""What the arms of the runs are called."""

Line = tuple[str, Callable[[Group], float | None]]
"""What is added to an arm's name, and what is shown of each of its groups; the second line of an
arm is dashed."""


@dataclass(frozen=True)
class Picture:
    """A plot. ``svg`` is whole: a file of its own, or a part of a page."""

    name: str
    title: str
    svg: str


def pictures(found: Sequence[Group], names: Names) -> list[Picture]:
    """All of which something was measured."""
    drawn = [
        *_distributions(found, names),
        *_moments(found, names),
        Picture("stages", "Where a turn's time goes, medians", _stages(found, names)),
        Picture("wait", "What callers wait, against callers", _waits(found, names)),
        Picture("agent", "Stages as the agent tells them, p95", _told(found, names)),
        Picture("cpu", "CPU, against callers", _cpu(found, names)),
        Picture("cores", "Busy cores, against callers", _cores(found, names)),
        Picture("memory", "Memory, against callers", _memory(found, names)),
        Picture("failovers", "Failovers", _failovers(found, names)),
    ]
    return [picture for picture in drawn if picture.svg]


def write(drawn: Sequence[Picture], folder: Path) -> None:
    """Each as ``<name>.svg``."""
    for picture in drawn:
        (folder / f"{picture.name}.svg").write_text(picture.svg + "\n", encoding="utf-8")


def _colours(names: Names) -> dict[tuple[str, str], str]:
    return {key: COLOURS[at % len(COLOURS)] for at, key in enumerate(names)}


def _distributions(found: Sequence[Group], names: Names) -> Iterator[Picture]:
    """What callers wait, a plot for each number of them."""
    colours = _colours(names)
    for callers in sorted({group.callers for group in found}):
        series = [
            Series(names[key], shares(group.waits_s), colours[key], marked=False)
            for group in found
            if group.callers == callers and group.waits_s and (key := group.key[:2])
        ]
        drawn = lines(series, "seconds", "per cent of turns, at most")
        yield Picture(f"wait-{callers}", f"What callers wait, {callers} at once", drawn)


def _moments(found: Sequence[Group], names: Names) -> Iterator[Picture]:
    """How the moments are distributed that the simulated providers saw, a plot for each arm; of
    several runs' the files are numbered."""
    runs = list(dict.fromkeys(run for run, _ in names))
    for group in found:
        if not (seen := _seen(group)):
            continue
        series = [
            Series(text, shares([_moment(turn, name) for turn in seen]), colour, marked=False)
            for (name, text), colour in zip(_MADE.items(), COLOURS, strict=False)
        ]
        run, arm, _ = group.key
        file = re.sub(r"\W+", "-", arm) + (f"-{runs.index(run) + 1}" if len(runs) > 1 else "")
        drawn = lines(series, "seconds after the caller's last sound", "per cent of turns, at most")
        yield Picture(f"stages-{file}", f"Stages of a turn: {names[run, arm]}", drawn)


def _stages(found: Sequence[Group], names: Names) -> str:
    """Medians of the same moments, one after the other."""
    rows = []
    for group in found:
        if not (seen := _seen(group)):
            continue
        parts, before = [], 0.0
        for name, text in _MADE.items():
            moment = statistics.median(_moment(turn, name) for turn in seen)
            parts.append((text, max(moment - before, 0.0)))
            before = max(moment, before)
        rows.append(Bar(names[group.key[:2]], parts))
    return bars(rows, "seconds after the caller's last sound")


def _seen(group: Group) -> list[Turn]:
    return [turn for turn in group.turns if turn.made_s and not turn.hesitates]


def _moment(turn: Turn, name: str) -> float:
    return (turn.e2e_s or 0.0) if name == "heard" else turn.made_s[name]


def _over_callers(found: Sequence[Group], names: Names, y_label: str, *drawn: Line) -> str:
    colours, series = _colours(names), []
    for key, name in names.items():
        for at, (suffix, value) in enumerate(drawn):
            points = [
                (float(group.callers), measured)
                for group in by_callers(found, key)
                if (measured := value(group)) is not None
            ]
            series.append(Series(f"{name}{suffix}", points, colours[key], dashed=at > 0))
    return lines(series, "callers", y_label, whole_x=True)


def _waits(found: Sequence[Group], names: Names) -> str:
    def wait(share: float) -> Callable[[Group], float | None]:
        return lambda group: figure.value if (figure := group.wait(share)) else None

    return _over_callers(found, names, "seconds", (", p50", wait(50)), (", p95", wait(95)))


def _told(found: Sequence[Group], names: Names) -> str:
    """Which stage grows with the callers; others tell nothing of theirs."""
    series, colours = [], iter(COLOURS * len(names))
    for key, name in names.items():
        for stage, text in _TOLD.items() if key[1] == OURS else ():
            points = [
                (float(group.callers), float(np.percentile(told, 95)))
                for group in by_callers(found, key)
                if (told := [turn.told_s[stage] for turn in group.turns if stage in turn.told_s])
            ]
            full = text if len(names) == 1 else f"{name}: {text}"
            series.append(Series(full, points, next(colours)))
    return lines(series, "callers", "seconds", whole_x=True)


def _cpu(found: Sequence[Group], names: Names) -> str:
    value = ("", lambda group: group.cpu_s_per_call_minute)
    return _over_callers(found, names, "CPU seconds a call-minute", value)


def _cores(found: Sequence[Group], names: Names) -> str:
    """Of void rounds, too: it says why they are."""

    def measuring(group: Group) -> float | None:
        return (group.mean("simulator_cpu") or 0.0) + (group.mean("driver_cpu") or 0.0)

    drawn = (("", lambda group: group.mean("cpu")), (", simulator and callers", measuring))
    return _over_callers(found, names, "cores", *drawn)


def _memory(found: Sequence[Group], names: Names) -> str:
    return _over_callers(found, names, "MB", ("", lambda group: group.memory_mb))


def _failovers(found: Sequence[Group], names: Names) -> str:
    if not any(group.failovers for group in found):
        return ""
    value = ("", lambda group: float(group.failovers))
    return _over_callers(found, names, "providers that failed", value)
