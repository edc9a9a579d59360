"""Shadow reads and the error budget: what is compared, what is skipped, what users never notice, and when it is burnt."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from segue.errors import StoreTimeout
from segue.model import (
    Budget,
    CarriedProperty,
    Condition,
    Filter,
    Hit,
    Item,
    Key,
    KeyType,
    Metric,
    Observed,
    Operator,
    PropertyType,
    SourceSpec,
    StorageMode,
    StoreName,
)
from segue.ports.serving import Vector
from segue.telemetry.metrics import Metrics
from segue.traffic.shadow_read import Comparison, ErrorBudget, ShadowReads, compare

SHADOW = StorageMode.SHADOW_MILVUS
VECTOR = np.array([1, 0], dtype=np.float32)
CONDITIONS = (Condition("year", Operator.AT_LEAST, 1979),)
LONG = 5.0
"""Seconds no test should ever wait."""


def hits(store: StoreName, scores: dict[Key, float]) -> list[Hit]:
    """Return hits as a store gives them."""
    return [Hit(key, score, {}, store) for key, score in scores.items()]


def found(*keys: Key) -> list[Hit]:
    """Return hits of Milvus that differ by their keys only."""
    return hits(StoreName.MILVUS, dict.fromkeys(keys, 0.9))


def control(*keys: Key) -> list[Hit]:
    """Return hits of Neo4j that differ by their keys only."""
    return hits(StoreName.NEO4J, dict.fromkeys(keys, 0.9))


SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.COSINE, (CarriedProperty("year", PropertyType.INTEGER),))


class Neo4j:
    """A control with one answer, or a fault; it may be held back, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer = control("a", "b")
        self.items: dict[Key, Item] = {}
        self.looked_up: list[list[Key]] = []
        self.fault: Exception | None = None
        self.asked: list[tuple[list[float], int, Filter, float]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.was_asked = threading.Semaphore(0)

    def nearest(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> list[Hit]:
        self.was_asked.release()
        assert self.may_answer.wait(LONG)
        self.asked.append((vector.tolist(), k, conditions, seconds))
        if self.fault is not None:
            raise self.fault
        return self.answer

    def by_keys(self, keys: Sequence[Key], seconds: float) -> list[Item]:
        assert seconds == 1.0
        self.looked_up.append(list(keys))
        return [self.items[key] for key in keys if key in self.items]

    def by_filter(self, conditions: Filter, seconds: float) -> list[Item]:
        raise NotImplementedError


class Told(Metrics):
    """A meter that remembers what it was told, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__("films", CollectorRegistry())
        self.comparisons: list[tuple[float, float]] = []
        self.answers: list[tuple[StoreName, StorageMode]] = []
        self.failures: list[tuple[StoreName, str, str]] = []
        self.skipped = 0
        self.done = threading.Semaphore(0)

    def compared(self, overlap: float, score_error: float) -> None:
        self.comparisons.append((overlap, score_error))
        self.done.release()

    def asked(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        self.answers.append((store, mode))

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        self.failures.append((store, operation, kind))
        self.done.release()

    def shadow_skipped(self) -> None:
        self.skipped += 1


class Place:
    """Shadow reads of everything, with room for two."""

    def __init__(self) -> None:
        self.neo4j = Neo4j()
        self.told = Told()
        self.budget = ErrorBudget(least=1)
        self.shadow = self.reads(rate=1.0)

    def reads(self, rate: float, draw: float = 0.5) -> ShadowReads:
        return ShadowReads(
            SPEC, self.neo4j, self.neo4j, self.told, rate=rate, budget=self.budget, waiting=2, choose=lambda: draw
        )

    def offer(self, answer: Sequence[Hit]) -> None:
        self.shadow.offer(VECTOR, 2, CONDITIONS, SHADOW, answer, 1.0, epoch=0)

    def wait(self) -> None:
        """Wait until one more shadow read has come to something."""
        assert self.told.done.acquire(timeout=LONG)


@pytest.fixture
def place() -> Iterator[Place]:
    """Return a place whose thread ends with the test."""
    place = Place()
    yield place
    place.neo4j.may_answer.set()
    place.shadow.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "overlap"),
    [
        (["a", "b", "c", "d"], ["a", "b", "c", "d"], 1.0),
        (["a", "b", "c", "d"], ["d", "c", "b", "a"], 1.0),
        (["a", "b", "c", "d"], ["a", "b", "c", "x"], 0.75),
        (["a", "b", "c", "d"], ["a"], 0.25),
        (["a", "b", "c", "d"], [], 0.0),
        (["a"], ["a", "x", "y", "z"], 1.0),
        (["1"], [1], 0.0),
    ],
)
def test_overlap_is_the_share_of_the_controls_keys(ours: list[Key], theirs: list[Key], overlap: float) -> None:
    """Where only the control's answer is known. Order does not count; the text "1" is not the number 1."""
    comparison = compare(control(*ours), found(*theirs), {}, 4)
    assert comparison is not None
    assert comparison.overlap == overlap


def test_score_error_is_the_largest_of_the_shared_keys() -> None:
    """Scores of keys that only one side found do not count, whichever side is higher."""
    ours = hits(StoreName.NEO4J, {"a": 0.9, "b": 0.5, "only ours": 1.0})
    theirs = hits(StoreName.MILVUS, {"b": 0.75, "a": 0.8, "only theirs": 0.1})
    assert compare(ours, theirs, {}, 3) == Comparison(2 / 3, 0.25)
    assert compare(ours, [], {}, 3) == Comparison(0.0, 0.0)


@pytest.mark.parametrize(
    ("theirs", "others", "overlap"),
    [
        ({"a": 0.9, "x": 0.85}, {"x": 0.85}, 1.0),  # nearer than what the control found in its place
        ({"a": 0.9, "x": 0.7}, {"x": 0.7}, 0.5),  # farther
        ({"a": 0.9, "x": 0.85}, {"x": 0.3}, 0.5),  # nearer only as the candidate has it
        ({"a": 0.9, "x": 0.85}, {}, 0.5),  # there is no such item, or it does not meet the filter
        ({"x": 0.99, "y": 0.95}, {"x": 0.99, "y": 0.95}, 1.0),  # the control missed both
    ],
)
def test_what_the_control_missed_is_no_mismatch(theirs: dict[Key, float], others: dict[Key, float], overlap: float) -> None:
    """Two of "a" and "b" were found by the control; what the candidate found beside it is judged by the control's items."""
    ours = hits(StoreName.NEO4J, {"a": 0.9, "b": 0.8})
    comparison = compare(ours, hits(StoreName.MILVUS, theirs), others, 2)
    assert comparison is not None
    assert comparison.overlap == overlap
    assert comparison.score_error == pytest.approx(max([abs(theirs[key] - score) for key, score in others.items()], default=0))


def test_where_nothing_is_known_nothing_is_proven() -> None:
    """Neither full agreement nor a mismatch; an item that only the candidate found is one that should be found."""
    assert compare([], found("a"), {}, 2) is None
    assert compare([], [], {}, 2) is None
    assert compare([], found("a"), {"a": 0.9}, 2) == Comparison(1.0, 0.0)


def test_a_search_is_asked_of_neo4j_too_and_compared(place: Place) -> None:
    """The control gets the same question; its time, the comparison and the overlap are told."""
    place.offer(found("a", "x"))
    place.wait()
    place.shadow.close()
    assert place.neo4j.asked == [([1, 0], 2, CONDITIONS, 1.0)]
    assert place.told.answers == [(StoreName.NEO4J, SHADOW)]
    assert place.told.comparisons == [(0.5, 0.0)]
    assert place.budget.burnt() is not None


def test_what_milvus_alone_found_is_looked_at_in_neo4j(place: Place) -> None:
    """By key, with its vector and properties as they are: nearer ones count as found, unless they do not meet the filter."""
    place.neo4j.answer = hits(StoreName.NEO4J, {"a": 0.9, "b": 0.6})
    place.neo4j.items = {
        "x": Item("x", [1.0, 0.1], {"year": 1990}),
        "old": Item("old", [1.0, 0.0], {"year": 1960}),
        "bare": Item("bare", [], {"year": 1990}),
    }
    place.offer(found("x", "a"))
    place.wait()
    place.offer(found("old", "bare", "gone"))
    place.wait()
    assert place.neo4j.looked_up == [["x"], ["bare", "gone", "old"]]
    (first, error), second = place.told.comparisons
    assert (first, second) == (1.0, (0.0, 0.0))
    assert error == pytest.approx((1 + 1 / math.sqrt(1.01)) / 2 - 0.9, abs=1e-6)


@pytest.mark.parametrize(("rate", "draw", "is_asked"), [(0, 0, False), (0.2, 0.2, False), (0.2, 0.19, True), (1, 0.999, True)])
def test_a_sample_is_compared(place: Place, rate: float, draw: float, is_asked: bool) -> None:
    """A rate of 0 compares nothing, 1 everything; between, what is drawn below it."""
    sampled = place.reads(rate, draw)
    sampled.offer(VECTOR, 2, (), SHADOW, found("a"), 1.0, epoch=0)
    assert place.neo4j.was_asked.acquire(timeout=LONG if is_asked else 0.05) == is_asked
    sampled.close()
    assert place.told.skipped == 0


def test_a_search_is_offered_at_once_and_skipped_when_too_many_wait(place: Place) -> None:
    """While Neo4j answers none, one is asked and two wait; the others are counted, and nobody is held up."""
    place.neo4j.may_answer.clear()
    place.offer(found("a"))
    assert place.neo4j.was_asked.acquire(timeout=LONG)
    began = time.monotonic()
    for _ in range(5):
        place.offer(found("a"))
    assert time.monotonic() - began < 0.5
    assert place.told.skipped == 3
    place.neo4j.may_answer.set()
    for _ in range(3):
        place.wait()
    assert len(place.told.comparisons) == 3


def test_vector_and_hits_are_compared_as_they_were(place: Place) -> None:
    """What the application does with its own vector and answer afterwards makes no mismatch."""
    place.neo4j.may_answer.clear()
    vector, answer = VECTOR.copy(), found("a", "b")
    place.shadow.offer(vector, 2, (), SHADOW, answer, 1.0, epoch=0)
    vector[:] = 0
    answer.clear()
    place.neo4j.may_answer.set()
    place.wait()
    assert place.neo4j.asked == [([1, 0], 2, (), 1.0)]
    assert place.told.comparisons == [(1.0, 0.0)]


@pytest.mark.parametrize("fault", [StoreTimeout("no answer"), ValueError("a bug")])
def test_a_failing_control_is_counted_and_the_next_one_is_asked(place: Place, fault: Exception) -> None:
    """Nothing is raised, nothing held against Milvus, and the thread goes on."""
    place.neo4j.fault = fault
    place.offer(found("x"))
    place.wait()
    assert place.told.failures == [(StoreName.NEO4J, "shadow_read", type(fault).__name__)]
    assert place.told.answers == []
    assert place.budget.burnt() is None

    place.neo4j.fault = None
    place.offer(found("a", "b"))
    place.wait()
    assert place.told.comparisons == [(1.0, 0.0)]


def test_closing_ends_the_thread_and_leaves_what_waits(place: Place) -> None:
    """The search under way is finished, the waiting one is not made, later ones are ignored; closing twice is harmless."""
    place.neo4j.may_answer.clear()
    place.offer(found("a"))
    assert place.neo4j.was_asked.acquire(timeout=LONG)
    place.offer(found("a"))
    closing = threading.Thread(target=place.shadow.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    place.neo4j.may_answer.set()
    closing.join(LONG)
    assert not closing.is_alive()
    place.shadow.close()
    place.offer(found("a"))
    assert len(place.neo4j.asked) == 1
    assert place.told.skipped == 0


def fed(budget: ErrorBudget, *, failed: int, answered: int) -> ErrorBudget:
    """Spend failures, then answers."""
    for ok in (*(False,) * failed, *(True,) * answered):
        budget.spent(0, ok=ok)
    return budget


@pytest.mark.parametrize(
    ("failed", "answered", "is_burnt"),
    [(0, 0, False), (49, 0, False), (50, 0, True), (3, 47, True), (2, 48, False), (10, 190, False), (11, 189, True)],
)
def test_too_many_failed_answers_burn_the_budget(failed: int, answered: int, is_burnt: bool) -> None:
    """More than 5 % of 50 to 200 answers; fewer answers prove nothing."""
    assert (fed(ErrorBudget(), failed=failed, answered=answered).burnt() is not None) == is_burnt


def test_failures_are_forgotten_as_new_answers_come() -> None:
    """Only the last 200 count."""
    budget = fed(ErrorBudget(), failed=200, answered=189)
    assert budget.burnt() is not None
    assert fed(budget, failed=0, answered=1).burnt() is None


@pytest.mark.parametrize(
    ("poor", "good", "is_burnt"),
    [(49, 0, False), (50, 0, True), (0, 200, False), (30, 20, False), (31, 19, True), (200, 79, True), (200, 80, False)],
)
def test_a_low_mean_overlap_burns_the_budget(poor: int, good: int, is_burnt: bool) -> None:
    """A mean below 0.7 over 50 to 200 shadow reads, the newest; exactly 0.7 is enough."""
    budget = ErrorBudget()
    for overlap in (*(0.5,) * poor, *(1.0,) * good):
        budget.compared(0, overlap)
    assert (budget.burnt() is not None) == is_burnt


def test_failures_and_overlaps_are_judged_apart() -> None:
    """Good answers do not make up for a poor overlap, nor do they count as shadow reads."""
    budget = fed(ErrorBudget(), failed=0, answered=200)
    for _ in range(49):
        budget.compared(0, 0.0)
    assert budget.burnt() is None
    budget.compared(0, 0.0)
    assert budget.burnt() is not None


def test_the_reason_is_told_in_words() -> None:
    """An operator reads counts and limits."""
    budget = fed(ErrorBudget(), failed=12, answered=188)
    assert budget.burnt() == "12 of the last 200 answers of Milvus failed, more than 5.0%"
    budget = ErrorBudget()
    for _ in range(60):
        budget.compared(0, 0.6)
    assert budget.burnt() == "Milvus found 60.0% of the nearest known in the last 60 shadow reads, less than 70.0%"


def test_a_budget_begins_anew_with_an_epoch() -> None:
    """After a mode change nothing of the time before counts, also what comes late of it; while it follows one it keeps it."""
    budget = fed(ErrorBudget(), failed=200, answered=0)
    for _ in range(200):
        budget.compared(0, 0.0)
    budget.follow(0)
    assert budget.observed() == (0, Observed(200, 0.0, 200, 200))
    budget.follow(1)
    assert budget.burnt() is None
    fed(budget, failed=100, answered=0)
    budget.compared(0, 0.0)
    assert (budget.burnt(), budget.observed()) == (None, (1, Observed()))
    budget.spent(1, ok=False)
    budget.compared(1, 0.75)
    assert budget.observed() == (1, Observed(1, 0.75, 1, 1))


def test_sums_go_on_where_the_newest_no_longer_count() -> None:
    """A judgement is of the last ones, the sums are of all since the epoch began."""
    budget = fed(ErrorBudget(size=10), failed=30, answered=300)
    for _ in range(25):
        budget.compared(0, 0.5)
    assert budget.observed() == (0, Observed(25, 12.5, 330, 30))


def test_a_budget_is_usable_from_several_threads() -> None:
    """Observations and judgements at once lose nothing and raise nothing."""
    budget = ErrorBudget(Budget(most_failed=0.4999), size=4_000, least=4_000)
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for step in range(1_000):
                budget.spent(0, ok=bool(step % 2))
                budget.compared(0, 1.0)
                budget.burnt()
        except BaseException as fault:  # noqa: BLE001  # asserted by the main thread
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert budget.burnt() == "2000 of the last 4000 answers of Milvus failed, more than 50.0%"
