"""Do the query nodes hold the index in memory? The formula is in `pipelines.sizing.memory_bytes`, with its source."""

from __future__ import annotations

from segue.phases.preflight.check import Candidate, Check, Finding, Room, Severity, error, gib, ok, warning
from segue.pipelines.sizing import USABLE, memory_bytes

FORMULA = "items x (4 d + 8 M + 4 + (4 M + 4) / (M - 1) + 8 + the other fields)"


def look(room: Room, name: str) -> Finding:
    """Compare what it will take with what is left."""
    one = room.candidates[name]
    needed = memory_bytes(one.census.total, one.layout, one.inventory.row_bytes)
    free, where = _free(room, one)
    facts = {"needed_bytes": round(needed), "free_bytes": free, "formula": FORMULA}
    evidence = f"{gib(needed)} are needed"
    if free is None:
        return warning(f"{evidence}; Milvus does not say what its query nodes have", UNKNOWN, **facts)
    if needed > free:
        return error(f"{evidence}, {gib(free)} are left {where}", FIX, **facts)
    return ok(f"{evidence}, {gib(free)} are left {where}", **facts)


def _free(room: Room, one: Candidate) -> tuple[int | None, str]:
    if one.limits.query_memory_bytes is not None:
        return one.limits.query_memory_bytes, "as [preflight] query_memory_gib says"
    nodes = [node for node in room.sink.nodes() if node.role == "querynode" and node.memory_bytes]
    left = sum(max(0, round(USABLE * node.memory_bytes) - node.memory_used_bytes) for node in nodes)
    return (left, f"of {USABLE:.0%} of {len(nodes)} query node(s)") if nodes else (None, "")


FIX = "Give the query nodes more memory, or add some; or set [preflight] query_memory_gib as it is."
UNKNOWN = "Look at the query nodes' memory, and state what is left: [preflight] query_memory_gib."

CHECK = Check(
    id="memory",
    severity=Severity.ERROR,
    what=f"The query nodes hold the HNSW index and the other fields within {USABLE:.0%} of their memory.",
    fix=FIX,
    look=look,
    needs=("vectors", "version:milvus"),
)
