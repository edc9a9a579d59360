"""The benchmark's items in Neo4j: generated from a seed, written as applications write them, loaded once.

Item k is the same whatever the number of items, so that growing from 50,000 to 150,000 adds and replaces nothing. Knows no
contender and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from neo4j import Session

from segue.model import CarriedProperty, Key, KeyType, Metric, PropertyType, SourceSpec, Vectors

LABEL = "BenchItem"
CHUNK = 1_000

_CLUSTERS = 64
_SEED = 20_260_801

_CREATE = f"""
UNWIND $rows AS row
CREATE (n:{LABEL} {{id: row.id, title: row.title, year: row.year, score: row.score}})
WITH n, row
CALL db.create.setNodeVectorProperty(n, 'embedding', row.embedding)
"""


@dataclass(frozen=True, slots=True)
class Items:
    """Some items one after the other, column by column; a row of `properties` is title, year, score."""

    keys: list[Key]
    vectors: Vectors
    properties: list[tuple[str, int, float]]


def spec(dimension: int) -> SourceSpec:
    """Return the items as Segue's configuration describes them."""
    properties = (
        CarriedProperty("title", PropertyType.STRING),
        CarriedProperty("year", PropertyType.INTEGER),
        CarriedProperty("score", PropertyType.FLOAT),
    )
    return SourceSpec("bench_items", LABEL, "id", KeyType.STRING, "embedding", dimension, Metric.COSINE, properties)


def key(number: int) -> str:
    """Return an item's key; keys sort as their numbers do."""
    return f"item-{number:08d}"


def _chunk(number: int, dimension: int) -> Items:
    """Generate items `number * CHUNK` up to the next chunk: unit vectors around 64 centres."""
    centres = np.random.default_rng((_SEED, dimension)).normal(size=(_CLUSTERS, dimension))
    random = np.random.default_rng((_SEED, dimension, number))
    vectors = centres[random.integers(0, _CLUSTERS, CHUNK)] + 0.3 * random.normal(size=(CHUNK, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = range(number * CHUNK, (number + 1) * CHUNK)
    properties = [(f"Title number {one}", 1900 + one % 120, one / 7) for one in numbers]
    return Items([key(one) for one in numbers], vectors.astype(np.float32), properties)


def between(start: int, stop: int, dimension: int) -> Items:
    """Generate items `start` up to `stop`."""
    numbers = range(start // CHUNK, -(-stop // CHUNK))
    parts = [_chunk(number, dimension) for number in numbers]
    kept = slice(start - numbers[0] * CHUNK, stop - numbers[0] * CHUNK)
    keys = [key for part in parts for key in part.keys]
    properties = [row for part in parts for row in part.properties]
    return Items(keys[kept], np.concatenate([part.vectors for part in parts])[kept], properties[kept])


def load(session: Session, count: int, dimension: int, announce: Callable[[str], None]) -> None:
    """Make sure that Neo4j holds exactly the items 0 to `count`; what is there already stays."""
    session.run(f"CREATE CONSTRAINT bench_item_id IF NOT EXISTS FOR (n:{LABEL}) REQUIRE n.id IS UNIQUE").consume()
    present = _present(session, dimension)
    if present < 0:
        announce("the items there are of another dimension: removing them")
        _delete(session, "")
        present = 0
    if present > count:
        announce(f"removing {present - count:,} items")
        _delete(session, key(count))
    if present < count:
        announce(f"loading {count - present:,} items of {dimension} dimensions")
        for rows in _rows(present, count, dimension):
            session.run(_CREATE, rows=rows).consume()


def clean(session: Session) -> None:
    """Remove all items and their constraint. Idempotent."""
    _delete(session, "")
    session.run("DROP CONSTRAINT bench_item_id IF EXISTS").consume()


def _present(session: Session, dimension: int) -> int:
    """Return how many items there are, -1 when they are of another dimension."""
    found = session.run(f"MATCH (n:{LABEL}) RETURN count(n), min(size(n.embedding)), max(size(n.embedding))").single(
        strict=True
    )
    count: int = found[0]
    return count if count == 0 or {found[1], found[2]} == {dimension} else -1


def _delete(session: Session, lowest: str) -> None:
    query = f"MATCH (n:{LABEL}) WHERE n.id >= $lowest CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
    session.run(query, lowest=lowest).consume()


def _rows(start: int, stop: int, dimension: int) -> Iterator[list[dict[str, Any]]]:
    while start < stop:
        items = between(start, min(stop, start - start % CHUNK + CHUNK), dimension)
        yield [
            {"id": key, "title": title, "year": year, "score": score, "embedding": vector.tolist()}
            for key, vector, (title, year, score) in zip(items.keys, items.vectors, items.properties, strict=True)
        ]
        start += len(items.keys)
