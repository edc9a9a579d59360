"""Items and rows side by side, without stores: what counts as equal, and in what words the rest is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from segue.model import CarriedProperty, Encoded, KeyType, Kind, Layout, Metric, Page, PropertyType, Rows, SourceSpec
from segue.pipelines.comparison import Compared, Comparer
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import DYNAMIC, Preset, make_layout

PROPERTIES = (
    CarriedProperty("text", PropertyType.STRING),
    CarriedProperty("score", PropertyType.FLOAT),
    CarriedProperty("tags", PropertyType.JSON),
    CarriedProperty("nick", PropertyType.JSON),
)
SPEC = SourceSpec("ix", "Item", "id", KeyType.STRING, "embedding", 3, Metric.EUCLIDEAN, PROPERTIES)


def layout_of(preset: Preset) -> Layout:
    """Return a layout for the items."""
    return make_layout(SPEC, name="items", preset=preset, m=16, ef_construction=200)


def encoded(layout: Layout) -> Encoded:
    """Return two items, encoded."""
    vectors = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "<f4")
    values = [["one", 0.5, ["x", 1], "n"], ["two", 1.5, [], None]]
    return Codec(SPEC, layout).encode(Page(["a", "b"], [], vectors, values, [], None, exhausted=True))


def compared(layout: Layout, rows: Rows, *, whole: bool = True, **copies: int) -> Compared:
    """Compare the two items with rows."""
    return Comparer(layout, whole=whole).compare(encoded(layout), rows, copies)


def changed(rows: Rows, name: str, value: Any) -> Rows:
    """Return rows with another value in the first."""
    return replace(rows, columns=dict(rows.columns) | {name: [value, *rows.columns[name][1:]]})


@pytest.mark.parametrize("preset", [Preset.SEGUE, Preset.LANGCHAIN])
def test_what_the_codec_writes_is_equal_in_any_order_and_under_any_token(preset: Preset) -> None:
    """The rows themselves, in another order, with another token, their JSON written with other spaces."""
    layout = layout_of(preset)
    rows = Codec(SPEC, layout).encode(
        Page(
            ["b", "a"],
            [],
            np.array([[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]], "<f4"),
            [["two", 1.5, [], None], ["one", 0.5, ["x", 1], "n"]],
            [],
            None,
            exhausted=True,
        ),
        {"a": "token", "b": "another"},
    )
    spaced = [orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2) for body in rows.rows.columns[layout.json_field]]
    found = compared(layout, replace(rows.rows, columns=dict(rows.rows.columns) | {layout.json_field: spaced}))
    assert found.differing == {}
    assert found.source == found.sink
    assert found.tally(["a", "b"]).matched == 2


def test_one_bit_of_a_vector_is_a_difference_with_its_distance() -> None:
    """One component one step further: the field, the element and both values are named, and how far apart they are."""
    layout = layout_of(Preset.SEGUE)
    rows = encoded(layout).rows
    vectors = rows.vectors.copy()
    vectors[0, 1] = np.nextafter(vectors[0, 1], np.float32(9))
    found = compared(layout, replace(rows, vectors=vectors)).differing
    assert set(found) == {"a"}
    (one,) = found["a"].differences
    assert (one.kind, one.field) == (Kind.STALE, "vector")
    assert one.source.startswith("1 of 3 elements; [1]")
    assert found["a"].distance == pytest.approx(2.4e-7, rel=0.1)


@pytest.mark.parametrize(
    ("preset", "name", "value", "field"),
    [
        (Preset.SEGUE, "text", "One", "text"),
        (Preset.SEGUE, "score", 0.5000000000000001, "score"),
        (Preset.SEGUE, "segue_hash", 1, "segue_hash"),
        (Preset.SEGUE, "properties", b'{"tags":["x",1.0],"nick":"n"}', "properties.tags"),
        (Preset.SEGUE, "properties", b'{"tags":["x",1],"nick":"n","more":null}', "properties.more"),
        (Preset.SEGUE, "properties", b'{"tags":["x",1]}', "properties.nick"),
        (Preset.LANGCHAIN, DYNAMIC, b'{"nick":"n","score":0.5,"tags":["x",1]}', "segue_hash"),
    ],
)
def test_each_field_and_member_is_compared(preset: Preset, name: str, value: Any, field: str) -> None:
    """Text, the last bit of a float, the hash, a member's type, one too many, one too few, a row without a hash."""
    layout = layout_of(preset)
    found = compared(layout, changed(encoded(layout).rows, name, value)).differing
    assert [one.field for one in found["a"].differences] == [field]
    assert "b" not in found


def test_missing_orphaned_unfit_and_doubled_keys() -> None:
    """Each counts once, as what it is; a row of an item that cannot go is no orphan."""
    layout = layout_of(Preset.SEGUE)
    vectors = np.array([[1.0, 2.0, 3.0]] * 3, "<f4")
    vectors[2, 0] = np.nan
    items = Codec(SPEC, layout).encode(
        Page(["a", "b", "bad"], [], vectors, [["t", 0.0, None, None]] * 3, [], None, exhausted=True)
    )
    rows = items.rows
    one = {name: values[0] for name, values in rows.columns.items()}
    held = Rows(["a", "bad", "nobody"], np.ascontiguousarray(vectors[:3]), {name: [value] * 3 for name, value in one.items()})
    found = Comparer(layout, whole=True).compare(items, held, {"a": 2})
    assert {key: each.kind for key, each in found.differing.items()} == {
        "a": Kind.DUPLICATE,
        "b": Kind.MISSING,
        "bad": Kind.UNFIT,
        "nobody": Kind.ORPHANED,
    }
    tally = found.tally(["a", "b", "bad", "nobody"])
    assert (tally.matched, tally.mismatched, tally.missing, tally.orphaned, tally.duplicates) == (0, 2, 1, 1, 1)
    assert tally.compared == 4
    assert tally.source_digest != tally.sink_digest


def test_a_shallow_comparison_sees_the_hash_only() -> None:
    """Another hash is a difference; another vector is not read at all."""
    layout = layout_of(Preset.SEGUE)
    rows = encoded(layout).rows
    shallow = Rows(rows.keys, np.empty((2, 0), "<f4"), {"segue_hash": rows.columns["segue_hash"]})
    assert compared(layout, shallow, whole=False).differing == {}
    other = compared(layout, changed(shallow, "segue_hash", 1), whole=False).differing
    assert [one.field for one in other["a"].differences] == ["segue_hash"]


def test_digests_add_up_whatever_the_order() -> None:
    """The sum over parts is the sum over the whole."""
    layout = layout_of(Preset.SEGUE)
    found = compared(layout, encoded(layout).rows)
    assert found.tally(["a"]) + found.tally(["b"]) == found.tally(["b", "a"])
