"""What every `Sink` promises, run on the one in memory, on a Milvus Lite file and on a Milvus server."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from segue.errors import CollectionMismatch, DataError
from segue.model import Field, FieldType, Key, Layout, Metric, Rows, VectorIndex
from segue.pipelines.layouts import DYNAMIC

from .sinks import DIMENSION, KINDS, Filled, MilvusPlace, Place, as_read, layout_of, rows_of, scratch


def stored(filled: Filled, layout: Layout, rows: Rows) -> dict[Key, dict[str, Any]]:
    """Upsert rows, and return what a reader then finds under their keys."""
    filled.place.sink.upsert(layout, rows).result()
    found = filled.place.rows(layout)
    return {key: found[key] for key in rows.keys if key in found}


@pytest.mark.parametrize("kind", KINDS)
def test_create_is_idempotent(place: Place, kind: str) -> None:
    """There is nothing, then create makes it, then create and find name the same collection however often they are called."""
    layout = layout_of(kind, scratch())
    assert place.sink.find(layout) is None
    identity = place.sink.create(layout)
    assert identity
    assert [place.sink.create(layout), place.sink.find(layout), place.sink.create(layout)] == [identity] * 3


def test_a_collection_lies_behind_its_alias(place: Place) -> None:
    """The name is an alias of NAME_v1, unless the layout has none: then the collection bears the name itself."""
    aliased, plain = layout_of("text", scratch()), layout_of("llamaindex", scratch())
    identity = place.sink.create(aliased)
    assert place.sink.find(replace(aliased, name=f"{aliased.name}_v1", aliased=False)) == identity
    place.sink.create(plain)
    assert place.sink.find(replace(plain, name=f"{plain.name}_v1")) is None


def test_a_crash_before_the_alias_is_healed(place: Place) -> None:
    """A collection whose alias was never made is not found; create gives it its alias and makes no second one."""
    layout = layout_of("text", scratch())
    physical = place.sink.create(replace(layout, name=f"{layout.name}_v1", aliased=False))
    assert place.sink.find(layout) is None
    assert place.sink.create(layout) == physical
    assert place.sink.find(layout) == physical


def changed(layout: Layout, name: str, **changes: Any) -> Layout:
    """Return the layout with one field changed."""
    return replace(layout, fields=tuple(replace(one, **changes) if one.name == name else one for one in layout.fields))


DIFFERENCES: dict[str, tuple[Callable[[Layout], Layout], list[str]]] = {
    "dimension": (lambda layout: changed(layout, "vector", size=8), ["vector"]),
    "type": (lambda layout: changed(layout, "year", type=FieldType.DOUBLE), ["year"]),
    "key type": (lambda layout: changed(layout, "id", type=FieldType.INT64, size=0), ["id"]),
    "length": (lambda layout: changed(layout, "title", size=100), ["title"]),
    "missing": (lambda layout: replace(layout, fields=tuple(x for x in layout.fields if x.name != "year")), ["year"]),
    "another": (lambda layout: replace(layout, fields=(*layout.fields, Field("extra", FieldType.BOOL))), ["extra"]),
    "dynamic": (lambda layout: replace(layout, dynamic=True), ["dynamic"]),
    "several": (
        lambda layout: changed(changed(layout, "vector", size=8), "year", type=FieldType.BOOL),
        ["vector", "year"],
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_another_schema_is_refused(place: Place, difference: str) -> None:
    """A collection that cannot take the layout's rows raises from find and create, and each difference is named."""
    change, named = DIFFERENCES[difference]
    layout = layout_of("text", scratch())
    place.sink.create(change(layout))
    for call in (place.sink.find, place.sink.create):
        with pytest.raises(CollectionMismatch) as refusal:
            call(layout)
        lines = refusal.value.message.splitlines()[1:]
        assert len(lines) == len(named)
        assert all(any(name in line for line in lines) for name in named)
        assert refusal.value.hint


def test_a_longer_text_field_is_no_difference(place: Place) -> None:
    """What takes more than is needed takes the rows."""
    layout = layout_of("text", scratch())
    identity = place.sink.create(layout)
    assert place.sink.find(changed(layout, "title", size=100)) == identity


def test_another_metric_is_refused(place: Place) -> None:
    """A vector index that measures otherwise would give other neighbours: refused, and named."""
    layout = layout_of("text", scratch())
    place.sink.create(layout)
    place.sink.index(layout)
    with pytest.raises(CollectionMismatch, match=r"COSINE.*L2"):
        place.sink.find(replace(layout, index=VectorIndex("HNSW", "L2", layout.index.params)))


def test_no_alias_is_put_on_a_strange_collection(place: Place) -> None:
    """NAME_v1 is there with another schema: create refuses, and the name still leads nowhere."""
    layout = layout_of("text", scratch())
    physical = replace(layout, name=f"{layout.name}_v1", aliased=False)
    place.sink.create(changed(physical, "year", type=FieldType.BOOL))
    with pytest.raises(CollectionMismatch):
        place.sink.create(layout)
    assert place.sink.find(changed(layout, "year", type=FieldType.BOOL)) is None


def test_a_collection_made_again_is_another_one(place: Place) -> None:
    """Dropped and made again under the same name, a collection has another identity, so a checkpoint knows."""
    if not place.knows_its_collections:
        pytest.skip("Milvus Lite gives every collection the id 0")
    layout = layout_of("text", scratch())
    first = place.sink.create(layout)
    place.drop(layout)
    assert place.sink.find(layout) is None
    assert place.sink.create(layout) != first


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(filled: Filled, kind: str) -> None:
    """Every field, typed, JSON or dynamic, reads back as it was written."""
    layout = filled.layout(kind)
    keys: list[Key] = list(range(100, 120)) if kind == "integer" else [f"read {n}" for n in range(20)]
    rows = rows_of(layout, keys, salt=1)
    assert stored(filled, layout, rows) == as_read(layout, rows)


@pytest.mark.parametrize("kind", KINDS)
def test_an_upsert_replaces(filled: Filled, kind: str) -> None:
    """Writing a key again leaves one row, the last one, in whatever batches the writes came."""
    layout = filled.layout(kind)
    keys: list[Key] = list(range(200, 210)) if kind == "integer" else [f"again {n}" for n in range(10)]
    before = filled.place.sink.count(layout)
    filled.place.sink.upsert(layout, rows_of(layout, keys, salt=2)).result()
    filled.place.sink.upsert(layout, rows_of(layout, keys[::-1], salt=3)).result()
    rows = rows_of(layout, keys[:5], salt=4)
    assert stored(filled, layout, rows) == as_read(layout, rows)
    assert filled.place.sink.count(layout) == before + len(keys)


def test_keys_may_be_any_text(filled: Filled) -> None:
    """Empty, quoted, of any script, as long as the field: keys read back as they were written, each its own row."""
    layout = filled.layout("text")
    keys = ["", " ", "'", '"', "\\", "`", "a", "A", "á", "a\u0301", "中文", "😀", "\x01", "null", "0", "x" * 512, "é" * 256]
    rows = rows_of(layout, keys, salt=5)
    assert stored(filled, layout, rows) == as_read(layout, rows)


def test_keys_may_be_any_integer(filled: Filled) -> None:
    """The whole range of 64 bits serves as keys."""
    layout = filled.layout("integer")
    # Not the very last one: Milvus 2.3 stores and counts it, and no query returns it.
    rows = rows_of(layout, [-(2**63), -(2**53) - 1, -1, 0, 1, 2**53 + 1, 2**63 - 2], salt=6)
    assert stored(filled, layout, rows) == as_read(layout, rows)


def test_values_keep_every_bit(filled: Filled) -> None:
    """Integers and doubles at their limits, texts at theirs, and JSON of every kind read back equal."""
    layout = filled.layout("text")
    values = {"null": None, "list": [1, "a", [2.5], {}], "deep": {"a": {"b": [True]}}, "n": 2**63 - 1, "x": 0.1, "ü": "😀\n"}
    rows = rows_of(
        layout,
        ["bits 1", "bits 2"],
        salt=7,
        title=["é" * 32_767, ""],
        year=[-(2**63), 2**63 - 1],
        rating=[5e-324, -1.7976931348623157e308],
        segue_hash=[2**63 - 1, -(2**63)],
        properties=[orjson.dumps(values), b"{}"],
    )
    assert stored(filled, layout, rows) == as_read(layout, rows)


def test_vectors_keep_every_bit(filled: Filled) -> None:
    """float32 goes through unchanged: subnormals, the greatest, the sign of zero."""
    layout = filled.layout("text")
    vectors = np.array([[1e-45, -1e-45, 1e-40, 1.0], [3.4028235e38, -3.4028235e38, 0.1, 1 / 3], [-0.0, 0.0, 1.0, -1.0]], "<f4")
    rows = replace(rows_of(layout, ["bit 1", "bit 2", "bit 3"], salt=8), vectors=vectors)
    found = stored(filled, layout, rows)
    assert [found[key]["vector"] for key in rows.keys] == [vector.tobytes() for vector in vectors]


@pytest.mark.parametrize("kind", ["langchain", "llamaindex"])
def test_loose_values_become_dynamic_keys(filled: Filled, kind: str) -> None:
    """In a dynamic layout members of "$meta" are keys of the row, of their JSON type, and one can filter by them."""
    layout = filled.layout(kind)
    members = {"year": 1979, "genres": ["horror", "space"], "rating": 8.5, "name with space": "Alien", "seen": True}
    rows = rows_of(layout, [f"{kind} dynamic"], salt=9, **{DYNAMIC: [orjson.dumps(members)]})
    row = stored(filled, layout, rows)[f"{kind} dynamic"]
    assert {name: row[name] for name in members} == members
    if isinstance(filled.place, MilvusPlace):
        found = filled.place.client.query(
            layout.name, filter="year == 1979 and rating > 8 and seen == true", output_fields=["*"], consistency_level="Strong"
        )
        assert [one[layout.primary.name] for one in found] == [f"{kind} dynamic"]


REFUSED: dict[str, Callable[[Layout, Rows], Rows]] = {
    "dimension": lambda _, rows: replace(rows, vectors=np.ones((len(rows), DIMENSION + 1), "<f4")),
    "key too long": lambda _, rows: replace(rows, keys=[*rows.keys[:-1], "é" * 257]),
    "text too long": lambda _, rows: replace(rows, columns={**rows.columns, "title": ["a", "é" * 32_768, "b"]}),
    "JSON too long": lambda _, rows: replace(
        rows, columns={**rows.columns, "properties": [b"{}", b"{}", b'{"a":"' + b"x" * 65_529 + b'"}']}
    ),
    "NaN": lambda _, rows: replace(rows, vectors=np.full((len(rows), DIMENSION), np.nan, "<f4")),
}
COUNTED_BY_MILVUS = ("key too long", "text too long", "JSON too long", "NaN")


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refused_batch_leaves_nothing(filled: Filled, fault: str) -> None:
    """One bad row: the acknowledgement raises DataError with the reason, and no row of the batch is there."""
    if fault in COUNTED_BY_MILVUS and not filled.place.counts_bytes:
        pytest.skip("Milvus Lite takes them; the codec has quarantined them before")
    layout = filled.layout("text")
    rows = REFUSED[fault](layout, rows_of(layout, [f"refused {fault} {n}" for n in range(3)], salt=10))
    before = filled.place.sink.count(layout)
    ack = filled.place.sink.upsert(layout, rows)
    with pytest.raises(DataError) as refusal:
        ack.result()
    assert refusal.value.message
    assert filled.place.sink.count(layout) == before
    assert not set(rows.keys) & set(filled.place.rows(layout))


def test_what_is_just_not_too_long_is_taken(filled: Filled) -> None:
    """The limits are inclusive, counted in bytes of UTF-8: 512 for a key, 65,535 for a text, 65,536 for JSON."""
    layout = filled.layout("text")
    body = b'{"a":"' + b"x" * 65_528 + b'"}'
    rows = rows_of(layout, ["k" * 510 + "é"], salt=11, title=["x" * 65_533 + "é"], properties=[body])
    assert len(body) == 65_536
    assert stored(filled, layout, rows) == as_read(layout, rows)


def test_batches_in_flight_all_land(filled: Filled) -> None:
    """Several threads with several batches in flight each: once acknowledged, every row is there."""
    layout = filled.layout("text")
    batches = [rows_of(layout, [f"flight {batch} {n}" for n in range(20)], salt=20 + batch) for batch in range(12)]

    def send(mine: list[Rows]) -> None:
        for ack in [filled.place.sink.upsert(layout, rows) for rows in mine]:
            ack.result()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [batches[worker::4] for worker in range(4)]))
    found = filled.place.rows(layout)
    for rows in batches:
        assert {key: found[key] for key in rows.keys} == as_read(layout, rows)


def test_from_the_first_row_to_a_search(place: Place) -> None:
    """Written before there is an index; then index, progress, load and count, each twice, and a search finds the row."""
    layout = layout_of("text", scratch(), Metric.EUCLIDEAN)
    place.sink.create(layout)
    assert not place.sink.index_progress(layout).done
    rows = rows_of(layout, [f"k{n}" for n in range(300)], salt=12)
    place.sink.upsert(layout, rows).result()
    place.sink.index(layout)
    place.sink.index(layout)
    deadline = time.monotonic() + 120
    while not (progress := place.sink.index_progress(layout)).done:
        assert progress.indexed <= progress.total
        assert time.monotonic() < deadline
        time.sleep(0.1)
    place.sink.load(layout)
    place.sink.load(layout)
    assert place.sink.count(layout) == 300
    place.sink.upsert(layout, rows.part(0, 100)).result()
    assert place.sink.count(layout) == 300
    assert place.rows(layout) == as_read(layout, rows)
    if isinstance(place, MilvusPlace):
        (hits,) = place.client.search(
            layout.name, data=[rows.vectors[7].tolist()], limit=3, search_params={"params": {"ef": 64}}
        )
        assert hits[0]["id"] == "k7"
        assert hits[0]["distance"] == pytest.approx(0.0, abs=1e-6)
