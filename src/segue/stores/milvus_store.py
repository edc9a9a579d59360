"""Milvus as the sink: a collection behind an alias, upserts, the index after the load.

Owns names and schema on the server: physical collection `NAME_v1`, alias `NAME` from the first day (a layout without an
alias bears the name itself). Never inserts, since Milvus's insert checks no primary key. Knows no source.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import grpc
import orjson

from segue.errors import CollectionMismatch, SegueError
from segue.model import Field, FieldType, Key, Layout, Rows
from segue.pipelines.layouts import DYNAMIC
from segue.ports import Ack, IndexProgress
from segue.stores.milvus_client import CollectionSchema, FieldSchema, LoadState
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_rows import PAGE_KEYS, MilvusRows
from segue.stores.milvus_wire import DATA_TYPES, upsert_request

MADE_BY = "made by Segue"
"""The description of every collection that Segue makes."""

LONG_SECONDS = 3_600.0
"""For what takes as long as the collection is large: sealing it, loading it."""


class MilvusSink:
    """The `Sink` over a Milvus server or a Milvus Lite file. Usable from several threads.

    Args:
        connection: Where to write.
    """

    def __init__(self, connection: MilvusConnection) -> None:
        self._connection = connection
        self._client = connection.client
        self._seconds = connection.timeout_seconds
        # Milvus Lite takes one writer at a time.
        self._one_writer = threading.Lock()

    def field_names(self, name: str) -> frozenset[str] | None:
        """See `Sink`."""
        described = self._describe(name)
        return frozenset(field["name"] for field in described["fields"]) if described else None

    def find(self, layout: Layout) -> str | None:
        """See `Sink`."""
        return self._find(layout.name, layout)

    def create(self, layout: Layout) -> str:
        """See `Sink`."""
        found = self.find(layout)
        if found is not None:
            return found
        physical = f"{layout.name}_v1" if layout.aliased else layout.name
        with self._connection.translated():
            # What is there under the physical name may be someone else's: no alias is put on it unseen.
            if self._find(physical, layout) is None:
                self._client.create_collection(physical, schema=_schema(layout), timeout=self._seconds)
            if layout.aliased:
                self._client.create_alias(physical, layout.name, timeout=self._seconds)
        identity = self.find(layout)
        if identity is None:
            message = f"collection {layout.name!r} was created but cannot be found"
            raise CollectionMismatch(message)
        return identity

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
        """See `Sink`."""
        if self._connection.lite:
            return self._upsert_rows(layout, rows)
        request = upsert_request(layout.name, self._connection.database, layout, rows)
        return _Sent(self._connection, self._connection.send_upsert(request))

    def delete(self, layout: Layout, keys: Sequence[Key]) -> Ack:
        """See `Sink`. Returns when it is done; deletes are few."""
        done: Future[None] = Future()
        # An expression of our own: pymilvus does not escape quotes in keys.
        chosen = f"{layout.primary.name} in {orjson.dumps(list(keys)).decode()}"
        try:
            with self._connection.translated():
                self._client.delete(layout.name, filter=chosen, timeout=self._seconds)
        except SegueError as fault:
            done.set_exception(fault)
        else:
            done.set_result(None)
        return done

    def index(self, layout: Layout) -> None:
        """See `Sink`. Seals what was written first: Milvus builds an index over sealed segments only."""
        with self._connection.translated():
            self._client.flush(layout.name, timeout=LONG_SECONDS)
            if self._index_name(layout.name, layout) is not None:
                return
            params = self._client.prepare_index_params()
            params.add_index(
                field_name=layout.vector.name,
                index_type=layout.index.kind,
                metric_type=layout.index.metric,
                params=dict(layout.index.params),
            )
            self._client.create_index(layout.name, params, sync=False, timeout=self._seconds)

    def index_progress(self, layout: Layout) -> IndexProgress:
        """See `Sink`."""
        with self._connection.translated():
            name = self._index_name(layout.name, layout)
            if name is None:
                return IndexProgress(0, 0, done=False)
            described = self._client.describe_index(layout.name, name, timeout=self._seconds)
        indexed, total = int(described.get("indexed_rows", 0)), int(described.get("total_rows", 0))
        finished = str(described.get("state", "Finished")) in ("Finished", "3") and not described.get("pending_index_rows", 0)
        return IndexProgress(indexed, total, done=finished)

    def load(self, layout: Layout) -> None:
        """See `Sink`."""
        with self._connection.translated():
            state = self._client.get_load_state(layout.name, timeout=self._seconds)
            if state["state"] != LoadState.Loaded:
                self._client.load_collection(layout.name, timeout=LONG_SECONDS)

    def reload(self, layout: Layout) -> None:
        """Release the collection and load it again; returns when it is loaded. Meanwhile nobody can search or read it."""
        with self._connection.translated():
            self._client.release_collection(layout.name, timeout=self._seconds)
            self._client.load_collection(layout.name, timeout=LONG_SECONDS)

    def keys(self, layout: Layout, after: Key | None, limit: int) -> list[Key]:
        """See `Sink`."""
        return MilvusRows(self._connection, layout).own(after, min(limit, PAGE_KEYS))

    def count(self, layout: Layout) -> int:
        """See `Sink`. Needs a loaded collection."""
        with self._connection.translated():
            found = self._client.query(
                layout.name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=self._seconds
            )
        return int(found[0]["count(*)"])

    def _upsert_rows(self, layout: Layout, rows: Rows) -> Ack:
        done: Future[None] = Future()
        try:
            with self._one_writer, self._connection.translated():
                self._client.upsert(layout.name, list(_as_dicts(layout, rows)), timeout=self._seconds)
        except SegueError as fault:
            done.set_exception(fault)
        else:
            done.set_result(None)
        return done

    def _find(self, name: str, layout: Layout) -> str | None:
        described = self._describe(name)
        if described is None:
            return None
        differences = [*_differences(described, layout), *self._index_differences(name, layout)]
        if differences:
            listed = "\n".join(f"  {difference}" for difference in differences)
            message = f"collection {name!r} exists in Milvus with another schema:\n{listed}"
            raise CollectionMismatch(
                message, hint="Choose another name in segue.toml, or drop the collection if nobody needs it."
            )
        return f"{described['collection_name']}#{described['collection_id']}"

    def _describe(self, name: str) -> dict[str, Any] | None:
        with self._connection.translated():
            if not self._client.has_collection(name, timeout=self._seconds):
                return None
            described: dict[str, Any] = self._client.describe_collection(name, timeout=self._seconds)
            return described

    def _index_differences(self, collection: str, layout: Layout) -> Iterator[str]:
        with self._connection.translated():
            name = self._index_name(collection, layout)
            described = self._client.describe_index(collection, name, timeout=self._seconds) if name else None
        metric = (described or {}).get("metric_type", layout.index.metric)
        if metric != layout.index.metric:
            yield f"the vector index measures by {metric}, should measure by {layout.index.metric}"

    def _index_name(self, collection: str, layout: Layout) -> str | None:
        names: list[str] = self._client.list_indexes(collection, field_name=layout.vector.name, timeout=self._seconds)
        return names[0] if names else None


class _Sent:
    """An upsert on its way through the channel."""

    def __init__(self, connection: MilvusConnection, future: grpc.Future[Any]) -> None:
        self._connection = connection
        self._future = future

    def result(self) -> None:
        with self._connection.translated():
            answer = self._future.result()
        # Old servers fill `error_code`, newer ones `code`; either may be the only one.
        code = answer.status.code or answer.status.error_code
        if code:
            raise self._connection.refusal(code, answer.status.reason)


def _schema(layout: Layout) -> CollectionSchema:
    fields = [_field_schema(field) for field in layout.fields]
    return CollectionSchema(fields, enable_dynamic_field=layout.dynamic, description=MADE_BY)


def _field_schema(field: Field) -> FieldSchema:
    options: dict[str, Any] = {}
    if field.type is FieldType.VARCHAR:
        options["max_length"] = field.size
    elif field.type is FieldType.FLOAT_VECTOR:
        options["dim"] = field.size
    return FieldSchema(field.name, DATA_TYPES[field.type], is_primary=field.primary, auto_id=False, **options)


def _differences(described: dict[str, Any], layout: Layout) -> Iterator[str]:
    """Yield, in words, what keeps an existing collection from taking the layout's rows."""
    existing = {field["name"]: field for field in described["fields"] if field["name"] != DYNAMIC}
    for field in layout.fields:
        there = existing.pop(field.name, None)
        if there is None:
            yield f"field {field.name} ({field.type.value}) is missing"
        else:
            yield from _field_differences(there, field)
    for name, there in existing.items():
        if not there.get("nullable") and there.get("default_value") is None:
            yield f"field {name} exists, must be given, and is none of Segue's"
    if bool(described.get("enable_dynamic_field")) != layout.dynamic:
        is_on, needed = ("off", "on") if layout.dynamic else ("on", "off")
        yield f"dynamic fields are {is_on}, the preset needs them {needed}"
    if described.get("auto_id"):
        yield "the primary key is made by Milvus (auto_id), so no row could be written twice safely"


def _field_differences(there: dict[str, Any], field: Field) -> Iterator[str]:
    params = there.get("params") or {}
    if int(there["type"]) != int(DATA_TYPES[field.type]):
        yield f"field {field.name} is {getattr(there['type'], 'name', there['type'])}, should be {field.type.value}"
    elif field.type is FieldType.FLOAT_VECTOR and int(params.get("dim", 0)) != field.size:
        yield f"field {field.name} has {params.get('dim')} dimensions, should have {field.size}"
    elif field.type is FieldType.VARCHAR and int(params.get("max_length", 0)) < field.size:
        yield f"field {field.name} takes {params.get('max_length')} bytes, should take {field.size}"
    if bool(there.get("is_primary")) != field.primary:
        yield f"field {field.name} {'is not' if field.primary else 'is'} the primary key"


def _as_dicts(layout: Layout, rows: Rows) -> Iterator[dict[str, Any]]:
    json_fields = {field.name for field in layout.fields if field.type is FieldType.JSON}
    for place, key in enumerate(rows.keys):
        row: dict[str, Any] = {layout.primary.name: key, layout.vector.name: rows.vectors[place]}
        for name, values in rows.columns.items():
            if name == DYNAMIC:
                row.update(orjson.loads(values[place]))
            else:
                row[name] = orjson.loads(values[place]) if name in json_fields else values[place]
        yield row
