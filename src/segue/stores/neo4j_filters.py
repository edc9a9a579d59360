"""Conditions in Cypher, all values bound, all names quoted. `pipelines.filters.matches` says what they mean.

Cypher by itself means something else in places (held by `tests/contract`): `<>` is true of values of different kinds, so the
kind is asked first; an integer and a float beyond 2**53 are compared roughly, so each is compared with a value of its own type;
-0.0 is less than 0.0; a date compares with no text, so it is written out (`text_form.cypher`) as it travels to Milvus.

Not caught: Cypher takes bytes for a list of integers, which in Milvus are base64 text; do not filter by them. A named time
zone's offset of odd seconds, before 1900 or so, is rounded by the driver and cut here.
"""

from __future__ import annotations

from typing import Any

from segue.model import Condition, Filter, Operator, Scalar
from segue.pipelines.filters import Compared, Kind, as_float, as_integer, kind_of
from segue.stores.cypher import query, quoted

_WORDS = {Operator.NOT_EQUAL: "<>", Operator.IN: "IN"}


def condition(conditions: Filter, node: str = "node") -> tuple[str, dict[str, Any]]:
    """Return the condition that a node meets the conditions, and the parameters it names: `filter0`, `filter1` and so on.

    Args:
        conditions: As `pipelines.filters.parse` lets them through.
        node: The node's variable.
    """
    values: dict[str, Any] = {}
    parts = [_one(one, f"{node}.{quoted(one.property)}", values) for one in conditions]
    return " AND ".join(f"({part})" for part in parts) or "true", values


def _one(one: Condition, place: str, values: dict[str, Any]) -> str:
    if one.operator is not Operator.CONTAINS:
        return _compared(place, one.operator, one.value, values)
    # Only of a list can `any` be asked.
    members = f"CASE WHEN {place} IS :: LIST<ANY> NOT NULL THEN {place} ELSE [] END"
    return f"any(member IN {members} WHERE {_compared('member', Operator.EQUAL, one.value, values)})"


def _compared(place: str, operator: Operator, value: Scalar | tuple[Scalar, ...], values: dict[str, Any]) -> str:
    word = _WORDS.get(operator, operator)
    bound = list(value) if isinstance(value, tuple) else value
    kind = kind_of(bound[0] if isinstance(bound, list) else bound)
    if kind is Kind.TEXT:
        return f"{query('text_form', value=place)} {word} {_bound(bound, values)}"
    if kind is Kind.BOOLEAN:
        return f"{place} IS :: BOOLEAN NOT NULL AND {place} {word} {_bound(bound, values)}"
    if isinstance(bound, list):
        integers = [int(one) for one in bound if as_integer(Operator.EQUAL, one) is not False]
        floats = [float(one) for one in bound if as_float(Operator.EQUAL, one) is not False]
        return _typed(place, (Operator.IN, integers), (Operator.IN, floats), values)
    return _typed(place, as_integer(operator, bound), as_float(operator, bound), values)


def _typed(place: str, integer: Any, float_: Any, values: dict[str, Any]) -> str:
    return f"({_of_type(place, 'INTEGER', integer, values)}) OR ({_of_type(place, 'FLOAT', float_, values)})"


def _of_type(place: str, cypher_type: str, compared: Compared | tuple[Operator, list[Any]], values: dict[str, Any]) -> str:
    typed = f"{place} IS :: {cypher_type} NOT NULL"
    if isinstance(compared, bool):
        return typed if compared else "false"
    operator, value = compared
    if value == 0:
        # To Cypher -0.0 equals 0.0, and yet is less.
        value = -0.0 if cypher_type == "FLOAT" and operator in (Operator.LESS, Operator.AT_LEAST) else abs(value)
    return f"{typed} AND {place} {_WORDS.get(operator, operator)} {_bound(value, values)}"


def _bound(value: Any, values: dict[str, Any]) -> str:
    name = f"filter{len(values)}"
    values[name] = value
    return f"${name}"
