"""The report's part about agent state: for people, for programs, and as a section of the page."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from html import escape
from typing import Any

from segue.chronicle import moment, of_kind
from segue.cli import recorded
from segue.cli.charts import Bar, Span, bars
from segue.cli.output import Listing, Result
from segue.cli.page_parts import (
    block,
    bullets,
    cards,
    overridden,
    phases,
    proofs,
    table,
    told,
    unreachable,
    validated,
)
from segue.model import AgentKind, Event, EventKind
from segue.phases.agent_report import AgentReport

NAME = "agentdb"
HEADINGS = ("kind", "keys", "migrated", "written", "skipped", "in the table")


def result(report: AgentReport) -> Result:
    """Return the part for people."""
    control, backlog, counts = report.seen.control, report.seen.backlog, report.counts
    account = ", ".join(f"{number:,} {name}" for name, number in counts.as_dict().items()) if counts else "nothing is recorded"
    waiting = "not known"
    if backlog is not None:
        only_here = "not known" if backlog.to_redis is None else f"{backlog.to_redis:,}"
        waiting = f"{backlog.to_postgres:,} for PostgreSQL, {backlog.refused:,} refused, {only_here} only in PostgreSQL"
    facts = [
        ("verdict", report.verdict),
        ("mode", f"{control.mode} at epoch {control.epoch}" if control else "not known"),
        ("rows", account),
        ("writes that wait", waiting),
    ]
    listings = [
        recorded.proven(report.proofs),
        recorded.remaining(report.left),
        Listing("By kind", HEADINGS, _kinds(report)),
        recorded.quarantined(report.reasons, "rows"),
        Listing("Keys that no mapping takes", ("like", "keys", "example"), _unknown(report)),
        recorded.modes(report.stretches),
        recorded.overridden(report.overrides),
        recorded.done(report.events),
    ]
    shown = [one for one in listings if one.rows]
    return Result(title="agentdb: agent state", facts=facts, data={}, listings=shown, notes=report.seen.unreachable)


def data(report: AgentReport) -> dict[str, Any]:
    """Return the part for programs."""
    seen, control, copy = report.seen, report.seen.control, report.seen.copy
    names = ("source", "migrated", "quarantined", "pending")
    return {
        "name": NAME,
        "verdict": report.verdict,
        "mode": control and control.mode.value,
        "epoch": control and control.epoch,
        "open": control and control.open,
        "counts": report.counts.as_dict() if report.counts else dict.fromkeys(names),
        "kinds": {kind.value: asdict(one) for kind, one in report.kinds.items()},
        "tables": None if seen.rows is None else {kind.value: rows for kind, rows in seen.rows.items()},
        "reasons": dict(report.reasons),
        "quarantined": [
            {"key": row.key, "reason": row.reason.value, "detail": row.detail} for row in (copy.copy.examples if copy else ())
        ],
        "unknown": [
            {"like": shape, "keys": one.keys, "example": one.example} for shape, one in (copy.unknown if copy else {}).items()
        ],
        "backlog": seen.backlog and asdict(seen.backlog),
        "copies": [recorded.event_data(one) for one in of_kind(report.events, EventKind.COPY)],
        "validations": [recorded.event_data(one) for one in of_kind(report.events, EventKind.VALIDATION)],
        "proofs": [asdict(one) for one in report.proofs],
        "left": list(report.left),
        **recorded.history(report.stretches, report.overrides, report.events),
        "unreachable": list(seen.unreachable),
    }


def section(report: AgentReport) -> str:
    """Return the part of the page."""
    listed = table(("key", "reason", "detail"), _examples(report))
    reasons = bars("quarantined rows by reason", [Bar(name, float(n), f"{n:,}", "bad") for name, n in report.reasons.items()])
    copies, checks = (of_kind(report.events, kind) for kind in (EventKind.COPY, EventKind.VALIDATION))
    parts = [
        f"<h2>Agent state</h2><p class=verdict>{escape(report.verdict)}.</p>",
        unreachable(report.seen.unreachable),
        _cards(report),
        block("What was proven", proofs(report.proofs)),
        block("What is left", bullets(report.left or ["nothing"])),
        block(
            "Phases",
            phases(
                report.stretches,
                report.overrides,
                [("copies", [_copied(one) for one in copies]), ("validations", [validated(one) for one in checks])],
            ),
        ),
        block("Overridden gates", overridden(report.overrides)),
        block("By kind", table(HEADINGS, _kinds(report)) or "<p>No copy is recorded.</p>"),
        block("Quarantine by reason", reasons or "<p>none</p>"),
        f"<details><summary>the first of them</summary>{listed}</details>" if listed else "",
        block("Keys that no mapping takes", table(("like", "keys", "example"), _unknown(report)) or "<p>none</p>"),
        block("What was done", told(report.events)),
    ]
    return f"<section>{''.join(parts)}</section>\n"


def _cards(report: AgentReport) -> str:
    control, counts, backlog = report.seen.control, report.counts, report.seen.backlog
    shown = [("mode", control.mode.value if control else "not known", f"epoch {control.epoch}" if control else "")]
    if counts is not None:
        left = f"{counts.quarantined:,} quarantined, {counts.pending:,} pending"
        shown.append(("rows migrated", f"{counts.migrated:,} of {counts.source:,}", left))
    for kind, rows in (report.seen.rows or {}).items():
        shown.append((f"{_named(kind)} in PostgreSQL", f"{rows:,}", "rows"))
    if backlog is not None:
        shown.append(("waiting for PostgreSQL", f"{backlog.to_postgres:,}", f"{backlog.refused:,} refused"))
        if backlog.to_redis is not None:
            shown.append(("only in PostgreSQL", f"{backlog.to_redis:,}", "writes"))
    return cards(shown)


def _copied(event: Event) -> Span:
    style = {"complete": "copy-good", "failed": "copy-bad"}.get(str(event.data.get("state")), "copy-none")
    start = datetime.fromtimestamp(event.at - float(event.data.get("seconds") or 0.0), moment(event).tzinfo)
    return Span("copy", event.text, start, moment(event), style)


def _kinds(report: AgentReport) -> list[tuple[str, ...]]:
    rows = report.seen.rows or {}
    return [
        (
            _named(kind),
            *(f"{number:,}" for number in (one.keys, one.migrated, one.written, one.skipped)),
            f"{rows[kind]:,}" if kind in rows else "not known",
        )
        for kind, one in report.kinds.items()
    ]


def _unknown(report: AgentReport) -> list[tuple[str, ...]]:
    copy = report.seen.copy
    return [(shape, f"{one.keys:,}", one.example) for shape, one in (copy.unknown if copy else {}).items()]


def _examples(report: AgentReport) -> list[tuple[str, ...]]:
    copy = report.seen.copy
    return [(str(one.key), one.reason.value, one.detail) for one in (copy.copy.examples if copy else ())]


def _named(kind: AgentKind) -> str:
    return kind.value.replace("_", " ")
