"""Users keep writing while everything is copied, and relay and copy are killed: when it is quiet, both stores are equal."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from acceptance.workplace import Started, Workplace, workplace
from segue.sandbox import Endpoint

LOG = logging.getLogger(__name__)
ITEMS, DIMENSION, WRITERS = 2_000, 8, 6

CONFIGURATION = """\
[milvus]
request_timeout_seconds = 2
[relay]
landing_seconds = 4
lease_seconds = 6
window_seconds = 1
[backfill]
items_per_range = 200
workers = 2
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 8
metric = "euclidean"
[collections.source.properties]
title = "string"
"""


class Users:
    """Threads that create, change, delete and re-create the same keys, with the plain driver, and never see an error."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._stop = threading.Event()
        self.writes = 0
        self.errors: list[str] = []
        seeds = [random.random() for _ in range(WRITERS)]
        self._threads = [threading.Thread(target=self._write, args=(random.Random(seed),)) for seed in seeds]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, choose: random.Random) -> None:
        while not self._stop.is_set():
            key = f"k{choose.randrange(ITEMS + 100):05d}"
            try:
                if choose.random() < 0.3:
                    self._place.rows("MATCH (n:LABEL {id: $key}) DETACH DELETE n", key=key)
                else:
                    vector = [choose.random() for _ in range(DIMENSION)]
                    change = "MERGE (n:LABEL {id: $key}) SET n.embedding = $vector, n.title = $title"
                    self._place.rows(change, key=key, vector=vector, title=str(choose.random()))
                self.writes += 1
            except Exception as fault:  # noqa: BLE001  # any error a user sees is one too many
                self.errors.append(repr(fault))


@pytest.mark.timeout(240)
def test_both_stores_are_equal_when_it_is_quiet(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> None:
    """Six writers through the trigger, a copy killed twice, two relays killed in turn: no user error, no difference."""
    with workplace(tmp_path, neo4j_endpoint, milvus_endpoint) as place:
        _load(place)
        place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
        try:
            assert place.segue("capture", "install").code == 0
            with Users(place) as users:
                _copy_with_kills(place)
                _relay_with_kills(place)
            drained = place.start("relay", "--until-drained", "--format", "json").ended(90)

            LOG.info("%d writes", users.writes)
            assert not users.errors
            assert users.writes > ITEMS / 10
            assert drained.code == 0, drained.err
            assert drained.data["collections"][0]["dirty"] == 0
            _assert_equal(place)
        finally:
            place.segue("capture", "remove")
            place.rows(
                "MATCH (m:SegueMark|SegueControl|SegueLease|SegueRelay {collection: $name}) DETACH DELETE m",
                name=place.collection,
            )


def _load(place: Workplace) -> None:
    place.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
    vectors = np.random.default_rng(1).random((ITEMS, DIMENSION))
    rows = [{"key": f"k{number:05d}", "vector": vector.tolist()} for number, vector in enumerate(vectors)]
    place.rows("UNWIND $rows AS row CREATE (n:LABEL {id: row.key, title: 'first', embedding: row.vector})", rows=rows)


def _copy_with_kills(place: Workplace) -> None:
    small = {"SEGUE_BATCH_SIZE": "50"}
    for _ in range(2):
        copying = place.start("migrate-embeddings", **small)
        copying.await_words("ranges", 60)
        _kill(copying, random.uniform(0, 1.0))
    copied = place.start("migrate-embeddings", "--format", "json", **small).ended(120)
    assert copied.code == 0, copied.err
    assert copied.data["status"] == "ok"


def _relay_with_kills(place: Workplace) -> None:
    relays = [place.start("relay"), place.start("relay")]
    for _ in range(3):
        _kill(relays.pop(0), random.uniform(1.0, 3.0))
        relays.append(place.start("relay"))
    for relay in relays:
        relay.await_words("backlog", 60)
    for relay in relays:
        relay.signal(signal.SIGTERM)
    assert [relay.ended(30).code for relay in relays] == [0, 0]


def _kill(command: Started, seconds: float) -> None:
    LOG.info("kill -9 after %.3f s", seconds)
    time.sleep(seconds)
    command.signal(signal.SIGKILL)
    command.process.wait()


def _assert_equal(place: Workplace) -> None:
    items: dict[str, tuple[Any, str]] = {
        key: (np.asarray(vector, dtype=np.float32).tolist(), title)
        for key, vector, title in place.rows("MATCH (n:LABEL) RETURN n.id, n.embedding, n.title")
    }
    found = place.client.query(
        place.collection, filter='id >= ""', output_fields=["id", "vector", "title"], limit=16_000, consistency_level="Strong"
    )
    rows = {row["id"]: (np.asarray(row["vector"], dtype=np.float32).tolist(), row["title"]) for row in found}
    wrong = sorted(key for key in items.keys() | rows.keys() if items.get(key) != rows.get(key))
    assert not wrong, f"{len(wrong)} keys differ: {[(key, items.get(key), rows.get(key)) for key in wrong[:3]]}"
    assert len(found) == len(rows), "a key has several rows"
