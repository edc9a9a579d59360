"""The scripts people write instead: two careful ones and the common one, each in the form that serves it best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import neo4j
from pymilvus import CollectionSchema, DataType, FieldSchema

from contender import DATABASE, Task, Work, collection, opened
from items import LABEL, key
from segue.sandbox import Endpoint

BATCH = 1_000

_PAGE = f"""
MATCH (n:{LABEL}) WHERE n.id > $after AND n.id <= $until
RETURN n.id, n.embedding, n.title, n.year, n.score ORDER BY n.id LIMIT $limit
"""

_EVERYTHING = f"""
MATCH (n:{LABEL})
RETURN n.id AS id, n.embedding AS vector, n.title AS title, n.year AS year, n.score AS score
"""

_BOUNDARY = f"MATCH (n:{LABEL}) RETURN n.id ORDER BY n.id SKIP $items LIMIT 1"


def schema(dimension: int) -> CollectionSchema:
    """Return the collection such a script makes: the item's own fields, nothing to check or to resume by."""
    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=512),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=dimension),
        FieldSchema("title", DataType.VARCHAR, max_length=65_535),
        FieldSchema("year", DataType.INT64),
        FieldSchema("score", DataType.DOUBLE),
    ]
    return CollectionSchema(fields)


@contextmanager
def careful(task: Task, servers: Mapping[str, Endpoint], *, threads: int) -> Iterator[Work]:
    """Keyset paging and upsert, the keys cut into one range a thread."""
    batch_size = task.batch_size or BATCH
    with opened(servers) as (driver, client), collection(client, schema(task.dimension), task.items) as name:

        def copy(after: str, until: str) -> int:
            with driver.session(database=DATABASE) as session:
                return sum(client.upsert(name, rows)["upsert_count"] for rows in _pages(session, after, until, batch_size))

        def work() -> int:
            bounds = ["", *_boundaries(driver, task.items, threads), key(task.items)]
            with ThreadPoolExecutor(threads) as pool:
                return sum(pool.map(copy, bounds, bounds[1:]))

        yield work


@contextmanager
def common(task: Task, servers: Mapping[str, Endpoint]) -> Iterator[Work]:
    """One query, `record.data()`, insert."""
    batch_size = task.batch_size or BATCH
    with opened(servers) as (driver, client), collection(client, schema(task.dimension), task.items) as name:

        def work() -> int:
            copied = 0
            batch = []
            with driver.session(database=DATABASE) as session:
                for record in session.run(_EVERYTHING):
                    batch.append(record.data())
                    if len(batch) == batch_size:
                        copied += client.insert(name, batch)["insert_count"]
                        batch = []
            if batch:
                copied += client.insert(name, batch)["insert_count"]
            return copied

        yield work


def _boundaries(driver: neo4j.Driver, items: int, ranges: int) -> list[str]:
    with driver.session(database=DATABASE) as session:
        places = [items * number // ranges for number in range(1, ranges)]
        return [session.run(_BOUNDARY, items=place - 1).single(strict=True)[0] for place in places]


def _pages(session: neo4j.Session, after: str, until: str, limit: int) -> Iterator[list[dict[str, Any]]]:
    while True:
        found = session.run(_PAGE, after=after, until=until, limit=limit)
        rows = [
            {"id": id_, "vector": vector, "title": title, "year": year, "score": score}
            for id_, vector, title, year, score in found
        ]
        if not rows:
            return
        yield rows
        after = rows[-1]["id"]
