"""Are the procedures there that a migration calls, and may the account call them?"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok

PROCEDURES = ("db.info", "db.index.vector.queryNodes")
"""`db.info` tells one database from another; the other one answers searches (deprecated in 2026.04, still there)."""


def look(room: Room, store: str) -> Finding:
    """Ask which may be called."""
    del store
    missing = room.source.missing(PROCEDURES)
    if missing:
        return error(f"not there, or not allowed: {', '.join(missing)}", FIX)
    return ok(f"{', '.join(PROCEDURES)} may be called")


FIX = "GRANT EXECUTE PROCEDURE on them, and let dbms.security.procedures.allowlist, where it is set, name them."

CHECK = Check(
    id="neo4j-procedures",
    severity=Severity.ERROR,
    what=f"The procedures {' and '.join(PROCEDURES)} may be called.",
    fix=FIX,
    look=look,
    stores=(Store.NEO4J,),
    needs=("version",),
)
