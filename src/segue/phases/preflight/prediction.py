"""How long will the copy take? Worked out from the rehearsal on this very system; see `pipelines.prediction`."""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, ok, warning
from segue.pipelines.prediction import predict


def look(room: Room, name: str) -> Finding:
    """Work it out."""
    one = room.candidates[name]
    found = predict(one.rehearsed, one.census.total)
    if found is None:
        return warning("too little was copied to say", "Raise [preflight] probe_seconds.")
    work = f"{_span(found.seconds)} ({_span(found.low)} to {_span(found.high)}) of work"
    copy = f"{found.items:,} items at {found.rate:,.0f} a second ({found.rate_low:,.0f} to {found.rate_high:,.0f})"
    evidence = f"{work}: {copy}, {_span(found.index_seconds)} for the index and loading"
    return ok(evidence, **found.as_dict())


def _span(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004  # as people say it
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004


CHECK = Check(
    id="prediction",
    severity=Severity.WARNING,
    what="Says how long the copy will take, with an interval. Left out by `--dry-run`.",
    fix="Raise [preflight] probe_seconds.",
    look=look,
    needs=("rehearsal",),
)
