"""Connections to Milvus that somebody closed are a store that is away; one that does not open leaves nothing behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from acceptance.workplace import eventually
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


def test_a_connection_that_does_not_open_leaves_no_thread() -> None:
    """Whoever tries again every few seconds would gather threads that go on trying beside it."""
    before = set(threading.enumerate())
    with pytest.raises(StoreUnavailable):
        MilvusConnection("http://127.0.0.1:1", timeout_seconds=0.3)
    eventually(lambda: set(threading.enumerate()) <= before)
    assert set(threading.enumerate()) <= before
