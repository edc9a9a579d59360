"""May the accounts do what a copy of agent state does? Only where the configuration names Redis or PostgreSQL.

Sources: Redis's ACL categories, tried by reading a key that is not there; PostgreSQL's CREATE on the schema and TEMPORARY on
the database, tried in a transaction that is rolled back.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok


def look(room: Room, store: str) -> Finding:
    """Try it."""
    server = room.agents[Store(store)]
    found = server.refused(trying=room.trying)
    if found:
        said = "; ".join(f"{one.what} ({one.why})" for one in found)
        return error(f"refused: {said}", "\n".join(dict.fromkeys(one.grant for one in found)))
    return ok(f"what the copy does is allowed; it holds {server.held()}")


CHECK = Check(
    id="agent-privileges",
    severity=Severity.ERROR,
    what="The account may read keys of every type in Redis; create tables and temporary tables in PostgreSQL's schema.",
    fix="Redis: +@read +@connection +info +time +multi +exec +scan and ~* for the user; PostgreSQL: GRANT CREATE, USAGE ON "
    "SCHEMA and GRANT TEMPORARY ON DATABASE.",
    look=look,
    stores=(Store.REDIS, Store.POSTGRES),
    needs=("version",),
)
