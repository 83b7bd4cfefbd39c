"""The report: one HTML file with its plots, which loads nothing."""

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from runner.bench.figures import Figure
from runner.bench.pareto import Offer, front, offers
from runner.bench.plots import COLOURS, Bar, Series, bars, lines, shares
from runner.bench.results import Results
from runner.bench.summary import Group, against, groups, number, shown_figure
from runner.bench.turns import OURS

_MADE = {
    "stt": "until the transcript",
    "llm": "until the first token",
    "tts": "until the first sound",
    "heard": "until it was heard",
}


def write(results: Results, folder: Path) -> Path:
    """``report.html`` over all results of a folder; its path."""
    path = folder / "report.html"
    path.write_text(page(results), encoding="utf-8")
    return path


def page(results: Results) -> str:
    """The HTML."""
    found = groups(results)
    names = _names(found, results)
    sections = [
        ("Figures", _table(found, results)),
        *_distributions(found, names),
        ("Where a turn's time goes", _stages(found, names)),
        ("What callers wait, against callers", _waits(found, names)),
        ("CPU, against callers", _cpu(found, names)),
        ("Memory, against callers", _memory(found, names)),
        ("Failovers", _failovers(found, names)),
        ("The offers, and which of them is bettered by none", _front(offers(results))),
        ("Rounds that do not count", _void(results)),
        ("What was measured", _runs(results)),
    ]
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections if content)
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return template.replace("<!--sections-->", body)


def _names(found: Sequence[Group], results: Results) -> dict[tuple[str, str], str]:
    """What a run's arm is called: with its label where there are several runs."""
    several = len({group.key[0] for group in found}) > 1
    return {
        (run, arm): f"{arm} ({results.labels()[run]})" if several else arm
        for run, arm, _ in (group.key for group in found)
    }


def _colours(names: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    return {key: COLOURS[at % len(COLOURS)] for at, key in enumerate(names)}


def _table(found: Sequence[Group], results: Results) -> str:
    rows = []
    for group in found:
        run, arm, callers = group.key
        ours = next((one for one in found if one.key == (run, OURS, callers)), None)
        times = [against(ours, found, arm, share) if ours else None for share in (50, 95)]
        rows.append(
            [
                results.labels()[run],
                arm,
                str(callers),
                shown_figure(group.wait(50)),
                shown_figure(group.wait(95)),
                *(_times(one) for one in times),
                f"{group.cut} of {len(group.hesitating)}",
                str(group.lost),
                number(group.cpu_s_per_call_minute),
                number(group.rest_cpu_s_per_call_minute),
                number(group.memory_per_call_mb, 1),
            ]
        )
    head = (
        *("configuration", "arm", "callers", "p50, s", "p95, s", "runner's p50 is"),
        *("runner's p95 is", "hesitations cut", "lost", "CPU s a call-minute", "… at rest"),
        "MB a call",
    )
    return html_table(head, rows)


def _times(figure: Figure | None) -> str:
    return f"{figure.text()} times" if figure else ""


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in rows; everything is escaped."""
    if not rows:
        return ""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines_ = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines_)
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'


def _distributions(
    found: Sequence[Group], names: dict[tuple[str, str], str]
) -> list[tuple[str, str]]:
    colours = _colours(names)
    plots = []
    for callers in sorted({group.key[2] for group in found}):
        series = [
            Series(
                names[group.key[:2]], shares(group.waits_s), colours[group.key[:2]], marked=False
            )
            for group in found
            if group.key[2] == callers and group.waits_s
        ]
        title = f"What callers wait, {callers} at once"
        plots.append((title, lines(series, "seconds", "per cent of turns, at most")))
    return plots


def _stages(found: Sequence[Group], names: dict[tuple[str, str], str]) -> str:
    """Medians of the moments, one after the other, as the simulated providers saw them."""
    rows = []
    for group in found:
        seen = [turn for turn in group.turns if turn.made_s and not turn.hesitates]
        if not seen:
            continue
        moments = [
            statistics.median(turn.made_s[name] for turn in seen)
            for name in _MADE
            if name != "heard"
        ]
        moments.append(statistics.median(turn.e2e_s or 0.0 for turn in seen))
        parts, before = [], 0.0
        for text, moment in zip(_MADE.values(), moments, strict=True):
            parts.append((text, max(moment - before, 0.0)))
            before = max(moment, before)
        rows.append(Bar(names[group.key[:2]], parts))
    return bars(rows, "seconds after the caller's last sound")


def _over_callers(
    found: Sequence[Group],
    names: dict[tuple[str, str], str],
    value: str,
    y_label: str,
) -> str:
    colours = _colours(names)
    series = []
    for key, name in names.items():
        points = [
            (float(group.key[2]), measured)
            for group in sorted(found, key=lambda group: group.key[2])
            if group.key[:2] == key and (measured := getattr(group, value)) is not None
        ]
        series.append(Series(name, points, colours[key]))
    return lines(series, "callers", y_label)


def _waits(found: Sequence[Group], names: dict[tuple[str, str], str]) -> str:
    colours, series = _colours(names), []
    for key, name in names.items():
        mine = sorted((g for g in found if g.key[:2] == key), key=lambda g: g.key[2])
        for share, dashed in ((50, False), (95, True)):
            points = [(float(g.key[2]), w.value) for g in mine if (w := g.wait(share))]
            series.append(Series(f"{name}, p{share}", points, colours[key], dashed=dashed))
    return lines(series, "callers", "seconds")


def _cpu(found: Sequence[Group], names: dict[tuple[str, str], str]) -> str:
    return _over_callers(found, names, "cpu_s_per_call_minute", "CPU seconds a call-minute")


def _memory(found: Sequence[Group], names: dict[tuple[str, str], str]) -> str:
    return _over_callers(found, names, "memory_mb", "MB")


def _failovers(found: Sequence[Group], names: dict[tuple[str, str], str]) -> str:
    rows = [
        Bar(f"{names[group.key[:2]]}, {group.key[2]} callers", [("failovers", group.failovers)])
        for group in found
        if group.failovers
    ]
    return bars(rows, "providers that failed") or "<p>No provider failed.</p>"


def _front(known: list[Offer]) -> str:
    best = front(known)
    rows = [
        [
            offer.label,
            str(offer.callers),
            f"{offer.p95_s:.2f}",
            f"{offer.cpu_s:.2f}",
            "yes" if offer in best else "",
        ]
        for offer in known
    ]
    head = ("configuration", "callers", "p95, s", "CPU s a call-minute", "bettered by none")
    return html_table(head, rows)


def _void(results: Results) -> str:
    rows = [
        [
            results.labels()[one.run],
            one.arm,
            str(one.callers),
            str(one.round),
            ", ".join(one.void),
        ]
        for one in results.rounds
        if one.void
    ]
    return html_table(("configuration", "arm", "callers", "round", "why"), rows)


def _runs(results: Results) -> str:
    rows = [
        [
            *(run.run, results.labels()[run.run], " ".join(run.overrides)),
            *(run.digest, run.machine, run.version),
        ]
        for run in results.runs.values()
    ]
    return html_table(("fingerprint", "configuration", "overrides", "audio", "on", "version"), rows)
