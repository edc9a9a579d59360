"""What a search behind the read fence relies on, of the open marks in Neo4j."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from neo4j import Driver
from neo4j.spatial import WGS84Point
from neo4j.time import Date

from segue.model import (
    CarriedProperty,
    Control,
    FenceTimes,
    Key,
    KeyType,
    Metric,
    PropertyType,
    Reason,
    SourceSpec,
    StorageMode,
)
from segue.pipelines.values import plain_properties
from segue.stores.cypher import quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_marks import Neo4jMarks, prepare
from segue.stores.neo4j_search import Neo4jFence

from .conftest import NEO4J_LINES

CARRIED = (CarriedProperty("title", PropertyType.STRING), CarriedProperty("more", PropertyType.JSON))


class Fenced:
    """A label with marks, written by hand as a capture writes them, and the fence over it."""

    MARK = """
    UNWIND $keys AS key
    MERGE (m:SegueMark {collection: $name, key: key})
      ON CREATE SET m.part = 0, m.ver = '', m.acked = '', m.marked_at = timestamp()
    SET m:SegueOpen, m.ver = randomUUID()
    """

    def __init__(self, driver: Driver, connection: Neo4jConnection, label: str, key_type: KeyType = KeyType.STRING) -> None:
        self.driver = driver
        self.label = label
        self.spec = SourceSpec("i", label, "id", key_type, "v", 2, Metric.COSINE, CARRIED)
        self.marks = Neo4jMarks(connection, label, self.spec)
        self.fence = Neo4jFence(connection, label, self.spec, seconds=10)

    def write(self, key: Key, vector: Any = (1.0, 2.0), **properties: Any) -> None:
        """Write one item, marked."""
        item = {"id": key, "v": list(vector) if isinstance(vector, tuple) else vector, **properties}
        self.run(f"{self.MARK} MERGE (n:{quoted(self.label)} {{id: key}}) SET n = $item", keys=[key], item=item)

    def delete(self, key: Key) -> None:
        """Delete one item, marked."""
        self.run(f"{self.MARK} WITH key MATCH (n:{quoted(self.label)} {{id: key}}) DELETE n", keys=[key])

    def acknowledge(self, *keys: Key) -> None:
        """Let the sink have acknowledged what these items are now."""
        self.marks.acknowledge(self.marks.look(keys).versions)

    def control(self, **fields: Any) -> None:
        """Write a control node with these fields."""
        self.run("CREATE (c:SegueControl {collection: $name}) SET c += $fields", fields=fields)

    def run(self, cypher: str, **parameters: Any) -> None:
        """Run a query that may write."""
        self.driver.execute_query(cypher, parameters, name=self.label, database_="neo4j")

    def clear(self) -> None:
        """Take away what has no label of the test's own."""
        self.run("MATCH (m:SegueMark|SegueControl {collection: $name}) DELETE m")


@pytest.fixture(params=NEO4J_LINES)
def fenced(request: pytest.FixtureRequest) -> Iterator[Fenced]:
    """A fence in each release line of Neo4j."""
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    prepare(ways[request.param][1])
    found = Fenced(*ways[request.param], request.getfixturevalue("scratch_label"))
    yield found
    found.clear()


def test_nothing_open_is_an_empty_answer(fenced: Fenced) -> None:
    """No mark and no control node: the mode is the first one, and there is nothing to look at."""
    opened = fenced.fence.read(10, 10)
    assert opened.control == Control()
    assert (opened.marks, opened.page.keys, opened.too_many) == ({}, [], False)


def test_items_come_with_the_marks_that_are_not_acknowledged_only(fenced: Fenced) -> None:
    """A dirty mark comes with its item as it is now, a deleted one without, an acknowledged one is for the reader to fetch."""
    fenced.write("dirty", (3.0, 4.0), title="Alien", more=[1, 2])
    fenced.write("gone")
    fenced.write("acknowledged")
    fenced.acknowledge("acknowledged")
    fenced.delete("gone")

    opened = fenced.fence.read(10, 10)

    assert (set(opened.marks), opened.dirty) == ({"dirty", "gone", "acknowledged"}, {"dirty", "gone"})
    assert opened.marks == fenced.marks.look(list(opened.marks)).versions
    assert opened.page.keys == ["dirty"]
    assert opened.page.vectors.tolist() == [[3.0, 4.0]]
    assert list(opened.page.properties[0]) == ["Alien", [1, 2]]
    assert opened.page.quarantined == []
    assert opened.page.exhausted


def test_a_mark_that_is_marked_again_is_not_acknowledged_any_more(fenced: Fenced) -> None:
    """Its item comes again with the answer, under another token."""
    fenced.write("a", (1.0, 0.0))
    fenced.acknowledge("a")
    before = fenced.fence.read(10, 10)
    fenced.write("a", (0.0, 1.0))

    opened = fenced.fence.read(10, 10)

    assert (before.dirty, opened.dirty) == (set(), {"a"})
    assert before.marks["a"] != opened.marks["a"]
    assert opened.page.vectors.tolist() == [[0.0, 1.0]]


def test_closed_marks_are_not_looked_at(fenced: Fenced) -> None:
    """What the sweep has closed is Milvus's to answer."""
    parts = fenced.marks.lease("one", 30, 1)
    fenced.write("closed")
    fenced.write("open")
    fenced.acknowledge("closed")
    time.sleep(0.3)
    fenced.marks.sweep(parts, 0.2)
    fenced.marks.release("one")

    assert set(fenced.fence.read(10, 10).marks) == {"open"}


def test_marks_of_other_collections_are_not_seen(fenced: Fenced) -> None:
    """Open marks share a label, and are told apart by the collection."""
    fenced.run("CREATE (:SegueMark:SegueOpen {collection: $name + 'x', key: 'a', ver: '1', acked: ''})")
    fenced.write("b")

    assert set(fenced.fence.read(10, 10).marks) == {"b"}

    fenced.run("MATCH (m:SegueMark {collection: $name + 'x'}) DELETE m")


def test_open_marks_of_other_collections_are_not_even_passed_by(fenced: Fenced) -> None:
    """The server finds the marks by their collection: one that nobody relays does not slow the readers of another."""
    fenced.run("CALL db.awaitIndex('segue_open', 30)")
    plan = repr(fenced.driver.execute_query("EXPLAIN " + fenced.fence._read, name="", database_="neo4j").summary.plan)
    assert "RANGE INDEX m:SegueOpen(collection)" in plan


BROKEN: dict[str, tuple[Any, Reason]] = {
    "missing": (None, Reason.NO_EMBEDDING),
    "short": ((1.0,), Reason.WRONG_DIMENSION),
    "text": ("no vector", Reason.NOT_A_VECTOR),
    "words": (("no", "vector"), Reason.NOT_A_VECTOR),
    "large": ((1e300, 1.0), Reason.NOT_FINITE),
}


def test_broken_vectors_are_quarantined_beside_the_others(fenced: Fenced) -> None:
    """They are in no row, so that a search leaves them out, and are told from items that are gone."""
    for key, (vector, _) in BROKEN.items():
        fenced.write(key, vector)
    fenced.write("good")

    opened = fenced.fence.read(10, 10)

    assert opened.page.keys == ["good"]
    assert {row.key: row.reason for row in opened.page.quarantined} == {key: reason for key, (_, reason) in BROKEN.items()}
    assert set(opened.marks) == {*BROKEN, "good"}


def test_too_many_marks_are_said_and_not_sent(fenced: Fenced) -> None:
    """Exactly as many as asked for come; one more, and none do."""
    for key in "abc":
        fenced.write(key)

    assert len(fenced.fence.read(3, 3).marks) == 3
    opened = fenced.fence.read(2, 2)
    assert (opened.too_many, opened.marks, opened.dirty, opened.page.keys) == (True, {}, set(), [])
    assert fenced.fence.read(3, 3).too_many is False
    assert fenced.fence.read(3, 2).too_many is True


def test_the_control_node_is_read_with_the_marks(fenced: Fenced) -> None:
    """Mode, epoch, times in seconds, the capture, the copy and its age, and why the mode was changed."""
    fenced.control(
        mode="hybrid", epoch=7, visible_ms=4_000, fence_ms=900, window_ms=5_150, library_token="l", copied="l", reason="go"
    )
    fenced.run("MATCH (c:SegueControl {collection: $name}) SET c.copied_at = timestamp() - 5000")

    control = fenced.fence.read(10, 10).control

    assert control.times == FenceTimes(visible=4.0, fence=0.9, slack=0.25)
    assert (control.mode, control.epoch, control.capture, control.copied) == (StorageMode.HYBRID, 7, "l", "l")
    assert control.reason == "go"
    assert control.copied_seconds_ago == pytest.approx(5, abs=2)


def test_a_control_node_of_the_capture_alone_has_defaults(fenced: Fenced) -> None:
    """The capture by a trigger makes the node with nothing but its token; that token comes before the library's."""
    fenced.control(capture="trigger", capture_token="t", library_token="l")
    assert fenced.fence.read(10, 10).control == Control(capture="t")


def test_integer_keys_are_told_from_numbers_that_equal_them(fenced: Fenced) -> None:
    """The item of mark 5 is the node with 5, never one with 5.0, also when an index is asked."""
    fenced.run(f"CREATE INDEX {fenced.label}Keys FOR (n:{quoted(fenced.label)}) ON (n.id)")
    fenced.run("CALL db.awaitIndex($name + 'Keys', 30)")
    numbered = Fenced(fenced.driver, fenced.fence._connection, fenced.label, KeyType.INTEGER)  # same place
    numbered.write(5)
    numbered.write(6)
    numbered.run(f"MATCH (n:{quoted(fenced.label)} {{id: 6}}) SET n.id = 6.0")

    opened = numbered.fence.read(10, 10)

    assert set(opened.marks) == {5, 6}
    assert opened.page.keys == numbered.fence.items([5, 6]).keys == [5]


def test_items_are_read_as_they_are_now(fenced: Fenced) -> None:
    """Whether marked or not; keys without an item are left out, broken vectors are quarantined."""
    fenced.write("a", (1.0, 2.0), title="Alien", more=WGS84Point((1.0, 2.0)))
    fenced.write("b", (3.0, 4.0), title="Brazil", more=Date(1985, 2, 20))
    fenced.write("broken", (1.0,))
    fenced.acknowledge("a")

    page = fenced.fence.items(["b", "never", "a", "broken"])

    found = dict(zip(page.keys, page.vectors.tolist(), strict=True))
    assert found == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    properties = dict(zip(page.keys, page.properties, strict=True))
    names = fenced.spec.property_names
    assert plain_properties(names, properties["a"]) == {"title": "Alien", "more": {"srid": 4326, "coordinates": [1.0, 2.0]}}
    assert plain_properties(names, properties["b"]) == {"title": "Brazil", "more": "1985-02-20"}
    assert [row.key for row in page.quarantined] == ["broken"]
    assert fenced.fence.items([]).keys == []
