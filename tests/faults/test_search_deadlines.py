"""Searches of stores that keep their connections open and are silent: given up in time, and answered again afterwards."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from faults.proxy import proxied
from segue.errors import StoreTimeout
from segue.model import KeyType, Metric, SourceSpec
from segue.pipelines.layouts import Preset, make_layout
from segue.sandbox import Endpoint
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_search import MilvusCandidates
from segue.stores.neo4j_connection import Neo4jConnection

SECONDS = 0.5
TWICE = "RETURN 2 * $half AS whole"


def test_neo4j_that_falls_silent_is_given_up_in_time(newest_neo4j: Endpoint) -> None:
    """Also by several threads at once, each after its own time; a server that speaks again is asked by a new driver."""
    at = newest_neo4j
    with (
        proxied(at.uri) as (proxy, uri),
        # A connection that is only being opened ends by its own time-out.
        Neo4jConnection(
            uri, username=at.username, password=at.password, database="neo4j", connect_timeout_seconds=2 * SECONDS
        ) as connection,
    ):
        assert connection.ask(TWICE, {"half": 2}, seconds=5) == [[4]]
        proxy.swallow()
        waited: list[float] = []

        def give_up() -> None:
            begun = time.monotonic()
            with pytest.raises(StoreTimeout, match="no answer within"):
                connection.ask(TWICE, {"half": 2}, seconds=SECONDS, leader=True)
            waited.append(time.monotonic() - begun)

        threads = [threading.Thread(target=give_up) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(waited) == len(threads)
        assert all(SECONDS <= one < SECONDS + 2 for one in waited), waited
        proxy.cut()
        proxy.mend()
        assert connection.ask(TWICE, {"half": 3}, seconds=5) == [[6]]


def test_milvus_that_falls_silent_is_given_up_in_time(milvus_endpoint: Endpoint) -> None:
    """Asking returns at once, waiting ends after the search's own time and names it."""
    at = milvus_endpoint
    spec = SourceSpec("ix", "Item", "id", KeyType.STRING, "v", 4, Metric.COSINE)
    layout = make_layout(spec, name="nowhere", preset=Preset.SEGUE, m=16, ef_construction=200)
    with (
        proxied(at.uri) as (proxy, uri),
        MilvusConnection(uri, token=f"{at.username}:{at.password}") as connection,
    ):
        candidates = MilvusCandidates(connection, layout, spec, lambda _, __: "")
        proxy.swallow()
        begun = time.monotonic()
        pending = candidates.search(np.ones(4, np.float32), 10, (), SECONDS)
        asked = time.monotonic()
        with pytest.raises(StoreTimeout, match=r"within 0\.5 s"):
            pending.result()
        assert asked - begun < SECONDS / 2
        assert SECONDS <= time.monotonic() - begun < SECONDS + 1
