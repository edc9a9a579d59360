"""A collection can be made with its index before anything is copied, and the copy goes into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.shop import Shop, shop
from segue.sandbox import Endpoint


@pytest.fixture
def untouched(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Shop]:
    """A collection of a few items that nobody has begun to move."""
    with shop(tmp_path, newest_neo4j, milvus_endpoint, items=5, copied=False) as one:
        yield one


def test_a_collection_is_made_empty_and_filled_later(untouched: Shop) -> None:
    """With its HNSW index, no row and no checkpoint; twice changes nothing; a copy finds it and completes."""
    place = untouched.place
    for _ in range(2):
        made = place.migrate("--schema-only")
        assert (made.code, made.data["collections"][0]["index"]["kind"]) == (0, "HNSW"), made.err
    (index,) = place.client.list_indexes(place.collection)
    assert place.client.describe_index(place.collection, index)["index_type"] == "HNSW"
    assert place.client.get_collection_stats(place.collection)["row_count"] == 0
    assert place.record() is None
    copied = place.migrate()
    assert (copied.code, copied.data["counts"]["migrated"]) == (0, 5), copied.err
    assert untouched.copies() == untouched.nodes()
