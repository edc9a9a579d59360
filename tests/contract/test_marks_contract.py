"""What the relay and the backfill rely on, of marks in memory and in Neo4j alike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import pytest
from neo4j import Driver

from segue.model import Key, KeyType, Metric, SourceSpec
from segue.ports import Marks
from segue.stores.cypher import quoted
from segue.stores.memory_marks import MemoryGraph
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_marks import Neo4jMarks, prepare

from .conftest import NEO4J_LINES


class Place(Protocol):
    """Marks with a way to write items as an application whose changes are captured does."""

    marks: Marks

    def write(self, *keys: Key) -> None: ...
    def delete(self, *keys: Key) -> None: ...
    def wait(self, seconds: float) -> None: ...


class InMemory:
    """Marks of a graph in memory, with a clock that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.marks = self.graph = MemoryGraph(spec("L"), clock=lambda: self.now, partitions=8)

    def write(self, *keys: Key) -> None:
        self.graph.upsert({key: ([1.0, 2.0],) for key in keys})

    def delete(self, *keys: Key) -> None:
        self.graph.delete(keys)

    def wait(self, seconds: float) -> None:
        self.now += seconds


class InNeo4j:
    """Marks written by hand as the trigger writes them; that it does is `tests/integration/test_capture.py`'s business."""

    MARK = """
    UNWIND $keys AS key
    MERGE (m:SegueMark {collection: $name, key: key})
      ON CREATE SET m.part = toInteger(rand() * 64), m.ver = '', m.acked = '', m.marked_at = timestamp()
    SET m:SegueOpen, m.ver = randomUUID()
    """

    def __init__(self, driver: Driver, connection: Neo4jConnection, label: str) -> None:
        self.label = label
        self.driver = driver
        prepare(connection)
        self.marks = Neo4jMarks(connection, label, spec(label))

    def write(self, *keys: Key) -> None:
        self._run(f"{self.MARK} MERGE (n:{quoted(self.label)} {{id: key}}) SET n.v = [1.0, 2.0]", keys)

    def delete(self, *keys: Key) -> None:
        self._run(f"{self.MARK} WITH key MATCH (n:{quoted(self.label)} {{id: key}}) DELETE n", keys)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def _run(self, cypher: str, keys: tuple[Key, ...]) -> None:
        self.driver.execute_query(cypher, keys=list(keys), name=self.label, database_="neo4j")

    def clear(self) -> None:
        self._run("MATCH (m:SegueMark|SegueLease|SegueRelay {collection: $name}) DELETE m", ())


def spec(label: str) -> SourceSpec:
    """Return items of two dimensions under a label."""
    return SourceSpec("i", label, "id", KeyType.STRING, "v", 2, Metric.COSINE)


@pytest.fixture(params=["memory", *NEO4J_LINES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Marks in memory, and in each release line of Neo4j."""
    if request.param == "memory":
        yield InMemory()
        return
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    found = InNeo4j(*ways[request.param], request.getfixturevalue("scratch_label"))
    yield found
    found.clear()


def held(place: Place, owner: str = "one") -> frozenset[int]:
    """Let an owner take its share of the partitions."""
    return place.marks.lease(owner, 30, 1)


def test_only_marks_of_the_interval_are_remarked(place: Place) -> None:
    """The interval is half-open, and every token in it is fresh, whether the item is there or not."""
    place.write("a", "b", "c", "d")
    place.delete("c")
    before = place.marks.look(["a", "b", "c", "d"]).versions

    assert place.marks.remark("a", "c") == {"b", "c"}

    after = place.marks.look(["a", "b", "c", "d"]).versions
    assert [key for key in "abcd" if before[key] != after[key]] == ["b", "c"]
    assert place.marks.remark(None, None) == {"a", "b", "c", "d"}


def test_a_look_sees_tokens_and_items(place: Place) -> None:
    """A key whose item is gone has a token and no row; a key without a mark has neither."""
    place.write("a", "b")
    place.delete("b")

    looked = place.marks.look(["a", "b", "never"])

    assert set(looked.versions) == {"a", "b"}
    assert looked.page.keys == ["a"]
    assert looked.page.vectors.tolist() == [[1.0, 2.0]]


def test_a_key_is_clean_only_under_the_token_seen(place: Place) -> None:
    """An acknowledgement of an older token changes nothing: the key stays dirty."""
    parts = held(place)
    place.write("a", "b")
    seen = place.marks.look(["a", "b"]).versions
    place.write("b")

    assert place.marks.acknowledge(seen) == 1
    assert place.marks.dirty(parts, 10) == ["b"]


def test_a_taint_is_cured_by_a_fresh_token_when_it_has_run_out(place: Place) -> None:
    """Before that the sweep leaves it; after it the key is dirty again, although it had been acknowledged."""
    parts = held(place)
    place.write("a")
    place.marks.taint(["a"], 0.5)
    place.marks.acknowledge(place.marks.look(["a"]).versions)

    place.marks.sweep(parts, 60)
    assert place.marks.dirty(parts, 10) == []
    assert place.marks.backlog().tainted == 1

    place.wait(0.6)
    place.marks.sweep(parts, 60)
    assert place.marks.dirty(parts, 10) == ["a"]
    assert place.marks.backlog().tainted == 0


def test_a_mark_is_closed_only_after_the_window(place: Place) -> None:
    """Clean, untainted and acknowledged longer ago than the window: readers need not look any more."""
    parts = held(place)
    place.write("a", "b")
    place.marks.acknowledge(place.marks.look(["a"]).versions)

    place.marks.sweep(parts, 60)
    assert place.marks.backlog().open == 2

    place.wait(0.6)
    place.marks.sweep(parts, 0.5)
    assert place.marks.backlog().open == 1


def test_owners_share_evenly_and_take_over(place: Place) -> None:
    """A second owner gets half at the next renewal; what one releases, the other takes without a taint."""
    alone = held(place, "one")
    assert held(place, "two") == frozenset()
    first, second = held(place, "one"), held(place, "two")
    assert (len(first), len(second)) == (len(alone) // 2, len(alone) // 2)
    assert first | second == alone
    place.write("a")

    place.marks.release("one")

    assert held(place, "two") == alone
    assert place.marks.backlog().tainted == 0


def test_what_a_dead_owner_held_is_tainted_at_takeover(place: Place) -> None:
    """Its lease has run out and nobody knows what it had on its way: dirty keys are tainted, clean ones are not."""
    place.marks.lease("dead", 0.3, 1)
    place.write("a", "b")
    place.marks.acknowledge(place.marks.look(["b"]).versions)

    place.wait(0.5)
    place.marks.lease("heir", 30, 60)

    assert place.marks.backlog().tainted == 1
