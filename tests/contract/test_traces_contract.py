"""What a clearing and a way back find in Neo4j: the protocol's own nodes, and whether it answers by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from neo4j import Driver

from segue.errors import ModeRefused
from segue.model import KeyType, Metric, SourceSpec
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_returning import Neo4jReadiness, Neo4jTraces

from .conftest import NEO4J_LINES


class Place:
    """One collection's nodes in one Neo4j."""

    def __init__(self, driver: Driver, connection: Neo4jConnection, label: str) -> None:
        self.label = label
        self.spec = SourceSpec(f"{label}_index", label, "id", KeyType.STRING, "v", 2, Metric.EUCLIDEAN)
        self.traces = Neo4jTraces(connection, label, self.spec)
        self.readiness = Neo4jReadiness(connection, self.spec)
        self._driver = driver

    def run(self, cypher: str) -> list[list[object]]:
        text = cypher.replace("LABEL", self.label)
        return [list(row) for row in self._driver.execute_query(text, name=self.label, database_="neo4j").records]

    def control(self, mode: str, epoch: int) -> None:
        self.run(f"MERGE (c:SegueControl {{collection: $name}}) SET c.mode = '{mode}', c.epoch = {epoch}")


@pytest.fixture(params=NEO4J_LINES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A collection in each release line of Neo4j."""
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    place = Place(*ways[request.param], request.getfixturevalue("scratch_label"))
    yield place
    place.run("MATCH (n:SegueControl|SegueEvent|SegueInstance|SegueMark|SegueLease|SegueRelay {collection: $name}) DELETE n")


def test_nodes_of_a_kind_go_only_in_neo4j_only(place: Place) -> None:
    """Counted by kind, removed under the control node's lock, in the mode and epoch that was looked at; others' nodes stay."""
    place.control("neo4j_only", 4)
    place.run("UNWIND range(1, 30) AS i CREATE (:SegueMark:SegueOpen {collection: $name, key: 'k' + i})")
    place.run("CREATE (:SegueMark {collection: $name + 'x', key: 'k'}), (:SegueLease {collection: $name, part: 1})")
    assert place.traces.found() == {"marks": 30, "leases": 1, "instances": 0, "control": 1}
    with pytest.raises(ModeRefused, match="now neo4j_only at epoch 4"):
        place.traces.remove("marks", 3)
    place.control("dual_write", 5)
    with pytest.raises(ModeRefused, match="now dual_write at epoch 5"):
        place.traces.remove("marks", 5)
    assert place.traces.found()["marks"] == 30

    place.control("neo4j_only", 6)
    assert [place.traces.remove(kind, 6) for kind in ("marks", "leases", "instances", "control")] == [30, 1, 0, 1]
    assert place.traces.remove("marks", 6) == 0
    assert sum(place.traces.found().values()) == 0
    assert place.run("MATCH (m:SegueMark {collection: $name + 'x'}) DELETE m RETURN 1") == [[1]]


def test_many_nodes_go_in_several_transactions(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fit one transaction are removed to the last."""
    monkeypatch.setattr("segue.stores.neo4j_returning.REMOVED_AT_ONCE", 7)
    place.run("UNWIND range(1, 30) AS i CREATE (:SegueMark {collection: $name, key: i})")
    assert place.traces.remove("marks", 0) == 30


def test_whether_neo4j_answers_by_itself(place: Place) -> None:
    """No index, one that is there, one that was dropped; the statement makes it as it was, or as configured."""
    none = place.readiness.look()
    assert (none.state, none.serves, none.items) == (None, False, 0)
    place.run(place.readiness.statement())
    place.run("CALL db.awaitIndex($name + '_index', 60)")
    assert place.readiness.look().serves
    found = place.run("SHOW VECTOR INDEXES YIELD name, options WHERE name = $name + '_index' RETURN options.indexConfig")[0][0]
    assert isinstance(found, dict)
    assert (found["vector.dimensions"], found["vector.similarity_function"].lower()) == (2, "euclidean")

    statement = place.readiness.statement()
    assert place.traces.drop_index()
    assert not place.traces.drop_index()
    place.run(statement)
    place.run("CALL db.awaitIndex($name + '_index', 60)")
    assert place.readiness.look().serves


def test_the_canary_is_an_item_that_can_be_found(place: Place) -> None:
    """Nodes that could not be migrated either are passed over; without any other there is none."""
    place.run("CREATE (:LABEL {id: 'short', v: [1.0]}), (:LABEL {id: 'zero', v: [0.0, 0.0]}), (:LABEL {id: 7, v: [1.0, 1.0]})")
    place.run("CREATE (:LABEL {v: [1.0, 1.0]}), (:LABEL {id: 'words', v: ['a', 'b']}), (:LABEL {id: 'none'})")
    assert place.readiness.sample() is None
    place.run("CREATE (:LABEL {id: 'good', v: [0.5, 0.25]})")
    sample = place.readiness.sample()
    assert sample is not None
    assert sample[0] == "good"
    np.testing.assert_array_equal(sample[1], np.array([0.5, 0.25], np.float32))
    assert place.readiness.look().items == 7
