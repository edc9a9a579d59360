"""The dashboard's panels as SVG: a share as a bar, numbers with their course, named values as steps, everything else as lines.

Owns how a panel looks and how its units are written. What the panels ask, and what a Prometheus answered, comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from segue.cli.charts import LETTER, Across, draw_line, draw_text, drawing, round_ticks, short
from segue.telemetry.panels import Curve, Dashboard, Panel, Query, Shape

WIDTH = 470.0
HEIGHT = 190.0
LEFT, RIGHT = 58.0, 12.0
COLOURS = 8
"""CSS classes line-1 to line-8; more lines than that begin anew."""

_SCALES = {"percentunit": (100.0, "%"), "bytes": (1 / (1 << 20), " MiB"), "ms": (1.0, " ms"), "cps": (1.0, "/s")}
_WORDS_WIDTH = 104.0
_ROW, _LEGEND_ROW = 58.0, 18.0
_SPARK_LEFT = 250.0


def chart(dashboard: Dashboard, panel: Panel, curves: Sequence[Curve]) -> str:
    """Draw one panel; without a series it says what the panel says then."""
    if not curves:
        return drawing(f"{panel.title}: {panel.absent}", 44, [draw_text(0, 26, panel.absent, "absent")], WIDTH)
    if panel.shape is Shape.SHARE:
        return _shares(panel, curves)
    if panel.shape is Shape.NUMBERS:
        return _numbers(dashboard, panel, curves)
    if panel.shape is Shape.STEPS:
        return _steps(dashboard, panel, curves)
    return _curves(dashboard, panel, curves)


def said(value: float, panel: Panel, query: Query) -> str:
    """Return a value in words, with its unit."""
    unit = query.unit or panel.unit
    if round(value) in query.words:
        return query.words[round(value)]
    if unit == "s":
        return _lasted(value)
    if unit == "percentunit":
        # What is not whole is never rounded up to it.
        return f"{int(value * 10_000) / 100:.4g}%" if value < 1 else "100%"
    factor, sign = _SCALES.get(unit, (1.0, ""))
    return f"{short(round(value * factor, 2))}{sign}"


def _shares(panel: Panel, curves: Sequence[Curve]) -> str:
    parts, wide = [], WIDTH - 96
    for number, one in enumerate(curves):
        value, y = one.points[-1][1], 8 + 44.0 * number
        text = said(value, panel, one.query)
        parts.append(f'<rect class="empty" x="0" y="{y:.1f}" width="{wide:.1f}" height="26" rx="4"/>')
        parts.append(
            f'<rect class="bar good" x="0" y="{y:.1f}" width="{wide * min(1.0, value):.1f}" height="26" rx="4">'
            f"<title>{escape(f'{one.name}: {text}')}</title></rect>"
        )
        parts.append(draw_text(wide + 10, y + 21, text, "number"))
    return drawing(panel.title, 44.0 * len(curves), parts, WIDTH)


def _numbers(dashboard: Dashboard, panel: Panel, curves: Sequence[Curve]) -> str:
    across = _across(dashboard, _SPARK_LEFT)
    parts = []
    for number, one in enumerate(curves):
        top = _ROW * number
        at, last = one.points[-1]
        is_present = at > dashboard.end - 2 * dashboard.step - 1
        parts.append(draw_text(0, top + 14, one.name if is_present else f"{one.name}, until {_clock(at)}", "tick"))
        parts.append(draw_text(0, top + 40, said(last, panel, one.query), "number"))
        most = max((value for _, value in one.points), default=0.0) or 1.0
        parts += _line(across, dashboard, one, top + 44, 36 / most, f"line-{number % COLOURS + 1}", panel)
        parts.append(draw_line(_SPARK_LEFT, top + 44, WIDTH - RIGHT, top + 44, "grid"))
    return drawing(panel.title, _ROW * len(curves), parts, WIDTH)


def _steps(dashboard: Dashboard, panel: Panel, curves: Sequence[Curve]) -> str:
    words = panel.queries[0].words
    across = _across(dashboard, _WORDS_WIDTH)
    legend, rows = _legend(panel, curves)
    top, bottom = 12.0 + _LEGEND_ROW * rows, 12.0 + _LEGEND_ROW * rows + 34.0 * max(words, default=1)
    parts = [*legend, across.axis(top - 6, bottom)]
    up = (bottom - top) / max(words, default=1)
    for value, word in words.items():
        parts.append(draw_line(_WORDS_WIDTH, bottom - up * value, WIDTH - RIGHT, bottom - up * value, "grid"))
        parts.append(draw_text(_WORDS_WIDTH - 8, bottom - up * value + 4, word, "tick end"))
    for number, one in enumerate(curves):
        # Side by side where they are the same.
        style = f"line-{number % COLOURS + 1}"
        parts += _line(across, dashboard, one, bottom - 3.0 * number, up, style, panel, stepped=True)
    return drawing(panel.title, bottom + 26, parts, WIDTH)


def _curves(dashboard: Dashboard, panel: Panel, curves: Sequence[Curve]) -> str:
    factor, sign = _SCALES.get(panel.unit, (1.0, ""))
    across = _across(dashboard, LEFT)
    legend, rows = _legend(panel, curves)
    top = 12.0 + _LEGEND_ROW * rows
    bottom = top + HEIGHT - 60
    highest = max(value for one in curves for _, value in one.points) * factor
    ticks = [20.0 * number for number in range(6)] if panel.unit == "percentunit" else round_ticks(highest)
    parts = [*legend, across.axis(top, bottom)]
    up = (bottom - top) / ticks[-1]
    for tick in ticks:
        parts.append(draw_line(LEFT, bottom - up * tick, WIDTH - RIGHT, bottom - up * tick, "grid"))
        parts.append(draw_text(LEFT - 6, bottom - up * tick + 4, f"{short(tick)}{sign}", "tick end"))
    for number, one in enumerate(curves):
        # Rates are extrapolated, and a quotient of two may come out above 1.
        within = replace(one, points=[(at, min(value, ticks[-1] / factor)) for at, value in one.points])
        parts += _line(across, dashboard, within, bottom, up * factor, f"line-{number % COLOURS + 1}", panel)
    return drawing(panel.title, bottom + 26, parts, WIDTH)


def _across(dashboard: Dashboard, left: float) -> Across:
    return Across(_moment(dashboard.begin), _moment(dashboard.end), left, WIDTH - RIGHT)


def _line(
    across: Across,
    dashboard: Dashboard,
    curve: Curve,
    bottom: float,
    up: float,
    style: str,
    panel: Panel,
    *,
    stepped: bool = False,
) -> list[str]:
    """Draw a series, with a gap where it had no value; its least, most and last value are its title."""
    values = [value for _, value in curve.points]
    told = [said(value, panel, curve.query) for value in (min(values), max(values), values[-1])]
    title = f"<title>{escape('{}: {} to {}, last {}'.format(curve.name, *told))}</title>"
    parts = []
    for stretch in _stretches(curve.points, dashboard.step):
        places = [(across.at(_moment(at)), bottom - up * value) for at, value in stretch]
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        for (_, before), (x, y) in pairwise(places):
            path += f"H{x:.1f}V{y:.1f}" if stepped and y != before else f"L{x:.1f} {y:.1f}"
        # One value alone is a dot: a line of no length with round ends.
        parts.append(f'<path class="line {style}" d="{path}{"h0" if len(places) == 1 else ""}">{title}</path>')
    return parts


def _stretches(points: Sequence[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    stretches: list[list[tuple[float, float]]] = []
    for point in points:
        if not stretches or point[0] - stretches[-1][-1][0] > 1.5 * step:
            stretches.append([])
        stretches[-1].append(point)
    return stretches


def _legend(panel: Panel, curves: Sequence[Curve]) -> tuple[list[str], int]:
    """Return each line's name with its last value, in as many rows as it takes, and their number."""
    parts, x, row = [], 0.0, 0
    for number, one in enumerate(curves):
        text = f"{one.name} {said(one.points[-1][1], panel, one.query)}"
        wide = 30 + LETTER * len(text)
        if x and x + wide > WIDTH:
            x, row = 0.0, row + 1
        y = 4 + _LEGEND_ROW * row
        parts.append(f'<rect class="bar line-{number % COLOURS + 1}" x="{x:.1f}" y="{y}" width="10" height="10" rx="2"/>')
        parts.append(draw_text(x + 15, y + 9, text, "value"))
        x += wide
    return parts, row + 1


def _lasted(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _clock(at: float) -> str:
    return f"{_moment(at):%H:%M:%S}"
