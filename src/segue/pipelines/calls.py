"""What an application may ask for: items to write, keys, a vector to search with, how many hits. Pure.

Everything is checked before anything is sent, so that a call that does not fit changes nothing. Refuses what neither store
could find again; does not judge properties beyond what Neo4j can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segue.errors import InvalidInput
from segue.model import Item, Key, KeyType, Metric, SourceSpec
from segue.pipelines.layouts import UNFINDABLE_KEY

MOST_HITS = 10_000
"""The most hits a search may ask for: Milvus takes 16,384, and the fence asks for some more than the caller."""

_INT64 = range(-(2**63), 2**63)
_INTEGER_KEYS = range(-(2**63), UNFINDABLE_KEY)
"""Those that Milvus finds again."""

_ONE_OF = (str, bytes, bytearray, bool, int, float)


def checked_items(items: Sequence[object], spec: SourceSpec, key_bytes: int) -> list[dict[str, Any]]:
    """Return items as rows {key, vector, properties}, in key order.

    Args:
        items: With distinct keys.
        spec: What the collection's items look like.
        key_bytes: The longest text key the sink takes, in bytes of UTF-8.

    Raises:
        InvalidInput: Naming the item and what is wrong with it.
    """
    rows = {}
    for place, item in enumerate(items):
        if not isinstance(item, Item):
            message = f"items[{place}] is a {type(item).__name__}"
            raise InvalidInput(message, hint="Give segue.Item(key=…, vector=…, properties={…}).")
        where = f"item {item.key!r}"
        key = checked_key(item.key, spec, key_bytes)
        if key in rows:
            message = f"{where} is there twice"
            raise InvalidInput(message, hint="Which of the two is meant cannot be told: write each key once a call.")
        vector = checked_vector(item.vector, spec, where)
        rows[key] = {"key": key, "vector": vector.tolist(), "properties": _checked_properties(item.properties, spec, where)}
    return [rows[key] for key in sorted(rows)]


def checked_keys(keys: Sequence[object], spec: SourceSpec, key_bytes: int) -> list[Key]:
    """Return distinct keys in order.

    Raises:
        InvalidInput: One of them is no key of this collection.
    """
    if isinstance(keys, (str, bytes)):
        message = f"the keys are the text {keys!r}"
        raise InvalidInput(message, hint="Give a list of keys.")
    return sorted({checked_key(key, spec, key_bytes) for key in keys})


def checked_key(key: object, spec: SourceSpec, key_bytes: int) -> Key:
    """Return a key of the collection.

    Raises:
        InvalidInput: It is of another type, or too long for the sink.
    """
    if spec.key_type is KeyType.INTEGER:
        if isinstance(key, int) and not isinstance(key, bool) and key in _INTEGER_KEYS:
            return key
        message = f"key {key!r} is no integer from -2**63 to 2**63 - 2, and the keys of :{spec.label}({spec.key}) are"
        raise InvalidInput(message)
    if not isinstance(key, str):
        message = f"key {key!r} is a {type(key).__name__}, and the keys of :{spec.label}({spec.key}) are text"
        raise InvalidInput(message)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        message = f"key {key!r} holds half a character, which UTF-8 cannot"
        raise InvalidInput(message) from None
    if size > key_bytes:
        message = f"key {key[:40]!r}… has {size:,} bytes, Milvus takes {key_bytes:,}"
        raise InvalidInput(message)
    return key


def checked_vector(vector: object, spec: SourceSpec, where: str) -> NDArray[np.float64]:
    """Return a vector of shape (dimension,), float64 as given, each element finite as float32 too.

    Raises:
        InvalidInput: It has another length, is not of numbers, not finite, or without a direction under cosine.
    """
    try:
        packed = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"{where}: the vector is no sequence of numbers"
        raise InvalidInput(message) from None
    if packed.ndim != 1 or len(packed) != spec.dimension:
        has = f"{len(packed):,} elements" if packed.ndim == 1 else f"the shape {packed.shape}"
        message = f"{where}: the vector has {has}, index {spec.index!r} has {spec.dimension:,} dimensions"
        raise InvalidInput(message, hint="Was it made by another embedding model?")
    with np.errstate(over="ignore"):
        narrow = packed.astype(np.float32)
    if not np.isfinite(narrow).all():
        place = int(np.flatnonzero(~np.isfinite(narrow))[0])
        message = f"{where}: element {place} of the vector is {packed[place]}, which is no finite float32"
        raise InvalidInput(message)
    if spec.metric is Metric.COSINE and not narrow.any():
        message = f"{where}: every element of the vector is zero, and cosine needs a direction"
        raise InvalidInput(message)
    return packed


def checked_k(k: object) -> int:
    """Return how many hits are wanted.

    Raises:
        InvalidInput: It is no number from 1 to MOST_HITS.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_HITS:
        message = f"k is {k!r}, and must be a whole number from 1 to {MOST_HITS:,}"
        raise InvalidInput(message)
    return k


def checked_wait(wait: object) -> float | None:
    """Return how many seconds a write may wait for Milvus.

    Raises:
        InvalidInput: It is negative or no number.
    """
    if wait is None:
        return None
    if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not wait >= 0:
        message = f"wait is {wait!r}, and must be a number of seconds, 0 or more"
        raise InvalidInput(message)
    return wait


def _checked_properties(properties: Mapping[Any, Any], spec: SourceSpec, where: str) -> dict[str, Any]:
    for name, value in properties.items():
        if name in (spec.key, spec.vector):
            message = f"{where}: property {name!r} is the {'key' if name == spec.key else 'vector'}, which is given by itself"
            raise InvalidInput(message)
        if not isinstance(name, str) or not name or "\0" in name:
            message = f"{where}: {name!r} cannot be the name of a property in Neo4j"
            raise InvalidInput(message)
        if not _can_be_stored(value):
            message = f"{where}: property {name!r} is a {type(value).__name__} that Neo4j cannot hold"
            raise InvalidInput(
                message, hint="Text, numbers, booleans, bytes, dates and times, points, or a list of one of these."
            )
    return dict(properties)


def _can_be_stored(value: object) -> bool:
    if isinstance(value, (list, tuple)) and not hasattr(value, "srid"):
        return all(member is not None and not isinstance(member, (list, dict)) and _can_be_stored(member) for member in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return value in _INT64
    # Dates, times, durations and points are the driver's to judge.
    return isinstance(value, _ONE_OF) or hasattr(value, "isoformat") or hasattr(value, "iso_format") or hasattr(value, "srid")
