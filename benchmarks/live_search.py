"""What a search costs: Neo4j's index, Milvus, and the store in every mode, at equal recall. Begin at `measure`.

Ratios are taken within one session, in which the contenders are asked in turn, call by call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import items
from contender import DATABASE
from deployment import COLLECTION, Deployment, await_equal, fallbacks
from latencies import Latencies, cells, in_turn, plain, ratio
from measuring import Window
from report import Aim, Spread, at_most, markdown
from segue import Item, StorageMode
from segue.sandbox import Endpoint

K = 10
RECALL = 0.95
SAMPLE = 100
"""Queries that recall is measured with."""

QUERIES = 50
"""Queries a round."""

OPEN = 1_000
"""Marks that stand between a reader and Milvus in the last session."""

WIDTHS = (10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600, 800, 1_200, 1_600)
"""What Neo4j's index is asked for, and Milvus's ef: the first that reaches the recall is taken."""

NEO4J, MILVUS, STORE, BOUNDED = "Neo4j's index", "MilvusClient.search", "store.search", "store.search, bounded"
HYBRID, HYBRID_OPEN = "hybrid", f"hybrid, {OPEN:,} open"

FIRST_VERSION = {NEO4J: 82.0, MILVUS: 15.0}
"""Milliseconds that the first version's documents state."""

_ASK = """
CALL db.index.vector.queryNodes($index, $ask, $vector) YIELD node, score
RETURN node.id AS id, score, node.title AS title, node.year AS year, node.score AS stars ORDER BY score DESC LIMIT $k
"""
_PROPERTIES = ["title", "year", "score"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Session:
    """What was found while the deployment stood in one way.

    Attributes:
        name: How it stood: the mode, and what was open.
        found: By contender, round by round.
        fallbacks: Searches that Neo4j answered although Milvus should have.
        others: Share of the machine that others used.
    """

    name: str
    found: Mapping[str, list[Latencies]]
    fallbacks: int
    others: float


@dataclass(frozen=True, slots=True)
class Searches:
    """What was found.

    Attributes:
        ask: How many Neo4j's index is asked for.
        ef: Milvus's search width.
        recall: What each reaches with that.
        sessions: One after the other.
    """

    ask: int
    ef: int
    recall: Mapping[str, float]
    sessions: Sequence[Session]

    def table(self) -> str:
        """Return it as Markdown tables."""
        head = ["mode", "asked", "p50 ms", "p95", "p99", "p50 to bare", "fallbacks", "others"]
        rows = []
        for session in self.sessions:
            for name, rounds in session.found.items():
                bare = MILVUS if MILVUS in session.found else NEO4J
                times = ratio(rounds, session.found[bare], lambda one: one.p50).text(".2f") if name != bare else "1"
                fell = str(session.fallbacks) if name == STORE else ""
                rows.append([session.name, name, *cells(rounds), times, fell, f"{session.others:.0%}"])
        return f"{self._recall()}\n\n{markdown(head, rows)}\n\n{self._beside_the_first_version()}"

    def aims(self) -> list[Aim]:
        """Return the aims of the store behind the fence."""
        return [
            at_most("store.search, hybrid, nothing open", 1.3, self._times(HYBRID, STORE), ".2f", " times Milvus"),
            at_most("the same, bounded", 1.3, self._times(HYBRID, BOUNDED), ".2f", " times Milvus"),
            at_most(f"store.search, hybrid, {OPEN:,} open", 2.0, self._times(HYBRID_OPEN, STORE), ".2f", " times Milvus"),
            at_most("the same, bounded", 2.0, self._times(HYBRID_OPEN, BOUNDED), ".2f", " times Milvus"),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        sessions = [
            {"name": one.name, "found": plain(one.found), "fallbacks": one.fallbacks, "others": one.others}
            for one in self.sessions
        ]
        return {"ask": self.ask, "ef": self.ef, "recall": dict(self.recall), "sessions": sessions}

    def _times(self, session: str, name: str) -> Spread:
        (one,) = (one for one in self.sessions if one.name == session)
        return ratio(one.found[name], one.found[MILVUS], lambda latencies: latencies.p50)

    def _recall(self) -> str:
        return (
            f"Recall of {K}, {SAMPLE} queries against exact: Neo4j {self.recall[NEO4J]:.3f} when asked for {self.ask}"
            f" (`[search] oversample` {self.ask - K}), Milvus {self.recall[MILVUS]:.3f} at `ef` {self.ef}."
        )

    def _beside_the_first_version(self) -> str:
        (hybrid,) = (one for one in self.sessions if one.name == HYBRID)
        ours = {name: Spread.of([one.p50 for one in hybrid.found[name]]).median for name in (NEO4J, MILVUS, STORE)}
        rows = [[name, f"{FIRST_VERSION[name]:.0f}" if name in FIRST_VERSION else "", f"{ours[name]:.1f}"] for name in ours]
        rows.append(
            ["Neo4j to Milvus", f"{FIRST_VERSION[NEO4J] / FIRST_VERSION[MILVUS]:.1f}", f"{ours[NEO4J] / ours[MILVUS]:.1f}"]
        )
        rows.append(["Neo4j to store.search", "", f"{ours[NEO4J] / ours[STORE]:.1f}"])
        return markdown(["p50 ms", "the first version claimed", "found here"], rows)


def measure(live: Deployment, servers: Mapping[str, Endpoint], rounds: int) -> Searches:
    """Go through the modes from `neo4j_only` to `hybrid`, and measure in each; nothing is written before the last session."""
    drawn = items.between(live.count, live.count + SAMPLE + QUERIES, live.dimension).vectors
    sample, queries = drawn[:SAMPLE], drawn[SAMPLE:]
    truth = _nearest(live, sample)
    bench = _Bench(live, servers, list(queries), rounds)
    ask, of_neo4j = _first_that_reaches(WIDTHS, lambda width: _recall(partial(by_neo4j, live, width), sample, truth))
    live.announce(f"Neo4j's index reaches recall {of_neo4j:.3f} when asked for {ask}")
    live.configure(oversample=ask - K)
    neo4j = {NEO4J: partial(by_neo4j, live, ask)}
    sessions = [bench.session("neo4j_only", neo4j)]
    live.reach(StorageMode.DUAL_WRITE)
    sessions.append(bench.session("dual_write", neo4j))
    live.reach(StorageMode.SHADOW_MILVUS)
    ef, of_milvus = _first_that_reaches(WIDTHS, lambda width: _recall(partial(by_milvus, live, width), sample, truth))
    live.announce(f"Milvus reaches recall {of_milvus:.3f} at ef {ef}")
    live.configure(oversample=ask - K, ef=ef)
    milvus = {MILVUS: partial(by_milvus, live, ef)}
    sessions.append(bench.session("shadow_milvus", milvus))
    live.reach(StorageMode.HYBRID)
    sessions.append(bench.session(HYBRID, neo4j | milvus, bounded=True))
    _open_marks(live)
    sessions.append(bench.session(HYBRID_OPEN, milvus, bounded=True))
    return Searches(ask, ef, {NEO4J: of_neo4j, MILVUS: of_milvus}, sessions)


def by_neo4j(live: Deployment, ask: int, vector: Vector) -> list[str]:
    """Ask Neo4j's index as an application does."""
    found = live.driver.execute_query(_ASK, index=COLLECTION, ask=ask, vector=vector.tolist(), k=K, database_=DATABASE)
    return [record["id"] for record in found.records]


def by_milvus(live: Deployment, ef: int, vector: Vector) -> list[str]:
    """Ask Milvus as an application does."""
    (found,) = live.client.search(
        COLLECTION,
        [vector.tolist()],
        limit=K,
        output_fields=_PROPERTIES,
        search_params={"metric_type": "COSINE", "params": {"ef": ef}},
        consistency_level="Bounded",
    )
    return [hit["id"] for hit in found]


class _Bench:
    """Runs sessions, with the same queries and as many rounds each."""

    def __init__(self, live: Deployment, servers: Mapping[str, Endpoint], queries: list[Vector], rounds: int) -> None:
        self._live = live
        self._servers = servers
        self._queries = queries
        self._rounds = rounds

    def session(self, name: str, bare: Mapping[str, Callable[[Vector], object]], *, bounded: bool = False) -> Session:
        """Ask the bare stores and Segue's in turn. No relay runs; with open marks it has ended before it closed them."""
        with self._live.store() as (store, registry):
            calls = {**bare, STORE: lambda vector: store.search(vector, K)}
            if bounded:
                calls[BOUNDED] = lambda vector: store.search(vector, K, freshness="bounded")
            with Window(self._servers) as window:
                found = in_turn(calls, self._queries, self._rounds)
            others = window.sample(name, 1).others
            told = ", ".join(f"{one} {Spread.of([each.p50 for each in rounds]).median:.1f} ms" for one, rounds in found.items())
            self._live.announce(f"{name}: {told}")
            return Session(name, found, fallbacks(registry), others)


def _open_marks(live: Deployment) -> None:
    """Write items as they are already, and let them be acknowledged; without a relay their marks stay open."""
    same = items.between(0, min(OPEN, live.count), live.dimension)
    written = [
        Item(key, vector, dict(zip(_PROPERTIES, row, strict=True)))
        for key, vector, row in zip(same.keys, same.vectors, same.properties, strict=True)
    ]
    with live.relay(), live.store() as (store, _):
        store.upsert(written)
        await_equal(store)
    with live.store() as (store, _):
        left = store.pending()
        if (left.open, left.dirty) != (len(written), 0):
            message = f"{left.open} marks are open and {left.dirty} dirty, {len(written)} and none should be"
            raise SystemExit(message)


def _nearest(live: Deployment, sample: NDArray[np.float32]) -> list[set[str]]:
    """Return the keys of the exact nearest of each, by brute force."""
    everything = items.between(0, live.count, live.dimension)
    likeness = sample @ everything.vectors.T
    best = np.argpartition(-likeness, K, axis=1)[:, :K]
    return [{str(everything.keys[place]) for place in places} for places in best]


def _recall(search: Callable[[Vector], list[str]], sample: NDArray[np.float32], truth: Sequence[set[str]]) -> float:
    found = [len(nearest.intersection(search(vector))) for vector, nearest in zip(sample, truth, strict=True)]
    return sum(found) / (K * len(truth))


def _first_that_reaches(widths: Sequence[int], recall: Callable[[int], float]) -> tuple[int, float]:
    for width in widths:
        reached = recall(width)
        if reached >= RECALL:
            break
    return width, reached
