"""What an application's writes leave behind, in Neo4j: the change and its marks together, or neither."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from neo4j import Driver

from segue.errors import FatalError, UnknownKey
from segue.model import KeyType, Metric, SourceSpec, StorageMode
from segue.stores.cypher import quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_marks import Neo4jMarks, prepare
from segue.stores.neo4j_writes import Neo4jWrites

from .conftest import NEO4J_LINES

ALONE, MARKING = StorageMode.NEO4J_ONLY, StorageMode.DUAL_WRITE


class Place:
    """A label, a collection of its name, and the product's writes on them; read with the plain driver."""

    def __init__(self, driver: Driver, connection: Neo4jConnection, label: str) -> None:
        self.label = label
        self._driver = driver
        spec = SourceSpec("i", label, "id", KeyType.STRING, "v", 2, Metric.COSINE)
        prepare(connection)
        self.run(f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{quoted(label)}) REQUIRE n.id IS UNIQUE")
        self.writes = Neo4jWrites(connection, label, spec)
        self.marks = Neo4jMarks(connection, label, spec)

    def run(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        text = cypher.replace("LABEL", quoted(self.label))
        found = self._driver.execute_query(text, parameters, name=self.label, database_="neo4j").records
        return [list(record) for record in found]

    def session(self) -> Any:
        return self._driver.session(database="neo4j")

    def control(self, mode: StorageMode) -> None:
        self.run("MERGE (c:SegueControl {collection: $name}) SET c.mode = $mode, c.epoch = 1", mode=mode.value)

    def marked(self) -> list[str]:
        return [row[0] for row in self.run("MATCH (m:SegueMark {collection: $name}) RETURN m.key ORDER BY m.key")]

    def items(self) -> dict[str, dict[str, Any]]:
        return {row[0]["id"]: row[0] for row in self.run("MATCH (n:LABEL) RETURN properties(n)")}

    def clear(self) -> None:
        self.run("MATCH (m:SegueMark|SegueControl|SegueEvent|SegueLease|SegueRelay {collection: $name}) DELETE m")


@pytest.fixture(params=NEO4J_LINES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Writes in each release line of Neo4j."""
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    found = Place(*ways[request.param], request.getfixturevalue("scratch_label"))
    yield found
    found.clear()


def row(key: str, **properties: Any) -> dict[str, Any]:
    """Return an item as the port takes it."""
    return {"key": key, "vector": [1.0, 2.0], "properties": properties}


@pytest.mark.parametrize("said_by", ["the control node", "the application"])
def test_a_write_is_marked_when_either_mode_says_so(place: Place, said_by: str) -> None:
    """The control node alone, or the application's own mode alone."""
    if said_by == "the control node":
        place.control(MARKING)
    own = MARKING if said_by == "the application" else ALONE
    assert place.writes.upsert([row("a"), row("b")], own).marked
    assert place.marked() == ["a", "b"]
    assert place.writes.delete(["b"], own, missing_ok=False).marked
    assert list(place.items()) == ["a"]
    assert place.marked() == ["a", "b"]


def test_a_write_is_not_marked_when_neither_does(place: Place) -> None:
    """Nothing but the change itself happens, whether there is a control node or not."""
    assert not place.writes.upsert([row("a")], ALONE).marked
    place.control(ALONE)
    assert not place.writes.delete(["a"], ALONE, missing_ok=False).marked
    assert place.marked() == []
    assert place.items() == {}


def test_an_item_keeps_what_a_write_does_not_name(place: Place) -> None:
    """Made where it is missing; later, named properties are replaced and None takes one away."""
    place.writes.upsert([row("a", title="Alien", year=1979)], MARKING)
    place.writes.upsert([row("a", year=None, country="UK")], MARKING)
    assert place.items() == {"a": {"id": "a", "v": [1.0, 2.0], "title": "Alien", "country": "UK"}}


def test_every_mark_has_a_token_of_its_own(place: Place) -> None:
    """A key written twice was marked twice."""
    place.writes.upsert([row("a")], MARKING)
    before = place.marks.look(["a"]).versions
    place.writes.upsert([row("a")], MARKING)
    assert place.marks.look(["a"]).versions != before


def test_a_missing_key_deletes_nothing(place: Place) -> None:
    """One unknown key and no item is gone, no mark is made; with `missing_ok` the others go."""
    place.writes.upsert([row("a")], ALONE)
    with pytest.raises(UnknownKey, match="'b'; nothing was deleted"):
        place.writes.delete(["a", "b"], MARKING, missing_ok=False)
    assert (list(place.items()), place.marked()) == (["a"], [])
    place.writes.delete(["a", "b"], MARKING, missing_ok=True)
    assert (place.items(), place.marked()) == ({}, ["a", "b"])


def test_a_write_that_fails_leaves_no_mark(place: Place) -> None:
    """What Neo4j refuses is refused with its mark."""
    with pytest.raises(FatalError):
        place.writes.upsert([row("a", broken=[1, "mixed"])], MARKING)
    assert (place.items(), place.marked()) == ({}, [])


def test_a_mark_is_part_of_the_applications_own_transaction(place: Place) -> None:
    """Committed with it, gone with it."""
    text, parameters = place.writes.marking(["a"], MARKING)
    for ends in ("rollback", "commit"):
        with place.session() as session, session.begin_transaction() as transaction:
            transaction.run(text, dict(parameters)).consume()
            assert place.marked() == []
            getattr(transaction, ends)()
        assert place.marked() == (["a"] if ends == "commit" else [])


def test_a_write_is_reached_when_a_later_state_is_acknowledged(place: Place) -> None:
    """Not by an acknowledgement of before; by one of the write itself or of a later one; and when the mark is gone."""
    written = place.writes.upsert([row("a"), row("b")], MARKING)
    assert not place.writes.reached(written)
    place.marks.acknowledge(place.marks.look(["a", "b"]).versions)
    assert place.writes.reached(written)

    written = place.writes.upsert([row("a")], MARKING)
    assert not place.writes.reached(written)
    place.writes.upsert([row("a")], MARKING)
    assert not place.writes.reached(written)
    place.marks.acknowledge(place.marks.look(["a"]).versions)
    place.writes.upsert([row("a")], MARKING)
    assert place.writes.reached(written)

    written = place.writes.upsert([row("c")], MARKING)
    place.run("MATCH (m:SegueMark {collection: $name, key: 'c'}) DELETE m")
    assert place.writes.reached(written)


def test_an_item_that_cannot_go_is_never_reached(place: Place) -> None:
    """Acknowledged or not, the sink holds no row of it; a later write that can go is reached again."""
    written = place.writes.upsert([row("a")], MARKING)
    seen = place.marks.look(["a"]).versions
    place.marks.acknowledge(seen, {"a": "value_missing"})
    assert not place.writes.reached(written)

    written = place.writes.upsert([row("a")], MARKING)
    place.marks.acknowledge(place.marks.look(["a"]).versions)
    assert place.writes.reached(written)


def test_writers_of_the_same_keys_do_not_fail_each_other(place: Place) -> None:
    """Eight threads write and delete overlapping keys; no error, and every key is marked once."""
    faults = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                keys = sorted({f"k{(number + turn + step) % 6}" for step in range(3)})
                place.writes.upsert([row(key) for key in keys], MARKING)
                if turn % 3 == 0:
                    place.writes.delete(keys[:1], MARKING, missing_ok=True)
        except Exception as fault:  # noqa: BLE001  # any error is one too many
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert place.marked() == [f"k{number}" for number in range(6)]
