"""A vector search as the storage mode has it: by Neo4j, or by Milvus behind the read fence. Begin reading at `Search.search`.

What Milvus acknowledged is visible only some time later, and differs from replica to replica. So a key whose mark is open is
never taken from Milvus: it is read from Neo4j together with its mark, and scored here. The marks close only when every
replica shows the row (DESIGN: U = Δ + D_F + slack). Knows ports only, and starts no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segue.breaker import Breaker
from segue.errors import NotConnected, RetryableError, SegueError
from segue.model import Fallback, Filter, Freshness, Hit, Key, Metric, Opened, Page, SourceSpec, StorageMode, StoreName, Vectors
from segue.pipelines.filters import matches
from segue.pipelines.scores import Scorer
from segue.pipelines.values import plain_properties
from segue.ports import Candidates, Fence, Meter, Nearest, Pending, Vector
from segue.traffic.modes import ModeFollower, View
from segue.traffic.shadow_read import ErrorBudget, ShadowReads


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search may take.

    Attributes:
        milvus_seconds: How long Milvus may take before Neo4j answers.
        neo4j_seconds: How long Neo4j's own vector search may take.
        margin: How many more rows than wanted Milvus is asked for, to stand in for those that the fence takes out.
        most_open: The most open marks that stand between a reader and Milvus; with more, Neo4j answers.
        most_dirty: The most of them that are not acknowledged; each of those items is read at every search.
        bounded_seconds: How old the marks kept in memory may be under bounded freshness.
    """

    milvus_seconds: float = 0.5
    neo4j_seconds: float = 10.0
    margin: int = 10
    most_open: int = 2_000
    most_dirty: int = 200
    bounded_seconds: float = 1.0


class _FellBack(Exception):
    """Milvus cannot answer this search, so Neo4j does."""

    def __init__(self, reason: Fallback) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Asked:
    """One search, as the caller asked it."""

    vector: Vector
    k: int
    conditions: Filter


class Search:
    """Answers vector searches of one collection. Usable from several threads.

    Args:
        spec: What its items look like.
        nearest: Neo4j's own vector search.
        candidates: Milvus, searched.
        fence: The open marks.
        follower: The storage mode this instance acts by.
        breaker: Keeps a Milvus that is down from being asked.
        shadow: Asks the other side too, for a sample.
        budget: Is told how Milvus does.
        meter: Counts.
        clock: A monotonic clock, in seconds.
        limits: What a search may take.
    """

    def __init__(
        self,
        spec: SourceSpec,
        nearest: Nearest,
        candidates: Candidates,
        fence: Fence,
        follower: ModeFollower,
        breaker: Breaker,
        shadow: ShadowReads,
        budget: ErrorBudget,
        meter: Meter,
        clock: Callable[[], float],
        limits: Limits,
    ) -> None:
        self._spec = spec
        self._nearest = nearest
        self._candidates = candidates
        self._fence = fence
        self._follower = follower
        self._breaker = breaker
        self._shadow = shadow
        self._budget = budget
        self._meter = meter
        self._clock = clock
        self._limits = limits
        self._overlay = _Overlay(spec, fence, limits.most_open)
        self._remembered = _Remembered(fence, clock, limits)

    def search(self, vector: Vector, k: int, conditions: Filter, freshness: Freshness) -> list[Hit]:
        """Return the k nearest items that meet the conditions, nearest first.

        Answered by Neo4j when the lower of the two modes says so, and whenever Milvus fails, is slow, or cannot be trusted
        alone; an error is raised only when Neo4j fails too, or when its marks cannot be read.

        Raises:
            RetryableError: Neo4j does not answer.
        """
        asked = _Asked(vector, k, conditions)
        began = self._clock()
        with self._follower.acting() as view:
            hits, store = self._by_mode(asked, freshness, view)
            self._meter.searched(store, view.reads, self._clock() - began)
            if view.reads is StorageMode.SHADOW_MILVUS and store is StoreName.MILVUS:
                seconds, epoch = self._limits.neo4j_seconds, view.control.epoch
                self._shadow.offer(vector, k, conditions, view.reads, hits, seconds, epoch=epoch)
            return hits

    def _by_mode(self, asked: _Asked, freshness: Freshness, view: View) -> tuple[list[Hit], StoreName]:
        if view.reads.reads_milvus:
            try:
                return self._behind_the_fence(asked, freshness, view), StoreName.MILVUS
            except _FellBack as fell_back:
                self._meter.fell_back(fell_back.reason)
        return self._by_neo4j(asked, view.reads), StoreName.NEO4J

    def _by_neo4j(self, asked: _Asked, mode: StorageMode) -> list[Hit]:
        began = self._clock()
        try:
            hits = self._nearest.nearest(asked.vector, asked.k, asked.conditions, self._limits.neo4j_seconds)
        except SegueError as fault:
            self._meter.failed(StoreName.NEO4J, "search", type(fault).__name__)
            raise
        self._meter.asked(StoreName.NEO4J, mode, self._clock() - began)
        return hits

    def _behind_the_fence(self, asked: _Asked, freshness: Freshness, view: View) -> list[Hit]:
        """Combine what Milvus shows with what the fence says of keys that changed a while ago.

        1. Send the search to Milvus; read the fence meanwhile.
        2. The fence came too late: send the search again, the fence stays good.
        3. The mode has changed, or too much is open: Neo4j answers.
        4. A key whose mark is open is as the fence read it; every other key is as Milvus shows it.
        5. Fewer than k of Milvus's rows are left of a full page: Neo4j answers.
        """
        # From before it is sent: a process that is stopped right after sending must count the time it was.
        sent = self._clock()
        pending = self._ask_milvus(asked, view)
        opened = self._opened(freshness)
        self._follower.saw(opened.control)
        if not View(opened.control, view.own).reads.reads_milvus:
            raise _FellBack(Fallback.MODE_CHANGED)
        if opened.too_many:
            raise _FellBack(Fallback.TOO_MANY_OPEN)
        fence_seconds = self._clock() - sent
        if fence_seconds > opened.control.times.fence:
            self._meter.failed(StoreName.NEO4J, "fence", "late")
            self._budget.spent(view.control.epoch, ok=False)
            pending = self._ask_milvus(asked, view)
        overlaid = self._overlaid(asked, opened)
        self._meter.fenced(len(opened.marks), len(overlaid), fence_seconds)
        shown = self._shown(pending, view)
        trusted = [hit for hit in shown if hit.key not in opened.marks]
        if len(trusted) < asked.k and len(shown) >= asked.k + self._limits.margin:
            raise _FellBack(Fallback.PAGE_USED_UP)
        return sorted([*trusted, *overlaid], key=lambda hit: -hit.score)[: asked.k]

    def _ask_milvus(self, asked: _Asked, view: View) -> Pending:
        if not self._breaker.allows():
            raise _FellBack(Fallback.BREAKER_OPEN)
        wanted = asked.k + self._limits.margin
        try:
            return self._candidates.search(asked.vector, wanted, asked.conditions, self._limits.milvus_seconds)
        except NotConnected as fault:
            # In the first moments of a mode a busy application would else burn its budget at once.
            raise _FellBack(Fallback.NOT_CONNECTED) from fault
        except SegueError as fault:
            raise self._milvus_failed(fault, view) from fault

    def _shown(self, pending: Pending, view: View) -> list[Hit]:
        try:
            shown = pending.result()
        except SegueError as fault:
            raise self._milvus_failed(fault, view) from fault
        self._meter.asked(StoreName.MILVUS, view.reads, pending.seconds)
        self._breaker.succeeded()
        self._budget.spent(view.control.epoch, ok=True)
        return shown

    def _milvus_failed(self, fault: SegueError, view: View) -> _FellBack:
        self._meter.failed(StoreName.MILVUS, "search", type(fault).__name__)
        self._breaker.failed()
        self._budget.spent(view.control.epoch, ok=False)
        return _FellBack(Fallback.MILVUS_FAILED)

    def _opened(self, freshness: Freshness) -> Opened:
        """Read the fence, once more when the first try fails: a leader that has just changed answers the second."""
        read = self._remembered.read if freshness is Freshness.BOUNDED else self._read
        try:
            return read()
        except RetryableError as fault:
            self._meter.failed(StoreName.NEO4J, "fence", type(fault).__name__)
        return read()

    def _read(self) -> Opened:
        return self._fence.read(self._limits.most_open, self._limits.most_dirty)

    def _overlaid(self, asked: _Asked, opened: Opened) -> list[Hit]:
        """Return the items under open marks that meet the conditions, scored exactly; of each part the k nearest."""
        return [hit for part in self._overlay.parts(opened) for hit in self._nearest_of(part, asked)]

    def _nearest_of(self, part: _Part, asked: _Asked) -> list[Hit]:
        scores = part.scorer.scores(asked.vector)
        # Only the nearest can come into the answer, so the others' conditions need no look.
        nearest = np.argsort(-scores) if asked.conditions else np.argsort(-scores)[: asked.k]
        hits: list[Hit] = []
        for place in nearest:
            key, values = part.keys[place], part.properties[place]
            if matches(asked.conditions, {self._spec.key: key, **values}):
                # A copy, because the user may change what he is given.
                hits.append(Hit(key, float(scores[place]), dict(values), StoreName.NEO4J))
                if len(hits) == asked.k:
                    break
        return hits


class _Remembered:
    """The fence as it was a moment ago, for bounded freshness: read anew when it is too old."""

    def __init__(self, fence: Fence, clock: Callable[[], float], limits: Limits) -> None:
        self._fence = fence
        self._clock = clock
        self._limits = limits
        self._mutex = threading.Lock()
        self._opened: Opened | None = None
        self._good_until = 0.0

    def read(self) -> Opened:
        """Return what was read `bounded_seconds` ago at most.

        Raises:
            RetryableError: It is older than that, and Neo4j does not answer.
        """
        with self._mutex:
            # Counted from before the reading, so that nothing is ever older than said.
            now = self._clock()
            if self._opened is None or now >= self._good_until:
                self._opened = self._fence.read(self._limits.most_open, self._limits.most_dirty)
                self._good_until = now + self._limits.bounded_seconds
            return self._opened


@dataclass(frozen=True, slots=True)
class _Kept:
    """An item as it was under a token; no vector where there is no item that can be found."""

    version: str
    vector: Vectors | None
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """Items that a search can find, laid out for scoring."""

    keys: Sequence[Key]
    properties: Sequence[dict[str, Any]]
    scorer: Scorer


class _Overlay:
    """The items under open marks; those of acknowledged marks are kept by their token.

    While a mark is not acknowledged its token says nothing of the item, whose change may not be visible yet: such items come
    with the fence, every time (model: V9f, V9g).
    """

    def __init__(self, spec: SourceSpec, fence: Fence, most: int) -> None:
        self._names = spec.property_names
        self._metric = spec.metric
        self._fence = fence
        self._most = most
        self._kept: dict[Key, _Kept] = {}
        self._laid_out: tuple[Mapping[Key, str], _Part] = ({}, self._part({}))

    def parts(self, opened: Opened) -> list[_Part]:
        """Return the items that a search can find: of marks that are not acknowledged, and of those that are."""
        parts = []
        if opened.dirty:
            parts.append(self._part(self._of_page(opened.page, {})))
        if len(opened.marks) > len(opened.dirty):
            parts.append(
                self._of_acknowledged({key: version for key, version in opened.marks.items() if key not in opened.dirty})
            )
        return [part for part in parts if part.keys]

    def _of_acknowledged(self, versions: Mapping[Key, str]) -> _Part:
        """Return the part that these tokens make; the one of the search before, when they are the same."""
        known, part = self._laid_out
        if known == versions:
            return part
        kept = self._kept
        found, unknown = dict[Key, _Kept](), dict[Key, str]()
        for key, version in versions.items():
            item = kept.get(key)
            if item is not None and item.version == version:
                found[key] = item
            else:
                unknown[key] = version
        if unknown:
            found |= self._learn(unknown, versions)
        part = self._part(found)
        self._laid_out = versions, part
        return part

    def _learn(self, unknown: Mapping[Key, str], versions: Mapping[Key, str]) -> dict[Key, _Kept]:
        """Read items anew and keep them; what is read later than its mark is no older than its token."""
        read = self._of_page(self._fence.items(list(unknown)), unknown)
        learnt = {key: read.get(key) or _Kept(version, None, {}) for key, version in unknown.items()}
        if len(self._kept) > 2 * self._most:
            self._kept = {key: item for key, item in self._kept.items() if key in versions}
        self._kept |= learnt
        return learnt

    def _of_page(self, page: Page, versions: Mapping[Key, str]) -> dict[Key, _Kept]:
        found = {}
        for place, key in enumerate(page.keys):
            vector = page.vectors[place]
            if np.isfinite(vector).all() and (vector.any() or self._metric is not Metric.COSINE):
                properties = plain_properties(self._names, page.properties[place])
                found[key] = _Kept(versions.get(key, ""), vector, properties)
        return found

    def _part(self, items: Mapping[Key, _Kept]) -> _Part:
        keys = [key for key, item in items.items() if item.vector is not None]
        vectors = [item.vector for item in items.values() if item.vector is not None]
        matrix = np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
        return _Part(keys, [items[key].properties for key in keys], Scorer(self._metric, matrix))
