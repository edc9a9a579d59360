"""Is a store of agent state set so that records may get lost, or cannot be held?

Sources: Redis evicts keys at random under any `maxmemory-policy` but noeviction; PostgreSQL holds every text only in UTF8.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, ok, warning


def look(room: Room, store: str) -> Finding:
    """Look at its settings."""
    found = room.agents[Store(store)].dangers()
    return warning("; ".join(found), FIX) if found else ok("nothing that loses records")


FIX = (
    "Redis: maxmemory-policy noeviction, or know that what is evicted is not copied. PostgreSQL: a database with encoding UTF8."
)

CHECK = Check(
    id="agent-dangers",
    severity=Severity.WARNING,
    what="Redis evicts nothing, and PostgreSQL's database has the encoding UTF8.",
    fix=FIX,
    look=look,
    stores=(Store.REDIS, Store.POSTGRES),
    needs=("version",),
)
