"""The report: one HTML file with its plots, which loads nothing."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from runner.bench import knee
from runner.bench.figures import Figure
from runner.bench.pareto import Offer, front, offers
from runner.bench.pictures import Names, Picture, pictures
from runner.bench.pictures import write as write_pictures
from runner.bench.results import Results
from runner.bench.summary import Group, against, groups, names, number, shown_figure
from runner.bench.turns import OURS

_LONG = 40  # letters


def write(results: Results, folder: Path) -> Path:
    """``report.html`` over all results of a folder, and its plots as files; the report's path."""
    found = groups(results)
    called = names(found, results)
    drawn = pictures(found, called)
    write_pictures(drawn, folder)
    path = folder / "report.html"
    path.write_text(_page(results, found, called, drawn), encoding="utf-8")
    return path


def _page(results: Results, found: Sequence[Group], called: Names, drawn: Sequence[Picture]) -> str:
    sections = [
        ("Figures", _table(found, results)),
        ("Plots", _plots(found, drawn)),
        ("The knee", _knee(found, called)),
        ("The offers, and which of them is bettered by none", _front(offers(results))),
        ("Rounds that do not count", _void(results)),
        ("What was measured", _runs(results)),
    ]
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections if content)
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return template.replace("<!--sections-->", body)


def _plots(found: Sequence[Group], drawn: Sequence[Picture]) -> str:
    figures = [
        f"<figure><figcaption>{escape(picture.title)}</figcaption>{picture.svg}</figure>"
        for picture in drawn
    ]
    failed = any(group.failovers for group in found)
    return f'<div class="plots">{"".join(figures)}</div>' + (
        "" if failed else "<p>Failovers: no provider failed.</p>"
    )


def _knee(found: Sequence[Group], called: Names) -> str:
    told = [f"<p>{escape(line)}</p>" for line in knee.sentences(found, called)]
    return "".join(told) + html_table(knee.HEAD, list(knee.rows(found, called)))


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
    """Text in rows, of which only long ones are broken; everything is escaped."""
    if not rows:
        return ""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ["".join(map(_cell, row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    long = ' class="long"' if len(text) > _LONG else ""
    return f"<td{long}>{escape(text)}</td>"


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
