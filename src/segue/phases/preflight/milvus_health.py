"""Is Milvus well, and has it time and memory for a migration?

Source: Milvus refuses to load more when 90 % of a query node's memory are taken (milvus.yaml, queryNode
`overloadedMemoryThresholdPercentage`); its quota centre denies writes when memory or disk run out, and says so.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, Store, error, ok, warning

MOST_PERCENT = 90.0


def look(room: Room, store: str) -> Finding:
    """Ask for its health and its nodes."""
    del store
    health, nodes = room.sink.health(), room.sink.nodes()
    if health is not None and (not health.is_healthy or health.reasons):
        return error(f"not well: {'; '.join(health.reasons) or 'it gives no reason'}", FIX)
    if not nodes:
        return ok("well; of its nodes it says nothing" if health else "it has no health to ask for")
    # A moment's look at each; one of them alone says little.
    busy = sum(node.cpu_percent for node in nodes) / len(nodes)
    fullest = max(nodes, key=lambda node: node.memory_used_bytes / (node.memory_bytes or 1))
    full = 100.0 * fullest.memory_used_bytes / (fullest.memory_bytes or 1)
    evidence = (
        f"well; {len(nodes)} parts use {busy:.0f} % of their CPU, the fullest ({fullest.role}) {full:.0f} % of its memory"
    )
    facts = {"cpu_percent": busy, "memory_percent": full, "nodes": len(nodes)}
    if busy > MOST_PERCENT or full > MOST_PERCENT:
        return warning(evidence, "Wait for a quieter time, or give it more nodes.", **facts)
    return ok(evidence, **facts)


FIX = "Milvus's log says more; where it denies writes, free the memory or the disk that it names."

CHECK = Check(
    id="milvus-health",
    severity=Severity.ERROR,
    what=f"Milvus is well, denies nothing, and its parts have less than {MOST_PERCENT:g} % of their CPU and memory in use.",
    fix=FIX,
    look=look,
    stores=(Store.MILVUS,),
    needs=("version",),
)
