"""How a range of keys is said in Cypher; owns what Neo4j's order of keys has of traps. Runs no query.

Neo4j sorts text by code point: in ORDER BY, in max(), in an index. But it compares text by UTF-16 unit in every `>` and `<=`
that an index does not answer, and also when it looks whether the two bounds of an index seek leave anything between them
(seen in 5.26.12 and 2026.08.1, held by `tests/contract`). The orders differ where one of two keys has a character beyond
U+FFFF, such as an emoji, and the other has one of U+E000 to U+FFFF in its place, such as full-width punctuation: a page
read across them would miss keys in silence. Text without any of these characters, called plain here, compares alike in
both orders with every other text.
"""

from __future__ import annotations

import re
from typing import Any

from segue.model import Key, KeyType
from segue.stores.cypher import quoted

CYPHER_TYPE = {KeyType.STRING: "STRING", KeyType.INTEGER: "INTEGER"}

_LOWEST: dict[KeyType, Key] = {KeyType.STRING: "", KeyType.INTEGER: -(2**63)}

_HIGH = "\ue000"
_FIRST_OF_TWO_UNITS = "\U00010000"
_NOT_PLAIN = re.compile("[\ue000-\U0010ffff]")
_PLAIN_IN_JAVA = r"[^\x{E000}-\x{10FFFF}]*"


def key_bounds(
    key: str, key_type: KeyType, after: Key | None, until: Key | None, *, indexed: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return the condition that a key sorts within (after, until], and the parameters it names.

    Args:
        key: The key as Cypher text, such as n.`id`.
        key_type: Keys of another type are not within.
        after: Exclusive lower bound; None is unbounded.
        until: Inclusive upper bound; None is unbounded.
        indexed: Whether the query is held to an index over the key (`hint`), which compares with the lower bound as it sorts.
    """
    # A comparison with text or a number is what lets the planner use the range index.
    parts = [f"{key} >= $after" if after is None else f"{key} > $after"]
    values: dict[str, Any] = {"after": _LOWEST[key_type] if after is None else after}
    if not indexed and _exceptions("after", after):
        values |= _exceptions("after", after)
        parts = [f"({key} > $after OR {_late(key, 'after')}) AND NOT {_early(key, 'after')}"]
    if until is not None:
        exceptions = _exceptions("until", until)
        values |= {"until": until, **exceptions}
        within = f"(({key} <= $until AND NOT {_late(key, 'until')}) OR {_early(key, 'until')})"
        parts.append(within if exceptions else f"{key} <= $until")
    return of_type(key, key_type, *parts), values


def of_type(key: str, key_type: KeyType, *parts: str) -> str:
    """Join conditions on a key; to Cypher 1.5 is among the integers, and 5.0 equals 5, so a type test keeps them out."""
    typed = [f"{key} IS :: INTEGER NOT NULL"] if key_type is KeyType.INTEGER else []
    return " AND ".join([*parts, *typed])


def hint(label: str, key: str) -> str:
    """Return the hint that holds a query over `n` to the index over the key."""
    return f"USING RANGE INDEX n:{quoted(label)}({quoted(key)})"


def plain(key_type: KeyType) -> tuple[str, dict[str, Any]]:
    """Return the condition that the variable `key` may bound a range at no cost, and the parameters it names."""
    if key_type is KeyType.INTEGER:
        return "true", {}
    return "key =~ $plain", {"plain": _PLAIN_IN_JAVA}


def _late(key: str, bound: str) -> str:
    """Keys that sort behind the bound and compare before it: two units stand where the bound has a high single one."""
    return f"any(p IN $late_{bound} WHERE {key} >= p + $first_of_two_units AND {key} < p + $high)"


def _early(key: str, bound: str) -> str:
    """Keys that sort before the bound and compare behind it: the other way round."""
    return f"any(p IN $early_{bound} WHERE {key} STARTS WITH p AND {key} >= p + $high)"


def _exceptions(bound: str, key: Key | None) -> dict[str, Any]:
    """Return the parameters of `_late` and `_early`, the beginnings of such keys; none when the bound is plain."""
    places = [found.start() for found in _NOT_PLAIN.finditer(key)] if isinstance(key, str) else []
    if not isinstance(key, str) or not places:
        return {}
    return {
        f"late_{bound}": [key[:place] for place in places if key[place] < _FIRST_OF_TWO_UNITS],
        f"early_{bound}": [key[:place] for place in places if key[place] >= _FIRST_OF_TWO_UNITS],
        "first_of_two_units": _FIRST_OF_TWO_UNITS,
        "high": _HIGH,
    }
