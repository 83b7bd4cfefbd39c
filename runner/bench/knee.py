"""The knee: the first number of callers who wait twice as long as one, and who is busy there."""

from collections.abc import Iterator, Mapping, Sequence

from runner.bench.summary import Group, by_callers, number

TIMES = 2.0
"""Of one caller's 95th percentile: with more, that number of callers is the knee."""

HEAD = (
    *("arm", "callers", "p95, s", "times one caller's", "agent, cores", "simulator, cores"),
    *("callers, cores", "callers late, ms", "void rounds", ""),
)
"""Of `rows`."""


def times(group: Group, alone: Group) -> float | None:
    """How many times the 95th percentile of ``alone`` that of ``group`` is."""
    one, several = alone.wait(95), group.wait(95)
    return several.value / one.value if one and several else None


def knee(mine: Sequence[Group]) -> Group | None:
    """Of an arm's groups; None: none has twice one caller's, or one caller was not measured."""
    alone = _alone(mine)
    beyond = (one for one in mine if alone and (times(one, alone) or 0) > TIMES)
    return min(beyond, key=lambda one: one.callers, default=None)


def sentences(found: Sequence[Group], names: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """For each arm that was called by one and by several: where its knee is, and who was busy
    there, or with the most callers."""
    for name, mine, alone in _compared(found, names):
        bend = knee(mine)
        shown = bend or next(one for one in reversed(mine) if one.wait(95))
        where = "the knee is at" if bend else "no knee up to"
        yield (
            f"{name}: {where} {shown.callers} callers; their p95 is {_p95(shown)} s, "
            f"{number(times(shown, alone))} times one caller's. Busy meanwhile: the agent "
            f"{number(shown.mean('cpu'))} of a core, the simulator "
            f"{number(shown.mean('simulator_cpu'))}, the callers "
            f"{number(shown.mean('driver_cpu'))}; they were up to {_late_ms(shown):.0f} ms late."
        )


def rows(found: Sequence[Group], names: Mapping[tuple[str, str], str]) -> Iterator[list[str]]:
    """The same for every number of callers; what void rounds took is told, too."""
    for name, mine, alone in _compared(found, names):
        bend = knee(mine)
        for group in mine:
            yield [
                name,
                str(group.callers),
                _p95(group),
                number(times(group, alone)),
                number(group.mean("cpu")),
                number(group.mean("simulator_cpu")),
                number(group.mean("driver_cpu")),
                f"{_late_ms(group):.0f}",
                f"{len(group.rounds) - len(group.counted)} of {len(group.rounds)}",
                "the knee" if group is bend else "",
            ]


def _compared(
    found: Sequence[Group], names: Mapping[tuple[str, str], str]
) -> Iterator[tuple[str, list[Group], Group]]:
    for key, name in names.items():
        mine = by_callers(found, key)
        if len(mine) > 1 and (alone := _alone(mine)):
            yield name, mine, alone


def _alone(mine: Sequence[Group]) -> Group | None:
    """One caller's, where somebody was answered."""
    return next((one for one in mine if one.callers == 1 and one.wait(95)), None)


def _p95(group: Group) -> str:
    waited = group.wait(95)
    return number(waited.value if waited else None)


def _late_ms(group: Group) -> float:
    return 1000 * max(one.driver_late_s for one in group.rounds)
