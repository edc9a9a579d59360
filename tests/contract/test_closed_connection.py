"""A search that meets a connection somebody has just closed fails like one that meets no server."""

from __future__ import annotations

import numpy as np
import pytest

from segue.errors import SegueError, StoreUnavailable
from segue.model import KeyType, Metric, SourceSpec
from segue.pipelines.layouts import Preset, make_layout
from segue.sandbox import Endpoint
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_search import MilvusCandidates


def test_a_closed_connection_is_a_store_that_is_away(milvus_endpoint: Endpoint) -> None:
    """Closed before the search is sent, or while it is on its way: never a surprise from gRPC."""
    at = milvus_endpoint
    connection = MilvusConnection(at.uri, token=f"{at.username}:{at.password}")
    spec = SourceSpec("i", "L", "id", KeyType.STRING, "v", 4, Metric.COSINE)
    layout = make_layout(spec, name="no_such_collection", preset=Preset.SEGUE, m=16, ef_construction=100)
    candidates = MilvusCandidates(connection, layout, spec, lambda _, __: "")
    vector = np.ones(4, np.float32)
    on_its_way = candidates.search(vector, 1, (), 5.0)
    connection.close()
    with pytest.raises(StoreUnavailable):
        candidates.search(vector, 1, (), 5.0)
    with pytest.raises(SegueError):
        on_its_way.result()
