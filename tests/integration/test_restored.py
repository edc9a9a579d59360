"""Neo4j comes back from a backup that is older than Milvus: what docs/operations.md says then makes both equal, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import segue
from acceptance.shop import Shop, shop, vector
from acceptance.workplace import Workplace, quoted
from segue.model import StoreName
from segue.sandbox import Endpoint

OWN = "n:LABEL OR any(label IN labels(n) WHERE label STARTS WITH 'Segue') AND n.collection = $name"
"""The items, and what Segue keeps beside them in the same database."""


@pytest.fixture
def one(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Shop]:
    """A collection that is copied."""
    with shop(tmp_path, newest_neo4j, milvus_endpoint) as found:
        yield found


class Backup:
    """Items, control node, marks, leases and journal, as a backup of the database has them."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._nodes = place.rows(f"MATCH (n) WHERE {OWN} RETURN labels(n), properties(n)", name=place.collection)

    def restore(self) -> None:
        """Put everything back as it was."""
        self._place.rows(f"MATCH (n) WHERE {OWN} DETACH DELETE n", name=self._place.collection)
        kinds: dict[str, list[dict[str, Any]]] = {}
        for labels, properties in self._nodes:
            kinds.setdefault(":".join(quoted(label) for label in sorted(labels)), []).append(properties)
        for labels, rows in kinds.items():
            self._place.rows(f"UNWIND $rows AS row CREATE (n:{labels}) SET n = row", rows=rows)


@pytest.mark.parametrize("mode", ["dual_write", "hybrid"])
def test_what_operations_says_makes_both_equal(one: Shop, mode: str) -> None:
    """Changed, new and deleted since the backup: Milvus has all of it and no mark says so; afterwards it has none of it."""
    one.reach(mode)
    backup = Backup(one.place)
    before = one.nodes()
    with one.open(relay=True) as store:
        for number in range(5):
            changed = segue.Item(f"k{number:03d}", vector(number + 0.5), {"title": "later", "year": 2_000})
            store.upsert([changed, segue.Item(f"new{number}", vector(number + 0.25), {"title": "new", "year": 2_000})])
            store.delete([f"k{number + 10:03d}"])
        one.await_closed()
    assert one.copies() == one.nodes() != before
    backup.restore()
    assert one.nodes() == before != one.copies()

    for command in (
        ("rollback", "--confirm"),
        ("mode", "set", "dual_write"),
        ("migrate-embeddings", "--restart"),
        ("relay", "--until-drained"),
        ("validate", "--full", "--fix", "--delete-orphans"),
    ):
        ended = one.place.segue(*command)
        assert ended.code == 0, (command, ended.err)
    assert one.copies() == one.nodes() == before
    one.reach("hybrid")
    with one.open() as store:
        (hit,) = store.search(vector(3), k=1)
        assert (hit.key, hit.store) == ("k003", StoreName.MILVUS)
