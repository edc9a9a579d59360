"""Charts as SVG, drawn here with nothing but text: a line over time, bars, groups of bars, spans of time.

Owns geometry, ticks and labels. Colours are CSS classes, which the page defines for light and dark; knows nothing of what is
drawn. Every value is also written out or in a title, so that nothing is said by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

WIDTH = 760
LEFT, RIGHT = 64, 16
LETTER = 6.6
"""Of the font size used, on average and rather too much, in pixels."""

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
_MINUTE, _DAY = 60, 86_400


@dataclass(frozen=True, slots=True)
class Series:
    """A line.

    Attributes:
        name: What the legend calls it.
        style: A CSS class.
        points: Moment and value, in order of time.
    """

    name: str
    style: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar.

    Attributes:
        label: Left of it.
        value: Its length.
        text: Right of it: the value in words.
        style: A CSS class.
    """

    label: str
    value: float
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time; `label` stands on it where there is room, and `title` shows under the pointer."""

    label: str
    title: str
    start: datetime
    end: datetime
    style: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment on a chart of spans, marked above them."""

    title: str
    at: datetime
    style: str


def lines(title: str, series: Sequence[Series], unit: str, ceiling: float | None = None) -> str:
    """Draw lines over time.

    Args:
        title: What is seen, for those who cannot see it.
        series: At least one with at least one point.
        unit: Of the values.
        ceiling: A value to draw as a dashed line, what the lines lead to.
    """
    top, bottom, height = 28, 30, 260
    moments = [at for one in series for at, _ in one.points]
    first, last = min(moments), max(moments)
    across = Across(first, last)
    most = max([value for one in series for _, value in one.points] + ([ceiling] if ceiling else []), default=0.0)
    ticks = round_ticks(most)
    high = ticks[-1] or 1.0

    def down(value: float) -> float:
        return height - bottom - (height - top - bottom) * value / high

    parts = [across.axis(top, height - bottom)]
    for tick in ticks:
        parts.append(draw_line(LEFT, down(tick), WIDTH - RIGHT, down(tick), "grid"))
        parts.append(draw_text(LEFT - 8, down(tick) + 4, short(tick), "tick end"))
    if ceiling:
        parts.append(draw_line(LEFT, down(ceiling), WIDTH - RIGHT, down(ceiling), "ceiling"))
    for one in series:
        path = " ".join(f"{across.at(at):.1f},{down(value):.1f}" for at, value in one.points)
        parts.append(f'<polyline class="line {one.style}" points="{path}"/>')
        parts += [
            f'<circle class="dot {one.style}" cx="{across.at(at):.1f}" cy="{down(value):.1f}" r="3">'
            f"<title>{escape(f'{one.name}: {value:,.0f} {unit}, {clock(at, 0)} UTC')}</title></circle>"
            for at, value in one.points
        ]
    parts.append(_legend([(one.name, one.style) for one in series], top - 16))
    return drawing(title, height, parts)


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Draw bars, one below the other, each with its value in words; none when there are no rows."""
    return grouped(title, [("", rows)])


def grouped(title: str, groups: Sequence[tuple[str, Sequence[Bar]]], legend: Sequence[tuple[str, str]] = ()) -> str:
    """Draw groups of bars, each group under a heading; `legend` is name and CSS class."""
    rows = [bar for _, group in groups for bar in group]
    if not rows:
        return ""
    most = max(bar.value for bar in rows) or 1.0
    begin = min(300.0, 16 + LETTER * max(len(bar.label) for bar in rows))
    room = WIDTH - begin - RIGHT - LETTER * max(len(bar.text) for bar in rows) - 12
    parts, y = [], 8.0
    if legend:
        parts.append(_legend(legend, 12))
        y = 32.0
    for heading, group in groups:
        if heading:
            parts.append(draw_text(0, y + 12, heading, "heading"))
            y += 20
        for bar in group:
            length = max(2.0, room * bar.value / most) if bar.value else 0.0
            parts.append(draw_text(begin - 8, y + 13, _fitted(bar.label, begin - 8), "tick end"))
            shape = f'<rect class="bar {bar.style}" x="{begin:.1f}" y="{y:.1f}" width="{length:.1f}" height="18" rx="2">'
            parts.append(f"{shape}<title>{escape(f'{bar.label}: {bar.text}')}</title></rect>")
            parts.append(draw_text(begin + length + 6, y + 13, bar.text, "value"))
            y += 24
        y += 8
    return drawing(title, y, parts)


def spans(title: str, rows: Sequence[tuple[str, Sequence[Span]]], moments: Sequence[Moment] = ()) -> str:
    """Draw stretches of time in rows, each with its name, and moments above them; none when there are no spans."""
    drawn = [span for _, row in rows for span in row]
    if not drawn:
        return ""
    first = min([span.start for span in drawn] + [one.at for one in moments])
    last = max([span.end for span in drawn] + [one.at for one in moments])
    left = 16 + LETTER * max(len(name) for name, _ in rows)
    across = Across(first, last, left)
    top, row_height = 26, 30
    height = top + row_height * len(rows) + 30
    parts = [across.axis(top, height - 30)]
    for number, (name, row) in enumerate(rows):
        y = top + row_height * number + 4
        parts.append(draw_text(left - 8, y + 15, name, "tick end"))
        for span in row:
            begin, end = across.at(span.start), across.at(span.end)
            width = max(3.0, end - begin)
            shape = f'<rect class="bar {span.style}" x="{begin:.1f}" y="{y}" width="{width:.1f}" height="22" rx="3">'
            parts.append(f"{shape}<title>{escape(span.title)}</title></rect>")
            if width > LETTER * len(span.label) + 8:
                parts.append(draw_text(begin + 5, y + 15, span.label, "on-bar"))
    for one in moments:
        x = across.at(one.at)
        parts.append(f'<path class="moment {one.style}" d="M{x - 6:.1f} 8h12l-6 11z"><title>{escape(one.title)}</title></path>')
        parts.append(draw_line(x, 19, x, height - 30, f"moment {one.style}"))
    return drawing(title, height, parts)


class Across:
    """Moments from left to right: from `left` to `right` in pixels."""

    def __init__(self, first: datetime, last: datetime, left: float = LEFT, right: float = WIDTH - RIGHT) -> None:
        self._first = first
        self._seconds = max(1.0, (last - first).total_seconds())
        self._left, self._right = left, right

    def at(self, moment: datetime) -> float:
        """Return where a moment lies."""
        return self._left + (self._right - self._left) * (moment - self._first).total_seconds() / self._seconds

    def axis(self, top: float, bottom: float) -> str:
        """Draw the time below, with a line upwards at each round moment."""
        wide = LETTER * 12
        most = max(2, int((self._right - self._left) / wide))
        step = next((one for one in _STEPS if self._seconds / one <= most), math.ceil(self._seconds / most / _DAY) * _DAY)
        begin = self._first.astimezone(UTC)
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        tick = midnight + timedelta(seconds=math.ceil((begin - midnight).total_seconds() / step) * step)
        parts = []
        while (tick - begin).total_seconds() <= self._seconds:
            x = self.at(tick)
            parts.append(draw_line(x, top, x, bottom, "grid"))
            parts.append(draw_text(x, bottom + 16, clock(tick, step), "tick middle"))
            tick += timedelta(seconds=step)
        parts.append(draw_line(self._left, bottom, self._right, bottom, "axis"))
        return "".join(parts)


def clock(moment: datetime, step: float) -> str:
    """Return a moment as precisely as steps of so many seconds need it."""
    utc = moment.astimezone(UTC)
    if step >= _DAY:
        return f"{utc:%d %b}"
    return f"{utc:%H:%M}" if step >= _MINUTE else f"{utc:%H:%M:%S}"


def round_ticks(most: float) -> list[float]:
    """Return round numbers from 0 to one that is not below."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """Return a number in few letters."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            divisor = 1e3 if sign == "k" else size
            return f"{value / divisor:,.3g}{sign}"
    return f"{value:,.4g}"


def _fitted(label: str, room: float) -> str:
    letters = int(room / LETTER)
    return label if len(label) <= letters else f"{label[: letters - 1]}…"


def _legend(names: Sequence[tuple[str, str]], y: float) -> str:
    parts, x = [], float(LEFT)
    for name, style in names:
        parts.append(f'<rect class="bar {style}" x="{x:.1f}" y="{y - 9:.1f}" width="12" height="12" rx="2"/>')
        parts.append(draw_text(x + 18, y + 1, name, "value"))
        x += 36 + LETTER * len(name)
    return "".join(parts)


def draw_line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Draw a straight line."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def draw_text(x: float, y: float, text: str, style: str) -> str:
    """Write a text."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def drawing(title: str, height: float, parts: Sequence[str], width: float = WIDTH) -> str:
    """Return a picture of its parts; `title` says what is seen to those who cannot see it."""
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return f"{head}{''.join(parts)}</svg>"
