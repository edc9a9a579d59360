"""What a relay and a copy have done can be scraped while they run, by the names that dashboards know."""

from __future__ import annotations

import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from acceptance.workplace import Workplace, eventually, workplace
from segue.sandbox import Endpoint

CONFIGURATION = """\
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
metric = "euclidean"
"""


def scraped(port: int) -> dict[str, float]:
    """Return every sample without its labels; of those that share a name, the sum. Nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A label with five items, whose changes the library captures."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as found:
        found.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        found.rows("UNWIND range(1, 5) AS i CREATE (:LABEL {id: toString(i), embedding: [1.0, i]})")
        found.configure(CONFIGURATION.format(collection=found.collection, label=found.label))
        found.note_preflight()
        assert found.segue("mode", "set", "dual_write").code == 0
        yield found


def test_a_relay_shows_what_it_carries_over(place: Workplace) -> None:
    """Attempts, successes, lag and backlog, and how the collection stands; ready once it works; served until its end."""
    assert place.migrate().code == 0
    port = free_port()
    relay = place.start("relay", "--metrics-port", str(port))
    place.rows(
        """UNWIND ['1', '2'] AS key MATCH (n:LABEL {id: key}) SET n.embedding = [9.0, 9.0]
           CREATE (:SegueMark:SegueOpen {collection: $name, key: key, part: 0, ver: 'x', acked: '', marked_at: timestamp()})""",
        name=place.collection,
    )
    # The last of them is told when a round is over, a moment after what the round carried.
    told_last = {"dual_write_backlog", "segue_relay_up"}
    eventually(lambda: scraped(port).get("dual_write_success_total") == 2 and told_last <= scraped(port).keys())
    seen = scraped(port)
    assert seen["dual_write_attempts_total"] == 2
    assert seen["dual_write_success_total"] == 2
    assert seen["dual_write_lag_seconds_count"] == 2
    assert seen["segue_relay_up"] == 1
    eventually(lambda: scraped(port).get("segue_milvus_rows") == 5)
    assert scraped(port)["segue_milvus_rows"] == 5
    assert scraped(port)["segue_storage_mode"] == 1
    assert scraped(port)["segue_process_memory_bytes"] > 20e6
    for probe in ("healthz", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{probe}", timeout=5) as answer:
            assert answer.status == 200
    assert relay.process.poll() is None


def test_a_copy_shows_how_far_it_has_come(place: Workplace) -> None:
    """Under the names of the first version's dashboard."""
    port = free_port()
    copying = place.start("migrate-embeddings", "--metrics-port", str(port))
    most: dict[str, float] = {}
    while copying.process.poll() is None:
        most |= scraped(port)
        time.sleep(0.02)
    assert copying.ended().code == 0
    assert most["migration_total_items"] == 5
    assert most["migration_migrated_items"] == 5


def test_a_relay_that_waits_for_its_stores_lives_and_is_not_ready(place: Workplace) -> None:
    """Milvus is away from the beginning: no reason to start it anew, and the gauge says that nothing is carried over."""
    port = free_port()
    place.start("relay", "--metrics-port", str(port), MILVUS_URI="http://127.0.0.1:1")
    eventually(lambda: scraped(port).get("segue_relay_up") == 0)
    assert scraped(port)["segue_relay_up"] == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)


def test_a_copy_is_seen_to_its_end(place: Workplace) -> None:
    """Its last figures stay until they are scraped; who wants no more waits no longer."""
    port = free_port()
    copying = place.start("migrate-embeddings", "--metrics-port", str(port))
    copying.await_words("the last figures are shown until they are scraped")
    assert copying.process.poll() is None
    assert scraped(port)["migration_migrated_items"] == 5
    assert copying.ended(10).code == 0
    again = place.start("migrate-embeddings", "--metrics-port", str(port))
    again.await_words("the last figures are shown until they are scraped")
    again.signal(signal.SIGTERM)
    assert again.ended(10).code == 0


def test_a_port_that_is_taken_is_named(place: Workplace) -> None:
    """Exit 2 before anything is done, with what to do."""
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104  # taken on every address, as an exporter takes it
        port = listener.getsockname()[1]
        ended = place.segue("relay", "--metrics-port", str(port))
    assert ended.code == 2
    assert str(port) in ended.err
