"""Being asked to stop, and being started twice: what is recorded is true, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from acceptance.items import Loaded, assert_equal, configuration, load
from acceptance.workplace import Ended, RangeRecord, Started, Workplace, eventually, workplace
from faults.proxy import proxied
from segue.sandbox import Endpoint

COMMAND = ("migrate-embeddings", "--format", "json")
SLOW = {"SEGUE_BATCH_SIZE": "5", "SEGUE_WORKERS": "2"}
"""Batches so small that the copy lasts for seconds."""


def test_asked_to_stop_it_records_what_is_in_flight_and_the_same_command_completes(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """SIGINT and SIGTERM end the copy with 130, twice SIGINT at once; Milvus has every row recorded; it completes, equal."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        loaded = _prepared(place)
        for number in (signal.SIGINT, signal.SIGTERM):
            before = _done(place)
            ended = _asked_once(place, number)

            assert ended.code == 130
            assert "segue migrate-embeddings" in ended.err, "nothing says how to resume"
            assert "Traceback" not in ended.err
            assert before < _done(place) < loaded.counts["source"]
            assert ended.data["status"] == "interrupted"
            counts = ended.data["counts"]
            assert counts["migrated"] + counts["quarantined"] == _done(place)
            assert counts["pending"] == loaded.counts["source"] - _done(place)
        _assert_milvus_has_what_is_recorded(place)

        assert _asked_twice(place).code == 130
        completed = place.migrate()
        assert completed.code == 0, completed.err
        assert completed.data["counts"] == loaded.counts
        assert_equal(place, loaded)


def test_a_second_command_on_the_same_state_is_refused_with_the_process_that_has_it(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """Two commands at once never share a state file: the later one fails, names the other's process, and harms nothing."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        _prepared(place)
        running = _in_the_copy(place)
        second = place.migrate()
        running.signal(signal.SIGINT)
        first = running.ended()

        assert second.code == 1
        assert f"process {running.process.pid}" in second.err
        assert second.data["error"]["exit_code"] == 1
        assert first.code == 130


def _prepared(place: Workplace) -> Loaded:
    loaded = load(place, 2_500, unfit=1)
    place.configure(configuration(place, loaded))
    return loaded


def _done(place: Workplace) -> int:
    record = place.record()
    return record.counts["migrated"] + record.counts["quarantined"] if record else 0


def _in_the_copy(place: Workplace, **changes: str) -> Started:
    """Start the command and return when it has recorded something new."""
    before = _done(place)
    running = place.start(*COMMAND, **SLOW, **changes)
    eventually(lambda: _done(place) > before)
    return running


def _asked_once(place: Workplace, number: signal.Signals) -> Ended:
    running = _in_the_copy(place)
    running.signal(number)
    return running.ended()


def _asked_twice(place: Workplace) -> Ended:
    """Ask while Milvus is silent, so that what is in flight stays there; then ask again."""
    with proxied(place.milvus.uri) as (proxy, through):
        running = _in_the_copy(place, MILVUS_URI=through)
        proxy.swallow()
        running.signal(signal.SIGINT)
        running.await_words("again to stop at once")
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(1.0)
        running.signal(signal.SIGINT)
        return running.ended(seconds=3.0)


def _assert_milvus_has_what_is_recorded(place: Workplace) -> None:
    """Every key up to a range's cursor is in Milvus, and the recorded number of rows is that of these keys."""
    record = place.record()
    assert record is not None
    fit = [key for (key,) in place.rows("MATCH (n:LABEL) WHERE n.id =~ 'k-[0-9]{6}' RETURN n.id")]
    recorded = {key for key in fit if any(_is_behind(key, one) for one in record.ranges)}
    assert len(recorded) == record.counts["migrated"]
    assert recorded <= _keys_in_milvus(place)


def _is_behind(key: str, progress: RangeRecord) -> bool:
    """Say whether a key lies in a range and not beyond its cursor."""
    end = progress.until if progress.done else progress.cursor
    is_begun = progress.done or progress.cursor is not None
    return is_begun and (progress.after is None or key > progress.after) and (end is None or key <= end)


def _keys_in_milvus(place: Workplace) -> set[str]:
    """Read the keys of a collection that is still without an index, and leave it so."""
    index = place.client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    place.client.create_index(place.collection, index)
    place.client.load_collection(place.collection)
    found = place.client.query(place.collection, filter='id != ""', limit=16_384, consistency_level="Strong")
    place.client.release_collection(place.collection)
    place.client.drop_index(place.collection, place.client.list_indexes(place.collection)[0])
    return {row["id"] for row in found}
