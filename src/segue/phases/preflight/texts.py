"""How long are the texts?

Source: Milvus counts a VARCHAR in bytes of UTF-8, at most 65,535; a JSON value has 65,536 at most (milvus#37026).
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, ok, warning
from segue.pipelines.layouts import TEXT_BYTES

SHOWN = 5
NEARLY = 0.8


def look(room: Room, name: str) -> Finding:
    """Show the longest, and compare them with what the fields take."""
    one = room.candidates[name]
    longest = dict(sorted(one.inventory.longest.items(), key=lambda found: -found[1]))
    takes = {field.source: field.size for field in one.layout.fields if field.source is not None}
    takes[one.spec.key] = one.layout.primary.size or TEXT_BYTES
    said = ", ".join(f"{prop} {size:,} bytes" for prop, size in list(longest.items())[:SHOWN]) or "no text"
    near = [prop for prop, size in longest.items() if size > NEARLY * (takes.get(prop) or TEXT_BYTES)]
    if near:
        evidence = f"longest: {said}; {', '.join(near)}: at or near what its field takes"
        return warning(evidence, "Shorten them, or leave them out of [collections.source.properties].", longest=longest)
    return ok(f"longest: {said}", longest=longest)


CHECK = Check(
    id="texts",
    severity=Severity.WARNING,
    what=f"No text is longer than {NEARLY:.0%} of what its field takes (keys 512 bytes, others {TEXT_BYTES:,}).",
    fix="Shorten them, or leave the property out of [collections.source.properties].",
    look=look,
    needs=("vectors",),
)
