"""The filter of a search: from the form an application gives, and what it means. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from segue.errors import InvalidInput
from segue.model import Condition, Filter, Operator, Scalar, SourceSpec

_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
}


def parse(form: Mapping[str, Any] | None, spec: SourceSpec) -> Filter:
    """Return the conditions of a form.

    Raises:
        InvalidInput: It names an unknown property or operator.
    """
    found = []
    known = [spec.key, *spec.property_names]
    for name, wanted in (form or {}).items():
        if name not in known:
            message = f"filter: {name!r} is no carried property"
            raise InvalidInput(message, hint=f"Carried: {', '.join(known)}")
        for word, value in wanted.items() if isinstance(wanted, Mapping) else [("=", wanted)]:
            found.append(Condition(name, Operator(word), tuple(value) if word == "in" else value))
    return tuple(found)


def matches(conditions: Filter, properties: Mapping[str, Any]) -> bool:
    """Say whether properties meet every condition."""
    return all(_meets(one, properties.get(one.property)) for one in conditions)


def _meets(one: Condition, value: Any) -> bool:
    if one.operator is Operator.CONTAINS:
        return isinstance(value, list) and any(_same_kind(member, one.value) and member == one.value for member in value)
    if isinstance(one.value, tuple):
        return any(_same_kind(value, member) and value == member for member in one.value)
    return _same_kind(value, one.value) and _COMPARE[one.operator](value, one.value)


def _same_kind(value: Any, other: Scalar) -> bool:
    return _kind(value) is not None and _kind(value) == _kind(other)


def _kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, (int, float)) else "text" if isinstance(value, str) else None
