"""Searches by mode: who answers, what the read fence takes out and puts in, and what makes Neo4j answer instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from segue.breaker import Breaker
from segue.errors import DataError, NotConnected, SegueError, StoreTimeout, StoreUnavailable
from segue.model import (
    CarriedProperty,
    Condition,
    Fallback,
    FenceTimes,
    Filter,
    Freshness,
    Hit,
    Key,
    KeyType,
    Metric,
    Opened,
    Operator,
    Page,
    PropertyType,
    SourceSpec,
    StorageMode,
    StoreName,
)
from segue.ports import NoMeter, Vector
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_serving import MemoryServing
from segue.traffic.modes import ModeFollower, OwnMode
from segue.traffic.search import Limits, Search
from segue.traffic.shadow_read import ErrorBudget, ShadowReads

SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.EUCLIDEAN, (CarriedProperty("n", PropertyType.INTEGER),))
HERE = np.zeros(2, np.float32)
LIMITS = Limits(milvus_seconds=0.5, neo4j_seconds=5, margin=2, most_open=6, most_dirty=4, bounded_seconds=1)


class Counted(NoMeter):
    """A meter that remembers what went wrong."""

    def __init__(self) -> None:
        self.fallbacks: Counter[Fallback] = Counter()
        self.failures: Counter[tuple[StoreName, str, str]] = Counter()
        self.overlaid: list[int] = []

    def fell_back(self, reason: Fallback) -> None:
        self.fallbacks[reason] += 1

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        self.failures[(store, operation, kind)] += 1

    def fenced(self, open_marks: int, overlaid: int, seconds: float) -> None:
        self.overlaid.append(overlaid)


class Answer:
    """A `Pending` whose answer is known, or whose failure is."""

    seconds = 0.001

    def __init__(self, hits: Sequence[Hit], fault: SegueError | None) -> None:
        self._hits, self._fault = hits, fault

    def result(self) -> list[Hit]:
        if self._fault:
            raise self._fault
        return list(self._hits)


class Milvus:
    """`Candidates` that show what the test lets them: one row a key at the distance given."""

    def __init__(self) -> None:
        self.rows: dict[Key, float] = {}
        self.asked = 0
        self.unsendable: SegueError | None = None
        self.unanswered: SegueError | None = None

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> Answer:
        self.asked += 1
        if self.unsendable:
            raise self.unsendable
        nearest = sorted(self.rows, key=lambda key: self.rows[key])[:k]
        hits = [Hit(key, 1 / (1 + self.rows[key] ** 2), {"n": 0}, StoreName.MILVUS) for key in nearest]
        return Answer(hits, self.unanswered)


class Scene:
    """A graph and a Milvus that need not agree, and the product's search over both."""

    def __init__(self, mode: StorageMode = StorageMode.HYBRID) -> None:
        self.now = 0.0
        self.graph = MemoryGraph(SPEC, clock=self.clock)
        self.control = MemoryControl(clock=self.clock)
        self.serving = MemoryServing(SPEC, self.graph, self.control)
        self.milvus = Milvus()
        self.meter = Counted()
        self.fence_reads = self.item_reads = 0
        self.fence_takes = 0.0
        self.fence_fails = 0
        self.breaker = Breaker(self.clock)
        self.budget = ErrorBudget()
        self.shadow = ShadowReads(SPEC, self.serving, self.serving, self.meter, rate=0, budget=self.budget)
        self.follower = ModeFollower(self.control, OwnMode(), "me", "here", self.meter)
        self.set(mode)
        self.follower.look()
        self.budget.follow(self.follower.view.control.epoch)
        parts = (self.follower, self.breaker, self.shadow, self.budget, self.meter, self.clock)
        self.search_ = Search(SPEC, self.serving, self.milvus, self, *parts, LIMITS)

    def clock(self) -> float:
        return self.now

    def set(self, mode: StorageMode) -> None:
        self.control.change(self.control.read().epoch, mode, times=FenceTimes(), reason="")

    def write(self, key: Key, distance: float, *, n: int = 1, acknowledged: bool = False) -> None:
        """Put an item at a distance from HERE, with an open mark."""
        self.graph.upsert({key: ([distance, 0.0], n)})
        if acknowledged:
            self.graph.acknowledge(self.graph.look([key]).versions)

    def settle(self, **distances: float) -> None:
        """Put items that both sides have, with no mark."""
        self.graph.upsert({key: ([distance, 0.0], 0) for key, distance in distances.items()}, marking=False)
        self.milvus.rows |= distances

    def read(self, most: int, most_dirty: int) -> Opened:
        self.fence_reads += 1
        self.now += self.fence_takes
        if self.fence_fails:
            self.fence_fails -= 1
            msg = "a new leader"
            raise StoreUnavailable(msg)
        return self.serving.read(most, most_dirty)

    def items(self, keys: Sequence[Key]) -> Page:
        self.item_reads += len(keys)
        return self.serving.items(keys)

    def search(self, k: int = 3, conditions: Filter = (), freshness: Freshness = Freshness.STRICT) -> list[Hit]:
        return self.search_.search(HERE, k, conditions, freshness)

    def found(self, k: int = 3, **options: Any) -> list[tuple[Key, StoreName]]:
        return [(hit.key, hit.store) for hit in self.search(k, **options)]


NEO4J, MILVUS = StoreName.NEO4J, StoreName.MILVUS


@pytest.mark.parametrize(
    ("mode", "store"),
    [
        (StorageMode.NEO4J_ONLY, NEO4J),
        (StorageMode.DUAL_WRITE, NEO4J),
        (StorageMode.SHADOW_MILVUS, MILVUS),
        (StorageMode.HYBRID, MILVUS),
    ],
)
def test_the_mode_decides_who_answers(mode: StorageMode, store: StoreName) -> None:
    """Milvus is asked in the two modes that read it, and not even asked in the others."""
    scene = Scene(mode)
    scene.settle(a=1, b=2, c=3, d=4)
    assert scene.found() == [("a", store), ("b", store), ("c", store)]
    assert scene.milvus.asked == (store is MILVUS)


def test_a_key_that_changed_is_as_neo4j_has_it() -> None:
    """Its row in Milvus is ignored, wherever it stands; its score is exact and its properties are the new ones."""
    scene = Scene()
    scene.settle(a=1, b=2, c=3, d=4)
    scene.write("c", 0.5, n=7)
    scene.write("a", 9)
    hits = scene.search()
    assert [(hit.key, hit.store) for hit in hits] == [("c", NEO4J), ("b", MILVUS), ("d", MILVUS)]
    assert hits[0].score == pytest.approx(1 / 1.25)
    assert hits[0].properties == {"n": 7}
    assert not scene.meter.fallbacks


def test_a_deleted_key_is_not_found_and_a_new_one_is() -> None:
    """Before Milvus knows of either."""
    scene = Scene()
    scene.settle(a=1, b=2, c=3)
    scene.graph.delete(["a"])
    scene.write("new", 1.5)
    assert scene.found() == [("new", NEO4J), ("b", MILVUS), ("c", MILVUS)]


def test_an_acknowledged_key_is_still_neo4js_while_its_mark_is_open() -> None:
    """A replica may not show it yet; it is read once, and then kept by its token."""
    scene = Scene()
    scene.settle(a=1, b=2)
    scene.write("a", 5, acknowledged=True)
    assert scene.found() == [("b", MILVUS), ("a", NEO4J)]
    assert scene.found() == [("b", MILVUS), ("a", NEO4J)]
    assert scene.item_reads == 1
    scene.write("a", 0.5, acknowledged=True)
    assert scene.found() == [("a", NEO4J), ("b", MILVUS)]
    assert scene.item_reads == 2


def test_an_item_that_is_not_acknowledged_is_read_every_time() -> None:
    """Its token says nothing of it yet, so nothing is kept under it."""
    scene = Scene()
    scene.settle(a=1)
    scene.write("a", 5)
    scene.search()
    # The data of a commit whose mark was seen before: the token stays the same.
    scene.graph.upsert({"a": ([0.5, 0.0], 2)}, marking=False)
    assert scene.search()[0].score == pytest.approx(1 / 1.25)


def test_the_filter_holds_for_what_neo4j_puts_in() -> None:
    """An item under an open mark is found only if it meets the conditions now."""
    scene = Scene()
    scene.write("a", 1, n=1)
    scene.write("b", 2, n=2)
    assert scene.found(conditions=(Condition("n", Operator.EQUAL, 2),)) == [("b", NEO4J)]
    assert scene.found(conditions=(Condition("id", Operator.EQUAL, "a"),)) == [("a", NEO4J)]


def test_an_item_that_cannot_be_found_is_not() -> None:
    """No finite vector, no hit: as in both stores' own searches."""
    scene = Scene()
    scene.settle(a=1)
    scene.write("a", float("nan"))
    assert scene.found() == []


def _fails_to_answer(scene: Scene) -> None:
    scene.milvus.unanswered = StoreTimeout("no answer")


def _cannot_be_asked(scene: Scene) -> None:
    scene.milvus.unsendable = StoreUnavailable("not connected")


def _lost_its_collection(scene: Scene) -> None:
    scene.milvus.unanswered = DataError("collection not found")


def _has_too_much_open(scene: Scene) -> None:
    for number in range(LIMITS.most_open + 1):
        scene.write(f"w{number}", 50, acknowledged=True)


def _has_too_much_dirty(scene: Scene) -> None:
    for number in range(LIMITS.most_dirty + 1):
        scene.write(f"w{number}", 50)


def _has_a_page_used_up(scene: Scene) -> None:
    # Five rows are asked for, three of them are not to be trusted, and what stands behind the fifth is not known.
    scene.settle(a=1, b=2, c=3, d=4, e=5, f=6)
    for key in "abc":
        scene.graph.delete([key])


def _was_rolled_back(scene: Scene) -> None:
    scene.set(StorageMode.NEO4J_ONLY)


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (_fails_to_answer, Fallback.MILVUS_FAILED),
        (_cannot_be_asked, Fallback.MILVUS_FAILED),
        (_lost_its_collection, Fallback.MILVUS_FAILED),
        (_has_too_much_open, Fallback.TOO_MANY_OPEN),
        (_has_too_much_dirty, Fallback.TOO_MANY_OPEN),
        (_has_a_page_used_up, Fallback.PAGE_USED_UP),
        (_was_rolled_back, Fallback.MODE_CHANGED),
    ],
)
def test_neo4j_answers_when_milvus_cannot_be_trusted_alone(happens: Callable[[Scene], None], reason: Fallback) -> None:
    """The user has the right answer, and the reason is counted."""
    scene = Scene()
    scene.settle(a=1, b=2, c=3, d=4)
    happens(scene)
    hits = scene.search()
    expected = scene.serving.nearest(HERE, 3, (), 1)
    assert hits == expected
    assert scene.meter.fallbacks == {reason: 1}


def test_a_rollback_takes_effect_at_the_next_search() -> None:
    """The fence reads the control node too, so an instance need not wait for its next look."""
    scene = Scene()
    scene.settle(a=1)
    scene.set(StorageMode.DUAL_WRITE)
    assert scene.follower.view.reads is StorageMode.HYBRID
    assert scene.found() == [("a", NEO4J)]
    assert scene.follower.view.reads is StorageMode.DUAL_WRITE


@pytest.mark.parametrize("freshness", list(Freshness))
def test_a_late_fence_makes_milvus_answer_anew(freshness: Freshness) -> None:
    """What Milvus showed before a fence that took too long is not used: by then marks may have closed."""
    scene = Scene()
    scene.settle(a=1)
    scene.fence_takes = FenceTimes().fence + 0.1
    assert scene.found(freshness=freshness) == [("a", MILVUS)]
    assert scene.milvus.asked == 2
    assert scene.meter.failures == {(NEO4J, "fence", "late"): 1}


def test_a_fence_that_fails_once_is_read_again() -> None:
    """A leader that has just changed answers the second time; when nobody answers, the caller learns it."""
    scene = Scene()
    scene.settle(a=1)
    scene.fence_fails = 1
    assert scene.found() == [("a", MILVUS)]
    scene.fence_fails = 2
    with pytest.raises(StoreUnavailable):
        scene.search()


def test_a_milvus_that_is_down_is_not_asked_for_a_while() -> None:
    """After five failures in a row Neo4j answers without asking; then one search tries, and closes the breaker."""
    scene = Scene()
    scene.settle(a=1)
    _fails_to_answer(scene)
    for _ in range(8):
        assert scene.found() == [("a", NEO4J)]
    assert scene.milvus.asked == 5
    assert scene.meter.fallbacks == {Fallback.MILVUS_FAILED: 5, Fallback.BREAKER_OPEN: 3}
    scene.milvus.unanswered = None
    scene.now += 60
    assert scene.found() == [("a", MILVUS)]
    assert not scene.breaker.is_open


def test_a_connection_that_is_still_being_opened_is_no_failure() -> None:
    """In the first moments of a mode Neo4j answers, without budget or breaker; Milvus does as soon as it is connected."""
    scene = Scene(StorageMode.SHADOW_MILVUS)
    scene.settle(a=1)
    scene.milvus.unsendable = NotConnected("on the way")
    for _ in range(100):
        assert scene.found() == [("a", NEO4J)]
    assert scene.meter.fallbacks == {Fallback.NOT_CONNECTED: 100}
    assert scene.meter.failures == {}
    assert scene.budget.burnt() is None
    scene.milvus.unsendable = None
    assert scene.found() == [("a", MILVUS)]


def test_a_probe_that_came_to_no_answer_is_made_again() -> None:
    """A half-open breaker whose one probe fell back for another reason lets another one through later."""
    scene = Scene()
    scene.settle(a=1)
    _fails_to_answer(scene)
    for _ in range(5):
        scene.search()
    scene.milvus.unanswered = None
    _has_too_much_open(scene)
    scene.now += 60
    assert scene.found()[0] == ("a", NEO4J)
    for key in scene.graph.opened()[0]:
        scene.graph.acknowledge(scene.graph.look([key]).versions)
    scene.now += 60
    parts = scene.graph.lease("relay", 10, 1)
    scene.graph.sweep(parts, 1)
    assert scene.found() == [("a", MILVUS)]


def test_bounded_freshness_reads_the_fence_once_a_while() -> None:
    """Within the bound a new write may be missing; behind it it is there."""
    scene = Scene()
    scene.settle(a=1)
    assert scene.found(freshness=Freshness.BOUNDED) == [("a", MILVUS)]
    scene.write("b", 0.5)
    assert scene.found(freshness=Freshness.BOUNDED) == [("a", MILVUS)]
    assert scene.fence_reads == 1
    scene.now += LIMITS.bounded_seconds
    assert scene.found(freshness=Freshness.BOUNDED) == [("b", NEO4J), ("a", MILVUS)]
    assert scene.fence_reads == 2


def test_bounded_freshness_outlives_a_short_absence_of_neo4j() -> None:
    """Marks that are young enough are enough; when they are too old the caller learns it."""
    scene = Scene()
    scene.settle(a=1)
    scene.found(freshness=Freshness.BOUNDED)
    scene.fence_fails = 99
    scene.now += LIMITS.bounded_seconds / 2
    assert scene.found(freshness=Freshness.BOUNDED) == [("a", MILVUS)]
    scene.now += LIMITS.bounded_seconds
    with pytest.raises(StoreUnavailable):
        scene.search(freshness=Freshness.BOUNDED)


def test_failures_of_milvus_burn_the_budget() -> None:
    """The budget is told of every answer, good or not."""
    scene = Scene(StorageMode.SHADOW_MILVUS)
    scene.settle(a=1)
    for _ in range(47):
        scene.search()
    _fails_to_answer(scene)
    for _ in range(3):
        scene.search()
    assert scene.budget.burnt() == "3 of the last 50 answers of Milvus failed, more than 5.0%"
