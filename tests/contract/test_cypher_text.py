"""The Cypher that Segue writes, against the servers that read it: quoted names, and ranges of keys."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from segue.model import Key, KeyType
from segue.stores.cypher import quoted
from segue.stores.neo4j_keys import hint, key_bounds

from .graphs import Neo4jGraph

NAMES = st.text(
    st.one_of(st.sampled_from("\\`u0041'\"{}$ <>\n"), st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    min_size=1,
    max_size=12,
)
TRAPS = [
    "\\u0041",
    "\\\\u0041",
    "\\\\\\u0041",
    "\\uu0041",
    "a\\u0060b",
    "\\u005cu0041",
    "``",
    "\\`",
    "\\",
    "//",
    "/*",
    "\\U0041",
]
SERVER = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(names=st.lists(NAMES, min_size=1, max_size=8, unique=True))
@example(names=TRAPS)
@SERVER
def test_a_quoted_name_is_that_name(neo4j_graph: Neo4jGraph, names: list[str]) -> None:
    """A property written under a quoted name has that name, and is read by it; in Cypher 5 and, where it is, Cypher 25."""
    label = neo4j_graph.label + names[0]
    for version in versions(neo4j_graph):
        assigned = ", ".join(f"n.{quoted(name)} = {number}" for number, name in enumerate(names))
        read = ", ".join(f"n.{quoted(name)}" for name in names)
        query = (
            f"{version} CREATE (n:{quoted(label)}) SET {assigned} WITH n, labels(n) AS l, properties(n) AS p, [{read}] AS r "
        )
        ((labels, properties, values),) = neo4j_graph.run(f"{query} DETACH DELETE n RETURN l, p, r")
        assert labels == [label]
        assert properties == {name: number for number, name in enumerate(names)}
        assert values == list(range(len(names)))


def versions(graph: Neo4jGraph) -> list[str]:
    """Return the prefixes of the languages that a server reads."""
    ((version,),) = graph.run("CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0]")
    return ["CYPHER 5"] if version.startswith("5.") else ["CYPHER 5", "CYPHER 25"]


# Where text is sorted by code point and compared by UTF-16 unit, these are before and behind each other.
TEXT = st.text(st.sampled_from("az\ud7ff\ue000\uff08\uffff\U00010000\U0001f600"), max_size=4)


@pytest.mark.parametrize("way", ["no index", "index", "held to the index"])
@given(keys=st.sets(TEXT, max_size=25), after=st.none() | TEXT, until=st.none() | TEXT)
@example(keys={"\ue000", "\U00010000", "a"}, after="\ue000", until="\U0010ffff")
@example(keys={"\ue000", "\U00010000", "a"}, after=None, until="\ue000")
@SERVER
def test_bounds_hold_in_the_order_of_code_points(
    neo4j_graph: Neo4jGraph, way: str, keys: set[str], after: Key | None, until: Key | None
) -> None:
    """Whatever bounds: the keys within them are those that Python finds, whose text is ordered by code point."""
    label = quoted(neo4j_graph.label)
    neo4j_graph.clear()
    if way != "no index":
        neo4j_graph.run(f"CREATE INDEX IF NOT EXISTS FOR (n:{label}) ON (n.id)")
        neo4j_graph.run("CALL db.awaitIndexes(30)")
    neo4j_graph.create(*({"id": key} for key in keys))
    indexed = way == "held to the index"
    within, values = key_bounds("n.id", KeyType.STRING, after, until, indexed=indexed)
    held = hint(neo4j_graph.label, "id") if indexed else ""
    for order in ("", "ORDER BY n.id LIMIT 100"):
        found = neo4j_graph.run(f"MATCH (n:{label}) {held} WHERE {within} WITH n {order} RETURN n.id", **values)
        expected = {key for key in keys if (after is None or key > str(after)) and (until is None or key <= str(until))}
        assert sorted(row[0] for row in found) == sorted(expected)
