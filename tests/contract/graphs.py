"""What the source's contract needs of a store beyond the port: a way to put nodes, indexes and constraints there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from neo4j import Driver

from segue.ports import Source
from segue.stores.cypher import quoted
from segue.stores.memory_store import MemorySource
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_store import Neo4jSource


class Graph(Protocol):
    """A label of a store, empty at first, and the source over it."""

    label: str
    source: Source

    def create(self, *nodes: Mapping[str, Any]) -> None:
        """Add nodes with these properties."""
        ...

    def index(self, *properties: str) -> None:
        """Put one range index over these properties."""
        ...

    def constrain(self, key: str) -> None:
        """Put a uniqueness constraint on a property."""
        ...

    def clear(self) -> None:
        """Delete the label's nodes."""
        ...

    def begin_anew(self) -> None:
        """Let `source` be one that has learned nothing of the data yet."""
        ...


class MemoryGraph:
    """A label of a `MemorySource`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.memory = MemorySource()
        self.source: Source = self.memory
        self._made: list[str] = []

    def create(self, *nodes: Mapping[str, Any]) -> None:
        """See `Graph`."""
        self._made += [self.memory.create(self.label, node) for node in nodes]

    def index(self, *properties: str) -> None:
        """See `Graph`; memory knows no index over several properties."""
        if len(properties) == 1:
            self.memory.index(self.label, properties[0])

    def constrain(self, key: str) -> None:
        """See `Graph`."""
        self.memory.constrain(self.label, key)

    def clear(self) -> None:
        """See `Graph`."""
        for element_id in self._made:
            self.memory.delete(element_id)

    def begin_anew(self) -> None:
        """See `Graph`; memory learns nothing."""


class Neo4jGraph:
    """A label of a Neo4j server."""

    def __init__(self, label: str, driver: Driver, connection: Neo4jConnection) -> None:
        self.label = label
        self.source: Source = Neo4jSource(connection)
        self._driver = driver
        self.connection = connection

    def create(self, *nodes: Mapping[str, Any]) -> None:
        """See `Graph`."""
        self.run(f"UNWIND $nodes AS node CREATE (n:{quoted(self.label)}) SET n = node", nodes=list(nodes))

    def index(self, *properties: str) -> None:
        """See `Graph`."""
        listed = ", ".join(f"n.{quoted(name)}" for name in properties)
        self.run(f"CREATE INDEX FOR (n:{quoted(self.label)}) ON ({listed})")
        self.run("CALL db.awaitIndexes(30)")

    def constrain(self, key: str) -> None:
        """See `Graph`."""
        self.run(f"CREATE CONSTRAINT FOR (n:{quoted(self.label)}) REQUIRE n.{quoted(key)} IS UNIQUE")

    def clear(self) -> None:
        """See `Graph`."""
        self.run(f"MATCH (n:{quoted(self.label)}) DETACH DELETE n")

    def begin_anew(self) -> None:
        """See `Graph`."""
        self.source = Neo4jSource(self.connection)

    def run(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a query that may write, and return its rows."""
        with self._driver.session(database="neo4j") as session:
            return [list(record) for record in session.run(cypher, parameters)]
