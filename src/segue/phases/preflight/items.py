"""How many items there are, how many with an embedding, and of which types keys and properties are."""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, error, ok, warning


def look(room: Room, name: str) -> Finding:
    """Count, in one pass over the label."""
    one = room.candidates[name]
    spec, census = one.configured, one.census
    keyed = census.keyed(spec.key_type)
    types = {prop: sorted(found) for prop, found in census.types.items()}
    facts = {
        "items": census.total,
        "embedded": census.embedded,
        "without_embedding": census.total - census.embedded,
        "keyed": keyed,
        "types": types,
    }
    evidence = f"{census.total:,} items, {census.embedded:,} with an embedding, {census.total - census.embedded:,} without"
    if not census.total:
        return warning(f"no node has the label {spec.label!r}", "Is the label right? [collections.source] label.", **facts)
    if not keyed or not census.embedded:
        return error(f"{evidence}; {keyed:,} have a {spec.key_type} key {spec.key!r}: nothing could go", FIX, **facts)
    notes = [note for note in one.settled[1] if note.startswith("property")]
    if keyed < census.total:
        notes.insert(0, f"{census.total - keyed:,} have no {spec.key_type} key and would be quarantined")
    if notes:
        return warning("; ".join([evidence, *notes]), FIX, **facts)
    return ok(evidence, **facts)


FIX = "Set key, key_type, vector and the properties in [collections.source] right; what differs from node to node goes to JSON."

CHECK = Check(
    id="items",
    severity=Severity.ERROR,
    what="There are items with an embedding and a key of one type; each carried property is of the type that is configured.",
    fix=FIX,
    look=look,
    needs=("vector-index",),
    seconds=600.0,
)
