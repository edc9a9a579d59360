"""May the account do in Neo4j what a migration does? Found out by doing it, in transactions that are rolled back.

Community has no roles: there every account may do everything, and only a read-only database refuses. Sources: Cypher manual,
"Access control"; which statements are needed is what `stores/queries` holds.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok


def look(room: Room, store: str) -> Finding:
    """Try every kind of statement."""
    about = room.servers[Store(store)].about()
    label = next((one.configured.label for one in room.candidates.values()), "SegueMark")
    found = room.source.refused(label, trying=room.trying)
    if found:
        said = "; ".join(f"{one.what} ({one.why})" for one in found)
        return error(f"refused: {said}", "\n".join(dict.fromkeys(one.grant for one in found if one.grant)))
    tried = "reads, writes and constraints were tried and taken back" if room.trying else "reads were tried; writes were not"
    roles = "; Community has no roles" if about.edition == "community" else ""
    return ok(f"{tried}{roles}")


CHECK = Check(
    id="neo4j-privileges",
    severity=Severity.ERROR,
    what="The account may read the items, indexes, constraints and transactions; create, change and delete marks; create "
    "constraints and indexes.",
    fix="GRANT MATCH {*}, WRITE, CREATE NEW LABEL, CREATE NEW PROPERTY NAME, INDEX MANAGEMENT and CONSTRAINT MANAGEMENT on the "
    "graph, SHOW TRANSACTION (*) on the database, to its role; in Community, without roles, let the database be writable.",
    look=look,
    stores=(Store.NEO4J,),
    needs=("version",),
)
