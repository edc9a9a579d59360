"""Does the server answer at all? Refused credentials are an answer too; `authentication` speaks of those."""

from __future__ import annotations

from segue.errors import AuthenticationFailed
from segue.phases.preflight.check import Check, Finding, Outcome, Room, Severity, Store, ok


def look(room: Room, store: str) -> Finding:
    """Connect."""
    server = room.servers.get(Store(store))
    if server is None:
        return Finding(Outcome.NOT_CONFIGURED, "not configured")
    address = server.transport().address
    began = room.machine.seconds()
    try:
        server.connect()
    except AuthenticationFailed:
        return ok(f"{address} answers", address=address)
    milliseconds = 1000 * (room.machine.seconds() - began)
    return ok(f"{address} answers after {milliseconds:,.0f} ms", address=address)


CHECK = Check(
    id="connection",
    severity=Severity.ERROR,
    what="The server answers at its address.",
    fix="Start it, or set its address: NEO4J_URI, MILVUS_URI, REDIS_URL, DATABASE_URL.",
    look=look,
    stores=(Store.NEO4J, Store.MILVUS, Store.REDIS, Store.POSTGRES),
    is_about_connecting=True,
)
