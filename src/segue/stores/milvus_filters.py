"""Conditions in Milvus's filter language, all values and names quoted. `pipelines.filters.matches` says what they mean.

Milvus 2.3.5 means something else in places (held by `tests/contract`), and nothing here relies on it:

- On JSON, `!=` is also true of a member that is missing or of another kind; so it is said as `<` or `>`.
- A JSON float is compared with an integer, and a JSON integer with a float, after either is rounded to a double; so whole
  numbers go as integers, and one that no double equals is told from the doubles around it (`_in_json`).
- `in` over JSON takes no mixture of integers and floats; `json_contains` finds an integer among floats only as a float.
- An INT64 field is compared with no float and no text; -2**63 is no literal; no expression is always true by itself.

A Milvus Lite file has another parser: it refuses some of this, `in` over JSON for one, and Neo4j answers then; and to it True
is 1 where one JSON property holds booleans and numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from segue.model import Condition, FieldType, Filter, Layout, Operator, Scalar
from segue.pipelines.filters import EXACT, INT64, Compared, Kind, as_float, as_integer, kind_of

_KINDS = {
    FieldType.VARCHAR: Kind.TEXT,
    FieldType.INT64: Kind.NUMBER,
    FieldType.DOUBLE: Kind.NUMBER,
    FieldType.BOOL: Kind.BOOLEAN,
}
_WORDS = {Operator.EQUAL: "=="}
_DOWN = (Operator.LESS, Operator.AT_MOST)


def expression(conditions: Filter, layout: Layout) -> str:
    """Return the expression that a row's properties meet the conditions; empty when there are none.

    Args:
        conditions: As `pipelines.filters.parse` lets them through.
        layout: Where each property is: in a field of its own, or a member of the JSON column.
    """
    return " and ".join(f"({_one(one, layout)})" for one in conditions)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a property is; `never` is a condition that no row meets."""

    text: str
    type: FieldType
    never: str


def _one(one: Condition, layout: Layout) -> str:
    never = f"{layout.primary.name} in []"
    own = next((field for field in layout.fields if field.source == one.property), None)
    if own:
        place = _Place(own.name, own.type, never)
    else:
        place = _Place(f"{layout.json_field}[{_quoted(one.property)}]", FieldType.JSON, never)
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    kind = kind_of(values[0])
    if _KINDS.get(place.type, kind) is not kind or (one.operator is Operator.CONTAINS and own):
        return never
    if one.operator is Operator.CONTAINS:
        return f"json_contains({place.text}, {_member(values[0])})"
    if one.operator is Operator.IN:
        return _any(place, values)
    return _compared(place, one.operator, values[0])


def _quoted(text: str) -> str:
    """Return text as a literal; only JSON's escapes without surrogates are read back as what they were."""
    return orjson.dumps(text).decode()


def _member(value: Scalar) -> str:
    """Return a literal that is found in a JSON list, among integers and floats alike."""
    return repr(float(value)) if kind_of(value) is Kind.NUMBER else orjson.dumps(value).decode()


def _any(place: _Place, values: tuple[Scalar, ...]) -> str:
    """Say that one of the values is there: in one list what a list can hold, which is quicker, the rest one by one."""
    listed = [value for value in values if _can_be_listed(place, value)]
    literals = [str(int(value)) if place.type is FieldType.INT64 else _member(value) for value in listed]
    parts = [_compared(place, Operator.EQUAL, value) for value in values if not _can_be_listed(place, value)]
    return _or([*([f"{place.text} in [{', '.join(literals)}]"] if literals else []), *parts])


def _or(parts: list[str]) -> str:
    """Join many conditions as a tree that is not deep, which Milvus walks by recursion."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return f"({_or(parts[:half])}) or ({_or(parts[half:])})"


def _can_be_listed(place: _Place, value: Scalar) -> bool:
    if isinstance(value, (str, bool)):
        return isinstance(value, str)
    if place.type is FieldType.INT64:
        return value != INT64.start and as_integer(Operator.EQUAL, value) is not False
    return abs(value) < EXACT


def _compared(place: _Place, operator: Operator, value: Scalar) -> str:
    if isinstance(value, str):
        if operator is Operator.NOT_EQUAL and place.type is FieldType.JSON:
            return f"{place.text} < {_quoted(value)} or {place.text} > {_quoted(value)}"
        return f"{place.text} {_WORDS.get(operator, operator)} {_quoted(value)}"
    if isinstance(value, bool):
        return f"{place.text} == {'true' if value is (operator is Operator.EQUAL) else 'false'}"
    if place.type is FieldType.INT64:
        return _own_type(place, as_integer(operator, value))
    if place.type is FieldType.DOUBLE:
        return _own_type(place, as_float(operator, value))
    return _in_json(place, operator, value)


def _own_type(place: _Place, compared: Compared) -> str:
    if isinstance(compared, bool):
        return f"not ({place.never})" if compared else place.never
    operator, value = compared
    return f"{place.text} {_WORDS.get(operator, operator)} {_number(value)}"


def _in_json(place: _Place, operator: Operator, value: float) -> str:
    """Compare a member that is an integer in one row and a float in another.

    The literal of an integer that no double equals is, to a float, the double nearest to it. Such a float is the only thing
    that equals two different integers; so it can be told from the integer, and put on the side where it belongs.
    """
    if operator is Operator.NOT_EQUAL:
        return f"({_in_json(place, Operator.LESS, value)}) or ({_in_json(place, Operator.GREATER, value)})"
    literal, near = _number(value), float(value)
    word = _WORDS.get(operator, operator)
    if near == value:
        return f"{place.text} {word} {literal}"
    other = min(int(near), INT64.stop - 1)
    other -= other == value
    exactly = f"{place.text} == {literal} and {place.text} != {_number(other)}"
    if operator is Operator.EQUAL:
        return exactly
    parts = [f"{place.text} {word[0]} {literal}"]
    if (near < value) is (operator in _DOWN):
        parts.append(f"({place.text} == {literal} and {place.text} == {_number(other)})")
    if operator in (Operator.AT_MOST, Operator.AT_LEAST):
        parts.append(f"({exactly})")
    return " or ".join(parts)


def _number(value: float) -> str:
    whole = as_integer(Operator.EQUAL, value)
    if whole is False:
        return repr(value)
    return str(int(value)) if value != INT64.start else f"({INT64.start + 1} - 1)"
