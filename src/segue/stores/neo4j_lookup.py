"""Items read from Neo4j by key or by what they are like, as one record each. Asked of the member that takes the writes.

Knows no sink and no mode: Neo4j is complete in every mode, so what is read here is right in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from segue.model import Filter, Item, Key, KeyType, SourceSpec
from segue.pipelines.values import plain_properties
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_rows import is_vector

_KEY_TYPES: dict[KeyType, type[Key]] = {KeyType.STRING: str, KeyType.INTEGER: int}


class Neo4jLookup:
    """The `Lookup` of one collection. Usable from several threads.

    Args:
        connection: Where to read.
        spec: Which nodes are items, and what an item has of its node.
        translate: Turns conditions into Cypher over `node`, and the parameters that it names.
    """

    def __init__(
        self, connection: Neo4jConnection, spec: SourceSpec, translate: Callable[[Filter], tuple[str, dict[str, Any]]]
    ) -> None:
        self._connection = connection
        self._names = spec.property_names
        self._key_type = _KEY_TYPES[spec.key_type]
        self._translate = translate
        self._places = {
            "label": quoted(spec.label),
            "key": quoted(spec.key),
            "vector": quoted(spec.vector),
            "properties": "".join(f", node.{quoted(name)}" for name in spec.property_names),
        }

    def by_keys(self, keys: Sequence[Key], seconds: float) -> list[Item]:
        """See `Lookup`."""
        return self._items(query("lookup_keys", **self._places), {"keys": list(keys)}, seconds)

    def by_filter(self, conditions: Filter, seconds: float) -> list[Item]:
        """See `Lookup`."""
        meets, values = self._translate(conditions)
        return self._items(query("lookup_filter", meets=meets, **self._places), values, seconds)

    def _items(self, text: str, values: dict[str, Any], seconds: float) -> list[Item]:
        rows = self._connection.ask(text, values, seconds=seconds, leader=True)
        # A node whose key is of another type is no item, nor is a second node under a key.
        return list({row[0]: self._item(row) for row in rows if type(row[0]) is self._key_type}.values())

    def _item(self, row: list[Any]) -> Item:
        vector = row[1].to_native() if is_vector(row[1]) else row[1]
        return Item(row[0], vector or [], plain_properties(self._names, row[2:]))
