"""Plots as inline SVG: lines over an axis, and bars of stages. Nothing is loaded from anywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#a6761d")
"""Told apart by the colour-blind too (Okabe and Ito, 2008)."""

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
_ROW = 26
_LABEL = 210
_TICKS = 5


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
    """A row of parts that follow each other, from ``start`` on."""

    name: str
    parts: Sequence[tuple[str, float]]
    start: float = 0.0


def lines(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """All ``series`` over axes that begin at 0."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x_ticks, y_ticks = (_ticks(max(point[at] for point in points)) for at in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + x / x_ticks[-1] * wide, _HEIGHT - _BOTTOM - y / y_ticks[-1] * high

    drawn = []
    for tick in x_ticks:
        x, y = place(tick, 0)
        drawn.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        x, y = place(0, tick)
        drawn.append(f'<path class="grid" d="M{x:.1f} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    drawn += [_line(one, [place(*point) for point in one.points]) for one in series]
    drawn.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{x_label}</text>')
    middle = _HEIGHT / 2
    drawn.append(
        f'<text x="14" y="{middle}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle})">{y_label}</text>'
    )
    return _svg(drawn, _HEIGHT) + legend([(one.name, one.colour) for one in series])


def bars(rows: Sequence[Bar], x_label: str) -> str:
    """Rows of coloured parts, the names of the parts below."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name, _ in row.parts))
    colours = dict(zip(names, COLOURS, strict=False))
    ticks = _ticks(max(row.start + sum(size for _, size in row.parts) for row in rows))
    scale = (_WIDTH - _LABEL - _RIGHT) / ticks[-1]
    bottom = _TOP + _ROW * len(rows)
    drawn = []
    for tick in ticks:
        x = _LABEL + tick * scale
        drawn.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for at, row in enumerate(rows):
        y, x = _TOP + _ROW * at, _LABEL + row.start * scale
        text = escape(row.name)
        drawn.append(f'<text x="{_LABEL - 8}" y="{y + 17}" text-anchor="end">{text}</text>')
        for name, size in row.parts:
            tip = f"<title>{escape(name)}: {size:.3f}</title>"
            width = max(size * scale, 0)
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" '
                f'fill="{colours[name]}">{tip}</rect>'
            )
            x += width
    middle = (_LABEL + _WIDTH) / 2
    drawn.append(f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{x_label}</text>')
    return _svg(drawn, bottom + 44) + legend(list(colours.items()))


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colours and what they stand for."""
    items = [f'<li style="--c:{colour}">{escape(name)}</li>' for name, colour in entries]
    return f'<ul class="legend">{"".join(items)}</ul>'


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """The empirical distribution: for each value the share (per cent) that is no greater."""
    ordered = sorted(values)
    points = [(0.0, 0.0)]
    for at, value in enumerate(ordered):
        points += [(value, 100 * at / len(ordered)), (value, 100 * (at + 1) / len(ordered))]
    return points


def _line(series: Series, places: list[tuple[float, float]]) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dash = ' stroke-dasharray="5 4"' if series.dashed else ""
    tip = f"<title>{escape(series.name)}</title>"
    drawn = f'<path fill="none" stroke="{series.colour}"{dash} d="{path}">{tip}</path>'
    if series.marked:
        for (x, y), (_, value) in zip(places, series.points, strict=True):
            tip = f"<title>{escape(series.name)}: {value:.3g}</title>"
            drawn += (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{series.colour}">{tip}</circle>'
            )
    return drawn


def _svg(drawn: Sequence[str], height: float) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(drawn)}</svg>'


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 to ``top`` or a little more."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / _TICKS
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * nice for nice in (1, 2, 2.5, 5, 10) if scale * nice >= raw)
    return [step * at for at in range(math.ceil(top / step - 1e-9) + 1)]
