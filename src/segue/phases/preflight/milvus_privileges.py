"""Do the account's roles hold what a migration does in Milvus? Read from the roles; `rehearsal` then does it.

Source: Milvus's documentation of users and roles; the names are those of its privileges. Older servers do not know all of them
(2.3 has none for aliases); what a server does not know it does not ask for.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok

NEEDED = (
    "CreateCollection",
    "DropCollection",
    "DescribeCollection",
    "ShowCollections",
    "CreateIndex",
    "IndexDetail",
    "Load",
    "GetLoadState",
    "Flush",
    "Upsert",
    "Insert",
    "Delete",
    "Query",
    "Search",
)
"""What creating, filling, indexing, loading, reading and dropping a collection takes."""


def look(room: Room, store: str) -> Finding:
    """Compare what the roles hold with what is needed."""
    del store
    missing: dict[str, list[str]] = {}
    for name in room.candidates:
        held = room.sink.privileges(name)
        if held is None:
            return ok("everything is allowed, or the roles cannot be read; `rehearsal` tries it")
        missing[name] = [each for each in NEEDED if each not in held]
    lacking = {name: each for name, each in missing.items() if each}
    if lacking:
        said = "; ".join(f"{name}: {', '.join(each)}" for name, each in lacking.items())
        return error(f"the account's roles lack {said}", FIX, missing=lacking)
    return ok(f"the account's roles hold {', '.join(NEEDED)}")


FIX = "GRANT them to the account's role, on the collections by name and on segue_preflight_… or on all (*)."

CHECK = Check(
    id="milvus-privileges",
    severity=Severity.ERROR,
    what=f"The account's roles hold {', '.join(NEEDED)}.",
    fix=FIX,
    look=look,
    stores=(Store.MILVUS,),
    needs=("version",),
)
