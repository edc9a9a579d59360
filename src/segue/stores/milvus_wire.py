"""Builds Milvus's upsert request from columns; the one place that knows the message's form.

A vector column goes from the float32 matrix into the message as bytes; no element is ever a Python object. Uses the
generated message classes that pymilvus ships (importable, but no documented interface), so `tests/contract` holds every
request against the one `MilvusClient.upsert` would send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from segue.model import FieldType, Layout, Rows, Vectors
from segue.pipelines.layouts import DYNAMIC

DATA_TYPES = {
    FieldType.VARCHAR: DataType.VARCHAR,
    FieldType.INT64: DataType.INT64,
    FieldType.DOUBLE: DataType.DOUBLE,
    FieldType.BOOL: DataType.BOOL,
    FieldType.JSON: DataType.JSON,
    FieldType.FLOAT_VECTOR: DataType.FLOAT_VECTOR,
}

_PACKED_FLOATS = b"\x0a"
"""FloatArray.data: field 1, length-delimited."""


def upsert_request(collection: str, database: str, layout: Layout, rows: Rows) -> Any:
    """Return the request that upserts `rows` into the collection of that name or alias."""
    request = milvus_pb2.UpsertRequest(db_name=database, collection_name=collection, num_rows=len(rows))
    for field in layout.fields:
        column = request.fields_data.add(type=DATA_TYPES[field.type], field_name=field.name)
        if field.type is FieldType.FLOAT_VECTOR:
            _put_vectors(column, rows.vectors)
        else:
            _put_scalars(column, field.type, rows.keys if field.primary else rows.columns[field.name])
    if layout.dynamic:
        column = request.fields_data.add(type=DataType.JSON, field_name=DYNAMIC, is_dynamic=True)
        _put_scalars(column, FieldType.JSON, rows.columns[DYNAMIC])
    return request


def _put_vectors(column: Any, vectors: Vectors) -> None:
    column.vectors.dim = vectors.shape[1]
    body = b"".join((_PACKED_FLOATS, _varint(vectors.nbytes), vectors.data.cast("B")))
    column.vectors.float_vector.MergeFromString(body)


def _put_scalars(column: Any, kind: FieldType, values: Sequence[Any]) -> None:
    scalars: schema_pb2.ScalarField = column.scalars
    if kind is FieldType.VARCHAR:
        scalars.string_data.data.extend(values)
    elif kind is FieldType.INT64:
        scalars.long_data.data.extend(values)
    elif kind is FieldType.DOUBLE:
        scalars.double_data.data.extend(values)
    elif kind is FieldType.BOOL:
        scalars.bool_data.data.extend(values)
    else:
        scalars.json_data.data.extend(values)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a group
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
