"""The filter of a search: from the form an application gives, and what it means. Pure.

`matches` is the meaning; what a store is asked (`neo4j_filters`, `milvus_filters`) means the same, or `parse` refuses it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from segue.errors import InvalidInput
from segue.model import Condition, Filter, KeyType, Operator, PropertyType, Scalar, SourceSpec

INT64 = range(-(2**63), 2**63)
"""The integers the stores hold."""

EXACT = 2**53
"""Below it, no other integer is taken for a whole number when it is rounded to a float."""


class Kind(StrEnum):
    """What can be compared with each other; values of different kinds meet no condition."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"


_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
}
_ORDER = (Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST)

_DECLARED: dict[PropertyType | KeyType, Kind] = {
    PropertyType.STRING: Kind.TEXT,
    PropertyType.INTEGER: Kind.NUMBER,
    PropertyType.FLOAT: Kind.NUMBER,
    PropertyType.BOOLEAN: Kind.BOOLEAN,
    KeyType.STRING: Kind.TEXT,
    KeyType.INTEGER: Kind.NUMBER,
}

_SHAPE = 'Write {"year": 1979}, {"year": {">=": 1970, "<": 1980}}, {"country": {"in": ["US", "FR"]}}.'
_SCALAR = "Compare with text, a finite number, True or False; for several values write {…: {'in': […]}}."


def parse(form: object, spec: SourceSpec) -> Filter:
    """Return the conditions of a form, which must all hold; None and {} are none.

    Raises:
        InvalidInput: The form names an unknown property or operator, or compares with a value that nothing can equal, or that
            the stores cannot be asked alike.
    """
    if form is None:
        return ()
    if not isinstance(form, Mapping):
        message = f"the filter is a {type(form).__name__}"
        raise InvalidInput(message, hint=_SHAPE)
    declared: dict[str, PropertyType | KeyType] = {one.name: one.type for one in spec.properties}
    declared |= {spec.key: spec.key_type}
    found = []
    for name, wanted in form.items():
        if name not in declared:
            message = f"filter: {name!r} is no carried property"
            raise InvalidInput(message, hint=f"These are: {', '.join(sorted(declared))}.")
        comparisons = wanted if isinstance(wanted, Mapping) else {Operator.EQUAL: wanted}
        if not comparisons:
            message = f"filter: {name!r} is compared with nothing"
            raise InvalidInput(message, hint=_SHAPE)
        found += [_condition(name, declared[name], word, value) for word, value in comparisons.items()]
    return tuple(found)


def matches(conditions: Filter, properties: Mapping[str, Any]) -> bool:
    """Say whether properties meet every condition.

    Numbers compare by value, whether integer or float, text by code point. A missing property meets no condition, nor does
    one of another kind than the value, also not `!=`.

    Args:
        conditions: What must hold.
        properties: As a reader of Milvus's row gets them (`plain_properties`), and the key.
    """
    return all(_meets(one, properties.get(one.property)) for one in conditions)


def kind_of(value: object) -> Kind | None:
    """Return the kind of a value, None for what no filter compares with."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    return Kind.NUMBER if isinstance(value, (int, float)) else Kind.TEXT if isinstance(value, str) else None


Compared = tuple[Operator, int | float] | bool
"""A comparison with a value of the property's own type, or its outcome where no such value makes a difference."""


def as_integer(how: Operator, value: Any) -> Compared:
    """Return what comparing a 64-bit integer with a number, both exactly, comes to among integers."""
    whole = math.floor(value)
    if whole == value and whole in INT64:
        return how, whole
    if how in (Operator.EQUAL, Operator.NOT_EQUAL):
        return how is Operator.NOT_EQUAL
    less = how in (Operator.LESS, Operator.AT_MOST)
    if whole not in INT64:
        return less is (value > 0)
    return (Operator.AT_MOST, whole) if less else (Operator.GREATER, whole)


def as_float(how: Operator, value: Any) -> Compared:
    """Return what comparing a float with a number, both exactly, comes to among floats."""
    near = float(value)
    if near == value:
        return how, near
    if how in (Operator.EQUAL, Operator.NOT_EQUAL):
        return how is Operator.NOT_EQUAL
    if how in (Operator.LESS, Operator.AT_MOST):
        return (Operator.LESS if near > value else Operator.AT_MOST), near
    return (Operator.GREATER if near < value else Operator.AT_LEAST), near


def _condition(name: str, declared: PropertyType | KeyType, word: Any, value: object) -> Condition:
    try:
        how = Operator(word)
    except ValueError:
        message = f"filter: {name!r} is compared by {word!r}, which is no operator"
        raise InvalidInput(message, hint=f"These are: {' '.join(Operator)}.") from None
    where = f"filter: {name!r} {how}"
    checked = _several(value, where) if how is Operator.IN else _scalar(value, where)
    kind = kind_of(checked[0] if isinstance(checked, tuple) else checked)
    held = _DECLARED.get(declared)
    if how is Operator.CONTAINS:
        _check_contained(checked, held, where)
    elif held not in (None, kind):
        message = f"{where} {value!r}: a {kind}, and the property holds {declared}s, so nothing would ever be found"
        raise InvalidInput(message, hint=f"Compare with a {held}.")
    if how in _ORDER:
        _check_ordered(checked, kind, where)
    return Condition(name, how, checked)


def _several(values: object, where: str) -> tuple[Scalar, ...]:
    if not isinstance(values, (list, tuple, set, frozenset)) or not values:
        message = f"{where} {values!r}: no list of values, or an empty one"
        raise InvalidInput(message, hint="Give the values to choose from, one at least: {'in': ['US', 'FR']}.")
    checked = tuple(_scalar(value, where) for value in values)
    kinds = sorted({str(kind_of(value)) for value in checked})
    if len(kinds) > 1:
        message = f"{where} {values!r}: a mixture of {' and '.join(kinds)}"
        raise InvalidInput(message, hint="Give values of one kind.")
    return checked


def _scalar(value: object, where: str) -> Scalar:
    """Return a value as exactly text, integer, float or boolean, without what a subclass may add to it."""
    if isinstance(value, str):
        return _text(str.__str__(value), where)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value not in INT64:
            message = f"{where} {value}: no 64-bit integer, and the stores hold no other"
            raise InvalidInput(message, hint="Give a number from -2**63 to 2**63 - 1.")
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        if value == INT64.stop:
            message = f"{where} {value!r}: 2**63 exactly, which the stores cannot tell from the largest integer"
            raise InvalidInput(message, hint="Give a smaller or a larger number.")
        return float(value)
    message = f"{where} {value!r}: a value that no property is compared with"
    raise InvalidInput(message, hint=_SCALAR)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{where} {value!r}: text with half a character, which UTF-8 cannot hold"
        raise InvalidInput(message, hint="Give text as it was before it was cut.") from None
    return value


def _check_contained(value: Scalar | tuple[Scalar, ...], held: Kind | None, where: str) -> None:
    if held is not None:
        message = f"{where} {value!r}: the property holds no lists, but a {held}"
        raise InvalidInput(message, hint="Compare with = or in.")
    if isinstance(value, (int, float)) and abs(value) >= EXACT:
        message = f"{where} {value!r}: Milvus tells numbers of 2**53 and more in lists from others only roughly"
        raise InvalidInput(message, hint="Give a smaller number, or keep such numbers as text.")


def _check_ordered(value: Scalar | tuple[Scalar, ...], kind: Kind | None, where: str) -> None:
    if kind is Kind.BOOLEAN:
        message = f"{where} {value!r}: True and False have no order"
        raise InvalidInput(message, hint="Compare with = or !=.")
    if isinstance(value, str) and any(char >= "\ue000" for char in value):
        # Neo4j compares UTF-16 units, Milvus bytes of UTF-8; with text of lower characters alone any text compares alike.
        message = f"{where} {value!r}: characters from U+E000 on, such as emoji, which the stores put in different orders"
        raise InvalidInput(message, hint="Give text without such characters as a bound, or compare with = or in.")


def _meets(one: Condition, value: Any) -> bool:
    if one.operator is Operator.CONTAINS:
        return isinstance(value, list) and any(_same_kind(member, one.value) and member == one.value for member in value)
    if isinstance(one.value, tuple):
        return any(_same_kind(value, member) and value == member for member in one.value)
    return _same_kind(value, one.value) and _COMPARE[one.operator](value, one.value)


def _same_kind(value: Any, other: object) -> bool:
    return kind_of(value) is not None and kind_of(value) is kind_of(other)
