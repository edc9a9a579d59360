"""One item found in Neo4j, found in Milvus, and read behind the fence: the same properties, of every type there is."""

from __future__ import annotations

import time
from datetime import UTC
from typing import Any

import numpy as np
import orjson
import pytest
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from pytz import FixedOffset  # what the driver itself makes of an offset

from segue.model import CarriedProperty, KeyType, Metric, PropertyType, SourceSpec
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.pipelines.values import plain_properties
from segue.stores.cypher import quoted
from segue.stores.milvus_search import MilvusCandidates
from segue.stores.neo4j_search import Neo4jFence, Neo4jNearest

from .conftest import NEO4J_LINES
from .graphs import Neo4jGraph
from .sinks import MilvusPlace, Opened, scratch

TYPED: dict[str, tuple[PropertyType, Any]] = {
    "text": (PropertyType.STRING, "Ünï\0\U0001f680 null"),
    "empty": (PropertyType.STRING, ""),
    "integer": (PropertyType.INTEGER, -(2**63)),
    "float": (PropertyType.FLOAT, 0.1),
    "whole": (PropertyType.FLOAT, 5.0),
    "yes": (PropertyType.BOOLEAN, True),
    "date": (PropertyType.STRING, Date(2020, 2, 29)),
    "zoned": (PropertyType.STRING, DateTime(2020, 1, 2, 3, 4, 5, 123_456_789, FixedOffset(330))),
    "utc": (PropertyType.STRING, DateTime(2020, 1, 2, 3, 4, 5, 0, UTC)),
    "local": (PropertyType.STRING, DateTime(2020, 1, 2, 3, 4, 5, 6)),
    "time": (PropertyType.STRING, Time(1, 2, 3, 4, FixedOffset(-60))),
    "clock": (PropertyType.STRING, Time(1, 2, 3, 4)),
    "duration": (PropertyType.STRING, Duration(months=14, days=3, seconds=5, nanoseconds=500_000_000)),
}
LOOSE: dict[str, Any] = {f"{name} too": value for name, (_, value) in TYPED.items()} | {
    "point": WGS84Point((1.5, -2.0)),
    "space": CartesianPoint((0.0, 1e300, -1.0)),
    "bytes": b"\x00\xff",
    "nothing": [],
    "texts": ["a", "b"],
    "integers": [1, 2**53 + 1],
    "floats": [1.0, 1e-300],
    "dates": [Date(2020, 2, 29)],
    "points": [WGS84Point((1.5, -2.0))],
    "missing": None,
    "segue_like": "own",
}
CARRIED = tuple(CarriedProperty(name, kind) for name, (kind, _) in TYPED.items()) + tuple(
    CarriedProperty(name, PropertyType.JSON) for name in LOOSE
)
ITEM = {name: value for name, (_, value) in TYPED.items()} | LOOSE
VECTOR = np.array([0.6, 0.8], np.float32)


@pytest.fixture(params=NEO4J_LINES)
def graph(request: pytest.FixtureRequest) -> Neo4jGraph:
    """A label in each release line of Neo4j."""
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    return Neo4jGraph(request.getfixturevalue("scratch_label"), *ways[request.param])


@pytest.mark.parametrize("store", ["milvus-lite", "milvus"])
@pytest.mark.parametrize("preset", [Preset.SEGUE, Preset.LANGCHAIN])
def test_every_property_type_reads_alike(graph: Neo4jGraph, sinks: Opened, preset: Preset, store: str) -> None:
    """Value by value and type by type; what the item has not, none of the hits has."""
    spec = SourceSpec(f"{graph.label}Ix", graph.label, "key", KeyType.STRING, "v", 2, Metric.COSINE, CARRIED)
    graph.create({**ITEM, "key": "k", "v": VECTOR.tolist()})
    graph.run(
        f"CREATE VECTOR INDEX {quoted(spec.index)} FOR (n:{quoted(spec.label)}) ON (n.v) "
        "OPTIONS {indexConfig: {`vector.dimensions`: 2, `vector.similarity_function`: 'cosine'}}"
    )
    graph.run("CALL db.awaitIndex($name, 60)", name=spec.index)
    place = sinks(store).place
    assert isinstance(place, MilvusPlace)
    layout = make_layout(spec, name=scratch(), preset=preset, m=16, ef_construction=200)
    place.sink.create(layout)
    place.sink.index(layout)
    place.sink.load(layout)
    fence = Neo4jFence(graph.connection, graph.label, spec, seconds=10)
    page = fence.items(["k"])
    encoded = Codec(spec, layout).encode(page)
    assert encoded.quarantined == []
    place.sink.upsert(layout, encoded.rows).result()

    candidates = MilvusCandidates(place.connection, layout, spec, lambda _, __: "")
    until = time.monotonic() + 120
    while not (found := candidates.search(VECTOR, 1, (), 10).result()):
        assert time.monotonic() < until, "the row does not become visible"
    (milvus,) = found
    (neo4j,) = Neo4jNearest(graph.connection, spec, lambda _: ("true", {})).nearest(VECTOR, 1, (), 10)

    fenced = plain_properties(spec.property_names, page.properties[0])
    assert milvus.properties == neo4j.properties == fenced
    assert shown(milvus.properties) == shown(neo4j.properties) == shown(fenced)
    assert milvus.properties.keys() == ITEM.keys() - {"missing"}
    assert (milvus.key, milvus.score) == (neo4j.key, pytest.approx(neo4j.score, abs=1e-3))


def shown(properties: Any) -> bytes:
    """Return properties as text, where 1 and 1.0 and True differ."""
    return orjson.dumps(properties, option=orjson.OPT_SORT_KEYS)
