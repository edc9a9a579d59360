"""The codec: every row of a page comes out once, encoded or with its reason, and the same node always encodes the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from neo4j.spatial import WGS84Point
from neo4j.time import Date, DateTime, Duration

from segue.model import (
    CarriedProperty,
    Encoded,
    FieldType,
    Key,
    KeyType,
    Metric,
    Page,
    PropertyType,
    Quarantined,
    Reason,
    SourceSpec,
)
from segue.pipelines.embeddings import CODEC_VERSION, Codec, property_type
from segue.pipelines.layouts import JSON_BYTES, TEXT_BYTES, Preset, make_layout
from segue.stores.memory_store import MemorySink

DIMENSION = 3
GOOD = (1.0, 2.0, 3.0)
TYPED = {
    "title": PropertyType.STRING,
    "year": PropertyType.INTEGER,
    "rating": PropertyType.FLOAT,
    "seen": PropertyType.BOOLEAN,
    "more": PropertyType.JSON,
}
FITTING: dict[str, Any] = {"title": "Alien", "year": 1979, "rating": 8.5, "seen": True, "more": ["a", 1]}


def spec_of(
    properties: dict[str, PropertyType], key_type: KeyType = KeyType.STRING, metric: Metric = Metric.COSINE
) -> SourceSpec:
    """Return a spec of three-dimensional vectors with these carried properties."""
    carried = tuple(CarriedProperty(name, kind) for name, kind in properties.items())
    return SourceSpec("ix", "Item", "id", key_type, "embedding", DIMENSION, metric, carried)


def codec_of(spec: SourceSpec, preset: Preset = Preset.SEGUE) -> Codec:
    """Return the codec into the preset's layout."""
    return Codec(spec, make_layout(spec, name="c", preset=preset, m=16, ef_construction=200))


def page_of(
    keys: Sequence[Key], vectors: Any = None, properties: Sequence[Sequence[Any]] | None = None, *, named: bool = True
) -> Page:
    """Return a page of these rows; vectors are good ones and properties none unless given."""
    matrix = np.array([GOOD] * len(keys) if vectors is None else vectors, np.float32).reshape(len(keys), DIMENSION)
    element_ids = [f"4:x:{place}" for place in range(len(keys))] if named else []
    return Page(
        list(keys), element_ids, matrix, list(properties or [[] for _ in keys]), [], keys[-1] if keys else None, exhausted=True
    )


def encoded(spec: SourceSpec, page: Page, preset: Preset = Preset.SEGUE) -> Encoded:
    """Encode one page."""
    return codec_of(spec, preset).encode(page)


def one(properties: dict[str, Any], types: dict[str, PropertyType] = TYPED, **of_page: Any) -> Encoded:
    """Encode one node that has these properties."""
    return encoded(spec_of(types), page_of(["k"], properties=[[properties.get(name) for name in types]], **of_page))


# Every reason the codec gives: the others are found when a page is read.


@pytest.mark.parametrize(
    ("vector", "metric", "reason"),
    [
        ((math.nan, 1.0, 1.0), Metric.COSINE, Reason.NOT_FINITE),
        ((1.0, math.inf, 1.0), Metric.EUCLIDEAN, Reason.NOT_FINITE),
        ((1.0, 1.0, -math.inf), Metric.DOT, Reason.NOT_FINITE),
        ((3e38, 3e38, 3e38), Metric.COSINE, Reason.NOT_FINITE),
        ((0.0, -0.0, 0.0), Metric.COSINE, Reason.ZERO_NORM),
        ((1e-30, 0.0, 0.0), Metric.COSINE, Reason.ZERO_NORM),
        ((0.0, 0.0, 0.0), Metric.EUCLIDEAN, None),
        ((0.0, 0.0, 0.0), Metric.DOT, None),
        ((1e-20, 0.0, 0.0), Metric.COSINE, None),
        ((1e19, 0.0, 0.0), Metric.COSINE, None),
    ],
)
def test_vectors_without_a_meaning_are_quarantined(vector: Any, metric: Metric, reason: Reason | None) -> None:
    """Not finite under any metric, and without a direction under cosine; the rows before and behind go."""
    result = encoded(spec_of({}, metric=metric), page_of(["a", "b", "c"], [GOOD, vector, GOOD]))
    assert result.rows.keys == (["a", "c"] if reason else ["a", "b", "c"])
    assert [(row.key, row.element_id, row.reason) for row in result.quarantined] == ([("b", "4:x:1", reason)] if reason else [])


def test_a_key_of_several_nodes_is_quarantined_with_all_of_them() -> None:
    """None of the nodes that share a key goes: which one would be right, nobody knows."""
    result = encoded(spec_of({}), page_of(["a", "b", "b", "c", "b"]))
    assert result.rows.keys == ["a", "c"]
    assert [(row.key, row.element_id, row.reason) for row in result.quarantined] == [
        ("b", f"4:x:{place}", Reason.KEY_DUPLICATE) for place in (1, 2, 4)
    ]
    assert "3 nodes" in result.quarantined[0].detail


@pytest.mark.parametrize(
    ("key", "goes"), [("k" * 512, True), ("é" * 256, True), ("k" * 513, False), ("é" * 257, False), ("😀" * 129, False)]
)
def test_keys_are_measured_in_bytes(key: str, goes: bool) -> None:
    """512 bytes of UTF-8 are a key, one more is none."""
    result = encoded(spec_of({}), page_of([key]))
    assert (result.rows.keys == [key]) is goes
    assert [row.reason for row in result.quarantined] == ([] if goes else [Reason.KEY_TOO_LONG])


def test_the_greatest_integer_is_no_key() -> None:
    """Milvus 2.3 stores a row under 2**63 - 1, and finds it by search, but by no filter; one below is a key like any other."""
    spec = replace(spec_of({}), key_type=KeyType.INTEGER)
    result = encoded(spec, page_of([-(2**63), 2**63 - 2, 2**63 - 1]))
    assert result.rows.keys == [-(2**63), 2**63 - 2]
    assert [(row.key, row.reason) for row in result.quarantined] == [(2**63 - 1, Reason.KEY_TOO_LARGE)]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("title", None, Reason.VALUE_MISSING),
        ("year", None, Reason.VALUE_MISSING),
        ("title", 7, Reason.VALUE_TYPE),
        ("title", ["a"], Reason.VALUE_TYPE),
        ("year", 1979.0, Reason.VALUE_TYPE),
        ("year", True, Reason.VALUE_TYPE),
        ("rating", 8, Reason.VALUE_TYPE),
        ("seen", 1, Reason.VALUE_TYPE),
        ("seen", "true", Reason.VALUE_TYPE),
        ("rating", math.nan, Reason.VALUE_NOT_FINITE),
        ("rating", -math.inf, Reason.VALUE_NOT_FINITE),
        ("more", [1.0, math.nan], Reason.VALUE_NOT_FINITE),
        ("more", WGS84Point((math.inf, 0.0)), Reason.VALUE_NOT_FINITE),
        ("more", object(), Reason.VALUE_TYPE),
        ("title", "x" * (TEXT_BYTES + 1), Reason.VALUE_TOO_LARGE),
        ("title", "é" * (TEXT_BYTES // 2 + 1), Reason.VALUE_TOO_LARGE),
        ("more", "x" * JSON_BYTES, Reason.VALUE_TOO_LARGE),
    ],
)
def test_values_that_do_not_fit_are_quarantined(name: str, value: Any, reason: Reason) -> None:
    """Missing, of another type, not a number, too large: the reason, the property's name, and never the value itself."""
    result = one(FITTING | {name: value})
    assert not result.rows
    (row,) = result.quarantined
    assert (row.key, row.reason) == ("k", reason)
    assert len(row.detail) < 200
    assert name in row.detail or "properties" in row.detail


@pytest.mark.parametrize(
    ("name", "value"), [("title", "x" * TEXT_BYTES), ("title", ""), ("more", "x" * (JSON_BYTES - len(b'{"more":""}')))]
)
def test_values_at_their_limit_go(name: str, value: str) -> None:
    """The limits are inclusive."""
    assert len(one(FITTING | {name: value}).rows) == 1


def test_what_the_source_found_comes_first() -> None:
    """Rows quarantined while the page was read are passed on, before those that the codec finds."""
    found = Quarantined("4:x:9", "z", Reason.WRONG_DIMENSION, "2 elements")
    page = replace(page_of(["a", "b"], [GOOD, (0.0, 0.0, 0.0)]), quarantined=[found])
    result = encoded(spec_of({}), page)
    assert result.quarantined[0] == found
    assert [row.key for row in result.quarantined] == ["z", "b"]


def test_one_row_has_one_reason() -> None:
    """A row with several faults is quarantined once."""
    properties = [None, 1, math.nan, "no", object()]
    result = encoded(spec_of(TYPED), page_of(["k" * 600, "k" * 600], [(math.nan,) * 3] * 2, [properties] * 2))
    assert not result.rows
    assert len(result.quarantined) == 2


def test_one_large_value_does_not_take_another_along() -> None:
    """Beside a row whose JSON is too large goes one whose JSON is exactly as large as may be."""
    most = "x" * (JSON_BYTES - len(b'{"more":""}'))
    rows = [list((FITTING | {"more": value}).values()) for value in (most, most + "x", most)]
    result = encoded(spec_of(TYPED), page_of(["a", "b", "c"], properties=rows))
    assert result.rows.keys == ["a", "c"]
    assert [(row.key, row.reason) for row in result.quarantined] == [("b", Reason.VALUE_TOO_LARGE)]


# What a row becomes.


def test_a_row_of_preset_segue() -> None:
    """Typed fields as they are, times as ISO 8601, the rest in one JSON object, our own fields beside them."""
    spec = spec_of({**TYPED, "released": PropertyType.STRING, "gone": PropertyType.JSON})
    values = [*FITTING.values(), Date(1979, 5, 25), None]
    result = encoded(spec, page_of(["k"], properties=[values]))
    columns = result.rows.columns
    assert {name: columns[name][0] for name in ("title", "year", "rating", "seen", "released", "segue_ver")} == {
        "title": "Alien",
        "year": 1979,
        "rating": 8.5,
        "seen": True,
        "released": "1979-05-25",
        "segue_ver": "",
    }
    assert orjson.loads(columns["properties"][0]) == {"more": ["a", 1]}
    assert -(2**63) <= columns["segue_hash"][0] < 2**63
    assert result.element_ids == ["4:x:0"]


LOOSE = {
    "text": PropertyType.STRING,
    "ref_doc_id": PropertyType.STRING,
    "year": PropertyType.INTEGER,
    "tags": PropertyType.JSON,
}


@pytest.mark.parametrize(
    ("preset", "columns", "dynamic"),
    [
        (Preset.LANGCHAIN, {"text": "in space"}, {"ref_doc_id": "d", "year": 1979, "tags": ["a"]}),
        (
            Preset.LLAMAINDEX,
            {"text": "in space", "doc_id": "d"},
            {"ref_doc_id": "d", "document_id": "d", "year": 1979, "tags": ["a"]},
        ),
    ],
)
def test_a_row_of_the_dynamic_presets(preset: Preset, columns: dict[str, Any], dynamic: dict[str, Any]) -> None:
    """What the library reads from columns is there, and every other property is a dynamic key of its name and type."""
    result = encoded(spec_of(LOOSE), page_of(["k"], properties=[["in space", "d", 1979, ["a"]]]), preset)
    found = dict(result.rows.columns)
    members = orjson.loads(found.pop("$meta")[0])
    assert {name: values[0] for name, values in found.items()} == columns
    assert isinstance(members.pop("segue_hash"), int)
    assert members.pop("segue_ver") == ""
    assert members == dynamic


@pytest.mark.parametrize("preset", [Preset.LANGCHAIN, Preset.LLAMAINDEX])
def test_dynamic_keys_that_are_absent_stay_absent(preset: Preset) -> None:
    """A property that a node lacks makes no key, not even a null."""
    spec = spec_of(
        {"text": PropertyType.STRING, "year": PropertyType.JSON}
        | ({"ref_doc_id": PropertyType.STRING} if preset is Preset.LLAMAINDEX else {})
    )
    result = encoded(spec, page_of(["k"], properties=[["t", None, "d"][: len(spec.properties)]]), preset)
    assert "year" not in orjson.loads(result.rows.columns["$meta"][0])


def test_an_empty_page_encodes_to_nothing() -> None:
    """No rows, no faults, and every column is there."""
    for properties in ({}, TYPED):
        result = encoded(spec_of(properties), page_of([]))
        assert (len(result.rows), result.quarantined) == (0, [])
        assert {"properties", "segue_ver", "segue_hash"} <= result.rows.columns.keys()


# Properties of the codec over any page.

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANY_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    TEXT,
    st.just("x" * (TEXT_BYTES + 1)),
    st.sampled_from([Date(2020, 1, 1), DateTime(2020, 1, 1), Duration(days=1), WGS84Point((1.0, 2.0)), b"\x00", object()]),
    st.lists(st.floats(), max_size=3),
    st.lists(TEXT, max_size=3),
)
KEYS = {
    KeyType.STRING: st.sampled_from(["a", "b", "k" * 513]) | TEXT,
    KeyType.INTEGER: st.sampled_from([0, 1]) | st.integers(-(2**63), 2**63 - 1),
}
SHAPES = [
    (Preset.SEGUE, KeyType.STRING, TYPED),
    (Preset.SEGUE, KeyType.INTEGER, TYPED),
    (Preset.SEGUE, KeyType.STRING, {}),
    (Preset.LANGCHAIN, KeyType.STRING, LOOSE),
    (Preset.LLAMAINDEX, KeyType.STRING, LOOSE),
]
VECTORS = st.sampled_from([GOOD, (0.0, 0.0, 0.0), (math.nan, 1.0, 1.0), (3e38, 3e38, 1.0)]) | st.tuples(
    *[st.floats(width=32)] * 3
)


@st.composite
def pages(draw: st.DrawFn, key_type: KeyType, properties: dict[str, PropertyType]) -> Page:
    """Draw a page of any rows, good and bad, with duplicates, with and without elementIds."""
    keys = draw(st.lists(KEYS[key_type], max_size=10))
    fitting = st.just([FITTING.get(name, "text") for name in properties])
    rows: st.SearchStrategy[Any] = st.lists(
        st.one_of(fitting, st.tuples(*[ANY_VALUE] * len(properties)).map(list)), min_size=len(keys), max_size=len(keys)
    )
    vectors = draw(st.lists(VECTORS, min_size=len(keys), max_size=len(keys)))
    page = page_of(keys, vectors, draw(rows), named=draw(st.booleans()))
    return replace(page, quarantined=draw(st.lists(st.just(Quarantined("4:y:1", None, Reason.NO_EMBEDDING, "-")), max_size=2)))


def copy_of(page: Page) -> Page:
    """Return an equal page that shares nothing that could be changed."""
    rows = [list(row) for row in page.properties]
    return replace(page, keys=list(page.keys), vectors=page.vectors.copy(), properties=rows, quarantined=list(page.quarantined))


@pytest.mark.parametrize(("preset", "key_type", "properties"), SHAPES)
@given(data=st.data())
def test_every_row_comes_out_once(
    preset: Preset, key_type: KeyType, properties: dict[str, PropertyType], data: st.DataObject
) -> None:
    """Each row is encoded or quarantined, not both and not neither; what is encoded is whole, and a sink takes it."""
    spec = spec_of(properties, key_type)
    page = data.draw(pages(key_type, properties))
    result = encoded(spec, copy_of(page), preset)
    found_before = len(page.quarantined)
    out = Counter(result.rows.keys) + Counter(row.key for row in result.quarantined[found_before:])
    assert out == Counter(page.keys)
    assert len(result.rows) + len(result.quarantined) == len(page.keys) + found_before
    if page.element_ids:
        ids = [*result.element_ids, *(row.element_id for row in result.quarantined[found_before:])]
        assert sorted(ids) == sorted(page.element_ids)
    layout = make_layout(spec, name="c", preset=preset, m=16, ef_construction=200)
    sink = MemorySink()
    sink.create(layout)
    sink.upsert(layout, result.rows).result()
    stored = sink.rows("c")
    assert len(stored) == len(result.rows) == len(set(result.rows.keys))
    for key, vector in zip(result.rows.keys, result.rows.vectors, strict=True):
        assert stored[key][layout.vector.name] == vector.tobytes() == page.vectors[page.keys.index(key)].tobytes()


@pytest.mark.parametrize(("preset", "key_type", "properties"), SHAPES)
@given(data=st.data())
def test_encoding_is_a_function_of_the_node(
    preset: Preset, key_type: KeyType, properties: dict[str, PropertyType], data: st.DataObject
) -> None:
    """The same page encodes the same, and each row as it would alone on a page, whoever its neighbours are."""
    spec = spec_of(properties, key_type)
    page = data.draw(pages(key_type, properties))
    codec = codec_of(spec, preset)
    first, second = codec.encode(copy_of(page)), codec.encode(copy_of(page))
    assert (first.rows.keys, first.rows.columns, first.quarantined) == (
        second.rows.keys,
        second.rows.columns,
        second.quarantined,
    )
    for place, key in enumerate(first.rows.keys):
        at = page.keys.index(key)
        alone = codec.encode(page_of([key], [page.vectors[at]], [page.properties[at]]))
        assert {name: values[place] for name, values in first.rows.columns.items()} == {
            name: values[0] for name, values in alone.rows.columns.items()
        }


def hash_of(properties: dict[str, Any], vector: Any = GOOD, types: dict[str, PropertyType] = TYPED) -> int:
    """Return the hash of a node that can go."""
    (found,) = one(properties, types, vectors=[vector]).rows.columns["segue_hash"]
    return int(found)


@given(vector=arrays.arrays(np.float32, 3, elements=st.floats(0.5, 2, width=32)), bit=st.integers(0, 95))
def test_the_hash_sees_every_bit_of_the_vector(vector: np.ndarray, bit: int) -> None:
    """Flipping any one bit of any element gives another hash."""
    flipped = bytearray(vector.tobytes())
    flipped[bit // 8] ^= 1 << bit % 8
    other = np.frombuffer(bytes(flipped), np.float32)
    if np.isfinite(other).all() and math.isfinite(float(np.einsum("i,i", other, other))):
        assert hash_of(FITTING, vector) != hash_of(FITTING, other)


CHANGES: list[tuple[str, Any]] = [
    *[("title", text) for text in ("alien", "Alien ", "", "Alien\0")],
    *[("year", number) for number in (1978, -1979, 0)],
    *[("rating", number) for number in (8.500000000000002, -8.5, 0.0, -0.0)],
    ("seen", False),
    *[("more", value) for value in (None, [], ["a"], ["a", 2], ["a", "1"], ["a", 1.0], ["1", "a"], "a", {"a": 1}, True, 1)],
]


def test_the_hash_sees_every_value() -> None:
    """Any other value of any property gives another hash: of another type, in another order, missing, another sign of zero."""
    hashes = [hash_of(FITTING), *(hash_of(FITTING | {name: value}) for name, value in CHANGES)]
    assert len(set(hashes)) == len(hashes)


@given(values=st.dictionaries(st.sampled_from(["title", "year", "rating", "seen"]), st.none()))
def test_the_hash_is_of_content_only(values: dict[str, None]) -> None:
    """Key, neighbours and elementId do not enter it; swapping two text values does."""
    types = {"a": PropertyType.STRING, "b": PropertyType.STRING, **dict.fromkeys(values, PropertyType.JSON)}
    spec = spec_of(types)
    rows = [["x", "y"], ["y", "x"], ["x", "y"]]
    page = page_of(["k1", "k2", "k3"], properties=[[*row, *values.values()] for row in rows])
    first, swapped, same = encoded(spec, page).rows.columns["segue_hash"]
    assert first == same != swapped


def test_the_hash_does_not_run_values_together() -> None:
    """Where one value ends and the next begins is part of what is hashed."""
    types = {"a": PropertyType.STRING, "b": PropertyType.STRING}
    splits = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("a', 'b", "c"), ("a", "b', 'c")]
    assert len({hash_of({"a": a, "b": b}, types=types) for a, b in splits}) == len(splits)


def test_the_hash_of_a_known_node() -> None:
    """One hash is written down: when it changes, rows written before differ from those after, and CODEC_VERSION must grow."""
    assert hash_of(FITTING) == -5_208_053_543_967_633_671
    assert CODEC_VERSION == 1


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({"STRING NOT NULL"}, PropertyType.STRING),
        ({"INTEGER NOT NULL"}, PropertyType.INTEGER),
        ({"FLOAT NOT NULL"}, PropertyType.FLOAT),
        ({"BOOLEAN NOT NULL"}, PropertyType.BOOLEAN),
        ({"DATE NOT NULL"}, PropertyType.STRING),
        ({"ZONED DATETIME NOT NULL"}, PropertyType.STRING),
        ({"DURATION NOT NULL"}, PropertyType.STRING),
        ({"POINT NOT NULL"}, PropertyType.JSON),
        ({"LIST<STRING NOT NULL> NOT NULL"}, PropertyType.JSON),
        ({"STRING NOT NULL", "NULL"}, PropertyType.JSON),
        ({"INTEGER NOT NULL", "FLOAT NOT NULL"}, PropertyType.JSON),
        ({"NULL"}, PropertyType.JSON),
        (set(), PropertyType.JSON),
    ],
)
def test_only_one_type_on_every_node_makes_a_field(types: set[str], expected: PropertyType) -> None:
    """A type that every node has; missing on some, several types, lists and points go to JSON."""
    assert property_type(frozenset(types)) is expected


def test_columns_are_as_long_as_the_rows() -> None:
    """With faults and without, every column of a typed layout has one value a row, of its exact type."""
    page = page_of(["a", "b", "c"], [GOOD, (0.0, 0.0, 0.0), GOOD], [list(FITTING.values())] * 3)
    spec = spec_of(TYPED)
    layout = make_layout(spec, name="c", preset=Preset.SEGUE, m=16, ef_construction=200)
    rows = Codec(spec, layout).encode(page).rows
    exact = {FieldType.VARCHAR: str, FieldType.INT64: int, FieldType.DOUBLE: float, FieldType.BOOL: bool, FieldType.JSON: bytes}
    for field in layout.fields:
        if field.name in rows.columns:
            assert [type(value) for value in rows.columns[field.name]] == [exact[field.type]] * 2
    assert rows.vectors.flags.c_contiguous
