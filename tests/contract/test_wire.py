"""The requests that `milvus_wire` builds, held against the ones pymilvus builds for the same rows, and by what Milvus stores.

`Prepare.row_upsert_param` is what `MilvusClient.upsert` calls to make its request; it stands here as the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pymilvus.client.prepare import Prepare
from pymilvus.grpc_gen import milvus_pb2

from segue.model import FieldType, Key, Layout, Rows
from segue.pipelines.layouts import DYNAMIC
from segue.stores.milvus_wire import DATA_TYPES, upsert_request

from .sinks import KINDS, MilvusPlace, Opened, as_read, layout_of, rows_of

NOT_NUL = st.characters(exclude_categories=["Cs"])
INTEGERS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(NOT_NUL, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(NOT_NUL, max_size=5), inner, max_size=3),
    max_leaves=6,
)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.VARCHAR: st.text(NOT_NUL, max_size=20),
    FieldType.INT64: INTEGERS,
    FieldType.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
    FieldType.BOOL: st.booleans(),
}


@st.composite
def rows_for(draw: st.DrawFn, layout: Layout) -> Rows:
    """Draw rows that a layout takes, any values, any number from one."""
    keys = draw(st.lists(VALUES[layout.primary.type], min_size=1, max_size=12, unique=True))
    count = len(keys)
    floats = arrays.arrays(
        np.float32, (count, layout.vector.size), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
    taken = {one.name for one in layout.fields}
    member = st.text(NOT_NUL, min_size=1, max_size=8).filter(lambda name: name not in taken and name != DYNAMIC)
    columns: dict[str, list[Any]] = {}
    for one in layout.fields:
        if one.type is FieldType.JSON:
            columns[one.name] = draw(st.lists(packed(st.text(NOT_NUL, max_size=8)), min_size=count, max_size=count))
        elif not one.primary and one.type is not FieldType.FLOAT_VECTOR:
            columns[one.name] = draw(st.lists(VALUES[one.type], min_size=count, max_size=count))
    if layout.dynamic:
        columns[DYNAMIC] = draw(st.lists(packed(member), min_size=count, max_size=count))
    return Rows(keys, draw(floats), columns)


def packed(names: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Draw JSON objects with these names as bytes."""
    return st.dictionaries(names, JSON, max_size=4).map(orjson.dumps)


def as_dicts(layout: Layout, rows: Rows) -> list[dict[str, Any]]:
    """Return the rows in the form in which an application hands them to `MilvusClient.upsert`."""
    json_fields = {one.name for one in layout.fields if one.type is FieldType.JSON}
    dicts = []
    for place, key in enumerate(rows.keys):
        row = {layout.primary.name: key, layout.vector.name: rows.vectors[place].tolist()}
        for name, values in rows.columns.items():
            if name == DYNAMIC:
                row |= orjson.loads(values[place])
            else:
                row[name] = orjson.loads(values[place]) if name in json_fields else values[place]
        dicts.append(row)
    return dicts


def reference(layout: Layout, rows: Rows) -> milvus_pb2.UpsertRequest:
    """Return the request that pymilvus makes of the rows."""
    described = [
        {
            "name": one.name,
            "type": DATA_TYPES[one.type],
            "params": {"dim": one.size} if one.type is FieldType.FLOAT_VECTOR else {"max_length": one.size},
            "is_primary": one.primary,
        }
        for one in layout.fields
    ]
    return Prepare.row_upsert_param(layout.name, as_dicts(layout, rows), "", described, enable_dynamic=layout.dynamic)


def columns_of(request: milvus_pb2.UpsertRequest) -> dict[str, bytes]:
    """Return the request's columns by name, as the bytes that go over the wire."""
    return {column.field_name: column.SerializeToString(deterministic=True) for column in request.fields_data}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_request_is_the_one_pymilvus_builds(kind: str, data: st.DataObject) -> None:
    """Field by field the same message as the plain client's, but for the database, which the plain client names elsewhere."""
    layout = layout_of(kind, "c")
    rows = data.draw(rows_for(layout))
    ours, theirs = upsert_request("c", "elsewhere", layout, rows), reference(layout, rows)
    assert columns_of(ours) == columns_of(theirs)
    assert len(ours.fields_data) == len(theirs.fields_data)
    assert ours.db_name == "elsewhere"
    for one in (ours, theirs):
        del one.fields_data[:]
        one.db_name = ""
    assert ours == theirs


@pytest.mark.parametrize("count", [1, 127, 128, 5_000])
def test_any_number_of_rows_makes_one_vector_column(count: int) -> None:
    """The length before the packed floats is right wherever its varint gains a byte."""
    layout = layout_of("integer", "c", dimension=8)
    rows = rows_of(layout, range(count))
    request = milvus_pb2.UpsertRequest.FromString(upsert_request("c", "", layout, rows).SerializeToString())
    (column,) = (one for one in request.fields_data if one.field_name == "vector")
    assert column.vectors.dim == 8
    assert np.array(column.vectors.float_vector.data, "<f4").tobytes() == rows.vectors.tobytes()
    assert request.num_rows == count


def test_part_of_a_batch_is_a_request_of_its_own() -> None:
    """Rows cut from the middle of a batch carry their own vectors and no others."""
    layout = layout_of("text", "c")
    rows = rows_of(layout, [f"k{n}" for n in range(10)])
    part = rows.part(3, 7)
    assert columns_of(upsert_request("c", "", layout, part)) == columns_of(reference(layout, part))


def keyed(layout: Layout, prefix: str, count: int) -> Sequence[Key]:
    """Return keys that no other test writes."""
    start = 10_000 if prefix == "plain" else 20_000
    return range(start, start + count) if layout.primary.type is FieldType.INT64 else [f"{prefix} {n}" for n in range(count)]


@pytest.mark.service
@pytest.mark.parametrize("kind", KINDS)
def test_milvus_stores_the_same_either_way(kind: str, sinks: Opened) -> None:
    """One upsert through the plain client, one through our request: the rows read back are the same, bit for bit."""
    filled = sinks("milvus")
    assert isinstance(filled.place, MilvusPlace)
    layout = filled.layout(kind)
    ours = rows_of(layout, keyed(layout, "ours", 30), salt=40)
    plain = replace(ours, keys=list(keyed(layout, "plain", 30)))
    filled.place.client.upsert(layout.name, as_dicts(layout, plain))
    filled.place.sink.upsert(layout, ours).result()
    found = filled.place.rows(layout)
    assert {key: found[key] for key in ours.keys} == as_read(layout, ours)
    assert {key: found[key] for key in plain.keys} == as_read(layout, plain)
