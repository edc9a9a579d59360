"""Items for tests: loaded as an application would, some of them unfit on purpose, and compared in both stores afterwards.

The comparison is made of plain reads of both stores; what is expected comes from how the items were made and from Neo4j's
own values, never from the product.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from neo4j.time import DateTime

from acceptance.workplace import Workplace
from segue.model import Reason

PROPERTIES = {"text": "string", "year": "integer", "score": "float", "seen": "string", "tags": "json", "nick": "json"}
"""What travels, as the configuration says it: every item has the first four, `nick` only one in three."""

_CREATE = """
UNWIND $rows AS row
CREATE (n:LABEL) SET n = row.properties, n.id = row.key, n.embedding = row.vector
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was put into Neo4j.

    Attributes:
        fit: How many items can go.
        unfit: Key (None where there is no usable one) and reason of every item that cannot, counted.
    """

    dimension: int
    fit: int
    unfit: Counter[tuple[str | None, Reason]] = field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        """The account of a complete copy."""
        unfit = self.unfit.total()
        return {"source": self.fit + unfit, "migrated": self.fit, "quarantined": unfit, "pending": 0}


def load(place: Workplace, fit: int, dimension: int = 16, *, unfit: int = 0) -> Loaded:
    """Create the constraint, the vector index and the items; of each kind of unfit item as many as said."""
    place.rows(f"CREATE CONSTRAINT `{place.collection}_key` FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
    settings = f"{{indexConfig: {{`vector.dimensions`: {dimension}, `vector.similarity_function`: 'cosine'}}}}"
    place.rows(f"CREATE VECTOR INDEX `{place.collection}` FOR (n:LABEL) ON n.embedding OPTIONS {settings}")
    vectors = np.random.default_rng(dimension).normal(size=(fit, dimension))
    rows = [_row(f"k-{number:06d}", number, vector.tolist()) for number, vector in enumerate(vectors)]
    unfit_rows, expected = _unfit(fit, dimension, unfit)
    place.rows(_CREATE, rows=rows + unfit_rows)
    place.rows("MATCH (n:LABEL) WHERE n.id = 'none' OR n.id STARTS WITH 'none-' REMOVE n.id")
    return Loaded(dimension, fit, expected)


def configuration(
    place: Workplace,
    loaded: Loaded,
    *,
    extra: str = "",
    preset: str = "segue",
    properties: Mapping[str, str] = PROPERTIES,
) -> str:
    """Return a segue.toml for the items; `extra` is put before the collection."""
    carried = "\n".join(f'{name} = "{kind}"' for name, kind in properties.items())
    return f"""\
{extra}
[backfill]
items_per_range = 500

[[collections]]
name = "{place.collection}"
preset = "{preset}"
[collections.source]
index = "{place.collection}"
label = "{place.label}"
key = "id"
vector = "embedding"
dimension = {loaded.dimension}
[collections.source.properties]
{carried}
"""


def assert_equal(place: Workplace, loaded: Loaded) -> None:
    """Compare both stores by plain reads: every key, every bit of every vector, every carried property, every row once."""
    expected = _in_neo4j(place, loaded)
    found = place.client.query(
        place.collection, filter='id != ""', output_fields=["*"], limit=16_384, consistency_level="Strong"
    )
    counted = place.client.query(place.collection, filter="", output_fields=["count(*)"], consistency_level="Strong")

    assert len(expected) == loaded.fit
    assert Counter(row["id"] for row in found) == Counter(expected.keys())
    assert counted[0]["count(*)"] == loaded.fit, "some row is there more than once"
    for row in found:
        assert _carried(row) == expected[row["id"]], row["id"]


def quarantine_file(place: Workplace) -> Counter[tuple[str | None, Reason]]:
    """Return key and reason of every line of the quarantine file, counted."""
    lines = (place.folder / f"quarantine-{place.collection}.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter((line["key"], Reason(line["reason"])) for line in map(json.loads, lines))


def assert_searchable(place: Workplace) -> None:
    """The alias leads to one physical collection, loaded, with the index the configuration asks for."""
    assert place.client.describe_collection(place.collection)["collection_name"] == f"{place.collection}_v1"
    (index,) = place.client.list_indexes(place.collection)
    described = place.client.describe_index(place.collection, index)
    assert {name: described[name] for name in ("index_type", "metric_type", "M", "efConstruction")} == {
        "index_type": "HNSW",
        "metric_type": "COSINE",
        "M": "16",
        "efConstruction": "200",
    }
    (nearest,) = place.client.search(place.collection, [_vector_of(place, "k-000007")], limit=1)
    assert nearest[0]["id"] == "k-000007"


def _row(key: Any, number: int, vector: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "text": f"Film № {number}",
        "year": 1900 + number % 120,
        "score": number / 7,
        "seen": DateTime(2026, 1, 1 + number % 28, 12, 30, number % 60),
        "tags": [f"t{number % 5}", "all"],
    }
    if number % 3 == 0:
        properties["nick"] = f"nick {number}"
    return {"key": key, "vector": vector, "properties": properties}


def _unfit(first: int, dimension: int, each: int) -> tuple[list[dict[str, Any]], Counter[tuple[str | None, Reason]]]:
    """Make items that cannot go, their keys spread among the fit ones."""
    fine = [0.5] * dimension
    makes: Mapping[Reason, Any] = {
        Reason.NO_EMBEDDING: lambda key: (key, None),
        Reason.NOT_A_VECTOR: lambda key: (key, "0.5, 0.5"),
        Reason.WRONG_DIMENSION: lambda key: (key, fine[1:]),
        Reason.NOT_FINITE: lambda key: (key, [float("nan"), *fine[1:]]),
        Reason.ZERO_NORM: lambda key: (key, [0.0] * dimension),
        Reason.KEY_TOO_LONG: lambda key: (key.ljust(513, "x"), fine),
        Reason.KEY_TYPE: lambda key: (int(key.rpartition("-")[2]), fine),
        Reason.KEY_MISSING: lambda key: (f"none-{key}", fine),
    }
    rows, expected = [], Counter[tuple[str | None, Reason]]()
    for place, (reason, make) in enumerate(makes.items()):
        for number in range(each):
            spread = (number * len(makes) + place) * max(1, first // max(1, each * len(makes)))
            key, vector = make(f"k-{spread:06d}-{reason.value}-{number}")
            rows.append(_row(key, spread, vector))
            keyless = reason in (Reason.KEY_TYPE, Reason.KEY_MISSING)
            expected[None if keyless else key, reason] += 1
    # Each of these needs a key of its own, since the constraint compares them too.
    for number, row in enumerate(row for row in rows if isinstance(row["key"], int)):
        row["key"] = number
    return rows, expected


def _in_neo4j(place: Workplace, loaded: Loaded) -> dict[str, dict[str, Any]]:
    names = ", ".join(f"n.{name}" for name in PROPERTIES)
    unfit = [key for key, _ in loaded.unfit if key is not None]
    query = f"MATCH (n:LABEL) WHERE n.id IS :: STRING NOT NULL AND NOT n.id IN $unfit RETURN n.id, n.embedding, {names}"
    return {
        key: {
            "vector": np.asarray(vector, dtype="<f4").tobytes(),
            "text": text,
            "year": year,
            "score": score,
            "seen": seen.iso_format(),
            "properties": {"tags": tags} | ({} if nick is None else {"nick": nick}),
        }
        for key, vector, text, year, score, seen, tags, nick in place.rows(query, unfit=unfit)
    }


def _carried(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("text", "year", "score", "seen", "properties")
    return {"vector": np.asarray(row["vector"], dtype="<f4").tobytes()} | {name: row[name] for name in fields}


def _vector_of(place: Workplace, key: str) -> list[float]:
    vector: list[float] = place.rows("MATCH (n:LABEL {id: $key}) RETURN n.embedding", key=key)[0][0]
    return vector
