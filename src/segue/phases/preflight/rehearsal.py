"""Can everything be done that a copy does? Done in miniature, into a collection of a random name that is dropped again.

What the account may not do shows here, whatever its roles are called; and how fast it goes, see `prediction`.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Outcome, Room, Severity, ok


def look(room: Room, name: str) -> Finding:
    """Rehearse; what is refused is raised."""
    one = room.candidates[name]
    if one.stage is None:
        return Finding(Outcome.SKIPPED, "left out by --dry-run: it writes into a collection of its own")
    if not one.census.total:
        return Finding(Outcome.SKIPPED, "there is nothing to copy")
    done = one.rehearsed
    index = max((each.seconds for each in done.indexings), default=0.0)
    copied = done.acknowledged[-1] if done.acknowledged else None
    said = f"{copied.items:,} items in {copied.seconds:.1f} s" if copied else "no item"
    return ok(f"{said}, indexed and loaded in {index:.1f} s; the collection is dropped again")


CHECK = Check(
    id="rehearsal",
    severity=Severity.ERROR,
    what="A collection of a random name can be created, filled by the copy's own way, indexed, loaded and dropped. Left out by "
    "`--dry-run`.",
    fix="Grant the privilege that the message names (see milvus-privileges); Milvus's log says more.",
    look=look,
    needs=(
        "target",
        "limits",
        "disk",
        "memory",
        "quarantine",
        "key",
        "texts",
        "milvus-privileges:milvus",
        "milvus-health:milvus",
    ),
    seconds=300.0,
)
