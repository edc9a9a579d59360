"""How long a write takes to reach Milvus, while one relay runs, at several rates. Begin at `measure`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from deployment import COLLECTION, Deployment, await_equal
from latencies import Latencies
from measuring import Sample, Window
from report import markdown
from segue import DualWriteStore, Item, StorageMode
from segue.sandbox import Endpoint

RATES = (10, 100, 300)
SECONDS = 20.0
THREADS = 8
WATCHED = 2
"""Writes that are looked for in Milvus at a time, lest the looking takes what it measures; of every write, Neo4j tells when it
was acknowledged."""

LOOK_SECONDS = 0.02
COLLECT_SECONDS = 4.0
"""Between readings of the acknowledgements; closed marks are deleted a window (6.5 s) after theirs."""

_ACKNOWLEDGED = """
MATCH (m:SegueMark {collection: $collection}) WHERE m.acked = m.ver AND m.key STARTS WITH $prefix
RETURN m.key, m.acked_at - m.marked_at
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """What was found at one rate.

    Attributes:
        wanted: Writes a second that were to be made.
        write: The writes themselves.
        acknowledged: From the mark to Milvus's acknowledgement, by Neo4j's clock, every write.
        searchable: From the write's return to the first answer of a search at the Bounded level that holds it, some writes.
        relay_us, neo4j_us, milvus_us: CPU of each a write, in microseconds.
        others: Share of the machine that others used.
    """

    wanted: int
    write: Latencies
    acknowledged: Latencies
    searchable: Latencies
    relay_us: float
    neo4j_us: float
    milvus_us: float
    others: float


def table(found: Sequence[Lag]) -> str:
    """Return it as a Markdown table."""
    head = [
        "writes/s",
        "reached",
        "write p50",
        "acknowledged p50",
        "p99",
        "searchable p50",
        "p99",
        "relay µs",
        "Neo4j µs",
        "Milvus µs",
        "others",
    ]
    rows = [
        [
            str(one.wanted),
            f"{one.write.per_second:.0f}",
            f"{one.write.p50:.1f}",
            *(f"{value:,.0f}" for seen in (one.acknowledged, one.searchable) for value in (seen.p50, seen.p99)),
            *(f"{value:,.0f}" for value in (one.relay_us, one.neo4j_us, one.milvus_us)),
            f"{one.others:.0%}",
        ]
        for one in found
    ]
    return markdown(head, rows)


def as_json(found: Sequence[Lag]) -> list[dict[str, Any]]:
    """Return it as plain values."""
    return [asdict(one) for one in found]


def measure(live: Deployment, servers: Mapping[str, Endpoint], rates: Sequence[int] = RATES) -> list[Lag]:
    """Write new items at each rate for a while. Goes on to `hybrid` where the deployment is not there yet."""
    live.reach(StorageMode.HYBRID)
    found = []
    # A Neo4j that has not compiled its way of writing yet takes ten times as long; the first pass only warms it up.
    passes = [max(rates), *rates]
    with live.relay() as relay, live.store() as (store, _):
        for number, rate in enumerate(passes):
            before = sum(relay.cpu_times()[:2])
            run = _Run(live, store, rate, f"lag-{number}-")
            with Window(servers, [relay]) as window:
                run.run()
            await_equal(store)
            sample = window.sample("lag", len(run.taken))
            relay_us = (sum(relay.cpu_times()[:2]) - before) * 1e6 / len(run.taken)
            found.append(run.found(relay_us, sample))
            live.announce(
                f"{rate} writes/s: acknowledged after {found[-1].acknowledged.p50:.0f} ms,"
                f" searchable after {found[-1].searchable.p50:.0f} ms"
            )
    return found[1:]


class _Watched(NamedTuple):
    """A write that is looked for."""

    vector: list[float]
    since: float


class _Run:
    """One rate: writers that keep to a timetable, one watcher of Milvus, one reader of acknowledgements."""

    def __init__(self, live: Deployment, store: DualWriteStore, rate: int, prefix: str) -> None:
        self._live = live
        self._store = store
        self._rate = rate
        self._prefix = prefix
        self._vectors = (
            np.random.default_rng(list(prefix.encode())).normal(size=(int(rate * SECONDS), live.dimension)).astype(np.float32)
        )
        self._numbers = count()
        self._mutex = threading.Lock()
        self._unseen: dict[str, _Watched] = {}
        self._done = threading.Event()
        self._wall = 0.0
        self.taken: list[float] = []
        self._searchable: list[float] = []
        self._acknowledged: dict[str, float] = {}

    def run(self) -> None:
        """Write, watch, and read on until everything is there."""
        self._began = time.perf_counter()
        with ThreadPoolExecutor(THREADS + 1) as pool:
            watching = pool.submit(self._watch)
            writing = [pool.submit(self._write) for _ in range(THREADS)]
            while not all(one.done() for one in writing):
                time.sleep(COLLECT_SECONDS)
                self._collect()
            self._done.set()
            for one in (*writing, watching):
                one.result()
        await_equal(self._store)
        self._collect()

    def found(self, relay_us: float, sample: Sample) -> Lag:
        """Return what it came to."""
        acknowledged, searchable = list(self._acknowledged.values()), self._searchable
        return Lag(
            self._rate,
            Latencies.of(self.taken, self._wall),
            Latencies.of(acknowledged, self._wall),
            Latencies.of(searchable, self._wall),
            relay_us,
            sample.neo4j_us,
            sample.milvus_us,
            sample.others,
        )

    def _write(self) -> None:
        while (number := next(self._numbers)) < len(self._vectors) and time.perf_counter() - self._began < SECONDS:
            time.sleep(max(0.0, self._began + number / self._rate - time.perf_counter()))
            key = f"{self._prefix}{number:06d}"
            item = Item(key, self._vectors[number], {"title": key, "year": 2026, "score": 0.5})
            before = time.perf_counter()
            self._store.upsert([item])
            now = time.perf_counter()
            with self._mutex:
                self.taken.append(now - before)
                self._wall = now - self._began
                if len(self._unseen) < WATCHED:
                    self._unseen[key] = _Watched(self._vectors[number].tolist(), now)

    def _watch(self) -> None:
        """Look for the writes that are watched and not seen yet, in one search at a time."""
        while not self._done.is_set() or self._unseen:
            with self._mutex:
                unseen = dict(self._unseen)
            if unseen:
                asked = [watched.vector for watched in unseen.values()]
                found = self._live.client.search(COLLECTION, asked, limit=1, consistency_level="Bounded")
                now = time.perf_counter()
                for (key, watched), hits in zip(unseen.items(), found, strict=True):
                    if hits and hits[0]["id"] == key:
                        self._searchable.append(now - watched.since)
                        with self._mutex:
                            del self._unseen[key]
            time.sleep(LOOK_SECONDS)

    def _collect(self) -> None:
        rows = self._live.rows(_ACKNOWLEDGED, collection=COLLECTION, prefix=self._prefix)
        self._acknowledged |= {key: milliseconds / 1000 for key, milliseconds in rows}
