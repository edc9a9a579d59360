"""Is the vector index there that the configuration names, and is it what the configuration says?"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, error, ok, warning


def look(room: Room, name: str) -> Finding:
    """Compare the index with the configuration."""
    spec = room.candidates[name].configured
    found = {index.name: index for index in room.source.vector_indexes()}
    index = found.get(spec.index)
    if index is None:
        known = ", ".join(found) or "none"
        return error(f"there is no vector index {spec.index!r}; there are: {known}", FIX)
    wrong = [
        f"{what} {theirs}, configured {ours}"
        for what, theirs, ours in (
            ("covers", index.entity, "NODE"),
            ("label", "|".join(index.labels), spec.label),
            ("property", index.properties[0], spec.vector),
            ("dimension", index.dimension or spec.dimension, spec.dimension),
        )
        if theirs != ours
    ]
    if wrong:
        return error(f"{spec.index}: {'; '.join(wrong)}", FIX)
    said = f"{spec.index}: :{spec.label}({spec.vector}), {index.dimension or 'any'} dimensions, {index.metric}, {index.state}"
    if index.metric != spec.metric.value:
        return warning(f"{said}; configured {spec.metric}: scores and neighbours will differ", FIX)
    if index.state != "ONLINE":
        return warning(f"{said}: Neo4j cannot answer searches until it is built", "Wait for it: CALL db.awaitIndexes(300).")
    return ok(said)


FIX = "Run `segue init` again, or set [collections.source] right."

CHECK = Check(
    id="vector-index",
    severity=Severity.ERROR,
    what="The vector index is there, online, and has the label, property, dimension and metric that the configuration says.",
    fix=FIX,
    look=look,
    needs=("neo4j-privileges:neo4j",),
)
