"""What the source says about itself, for whoever looks before anything moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VectorIndexFound:
    """A vector index of the source.

    Attributes:
        name: The index's name.
        entity: NODE or RELATIONSHIP.
        labels: The labels (or relationship types) it covers.
        properties: The vector property first, then what else it indexes.
        dimension: None where the index takes any (Neo4j 5.23 and newer).
        metric: The similarity function's name, in lower case.
        state: ONLINE, POPULATING or FAILED.
    """

    name: str
    entity: str
    labels: tuple[str, ...]
    properties: tuple[str, ...]
    dimension: int | None
    metric: str
    state: str


@dataclass(frozen=True, slots=True)
class PropertyFound:
    """A property as a sample of nodes has it.

    Attributes:
        name: Its name.
        types: The distinct value types, in Neo4j's words, "NULL" among them when some sampled node lacks it.
    """

    name: str
    types: frozenset[str]


class Catalog(Protocol):
    """What the source says about itself. Reads only."""

    def vector_indexes(self) -> list[VectorIndexFound]:
        """Return every vector index, by name."""
        ...

    def unique_properties(self, label: str) -> list[str]:
        """Return the properties that a uniqueness constraint of their own guards on a label, by name."""
        ...

    def properties(self, label: str, sample: int) -> list[PropertyFound]:
        """Return the properties of the first `sample` nodes of a label, by name."""
        ...

    def dimensions(self, label: str, vector: str, sample: int) -> Mapping[int, int]:
        """Return how many of the first `sample` nodes have a vector of each length."""
        ...

    def duplicates(self, label: str, key: str, limit: int) -> list[tuple[object, int]]:
        """Return keys that several nodes have, and how many, at most `limit` of them; reads every key."""
        ...
