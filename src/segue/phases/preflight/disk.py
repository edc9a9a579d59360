"""Is there room on the disk of Milvus's object storage? The formula is in `pipelines.sizing.disk_bytes`, with its source."""

from __future__ import annotations

from segue.phases.preflight.check import Candidate, Check, Finding, Room, Severity, error, gib, ok, warning
from segue.pipelines.sizing import disk_bytes

FORMULA = "items x ((2 raw + index) x replication + raw)"


def look(room: Room, name: str) -> Finding:
    """Compare what it will take with what is free."""
    one = room.candidates[name]
    needed = disk_bytes(one.census.total, one.layout, one.inventory.row_bytes, one.limits.replication)
    free, where = _free(room, one)
    facts = {"needed_bytes": round(needed), "free_bytes": free, "replication": one.limits.replication, "formula": FORMULA}
    evidence = f"{gib(needed)} are needed ({FORMULA}, replication {one.limits.replication})"
    if free is None:
        return warning(f"{evidence}; how much is free only its operator knows", UNKNOWN, **facts)
    if free < needed:
        return error(f"{evidence}, {gib(free)} are free {where}", FIX, **facts)
    return ok(f"{evidence}, {gib(free)} are free {where}", **facts)


def _free(room: Room, one: Candidate) -> tuple[int | None, str]:
    if one.limits.disk_free_bytes is not None:
        return one.limits.disk_free_bytes, "as [preflight] disk_free_gib says"
    path = one.limits.disk_path
    if path is None and room.sink.transport().is_local:
        path = "/"
    return (None, "") if path is None else (room.machine.free_bytes(path), f"on the volume of {path}")


FIX = "Make room, or set [preflight] replication, disk_path or disk_free_gib as they are."
UNKNOWN = "Look at the object storage, and state it: [preflight] disk_free_gib, or disk_path where it is mounted here."

CHECK = Check(
    id="disk",
    severity=Severity.ERROR,
    what="Milvus's object storage has room for the rows, their index and the write-ahead log, with replication.",
    fix=FIX,
    look=look,
    needs=("vectors", "version:milvus"),
)
