"""Can anybody listen in on the way to the server?"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, ok, warning


def look(room: Room, store: str) -> Finding:
    """Look at the address and at what is spoken there."""
    way = room.servers[Store(store)].transport()
    facts = {"encrypted": way.is_encrypted, "verified": way.is_verified, "local": way.is_local}
    if way.is_encrypted and way.is_verified:
        return ok("TLS, and the certificate is trusted", **facts)
    if way.is_local:
        return ok(f"{'TLS without a trusted certificate' if way.is_encrypted else 'plain'}, on this machine", **facts)
    if way.is_encrypted:
        return warning("TLS, but whose certificate it is nobody checks", FIX, **facts)
    return warning("plain: passwords and data can be read on the way", FIX, **facts)


FIX = "Use bolt+s:// or neo4j+s://, https:// with [milvus] ca_file, rediss://, sslmode=verify-full."

CHECK = Check(
    id="tls",
    severity=Severity.WARNING,
    what="The way to a server on another machine is encrypted, and its certificate is trusted.",
    fix=FIX,
    look=look,
    stores=(Store.NEO4J, Store.MILVUS, Store.REDIS, Store.POSTGRES),
    needs=("connection",),
    is_about_connecting=True,
)
