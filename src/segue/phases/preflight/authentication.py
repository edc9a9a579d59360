"""Does the server take the credentials?"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, ok


def look(room: Room, store: str) -> Finding:
    """Connect; a refusal is the finding."""
    room.servers[Store(store)].connect()
    return ok("the credentials are taken")


CHECK = Check(
    id="authentication",
    severity=Severity.ERROR,
    what="The server takes the credentials, and has the database.",
    fix="Set NEO4J_USERNAME and NEO4J_PASSWORD, MILVUS_TOKEN, REDIS_URL, DATABASE_URL, or the secrets' …_FILE forms.",
    look=look,
    stores=(Store.NEO4J, Store.MILVUS, Store.REDIS, Store.POSTGRES),
    needs=("connection",),
    is_about_connecting=True,
)
