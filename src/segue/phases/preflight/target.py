"""Is the collection's name free in Milvus, or led to a collection that takes the rows?

Source: Segue's own comparison of layouts, which a copy makes too; an alias may not equal a collection's name.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, ok


def look(room: Room, name: str) -> Finding:
    """Compare what is there with the layout; a mismatch is raised, with its differences."""
    one = room.candidates[name]
    found = one.sink.find(one.layout)
    if found is None:
        return ok(f"{name} is free; it will be made with {len(one.layout.fields)} fields", exists=False)
    state = room.sink.load_state(name)
    return ok(f"{name} is there ({found.partition('#')[0]}, {state}) and takes the rows", exists=True, load_state=state)


CHECK = Check(
    id="target",
    severity=Severity.ERROR,
    what="The collection is not there yet, or has the fields, the key and the metric that the rows need. Shows its load state.",
    fix="Choose another name in segue.toml, or drop the collection if nobody needs it.",
    look=look,
    needs=("items", "version:milvus"),
)
