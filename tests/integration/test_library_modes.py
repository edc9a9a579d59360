"""The mode an instance acts by, on real servers: its own, the control node's, the lower of both; registration and barrier."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import neo4j
import pytest
from prometheus_client import CollectorRegistry

import segue
from acceptance.shop import Shop, shop, total, vector
from acceptance.workplace import eventually
from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES
from segue.sandbox import Endpoint


@pytest.fixture(autouse=True)
def _addresses_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLAIN_VARIABLES, *SECRET_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def copied(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A copied collection in `dual_write`, which its tests bring back to that."""
    with shop(tmp_path_factory.mktemp("shop"), newest_neo4j, milvus_endpoint) as one:
        yield one


@pytest.fixture
def untouched(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Shop]:
    """A collection of a few items that nobody has begun to move, in each release line of Neo4j."""
    with shop(tmp_path, neo4j_endpoint, milvus_endpoint, items=3, copied=False) as one:
        yield one


def item(key: str, number: int = 1) -> segue.Item:
    """Return an item that fits."""
    return segue.Item(key, vector(number), {"title": key, "year": 2000})


def settled(store: segue.DualWriteStore, mode: str) -> None:
    """Wait until a store's searches follow a mode: a second, and what a busy machine adds."""
    eventually(lambda: store.mode.value == mode)
    assert store.mode.value == mode


def test_writes_are_marked_when_either_mode_says_so(untouched: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither: no mark. The instance's own alone: marks, also before any operator came. The control node's alone: marks."""
    with untouched.open() as store:
        store.upsert([item("neither")])
        assert untouched.open_marks() == 0
    monkeypatch.setenv("STORAGE_MODE", "dual_write")
    with untouched.open() as store:
        assert store.mode is segue.StorageMode.NEO4J_ONLY
        assert not store.upsert([item("own")], wait=0)
        store.delete(["neither"])
        assert untouched.open_marks() == 2
    monkeypatch.setenv("STORAGE_MODE", "neo4j_only")
    untouched.change("dual_write")
    with untouched.open() as store:
        assert store.mode is segue.StorageMode.NEO4J_ONLY
        store.upsert([item("the control node's")])
        assert untouched.open_marks() == 3
    untouched.change("neo4j_only")
    with untouched.open() as store:
        store.upsert([item("neither again")])
        assert untouched.open_marks() == 3


def test_reads_follow_the_lower_mode_and_the_file_while_it_runs(copied: Shop, tmp_path: Path) -> None:
    """A file that is swapped as a mounted ConfigMap is, by a symlink: within a second or so, both ways, without a restart."""
    copied.reach("hybrid")
    mounted = _ConfigMap(tmp_path, "neo4j_only")
    with copied.open(relay=True, sections=f'[application]\nstorage_mode_file = "{mounted.path}"', milvus_seconds=3) as store:
        assert store.mode is segue.StorageMode.NEO4J_ONLY
        assert {hit.store for hit in store.search(vector(1))} == {segue.StoreName.NEO4J}
        mounted.swap("hybrid")
        settled(store, "hybrid")
        copied.await_closed()
        eventually(lambda: {hit.store for hit in store.search(vector(1))} == {segue.StoreName.MILVUS})
        assert {hit.store for hit in store.search(vector(1))} == {segue.StoreName.MILVUS}
        mounted.swap("shadow_milvus\n")
        settled(store, "shadow_milvus")
        copied.reach("dual_write")
        settled(store, "dual_write")
        mounted.swap("neo4j_only")
        settled(store, "neo4j_only")
        before = copied.open_marks()
        store.upsert([item("m1", 11)])
        assert copied.open_marks() == before + 1, "the control node says dual_write"
        store.delete(["m1"])


def test_a_file_that_says_no_mode(copied: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start: an error that lists the modes and shows nothing of the file. Later: the last one stays, told once."""
    caplog.set_level(logging.WARNING, "segue")
    mounted = _ConfigMap(tmp_path, "turbo-secret")
    configured = f'[application]\nstorage_mode_file = "{mounted.path}"'
    for content in ("turbo-secret", "", "hybrid hybrid", None):
        mounted.swap(content)
        with pytest.raises(segue.SegueError, match=str(mounted.path)) as caught, copied.open(sections=configured):
            pass
        assert "turbo" not in str(caught.value) + caught.value.hint
        assert "neo4j_only, dual_write, shadow_milvus, hybrid" in caught.value.hint
    mounted.swap("neo4j_only")
    with copied.open(sections=configured) as store:
        for content in ("turbo-secret", None):
            mounted.swap(content)
            time.sleep(1.5)
            assert store.mode is segue.StorageMode.NEO4J_ONLY
        mounted.swap("dual_write")
        settled(store, "dual_write")
    told = [record.getMessage() for record in caplog.records if str(mounted.path) in record.getMessage()]
    assert len(told) == 1
    assert "stays neo4j_only" in told[0]
    assert "turbo" not in caplog.text


def test_both_kinds_of_own_mode_are_refused(copied: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STORAGE_MODE and STORAGE_MODE_FILE together: which counts cannot be told; and a mode that is none is named."""
    monkeypatch.setenv("STORAGE_MODE", "hybrid")
    monkeypatch.setenv("STORAGE_MODE_FILE", str(_ConfigMap(tmp_path, "hybrid").path))
    with pytest.raises(segue.SegueError, match="both given"):
        segue.connect(copied.configure())
    monkeypatch.delenv("STORAGE_MODE_FILE")
    monkeypatch.setenv("STORAGE_MODE", "turbo")
    with pytest.raises(segue.SegueError, match="storage_mode"):
        segue.connect(copied.configure())


def test_instances_are_registered_while_they_run(copied: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """`segue mode show` names each with its own mode and the epoch it acts in; closed, it is gone."""
    registry = CollectorRegistry()
    with copied.open(registry=registry):
        monkeypatch.setenv("STORAGE_MODE", "hybrid")
        with copied.open():
            (one,) = copied.place.segue("mode", "show", "--format", "json").data["collections"]
            assert sorted(each["own"] or "" for each in one["instances"]) == ["", "hybrid"]
            assert {each["epoch"] for each in one["instances"]} == {one["epoch"]}
            assert total(registry, "segue_epoch") == one["epoch"]
        (one,) = copied.place.segue("mode", "show", "--format", "json").data["collections"]
        assert len(one["instances"]) == 1
    (one,) = copied.place.segue("mode", "show", "--format", "json").data["collections"]
    assert one["instances"] == []


def test_a_change_waits_for_an_instance_that_is_busy(copied: Shop) -> None:
    """A write that is held up holds the barrier up, and the command names the instance; when the write ends, it completes."""
    place = copied.place
    copied.reach("dual_write")
    with copied.open() as store, place.driver.session(database="neo4j") as session:
        holding = session.begin_transaction()
        _lock(holding, place.label, "k001")
        writing = threading.Thread(target=store.upsert, args=([item("k001", 1)],))
        writing.start()
        time.sleep(0.5)
        late = place.segue("mode", "set", "neo4j_only", "--wait-secs", "2", "--format", "json")
        (instance,) = late.data["collections"][0]["instances"]
        assert late.code == 1
        assert late.data["collections"][0]["mode"] == "neo4j_only"
        assert f"waits for {instance['name']}" in late.data["error"]["message"]
        assert instance["epoch"] < late.data["collections"][0]["epoch"]
        holding.rollback()
        writing.join()
        assert place.segue("mode", "set", "neo4j_only", "--format", "json").code == 0
        # Whether the held write left a mark is not said: it may have looked at the mode before the change or behind it.
        store.upsert([item("k002", 2)])
        assert _version_of_mark(copied, "k002") is None
    _copy_anew(copied)


def test_a_burnt_error_budget_steps_back_by_itself(copied: Shop) -> None:
    """Milvus answers wrongly for a while: the whole fleet reads Neo4j again, and the reason is shown to operators."""
    place = copied.place
    copied.reach("shadow_milvus")
    with copied.open(milvus_seconds=3, shadow_rate=1.0) as store, copied.open(relay=True) as other:
        settled(store, "shadow_milvus")
        copied.await_closed()
        keys = sorted(copied.copies())
        place.client.delete(place.collection, ids=keys[: len(keys) * 3 // 4])
        until = time.monotonic() + 60
        number = 0
        while copied.mode.value == "shadow_milvus" and time.monotonic() < until:
            store.search(vector(number := number + 1), 10)
        assert copied.mode.value == "dual_write"
        settled(store, "dual_write")
        settled(other, "dual_write")
        (one,) = place.segue("mode", "show", "--format", "json").data["collections"]
        assert "stepped back by itself: Milvus found" in one["reason"]
        assert {hit.store for hit in store.search(vector(1))} == {segue.StoreName.NEO4J}
    _copy_anew(copied)


def test_hybrid_opens_by_what_users_searches_showed(copied: Shop) -> None:
    """Refused until enough of them were compared; they still count when the instance that saw them is gone."""
    place = copied.place
    copied.reach("shadow_milvus")
    copied.configure(least_shadow_reads=25)
    try:
        with copied.open(relay=True, milvus_seconds=3, shadow_rate=1.0) as store:
            settled(store, "shadow_milvus")
            copied.await_closed()
            refused = place.segue("mode", "set", "hybrid")
            assert refused.code == 5
            assert "25 are wanted" in refused.err
            eventually(lambda: {hit.store for hit in store.search(vector(1))} == {segue.StoreName.MILVUS})
            for number in range(40):
                store.search(vector(number), 10)
        ended = place.segue("mode", "set", "hybrid", "--format", "json")
        assert ended.code == 0, ended.err
        assert ended.data["collections"][0]["overridden"] == []
    finally:
        copied.configure()


def _copy_anew(copied: Shop) -> None:
    """Bring the collection back to what its fixture gives."""
    copied.reach("dual_write")
    ended = copied.place.segue("migrate-embeddings", "--restart")
    assert ended.code == 0, ended.err
    assert copied.place.segue("relay", "--until-drained").code == 0
    assert copied.nodes() == copied.copies()


def _lock(holding: neo4j.Transaction, label: str, key: str) -> None:
    holding.run(f"MATCH (n:`{label}` {{id: $key}}) SET n.held = true", key=key).consume()


def _version_of_mark(copied: Shop, key: str) -> str | None:
    text = "MATCH (m:SegueMark {collection: $name, key: $key}) RETURN m.ver"
    found = copied.place.rows(text, name=copied.place.collection, key=key)
    return found[0][0] if found else None


class _ConfigMap:
    """A file mounted as Kubernetes does it: `mode` → `..data/mode`, `..data` → a folder that is swapped for another at once."""

    def __init__(self, folder: Path, content: str) -> None:
        self._folder = folder / "mounted"
        self._folder.mkdir()
        self._number = 0
        self.path = self._folder / "mode"
        self.swap(content)
        self.path.symlink_to(Path("..data") / "mode")

    def swap(self, content: str | None) -> None:
        """Let the file hold something else; None takes the key out of the map."""
        self._number += 1
        new = self._folder / f"..{self._number}"
        new.mkdir()
        if content is not None:
            (new / "mode").write_text(content, encoding="utf-8")
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(new.name)
        fresh.rename(self._folder / "..data")
