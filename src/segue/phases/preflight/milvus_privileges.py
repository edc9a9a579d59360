"""May the account do in Milvus what a migration does? Every call is made of a collection that is not there.

Milvus looks at the account before it looks at the request, so a refusal names the privilege and nothing is changed (seen of
2.3.5, whose roles cannot be read without a privilege of their own). `rehearsal` then does it all.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok

NEEDED = (
    "CreateCollection",
    "DropCollection",
    "DescribeCollection",
    "ShowCollections",
    "CreateAlias",
    "DropAlias",
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
    """Ask which are missing."""
    del store
    missing = room.sink.missing()
    if missing:
        return error(f"the account lacks {', '.join(missing)}", FIX, missing=missing)
    return ok(f"the account has all {len(NEEDED)} privileges that are needed")


FIX = (
    "GRANT them to the account's role on all collections (*), for the rehearsal takes names of its own; "
    "where that was done, Milvus may tell its proxies late: see docs/security.md."
)

CHECK = Check(
    id="milvus-privileges",
    severity=Severity.ERROR,
    what=f"The account has {', '.join(NEEDED)}.",
    fix=FIX,
    look=look,
    stores=(Store.MILVUS,),
    needs=("version",),
)
