"""Has Milvus room for one more collection, and did a preflight that was killed leave one behind?

Source: Milvus takes 65,536 collections (limits of 2.6); proxies may be configured for fewer.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok, warning

MOST = 65_536
SCRATCH = "segue_preflight_"
"""How the names of collections begin in which a copy is rehearsed."""


def look(room: Room, store: str) -> Finding:
    """Count the collections."""
    del store
    names = room.sink.collections()
    left = [name for name in names if name.startswith(SCRATCH)]
    if len(names) + len(room.candidates) > MOST:
        return error(f"{len(names):,} collections of {MOST:,} that Milvus takes", FIX, collections=len(names))
    evidence = f"{len(names):,} collections in this database, Milvus takes {MOST:,} in all"
    if left:
        return warning(f"{evidence}; {', '.join(left)}: of a preflight that was killed, or that runs now", FIX)
    return ok(evidence, collections=len(names))


FIX = "Drop collections that nobody needs; those named segue_preflight_… when no preflight is running."

CHECK = Check(
    id="milvus-capacity",
    severity=Severity.ERROR,
    what="Milvus has room for the collections, and none is left of a preflight that was killed.",
    fix=FIX,
    look=look,
    stores=(Store.MILVUS,),
    needs=("version",),
)
