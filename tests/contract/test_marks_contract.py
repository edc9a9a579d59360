"""What the relay and the backfill rely on, of marks in memory and in Neo4j alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest
from neo4j import Driver
from neo4j.exceptions import Neo4jError

from segue.errors import RetryableError, SegueError
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
    def capture(self, token: str | None) -> None: ...
    def window(self, seconds: float) -> None: ...
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

    def capture(self, token: str | None) -> None:
        self.graph.capture = token

    def window(self, seconds: float) -> None:
        self.graph.window_seconds = seconds

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

    def capture(self, token: str | None) -> None:
        self._control("c.capture_token", token)

    def library(self, token: str | None) -> None:
        self._control("c.library_token", token)

    def window(self, seconds: float) -> None:
        self._control("c.window_ms", int(seconds * 1000))

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextmanager
    def changing(self, key: Key, change: str) -> Iterator[Callable[[], None]]:
        """A transaction that has changed the mark of a key and holds its lock; yields what commits it."""
        text = f"MATCH (m:SegueMark {{collection: $name, key: $key}}) {change}"
        with self.driver.session(database="neo4j") as session, session.begin_transaction() as transaction:
            transaction.run(text, name=self.label, key=key).consume()
            yield transaction.commit

    def keys(self) -> set[Key]:
        """The keys that have a mark."""
        found = self.driver.execute_query("MATCH (m:SegueMark {collection: $name}) RETURN m.key", name=self.label)
        return {row[0] for row in found.records}

    def _control(self, place: str, value: object) -> None:
        text = f"MERGE (c:SegueControl {{collection: $name}}) SET {place} = $value"
        self.driver.execute_query(text, name=self.label, value=value, database_="neo4j")

    def _run(self, cypher: str, keys: tuple[Key, ...]) -> None:
        self.driver.execute_query(cypher, keys=list(keys), name=self.label, database_="neo4j")

    def clear(self) -> None:
        self._run("MATCH (m:SegueMark|SegueLease|SegueRelay|SegueControl {collection: $name}) DELETE m", ())


def spec(label: str) -> SourceSpec:
    """Return items of two dimensions under a label."""
    return SourceSpec("i", label, "id", KeyType.STRING, "v", 2, Metric.COSINE)


@pytest.fixture(params=["memory", *NEO4J_LINES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Marks in memory, and in each release line of Neo4j."""
    if request.param == "memory":
        yield InMemory()
    else:
        yield from _in_neo4j(request)


@pytest.fixture(params=NEO4J_LINES)
def in_neo4j(request: pytest.FixtureRequest) -> Iterator[InNeo4j]:
    """Marks in each release line of Neo4j."""
    yield from _in_neo4j(request)


def _in_neo4j(request: pytest.FixtureRequest) -> Iterator[InNeo4j]:
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

    assert len(place.marks.acknowledge(seen)) == 1
    assert place.marks.dirty(parts, 10) == ["b"]


def test_an_acknowledgement_tells_how_long_the_key_was_dirty(place: Place) -> None:
    """Counted from the change that made it dirty, also when it was changed again meanwhile."""
    place.write("a")
    place.wait(0.4)
    place.write("a", "b")

    lags = place.marks.acknowledge(place.marks.look(["a", "b"]).versions)

    late, fresh = sorted(lags, reverse=True)
    assert 0.4 <= late < 5
    assert 0 <= fresh < late


def test_a_taint_is_cured_by_a_fresh_token_when_it_has_run_out(place: Place) -> None:
    """Before that the sweep leaves it; after it the key is dirty again, although it had been acknowledged."""
    parts = held(place)
    place.write("a")
    place.marks.taint(["a"], 6)
    place.marks.acknowledge(place.marks.look(["a"]).versions)

    place.marks.sweep(parts, 60)
    assert place.marks.dirty(parts, 10) == []
    assert place.marks.backlog().tainted == 1

    place.wait(6.1)
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


def test_the_window_of_the_control_node_goes_before_the_relay_s(place: Place) -> None:
    """Readers go by the control node: its window decides, whatever a relay was configured with."""
    parts = held(place)
    place.write("a")
    place.marks.acknowledge(place.marks.look(["a"]).versions)
    place.wait(0.6)

    place.window(60)
    place.marks.sweep(parts, 0.1)
    assert place.marks.backlog().open == 1

    place.window(0.5)
    place.marks.sweep(parts, 60)
    assert place.marks.backlog().open == 0


def closed(place: Place, *keys: Key) -> frozenset[int]:
    """Write keys whose marks are acknowledged and closed, under a capture with a complete copy; return the partitions."""
    parts = held(place)
    place.capture("one")
    place.marks.copy_begins()
    place.marks.copy_ended("one")
    place.write(*keys)
    place.marks.acknowledge(place.marks.look(keys).versions)
    place.wait(0.1)
    place.marks.sweep(parts, 0.05)
    assert place.marks.backlog().open == 0
    return parts


def marked(place: Place, *keys: Key) -> set[Key]:
    """Return which of the keys have a mark."""
    return set(place.marks.look(keys).versions)


def test_closed_marks_are_pruned_in_key_order_and_only_so_many(place: Place) -> None:
    """The first keys go first, of the partitions asked for, whether the item is there or not; then nothing is left."""
    parts = closed(place, "a", "b", "c", "d")
    place.delete("d")
    assert place.marks.prune(frozenset(), 10) == 0

    assert place.marks.prune(parts, 2) == 2
    assert marked(place, "a", "b", "c", "d") == {"c", "d"}
    assert place.marks.prune(parts, 10) == 1
    assert marked(place, "a", "b", "c", "d") == {"d"}
    assert place.marks.prune(parts, 10) == 0


def test_a_mark_that_somebody_needs_is_not_pruned(place: Place) -> None:
    """Dirty, tainted, or open for readers: it stays."""
    parts = closed(place, "dirty", "tainted", "open", "none of it")
    place.write("dirty", "open")
    place.marks.acknowledge(place.marks.look(["open"]).versions)
    place.marks.taint(["tainted"], 60)

    assert place.marks.prune(parts, 10) == 1
    assert marked(place, "dirty", "tainted", "open", "none of it") == {"dirty", "tainted", "open"}


def test_nothing_is_pruned_while_a_copy_is_under_way(place: Place) -> None:
    """A batch in flight may hold an older row: from `copy_begins`, said once or again, until `copy_ended`."""
    parts = closed(place, "a")
    place.marks.copy_begins()
    place.marks.copy_begins()
    assert place.marks.prune(parts, 10) == 0

    place.marks.copy_ended("one")
    assert place.marks.prune(parts, 10) == 1


@pytest.mark.parametrize("present", ["another", None])
def test_nothing_is_pruned_while_a_copy_is_still_to_be_made(place: Place, present: str | None) -> None:
    """A copy complete under an older capture, or with none at present, is not the one that counts."""
    parts = closed(place, "a")
    place.capture(present)
    assert place.marks.prune(parts, 10) == 0

    place.capture("one")
    assert place.marks.prune(parts, 10) == 1


def test_a_mark_made_anew_is_dirty_under_a_token_of_its_own(place: Place) -> None:
    """After pruning, a write marks as if for the first time; what was acknowledged before counts for nothing."""
    parts = closed(place, "a")
    before = place.marks.look(["a"]).versions
    place.marks.prune(parts, 10)
    place.write("a")

    assert place.marks.dirty(parts, 10) == ["a"]
    assert place.marks.acknowledge(before) == []
    assert place.marks.look(["a"]).versions != before


def test_a_capture_by_the_library_counts_where_there_is_no_trigger(in_neo4j: InNeo4j) -> None:
    """The present capture is the trigger's, else the library's."""
    parts = closed(in_neo4j, "a")
    in_neo4j.library("one")
    in_neo4j.capture("trigger")
    assert in_neo4j.marks.prune(parts, 10) == 0

    in_neo4j.capture(None)
    assert in_neo4j.marks.prune(parts, 10) == 1


@pytest.mark.parametrize("change", ["SET m:SegueOpen, m.ver = randomUUID()", "SET m.ver = randomUUID()"])
def test_a_mark_is_looked_at_again_under_its_lock(in_neo4j: InNeo4j, change: str) -> None:
    """Made dirty by a transaction that commits while the pruning waits for it: it stays."""
    parts = closed(in_neo4j, "a")
    with in_neo4j.changing("a", change) as commit:
        pruning = threading.Thread(target=in_neo4j.marks.prune, args=(parts, 10))
        pruning.start()
        pruning.join(0.5)
        assert pruning.is_alive()
        commit()
    pruning.join()

    assert in_neo4j.keys() == {"a"}


def test_a_copy_that_begins_waits_for_what_is_being_pruned(in_neo4j: InNeo4j) -> None:
    """`copy_begins` returns only when no deletion is under way any more: from then on every mark is there to be seen."""
    parts = closed(in_neo4j, "a")
    with in_neo4j.changing("a", "SET m.looked_at = 0") as commit:
        pruning = threading.Thread(target=in_neo4j.marks.prune, args=(parts, 10))
        pruning.start()
        pruning.join(0.5)
        beginning = threading.Thread(target=in_neo4j.marks.copy_begins)
        beginning.start()
        beginning.join(0.5)
        assert beginning.is_alive()
        commit()
    pruning.join()
    beginning.join()

    assert in_neo4j.keys() == set()


def beside_a_pruning(place: InNeo4j, parts: frozenset[int], work: Callable[[], object]) -> list[SegueError | Neo4jError]:
    """Do something while a pruning has deleted "a" and waits for "b", then let it commit; return the error, if any."""
    faults: list[SegueError | Neo4jError] = []

    def attempt() -> None:
        try:
            work()
        except (SegueError, Neo4jError) as fault:
            faults.append(fault)

    with place.changing("b", "SET m.looked_at = 0") as commit:
        pruning = threading.Thread(target=place.marks.prune, args=(parts, 10))
        pruning.start()
        pruning.join(0.5)
        working = threading.Thread(target=attempt)
        working.start()
        working.join(0.5)
        assert working.is_alive()
        commit()
    pruning.join()
    working.join()
    return faults


def test_a_writer_does_not_fail_on_a_mark_that_is_being_deleted(in_neo4j: InNeo4j) -> None:
    """Its transaction meets the pruning half-way: it waits for it and marks the key anew."""
    parts = closed(in_neo4j, "a", "b")

    assert not beside_a_pruning(in_neo4j, parts, lambda: in_neo4j.write("a"))

    assert in_neo4j.keys() == {"a"}
    assert in_neo4j.marks.dirty(parts, 10) == ["a"]


def test_whoever_remarks_what_is_being_deleted_may_try_again(in_neo4j: InNeo4j) -> None:
    """A mark found and gone when its lock is had is no reason to give up."""
    parts = closed(in_neo4j, "a", "b")

    faults = beside_a_pruning(in_neo4j, parts, lambda: in_neo4j.marks.remark(None, "a"))

    assert all(isinstance(fault, RetryableError) for fault in faults), faults
    assert in_neo4j.marks.remark(None, "a") == set()


def test_keys_are_marked_without_a_change(place: Place) -> None:
    """With a mark or without, with an item or without: each is dirty under a fresh token, and nothing else is."""
    parts = held(place)
    place.write("a", "b")
    seen = place.marks.look(["a", "b"]).versions
    place.marks.acknowledge(seen)

    place.marks.mark(["a", "never"])

    assert set(place.marks.dirty(parts, 10)) == {"a", "never"}
    looked = place.marks.look(["a", "b", "never"])
    assert looked.versions["a"] != seen["a"]
    assert looked.versions["b"] == seen["b"]
    assert looked.page.keys == ["a", "b"]
    assert place.marks.acknowledge(looked.versions)
    assert place.marks.dirty(parts, 10) == []


def test_marks_stand_as_they_are(place: Place) -> None:
    """Dirty and tainted ones are not settled, acknowledged ones are, and a key without a mark is missing."""
    place.write("clean", "dirty", "tainted")
    seen = place.marks.look(["clean", "tainted"]).versions
    place.marks.acknowledge(seen)
    place.marks.taint(["tainted"], 60)

    standing = place.marks.standing(["clean", "dirty", "tainted", "never"])

    assert {key: one.settled for key, one in standing.items()} == {"clean": True, "dirty": False, "tainted": False}
    assert standing["clean"].version == seen["clean"]
    assert place.marks.standing(["clean"]) == {"clean": standing["clean"]}
