"""Shadow reads: a sample of searches that Milvus answered is asked of Neo4j too, and compared, while no user waits.

Neo4j is the control, Milvus the candidate; the user has the candidate's answer already. The control's index is approximate
too, so an answer is held against the nearest that either found, by the control's items as they are. Whether the differences
are too many is the error budget's word; what follows from it is the caller's. Knows ports only.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segue.model import Budget, Filter, Hit, Key, Observed, SourceSpec, StorageMode, StoreName
from segue.pipelines.filters import matches
from segue.pipelines.recall import judged
from segue.pipelines.scores import exact_scores
from segue.ports.serving import Lookup, Meter, Nearest, Vector

OPERATION = "shadow_read"
"""What a failure of the control counts as."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How good the candidate's answer is, as far as the control can tell.

    Attributes:
        overlap: The share of the nearest known that the candidate found, 0 to 1.
        score_error: The largest difference of a key's score from the control's; 0 when there is none.
    """

    overlap: float
    score_error: float


def compare(control: Sequence[Hit], candidate: Sequence[Hit], others: Mapping[Key, float], k: int) -> Comparison | None:
    """Hold the candidate's answer against the k nearest of all that either found, by the control's scores.

    The control's index is approximate too: what it missed and the candidate found is no mismatch, if it is as near as the
    candidate says. Order does not count.

    Args:
        control: The control's answer.
        candidate: The candidate's.
        others: The control's own scores of what only the candidate found, as far as there are such items.
        k: How many were asked for.

    Returns:
        The comparison; None when there is nothing that should have been found.
    """
    known = {hit.key: hit.score for hit in control} | dict(others)
    if not known:
        return None
    answer = judged(candidate, known, (), k)
    return Comparison(answer.right / answer.wanted, answer.score_error)


class ErrorBudget:
    """Whether too much goes wrong while Milvus answers users, by the newest observations; and their sums over an epoch.

    Only observations of the epoch it follows count. Usable from several threads.

    Args:
        budget: What may go wrong.
        size: How many observations of each kind count.
        least: How many there must be for a judgement.
    """

    def __init__(self, budget: Budget = Budget(), *, size: int = 200, least: int = 50) -> None:  # noqa: B008  # frozen
        self._budget = budget
        self._least = least
        self._failed: deque[bool] = deque(maxlen=size)
        self._overlaps: deque[float] = deque(maxlen=size)
        self._epoch = 0
        self._seen = Observed()
        self._lock = threading.Lock()

    def follow(self, epoch: int) -> None:
        """Begin anew unless this is its epoch: what was seen before a mode change says nothing about the time after it."""
        with self._lock:
            if epoch != self._epoch:
                self._epoch, self._seen = epoch, Observed()
                self._failed.clear()
                self._overlaps.clear()

    def spent(self, epoch: int, *, ok: bool) -> None:
        """Milvus was asked for a user: it answered, or not (an error, a deadline, a fence that came too late)."""
        with self._lock:
            if epoch == self._epoch:
                self._failed.append(not ok)
                seen = self._seen
                self._seen = replace(seen, answers=seen.answers + 1, failed=seen.failed + (not ok))

    def compared(self, epoch: int, overlap: float) -> None:
        """A shadow read was compared."""
        with self._lock:
            if epoch == self._epoch:
                self._overlaps.append(overlap)
                seen = self._seen
                self._seen = replace(seen, compared=seen.compared + 1, overlap=seen.overlap + overlap)

    def observed(self) -> tuple[int, Observed]:
        """Return its epoch, and everything seen since that began."""
        with self._lock:
            return self._epoch, self._seen

    def burnt(self) -> str | None:
        """Return why the budget is burnt, in words; None while it is not."""
        with self._lock:
            lately = Observed(len(self._overlaps), sum(self._overlaps), len(self._failed), sum(self._failed))
        budget = self._budget
        if lately.answers >= self._least and budget.is_failing(lately):
            failed = f"{lately.failed} of the last {lately.answers} answers of Milvus failed"
            return f"{failed}, more than {budget.most_failed:.1%}"
        if lately.compared >= self._least and budget.is_missing(lately):
            found = f"Milvus found {lately.mean_overlap:.1%} of the nearest known in the last {lately.compared} shadow reads"
            return f"{found}, less than {budget.least_overlap:.1%}"
        return None


@dataclass(frozen=True, slots=True)
class _Question:
    vector: Vector
    k: int
    conditions: Filter
    mode: StorageMode
    epoch: int
    hits: tuple[Hit, ...]
    seconds: float


class ShadowReads:
    """One background thread that asks Neo4j what Milvus was asked. Usable from several threads.

    An item written between the two answers counts as a mismatch; the thread is never far behind, since few may wait.

    Args:
        spec: What an item is.
        nearest: The control.
        lookup: The control's items by their keys: what only the candidate found is looked at there.
        meter: Who is told.
        rate: The share of searches to compare, 0 to 1.
        budget: Who is told of each overlap.
        waiting: How many may wait for the thread; more are not made.
        choose: Draws from [0, 1); a search is compared when the draw is below the rate.
    """

    def __init__(
        self,
        spec: SourceSpec,
        nearest: Nearest,
        lookup: Lookup,
        meter: Meter,
        *,
        rate: float,
        budget: ErrorBudget,
        waiting: int = 32,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self._spec = spec
        self._nearest = nearest
        self._lookup = lookup
        self._meter = meter
        self._rate = rate
        self._budget = budget
        self._most = waiting
        self._choose = choose
        self._waiting: deque[_Question] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="segue-shadow-reads", daemon=True)
        self._thread.start()

    def offer(
        self,
        vector: Vector,
        k: int,
        conditions: Filter,
        mode: StorageMode,
        hits: Sequence[Hit],
        seconds: float,
        *,
        epoch: int,
    ) -> None:
        """Perhaps compare a search that Milvus has answered; returns in microseconds. Does nothing when closed.

        Args:
            vector: What was searched for.
            k: How many were asked for.
            conditions: The filter.
            mode: The mode the search was answered in.
            hits: The user's answer.
            seconds: How long Neo4j may take.
            epoch: The epoch it was answered in.
        """
        if self._choose() >= self._rate:
            return
        # Copied, because the user has vector and hits in hand and may change both before the thread comes to them.
        question = _Question(vector.copy(), k, conditions, mode, epoch, tuple(hits), seconds)
        with self._changed:
            if self._closed:
                return
            has_room = len(self._waiting) < self._most
            if has_room:
                self._waiting.append(question)
                self._changed.notify()
        if not has_room:
            self._meter.shadow_skipped()

    def close(self) -> None:
        """End the thread after the search it may be waiting for; those still waiting are not made. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (question := self._next()) is not None:
            self._ask(question)

    def _next(self) -> _Question | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return None if self._closed else self._waiting.popleft()

    def _ask(self, question: _Question) -> None:
        began = time.monotonic()
        try:
            control = self._nearest.nearest(question.vector, question.k, question.conditions, question.seconds)
            seconds = time.monotonic() - began
            others = self._others(question, {hit.key for hit in question.hits} - {hit.key for hit in control})
        except Exception as fault:  # noqa: BLE001  # the user has an answer, and the thread must outlive whatever this was
            self._meter.failed(StoreName.NEO4J, OPERATION, type(fault).__name__)
            return
        self._meter.asked(StoreName.NEO4J, question.mode, seconds)
        comparison = compare(control, question.hits, others, question.k)
        if comparison is not None:
            self._meter.compared(comparison.overlap, comparison.score_error)
            self._budget.compared(question.epoch, comparison.overlap)

    def _others(self, question: _Question, keys: set[Key]) -> dict[Key, float]:
        """Return the control's scores of what the candidate alone found, where such an item is there and meets the filter."""
        if not keys:
            return {}
        items = [
            item
            for item in self._lookup.by_keys(sorted(keys, key=str), question.seconds)
            if len(item.vector) == self._spec.dimension
            and matches(question.conditions, {self._spec.key: item.key, **item.properties})
        ]
        if not items:
            return {}
        scores = exact_scores(self._spec.metric, question.vector, np.array([item.vector for item in items], np.float32))
        return dict(zip((item.key for item in items), scores.tolist(), strict=True))
