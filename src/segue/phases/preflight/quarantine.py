"""What would be quarantined, and why: found by the codec of the copy itself."""

from __future__ import annotations

from segue.model import Reason
from segue.phases.preflight.check import Check, Finding, Room, Severity, error, ok, warning

MOST = 0.1
"""The share of items with an embedding beyond which the configuration is more likely wrong than the items."""


def look(room: Room, name: str) -> Finding:
    """Count what cannot go."""
    found = room.candidates[name].inventory
    unfit = sum(found.reasons.values())
    shown = [f"{row.key if row.key is not None else row.element_id}: {row.reason}, {row.detail}" for row in found.examples]
    facts = {"read": found.seen, "unfit": unfit, "reasons": dict(found.reasons), "examples": shown}
    if not unfit:
        return ok(f"none of {found.scope}", **facts)
    said = ", ".join(f"{reason} {count:,}" for reason, count in found.reasons.items())
    evidence = f"{unfit:,} of {found.scope}: {said}; such as {'; '.join(shown[:2])}"
    embedded = found.seen - found.reasons.get(Reason.NO_EMBEDDING, 0)
    if embedded and (unfit - found.reasons.get(Reason.NO_EMBEDDING, 0)) / embedded > MOST:
        return error(evidence, FIX, **facts)
    return warning(evidence, FIX, **facts)


FIX = "Mend those items or the configuration, or leave them: quarantine-COLLECTION.jsonl will name them, and the rest goes."

CHECK = Check(
    id="quarantine",
    severity=Severity.ERROR,
    what=f"Every item can go as it is. Warns of those that cannot; an error when they are more than {MOST:.0%} of those with "
    "an embedding.",
    fix=FIX,
    look=look,
    needs=("vectors",),
)
