"""Source and sink in this process: the same contracts as the real stores, for tests, simulations and first tries.

Owns nothing that outlives the process. Holds the values the Neo4j driver would return, and refuses rows that Milvus would
refuse; knows no other store, and is as small as its contract (`tests/contract`) allows.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from neo4j.spatial import Point
from neo4j.time import Date, DateTime, Duration, Time
from numpy.typing import NDArray

from segue.errors import CollectionMismatch, DataError
from segue.model import Field, FieldType, Key, KeyType, Layout, Page, Quarantined, Range, Reason, Rows, SourceSpec
from segue.pipelines.layouts import DYNAMIC, JSON_BYTES
from segue.ports import Ack, Census, IndexProgress


@dataclass(frozen=True, slots=True)
class _Node:
    element_id: str
    label: str
    properties: dict[str, Any]


class MemorySource:
    """The `Source` over nodes in this process. Usable from several threads.

    Args:
        name: What `identity` returns.
    """

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self._numbers = itertools.count()
        self._nodes: dict[str, _Node] = {}
        self._indexed: set[tuple[str, str]] = set()
        self._unique: set[tuple[str, str]] = set()

    def create(self, label: str, properties: Mapping[str, Any]) -> str:
        """Add a node and return its elementId. A property that is None is not stored, as in Neo4j."""
        element_id = f"4:{self._name}:{next(self._numbers)}"
        stored = {name: value for name, value in properties.items() if value is not None}
        self._nodes[element_id] = _Node(element_id, label, stored)
        return element_id

    def delete(self, element_id: str) -> None:
        """Remove a node. Idempotent."""
        self._nodes.pop(element_id, None)

    def index(self, label: str, key: str) -> None:
        """Say that a range index covers a property. Idempotent."""
        self._indexed.add((label, key))

    def constrain(self, label: str, key: str) -> None:
        """Say that a uniqueness constraint, and so an index, guards a property; whoever creates nodes keeps it. Idempotent."""
        self._indexed.add((label, key))
        self._unique.add((label, key))

    def identity(self) -> str:
        """See `Source`."""
        return self._name

    def census(self, spec: SourceSpec) -> Census:
        """See `Source`."""
        nodes = self._under(spec.label)
        keys = [type(node.properties.get(spec.key)) for node in nodes]
        return Census(
            total=len(nodes),
            embedded=sum(spec.vector in node.properties for node in nodes),
            strings=keys.count(str),
            integers=keys.count(int),
            types={name: frozenset(_types_of(nodes, name, spec.key)) for name in spec.property_names},
            key_indexed=(spec.label, spec.key) in self._indexed,
            key_unique=(spec.label, spec.key) in self._unique,
        )

    def plan(self, spec: SourceSpec, items_per_range: int, census: Census) -> list[Range]:
        """See `Source`."""
        keys = [node.properties[spec.key] for node in self._keyed(spec)]
        ranges: list[Range] = []
        after: Key | None = None
        while census.key_indexed and len(keys) >= items_per_range:
            until = keys[items_per_range - 1]
            inside = sum(key <= until for key in keys)
            ranges.append(Range(len(ranges), after, until, inside))
            keys, after = keys[inside:], until
        ranges.append(Range(len(ranges), after, None, len(keys)))
        unkeyed = census.total - census.keyed(spec.key_type)
        if unkeyed:
            ranges.append(Range(len(ranges), None, None, unkeyed, keyed=False))
        return ranges

    def missing(self, spec: SourceSpec, keys: Sequence[Key]) -> list[Key]:
        """See `Source`."""
        wanted = _KEY_TYPES[spec.key_type]
        held = [node.properties.get(spec.key) for node in self._under(spec.label)]
        there = {key for key in held if type(key) is wanted}
        return [key for key in keys if key not in there]

    def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
        """See `Source`."""
        if not range_.keyed:
            return self._unkeyed(spec, after, limit)
        low = range_.after if after is None else after
        found = [node for node in self._keyed(spec) if _within(node.properties[spec.key], low, range_.until)]
        taken = found[:limit]
        last = taken[-1].properties[spec.key] if taken else None
        # Nodes that share the last key belong to the page too, so that a duplicate is always seen.
        ties = [node for node in found[limit:] if node.properties[spec.key] == last]
        return _page(spec, taken + ties, last, exhausted=len(taken) < limit)

    def _unkeyed(self, spec: SourceSpec, after: Key | None, limit: int) -> Page:
        wanted = _KEY_TYPES[spec.key_type]
        nodes = sorted(self._under(spec.label), key=lambda node: node.element_id)
        found = [
            node
            for node in nodes
            if type(node.properties.get(spec.key)) is not wanted and (after is None or node.element_id > str(after))
        ][:limit]
        quarantined = [_without_key(spec, node) for node in found]
        last = found[-1].element_id if found else None
        empty = np.empty((0, spec.dimension), np.float32)
        return Page([], [], empty, [], quarantined, last, exhausted=len(found) < limit)

    def _under(self, label: str) -> list[_Node]:
        return [node for node in list(self._nodes.values()) if node.label == label]

    def _keyed(self, spec: SourceSpec) -> list[_Node]:
        wanted = _KEY_TYPES[spec.key_type]
        nodes = [node for node in self._under(spec.label) if type(node.properties.get(spec.key)) is wanted]
        return sorted(nodes, key=lambda node: node.properties[spec.key])


_KEY_TYPES: dict[KeyType, Any] = {KeyType.STRING: str, KeyType.INTEGER: int}


def _within(key: Any, after: Key | None, until: Key | None) -> bool:
    return (after is None or key > after) and (until is None or key <= until)


def _without_key(spec: SourceSpec, node: _Node) -> Quarantined:
    key = node.properties.get(spec.key)
    if key is None:
        return Quarantined(node.element_id, None, Reason.KEY_MISSING, f"no property {spec.key}")
    detail = f"the key is a {value_type(key)}, the others are {spec.key_type.name}"
    return Quarantined(node.element_id, None, Reason.KEY_TYPE, detail)


def _page(spec: SourceSpec, nodes: Sequence[_Node], last: Key | None, *, exhausted: bool) -> Page:
    page = Page([], [], np.empty((0, spec.dimension), np.float32), [], [], last, exhausted)
    vectors = []
    for node in nodes:
        key, vector = node.properties[spec.key], _vector(node.properties.get(spec.vector), spec.dimension)
        # As with Neo4j: under a uniqueness constraint the key alone identifies the node.
        element_id = "" if spec.key_unique else node.element_id
        if isinstance(vector, tuple):
            page.quarantined.append(Quarantined(element_id, key, *vector))
            continue
        vectors.append(vector)
        page.keys.append(key)
        page.properties.append([node.properties.get(name) for name in spec.property_names])
        if element_id:
            page.element_ids.append(element_id)
    matrix = np.array(vectors, "<f4").reshape(len(vectors), spec.dimension)
    return Page(page.keys, page.element_ids, matrix, page.properties, page.quarantined, last, exhausted)


def _vector(value: Any, dimension: int) -> NDArray[np.float32] | tuple[Reason, str]:
    """Return a property as float32, or why it is no vector."""
    if value is None:
        return Reason.NO_EMBEDDING, "the vector property is missing"
    if isinstance(value, bytes):
        value = list(memoryview(value).cast("b"))
    if not isinstance(value, list) or not {type(element) for element in value} <= {int, float}:
        return Reason.NOT_A_VECTOR, f"the vector property is a {value_type(value)}"
    if len(value) != dimension:
        return Reason.WRONG_DIMENSION, f"{len(value):,} elements, the index has {dimension:,}"
    double = np.array(value, np.float64)
    with np.errstate(over="ignore"):
        single = double.astype("<f4")
    if (np.isinf(single) & np.isfinite(double)).any():
        return Reason.NOT_FINITE, "an element is beyond float32"
    return single


def _types_of(nodes: Sequence[_Node], name: str, key: str) -> Iterator[str]:
    for node in nodes:
        if name in node.properties or key in node.properties:
            yield value_type(node.properties.get(name))


def value_type(value: Any) -> str:
    """Return what Neo4j's `valueType` says of a stored value."""
    return "NULL" if value is None else f"{_kind(value)} NOT NULL"


def _kind(value: Any) -> str:
    if isinstance(value, bytes):
        return "LIST<INTEGER NOT NULL>"
    if isinstance(value, list):
        return f"LIST<{_kind(value[0])} NOT NULL>" if value else "LIST<NOTHING>"
    if isinstance(value, (DateTime, Time)):
        word = "DATETIME" if isinstance(value, DateTime) else "TIME"
        return f"LOCAL {word}" if value.tzinfo is None else f"ZONED {word}"
    return "POINT" if isinstance(value, Point) else _KINDS[type(value)]


_KINDS = {str: "STRING", bool: "BOOLEAN", int: "INTEGER", float: "FLOAT", Date: "DATE", Duration: "DURATION"}


@dataclass(slots=True)
class _Collection:
    identity: str
    layout: Layout
    rows: dict[Key, dict[str, Any]] = field(default_factory=dict)
    indexed: bool = False


class MemorySink:
    """The `Sink` over rows in this process; each upsert takes effect at once and whole. Usable from several threads."""

    def __init__(self) -> None:
        self._collections: dict[str, _Collection] = {}
        self._aliases: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()

    def rows(self, name: str) -> Mapping[Key, Mapping[str, Any]]:
        """Return a copy of a collection's rows by key: field name to value, vectors as little-endian float32 bytes."""
        with self._mutex:
            return dict(self._open(name).rows)

    def drop(self, name: str) -> None:
        """Drop the collection that a name or alias leads to, and the alias with it. Idempotent."""
        with self._mutex:
            self._collections.pop(self._aliases.pop(name, name), None)

    def field_names(self, name: str) -> frozenset[str] | None:
        """See `Sink`."""
        with self._mutex:
            collection = self._collections.get(self._aliases.get(name, name))
            return frozenset(field.name for field in collection.layout.fields) if collection else None

    def find(self, layout: Layout) -> str | None:
        """See `Sink`."""
        return self._find(self._aliases.get(layout.name, layout.name), layout)

    def create(self, layout: Layout) -> str:
        """See `Sink`."""
        with self._mutex:
            if found := self.find(layout):
                return found
            physical = f"{layout.name}_v1" if layout.aliased else layout.name
            identity = self._find(physical, layout)
            if identity is None:
                identity = f"{physical}#{next(self._numbers)}"
                self._collections[physical] = _Collection(identity, layout)
            if layout.aliased:
                self._aliases[layout.name] = physical
            return identity

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
        """See `Sink`."""
        done: Future[None] = Future()
        with self._mutex:
            collection = self._open(layout.name)
            faults = list(_faults(collection.layout, rows))
            if faults:
                done.set_exception(DataError(f"memory refuses the request: {faults[0]}"))
            else:
                collection.rows.update(_as_stored(collection.layout, rows))
                done.set_result(None)
        return done

    def delete(self, layout: Layout, keys: Sequence[Key]) -> Ack:
        """See `Sink`."""
        done: Future[None] = Future()
        with self._mutex:
            for key in keys:
                self._open(layout.name).rows.pop(key, None)
        done.set_result(None)
        return done

    def index(self, layout: Layout) -> None:
        """See `Sink`."""
        self._open(layout.name).indexed = True

    def index_progress(self, layout: Layout) -> IndexProgress:
        """See `Sink`."""
        collection = self._open(layout.name)
        rows = len(collection.rows) if collection.indexed else 0
        return IndexProgress(rows, rows, done=collection.indexed)

    def load(self, layout: Layout) -> None:
        """See `Sink`."""
        if not self._open(layout.name).indexed:
            message = f"memory refuses the request: {layout.name!r} has no index to load"
            raise DataError(message)

    def keys(self, layout: Layout, after: Key | None, limit: int) -> list[Key]:
        """See `Sink`."""
        with self._mutex:
            keys = sorted(self._open(layout.name).rows)
        return [key for key in keys if after is None or key > after][:limit]  # type: ignore[operator]

    def count(self, layout: Layout) -> int:
        """See `Sink`."""
        return len(self._open(layout.name).rows)

    def _open(self, name: str) -> _Collection:
        collection = self._collections.get(self._aliases.get(name, name))
        if collection is None:
            message = f"memory has no collection {name!r}"
            raise DataError(message)
        return collection

    def _find(self, physical: str, layout: Layout) -> str | None:
        collection = self._collections.get(physical)
        if collection is None:
            return None
        differences = list(_differences(collection.layout, layout))
        if differences:
            listed = "\n".join(f"  {difference}" for difference in differences)
            message = f"collection {physical!r} exists in memory with another schema:\n{listed}"
            raise CollectionMismatch(message, hint="Choose another name, or drop the collection.")
        return collection.identity


def _differences(there: Layout, wanted: Layout) -> Iterator[str]:
    existing = {one.name: one for one in there.fields}
    for one in wanted.fields:
        other = existing.pop(one.name, None)
        if other is None:
            yield f"field {one.name} ({one.type.value}) is missing"
        elif other.type is not one.type:
            yield f"field {one.name} is {other.type.value}, should be {one.type.value}"
        elif other.size < one.size or (one.type is FieldType.FLOAT_VECTOR and other.size != one.size):
            yield f"field {one.name} has size {other.size}, should have {one.size}"
        if other is not None and other.primary != one.primary:
            yield f"field {one.name} {'is' if other.primary else 'is not'} the primary key"
    for name in existing:
        yield f"field {name} exists, must be given, and is none of Segue's"
    if there.dynamic != wanted.dynamic:
        yield f"dynamic fields are {'on' if there.dynamic else 'off'}"
    if there.index.metric != wanted.index.metric:
        yield f"the vector index measures by {there.index.metric}, should measure by {wanted.index.metric}"


def _faults(layout: Layout, rows: Rows) -> Iterator[str]:
    if rows.vectors.shape != (len(rows), layout.vector.size):
        yield f"vectors of shape {rows.vectors.shape}, should be {(len(rows), layout.vector.size)}"
    elif not np.isfinite(rows.vectors).all():
        yield "a vector's element is not finite"
    for one, values in _columns(layout, rows):
        if values is None or len(values) != len(rows):
            yield f"field {one.name} is missing for some rows"
            continue
        for value in values:
            if not _fits(one, value):
                yield f"field {one.name} takes no such {type(value).__name__}, or none as long"


def _columns(layout: Layout, rows: Rows) -> Iterator[tuple[Field, Sequence[Any] | None]]:
    """Yield every column but the vectors', the dynamic one as a JSON field of its name."""
    dynamic = (Field(DYNAMIC, FieldType.JSON),) if layout.dynamic else ()
    for one in (*layout.fields, *dynamic):
        if one.type is not FieldType.FLOAT_VECTOR:
            yield one, rows.keys if one.primary else rows.columns.get(one.name)


def _fits(one: Field, value: Any) -> bool:
    if type(value) is not _EXACT[one.type]:
        return False
    if one.type is FieldType.VARCHAR:
        return bool(len(value.encode()) <= one.size)
    if one.type is FieldType.INT64:
        return bool(-(2**63) <= value < 2**63)
    if one.type is FieldType.JSON:
        return len(value) <= JSON_BYTES and isinstance(_parsed(value), dict)
    return one.type is not FieldType.DOUBLE or bool(np.isfinite(value))


_EXACT: dict[FieldType, Any] = {
    FieldType.VARCHAR: str,
    FieldType.INT64: int,
    FieldType.DOUBLE: float,
    FieldType.BOOL: bool,
    FieldType.JSON: bytes,
}


def _parsed(packed: bytes) -> Any:
    try:
        return orjson.loads(packed)
    except orjson.JSONDecodeError:
        return None


def _as_stored(layout: Layout, rows: Rows) -> Iterator[tuple[Key, dict[str, Any]]]:
    columns = {one.name: values for one, values in _columns(layout, rows) if values is not None}
    for place, key in enumerate(rows.keys):
        row = {name: values[place] for name, values in columns.items()}
        yield key, row | {layout.vector.name: rows.vectors[place].astype("<f4").tobytes()}
