"""Conditions in Milvus's filter language, all values quoted."""

from __future__ import annotations

import json

from segue.model import Condition, Filter, Layout, Operator


def expression(conditions: Filter, layout: Layout) -> str:
    """Return the expression."""
    return " and ".join(_one(one, layout) for one in conditions)


def _one(one: Condition, layout: Layout) -> str:
    own = next((field.name for field in layout.fields if field.source == one.property), None)
    place = own or f"{layout.json_field}[{json.dumps(one.property)}]"
    value = json.dumps(list(one.value) if isinstance(one.value, tuple) else one.value)
    if one.operator is Operator.CONTAINS:
        return f"json_contains({place}, {value})"
    return f"{place} {'==' if one.operator is Operator.EQUAL else one.operator} {value}"
