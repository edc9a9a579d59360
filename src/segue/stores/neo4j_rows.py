"""How a node comes over the wire, and how it is decoded: the row's form in Cypher, and the page made of such rows.

Shared by whoever reads items. A vector travels as FLOAT32 where the server and the driver can, else as a list that is packed
as its record arrives. Runs no query.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from segue.model import Key, Page, Quarantined, Reason, SourceSpec
from segue.stores.cypher import query, quoted

try:
    from neo4j.vector import Vector
except ImportError:  # driver 5
    Vector = None  # type: ignore[assignment,misc]


def is_vector(value: object) -> bool:
    """Say whether the driver decoded a value as a vector, which driver 5 never does."""
    return Vector is not None and isinstance(value, Vector)


_MOST = "3.4028234663852886e38"
"""The largest float32; `<=` is false for NaN."""


def travelling(spec: SourceSpec) -> str:
    """Return the vector of `n` as FLOAT32, which Cypher 25 has; a vector that is none makes the query fail."""
    # The slice costs nothing and fails for text, which vector() would otherwise read as a list written out.
    return f"vector(n.{quoted(spec.vector)}[0..], {spec.dimension}, FLOAT32)"


def guarded(spec: SourceSpec, *, looking_closely: bool) -> str:
    """Return the vector of `n`, or what stands in its place when it is none: null, its length, or its type.

    Args:
        spec: Which property.
        looking_closely: Cypher 25: every element is looked at, and a good vector travels as FLOAT32.
    """
    vector = quoted(spec.vector)
    finite = f"WHEN all(x IN n.{vector} WHERE abs(x) <= {_MOST}) THEN {travelling(spec)}" if looking_closely else ""
    return query("guarded", vector=vector, dimension=str(spec.dimension), finite=finite)


def carried(spec: SourceSpec) -> str:
    """Return the carried properties of `n`, each behind a comma."""
    return "".join(f", n.{quoted(name)}" for name in spec.property_names)


class Decoded:
    """A page in the making: each vector is turned into bytes as its record arrives, while it is still in the cache."""

    def __init__(self, spec: SourceSpec) -> None:
        self._dimension = spec.dimension
        self._pack = struct.Struct(f">{spec.dimension}f").pack
        self._keys: list[Key] = []
        self._element_ids: list[str] = []
        self._raw: list[bytes] = []
        self._properties: list[Sequence[Any]] = []
        self._quarantined: list[Quarantined] = []
        self.seen = 0
        self.last: Key | None = None

    def add_all(self, rows: list[list[Any]], last: Key) -> None:
        """Take rows in: [key, elementId or null, vector or what stands in its place, properties…]."""
        for row in rows:
            key, element_id, vector = row[:3]
            raw = vector.raw() if type(vector) is Vector else self._bytes(vector)
            if type(raw) is bytes:
                self._keys.append(key)
                self._raw.append(raw)
                self._properties.append(row[3:])
                if element_id is not None:
                    self._element_ids.append(element_id)
            else:
                self._quarantined.append(Quarantined(element_id or "", key, *raw))
        if rows:
            self.last = last
        self.seen += len(rows)

    def _bytes(self, vector: Any) -> bytes | tuple[Reason, str]:
        """Return a list of numbers as big-endian float32, or why there is no vector."""
        if vector is None:
            return Reason.NO_EMBEDDING, "the vector property is missing"
        if isinstance(vector, int):
            return Reason.WRONG_DIMENSION, f"{vector:,} elements, the index has {self._dimension:,}"
        if isinstance(vector, str):
            return Reason.NOT_A_VECTOR, f"the vector property is a {vector}"
        if isinstance(vector, bytes):
            # Neo4j's vector index takes a byte array too, as signed numbers.
            vector = memoryview(vector).cast("b")
        try:
            return self._pack(*vector)
        except OverflowError:
            return Reason.NOT_FINITE, "an element is beyond float32"

    def drop(self, key: Key) -> None:
        """Forget the rows of a key."""
        kept = [place for place, one in enumerate(self._keys) if one != key]
        self._keys = [self._keys[place] for place in kept]
        self._element_ids = [self._element_ids[place] for place in kept]
        self._raw = [self._raw[place] for place in kept]
        self._properties = [self._properties[place] for place in kept]
        self._quarantined = [row for row in self._quarantined if row.key != key]

    def extend(self, other: Decoded) -> None:
        """Take in everything another page in the making has."""
        self._keys += other._keys
        self._element_ids += other._element_ids
        self._raw += other._raw
        self._properties += other._properties
        self._quarantined += other._quarantined

    def page(self, last: Key | None, *, exhausted: bool) -> Page:
        """Return the finished page."""
        matrix = np.frombuffer(b"".join(self._raw), dtype=">f4").reshape(len(self._raw), self._dimension)
        vectors = matrix.astype("<f4")
        return Page(self._keys, self._element_ids, vectors, self._properties, self._quarantined, last, exhausted)
