"""Node → Milvus row: one page of the source in, encoded rows and quarantined rows out. Pure; no store, no config, no clock.

The one codec: whoever writes a row or compares one goes through here, so that two paths never encode the same node
differently. Vectors stay one float32 matrix; a vector's elements are never Python objects here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import xxhash

from segue.model import (
    Encoded,
    Field,
    FieldType,
    Key,
    Layout,
    Metric,
    Page,
    PropertyType,
    Quarantined,
    Reason,
    Rows,
    SourceSpec,
    Vectors,
)
from segue.pipelines.layouts import DYNAMIC, HASH_FIELD, JSON_BYTES, UNFINDABLE_KEY, VERSION_FIELD
from segue.pipelines.values import NotFiniteError, UnfaithfulValueError, iso_or_text, to_json

CODEC_VERSION = 1
"""Grows whenever the same node would encode to another row; a checkpoint of another codec is not continued."""

Fault = tuple[Reason, str]


class Codec:
    """Encodes pages of one source into rows of one layout. Holds no state between pages; usable from several threads.

    Args:
        spec: Which properties a page carries, in order.
        layout: The collection the rows are for.
    """

    def __init__(self, spec: SourceSpec, layout: Layout) -> None:
        self._cosine = spec.metric is Metric.COSINE
        self._primary = layout.primary
        self._names = spec.property_names
        place = {name: number for number, name in enumerate(self._names)}
        self._absent = len(self._names)
        self._typed = [
            (field, place.get(field.source, self._absent))
            for field in layout.fields
            if field.source is not None and not field.primary and field.type is not FieldType.FLOAT_VECTOR
        ]
        # In dynamic layouts a property that only fills a column of another name stays a dynamic key too.
        held = {field.source for field, _ in self._typed if not layout.dynamic or field.name == field.source}
        self._loose = [(name, place[name]) for name in self._names if name not in held]
        self._dynamic = layout.json_field == DYNAMIC
        self._json_field = layout.json_field
        self._document_id = self._dynamic and any(field.name == "doc_id" for field in layout.fields)

    def encode(self, page: Page, versions: Mapping[Key, str] = MappingProxyType({})) -> Encoded:
        """Encode a page; every row of it comes out either among the rows or among the quarantined, exactly once.

        Args:
            page: The items.
            versions: The tokens of the marks that the rows are written under, by key; a row without one gets none.
        """
        tokens = [versions.get(key, "") for key in page.keys]
        faults: dict[int, Fault] = {}
        self._check_keys(page.keys, faults)
        _check_vectors(page.vectors, faults, cosine=self._cosine)
        columns, loose = self._columns(page.properties, faults)
        hashes = _hashes(page, columns, loose)
        if self._dynamic:
            loose = self._with_own(loose, hashes, tokens)
            self._check_size(loose, faults)
            columns[DYNAMIC] = loose
        else:
            self._check_size(loose, faults)
            columns[self._json_field] = loose
            columns[VERSION_FIELD] = tokens
            columns[HASH_FIELD] = hashes
        return _split(page, columns, faults)

    def _check_keys(self, keys: Sequence[Key], faults: dict[int, Fault]) -> None:
        if len(set(keys)) != len(keys):
            shared = Counter(keys)
            for row, key in enumerate(keys):
                if shared[key] > 1:
                    faults[row] = (Reason.KEY_DUPLICATE, f"{shared[key]} nodes have this key")
        if self._primary.type is FieldType.VARCHAR:
            for row, detail in _too_long(keys, self._primary.size):
                faults.setdefault(row, (Reason.KEY_TOO_LONG, detail))
        elif UNFINDABLE_KEY in keys:
            detail = "2**63 - 1, under which Milvus keeps a row that no filter finds"
            for row in [row for row, key in enumerate(keys) if key == UNFINDABLE_KEY]:
                faults.setdefault(row, (Reason.KEY_TOO_LARGE, detail))

    def _columns(self, properties: Sequence[Sequence[Any]], faults: dict[int, Fault]) -> tuple[dict[str, Any], list[bytes]]:
        by_property: list[tuple[Any, ...]] = list(zip(*properties, strict=True)) if properties else [()] * self._absent
        by_property.append((None,) * len(properties))
        columns = {field.name: _column(field, by_property[place], faults) for field, place in self._typed}
        return columns, self._json(properties, faults)

    def _json(self, properties: Sequence[Sequence[Any]], faults: dict[int, Fault]) -> list[bytes]:
        packed = []
        for row, values in enumerate(properties):
            members = {name: values[place] for name, place in self._loose if values[place] is not None}
            if self._document_id and "ref_doc_id" in members:
                members["document_id"] = members["ref_doc_id"]
            try:
                packed.append(to_json(members) if members else b"{}")
            except UnfaithfulValueError as refusal:
                reason = Reason.VALUE_NOT_FINITE if isinstance(refusal, NotFiniteError) else Reason.VALUE_TYPE
                faults.setdefault(row, (reason, f"{_where(members)}: {refusal}"))
                packed.append(b"{}")
        return packed

    @staticmethod
    def _with_own(loose: list[bytes], hashes: list[int], tokens: list[str]) -> list[bytes]:
        """Add Segue's own members to objects of dynamic keys."""
        own = [
            b'"%s":%d,"%s":"%s"}' % (HASH_FIELD.encode(), value, VERSION_FIELD.encode(), token.encode())
            for value, token in zip(hashes, tokens, strict=True)
        ]
        return [b"{" + tail if body == b"{}" else body[:-1] + b"," + tail for body, tail in zip(loose, own, strict=True)]

    @staticmethod
    def _check_size(loose: list[bytes], faults: dict[int, Fault]) -> None:
        if loose and max(map(len, loose)) > JSON_BYTES:
            for row, packed in enumerate(loose):
                if len(packed) > JSON_BYTES:
                    detail = f"the JSON of the properties has {len(packed):,} bytes, Milvus takes {JSON_BYTES:,}"
                    faults.setdefault(row, (Reason.VALUE_TOO_LARGE, detail))


def _where(members: dict[str, Any]) -> str:
    names = [name for name, value in members.items() if _unfaithful(value)]
    return f"property {', '.join(names)}"


def _unfaithful(value: Any) -> bool:
    try:
        to_json({"": value})
    except UnfaithfulValueError:
        return True
    return False


def _too_long(texts: Sequence[Any], size: int) -> list[tuple[int, str]]:
    """Return the rows whose UTF-8 exceeds `size` bytes; a text needs at most four bytes a character."""
    if not texts or max(map(len, texts)) * 4 <= size:
        return []
    lengths = [len(text.encode()) for text in texts]
    return [(row, f"{length:,} bytes, the field takes {size:,}") for row, length in enumerate(lengths) if length > size]


def _check_vectors(vectors: Vectors, faults: dict[int, Fault], *, cosine: bool) -> None:
    """Find rows that are not finite, or, under cosine, have no direction, as float32 arithmetic sees them."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    suspicious = ~np.isfinite(squares) | (squares == 0.0 if cosine else False)
    for row in np.flatnonzero(suspicious):
        if not np.isfinite(vectors[row]).all():
            place = int(np.flatnonzero(~np.isfinite(vectors[row]))[0])
            faults.setdefault(int(row), (Reason.NOT_FINITE, f"element {place} is {vectors[row, place]} as float32"))
        elif squares[row] == 0.0:
            faults.setdefault(int(row), (Reason.ZERO_NORM, "the norm is zero in float32, cosine has no meaning"))
        else:
            faults.setdefault(int(row), (Reason.NOT_FINITE, "the squared norm is beyond float32"))


def _column(field: Field, values: Sequence[Any], faults: dict[int, Fault]) -> Sequence[Any]:
    """Return a column for a typed field; rows whose value does not fit get a fault and a placeholder."""
    if set(map(type, values)) != {_EXACT[field.type]}:
        values = [_fit(field, value, row, faults) for row, value in enumerate(values)]
    if field.type is FieldType.VARCHAR:
        for row, detail in _too_long(values, field.size):
            faults.setdefault(row, (Reason.VALUE_TOO_LARGE, f"property {field.source}: {detail}"))
    elif field.type is FieldType.DOUBLE:
        for row, value in enumerate(values):
            if not math.isfinite(value):
                faults.setdefault(row, (Reason.VALUE_NOT_FINITE, f"property {field.source} is {value}"))
    return values


def _fit(field: Field, value: Any, row: int, faults: dict[int, Fault]) -> Any:
    if value is None:
        faults.setdefault(row, (Reason.VALUE_MISSING, f"property {field.source} is missing, field {field.name} needs it"))
        return _EXACT[field.type]()
    if type(value) is _EXACT[field.type]:
        return value
    text = iso_or_text(value) if field.type is FieldType.VARCHAR else None
    if text is not None:
        return text
    detail = f"property {field.source} is a {type(value).__name__}, field {field.name} is {field.type.value}"
    faults.setdefault(row, (Reason.VALUE_TYPE, detail))
    return _EXACT[field.type]()


_EXACT: dict[FieldType, Callable[[], Any]] = {
    FieldType.VARCHAR: str,
    FieldType.INT64: int,
    FieldType.DOUBLE: float,
    FieldType.BOOL: bool,
}


def _hashes(page: Page, columns: dict[str, Any], loose: list[bytes]) -> list[int]:
    """Return a signed 64-bit hash a row over the vector's bytes and every carried value."""
    if not page.keys:
        return []
    stride = page.vectors.shape[1] * 4
    raw = page.vectors.data.cast("B")
    typed = [columns[name] for name in sorted(columns)]
    hashed = []
    for row, packed in enumerate(loose):
        # repr separates values and types; the chain of seeds separates the parts.
        head = repr([column[row] for column in typed]).encode() if typed else b""
        seed = xxhash.xxh3_64_intdigest(packed, xxhash.xxh3_64_intdigest(head))
        hashed.append(xxhash.xxh3_64_intdigest(raw[row * stride : (row + 1) * stride], seed))
    signed: list[int] = np.array(hashed, dtype=np.uint64).view(np.int64).tolist()
    return signed


def _split(page: Page, columns: dict[str, Any], faults: dict[int, Fault]) -> Encoded:
    if not faults:
        return Encoded(Rows(page.keys, page.vectors, columns), page.element_ids, page.quarantined)
    kept = [row for row in range(len(page.keys)) if row not in faults]
    quarantined = page.quarantined + [
        Quarantined(page.element_ids[row] if page.element_ids else "", page.keys[row], *faults[row]) for row in sorted(faults)
    ]
    columns = {name: [values[row] for row in kept] for name, values in columns.items()}
    rows = Rows([page.keys[row] for row in kept], np.ascontiguousarray(page.vectors[kept]), columns)
    element_ids = [page.element_ids[row] for row in kept] if page.element_ids else []
    return Encoded(rows, element_ids, quarantined)


def property_type(value_types: frozenset[str]) -> PropertyType:
    """Return the field type for a property whose distinct Neo4j value types are these.

    One type on every node gives a typed field; missing on some, several types, lists, points and the like give JSON.
    """
    if len(value_types) != 1:
        return PropertyType.JSON
    name = next(iter(value_types)).removesuffix(" NOT NULL")
    return _PROPERTY_TYPES.get(name, PropertyType.JSON)


_PROPERTY_TYPES = {
    "STRING": PropertyType.STRING,
    "INTEGER": PropertyType.INTEGER,
    "FLOAT": PropertyType.FLOAT,
    "BOOLEAN": PropertyType.BOOLEAN,
    "DATE": PropertyType.STRING,
    "ZONED DATETIME": PropertyType.STRING,
    "LOCAL DATETIME": PropertyType.STRING,
    "ZONED TIME": PropertyType.STRING,
    "LOCAL TIME": PropertyType.STRING,
    "DURATION": PropertyType.STRING,
}
