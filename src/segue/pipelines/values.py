"""One Neo4j value ↔ its form in Milvus: dates as ISO 8601, points as GeoJSON-like objects, bytes as base64.

The drivers' value classes are known by what they can do, not by import, so that this stays pure and works across driver
versions. Nothing is rounded or cut; what has no faithful form is an error that names why.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import orjson


class UnfaithfulValueError(ValueError):
    """A value has no faithful form in the target."""


class NotFiniteError(UnfaithfulValueError):
    """A number is NaN or infinite, which JSON cannot hold."""


def iso_or_text(value: object) -> str | None:
    """Return text as it is and a date, time or duration in ISO 8601; None when `value` is neither."""
    if isinstance(value, str):
        return value
    iso_format = getattr(value, "iso_format", None) or getattr(value, "isoformat", None)
    return str(iso_format()) if iso_format is not None else None


def to_json(members: dict[str, Any]) -> bytes:
    """Return a JSON object with sorted keys, the same bytes for equal values.

    Dates, times and durations become ISO 8601 strings, points `{"srid": …, "coordinates": […]}`, bytes base64 strings.

    Raises:
        NotFiniteError: A number is NaN or infinite.
        UnfaithfulValueError: A value has no JSON form.
    """
    try:
        # Passing date-times through keeps them out of orjson's own, shorter form.
        packed = orjson.dumps(members, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as refusal:
        message = f"no JSON form: {refusal.__cause__ or refusal}"
        raise UnfaithfulValueError(message) from refusal
    # orjson writes NaN and infinities as null; Neo4j stores no nulls, so a null in the output is worth a look.
    if b"null" in packed and not all_finite(members):
        message = "a number that is not finite, which JSON cannot hold"
        raise NotFiniteError(message)
    return packed


def plain_properties(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return Neo4j's values by name as a reader of Milvus's row gets them; missing ones (None) are left out.

    What has no faithful form is never in Milvus, and stays as the driver gave it.
    """
    return {
        name: value if type(value) in _SAME else _as_read(value)
        for name, value in zip(names, values, strict=True)
        if value is not None
    }


_SAME = {str, int, float, bool}


def _as_read(value: Any) -> Any:
    if type(value) is list:
        return [one if type(one) in _SAME else _as_read(one) for one in value]
    try:
        return _plain(value)
    except TypeError:
        return value


def _plain(value: object) -> object:
    text = iso_or_text(value)
    if text is not None:
        return text
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    srid = getattr(value, "srid", None)
    if srid is not None and isinstance(value, tuple):
        return {"srid": srid, "coordinates": list(value)}
    message = f"a {type(value).__name__}"
    raise TypeError(message)


def all_finite(value: object) -> bool:
    """Say whether every number in a value is finite, keys of maps included."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(all_finite(one) for one in (*value.keys(), *value.values()))
    if isinstance(value, (list, tuple)):
        return all(all_finite(one) for one in value)
    return True
