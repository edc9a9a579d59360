"""Shadow reads: a sample of searches that Milvus answered is asked of Neo4j too, and compared, while no user waits.

Neo4j is the control, Milvus the candidate; the user has the candidate's answer already. Whether the differences are too many is
the error budget's word; what follows from it is the caller's. Knows ports only.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segue.model import Budget, Filter, Hit, Observed, StorageMode, StoreName
from segue.ports.serving import Meter, Nearest, Vector

OPERATION = "shadow_read"
"""What a failure of the control counts as."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far two answers to one search agree.

    Attributes:
        overlap: The share of the control's keys that the candidate found too, 0 to 1.
        score_error: The largest difference of the scores of a key both found; 0 when there is none.
    """

    overlap: float
    score_error: float


def compare(control: Sequence[Hit], candidate: Sequence[Hit]) -> Comparison | None:
    """Compare two answers; None when the control found nothing, which says nothing about the candidate.

    Order does not count. When the control found fewer than were asked for, its share is of those it found: its index is
    approximate too, so what only the candidate found is no mismatch.
    """
    if not control:
        return None
    scores = {hit.key: hit.score for hit in candidate}
    errors = [abs(hit.score - scores[hit.key]) for hit in control if hit.key in scores]
    return Comparison(len(errors) / len(control), max(errors, default=0.0))


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
            found = f"Milvus found {lately.mean_overlap:.1%} of what Neo4j found in the last {lately.compared} shadow reads"
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
        nearest: The control.
        meter: Who is told.
        rate: The share of searches to compare, 0 to 1.
        budget: Who is told of each overlap.
        waiting: How many may wait for the thread; more are not made.
        choose: Draws from [0, 1); a search is compared when the draw is below the rate.
    """

    def __init__(
        self,
        nearest: Nearest,
        meter: Meter,
        *,
        rate: float,
        budget: ErrorBudget,
        waiting: int = 32,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self._nearest = nearest
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
        except Exception as fault:  # noqa: BLE001  # the user has an answer, and the thread must outlive whatever this was
            self._meter.failed(StoreName.NEO4J, OPERATION, type(fault).__name__)
            return
        self._meter.asked(StoreName.NEO4J, question.mode, time.monotonic() - began)
        comparison = compare(control, question.hits)
        if comparison is not None:
            self._meter.compared(comparison.overlap, comparison.score_error)
            self._budget.compared(question.epoch, comparison.overlap)
