"""Builds Milvus's upsert and search requests; the one place that knows these messages' form.

Vectors go from float32 arrays into the message as bytes; no element is ever a Python object. Uses the generated message
classes that pymilvus ships (importable, but no documented interface), so `tests/contract` holds every request against the
one that `MilvusClient` would send.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from segue.model import FieldType, Layout, Rows, Vectors
from segue.pipelines.layouts import DYNAMIC
from segue.ports import Vector
from segue.stores.milvus_client import DataType, PlaceholderType, common_pb2, milvus_pb2, schema_pb2

DATA_TYPES = {
    FieldType.VARCHAR: DataType.VARCHAR,
    FieldType.INT64: DataType.INT64,
    FieldType.DOUBLE: DataType.DOUBLE,
    FieldType.BOOL: DataType.BOOL,
    FieldType.JSON: DataType.JSON,
    FieldType.FLOAT_VECTOR: DataType.FLOAT_VECTOR,
}

_BOUNDED = 2
"""What stands for "as new as the Bounded level promises" where a timestamp could be."""

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


def search_request(
    database: str,
    layout: Layout,
    vector: Vector,
    limit: int,
    *,
    filtered: str,
    params: Mapping[str, int],
    fields: Sequence[str],
) -> Any:
    """Return the request for the rows nearest to a vector, at the Bounded level.

    Args:
        database: The collection's database.
        layout: The collection, with the index that is searched.
        vector: What is looked for.
        limit: How many rows at most.
        filtered: A condition in Milvus's language; empty for none.
        params: The index's parameters of a search.
        fields: The fields to return of each row.
    """
    metric = {"metric_type": layout.index.metric}
    settings = {
        "topk": str(limit),
        "round_decimal": "-1",
        "ignore_growing": "False",
        **metric,
        "anns_field": layout.vector.name,
        "params": orjson.dumps({**params, **metric}).decode(),
    }
    packed = common_pb2.PlaceholderValue(
        tag="$0", type=PlaceholderType.FloatVector, values=[np.asarray(vector, "<f4").tobytes()]
    )
    return milvus_pb2.SearchRequest(
        db_name=database,
        collection_name=layout.name,
        dsl=filtered,
        dsl_type=common_pb2.DslType.BoolExprV1,
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[packed]).SerializeToString(),
        output_fields=fields,
        search_params=[common_pb2.KeyValuePair(key=name, value=value) for name, value in settings.items()],
        nq=1,
        consistency_level=common_pb2.ConsistencyLevel.Bounded,
        guarantee_timestamp=_BOUNDED,
    )


def query_request(database: str, layout: Layout, chosen: str, *, fields: Sequence[str], limit: int | None) -> Any:
    """Return the request for the rows that an expression chooses, at the Strong level.

    Args:
        database: The collection's database.
        layout: The collection.
        chosen: A condition in Milvus's language.
        fields: The fields to return of each row, or "count(*)" alone.
        limit: How many rows at most, those with the lowest keys; None for all.
    """
    settings = {} if limit is None else {"limit": str(limit)}
    return milvus_pb2.QueryRequest(
        db_name=database,
        collection_name=layout.name,
        expr=chosen,
        output_fields=fields,
        query_params=[common_pb2.KeyValuePair(key=name, value=value) for name, value in settings.items()],
        consistency_level=common_pb2.ConsistencyLevel.Strong,
    )


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
