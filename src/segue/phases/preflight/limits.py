"""Does the collection keep to Milvus's limits? Source: milvus.io/docs/limitations of 2.6."""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, error, gib, ok
from segue.pipelines.layouts import MAX_FIELDS

DIMENSIONS = range(2, 32_769)
REQUEST_BYTES = 64 * 2**20


def look(room: Room, name: str) -> Finding:
    """Compare the layout and a batch with the limits."""
    one = room.candidates[name]
    fields, dimension = len(one.layout.fields), one.layout.vector.size
    batch = one.limits.batch_rows * (4 * dimension + one.inventory.row_bytes)
    broken = []
    if fields > MAX_FIELDS:
        broken.append(f"{fields} fields, Milvus takes {MAX_FIELDS}")
    if dimension not in DIMENSIONS:
        broken.append(f"{dimension} dimensions, Milvus takes {DIMENSIONS.start} to {DIMENSIONS.stop - 1:,}")
    if batch > REQUEST_BYTES:
        broken.append(
            f"a batch of {one.limits.batch_rows:,} rows has {gib(batch)}, Milvus takes {gib(REQUEST_BYTES)} a request"
        )
    if broken:
        return error("; ".join(broken), FIX)
    return ok(f"{fields} of {MAX_FIELDS} fields, {dimension:,} dimensions, up to {gib(batch)} a request")


FIX = "Carry fewer properties, or set a smaller [backfill] batch_size."

CHECK = Check(
    id="limits",
    severity=Severity.ERROR,
    what=f"At most {MAX_FIELDS} fields, 2 to {DIMENSIONS.stop - 1:,} dimensions, and {gib(REQUEST_BYTES)} a batch.",
    fix=FIX,
    look=look,
    needs=("vectors",),
)
