"""A relay that is asked to stop makes equal what is dirty, for as long as it may, and leaves the rest to others."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acceptance.workplace import Workplace, workplace
from segue.sandbox import Endpoint

CHANGED, DIMENSION = 12_000, 8

CONFIGURATION = """\
[relay]
drain_seconds = {drain}
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 8
"""


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A place whose changes are captured."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        try:
            yield place
        finally:
            place.segue("capture", "remove")


@pytest.mark.parametrize("drain", [0, 30])
def test_sigterm_drains_for_as_long_as_it_may(place: Workplace, drain: int) -> None:
    """Thousands of keys are dirty: given time, all are equal when it has ended; without, it leaves at once, the rest dirty."""
    place.configure(CONFIGURATION.format(drain=drain, collection=place.collection, label=place.label))
    assert place.segue("capture", "install").code == 0
    copied = place.migrate()
    assert copied.code == 0, copied.err
    vectors = np.random.default_rng(1).random((CHANGED, DIMENSION)).tolist()
    place.rows(
        "UNWIND range(0, size($vectors) - 1) AS i CREATE (:LABEL {id: 'k' + i, embedding: $vectors[i]})", vectors=vectors
    )

    relay = place.start("relay", "--format", "json")
    relay.await_words("backlog")
    relay.signal(signal.SIGTERM)
    ended = relay.ended(60)

    assert ended.code == 0, ended.err
    (told,) = ended.data["collections"]
    dirty = place.rows("MATCH (m:SegueMark {collection: $name}) WHERE m.ver <> m.acked RETURN count(*)", name=place.collection)
    assert told["dirty"] == dirty[0][0]
    assert (told["dirty"] == 0) == bool(drain)
    # A key whose request was not answered in time is made equal once more.
    assert told["equal"] + told["dirty"] >= CHANGED
    held = place.rows("MATCH (l:SegueLease {collection: $name}) WHERE l.owner <> '' RETURN l", name=place.collection)
    assert not held, "some partition is still leased"
