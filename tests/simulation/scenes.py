"""A scene: a database, a sink, an application that writes and searches, relays, and an operator who leads through the modes.

All of it is the production code but for the stores, which are in memory. `Plot` says who is there and what they do; `Build`
says what the stores are made of, where a broken variant replaces a part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from segue.breaker import Breaker
from segue.errors import ModeRefused, RetryableError, UnsafeResume
from segue.migration import PREFLIGHT, SHADOWED, Terms
from segue.model import (
    CarriedProperty,
    Counts,
    Depth,
    FenceTimes,
    Freshness,
    Item,
    Key,
    KeyType,
    Layout,
    Metric,
    PropertyType,
    SourceSpec,
    StorageMode,
    Validated,
)
from segue.phases.backfill import Backfill, Beside, Job
from segue.phases.cutover import Overrides, Patience, change_mode
from segue.phases.relay import Relay, Timing
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import NoMeter, RangeProgress, total
from segue.state.sqlite_state import SqliteState
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_serving import MemoryServing
from segue.traffic.dual_write import DualWriteStore, Parts
from segue.traffic.modes import ModeFollower, OwnMode
from segue.traffic.search import Limits, Search
from segue.traffic.shadow_read import ErrorBudget
from simulation.choices import Choices
from simulation.history import FULL, Expected, Items, equal
from simulation.sink import Network
from simulation.world import Budget, World

SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.EUCLIDEAN, (CarriedProperty("n", PropertyType.INTEGER),))
LAY_OUT = partial(make_layout, name="c", preset=Preset.SEGUE, m=16, ef_construction=100)
LANDING = 4.0
TIMES = FenceTimes(visible=2, fence=3, slack=0)
LIMITS = Limits(milvus_seconds=3, margin=2, bounded_seconds=1)
ASKED = (0.0, 0.0)

COPY = "copy"
"""What an operator does besides setting a mode."""

NEO4J_ONLY, DUAL_WRITE, SHADOW, HYBRID = StorageMode


class Graph(MemoryGraph):
    """The graph and the control node as the one database they are."""

    def __init__(self, world: World, control: MemoryControl) -> None:
        super().__init__(SPEC, clock=world.clock, pause=world.pause)
        self.world = world
        self.control = control
        self.history = Items(world.running)
        self._graph.items = self.history

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        """Go by the control node's window."""
        self.window_seconds = self.window()
        super().sweep(parts, window_seconds)

    def window(self) -> float:
        """Return the window that the control node says."""
        return self.control.now().times.window

    def copy_ended(self, capture: str) -> None:
        """Record it in the control node."""
        super().copy_ended(capture)
        self.control.copy_ended(capture)

    def _may_prune(self) -> bool:
        self.capture = self.control.now().capture
        return super()._may_prune()


@dataclass(frozen=True)
class Build:
    """What a scene's stores, and the application, are made of."""

    graph: Callable[[World, MemoryControl], Graph] = Graph
    control: Callable[..., MemoryControl] = MemoryControl
    serving: Callable[..., MemoryServing] = MemoryServing
    network: Callable[[World, SourceSpec, float], Network] = Network
    search: Callable[..., Search] = Search
    waits_for_landing: bool = True
    write: Callable[[Scene, DualWriteStore, Key, int | None], None] | None = None


@dataclass(frozen=True)
class Plot:
    """Who is there, and what they do.

    Attributes:
        budget: The faults that may happen, in the order of `Budget`.
        begins: The mode at the start; the marks are captured, and in a mode that reads Milvus everything is copied already.
        itinerary: What the operator does: a mode to set, `COPY`, or seconds to wait.
        keys: What is written; each scene uses the first few of them.
        existing: How many of them are there at the start.
        writes: Each writer's writes, a key and whether there is an item afterwards; a number draws them. Once more after
            every command of the operator, so that writers go on in every mode.
        searches: How many searches each reader makes; likewise.
        skewed: Whether the relays' clocks run apart from the database's.
        mixed: Whether instances have a mode of their own.
        k, margin, freshness: Of every search.
        ranked: Whether a new version changes an item's rank.
        fixed_keys: Whether all keys are used.
        likelier: What happens so many times likelier than else.
        lease: How long a relay's lease lasts; long where time passes fast and no relay is killed.
        pauses: How long a writer and a reader wait at most between two operations.
        again: Whether there are as many writes and searches again after every command of the operator.
        copy_takes: How long a batch of the copy is under way before it is sent.
    """

    budget: tuple[int, int, int, int, int] = (2, 2, 1, 1, 1)
    begins: StorageMode = DUAL_WRITE
    itinerary: tuple[StorageMode | str | float, ...] = (COPY,)
    keys: tuple[Key, ...] = ("a", "b", "c")
    existing: int = 2
    writes: tuple[int | tuple[tuple[Key, bool], ...], ...] = (4,)
    searches: tuple[int, ...] = ()
    relays: int = 2
    skewed: bool = True
    mixed: bool = False
    k: int = FULL
    margin: int = 2
    freshness: Freshness = Freshness.STRICT
    ranked: bool = False
    fixed_keys: bool = False
    likelier: Mapping[str, float] = field(default_factory=dict)
    lease: float = 6
    pauses: tuple[float, float] = (0, 0)
    again: bool = True
    copy_takes: float = 0


class Scene:
    """A plot, played once in a world of its own.

    Args:
        plot: Who is there.
        build: What it is made of.
        choices: Decides everything.
        path: Where the copy's records may be kept.
    """

    def __init__(self, plot: Plot, build: Build, choices: Choices, path: Path) -> None:
        self.plot = plot
        self.build = build
        self.path = path
        self.choices = choices
        for name, times in plot.likelier.items():
            choices.weights[name] *= times
        self.world = world = World(choices, LANDING, Budget(*plot.budget))
        self.control = build.control(clock=world.clock, pause=world.pause)
        self.graph = build.graph(world, self.control)
        self.serving = build.serving(SPEC, self.graph, self.control, pause=world.pause)
        self.network = build.network(world, SPEC, TIMES.visible)
        self.network.copy_takes = plot.copy_takes
        self.layout: Layout = LAY_OUT(SPEC)
        self.expected = Expected(self.graph.history, self.vector, ASKED)
        many = len(plot.keys) if plot.fixed_keys else choices.draw(range(1, len(plot.keys) + 1))
        self.keys = plot.keys[:many]
        self.version = 0
        self.writes_left = [self._drawn(writes) for writes in plot.writes]
        self.searches_left = list(plot.searches)
        self.itinerary = list(plot.itinerary)
        self.state: SqliteState | None = None
        self._lives: dict[str, str] = {}

    def play(self) -> list[str]:
        """Run to the end; return what is wrong."""
        self._set_up()
        spawn = self.world.spawn
        for number in range(len(self.writes_left)):
            spawn(f"writer{number}", partial(self._write, number))
        for number in range(len(self.searches_left)):
            spawn(f"reader{number}", partial(self._search, number))
        for number in range(self.plot.relays):
            spawn(f"relay{number}", self._relay)
        if COPY in self.itinerary:
            self.state = SqliteState(self.path)
        if self.itinerary:
            spawn("operator", self._operate)
        try:
            rested = self.world.run(until=self._settled)
        finally:
            if self.state:
                self.state.close()
        if self.expected.wrong:
            return self.expected.wrong
        return equal(self.network.rows(), self.graph.items()) if rested else ["it never came to rest"]

    def vector(self, key: Key, version: int) -> list[float]:
        """Return a key's vector at a version; ranked, odd versions of the first key are nearest and even ones farthest."""
        near = 0.0
        if self.plot.ranked:
            near = 500.0 if key != self.keys[0] else 100.0 if version % 2 else 900.0
        return [near, float(version)]

    def item(self, key: Key, version: int) -> Item:
        """Return a key's item at a version."""
        return Item(key, self.vector(key, version), {"n": version})

    # --- the beginning

    def _drawn(self, writes: int | tuple[tuple[Key, bool], ...]) -> list[tuple[Key, bool]]:
        if not isinstance(writes, int):
            return list(writes)
        draw = self.choices.draw
        return [(draw(self.keys), draw((True, True, False))) for _ in range(writes)]

    def _set_up(self) -> None:
        """Put the database into the mode it begins with; outside of every process, so nobody comes in between."""
        for key in self.keys[: self.plot.existing]:
            self.version += 1
            vector = self.vector(key, self.version)
            self.graph.upsert({key: (vector, self.version)}, marking=False)
            if self.plot.begins.reads_milvus:
                self.network.has(key, vector)
        if self.plot.begins is NEO4J_ONLY:
            return
        for mode in list(StorageMode)[1 : self.plot.begins.rank + 1]:
            self.control.change(self.control.read().epoch, mode, times=TIMES, reason="")
            capture = self.control.captured(self.control.read().epoch).capture
            if mode is DUAL_WRITE and self.plot.begins.reads_milvus and capture:
                self.graph.copy_ended(capture)

    def _settled(self) -> bool:
        if self.expected.wrong:
            return True
        if any(self.writes_left) or any(self.searches_left) or self.itinerary or self._lives:
            return False
        backlog = self.graph.backlog()
        return not backlog.dirty and not backlog.tainted

    # --- the application

    def _instance(self, life: str) -> DualWriteStore:
        world, plot = self.world, self.plot
        own = self.choices.draw((None, None, *StorageMode)) if plot.mixed else None
        follower = ModeFollower(self.control, OwnMode(own), life, "here", NoMeter(), lapse_seconds=8)
        limits = Limits(milvus_seconds=3, margin=plot.margin, bounded_seconds=1)
        search = self.build.search(
            SPEC,
            self.serving,
            self.network,
            self.serving,
            follower,
            Breaker(world.clock, last_pause=3),
            Unseen(),
            ErrorBudget(),
            NoMeter(),
            world.clock,
            limits,
        )
        parts = Parts(SPEC, 100, self.serving, search, self.serving, 10.0, follower, NoMeter(), Freshness.STRICT, lambda: None)
        follower.look()
        world.spawn(f"look of {life}", partial(self._look, follower, life), immortal=True)
        return DualWriteStore(parts)

    def _look(self, follower: ModeFollower, life: str, _: str) -> None:
        """Follow the modes, now and then, while the instance lives."""
        while life in self._lives.values():
            self.world.sleep(2)
            follower.look()

    def _write(self, number: int, life: str) -> None:
        who = f"writer{number}"
        self._lives[who] = life
        store = self._instance(life)
        left = self.writes_left[number]
        while self._wait_for_work(lambda: bool(left), self.plot.pauses[0]):
            key, there = left.pop(0)
            self.version += 1
            version = self.version if there else None
            if self.build.write is not None:
                self.build.write(self, store, key, version)
            elif version is None:
                store.delete([key], missing_ok=True)
            else:
                store.upsert([self.item(key, version)])
            self.expected.returned(key, self.world.running())
        del self._lives[who]

    def _search(self, number: int, life: str) -> None:
        who = f"reader{number}"
        self._lives[who] = life
        store = self._instance(life)
        while self._wait_for_work(lambda: bool(self.searches_left[number]), self.plot.pauses[1]):
            self.searches_left[number] -= 1
            floor = self.expected.floor()
            self.world.trace.append(f"{life}: a search begins, must see {floor}")
            hits = store.search(ASKED, self.plot.k, freshness=self.plot.freshness)
            self.world.trace.append(f"{life}: found {[(hit.key, hit.properties['n'], str(hit.store)) for hit in hits]}")
            self.expected.found(who, floor, hits, self.plot.k)
        del self._lives[who]

    def _wait_for_work(self, left: Callable[[], bool], pause: float) -> bool:
        """Wait until there is something to do; false when there never will be."""
        if pause:
            self.world.sleep(self.choices.draw((pause, pause / 2, 0.0)))
        self.world.pause("go on", lambda: left() or not self.itinerary, rests=not left())
        return left()

    # --- the relays

    def _relay(self, owner: str) -> None:
        """Relay for ever, by a clock of its own."""
        rate = self.choices.draw((1.0, 0.9, 1.1)) if self.plot.skewed else 1.0
        ahead = self.choices.draw((0.0, 1000.0, -1000.0)) if self.plot.skewed else 0.0

        def clock() -> float:
            return ahead + rate * self.world.now

        timing = Timing(request=2, landing=LANDING, lease=self.plot.lease, window=TIMES.window)
        relay = Relay(owner, self.graph, Codec(SPEC, self.layout), self.layout, self.network, timing, clock, batch=2)
        while True:
            self.world.pause("next step", rests=True)
            relay.hold()
            relay.step()
            relay.sweep()
            relay.prune()

    # --- the operator

    def _operate(self, _: str) -> None:
        while self.itinerary:
            self.world.pause("next command", rests=True)
            try:
                is_done = self._carry_out(self.itinerary[0])
            except ModeRefused:
                # That both sides are equal is the scene's own business to find out.
                epoch = self.control.read().epoch
                self.control.validated(
                    Validated(epoch, Depth.FULL, clean=True, rate=1.0, digest="", sink_digest="", seconds_ago=0.0)
                )
                self.world.sleep(1)
            except RetryableError:
                self.world.pause("try again", rests=True)
            else:
                if is_done:
                    self.itinerary.pop(0)
                    self._refill()

    def _carry_out(self, todo: StorageMode | str | float) -> bool:
        """Do one thing; false when it is not done yet."""
        if isinstance(todo, StorageMode):
            self._set_mode(todo)
        elif isinstance(todo, float):
            self.world.sleep(todo)
        else:
            return self._copy()
        return True

    def _refill(self) -> None:
        """Give the application as much to do as at the start."""
        if self.plot.again:
            for left, writes in zip(self.writes_left, self.plot.writes, strict=True):
                left.extend(self._drawn(writes))
            self.searches_left = [left + more for left, more in zip(self.searches_left, self.plot.searches, strict=True)]

    def _set_mode(self, mode: StorageMode) -> None:
        patience = Patience(1000, self.world.sleep, self.world.clock)
        change_mode(
            self.control,
            self.graph,
            mode,
            collection="c",
            terms=Terms(TIMES),
            # No preflight and no shadow reads are made here.
            overrides=Overrides((PREFLIGHT.name, SHADOWED.name), "made elsewhere"),
            patience=patience,
            watch=Unwatched(),
        )

    def _copy(self) -> bool:
        """Copy what already exists; again from the start where the last copy was made under another capture."""
        capture = self.control.read().capture
        if capture is None or self.state is None:
            return False
        wait = self.world.sleep if self.build.waits_for_landing else lambda _: False
        beside = Beside(capture, self.graph, LANDING, wait)
        job = Job("c", SPEC, LAY_OUT, 1, 10, "1", patience_seconds=0, beside=beside)
        backfill = Backfill(job, self.graph, self.network, Inline(), Silent(), threading.Event())
        try:
            outcome = backfill.run(self.state)
        except UnsafeResume:
            outcome = backfill.run(self.state, restart=True)
        counts = total(self.state.progress(outcome.run))
        if outcome.complete and (counts.pending or counts.source != counts.migrated + counts.quarantined):
            self.expected.wrong.append(f"the copy's account does not close: {counts.as_dict()}")
        return outcome.complete


class Silent:
    """A `Progress` that nobody watches."""

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None: ...
    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None: ...
    def working(self, worker: int, activity: str) -> None: ...
    def indexing(self, progress: Any) -> None: ...
    def note(self, text: str) -> None: ...


class Unwatched:
    """A `Watch` of a mode change that nobody watches."""

    def waiting(self, late: Sequence[Any], epoch: int) -> None: ...
    def note(self, text: str) -> None: ...


class Unseen:
    """Shadow reads that are not made."""

    def offer(self, *_: Any, **__: Any) -> None: ...


class Inline:
    """`Workers` that are the calling process itself."""

    def run(self, work: Callable[[int, RangeProgress], None], ranges: Sequence[RangeProgress], stop: threading.Event) -> None:
        for one in ranges:
            work(0, one)
