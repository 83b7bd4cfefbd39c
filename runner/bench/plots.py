"""Plots as SVG: lines over an axis, and bars of parts. Each is whole: a page may hold it, or a file
of its own. Nothing is loaded from anywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#a6761d")
"""Told apart by the colour-blind too (Okabe and Ito, 2008)."""

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_ROW = 26
_MOST_LABEL = 340
_TICKS = 5
_KEY, _KEY_ROW, _KEY_GAP = 22, 20, 16  # of a legend's entry: its sample of the line, height, gap
_LETTER = 6.4  # mean width
_STYLE = (  # the system's colours: a file follows the reader's light or dark as a page does
    "<style>.plot{color-scheme:light dark;background:Canvas;color:CanvasText}"
    ".plot text{font:12px system-ui,sans-serif;fill:currentcolor}"
    ".plot path{fill:none;stroke-width:2}.plot .grid{stroke:#8884;stroke-width:1}</style>"
)


@dataclass(frozen=True)
class Series:
    """A line of ``points``; ``marked``: each point is shown."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    marked: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Bar:
    """A row of parts that follow each other."""

    name: str
    parts: Sequence[tuple[str, float]]


def lines(series: Sequence[Series], x_label: str, y_label: str, *, whole_x: bool = False) -> str:
    """All ``series`` over axes that begin at 0. ``whole_x``: things are counted on that axis."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x_ticks = _ticks(max(x for x, _ in points), least=1 if whole_x else 0)
    y_ticks = _ticks(max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + x / x_ticks[-1] * wide, _HEIGHT - _BOTTOM - y / y_ticks[-1] * high

    drawn = []
    for tick in x_ticks:
        x, y = place(tick, 0)
        drawn.append(_text(x, y + 16, f"{tick:g}"))
    for tick in y_ticks:
        x, y = place(0, tick)
        drawn.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(_text(x - 6, y + 4, f"{tick:g}", "end"))
    drawn += [_line(one, [place(*point) for point in one.points]) for one in series]
    drawn.append(_text(_WIDTH / 2, _HEIGHT - 8, x_label))
    turned = f'<g transform="translate(14 {_HEIGHT / 2}) rotate(-90)">{_text(0, 0, y_label)}</g>'
    keys = [(one.name, one.colour, one.dashed) for one in series if one.points]
    return _svg([*drawn, turned], _HEIGHT, keys, f"{y_label}, by {x_label}")


def bars(rows: Sequence[Bar], x_label: str) -> str:
    """Rows of coloured parts, the names of the parts below."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.parts))
    colours = dict(zip(names, COLOURS, strict=False))
    ticks = _ticks(max(sum(size for _, size in row.parts) for row in rows))
    label = min(max(len(row.name) for row in rows) * _LETTER + _KEY, _MOST_LABEL)
    scale = (_WIDTH - label - _RIGHT) / ticks[-1]
    bottom = _TOP + _ROW * len(rows)
    drawn = []
    for tick in ticks:
        x = label + tick * scale
        drawn.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        drawn.append(_text(x, bottom + 16, f"{tick:g}"))
    for at, row in enumerate(rows):
        y, x = _TOP + _ROW * at, label
        drawn.append(_text(label - 8, y + 17, _fitted(row.name, label - 8), "end"))
        for name, size in row.parts:
            tip = f"<title>{escape(name)}: {size:.3g}</title>"
            width = size * scale
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" '
                f'fill="{colours[name]}">{tip}</rect>'
            )
            x += width
    drawn.append(_text((label + _WIDTH) / 2, bottom + 36, x_label))
    keys = [(name, colour, False) for name, colour in colours.items()]
    return _svg(drawn, bottom + 44, keys, x_label)


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """The empirical distribution: for each value the share (per cent) that is no greater."""
    ordered = sorted(values)
    points = [(0.0, 0.0)]
    for at, value in enumerate(ordered):
        points += [(value, 100 * at / len(ordered)), (value, 100 * (at + 1) / len(ordered))]
    return points


def _line(series: Series, places: list[tuple[float, float]]) -> str:
    if not places:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    tip = f"<title>{escape(series.name)}</title>"
    drawn = f'<path stroke="{series.colour}"{_dash(series.dashed)} d="{path}">{tip}</path>'
    if series.marked:
        for (x, y), (_, value) in zip(places, series.points, strict=True):
            tip = f"<title>{escape(series.name)}: {value:.3g}</title>"
            drawn += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{series.colour}">{tip}</circle>'
            )
    return drawn


def _dash(dashed: bool) -> str:  # noqa: FBT001  the one thing that it is told
    return ' stroke-dasharray="5 4"' if dashed else ""


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _fitted(text: str, width: float) -> str:
    most = int(width / _LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _svg(
    drawn: Sequence[str], height: float, keys: Sequence[tuple[str, str, bool]], alt: str
) -> str:
    """With the legend of ``keys`` (name, colour, dashed) below, in as many rows as it needs."""
    x, y, legend = float(_LEFT), height + _KEY_ROW * 0.7, []
    for full, colour, dashed in keys:
        name = _fitted(full, _WIDTH - _LEFT - _KEY)
        wide = _KEY + len(name) * _LETTER
        if x > _LEFT and x + wide > _WIDTH:
            x, y = float(_LEFT), y + _KEY_ROW
        sample = f'd="M{x:.1f} {y - 4:.1f}h16" stroke="{colour}"{_dash(dashed)}'
        legend += [f'<path style="stroke-width:4" {sample}/>', _text(x + _KEY, y, name, "start")]
        x += wide + _KEY_GAP
    whole = y + _KEY_ROW / 2
    return (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{escape(alt)}" width="{_WIDTH}" height="{whole:g}" '
        f'viewBox="0 0 {_WIDTH} {whole:g}">{_STYLE}{"".join([*drawn, *legend])}</svg>'
    )


def _ticks(top: float, least: float = 0) -> list[float]:
    """Round numbers from 0 to ``top`` or a little more, ``least`` or more apart."""
    if top <= 0:
        return [0.0, 1.0]
    raw = max(top / _TICKS, least)
    scale = 10.0 ** math.floor(math.log10(raw))
    nice = (1, 2, 5, 10) if least else (1, 2, 2.5, 5, 10)
    step = next(scale * one for one in nice if scale * one >= raw)
    return [step * at for at in range(math.ceil(top / step - 1e-9) + 1)]
