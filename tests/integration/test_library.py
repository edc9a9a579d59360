"""`segue.connect` on real servers: what an application writes, marks, searches and waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neo4j
import numpy as np
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

import segue
from acceptance.shop import DIMENSION, Shop, as_seen, shop, total, vector
from acceptance.workplace import eventually
from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES
from segue.sandbox import Endpoint

FILTERS: list[dict[str, Any] | None] = [
    None,
    {"year": 1974},
    {"year": {">=": 1972, "<": 1976}},
    {"year": {"in": [1970, 1979]}},
    {"title": {"!=": "item 3"}},
    {"tags": {"contains": "even"}},
    {"tags": {"contains": "odd"}, "year": {">": 1974}},
    {"id": "k007"},
]


@pytest.fixture(autouse=True)
def _addresses_from_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PLAIN_VARIABLES, *SECRET_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def each_line(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A copied collection in `dual_write`, in each release line of Neo4j; a test writes under keys of its own."""
    with shop(tmp_path_factory.mktemp("shop"), neo4j_endpoint, milvus_endpoint) as one:
        yield one


@pytest.fixture(scope="module")
def copied(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A copied collection on the newest line."""
    with shop(tmp_path_factory.mktemp("shop"), newest_neo4j, milvus_endpoint) as one:
        yield one


def item(key: str, number: float, **properties: Any) -> segue.Item:
    """Return an item with a vector like no other number's."""
    return segue.Item(key, vector(number), {"title": f"item {number}", "year": 2000, **properties})


def test_what_is_written_is_in_both_stores(each_line: Shop) -> None:
    """New, changed, with a property removed, deleted: Neo4j at once, Milvus when `wait=` says so; then found by it alone."""
    each_line.reach("dual_write")
    with each_line.open(relay=True) as store:
        assert store.mode is segue.StorageMode.DUAL_WRITE
        assert store.upsert([item("w1", 101), item("w2", 102, tags=["a"], unlisted=7, kept=8)], wait=30)
        assert store.upsert([segue.Item("w1", vector(103), {"title": "changed", "tags": ["b"]})], wait=30)
        assert store.upsert([segue.Item("w2", vector(104), {"tags": None, "unlisted": None})], wait=30)
        assert each_line.nodes()["w1"] == (tuple(vector(103).tolist()), "changed", 2000)
        assert each_line.copies()["w1"] == each_line.nodes()["w1"]
        assert each_line.copies()["w2"][0] == tuple(vector(104).tolist())
        assert store.delete(["w1", "w1"], wait=30)
        assert "w1" not in each_line.nodes() | each_line.copies()
        assert each_line.place.rows("MATCH (n:LABEL {id: 'w2'}) RETURN n.kept, n.unlisted, n.tags") == [[8, None, None]]

        each_line.reach("hybrid")
        each_line.await_closed()
        eventually(lambda: store.mode is segue.StorageMode.HYBRID)
        (hit,) = store.search(vector(104), 1)
        assert (hit.key, hit.store) == ("w2", segue.StoreName.MILVUS)
        assert hit.properties == {"title": "item 102", "year": 2000}
        store.delete(["w2"])
    each_line.reach("dual_write")


def test_an_unknown_key_is_not_deleted(each_line: Shop) -> None:
    """With it nothing else goes either; it is a ValueError that names it; `missing_ok` lets it pass and deletes the rest."""
    with each_line.open() as store:
        store.upsert([item("d1", 201), item("d2", 202)])
        with pytest.raises(segue.UnknownKey, match=r"id 'no such', 'nor this'; nothing was deleted") as caught:
            store.delete(["d1", "no such", "d2", "nor this"])
        assert isinstance(caught.value, ValueError)
        assert {"d1", "d2"} <= each_line.nodes().keys()
        store.delete(["d1", "no such"], missing_ok=True)
        assert "d1" not in each_line.nodes()
        store.delete(["d2"])


def test_marks_in_the_applications_own_transaction(each_line: Shop) -> None:
    """Committed with it, or rolled back with it, in any order with the change; Milvus follows; synchronous and asynchronous."""
    place = each_line.place

    def change(tx: neo4j.ManagedTransaction) -> None:
        store.mark(tx, ["k001", "k002", "brand new"])
        tx.run(f"MATCH (n:`{place.label}` {{id: 'k001'}}) SET n.title = 'by hand'").consume()
        tx.run(f"MATCH (n:`{place.label}` {{id: 'k002'}}) DETACH DELETE n").consume()
        create = f"CREATE (n:`{place.label}` {{id: 'brand new', title: 't', year: 1, embedding: $v}})"
        tx.run(create, v=vector(301).tolist()).consume()

    with each_line.open() as store, place.driver.session(database="neo4j") as session:
        with session.begin_transaction() as undone:
            store.mark(undone, ["k003"])
            undone.rollback()
        assert not _is_dirty(each_line, "k003")
        session.execute_write(change)
        assert all(_is_dirty(each_line, key) for key in ("k001", "k002", "brand new"))
        with pytest.raises(segue.InvalidInput, match="the keys are the text 'k001'"), session.begin_transaction() as tx:
            store.mark(tx, "k001")
        asyncio.run(_change_asynchronously(each_line))
    with each_line.open(relay=True):
        eventually(lambda: each_line.nodes() == each_line.copies())
    assert each_line.nodes() == each_line.copies()
    assert each_line.copies()["k001"][1] == "by hand"
    assert each_line.copies()["k004"][1] == "asynchronously"


async def _change_asynchronously(one: Shop) -> None:
    place = one.place
    auth = (place.neo4j.username, place.neo4j.password)
    async with (
        await segue.connect_async(one.configure(), registry=CollectorRegistry()) as store,
        neo4j.AsyncGraphDatabase.driver(place.neo4j.uri, auth=auth) as driver,
        driver.session(database="neo4j") as session,
    ):

        async def change(tx: neo4j.AsyncManagedTransaction) -> None:
            await tx.run(f"MATCH (n:`{place.label}` {{id: 'k004'}}) SET n.title = 'asynchronously'")
            await store.mark(tx, ["k004"])

        await session.execute_write(change)
        assert _is_dirty(one, "k004")


def _is_dirty(one: Shop, key: str) -> bool:
    text = "MATCH (m:SegueMark {collection: $name, key: $key}) WHERE m.ver <> m.acked RETURN true"
    return bool(one.place.rows(text, name=one.place.collection, key=key))


def test_the_same_words_awaited(copied: Shop) -> None:
    """Each call of the asynchronous store does what its twin does, several of them at once; closed twice it stays closed."""

    async def work() -> None:
        store = await segue.connect_async(copied.configure(), relay=True, registry=CollectorRegistry())
        async with store:
            assert store.mode is copied.mode
            ended = await asyncio.gather(*(store.upsert([item(f"a{n}", 400 + n)], wait=30) for n in range(8)))
            assert all(ended)
            found = await asyncio.gather(*(store.search(vector(400 + n), 1) for n in range(8)))
            assert [hit.key for (hit,) in found] == [f"a{n}" for n in range(8)]
            assert (await store.pending()).dirty == 0
            with pytest.raises(segue.UnknownKey):
                await store.delete(["no such"])
            assert await store.delete([f"a{n}" for n in range(8)], wait=30)
        await store.close()

    asyncio.run(work())
    assert not [key for key in copied.copies() if key.startswith("a")]


def test_waiting_without_a_relay_is_bounded(copied: Shop) -> None:
    """Nobody carries it over: false after about the time given; `pending` says what is left; nobody waits for an old write."""
    with copied.open() as store:
        before = store.pending().dirty
        assert not store.upsert([item("b1", 501)])
        began = time.monotonic()
        assert not store.upsert([item("b2", 502)], wait=0.5)
        assert 0.5 <= time.monotonic() - began < 5
        left = store.pending()
        assert left.dirty == before + 2
        assert left.open >= left.dirty
        assert left.oldest_seconds >= 0.5
        assert not store.upsert([], wait=5)
        assert not store.delete([], wait=5)
        for wrong in (-1, float("nan"), "soon", True):
            with pytest.raises(segue.InvalidInput, match="wait is"):
                store.upsert([item("b3", 503)], wait=wrong)  # type: ignore[arg-type]
        assert "b3" not in copied.nodes()
        store.delete(["b1", "b2"])


def test_several_threads_use_one_store(copied: Shop) -> None:
    """Eight of them write, search and delete at the same time: each sees its own, and both stores end equal."""
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                mine = 600 + 20 * number + turn
                store.upsert([item(f"t{number}", mine), item("shared", mine)])
                assert f"t{number}" in {hit.key for hit in store.search(vector(mine), 2)}
            store.delete([f"t{number}"])
        except BaseException as fault:  # noqa: BLE001  # told below
            faults.append(fault)

    with copied.open(relay=True) as store:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        assert store.delete(["shared"], wait=30)
        eventually(lambda: copied.nodes() == copied.copies())
    assert copied.nodes() == copied.copies()


def test_closing_twice_and_leaving_no_thread(copied: Shop) -> None:
    """Every thread it began ends with it, also the relay's; what is called afterwards fails clearly, and writes nothing."""
    before = {thread.ident for thread in threading.enumerate() if thread.name.startswith("segue")}
    store = segue.connect(copied.configure(), relay=True, registry=CollectorRegistry())
    store.close()
    store.close()

    def left() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("segue") and one.ident not in before]

    eventually(lambda: not left())
    assert not left()
    with pytest.raises(segue.SegueError, match="closed"):
        store.upsert([item("late", 701)])
    with pytest.raises(segue.SegueError, match="closed"):
        store.search(vector(701))
    assert "late" not in copied.nodes()


@pytest.mark.parametrize("freshness", ["strict", "bounded"])
def test_every_mode_gives_the_same_answers(each_line: Shop, freshness: str) -> None:
    """Keys, scores to 1e-6 and properties, with and without filters, right after a write and when all marks are closed."""
    with each_line.open(relay=True, freshness=freshness, ef=200, oversample=60) as store:
        store.upsert([item("e1", 801, tags=["even", "extra"]), item("e2", 802)])
        store.delete(["k005"])
        expected: dict[int, Any] = {}
        for mode in ("dual_write", "shadow_milvus", "hybrid"):
            each_line.reach(mode)
            eventually(lambda mode=mode: store.mode.value == mode)  # type: ignore[misc]
            if mode == "hybrid":
                each_line.await_closed()
                time.sleep(1.1)  # what "bounded" keeps in memory
            for place, wanted in enumerate(FILTERS):
                found = store.search(vector(3) + 0.1, 10, filter=wanted)
                expected.setdefault(place, found)
                assert [hit.key for hit in found] == [hit.key for hit in expected[place]], (mode, wanted)
                assert as_seen(found) == {
                    key: (pytest.approx(score, abs=1e-6), properties)
                    for key, (score, properties) in as_seen(expected[place]).items()
                }, (mode, wanted)
                if mode == "hybrid":
                    assert {hit.store for hit in found} == {segue.StoreName.MILVUS}
        with each_line.open(sections='[application]\nstorage_mode = "neo4j_only"', oversample=60) as alone:
            assert alone.mode is segue.StorageMode.NEO4J_ONLY
            for place, wanted in enumerate(FILTERS):
                found = alone.search(vector(3) + 0.1, 10, filter=wanted)
                assert [hit.key for hit in found] == [hit.key for hit in expected[place]]
        store.delete(["e1", "e2"])
        each_line.place.rows(
            "CREATE (n:LABEL {id: 'k005', title: 'item 5', year: 1975, tags: ['odd'], embedding: $v})", v=vector(5).tolist()
        )
        store.upsert([segue.Item("k005", vector(5))], wait=30)
        each_line.reach("dual_write")


@pytest.mark.parametrize("mode", ["shadow_milvus", "hybrid"])
def test_a_search_sees_every_write_before_it(copied: Shop, mode: str) -> None:
    """100 times: written, found at once as written; deleted, found never again; answered by Milvus, not by giving it up."""
    registry = CollectorRegistry()
    copied.reach("dual_write")
    with copied.open(relay=True, registry=registry, milvus_seconds=3) as store:
        copied.reach(mode)
        eventually(lambda: store.mode.value == mode)
        for turn in range(100):
            store.upsert([item("fresh", 900 + turn, title=f"turn {turn}")])
            nearest = store.search(vector(900 + turn), 1)[0]
            assert (nearest.key, nearest.properties["title"]) == ("fresh", f"turn {turn}")
            assert nearest.score == pytest.approx(1, abs=1e-6)
            if turn % 2:
                store.delete(["fresh"])
                assert "fresh" not in {hit.key for hit in store.search(vector(900 + turn), 5)}
        store.delete(["fresh"], missing_ok=True)
        answered = total(registry, "segue_searches_total", mode=mode, store="milvus")
        assert answered > 100, "Milvus should have answered most"
    copied.reach("dual_write")


def test_bounded_freshness_misses_a_second_at_most(copied: Shop) -> None:
    """The marks are read once a second and not at every search; what was written before that is found."""
    registry = CollectorRegistry()
    copied.reach("hybrid")
    with copied.open(relay=True, registry=registry, freshness="bounded", bounded_seconds=1.0, milvus_seconds=3) as store:
        store.search(vector(0))
        store.upsert([item("late", 1001)])
        eventually(lambda: store.search(vector(1001), 1)[0].key == "late", 5)
        began = time.monotonic()
        store.delete(["late"])
        eventually(lambda: "late" not in {hit.key for hit in store.search(vector(1001), 3)}, 5)
        assert time.monotonic() - began < 2.5
        store.upsert([item("strictly", 1002)])
        assert store.search(vector(1002), 1, freshness="strict")[0].key == "strictly"
        with pytest.raises(ValueError, match="fresh"):
            store.search(vector(0), freshness="fresh")
        store.delete(["strictly"])
    copied.reach("dual_write")


NOT_THERE = "n/a"
WRONG: list[tuple[str, Callable[[segue.DualWriteStore], object], str]] = [
    ("dimension", lambda store: store.upsert([item("x", 1), segue.Item(NOT_THERE, [1.0, 2.0])]), r"'n/a': the vector has 2 el"),
    ("nan", lambda store: store.upsert([segue.Item(NOT_THERE, [float("nan")] * DIMENSION)]), "element 0 of the vector is nan"),
    ("infinite as float32", lambda store: store.upsert([segue.Item(NOT_THERE, [1e300] * DIMENSION)]), "no finite float32"),
    ("zero", lambda store: store.upsert([segue.Item(NOT_THERE, [0.0] * DIMENSION)]), "cosine needs a direction"),
    ("words", lambda store: store.upsert([segue.Item(NOT_THERE, ["a"] * DIMENSION)]), "no sequence of numbers"),  # type: ignore[list-item]
    ("twice", lambda store: store.upsert([item(NOT_THERE, 1), item(NOT_THERE, 2)]), "'n/a' is there twice"),
    ("another type of key", lambda store: store.upsert([segue.Item(7, vector(1))]), "key 7 is a int"),
    ("a long key", lambda store: store.upsert([segue.Item("k" * 70_000, vector(1))]), "70,000 bytes, Milvus takes"),
    ("a dict", lambda store: store.upsert([{"key": NOT_THERE}]), r"items\[0\] is a dict"),  # type: ignore[list-item]
    ("a map", lambda store: store.upsert([segue.Item(NOT_THERE, vector(1), {"more": {"a": 1}})]), "'more' is a dict"),
    ("the key as a property", lambda store: store.upsert([segue.Item(NOT_THERE, vector(1), {"id": "y"})]), "'id' is the key"),
    ("a text of keys", lambda store: store.delete("k001"), "the keys are the text 'k001'"),
    ("k of none", lambda store: store.search(vector(1), 0), "k is 0"),
    ("k below", lambda store: store.search(vector(1), -1), "k is -1"),
    ("k too large", lambda store: store.search(vector(1), 10_001), r"k is 10001, and must be a whole number from 1 to 10,000"),
    ("k of half", lambda store: store.search(vector(1), 1.5), "k is 1.5"),  # type: ignore[arg-type]
    ("an unknown field", lambda store: store.search(vector(1), filter={"colour": "red"}), "'colour' is no carried property"),
    ("a short question", lambda store: store.search([1.0]), "1 elements, index"),
    ("a NaN in it", lambda store: store.search(np.full(DIMENSION, np.nan)), "search: element 0 of the vector is nan"),
]


@pytest.mark.parametrize(("name", "call", "words"), WRONG, ids=[name for name, _, _ in WRONG])
def test_what_does_not_fit_is_refused_before_anything_is_written(
    copied: Shop, name: str, call: Callable[[segue.DualWriteStore], object], words: str
) -> None:
    """A ValueError that names the fault; no node and no mark is made."""
    with copied.open() as store:
        before, marks = copied.nodes(), copied.open_marks()
        with pytest.raises(ValueError, match=words) as caught:
            call(store)
        assert isinstance(caught.value, segue.InvalidInput), name
        assert copied.nodes() == before
        assert copied.open_marks() <= marks


def test_a_huge_k_gives_what_there_is(copied: Shop) -> None:
    """10,000 of a small collection: every item, in every mode."""
    with copied.open(relay=True) as store:
        for mode in ("dual_write", "hybrid"):
            copied.reach(mode)
            eventually(lambda mode=mode: store.mode.value == mode)  # type: ignore[misc]
            assert {hit.key for hit in store.search(vector(1), 10_000)} == copied.nodes().keys()
    copied.reach("dual_write")


def test_metrics_move_in_the_applications_own_registry(copied: Shop) -> None:
    """The names that dashboards rely on, exposed by the registry given, and nothing of it in the process's own."""
    registry = CollectorRegistry()
    copied.reach("dual_write")
    with copied.open(relay=True, registry=registry, shadow_rate=1.0, milvus_seconds=3) as store:
        store.upsert([item("m1", 1101), item("m2", 1102)], wait=30)
        store.search(vector(1101))
        copied.reach("shadow_milvus")
        eventually(lambda: store.mode is segue.StorageMode.SHADOW_MILVUS)
        for _ in range(5):
            store.search(vector(1101))
        eventually(lambda: total(registry, "segue_shadow_overlap_count") > 0)
        store.delete(["m1", "m2"], wait=30)
        with pytest.raises(segue.UnknownKey):
            store.delete(["m1"])
        exposed = generate_latest(registry).decode()
        assert "migration_migrated_items" in exposed
        assert "migration_total_items" in exposed
    moved = {
        ("dual_write_attempts_total", "neo4j"): 5,
        ("dual_write_success_total", "neo4j"): 4,
        ("dual_write_success_total", "milvus"): 4,
    }
    for (name, who), least in moved.items():
        assert total(registry, name, store=who) >= least, (name, who)
    assert total(registry, "dual_write_success_total", store="neo4j") < total(
        registry, "dual_write_attempts_total", store="neo4j"
    )
    assert total(registry, "neo4j_search_latency_ms_count", mode="dual_write") >= 1
    assert total(registry, "milvus_search_latency_ms_count", mode="shadow_milvus") >= 1
    assert total(registry, "segue_search_latency_ms_count") == total(registry, "segue_searches_total") == 6
    assert total(registry, "dual_write_lag_seconds_count") >= 4
    assert total(registry, "segue_store_errors_total", kind="UnknownKey") == 1
    assert total(registry, "segue_storage_mode", scope="reads") == segue.StorageMode.SHADOW_MILVUS.rank
    assert total(REGISTRY, "segue_searches_total", collection=copied.place.collection) == 0
    copied.reach("dual_write")


def test_a_configuration_that_does_not_fit_is_one_plain_error(copied: Shop, tmp_path: Path) -> None:
    """No file, no such collection, a wrong password: each names what to mend, none tells a secret, no thread is left."""
    before = threading.active_count()
    with pytest.raises(segue.SegueError, match=r"no configuration file .*missing\.toml"):
        segue.connect(tmp_path / "missing.toml")
    with pytest.raises(segue.SegueError, match="no collection 'other'"):
        segue.connect(copied.configure(), collection="other")
    path = copied.configure("wrong.toml")
    path.write_text(path.read_text(encoding="utf-8").replace(copied.place.neo4j.password, "wrong-secret"), encoding="utf-8")
    with pytest.raises(segue.SegueError, match="refuses the credentials") as caught:
        segue.connect(path, registry=CollectorRegistry())
    assert "wrong-secret" not in str(caught.value)
    eventually(lambda: threading.active_count() <= before)
    assert threading.active_count() <= before


def test_items_are_read_by_key_and_by_filter(each_line: Shop) -> None:
    """In the order asked for, those there are, as they are now; a filter finds all that meet it; none is refused."""
    with each_line.open() as store:
        store.upsert([item("read-1", 31.5, title="read", year=1901), item("read-2", 32.5, title="read", year=1902)])
        got = store.get(["read-2", "nosuch", "read-1", "read-2"])
        found = store.find({"title": "read", "year": {">": 1901}})
        with pytest.raises(segue.InvalidInput, match="whole collection"):
            store.find({})
        store.delete(["read-1", "read-2"])
        gone = store.get(["read-1", "read-2"])

    assert [one.key for one in got] == ["read-2", "read-1"]
    assert got[1].properties == {"title": "read", "year": 1901}
    assert np.asarray(got[1].vector, np.float32).tolist() == vector(31.5).tolist()
    assert [one.key for one in found] == ["read-2"]
    assert gone == []
