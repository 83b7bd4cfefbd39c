"""The sweep's offers, which of them none betters in everything, and the pick as a preset."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from runner.bench.results import Results
from runner.bench.summary import groups
from runner.bench.turns import OURS

_NOT_OURS = ("task", "+experiment", "hydra", "simulate")


@dataclass(frozen=True)
class Offer:
    """A configuration at a load: what callers wait, what a call-minute takes of a core."""

    run: str
    label: str
    callers: int
    p95_s: float
    cpu_s: float

    def betters(self, other: "Offer") -> bool:
        """As good in everything, and better in something."""
        mine = (self.p95_s, self.cpu_s, -self.callers)
        theirs = (other.p95_s, other.cpu_s, -other.callers)
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def offers(results: Results) -> list[Offer]:
    """Of our own agent. One that lost a turn is none."""
    labels = results.labels()
    return [
        Offer(group.key[0], labels[group.key[0]], group.key[2], wait.value, cpu_s)
        for group in groups(results)
        if group.key[1] == OURS and not group.lost
        if (wait := group.wait(95)) and (cpu_s := group.cpu_s_per_call_minute) is not None
    ]


def front(known: Sequence[Offer]) -> list[Offer]:
    """The Pareto front of latency, cost and load."""
    return [one for one in known if not any(other.betters(one) for other in known)]


def pick(known: Sequence[Offer], p95_s: float) -> Offer | None:
    """Of those on the front that keep ``p95_s``: the most callers, then the quickest, then the
    cheapest; None: nobody keeps it."""
    kept = [one for one in front(known) if one.p95_s <= p95_s]
    return min(kept, key=lambda one: (-one.callers, one.p95_s, one.cpu_s), default=None)


def preset(offer: Offer, overrides: Sequence[str], p95_s: float) -> str:
    """The pick as a file of the group ``experiment``. ``overrides``: those of its run."""
    chosen = [one for one in overrides if not one.startswith(_NOT_OURS)]
    options, keys = [], OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(chosen):
        name, value = override.key_or_group, override.value()
        if "." in name:
            OmegaConf.update(keys, name, value, force_add=True)
        else:
            options.append({f"override /{name}": value})
    body = OmegaConf.create({"defaults": [*options, "_self_"]})
    again = shlex.join(["python", "-m", "runner", *overrides, f"task.callers={offer.callers}"])
    return (
        "# @package _global_\n"
        f"# The pick of a sweep: {offer.callers} callers at once, p95 {offer.p95_s:.2f} s "
        f"(asked: {p95_s:g} s), {offer.cpu_s:.2f} CPU seconds a call-minute.\n"
        f"# Measured by:\n#   {again}\n"
        f"{OmegaConf.to_yaml(body)}{OmegaConf.to_yaml(keys) if keys else ''}"
    )


def write(offer: Offer, results: Results, p95_s: float, path: Path) -> None:
    """Raises:
    OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(preset(offer, results.runs[offer.run].overrides, p95_s))
