"""Conditions in Cypher, all values bound."""

from __future__ import annotations

from typing import Any

from segue.model import Filter, Operator
from segue.stores.cypher import quoted

_WORDS = {Operator.NOT_EQUAL: "<>", Operator.IN: "IN"}


def condition(conditions: Filter, node: str = "node") -> tuple[str, dict[str, Any]]:
    """Return the condition and the parameters it names."""
    parts, values = [], {}
    for number, one in enumerate(conditions):
        name = f"f{number}"
        values[name] = list(one.value) if isinstance(one.value, tuple) else one.value
        place = f"{node}.{quoted(one.property)}"
        parts.append(
            f"${name} IN {place}"
            if one.operator is Operator.CONTAINS
            else f"{place} {_WORDS.get(one.operator, one.operator)} ${name}"
        )
    return " AND ".join(parts) or "true", values
