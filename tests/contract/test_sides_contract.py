"""What the reconcile relies on when it reads both sides, of stores in memory and of the real ones alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest

from segue.errors import DataError
from segue.model import CarriedProperty, Key, KeyType, Metric, PropertyType, Range, Reason, Rows, SourceSpec
from segue.pipelines.layouts import DYNAMIC, HASH_FIELD, VERSION_FIELD
from segue.ports import SinkSide, SourceSide
from segue.stores.memory_sides import MemorySinkSide, MemorySourceSide
from segue.stores.milvus_rows import MilvusRows
from segue.stores.neo4j_side import Neo4jSide

from .graphs import Graph, MemoryGraph, Neo4jGraph
from .sinks import KINDS, Filled, MemoryPlace, MilvusPlace, rows_of

PROPERTIES = (CarriedProperty("title", PropertyType.STRING),)


def spec(label: str, key_type: KeyType = KeyType.STRING) -> SourceSpec:
    """Return items of two dimensions under a label."""
    return SourceSpec("ix", label, "id", key_type, "v", 2, Metric.COSINE, PROPERTIES)


def node(key: Any, **changes: Any) -> dict[str, Any]:
    """Return a node's properties."""
    return {"id": key, "v": [1.0, 2.0], "title": f"title of {key}"} | changes


def source_side(graph: Graph, key_type: KeyType = KeyType.STRING) -> SourceSide:
    """Return the side over a graph."""
    items = spec(graph.label, key_type)
    if isinstance(graph, Neo4jGraph):
        return Neo4jSide(graph.connection, items)
    assert isinstance(graph, MemoryGraph)
    memory = graph.memory

    def page(keys: Sequence[Key]) -> Any:
        everything = memory.scan(items, Range(0, None, None, 0), None, 10_000)
        return everything.without(set(everything.keys).union(row.key for row in everything.quarantined) - set(keys))

    def keys() -> list[Key]:
        everything = memory.scan(items, Range(0, None, None, 0), None, 10_000)
        return [*everything.keys, *(row.key for row in everything.quarantined if row.key is not None)]

    return MemorySourceSide(keys, page, random.Random(1).random)


AWKWARD = ["a", "b", "b'\"\\", "é", "\uff5a", "😀", "\u4e00", "z" * 500]


@pytest.mark.parametrize("constrained", [False, True])
def test_every_key_of_an_interval_is_listed(graph: Graph, constrained: bool) -> None:
    """Half-open, with or without an index, unfit items too, nodes without a usable key left out; in no order."""
    if constrained:
        graph.constrain("id")
    graph.create(*(node(key) for key in AWKWARD), node("unfit", v=None), node(None), node(7))
    side = source_side(graph)
    assert sorted(side.keys(None, None)) == sorted([*AWKWARD, "unfit"])
    ordered = sorted([*AWKWARD, "unfit"])
    for after, until in ((ordered[1], ordered[4]), (None, ordered[2]), (ordered[6], None)):
        within = [key for key in ordered if (after is None or key > after) and (until is None or key <= until)]
        assert sorted(side.keys(after, until)) == within


def test_items_are_looked_up_by_key(graph: Graph) -> None:
    """Those there are, with what makes one unfit; keys without an item are in neither."""
    graph.constrain("id")
    graph.create(*(node(key) for key in AWKWARD), node("unfit", v=[1.0]))
    page = source_side(graph).items([*AWKWARD, "unfit", "nobody"])
    assert sorted(page.keys) == sorted(AWKWARD)
    assert [row.key for row in page.quarantined] == ["unfit"]
    assert page.quarantined[0].reason is Reason.WRONG_DIMENSION
    assert {key: values[0] for key, values in zip(page.keys, page.properties, strict=True)} == {
        key: f"title of {key}" for key in AWKWARD
    }
    assert page.vectors.tolist() == [[1.0, 2.0]] * len(AWKWARD)


def test_a_whole_number_is_no_integer_key(graph: Graph) -> None:
    """5.0 and 5 are equal to Cypher; only the integer is an item's key."""
    graph.create(node(5), node(6.0), node(7))
    side = source_side(graph, KeyType.INTEGER)
    assert sorted(side.keys(None, None)) == [5, 7]
    assert sorted(side.keys(4, 6)) == [5]
    assert sorted(side.items([5, 6, 7]).keys) == [5, 7]


def test_draws_count_each_stratum_and_are_even(graph: Graph) -> None:
    """Keys up to each bound, and the rest; all of them at share 1, none at 0, about a third at a third."""
    keys = [f"k{number:04}" for number in range(600)]
    graph.create(*(node(key) for key in keys), node(None))
    side = source_side(graph)
    everything = side.draw(["k0099", "k0299"], 1.0)
    assert [one.items for one in everything] == [100, 200, 300]
    assert sorted(everything[1].drawn) == keys[100:300]
    assert [list(one.drawn) for one in side.draw(["k0299"], 0.0)] == [[], []]
    third = side.draw(["k0299"], 1 / 3)
    assert [one.items for one in third] == [300, 300]
    # Five standard deviations.
    assert all(60 <= len(one.drawn) <= 140 for one in third)
    assert [one.items for one in side.draw(["a", "b"], 0.5)] == [0, 0, 600]


def sink_side(filled: Filled, kind: str) -> SinkSide:
    """Return the side over a loaded collection."""
    layout = filled.layout(kind)
    if isinstance(filled.place, MemoryPlace):
        return MemorySinkSide(partial(filled.place.memory.rows, layout.name), layout)
    assert isinstance(filled.place, MilvusPlace)
    return MilvusRows(filled.place.connection, layout)


def written(filled: Filled, kind: str, keys: Sequence[Key]) -> Rows:
    """Upsert rows under keys and return them."""
    layout = filled.layout(kind)
    rows = rows_of(layout, keys, salt=9)
    filled.place.sink.upsert(layout, rows).result()
    return rows


def keys_of(kind: str, start: int, count: int) -> list[Key]:
    """Return keys of the kind's type that no other test uses."""
    integer = KINDS[kind][1] is KeyType.INTEGER
    return [start + number if integer else f"side-{start + number}" for number in range(count)]


@pytest.mark.parametrize("kind", list(KINDS))
def test_rows_come_back_bit_for_bit(filled: Filled, kind: str) -> None:
    """Every field but the token, in whatever order; keys without a row are missing; no key has several."""
    keys = keys_of(kind, 10_000, 30)
    rows, layout = written(filled, kind, keys), filled.layout(kind)
    read, several = sink_side(filled, kind).rows([*keys, *keys_of(kind, 99_000, 2)], whole=True).result()
    assert (sorted(read.keys), several) == (sorted(keys), {})
    places = [read.keys.index(key) for key in keys]
    assert read.vectors[places].tobytes() == rows.vectors.tobytes()
    for name, values in rows.columns.items():
        if name == VERSION_FIELD:
            continue
        found = [read.columns[name][place] for place in places]
        if name in (DYNAMIC, layout.json_field):
            assert [orjson.loads(one) for one in found] == [orjson.loads(one) for one in values]
        else:
            assert found == list(values), name


@pytest.mark.parametrize("kind", ["text", "langchain"])
def test_hashes_come_without_the_vectors(filled: Filled, kind: str) -> None:
    """Only the hash, be it a field or a dynamic key."""
    keys = keys_of(kind, 20_000, 3)
    rows = written(filled, kind, keys)
    read, _ = sink_side(filled, kind).rows(keys, whole=False).result()
    hashes = dict(zip(read.keys, _hashes(read), strict=True))
    assert [hashes[key] for key in keys] == list(_hashes(rows))
    if not isinstance(filled.place, MemoryPlace):
        assert read.vectors.shape == (3, 0)


def _hashes(rows: Rows) -> Sequence[Any]:
    if HASH_FIELD in rows.columns:
        return rows.columns[HASH_FIELD]
    return [orjson.loads(body)[HASH_FIELD] for body in rows.columns[DYNAMIC]]


def test_no_row_at_all(filled: Filled) -> None:
    """Keys that nobody wrote: empty, and no error."""
    for whole in (True, False):
        read, several = sink_side(filled, "text").rows(["never-written"], whole=whole).result()
        assert (read.keys, several, len(read.vectors)) == ([], {}, 0)


def test_keys_are_listed_in_order_and_behind_places(filled: Filled) -> None:
    """By code point whatever they hold; half-open; the next few behind each place."""
    keys = [f"listing {key}" for key in AWKWARD if len(key) < 100]
    written(filled, "text", keys)
    side = sink_side(filled, "text")
    ordered = sorted(keys)
    assert side.keys("listing ", "listing \U0010ffff") == ordered
    assert side.keys(ordered[1], ordered[3]) == ordered[2:4]
    assert side.behind(["listing ", ordered[2]], 2).result() == [*ordered[:2], *ordered[3:5]]
    assert len(side.behind([None], 1).result()) == 1
    assert side.count().result() >= len(keys)


def test_integer_keys_are_listed(filled: Filled) -> None:
    """Negative ones too, in order, among those that other tests have left there."""
    written(filled, "integer", [-5, -4, 0, 3, 4])
    side = sink_side(filled, "integer")
    listed = side.keys(-6, 3)
    assert listed == sorted(set(listed))
    assert {-5, -4, 0, 3} <= set(listed) <= set(range(-5, 4))
    assert set(side.keys(None, None)) >= {-5, -4, 0, 3, 4}


@pytest.mark.parametrize("filled", [pytest.param("milvus", marks=pytest.mark.service)], indirect=True)
def test_keys_with_several_rows_are_told(filled: Filled) -> None:
    """An insert looks at no key: every one that is doubled is named with its count, and no row is left out for its copies."""
    keys = keys_of("text", 30_000, 40)
    written(filled, "text", keys)
    place = filled.place
    assert isinstance(place, MilvusPlace)
    name = filled.layout("text").name
    place.client.insert(name, [_as_row(filled, keys[3]), _as_row(filled, keys[17])])
    place.client.insert(name, [_as_row(filled, keys[17])])
    side = sink_side(filled, "text")
    read, several = side.rows(keys, whole=True).result()
    assert several == {keys[3]: 2, keys[17]: 3}
    assert sorted(read.keys) == sorted(keys)
    assert len(read.vectors) == len(read.columns["title"]) == 40
    assert side.keys("side-30", "side-31") == sorted(keys)


@pytest.mark.parametrize("filled", [pytest.param("milvus", marks=pytest.mark.service)], indirect=True)
def test_rows_too_large_for_one_answer_come_all_the_same(filled: Filled) -> None:
    """Six hundred rows of 125 kB are more than an answer holds."""
    keys = keys_of("text", 40_000, 600)
    layout = filled.layout("text")
    loose = orjson.dumps({"large": "y" * 60_000})
    for start in range(0, 600, 200):
        rows = rows_of(layout, keys[start : start + 200], title=["x" * 65_000] * 200, properties=[loose] * 200, salt=start)
        filled.place.sink.upsert(layout, rows).result()
    try:
        side = sink_side(filled, "text")
        assert isinstance(side, MilvusRows)
        with pytest.raises(DataError):
            side.under(keys, ["title", "properties"]).result()
        read, several = side.rows(keys, whole=True).result()
        assert (sorted(read.keys), several) == (sorted(keys), {})
        assert len(read.vectors) == 600
        assert {len(title) for title in read.columns["title"]} == {65_000}
    finally:
        # Other tests read the shared collection whole.
        filled.place.sink.delete(layout, keys).result()


def _as_row(filled: Filled, key: Key) -> dict[str, Any]:
    layout = filled.layout("text")
    rows = rows_of(layout, [key], salt=9)
    row = {name: values[0] for name, values in rows.columns.items()}
    return row | {"id": key, "vector": np.asarray(rows.vectors[0]).tolist(), "properties": orjson.loads(row["properties"])}
