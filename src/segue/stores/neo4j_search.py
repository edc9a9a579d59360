"""Neo4j's part in a search: its own vector index, and the open marks that stand before what Milvus finds.

Each method is one query, more only where a filter makes the vector index be asked for more. Answers come as one record of
lists, which costs the driver least. Knows no sink and no mode; when to ask what is the traffic's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from segue.errors import StoreTimeout
from segue.model import Filter, Hit, Key, KeyType, Opened, Page, SourceSpec, StoreName
from segue.pipelines.values import plain_properties
from segue.ports import Vector
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_control import CONTROL_FIELDS, control_of
from segue.stores.neo4j_keys import of_type
from segue.stores.neo4j_rows import Decoded, carried, guarded

MOST_ASKED = 16_384
"""The most neighbours the vector index is asked for; whoever filters more away gets fewer than k."""

_GROWTH = 4
_KEY_TYPES: dict[KeyType, type[Key]] = {KeyType.STRING: str, KeyType.INTEGER: int}


class Neo4jNearest:
    """The `Nearest` over a vector index. Usable from several threads.

    Args:
        connection: Where to search.
        spec: Which index, and what of the nodes found a hit carries.
        translate: Turns conditions into Cypher over `node`, and the parameters that it names.
        oversample: How many more than k the index is asked for; its recall grows with that.
    """

    def __init__(
        self,
        connection: Neo4jConnection,
        spec: SourceSpec,
        translate: Callable[[Filter], tuple[str, dict[str, Any]]],
        *,
        oversample: int = 0,
    ) -> None:
        self._connection = connection
        self._index = spec.index
        self._names = spec.property_names
        self._key_type = _KEY_TYPES[spec.key_type]
        self._translate = translate
        self._oversample = oversample
        self._places = {
            "key": quoted(spec.key),
            "properties": "".join(f", node.{quoted(name)}" for name in spec.property_names),
        }

    def nearest(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> list[Hit]:
        """See `Nearest`. Nodes without a usable key are no hits; of nodes that share a key the nearest is."""
        meets, values = self._translate(conditions) if conditions else ("true", {})
        text = query("nearest", meets=meets, **self._places)
        values = values | {"index": self._index, "vector": vector.tolist()}
        until = time.monotonic() + seconds
        ask = min(k + self._oversample, MOST_ASKED)
        seen_before = -1
        while True:
            left = until - time.monotonic()
            if left <= 0:
                message = f"Neo4j at {self._connection.uri} found no {k} items that meet the filter within {seconds:g} s"
                raise StoreTimeout(message, hint="A filter that few items meet is better answered without a vector index.")
            ((seen, rows),) = self._connection.ask(text, values | {"ask": ask}, seconds=left)
            hits = self._hits(rows, k)
            # Less than asked for is all there is only when asking for more brings no more: the index leaves a gap where a node
            # is deleted while it looks.
            if len(hits) == k or seen <= seen_before or ask == MOST_ASKED:
                return hits
            seen_before = seen
            ask = min(ask * _GROWTH, MOST_ASKED)

    def _hits(self, rows: list[list[Any]], k: int) -> list[Hit]:
        rows.sort(key=lambda row: row[1], reverse=True)
        best: dict[Key, list[Any]] = {}
        for row in rows:
            if type(row[0]) is self._key_type:
                best.setdefault(row[0], row)
        return [
            Hit(key, row[1], plain_properties(self._names, row[2:]), StoreName.NEO4J) for key, row in list(best.items())[:k]
        ]


class Neo4jFence:
    """The `Fence` of one collection. Usable from several threads.

    Args:
        connection: The database the items are in.
        collection: Whose marks.
        spec: Which nodes the items are.
        seconds: How long a query may take.
    """

    def __init__(self, connection: Neo4jConnection, collection: str, spec: SourceSpec, *, seconds: float) -> None:
        self._connection = connection
        self._collection = collection
        self._spec = spec
        self._seconds = seconds
        typed = of_type(f"properties(n).{quoted(spec.key)}", spec.key_type)
        places = {
            "label": quoted(spec.label),
            "key": quoted(spec.key),
            # A seek for the key 5 finds a node with 5.0 too, which is no item.
            "typed": f"WHERE {typed}" if typed else "",
            "vector": guarded(spec, looking_closely=False),
            "properties": carried(spec),
        }
        self._read = query("fence", control=CONTROL_FIELDS, **places)
        self._items = query("items", **places)

    def read(self, most: int, most_dirty: int) -> Opened:
        """See `Fence`."""
        values = {"collection": self._collection, "most": most, "most_dirty": most_dirty}
        ((control, too_many, keys, versions, dirty, rows),) = self._ask(self._read, values)
        marks = dict(zip(keys, versions, strict=True))
        return Opened(control_of(control), marks, frozenset(dirty), self._page(rows), too_many)

    def items(self, keys: Sequence[Key]) -> Page:
        """See `Fence`."""
        ((rows,),) = self._ask(self._items, {"keys": list(keys)})
        return self._page(rows)

    def _ask(self, text: str, values: dict[str, Any]) -> list[list[Any]]:
        return self._connection.ask(text, values, seconds=self._seconds, leader=True)

    def _page(self, rows: list[list[Any]]) -> Page:
        decoded = Decoded(self._spec)
        for row in rows:
            decoded.add_all([row], row[0])
        return decoded.page(None, exhausted=True)
