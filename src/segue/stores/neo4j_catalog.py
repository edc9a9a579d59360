"""What a Neo4j database says about itself: vector indexes, constraints, a sample of properties. Reads only; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from segue.ports import PropertyFound, VectorIndexFound
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection


class Neo4jCatalog:
    """The `Catalog` over Neo4j 5.26 and newer.

    Args:
        connection: Where to look.
    """

    def __init__(self, connection: Neo4jConnection) -> None:
        self._connection = connection

    def vector_indexes(self) -> list[VectorIndexFound]:
        """See `Catalog`."""
        return [
            VectorIndexFound(
                name=name,
                entity=entity,
                labels=tuple(labels),
                properties=tuple(properties),
                dimension=settings.get("vector.dimensions"),
                metric=str(settings.get("vector.similarity_function", "cosine")).lower(),
                state=state,
            )
            for name, state, entity, labels, properties, settings in self._connection.rows(query("vector_indexes"))
        ]

    def unique_properties(self, label: str) -> list[str]:
        """See `Catalog`."""
        return [row[0] for row in self._connection.rows(query("unique_properties"), label=label)]

    def properties(self, label: str, sample: int) -> list[PropertyFound]:
        """See `Catalog`."""
        found = self._connection.rows(query("property_sample", label=quoted(label)), sample=sample)
        return [
            PropertyFound(name, frozenset(types) | (frozenset({"NULL"}) if nodes < sampled else frozenset()))
            for name, sampled, nodes, types in found
        ]

    def dimensions(self, label: str, vector: str, sample: int) -> Mapping[int, int]:
        """See `Catalog`."""
        text = query("dimensions", label=quoted(label), vector=quoted(vector))
        return dict(self._connection.rows(text, sample=sample))

    def duplicates(self, label: str, key: str, limit: int) -> list[tuple[object, int]]:
        """See `Catalog`."""
        text = query("duplicates", label=quoted(label), key=quoted(key))
        return [(value, nodes) for value, nodes in self._connection.rows(text, limit=limit)]
