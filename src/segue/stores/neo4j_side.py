"""The items as the reconcile reads them: enumerated by a pass over their label, then looked up by their keys.

A copy goes along the index over the key, in its order, and lets the server round the vectors. Here no index enumerates, no
order is relied on, and vectors come as lists of doubles that are rounded in this process: what the copy's way would miss or
spoil shows. Asks the leader, which alone has seen every write. Knows no mark and no sink.
"""

from __future__ import annotations

from collections.abc import Sequence

from segue.model import Key, Page, SourceSpec
from segue.ports import Stratum
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_keys import CYPHER_TYPE, key_bounds, of_type
from segue.stores.neo4j_rows import Decoded, carried, guarded


class Neo4jSide:
    """The `SourceSide` of one collection. Usable from several threads.

    Args:
        connection: The database the items are in.
        spec: Which nodes the items are.
    """

    def __init__(self, connection: Neo4jConnection, spec: SourceSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._places = {"label": quoted(spec.label), "key": quoted(spec.key)}
        # A seek for the key 5 finds a node with 5.0 too, which is no item.
        typed = of_type(f"properties(n).{quoted(spec.key)}", spec.key_type)
        self._items = query(
            "side_items",
            typed=f" AND {typed}" if typed else "",
            vector=guarded(spec, looking_closely=False),
            properties=carried(spec),
            **self._places,
        )

    def draw(self, bounds: Sequence[Key], share: float) -> list[Stratum]:
        """See `SourceSide`."""
        text = query("side_draw", type=CYPHER_TYPE[self._spec.key_type], **self._places)
        found = {
            stratum: Stratum(items, drawn)
            for stratum, items, drawn in self._connection.rows(text, leader=True, bounds=list(bounds), share=share)
        }
        return [found.get(number, Stratum(0, [])) for number in range(len(bounds) + 1)]

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """See `SourceSide`."""
        bounds, values = key_bounds(f"n.{quoted(self._spec.key)}", self._spec.key_type, after, until)
        keys: list[Key] = self._connection.rows(query("side_keys", bounds=bounds, **self._places), leader=True, **values)[0][0]
        return keys

    def items(self, keys: Sequence[Key]) -> Page:
        """See `SourceSide`."""
        decoded = Decoded(self._spec)
        with self._connection.streamed(self._items, leader=True, keys=list(keys)) as result:
            for record in result:
                decoded.add_all([record[0]], record[0][0])
        return decoded.page(None, exhausted=True)
