"""Pieces of the report's page that do not know what was migrated: tables, lists, the modes over time, what was done.

Owns how such a piece looks in HTML; whatever text it is given is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from segue.chronicle import Override, Proof, Stretch, moment
from segue.cli.charts import Moment, Span, spans
from segue.cli.recorded import clock
from segue.model import Event

Rows = Sequence[Sequence[str]]


def block(title: str, content: str) -> str:
    """Return a part of the page under its heading."""
    return f"<h3>{escape(title)}</h3>{content}"


def bullets(lines: Sequence[str]) -> str:
    """Return sentences as a list."""
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in lines)}</ul>"


def table(headings: Sequence[str], rows: Rows) -> str:
    """Return a table; nothing without rows."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(one)}" for one in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def cards(shown: Sequence[tuple[str, str, str]]) -> str:
    """Return the few numbers that are looked for first: what it is, the number, what belongs to it."""
    drawn = "".join(
        f"<div class=card><h4>{escape(name)}</h4><b>{escape(value)}</b><small>{escape(more)}</small></div>"
        for name, value, more in shown
    )
    return f"<div class=cards>{drawn}</div>"


def unreachable(faults: Sequence[str]) -> str:
    """Return a warning of what could not be reached; nothing where everything could."""
    if not faults:
        return ""
    return f'<div class="warning"><p>Not everything could be reached when this was made:</p>{bullets(faults)}</div>'


def proofs(shown: Sequence[Proof]) -> str:
    """Return what was to be shown, and whether it was."""
    words = {True: ("yes", "good"), False: ("no", "bad"), None: ("not yet", "none")}
    rows = ""
    for one in shown:
        word, style = words[one.holds]
        rows += f'<tr><td>{escape(one.what)}</td><td class="{style}">{word}</td><td>{escape(one.evidence)}</td></tr>'
    return f"<table><tr><th>what<th>shown<th>by</tr>{rows}</table>"


def phases(stretches: Sequence[Stretch], overrides: Sequence[Override], beneath: Sequence[tuple[str, Sequence[Span]]]) -> str:
    """Draw the modes over time, with overridden gates above them and whatever else happened beneath; then as a table."""
    modes = [
        Span(
            one.mode.value,
            f"{one.mode}, epoch {one.epoch}: {clock(one.start)} to {'now' if one.is_present else clock(one.end)}",
            one.start,
            one.end,
            f"mode-{one.mode.rank}",
        )
        for one in stretches
    ]
    rows = [(name, row) for name, row in (("mode", modes), *beneath) if row]
    marks = [Moment(f"gate {one.gate} overridden: {one.reason}", one.at, "override") for one in overrides]
    told = "<p>A triangle marks an overridden gate.</p>" if marks else ""
    named = table(
        ("mode", "epoch", "from", "until", "for", "why"),
        [
            (
                one.mode.value,
                str(one.epoch),
                clock(one.start),
                "now" if one.is_present else clock(one.end),
                _lasted((one.end - one.start).total_seconds()),
                one.reason,
            )
            for one in stretches
        ],
    )
    return spans("the modes, copies and validations over time", rows, marks) + told + named


def overridden(overrides: Sequence[Override]) -> str:
    """Return the gates that were let pass."""
    if not overrides:
        return "<p>none</p>"
    rows = [(one.gate, one.mode.value, clock(one.at), one.by, one.reason) for one in overrides]
    return table(("gate", "before", "when", "by", "why"), rows)


def told(events: Sequence[Event]) -> str:
    """Return everything that was recorded."""
    if not events:
        return "<p>Nothing is recorded.</p>"
    rows = [(clock(moment(one)), one.kind.value, one.text, one.by, one.version, str(one.data.get("run", ""))) for one in events]
    return table(("when", "what about", "what", "by", "segue", "run"), rows)


def validated(event: Event) -> Span:
    """Return a validation as a stretch of time: a moment in the journal, how long it took is in its data."""
    is_good = event.data.get("clean", event.data.get("good"))
    took = float(event.data.get("began_seconds_ago") or event.data.get("seconds") or 0.0)
    return Span("", event.text, datetime.fromtimestamp(event.at - took, UTC), moment(event), "good" if is_good else "bad")


def _lasted(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3_600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}"
