"""Stores that go away under an application that uses the library: users notice nothing of Milvus, and little of Neo4j."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import segue
from acceptance.shop import Shop, shop, total, vector
from acceptance.workplace import eventually
from faults.proxy import proxied
from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES
from segue.sandbox import Endpoint

MILVUS_SECONDS = 0.5
SPARE_SECONDS = 1.5
"""What a search of Neo4j takes here, on a machine that is busy with other tests."""

AT_WORK = 20
"""Searches that are made to see how things are."""


@pytest.fixture(autouse=True)
def _addresses_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLAIN_VARIABLES, *SECRET_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def copied(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A copied collection in `hybrid`."""
    with shop(tmp_path_factory.mktemp("shop"), newest_neo4j, milvus_endpoint) as one:
        one.reach("hybrid")
        one.await_closed()
        yield one


def item(key: str, number: int) -> segue.Item:
    """Return an item that fits."""
    return segue.Item(key, vector(number), {"title": key, "year": 2000})


def slowest(store: segue.DualWriteStore, times: int = AT_WORK) -> float:
    """Search so often; each finds what it should; return the longest a user waited, in seconds."""
    waited = []
    for number in range(times):
        began = time.monotonic()
        (hit,) = store.search(vector(number), 1)
        waited.append(time.monotonic() - began)
        assert hit.key == f"k{number:03d}"
    return max(waited)


def answered_by(store: segue.DualWriteStore) -> segue.StoreName:
    """Return who answers a search now."""
    return store.search(vector(0), 1)[0].store


def test_milvus_away_at_the_start(copied: Shop, milvus_endpoint: Endpoint) -> None:
    """The store opens all the same and soon, Neo4j answers, and it is counted; when Milvus comes, it answers by itself."""
    registry = CollectorRegistry()
    with proxied(milvus_endpoint.uri) as (proxy, uri):
        proxy.cut()
        began = time.monotonic()
        with copied.open(milvus=uri, registry=registry, milvus_seconds=MILVUS_SECONDS) as store:
            assert time.monotonic() - began < 5
            assert slowest(store) < MILVUS_SECONDS + SPARE_SECONDS
            assert answered_by(store) is segue.StoreName.NEO4J
            assert total(registry, "segue_search_fallbacks_total") == AT_WORK + 1
            assert total(registry, "segue_searches_total", store="neo4j") == AT_WORK + 1
            proxy.mend()
            eventually(lambda: answered_by(store) is segue.StoreName.MILVUS)
            assert answered_by(store) is segue.StoreName.MILVUS


@pytest.mark.parametrize("fault", ["cut", "swallow", "mute"])
def test_milvus_lost_while_running(copied: Shop, milvus_endpoint: Endpoint, fault: str) -> None:
    """Refusing, silent, its answers lost: Neo4j answers each search in time, most without asking it; then it recovers."""
    registry = CollectorRegistry()
    with (
        proxied(milvus_endpoint.uri) as (proxy, uri),
        copied.open(milvus=uri, registry=registry, milvus_seconds=MILVUS_SECONDS) as store,
    ):
        eventually(lambda: answered_by(store) is segue.StoreName.MILVUS)
        slowest(store)
        before = total(registry, "segue_search_fallbacks_total")
        getattr(proxy, fault)()
        assert slowest(store) < MILVUS_SECONDS + SPARE_SECONDS
        assert answered_by(store) is segue.StoreName.NEO4J
        assert total(registry, "segue_search_fallbacks_total") - before == AT_WORK + 1
        assert total(registry, "segue_search_fallbacks_total", reason="breaker_open") > AT_WORK / 2
        eventually(lambda: total(registry, "segue_breaker_open") == 1)
        assert total(registry, "segue_breaker_open") == 1
        assert total(registry, "segue_store_errors_total", store="milvus", operation="search") >= 5

        # What was held back is lost, as it is with a server that died.
        proxy.cut()
        proxy.mend()
        eventually(lambda: answered_by(store) is segue.StoreName.MILVUS)
        assert answered_by(store) is segue.StoreName.MILVUS
        eventually(lambda: total(registry, "segue_breaker_open") == 0)
        assert total(registry, "segue_breaker_open") == 0


def test_writes_do_not_notice_that_milvus_is_away(copied: Shop, milvus_endpoint: Endpoint) -> None:
    """As quick as otherwise, none fails, `wait` ends in time and says no; searches see them; afterwards Milvus has them all."""
    with proxied(milvus_endpoint.uri) as (proxy, uri), copied.open(milvus=uri, relay=True) as store:
        assert store.upsert([item("before", 101)], wait=30)
        usual = _seconds(lambda: store.upsert([item("w", 102)]))
        proxy.swallow()
        assert _seconds(lambda: store.upsert([item("w", 103)])) < 3 * usual + 0.2
        began = time.monotonic()
        assert not store.upsert([item("x", 104)], wait=0.5)
        assert time.monotonic() - began < 0.5 + SPARE_SECONDS
        store.delete(["before"])
        assert [store.search(vector(number), 1)[0].key for number in (103, 104)] == ["w", "x"]
        assert "before" not in {hit.key for hit in store.search(vector(101), 5)}
        assert store.pending().dirty >= 3
        proxy.cut()
        proxy.mend()
        eventually(lambda: copied.nodes() == copied.copies())
        assert copied.nodes() == copied.copies()
        assert store.delete(["w", "x"], wait=30)


def _seconds(call: Callable[[], object]) -> float:
    """Return the median of several calls."""
    taken = []
    for _ in range(9):
        began = time.monotonic()
        call()
        taken.append(time.monotonic() - began)
    return sorted(taken)[len(taken) // 2]


def test_neo4j_away_is_one_clear_error_in_time(copied: Shop, newest_neo4j: Endpoint) -> None:
    """Cut or silent: searches and writes of several users raise a RetryableError within their time; then all is as before.

    A mode that was changed meanwhile is followed from the first moment.
    """
    with (
        proxied(newest_neo4j.uri) as (proxy, uri),
        copied.open(neo4j=uri, relay=True, request_seconds=3, neo4j_seconds=2, milvus_seconds=3) as store,
    ):
        for fault in ("cut", "swallow"):
            slowest(store, 3)
            getattr(proxy, fault)()
            users = [_User(store) for _ in range(4)]
            for user in users:
                user.join(60)
            assert not any(user.is_alive() for user in users)
            for user in users:
                assert all(isinstance(one, segue.RetryableError) for one in user.raised), user.raised
                assert all("Neo4j at" in str(one) and newest_neo4j.password not in str(one) for one in user.raised)
                assert len(user.raised) == 2
                # A search may open a connection, ask the fence twice, and then give up.
                assert user.seconds["search"] < 2 * (2 + 2) + SPARE_SECONDS, user.seconds
                # The driver begins a transaction anew for as long again, and a last time after its longest pause.
                assert user.seconds["write"] < 2 * 3 + 4 + 2 + SPARE_SECONDS, user.seconds
            copied.change("shadow_milvus" if fault == "cut" else "dual_write")
            proxy.cut()
            proxy.mend()
            eventually(lambda: store.mode is copied.mode)
            assert store.mode is copied.mode
            assert slowest(store, 3) < 2 + SPARE_SECONDS
            assert not store.upsert([item("after", 201)])
            store.delete(["after"])
        store.delete(["lost"], missing_ok=True)
        copied.reach("hybrid")


class _User(threading.Thread):
    """Searches once and writes once, and keeps what came of it."""

    def __init__(self, store: segue.DualWriteStore) -> None:
        super().__init__()
        self._store = store
        self.raised: list[Exception] = []
        self.seconds: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        calls: dict[str, Callable[[], object]] = {
            "search": lambda: self._store.search(vector(1)),
            "write": lambda: self._store.upsert([item("lost", 202)]),
        }
        for name, call in calls.items():
            began = time.monotonic()
            try:
                call()
            except Exception as fault:  # noqa: BLE001  # told by the test
                self.raised.append(fault)
            self.seconds[name] = time.monotonic() - began


def test_the_collection_is_dropped_under_the_application(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """Neo4j answers every search, no user sees an error; when the collection is made again, Milvus answers by itself."""
    with shop(tmp_path, newest_neo4j, milvus_endpoint) as one:
        one.reach("hybrid")
        one.await_closed()
        with one.open(milvus_seconds=3) as store:
            eventually(lambda: answered_by(store) is segue.StoreName.MILVUS)
            assert answered_by(store) is segue.StoreName.MILVUS
            one.place.drop_collections()
            assert slowest(store) < 3 + SPARE_SECONDS
            assert answered_by(store) is segue.StoreName.NEO4J
            one.reach("dual_write")
            one.place.drop_records()
            assert one.place.segue("migrate-embeddings").code == 0
            one.reach("hybrid")
            one.await_closed()
            eventually(lambda: answered_by(store) is segue.StoreName.MILVUS)
            assert answered_by(store) is segue.StoreName.MILVUS
