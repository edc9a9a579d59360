"""A store that goes away in the middle of the copy: waited for while patience lasts, given up resumably afterwards."""

from __future__ import annotations

import time
from pathlib import Path

from acceptance.items import Loaded, assert_equal, configuration, load
from acceptance.workplace import Ended, Started, Workplace, eventually, workplace
from faults.proxy import Proxy, proxied
from segue.sandbox import Endpoint

COMMAND = ("migrate-embeddings", "--format", "json")
SLOW = {"SEGUE_BATCH_SIZE": "10", "SEGUE_WORKERS": "2"}
"""Batches so small that the copy lasts for seconds."""

OUTAGE_SECONDS = 1.5
SHORT_TIMEOUTS = """
[neo4j]
connect_timeout_seconds = 1
request_timeout_seconds = 1
[milvus]
request_timeout_seconds = 1
"""


def test_a_silent_store_is_given_up_a_cut_is_waited_for_and_the_copy_ends_equal(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """Connections that stay open and silent end the command, exit 1, once patience is used up; it resumes where it was.

    Cut off for seconds, it says that it tries again, and goes on. After both stores did both, they are equal.
    """
    with (
        workplace(tmp_path, newest_neo4j, milvus_endpoint) as place,
        proxied(newest_neo4j.uri) as (neo4j, neo4j_uri),
        proxied(milvus_endpoint.uri) as (milvus, milvus_uri),
    ):
        loaded = load(place, 1_500, unfit=1)
        stores = {f"Neo4j at {neo4j_uri}": neo4j, f"Milvus at {milvus_uri}": milvus}
        addresses = {"NEO4J_URI": neo4j_uri, "MILVUS_URI": milvus_uri}

        place.configure(configuration(place, loaded, extra=SHORT_TIMEOUTS))
        for name, proxy in stores.items():
            _assert_given_up(_with_silence(place, proxy, addresses), name, loaded)

        place.configure(configuration(place, loaded))
        ended = _with_cuts(place, stores, addresses)
        assert ended.code == 0, ended.err
        assert all(f"{name} does not answer" in ended.err for name in stores)
        assert ended.err.count("trying again") >= len(stores)
        assert ended.data["counts"] == loaded.counts
        assert_equal(place, loaded)


def _with_silence(place: Workplace, proxy: Proxy, addresses: dict[str, str]) -> Ended:
    """Run the command with little patience, behind a proxy that becomes a black hole in the middle of the copy."""
    running = place.start(*COMMAND, **SLOW, SEGUE_PATIENCE_SECONDS="2", **addresses)
    _await_progress(place, running)
    proxy.swallow()
    ended = running.ended()
    proxy.cut()
    proxy.mend()
    return ended


def _assert_given_up(ended: Ended, name: str, loaded: Loaded) -> None:
    assert ended.code == 1, ended.err
    assert ended.err.count("error:") == 1
    assert f"error: {name} " in ended.err
    assert "Traceback" not in ended.err
    assert ended.data["status"] == "failed"
    assert ended.data["error"]["message"].startswith(name)
    assert 0 < ended.data["counts"]["pending"] < loaded.counts["source"]


def _with_cuts(place: Workplace, stores: dict[str, Proxy], addresses: dict[str, str]) -> Ended:
    """Run the command and cut it off from one store after the other."""
    running = place.start(*COMMAND, **SLOW, **addresses)
    for name, proxy in stores.items():
        _await_progress(place, running)
        proxy.cut()
        running.await_words(name)
        time.sleep(OUTAGE_SECONDS)
        proxy.mend()
    return running.ended()


def _await_progress(place: Workplace, running: Started) -> None:
    """Return when more is recorded than now, by a command that goes on."""

    def done() -> int:
        record = place.record()
        return record.counts["migrated"] if record else 0

    before = done()
    eventually(lambda: done() > before or running.process.poll() is not None)
    assert running.process.poll() is None, running.said
    assert done() > before, "nothing was recorded for a long time"
