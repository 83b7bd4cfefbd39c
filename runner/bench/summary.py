"""Results put together: an arm at a number of callers, over all its rounds that count."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from runner.bench.figures import Figure, percentile, ratio
from runner.bench.results import Results
from runner.bench.turns import OURS, Round, Turn

Key = tuple[str, str, int]
"""Run, arm, callers."""


@dataclass
class Group:
    """All rounds of a `Key`."""

    key: Key
    rounds: list[Round] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    @property
    def callers(self) -> int:
        """At once."""
        return self.key[2]

    @property
    def counted(self) -> list[Round]:
        """Rounds that are not void."""
        return [one for one in self.rounds if not one.void]

    @property
    def waits_s(self) -> list[float]:
        """What callers waited in turns without a hesitation: the same turns for every arm."""
        return [one.e2e_s for one in self.turns if one.e2e_s is not None and not one.hesitates]

    @property
    def hesitating(self) -> list[Turn]:
        return [one for one in self.turns if one.hesitates]

    @property
    def cut(self) -> int:
        """Hesitations that were taken for the end."""
        return sum(one.cut for one in self.hesitating)

    @property
    def lost(self) -> int:
        return sum(one.lost for one in self.turns)

    @property
    def failovers(self) -> int:
        return sum(one.failovers for one in self.turns)

    @property
    def cpu_s_per_call_minute(self) -> float | None:
        """Seconds of a core that a minute of a call adds while it talks."""
        return _mean([60 * (one.cpu - one.idle) / one.callers for one in self.counted])

    @property
    def rest_cpu_s_per_call_minute(self) -> float | None:
        """The same while it is silent."""
        return _mean([60 * (one.at_rest - one.idle) / one.callers for one in self.counted])

    @property
    def memory_per_call_mb(self) -> float | None:
        """What a call adds."""
        return _mean([(one.memory - one.memory_idle) / one.callers for one in self.counted])

    @property
    def memory_mb(self) -> float | None:
        return _mean([one.memory for one in self.counted])

    def mean(self, fact: str) -> float | None:
        """Of a number in all its rounds: what void ones took says why they are void."""
        return _mean([getattr(one, fact) for one in self.rounds])

    def wait(self, share: float) -> Figure | None:
        """A percentile of what callers waited, in seconds."""
        return percentile(self.waits_s, share) if self.waits_s else None


def groups(results: Results) -> list[Group]:
    """In the order in which they were measured. Turns of void rounds are left out."""
    found: dict[Key, Group] = {}
    for one in results.rounds:
        key = (one.run, one.arm, one.callers)
        found.setdefault(key, Group(key)).rounds.append(one)
    valid = results.valid()
    for turn in results.turns:
        if (turn.run, turn.arm, turn.callers, turn.round) in valid:
            found[(turn.run, turn.arm, turn.callers)].turns.append(turn)
    return list(found.values())


def names(found: Sequence[Group], results: Results) -> dict[tuple[str, str], str]:
    """What a run's arm is called: with its label where there are several runs."""
    several = len({group.key[0] for group in found}) > 1
    labels = results.labels()
    return {
        (run, arm): f"{arm} ({labels[run]})" if several else arm
        for run, arm, _ in (group.key for group in found)
    }


def by_callers(found: Sequence[Group], key: tuple[str, str]) -> list[Group]:
    """Those of a run's arm, the fewest callers first."""
    return sorted((g for g in found if g.key[:2] == key), key=lambda group: group.callers)


def against(group: Group, all_groups: Sequence[Group], arm: str, share: float) -> Figure | None:
    """How many times what callers of ``arm`` wait those of ``group`` do, in the same run."""
    run, _, callers = group.key
    other = next((one for one in all_groups if one.key == (run, arm, callers)), None)
    if other is None or other is group or not (group.waits_s and other.waits_s):
        return None
    return ratio(group.waits_s, other.waits_s, share)


def table(results: Results) -> Table:
    """A row for each group."""
    found = groups(results)
    columns = ("", "arm", "callers", "p50 s", "p95 s", "runner is", "false ends", "lost")
    shown = Table(*columns, "CPU s/min", "at rest", "MB a call", "rounds")
    for group in found:
        run, arm, callers = group.key
        ours = next((one for one in found if one.key == (run, OURS, callers)), None)
        times = against(ours, found, arm, 50) if ours else None
        void = len(group.rounds) - len(group.counted)
        shown.add_row(
            results.labels()[run],
            arm,
            str(callers),
            shown_figure(group.wait(50)),
            shown_figure(group.wait(95)),
            f"{times.text()} x" if times else "",
            f"{group.cut} of {len(group.hesitating)}",
            str(group.lost),
            number(group.cpu_s_per_call_minute),
            number(group.rest_cpu_s_per_call_minute),
            number(group.memory_per_call_mb, 1),
            f"{len(group.counted)}" + (f", {void} void" if void else ""),
        )
    return shown


def shown_figure(figure: Figure | None) -> str:
    """With its interval; a dash: nobody was answered."""
    return figure.text() if figure else "-"


def number(value: float | None, digits: int = 2) -> str:
    """A dash: no round counts."""
    return "-" if value is None else f"{value:.{digits}f}"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
