"""The application of the demo: a small film service, written with the stores' plain drivers as any service would be.

It knows nothing of Segue. What it writes to Neo4j is what Segue finds; what it reads from Milvus is what Segue made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import neo4j
import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from segue.demo.films import Film

_SCHEMA = (
    "CREATE CONSTRAINT film_id IF NOT EXISTS FOR (f:Film) REQUIRE f.id IS UNIQUE",
    """CREATE VECTOR INDEX films IF NOT EXISTS FOR (f:Film) ON (f.embedding)
       OPTIONS {indexConfig: {`vector.dimensions`: 384, `vector.similarity_function`: 'cosine'}}""",
)

_LOAD = """
UNWIND $films AS film
CREATE (f:Film) SET f = film.properties
WITH f, film WHERE film.embedding IS NOT NULL
SET f.embedding = film.embedding
"""

_ASK = """
CALL db.index.vector.queryNodes('films', $k, $vector) YIELD node, score
RETURN node.title AS title, node.year AS year, score
"""

_ALL = "MATCH (f:Film) WHERE NOT f.title STARTS WITH '(draft)' RETURN properties(f) AS film"

_OF_SEGUE = ("segue_ver", "segue_hash")
"""What a row carries for Segue alone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One film found, with the store's own score."""

    title: str
    year: int
    score: float


class FilmService:
    """Films in Neo4j, found by meaning; later also from Milvus.

    Args:
        graph: A Neo4j driver.
        vectors: A Milvus client.
    """

    def __init__(self, graph: neo4j.Driver, vectors: MilvusClient) -> None:
        self._graph = graph
        self._vectors = vectors

    def forget(self) -> None:
        """Remove what an earlier demo left."""
        self._graph.execute_query("MATCH (f:Film) DETACH DELETE f")
        if "films_v1" in self._vectors.list_collections():
            self._vectors.drop_alias("films")
            self._vectors.drop_collection("films_v1")

    def load(self, films: Sequence[Film]) -> None:
        """Write films and wait until the vector index covers them."""
        for statement in _SCHEMA:
            self._graph.execute_query(statement)
        self.add(films)
        self._graph.execute_query("CALL db.awaitIndexes(60)")

    def add(self, films: Sequence[Film]) -> None:
        """Write films that are not there yet."""
        nodes = [{"properties": properties_of(film), "embedding": _listed(film.vector)} for film in films]
        self._graph.execute_query(_LOAD, films=nodes)

    def edit(self, key: str, description: str) -> None:
        """Change a film's description, as an editor at work does."""
        self._graph.execute_query("MATCH (f:Film {id: $key}) SET f.description = $text", key=key, text=description)

    def remove(self, key: str) -> None:
        """Take a film out."""
        self._graph.execute_query("MATCH (f:Film {id: $key}) DETACH DELETE f", key=key)

    def differences(self) -> tuple[int, list[str]]:
        """Compare every film in both stores, every property and every element of the vector.

        Returns:
            How many films Milvus holds, and the ids of those that differ or are in one store only.
        """
        nodes = [dict(row["film"]) for row in self._graph.execute_query(_ALL).records]
        rows = self._vectors.query("films", filter='id >= ""', output_fields=["*"], consistency_level="Strong")
        ours = {node["id"]: _plain_node(node) for node in nodes}
        theirs = {row["id"]: _plain_row(dict(row)) for row in rows}
        return len(rows), sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))

    def ask_neo4j(self, vector: NDArray[np.float32], k: int) -> list[Answer]:
        """Search Neo4j's vector index."""
        found, _, _ = self._graph.execute_query(_ASK, k=k, vector=vector.tolist())
        return [Answer(row["title"], row["year"], row["score"]) for row in found]

    def ask_milvus(self, vector: NDArray[np.float32], k: int) -> list[Answer]:
        """Search the collection behind the alias `films`; the score is Milvus's own, the cosine."""
        hits = self._vectors.search(
            "films",
            data=[vector],
            anns_field="vector",
            limit=k,
            output_fields=["title", "year"],
            search_params={"metric_type": "COSINE", "params": {"ef": 64}},
        )[0]
        return [Answer(hit["entity"]["title"], hit["entity"]["year"], hit["distance"]) for hit in hits]


def median_milliseconds(ask: Callable[[], object], times: int = 7) -> float:
    """Return the median duration of a question, asked several times after once for warming up."""
    ask()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2] * 1000


def properties_of(film: Film) -> dict[str, Any]:
    """Return what a film's node holds besides the vector."""
    properties = {
        "id": film.id,
        "title": film.title,
        "year": film.year,
        "director": film.director,
        "genres": list(film.genres),
        "country": film.country,
        "minutes": film.minutes,
        "language": film.language,
        "description": film.description,
    }
    if film.released is not None:
        properties["released"] = date.fromisoformat(film.released)
    return properties


def _listed(vector: NDArray[np.float32] | None) -> list[float] | None:
    return None if vector is None else vector.tolist()


def _plain_node(node: dict[str, Any]) -> dict[str, Any]:
    """A node as its row should read: dates as text, the vector's elements as float32."""
    if "released" in node:
        node["released"] = node["released"].iso_format()
    node["embedding"] = np.asarray(node["embedding"], np.float32).tobytes()
    return node


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what its JSON field holds beside the fields, and without what is Segue's."""
    for name in _OF_SEGUE:
        del row[name]
    vector = np.asarray(row.pop("vector"), np.float32).tobytes()
    return {**row.pop("properties"), **row, "embedding": vector}
