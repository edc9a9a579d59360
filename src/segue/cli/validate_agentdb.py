"""`segue validate --agentdb`: compare agent state in Redis with its rows in PostgreSQL, and repair them where asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from segue.bootstrap import agent_state as bootstrap
from segue.cli.interruption import Stop
from segue.cli.output import Listing, Result
from segue.config import Settings
from segue.errors import Interrupted, ValidationMismatch

if TYPE_CHECKING:
    from segue.phases.agent_reconcile import AgentVerdict

SHOWN = 50


def validated(
    settings: Settings, *, sample_keys: int | None, fix: bool, dry_run: bool, threshold: float, stop: Stop
) -> tuple[Result, Interrupted | ValidationMismatch | None]:
    """Compare, and return the result and why the command fails, if it does."""
    began = time.monotonic()
    with bootstrap.open_agent_reconcile(settings, sample_keys=sample_keys, stop=stop) as reconcile:
        verdict = reconcile.run(fix=fix and not dry_run)
    result = _result(verdict, sample_keys, threshold, time.monotonic() - began)
    if verdict.complete and not dry_run:
        from segue.bootstrap.agent_library import record_comparison  # noqa: PLC0415  # needs the extra

        told = {name: result.data[name] for name in ("mode", "rate", "bound", "keys", "counts", "digests", "seconds")}
        detail = f"{result.data['mode']}, {verdict.rows:,} rows"
        record_comparison(settings, clean=bool(result.data["clean"]), detail=detail, data=told)
    if not verdict.complete:
        return result, Interrupted("interrupted; nothing was changed", hint="The same command begins again.")
    if verdict.rate < threshold:
        message = f"agentdb: {verdict.rate:.4%} of {verdict.rows:,} rows are equal; {threshold:.2%} are wanted"
        return result, ValidationMismatch(message, hint="`segue validate --agentdb --full --fix` makes them equal.")
    return result, None


def _result(verdict: AgentVerdict, sample_keys: int | None, threshold: float, seconds: float) -> Result:
    source, sink = f"{verdict.source_digest:016x}", f"{verdict.sink_digest:016x}"
    missing, mismatched, orphaned = len(verdict.missing), len(verdict.mismatched), len(verdict.orphaned)
    history = None if verdict.history is None else sum(verdict.history.values())
    facts = [
        ("seen", "every key" if sample_keys is None else f"{verdict.keys:,} keys drawn from all"),
        ("compared", f"{verdict.rows:,} rows of {verdict.keys:,} keys, value by value"),
        ("missing", f"{missing:,}"),
        ("mismatches", f"{mismatched:,}"),
        ("orphaned", f"{orphaned:,}, of mappings that mirror deletions"),
        ("history", "not looked at" if history is None else f"{history:,} rows that Redis has no more, kept"),
        ("in motion", f"{verdict.moving:,}"),
        ("quarantined", f"{verdict.quarantined:,} elements that cannot go"),
        ("repaired", f"{verdict.repaired:,}"),
        ("success rate", f"{verdict.rate:.4%}"),
        ("digests", f"{source} Redis, {sink} PostgreSQL: {'equal' if source == sink else 'not equal'}"),
        ("seconds", f"{seconds:.1f}"),
    ]
    if verdict.bound is not None:
        facts.insert(-1, ("bound", f"with 95 % confidence at most {verdict.bound:.3%} of all keys differ"))
    rows = [(one.kind.value, one.key, "missing", "") for one in verdict.missing]
    rows += [(one.kind.value, one.key, "differs", ", ".join(one.fields)) for one in verdict.mismatched]
    rows += [(one.kind.value, one.key, "orphaned", "") for one in verdict.orphaned]
    heads = ("kind", "key", "in what way", "columns")
    listings = [Listing("differences, the first of them", heads, rows[:SHOWN])] if rows else []
    data: dict[str, Any] = {
        "name": "agentdb",
        "status": "interrupted" if not verdict.complete else "ok" if verdict.rate >= threshold else "failed",
        "seconds": round(seconds, 3),
        "counts": {
            "compared": verdict.rows,
            "matched": verdict.rows - verdict.differing,
            "mismatched": mismatched,
            "missing": missing,
            "orphaned": orphaned,
            "repaired": verdict.repaired,
        },
        "mode": "full" if sample_keys is None else "sample",
        "clean": verdict.complete and verdict.differing == verdict.repaired,
        "rate": verdict.rate,
        "bound": verdict.bound,
        "keys": verdict.keys,
        "kinds": {kind.value: number for kind, number in verdict.compared.items()},
        "history": None if verdict.history is None else {kind.value: number for kind, number in verdict.history.items()},
        "in_motion": verdict.moving,
        "quarantined": verdict.quarantined,
        "digests": {"source": source, "sink": sink},
        "differences": [dict(zip(("kind", "key", "way", "columns"), row, strict=True)) for row in rows[:SHOWN]],
        "notes": [],
    }
    state = "interrupted" if not verdict.complete else "clean" if data["clean"] else "differs"
    return Result(f"agentdb: {state}", facts, data, listings)
