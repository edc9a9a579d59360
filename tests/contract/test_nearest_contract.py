"""What a search relies on of Neo4j's own vector index: nearest first, filters, keys, scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segue.errors import StoreTimeout
from segue.model import (
    CarriedProperty,
    Condition,
    Filter,
    Hit,
    KeyType,
    Metric,
    Operator,
    PropertyType,
    SourceSpec,
    StoreName,
)
from segue.stores import neo4j_search
from segue.stores.cypher import quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_search import Neo4jNearest

from .conftest import NEO4J_LINES
from .graphs import Neo4jGraph

CARRIED = (CarriedProperty("title", PropertyType.STRING), CarriedProperty("year", PropertyType.INTEGER))
ALONG_X = np.array([1, 0, 0, 0], np.float32)


class Indexed:
    """A label with a vector index over it."""

    def __init__(self, graph: Neo4jGraph, connection: Neo4jConnection) -> None:
        self.graph = graph
        self.connection = connection
        self.spec = SourceSpec(f"{graph.label}Vectors", graph.label, "id", KeyType.STRING, "v", 4, Metric.COSINE, CARRIED)

    def index(self, metric: Metric = Metric.COSINE) -> None:
        """Put the vector index there and wait for it."""
        self.spec = replace(self.spec, metric=metric)
        self.graph.run(
            f"CREATE VECTOR INDEX {quoted(self.spec.index)} FOR (n:{quoted(self.graph.label)}) ON (n.v) OPTIONS "
            f"{{indexConfig: {{`vector.dimensions`: 4, `vector.similarity_function`: '{metric.value}'}}}}"
        )
        self.graph.run("CALL db.awaitIndex($name, 60)", name=self.spec.index)

    def nearest(self, k: int, conditions: Filter = (), vector: Any = ALONG_X, **options: Any) -> list[Hit]:
        """Search with filters that know one condition."""
        one = Neo4jNearest(self.connection, self.spec, translated, **options)
        return one.nearest(np.asarray(vector, np.float32), k, conditions, 20)


def translated(conditions: Filter) -> tuple[str, dict[str, Any]]:
    """Return the Cypher of conditions that compare for equality."""
    parts = [f"node.{quoted(one.property)} = $value{place}" for place, one in enumerate(conditions)]
    return " AND ".join(parts), {f"value{place}": one.value for place, one in enumerate(conditions)}


@pytest.fixture(params=NEO4J_LINES)
def indexed(request: pytest.FixtureRequest) -> Iterator[Indexed]:
    """A label in each release line of Neo4j."""
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    graph = Neo4jGraph(request.getfixturevalue("scratch_label"), *ways[request.param])
    yield Indexed(graph, ways[request.param][1])
    graph.clear()


def at(degrees: float) -> list[float]:
    """Return a direction so far away from the first axis."""
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees))), 0.0, 0.0]


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.EUCLIDEAN])
def test_the_nearest_come_first_with_neo4js_score(indexed: Indexed, metric: Metric) -> None:
    """In order, with the properties they have, as Neo4j's hits; fewer when there are no more."""
    angles = [80, 10, 45]
    indexed.graph.create(*({"id": f"k{angle}", "v": at(angle), "title": f"T{angle}"} for angle in angles))
    indexed.index(metric)

    hits = indexed.nearest(2)

    assert [hit.key for hit in hits] == ["k10", "k45"]
    assert hits[0].properties == {"title": "T10"}
    assert {hit.store for hit in hits} == {StoreName.NEO4J}
    cosine = np.cos(np.radians([10, 45]))
    expected = (1 + cosine) / 2 if metric is Metric.COSINE else 1 / (1 + 2 - 2 * cosine)
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=0.01)
    assert [hit.key for hit in indexed.nearest(10)] == ["k10", "k45", "k80"]


def test_a_filter_is_asked_for_more_until_k_are_found(indexed: Indexed) -> None:
    """The nearest items that meet it are farther away than hundreds that do not."""
    indexed.graph.create(
        *({"id": f"near{n}", "v": at(n / 100), "year": 1979} for n in range(300)),
        *({"id": f"far{n}", "v": at(50 + n), "year": 1985} for n in range(5)),
    )
    indexed.index()

    later = (Condition("year", Operator.EQUAL, 1985),)
    assert [hit.key for hit in indexed.nearest(3, later)] == ["far0", "far1", "far2"]
    assert len(indexed.nearest(10, later)) == 5
    assert indexed.nearest(3, (Condition("year", Operator.EQUAL, 2000),)) == []
    assert [hit.properties["year"] for hit in indexed.nearest(3)] == [1979] * 3


def test_growth_ends_at_a_bound(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that only items behind the bound meet finds nothing, rather than asking for the whole index."""
    indexed.graph.create(
        *({"id": f"near{n}", "v": at(n / 100), "year": 1979} for n in range(300)), {"id": "far", "v": at(80), "year": 1985}
    )
    indexed.index()
    monkeypatch.setattr(neo4j_search, "MOST_ASKED", 100)

    assert indexed.nearest(1, (Condition("year", Operator.EQUAL, 1985),)) == []


def test_nodes_without_a_usable_key_are_no_hits(indexed: Indexed) -> None:
    """Missing keys and keys of another type make room for the next ones; of a shared key the nearest node counts."""
    indexed.graph.create(
        {"v": at(1)},
        {"id": 7, "v": at(2)},
        {"id": True, "v": at(3)},
        {"id": "a", "v": at(40), "title": "farther"},
        {"id": "a", "v": at(10), "title": "nearer"},
        {"id": "b", "v": at(60)},
    )
    indexed.index()

    hits = indexed.nearest(2)

    assert [(hit.key, hit.properties.get("title")) for hit in hits] == [("a", "nearer"), ("b", None)]
    indexed.spec = replace(indexed.spec, key_type=KeyType.INTEGER)
    assert [hit.key for hit in indexed.nearest(2)] == [7]


def test_oversampling_changes_what_is_asked_not_what_is_given(indexed: Indexed) -> None:
    """However many more the index is asked for, k come back."""
    indexed.graph.create(*({"id": f"k{n}", "v": at(n)} for n in range(50)))
    indexed.index()
    assert [hit.key for hit in indexed.nearest(3, oversample=40)] == ["k0", "k1", "k2"]


def test_no_time_left_is_a_timeout(indexed: Indexed) -> None:
    """Time is counted over all that is asked."""
    indexed.graph.create({"id": "a", "v": at(1)})
    indexed.index()
    one = Neo4jNearest(indexed.connection, indexed.spec, translated)
    with pytest.raises(StoreTimeout, match="filter"):
        one.nearest(ALONG_X, 1, (), 0.0)
