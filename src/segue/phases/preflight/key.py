"""Is the key a key: unique, guarded by a constraint, and indexed?

Source: Milvus's insert checks no primary key, so two nodes under one key would be one row (milvus#36199); an index over the key
is what ranges and resuming go by.
"""

from __future__ import annotations

from segue.phases.preflight.check import Check, Finding, Room, Severity, ok, warning

EXAMPLES = 3


def look(room: Room, name: str) -> Finding:
    """Look for the constraint and the index; without a constraint, for keys that several nodes have."""
    one = room.candidates[name]
    spec, census = one.configured, one.census
    constraint = f"CREATE CONSTRAINT FOR (n:`{spec.label}`) REQUIRE n.`{spec.key}` IS UNIQUE"
    if census.key_unique:
        return ok(f"a uniqueness constraint guards :{spec.label}({spec.key})", unique=True, indexed=True)
    shared = room.source.duplicates(spec, EXAMPLES)
    indexed = "" if census.key_indexed else "; no index serves it: every page reads the whole label, by one worker"
    facts = {"unique": False, "indexed": census.key_indexed, "shared": [[str(key), nodes] for key, nodes in shared]}
    if shared:
        listed = ", ".join(f"{key!r} of {nodes} nodes" for key, nodes in shared)
        evidence = f"several nodes share a key ({listed}) and would be quarantined{indexed}"
        return warning(evidence, f"Give each a key of its own, then: {constraint}", **facts)
    return warning(f"no uniqueness constraint on :{spec.label}({spec.key}); it is unique today{indexed}", constraint, **facts)


CHECK = Check(
    id="key",
    severity=Severity.WARNING,
    what="A uniqueness constraint, with its index, guards the key; no two nodes share one.",
    fix="CREATE CONSTRAINT FOR (n:`LABEL`) REQUIRE n.`KEY` IS UNIQUE, after each node has a key of its own.",
    look=look,
    needs=("items",),
    seconds=600.0,
)
