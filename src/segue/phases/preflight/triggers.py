"""Can changes be captured by a trigger? Only needed where others than the library write.

Sources: APOC's documentation of triggers: `apoc.trigger.enabled` is off unless set, `apoc.trigger.refresh` is 60 s unless set,
and `apoc.trigger.add` is gone since 2025.06, so that triggers are installed on the database `system`.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, ok, warning


def look(room: Room, store: str) -> Finding:
    """Ask for the triggers there are."""
    del store
    found = room.source.triggers()
    facts = {"apoc": found.apoc, "enabled": found.enabled, "installed": list(found.installed)}
    if found.apoc is None:
        return warning("APOC is not installed: only the library can capture changes", FIX, **facts)
    if not found.enabled:
        return warning(f"APOC {found.apoc}, but triggers cannot be used: {found.why}", FIX, **facts)
    others = [name for name in found.installed if not name.startswith("segue_")]
    beside = f"; {len(others)} of others are installed: {', '.join(others[:3])}" if others else ""
    return ok(f"APOC {found.apoc}, triggers are enabled{beside}", **facts)


FIX = (
    "Where the library captures every write, nothing. Else APOC core in the plugins; apoc.conf: apoc.trigger.enabled=true; "
    "neo4j.conf: dbms.security.procedures.unrestricted=apoc.*; a restart."
)

CHECK = Check(
    id="triggers",
    severity=Severity.WARNING,
    what="APOC is installed and its triggers are enabled, so that changes can be captured whoever writes.",
    fix=FIX,
    look=look,
    stores=(Store.NEO4J,),
    needs=("version",),
)
