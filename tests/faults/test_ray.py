"""The copy on a Ray cluster: equal in the end, whether it is stopped, loses a worker, or goes on without the cluster."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

from acceptance.items import assert_equal, configuration, load
from acceptance.workplace import Started, Workplace, eventually, workplace
from segue.sandbox import Endpoint

COMMAND = ("migrate-embeddings", "--format", "json")
ON_RAY = (*COMMAND, "--ray", "local")
SMALL = {"SEGUE_BATCH_SIZE": "10", "SEGUE_WORKERS": "2"}
"""Batches so small that the copy lasts for seconds."""


def test_a_copy_on_a_cluster_is_stopped_loses_a_worker_and_ends_equal(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """Each end is resumable by the same command, on the cluster or off it; then every row is there once, and equal."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        loaded = load(place, 3_000, unfit=1)
        place.configure(configuration(place, loaded))

        stopped = _in_the_copy(place)
        stopped.signal(signal.SIGTERM)
        ended = stopped.ended()
        assert ended.code == 130, ended.err
        assert "everything acknowledged is recorded" in ended.err
        assert ended.data["counts"]["pending"] > 0

        bereft = _in_the_copy(place)
        _actors(bereft)[0].kill()
        ended = bereft.ended()
        assert ended.code == 1, ended.err
        assert "error: the Ray worker that copied range" in ended.err
        assert "Traceback" not in ended.err
        assert ended.data["counts"]["pending"] > 0

        ended = _in_the_copy(place).ended()
        assert ended.code == 0, ended.err
        assert ended.data["counts"] == loaded.counts
        assert_equal(place, loaded)
        assert place.migrate().data["collections"][0]["migrated_now"] == 0


def test_a_cluster_that_is_not_there_is_said_so(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> None:
    """One message, with what an address looks like; nothing is copied."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(configuration(place, load(place, 1)))
        ended = place.segue(*COMMAND, "--ray", "ray://127.0.0.1:1")
        assert ended.code == 2, ended.err
        assert "error: there is no Ray cluster at 'ray://127.0.0.1:1'" in ended.err
        assert "Traceback" not in ended.err
        assert _migrated(place) == 0


def _in_the_copy(place: Workplace) -> Started:
    """Start the command on a cluster of its own and return it when it has recorded more than before."""
    before = _migrated(place)
    running = place.start(*ON_RAY, **SMALL)
    eventually(lambda: _migrated(place) > before or running.process.poll() is not None)
    assert _migrated(place) > before, running.said
    return running


def _migrated(place: Workplace) -> int:
    record = place.record()
    return record.counts["migrated"] if record else 0


def _actors(running: Started) -> list[psutil.Process]:
    """Return the processes that copy."""
    mine = psutil.Process(running.process.pid).children(recursive=True)
    found = [one for one in mine if "ray::_There" in " ".join(one.cmdline())]
    assert found, [one.cmdline() for one in mine]
    return found
