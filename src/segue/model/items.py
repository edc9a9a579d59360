"""The values that travel between the layers: keys, ranges, pages, rows, layouts. No behaviour beyond their own consistency.

Owns the words of the trade as types (item, key, range, cursor, quarantine). Knows no store, no config file, no terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = str | int
"""An item's business id: text or a 64-bit integer, never a mixture within one collection."""

Vectors = NDArray[np.float32]
"""Shape (rows, dimension), C-contiguous, little-endian float32: what Milvus stores of what Neo4j holds."""


class KeyType(StrEnum):
    """The one type the keys of a collection have."""

    STRING = "string"
    INTEGER = "integer"


class Metric(StrEnum):
    """How likeness is measured, in Neo4j's words; `dot` is for vectors compared by inner product."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    DOT = "dot"


class PropertyType(StrEnum):
    """What a carried property becomes in Milvus: a typed field, or a member of the one JSON field."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    JSON = "json"


class Reason(StrEnum):
    """Why a row cannot go as it is."""

    NO_EMBEDDING = "no_embedding"
    NOT_A_VECTOR = "not_a_vector"
    WRONG_DIMENSION = "wrong_dimension"
    NOT_FINITE = "not_finite"
    ZERO_NORM = "zero_norm"
    KEY_MISSING = "key_missing"
    KEY_TYPE = "key_type"
    KEY_DUPLICATE = "key_duplicate"
    KEY_TOO_LONG = "key_too_long"
    KEY_TOO_LARGE = "key_too_large"
    VALUE_MISSING = "value_missing"
    VALUE_TYPE = "value_type"
    VALUE_NOT_FINITE = "value_not_finite"
    VALUE_TOO_LARGE = "value_too_large"
    REFUSED_BY_SINK = "refused_by_sink"
    NOT_DECODABLE = "not_decodable"
    PICKLE = "pickle"
    NUL_CHARACTER = "nul_character"
    REDIS_TYPE = "redis_type"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that cannot be migrated as it is.

    Attributes:
        element_id: The node's elementId, so that a row without a usable key can be found too. Valid for looking the node
            up now, not an identity to keep (Neo4j reuses it after a delete).
        key: The business key, None when the node has none.
        reason: Why, from a fixed list.
        detail: The measured fact ("383 elements, the index has 384"); never a whole value.
    """

    element_id: str
    key: Key | None
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Range:
    """A half-open interval of keys (after, until], the unit of parallel work and of checkpointing.

    Attributes:
        number: Its place in the plan, from 0.
        after: Exclusive lower bound; None is unbounded.
        until: Inclusive upper bound; None is unbounded.
        planned: How many items the plan counted in it.
        keyed: False for the one range that holds the nodes whose key is missing or of another type; they are all
            quarantined, and have no order to resume in.
    """

    number: int
    after: Key | None
    until: Key | None
    planned: int
    keyed: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the source, decoded no further than into numbers.

    Attributes:
        keys: One a row.
        element_ids: One a row.
        vectors: Shape (rows, dimension) float32.
        properties: One sequence of Neo4j values a row, in the order of `SourceSpec.properties`; None where absent.
        quarantined: Rows that could not be decoded into a vector; they are in none of the columns above.
        last: The cursor after this page; None when the page has no keyed rows.
        exhausted: The range holds nothing after this page.
    """

    keys: list[Key]
    element_ids: list[str]
    vectors: Vectors
    properties: list[Sequence[Any]]
    quarantined: list[Quarantined]
    last: Key | None
    exhausted: bool

    def without(self, keys: Collection[Key]) -> Page:
        """Return the page less the rows under these keys, also of the quarantined ones."""
        if not keys:
            return self
        kept = [row for row, key in enumerate(self.keys) if key not in keys]
        return replace(
            self,
            keys=[self.keys[row] for row in kept],
            element_ids=[self.element_ids[row] for row in kept] if self.element_ids else [],
            vectors=np.ascontiguousarray(self.vectors[kept]),
            properties=[self.properties[row] for row in kept],
            quarantined=[row for row in self.quarantined if row.key not in keys],
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows, column by column, ready for the sink.

    Attributes:
        keys: The primary keys, distinct within the batch.
        vectors: Shape (rows, dimension) float32.
        columns: Milvus field name to one value a row: str, int, float, bool, or bytes holding a JSON object.
    """

    keys: list[Key]
    vectors: Vectors
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows from `start` up to `stop`, sharing the vectors' memory."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return Rows(self.keys[start:stop], self.vectors[start:stop], columns)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoded page came to: rows that can go, and rows that cannot."""

    rows: Rows
    element_ids: list[str]
    quarantined: list[Quarantined]


@dataclass(frozen=True, slots=True)
class CarriedProperty:
    """A node property that travels with the vector.

    Attributes:
        name: The property's name in Neo4j.
        type: The field it becomes; JSON for lists, points, properties that are missing on some nodes or differ in type.
    """

    name: str
    type: PropertyType


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Which nodes are items, and what of them travels."""

    index: str
    label: str
    key: str
    key_type: KeyType
    vector: str
    dimension: int
    metric: Metric
    properties: tuple[CarriedProperty, ...] = ()
    key_unique: bool = True

    @property
    def property_names(self) -> list[str]:
        """The carried properties' names, in the order of a page's columns."""
        return [carried.name for carried in self.properties]


class FieldType(StrEnum):
    """The Milvus types Segue writes."""

    VARCHAR = "VARCHAR"
    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    BOOL = "BOOL"
    JSON = "JSON"
    FLOAT_VECTOR = "FLOAT_VECTOR"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a Milvus collection.

    Attributes:
        name: Its name in Milvus.
        type: Its type.
        primary: Whether it is the primary key.
        size: VARCHAR: the greatest length in bytes of UTF-8; FLOAT_VECTOR: the dimension; otherwise 0.
        source: The Neo4j property it holds, None for what Segue adds.
    """

    name: str
    type: FieldType
    primary: bool = False
    size: int = 0
    source: str | None = None


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """The index the sink builds over the vectors, after the load."""

    kind: str
    metric: str
    params: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """A Milvus collection as Segue writes it.

    Attributes:
        name: What readers open: an alias, or the collection itself where `aliased` is false.
        fields: In order; exactly one primary, exactly one FLOAT_VECTOR.
        dynamic: Whether unnamed keys are allowed ("$meta").
        json_field: The JSON column that holds the properties without a field of their own: a field's name, or "$meta".
        index: What is built over the vectors.
        aliased: Whether `name` is an alias of a physical collection.
    """

    name: str
    fields: tuple[Field, ...]
    dynamic: bool
    json_field: str
    index: VectorIndex
    aliased: bool = True

    @property
    def primary(self) -> Field:
        """The primary key's field."""
        return next(item for item in self.fields if item.primary)

    @property
    def vector(self) -> Field:
        """The vector's field."""
        return next(item for item in self.fields if item.type is FieldType.FLOAT_VECTOR)


@dataclass(frozen=True, slots=True)
class Counts:
    """The account of invariant 4: source = migrated + quarantined + pending, always."""

    source: int
    migrated: int
    quarantined: int

    @property
    def pending(self) -> int:
        """What is neither migrated nor quarantined yet."""
        return self.source - self.migrated - self.quarantined

    def as_dict(self) -> dict[str, int]:
        """Return the four numbers by name, as every verb reports them."""
        return {
            "source": self.source,
            "migrated": self.migrated,
            "quarantined": self.quarantined,
            "pending": self.pending,
        }
