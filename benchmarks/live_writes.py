"""What a write costs: as an application makes it, through the store, and under a trigger. Begin at `measure`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import items
from contender import DATABASE
from deployment import Deployment
from latencies import Latencies, cells, on_threads, plain, ratio
from measuring import Sample, Window
from report import Aim, Spread, at_least, at_most, markdown
from segue import Item, StorageMode
from segue.sandbox import Endpoint

THREADS = (1, 8)
WARM_UP_SECONDS = 0.5
POOL = 1_000
"""Different vectors that are written."""

TURNS = 4
"""How often contenders that need the same setting take turns within a round."""

PLAIN, PLAIN_BESIDE = "plain", "plain, in dual_write"
BY_STORE, MARKING, TRIGGERED = "store, neo4j_only", "store, dual_write", "plain, trigger"

RIVALS = {BY_STORE: PLAIN, MARKING: PLAIN_BESIDE, TRIGGERED: PLAIN}
"""What each is held against: the plain write of the same turns; for the trigger, which all writes meet, that of the round."""

_MERGE = f"MERGE (n:{items.LABEL} {{id: $id}}) SET n.embedding = $vector, n += $properties"


@dataclass(frozen=True, slots=True)
class _Setting:
    """What must be so while its contenders write."""

    mode: StorageMode
    by_trigger: bool
    contenders: Mapping[str, Callable[[Item], object]]


@dataclass(frozen=True, slots=True)
class Writes:
    """What was found, by threads, contender, round."""

    found: Mapping[int, Mapping[str, list[Latencies]]]
    cost: Mapping[int, Mapping[str, list[Sample]]]

    def table(self) -> str:
        """Return it as a Markdown table."""
        head = ["writes", "threads", "writes/s", "p50 ms", "p95", "p99", "p50 to plain", "client µs", "Neo4j µs", "others"]
        rows = []
        for threads, by_name in self.found.items():
            for name, rounds in by_name.items():
                cost = self.cost[threads][name]
                rate = Spread.of([one.per_second for one in rounds]).text(",.0f")
                rows.append([name, str(threads), rate, *cells(rounds), self._times(threads, name)])
                rows[-1] += [f"{Spread.of([one.client_us for one in cost]).median:,.0f}"]
                rows[-1] += [f"{Spread.of([one.neo4j_us for one in cost]).median:,.0f}"]
                rows[-1] += [f"{Spread.of([one.others for one in cost]).median:.0%}"]
        return markdown(head, rows)

    def aims(self) -> list[Aim]:
        """Return the aims of everything that marks."""
        found = []
        for name in RIVALS:
            for threads in self.found:
                what = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
                found.append(at_most(f"p50 of {what}", 1.3, self._p50(threads, name), ".2f", " times plain"))
                found.append(at_least(f"writes/s of {what}", 0.8, self._rate(threads, name), ".2f", " times plain"))
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            str(threads): {
                "latencies": plain(by_name),
                "cost": {name: [asdict(one) for one in cost] for name, cost in self.cost[threads].items()},
            }
            for threads, by_name in self.found.items()
        }

    def _times(self, threads: int, name: str) -> str:
        return self._p50(threads, name).text(".2f") if name in RIVALS else ""

    def _p50(self, threads: int, name: str) -> Spread:
        return ratio(self.found[threads][name], self.found[threads][RIVALS[name]], lambda one: one.p50)

    def _rate(self, threads: int, name: str) -> Spread:
        return ratio(self.found[threads][name], self.found[threads][RIVALS[name]], lambda one: one.per_second)


def measure(live: Deployment, servers: Mapping[str, Endpoint], rounds: int, seconds: float) -> Writes:
    """Go through the settings in every round, forwards and backwards. No relay runs: the write is what is measured.

    Leaves the deployment in `neo4j_only`.
    """
    live.set_mode(StorageMode.NEO4J_ONLY)
    with live.store() as (store, _):

        def plainly(item: Item) -> None:
            live.driver.execute_query(
                _MERGE, id=item.key, vector=item.vector, properties=dict(item.properties), database_=DATABASE
            )

        def by_store(item: Item) -> None:
            store.upsert([item])

        settings = [
            _Setting(StorageMode.DUAL_WRITE, False, {PLAIN_BESIDE: plainly, MARKING: by_store}),
            _Setting(StorageMode.NEO4J_ONLY, False, {PLAIN: plainly, BY_STORE: by_store}),
            _Setting(StorageMode.NEO4J_ONLY, True, {TRIGGERED: plainly}),
        ]
        names = [name for setting in settings for name in setting.contenders]
        found: dict[int, dict[str, list[Latencies]]] = {threads: {name: [] for name in names} for threads in THREADS}
        cost: dict[int, dict[str, list[Sample]]] = {threads: {name: [] for name in names} for threads in THREADS}
        source = _Stream(live)
        for number in range(rounds):
            for setting in settings if number % 2 == 0 else reversed(settings):
                live.capture(by_trigger=setting.by_trigger)
                live.set_mode(setting.mode)
                for threads in THREADS:
                    streams = [source.items(thread) for thread in range(threads)]
                    taken = _in_turns(setting, streams, seconds / TURNS, servers, cost[threads])
                    for name, latencies in taken.items():
                        found[threads][name].append(latencies)
                        live.announce(
                            f"round {number + 1}/{rounds}: {name}, {threads} threads:"
                            f" {latencies.per_second:,.0f} writes/s, p50 {latencies.p50:.2f} ms"
                        )
        live.capture(by_trigger=False)
        live.set_mode(StorageMode.NEO4J_ONLY)
    return Writes(found, cost)


def _in_turns(
    setting: _Setting,
    streams: list[Iterator[Item]],
    seconds: float,
    servers: Mapping[str, Endpoint],
    cost: Mapping[str, list[Sample]],
) -> dict[str, Latencies]:
    """Let the contenders of a setting write by turns, after a warm-up of each."""
    works = {name: _work(write, streams) for name, write in setting.contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in works}
    walls = dict.fromkeys(works, 0.0)
    for work in works.values():
        on_threads(work, len(streams), WARM_UP_SECONDS)
    for turn in range(TURNS):
        for name in works if turn % 2 == 0 else reversed(works):
            with Window(servers) as window:
                seen, wall = on_threads(works[name], len(streams), seconds)
            taken[name] += seen
            walls[name] += wall
            cost[name].append(window.sample(name, len(seen)))
    return {name: Latencies.of(taken[name], walls[name]) for name in works}


def _work(write: Callable[[Item], object], streams: list[Iterator[Item]]) -> Callable[[int], object]:
    return lambda thread: write(next(streams[thread]))


class _Stream:
    """Items to write: new ones and ones that are there, in turn; made before the clock starts but for their keys."""

    def __init__(self, live: Deployment) -> None:
        made = items.between(live.count, live.count + POOL, live.dimension)
        names = ("title", "year", "score")
        self._vectors = [vector.tolist() for vector in made.vectors]
        self._properties = [dict(zip(names, row, strict=True)) for row in made.properties]
        self._count = live.count
        self._next = count(live.count)
        self._mutex = threading.Lock()

    def items(self, thread: int) -> Iterator[Item]:
        """Return one thread's items, without end."""
        chance = random.Random(thread)  # noqa: S311  # which keys come is to repeat, not to be secret
        while True:
            for key in (self._new(), items.key(chance.randrange(self._count))):
                place = chance.randrange(POOL)
                yield Item(key, self._vectors[place], self._properties[place])

    def _new(self) -> str:
        with self._mutex:
            return items.key(next(self._next))
