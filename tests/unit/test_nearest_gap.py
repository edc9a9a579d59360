"""Neo4j's vector index leaves a gap where a node is deleted while it looks: that is not the end of what there is."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from segue.model import KeyType, Metric, SourceSpec
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_search import Neo4jNearest

SPEC = SourceSpec(
    index="films", label="Film", key="id", key_type=KeyType.STRING, vector="embedding", dimension=2, metric=Metric.COSINE
)


class Index:
    """Answers with as many of its items as asked for, but for those that are deleted while it looks the first time."""

    uri = "bolt://nowhere"

    def __init__(self, items: int, gap: int) -> None:
        self.items = items
        self.gap = gap

    def ask(self, text: str, values: dict[str, Any], *, seconds: float) -> list[list[Any]]:
        del text, seconds
        found = min(values["ask"], self.items) - self.gap
        self.gap = 0
        return [[found, [[f"f-{place}", 1 - place / 100] for place in range(found)]]]


@pytest.mark.parametrize(("items", "gap", "found"), [(50, 1, 10), (50, 10, 10), (9, 0, 9), (0, 0, 0), (9, 2, 9)])
def test_a_gap_is_asked_again(items: int, gap: int, found: int) -> None:
    """Fewer than k come only when there are no more."""
    nearest = Neo4jNearest(cast("Neo4jConnection", Index(items, gap)), SPEC, lambda _: ("true", {}))
    assert len(nearest.nearest(np.ones(2, np.float32), 10, (), 1)) == found
