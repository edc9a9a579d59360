"""Under which conditions a copy is made: the properties' types as the data has them, and what a checkpoint is bound to.

Pure. A checkpoint is continued only under the conditions it was begun under; `differences` says in words what changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from segue.model import CarriedProperty, Layout, PropertyType, SourceSpec
from segue.pipelines.embeddings import CODEC_VERSION, property_type
from segue.ports import Census


def settled(spec: SourceSpec, census: Census) -> tuple[SourceSpec, list[str]]:
    """Return the spec as the data is, and what the operator should know about it.

    A property declared with a type of its own keeps it only if every node has it with exactly that type; otherwise it goes
    to the JSON field, where any value and its absence are faithful.
    """
    notes = []
    properties = []
    for carried in spec.properties:
        seen = census.types.get(carried.name, frozenset())
        fits = not seen or carried.type is PropertyType.JSON or property_type(seen) is carried.type
        properties.append(carried if fits else replace(carried, type=PropertyType.JSON))
        if not fits:
            notes.append(f"property {carried.name}: {_variety(seen)}; it goes to the JSON field")
    if census.total and not census.key_unique:
        notes.append(f"no uniqueness constraint on :{spec.label}({spec.key}): nodes that share a key are quarantined")
    if census.total and not census.key_indexed:
        statement = f"CREATE RANGE INDEX FOR (n:`{spec.label}`) ON (n.`{spec.key}`)"
        notes.append(
            f"no index on :{spec.label}({spec.key}): every page reads the whole label, one worker. Faster: {statement}"
        )
    return replace(spec, properties=tuple(properties), key_unique=census.key_unique), notes


def _variety(seen: frozenset[str]) -> str:
    types = sorted(name.removesuffix(" NOT NULL") for name in seen - {"NULL"})
    missing = " and is missing on some nodes" if "NULL" in seen else ""
    if not types:
        return "no node has it"
    return f"is {' on some nodes, '.join(types)}{' on others' if len(types) > 1 else ''}{missing}"


def conditions(
    spec: SourceSpec, settled_spec: SourceSpec, layout: Layout, *, source: str, tool_version: str, capture: str | None
) -> dict[str, Any]:
    """Return what a checkpoint is bound to, as plain JSON values.

    Args:
        spec: As configured: what a later command is compared by.
        settled_spec: As the data was when the run was planned: what a resume goes on with.
        layout: The collection's layout.
        source: The source database's identity.
        tool_version: Segue's version.
        capture: The token under which changes are captured, "static" when the operator states that nobody writes, else None.
    """
    return {
        "tool": {"version": tool_version, "codec": CODEC_VERSION},
        "database": source,
        "capture": capture,
        "source": _spec(spec),
        "layout": asdict(layout) | {"fields": None},
        "types": {carried.name: carried.type.value for carried in settled_spec.properties},
    }


def as_laid_out(spec: SourceSpec, field_names: Collection[str]) -> SourceSpec:
    """Return the spec with the types that an existing collection gives its properties: a field of their own, or JSON."""
    properties = tuple(
        carried if carried.name in field_names else replace(carried, type=PropertyType.JSON) for carried in spec.properties
    )
    return replace(spec, properties=properties)


def with_types(spec: SourceSpec, recorded: Mapping[str, Any], *, key_unique: bool) -> SourceSpec:
    """Return the spec with the types that a run was planned with."""
    types: Mapping[str, str] = recorded["types"]
    properties = tuple(
        CarriedProperty(carried.name, PropertyType(types.get(carried.name, carried.type))) for carried in spec.properties
    )
    return replace(spec, properties=properties, key_unique=key_unique)


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[str]:
    """Return, in words, every difference between the conditions of a record and those of now."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{name}: {_said(before, name)} then, {_said(after, name)} now"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _said(values: Mapping[str, Any], name: str) -> str:
    return "nothing" if values.get(name) is None else repr(values[name])


def _spec(spec: SourceSpec) -> dict[str, Any]:
    plain = asdict(spec) | {
        "key_type": spec.key_type.value,
        "metric": spec.metric.value,
        "properties": {carried.name: carried.type.value for carried in spec.properties},
    }
    # Whether a constraint guards the key changes how the source is read, not what is copied.
    return {name: value for name, value in plain.items() if name != "key_unique"}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
