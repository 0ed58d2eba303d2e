"""Plots as SVG: bars and lines are all that is needed, and this is all that they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 760
LEFT: Final = 210
RIGHT: Final = 60
BAR: Final = 14
COLOURS: Final = ("#9aa5b1", "#2f6f9f", "#c8843c", "#5b8c5a")
"""The bare statements are grey; without colour, place and dashes tell them apart."""


@dataclass(frozen=True)
class Bars:
    """Groups of bars that lie; in each group one for each name."""

    title: str
    unit: str
    names: Sequence[str]
    groups: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Lines:
    """One line for each name, over the same places on a logarithmic axis."""

    title: str
    unit: str
    places: Sequence[float]
    lines: Sequence[tuple[str, Sequence[float]]]


def draw_bars(plot: Bars) -> str:
    """The plot as an SVG document."""
    most = max(value for _, values in plot.groups for value in values) or 1
    scale = (WIDTH - LEFT - RIGHT) / most
    parts, y = [_text(8, 22, plot.title, weight="bold")], 40
    parts += _legend(plot.names, y)
    y += 26
    for label, values in plot.groups:
        parts.append(_text(LEFT - 8, y + BAR * len(values) / 2 + 4, label, anchor="end"))
        for index, value in enumerate(values):
            width = max(1.0, value * scale)
            colour = COLOURS[(index if len(plot.names) > 1 else 1) % len(COLOURS)]
            parts.append(
                f'<rect x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>'
            )
            parts.append(_text(LEFT + width + 5, y + BAR - 4, _short(value), size=11))
            y += BAR
        y += 9
    parts.append(_text(LEFT, y + 12, plot.unit, size=11))
    return _document(y + 24, parts)


def draw_lines(plot: Lines) -> str:
    """The plot as an SVG document; the upright axis begins at zero."""
    top, bottom, left = 70, 320, 60
    most = max(value for _, values in plot.lines for value in values) or 1
    first, last = math.log10(min(plot.places)), math.log10(max(plot.places))

    def x(place: float) -> float:
        return left + (math.log10(place) - first) / ((last - first) or 1) * (WIDTH - left - 190)

    def y(value: float) -> float:
        return bottom - value / most * (bottom - top)

    parts = [_text(8, 22, plot.title, weight="bold"), _text(8, 44, plot.unit, size=11)]
    for part in range(5):
        value = most * part / 4
        parts.append(
            f'<line x1="{left}" x2="{WIDTH - 190}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#8888" stroke-width="0.5"/>'
        )
        parts.append(_text(left - 6, y(value) + 4, _short(value), anchor="end", size=11))
    for place in plot.places:
        told = f"{place:,.0f}"
        parts.append(_text(x(place), bottom + 18, told, anchor="middle", size=11))
    parts.append(_text(WIDTH - 190, bottom + 34, "refunds in the tables", anchor="end", size=11))
    ends: list[float] = []
    for index, (name, values) in enumerate(plot.lines):
        points = [(x(place), y(value)) for place, value in zip(plot.places, values, strict=True)]
        colour, dashes = COLOURS[index % len(COLOURS)], "5 3" if index % 2 == 0 else "none"
        drawn = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(
            f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"/>'
        )
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        # Names stand behind the lines' ends, apart from each other where these lie close.
        at = points[-1][1] + 4
        while any(abs(at - taken) < 13 for taken in ends):  # noqa: PLR2004 - a line of text
            at -= 13
        ends.append(at)
        parts.append(_text(points[-1][0] + 8, at, name, size=11, colour=colour))
    return _document(bottom + 44, parts)


def _legend(names: Sequence[str], y: float) -> list[str]:
    if len(names) < 2:  # noqa: PLR2004 - one needs no telling apart
        return []
    parts, x = [], float(LEFT)
    for index, name in enumerate(names):
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{COLOURS[index]}"/>')
        parts.append(_text(x + 17, y + 11, name, size=11))
        x += 40 + 6.5 * len(name)
    return parts


def _text(
    x: float,
    y: float,
    told: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
    colour: str = "#4a5560",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(told)}</text>'
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _document(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>'
        + "".join(f"\n{part}" for part in parts)
        + "\n</svg>\n"
    )
