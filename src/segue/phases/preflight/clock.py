"""Do the clocks agree? Nothing that must be right hangs on it: marks, leases and the fence go by Neo4j's clock alone.

But ages in reports, expiry times of agent state, and log lines that are laid side by side would be off.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, ok, warning

MOST_SECONDS = 2.0


def look(room: Room, store: str) -> Finding:
    """Ask for the time, and compare it with the middle of the time that the answer took."""
    server = room.servers[Store(store)]
    began = room.machine.seconds()
    theirs = server.seconds()
    ended = room.machine.seconds()
    apart, unsure = theirs - (began + ended) / 2, (ended - began) / 2
    evidence = f"{abs(apart):.3f} s {'ahead of' if apart > 0 else 'behind'} this machine's, ± {unsure:.3f} s"
    if abs(apart) - unsure > MOST_SECONDS:
        return warning(evidence, FIX, seconds=apart)
    return ok(evidence, seconds=apart)


FIX = "Let both machines follow the same time (NTP)."

CHECK = Check(
    id="clock",
    severity=Severity.WARNING,
    what=f"The server's clock and this machine's are at most {MOST_SECONDS:g} s apart.",
    fix=FIX,
    look=look,
    stores=(Store.NEO4J, Store.MILVUS, Store.REDIS, Store.POSTGRES),
    needs=("authentication",),
)
