"""What the sink's contract needs of a store beyond the port: another way to look into it, and layouts to fill."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from pymilvus import MilvusClient

from segue.model import (
    CarriedProperty,
    Field,
    FieldType,
    Key,
    KeyType,
    Layout,
    Metric,
    PropertyType,
    Rows,
    SourceSpec,
)
from segue.pipelines.layouts import DYNAMIC, Preset, make_layout
from segue.ports import Sink
from segue.stores.memory_store import MemorySink
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_store import MilvusSink

DIMENSION = 4

TYPED = (
    CarriedProperty("title", PropertyType.STRING),
    CarriedProperty("year", PropertyType.INTEGER),
    CarriedProperty("rating", PropertyType.FLOAT),
    CarriedProperty("seen", PropertyType.BOOLEAN),
)
LOOSE = (CarriedProperty("text", PropertyType.STRING), CarriedProperty("ref_doc_id", PropertyType.STRING))

KINDS: dict[str, tuple[Preset, KeyType, tuple[CarriedProperty, ...]]] = {
    "text": (Preset.SEGUE, KeyType.STRING, TYPED),
    "integer": (Preset.SEGUE, KeyType.INTEGER, TYPED),
    "langchain": (Preset.LANGCHAIN, KeyType.STRING, LOOSE),
    "llamaindex": (Preset.LLAMAINDEX, KeyType.STRING, LOOSE),
}
"""The layouts the contract is run on: both key types, and both that keep most of a row in dynamic keys."""


def layout_of(kind: str, name: str, metric: Metric = Metric.COSINE, dimension: int = DIMENSION) -> Layout:
    """Return one of the layouts, under a name."""
    preset, key_type, properties = KINDS[kind]
    spec = SourceSpec("ix", "Item", "id", key_type, "embedding", dimension, metric, properties)
    return make_layout(spec, name=name, preset=preset, m=16, ef_construction=200)


def rows_of(layout: Layout, keys: Sequence[Key], salt: int = 0, **columns: Sequence[Any]) -> Rows:
    """Return rows that fit a layout, different for each key and salt; `columns` replaces some of them."""
    vectors = np.random.default_rng(salt).normal(size=(len(keys), layout.vector.size)).astype("<f4")
    made: dict[str, Sequence[Any]] = {
        one.name: [_value(one, place, salt) for place in range(len(keys))]
        for one in (*layout.fields, *((Field(DYNAMIC, FieldType.JSON),) if layout.dynamic else ()))
        if not one.primary and one.type is not FieldType.FLOAT_VECTOR
    }
    return Rows(list(keys), vectors, made | columns)


def _value(one: Field, place: int, salt: int) -> Any:
    number = salt * 1_000 + place
    if one.type is FieldType.JSON:
        return orjson.dumps({"n": number, "segue_hash": -number}, option=orjson.OPT_SORT_KEYS)
    return {
        FieldType.VARCHAR: f"{one.name} {number}",
        FieldType.INT64: -number,
        FieldType.DOUBLE: number + 0.1,
        FieldType.BOOL: number % 2 == 0,
    }[one.type]


def as_read(layout: Layout, rows: Rows) -> dict[Key, dict[str, Any]]:
    """Return rows as a reader sees them: JSON as objects, dynamic keys beside the fields, vectors as bytes."""
    columns = {name: list(values) for name, values in rows.columns.items()}
    read: dict[Key, dict[str, Any]] = {}
    for place, key in enumerate(rows.keys):
        row = {layout.primary.name: key, layout.vector.name: rows.vectors[place].astype("<f4").tobytes()}
        read[key] = row | _opened({name: values[place] for name, values in columns.items()})
    return read


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    opened: dict[str, Any] = {name: orjson.loads(value) if isinstance(value, bytes) else value for name, value in row.items()}
    return opened | opened.pop(DYNAMIC, {})


class Place(Protocol):
    """A sink with a reader beside it.

    Attributes:
        sink: The sink.
        is_server: Whether loading takes seconds.
        counts_bytes: Whether it refuses values that are too long, or not finite, by itself.
        knows_its_collections: Whether a collection that was dropped and made again has another identity.
    """

    sink: Sink
    is_server: bool
    counts_bytes: bool
    knows_its_collections: bool

    def rows(self, layout: Layout) -> dict[Key, dict[str, Any]]:
        """Return every row of a loaded collection, as a reader sees it."""
        ...

    def drop(self, layout: Layout) -> None:
        """Drop the collection and its alias."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class MemoryPlace:
    """The sink in memory."""

    def __init__(self) -> None:
        self.memory = MemorySink()
        self.sink: Sink = self.memory
        self.is_server = False
        self.counts_bytes = self.knows_its_collections = True

    def rows(self, layout: Layout) -> dict[Key, dict[str, Any]]:
        """See `Place`."""
        vector = layout.vector.name
        return {
            key: _opened({name: value for name, value in row.items() if name != vector}) | {vector: row[vector]}
            for key, row in self.memory.rows(layout.name).items()
        }

    def drop(self, layout: Layout) -> None:
        """See `Place`."""
        self.memory.drop(layout.name)

    def close(self) -> None:
        """See `Place`."""


SCRATCH = f"scratch_{uuid.uuid4().hex[:8]}_"
"""What this process's collections are called, so that it takes away none of another's."""


class MilvusPlace:
    """A Milvus server or a Milvus Lite file, read through pymilvus alone."""

    def __init__(self, connection: MilvusConnection) -> None:
        self.connection = connection
        self.client: MilvusClient = connection.client
        self.sink: Sink = MilvusSink(connection)
        self.is_server = self.counts_bytes = self.knows_its_collections = not connection.lite

    def rows(self, layout: Layout) -> dict[Key, dict[str, Any]]:
        """See `Place`."""
        found = self.client.query(layout.name, filter="", output_fields=["*"], limit=16_000, consistency_level="Strong")
        vector = layout.vector.name
        return {row[layout.primary.name]: {**row, vector: np.array(row[vector], "<f4").tobytes()} for row in found}

    def drop(self, layout: Layout) -> None:
        """See `Place`."""
        if layout.aliased:
            self.client.drop_alias(layout.name)
        self.client.drop_collection(f"{layout.name}_v1" if layout.aliased else layout.name)

    def close(self) -> None:
        """See `Place`."""
        for name in self.client.list_collections():
            if name.startswith(SCRATCH):
                for alias in self.client.list_aliases(name)["aliases"]:
                    self.client.drop_alias(alias)
                self.client.drop_collection(name)
        self.connection.close()


def scratch() -> str:
    """Return a collection name that no other test uses."""
    return f"{SCRATCH}{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Filled:
    """A place with one loaded collection of each kind, made when one is first asked for; tests tell their rows by the keys."""

    place: Place
    made: dict[str, Layout]

    def layout(self, kind: str) -> Layout:
        """Return the layout of the loaded collection of that kind."""
        if not self.made:
            made = {kind: layout_of(kind, scratch()) for kind in KINDS}
            # A server takes seconds for each, and no longer for all.
            with ThreadPoolExecutor(len(made) if self.place.is_server else 1) as pool:
                list(pool.map(self._load, made.values()))
            self.made.update(made)
        return self.made[kind]

    def _load(self, layout: Layout) -> None:
        self.place.sink.create(layout)
        self.place.sink.index(layout)
        self.place.sink.load(layout)


Opened = Callable[[str], Filled]
"""Gives the place of a name, opened once a session."""
