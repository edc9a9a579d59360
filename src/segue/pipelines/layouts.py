"""Collection layouts: what a Milvus collection looks like for whom it is made. Pure; knows no server.

Three presets. `segue`: a typed field for every property that has one type on every node, one JSON field for the rest.
`langchain` and `llamaindex`: the fields those libraries open by themselves, everything else dynamic; AUTOINDEX, because
their readers pass no `ef`; LlamaIndex sees no aliases, so there the collection itself bears the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from segue.errors import ConfigError
from segue.model import (
    CarriedProperty,
    Field,
    FieldType,
    KeyType,
    Layout,
    PropertyType,
    SourceSpec,
    VectorIndex,
)
from segue.pipelines.scores import MILVUS_METRIC

DYNAMIC = "$meta"
"""Milvus's own name for the column of dynamic keys."""

VERSION_FIELD = "segue_ver"
"""The token a row was written under; empty for a row that the backfill wrote."""

HASH_FIELD = "segue_hash"
"""A 64-bit hash of the vector and the properties the row was made from."""

KEY_BYTES = 512
TEXT_BYTES = 65_535
"""Milvus counts a VARCHAR's length in bytes of UTF-8, at most 65,535 (Milvus limits)."""

UNFINDABLE_KEY = 2**63 - 1
"""Milvus 2.3 stores a row under this key and finds it by search, but by no filter, so that it could never be deleted."""

JSON_BYTES = 65_536
"""The greatest JSON value Milvus takes (Milvus limits)."""

MAX_FIELDS = 64
MAX_NAME = 255

_SYSTEM_FIELDS = {"RowID", "Timestamp"}
"""Fields that every collection has unseen, in exactly this spelling."""

_FILTER_WORDS = {
    *("and", "or", "not", "in", "like", "exists", "true", "false", "null", "text_match", "phrase_match", "random_sample"),
    *("json_contains", "json_contains_all", "json_contains_any", "array_length"),
    *("array_contains", "array_contains_all", "array_contains_any"),
}
"""Words of Milvus's filter language, in any case; newer servers take none of them as a field's name."""

_LEGAL_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_TYPED = {
    PropertyType.STRING: FieldType.VARCHAR,
    PropertyType.INTEGER: FieldType.INT64,
    PropertyType.FLOAT: FieldType.DOUBLE,
    PropertyType.BOOLEAN: FieldType.BOOL,
}


class Preset(StrEnum):
    """For whom a collection is laid out."""

    SEGUE = "segue"
    LANGCHAIN = "langchain"
    LLAMAINDEX = "llamaindex"


def legal_name(name: str) -> str:
    """Return `name` made a legal Milvus name: letters, digits and underscores, not beginning with a digit."""
    legal = re.sub(r"[^A-Za-z0-9_]", "_", name)[:MAX_NAME]
    return legal if legal and not legal[0].isdigit() else f"_{legal}"[:MAX_NAME]


def make_layout(spec: SourceSpec, *, name: str, preset: Preset, m: int, ef_construction: int) -> Layout:
    """Lay out the collection that will hold the items of `spec` under `name`.

    Raises:
        ConfigError: The preset needs what the source does not have.
    """
    if preset is Preset.SEGUE:
        index = VectorIndex("HNSW", MILVUS_METRIC[spec.metric], {"M": m, "efConstruction": ef_construction})
        return Layout(name, tuple(_segue_fields(spec)), dynamic=False, json_field="properties", index=index)
    _require_text(spec, preset)
    index = VectorIndex("AUTOINDEX", MILVUS_METRIC[spec.metric])
    fields = _langchain_fields(spec) if preset is Preset.LANGCHAIN else _llamaindex_fields(spec)
    _require_free_names(spec, fields, preset)
    aliased = preset is not Preset.LLAMAINDEX
    return Layout(name, fields, dynamic=True, json_field=DYNAMIC, index=index, aliased=aliased)


def _segue_fields(spec: SourceSpec) -> Iterator[Field]:
    if spec.key_type is KeyType.INTEGER:
        yield Field("id", FieldType.INT64, primary=True, source=spec.key)
    else:
        yield Field("id", FieldType.VARCHAR, primary=True, size=KEY_BYTES, source=spec.key)
    yield Field("vector", FieldType.FLOAT_VECTOR, size=spec.dimension, source=spec.vector)
    own = (
        Field("properties", FieldType.JSON),
        Field(VERSION_FIELD, FieldType.VARCHAR, size=64),
        Field(HASH_FIELD, FieldType.INT64),
    )
    taken = {"id", "vector", *(field.name for field in own)}
    typed = [carried for carried in spec.properties if _fits_a_field(carried, taken)]
    for carried in typed[: MAX_FIELDS - len(taken)]:
        kind = _TYPED[carried.type]
        size = TEXT_BYTES if kind is FieldType.VARCHAR else 0
        yield Field(carried.name, kind, size=size, source=carried.name)
    yield from own


def _fits_a_field(carried: CarriedProperty, taken: set[str]) -> bool:
    name = carried.name
    legal = _LEGAL_FIELD.fullmatch(name) is not None and len(name) <= MAX_NAME
    spoken_for = name in taken or name in _SYSTEM_FIELDS or name.lower() in _FILTER_WORDS
    return carried.type in _TYPED and legal and not spoken_for


def _require_text(spec: SourceSpec, preset: Preset) -> None:
    faults = []
    if spec.key_type is not KeyType.STRING:
        faults.append(f"text keys, and {spec.key!r} holds integers")
    if "text" not in spec.property_names:
        faults.append("a carried property 'text'")
    if preset is Preset.LLAMAINDEX and "ref_doc_id" not in spec.property_names:
        faults.append("a carried property 'ref_doc_id', which LlamaIndex writes on every node")
    if faults:
        message = f"preset {preset.value!r} needs {' and '.join(faults)}"
        raise ConfigError(message, hint="Carry the property in segue.toml, or choose --preset segue.")


def _require_free_names(spec: SourceSpec, fields: tuple[Field, ...], preset: Preset) -> None:
    """Refuse properties whose dynamic key would be that of a field: Milvus takes no such row."""
    own = {
        field.name for field in fields if field.primary or field.name != field.source or field.type is FieldType.FLOAT_VECTOR
    }
    taken = own | {DYNAMIC, VERSION_FIELD, HASH_FIELD}
    if preset is Preset.LLAMAINDEX:
        taken.add("document_id")
    shared = sorted(taken.intersection(spec.property_names))
    if shared:
        message = f"preset {preset.value!r} has fields of its own with the names of carried properties: {', '.join(shared)}"
        raise ConfigError(message, hint="Leave them out in segue.toml, or choose --preset segue.")


def _langchain_fields(spec: SourceSpec) -> tuple[Field, ...]:
    return (
        Field("pk", FieldType.VARCHAR, primary=True, size=TEXT_BYTES, source=spec.key),
        Field("text", FieldType.VARCHAR, size=TEXT_BYTES, source="text"),
        Field("vector", FieldType.FLOAT_VECTOR, size=spec.dimension, source=spec.vector),
    )


def _llamaindex_fields(spec: SourceSpec) -> tuple[Field, ...]:
    return (
        Field("id", FieldType.VARCHAR, primary=True, size=TEXT_BYTES, source=spec.key),
        Field("doc_id", FieldType.VARCHAR, size=TEXT_BYTES, source="ref_doc_id"),
        Field("text", FieldType.VARCHAR, size=TEXT_BYTES, source="text"),
        Field("embedding", FieldType.FLOAT_VECTOR, size=spec.dimension, source=spec.vector),
    )
