"""What Segue takes of pymilvus, in one place: importing it reads MILVUS_URI, and fails where that names a Milvus Lite file."""

from __future__ import annotations

import os

_uri = os.environ.pop("MILVUS_URI", None)
try:
    from pymilvus import CollectionSchema, DataType, FieldSchema, MilvusClient
    from pymilvus.client.types import LoadState, PlaceholderType
    from pymilvus.exceptions import DataNotMatchException, DataTypeNotMatchException, MilvusException
    from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2
finally:
    if _uri is not None:
        os.environ["MILVUS_URI"] = _uri

__all__ = [
    "CollectionSchema",
    "DataNotMatchException",
    "DataType",
    "DataTypeNotMatchException",
    "FieldSchema",
    "LoadState",
    "MilvusClient",
    "MilvusException",
    "PlaceholderType",
    "common_pb2",
    "milvus_pb2",
    "milvus_pb2_grpc",
    "schema_pb2",
]
