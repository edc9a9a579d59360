"""Neo4j's part in the protocol, in memory: items, marks, leases and one clock, with Neo4j's locks and visibility.

What a transaction of Neo4j lets others see is kept: writers lock marks until the commit is done, a commit becomes visible to
those who take no lock piece by piece, and whoever locks sees all of it. `pause` is called wherever another process may come in
between, so that a scheduler can interleave the production code step by step; by default it does nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.model import STATIC, Key, Page, Range, SourceSpec
from segue.ports import Backlog, Census, Looked, Standing
from segue.ports.marking import NOTHING

Values = Sequence[Any]
"""An item's properties in the order of the source spec, the vector first."""


@dataclass(slots=True)
class _Mark:
    part: int
    ver: str = ""
    acked: str = ""
    acked_at: float = 0.0
    marked_at: float = 0.0
    taint_until: float | None = None
    quarantined: str | None = None
    open: bool = True

    @property
    def dirty(self) -> bool:
        return self.ver != self.acked

    @property
    def prunable(self) -> bool:
        return not self.open and not self.dirty and self.taint_until is None


@dataclass(slots=True)
class _Lease:
    owner: str = ""
    until: float = 0.0


@dataclass(slots=True)
class _Graph:
    items: dict[Key, Values] = field(default_factory=dict)
    marks: dict[Key, _Mark] = field(default_factory=dict)
    locks: dict[Any, object] = field(default_factory=dict)


_CONTROL = object()
"""What stands for the control node among the locks."""


class MemoryGraph:
    """Items and marks of one collection: `Marks`, the application's writes, and a `Source` for the backfill.

    Args:
        spec: Which properties an item has.
        clock: The database's clock, in seconds.
        pause: Called where others may come in between, with what is about to happen.
        partitions: How many partitions the keys have.

    Attributes:
        capture: The control node's present capture.
        window_seconds: The control node's window of the read fence, None while it has none.
        copying: Whether a copy is under way.
        copied: The capture under which a copy was completed.
        copied_at: When that was.
    """

    def __init__(
        self,
        spec: SourceSpec,
        *,
        clock: Callable[[], float],
        pause: Callable[[str], None] = lambda _: None,
        partitions: int = 2,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._pause = pause
        self._graph = _Graph()
        self._leases = [_Lease() for _ in range(partitions)]
        self._relays: dict[str, float] = {}
        self._tokens = itertools.count(1)
        self._part = itertools.cycle(range(partitions))
        self.capture: str | None = None
        self.window_seconds: float | None = None
        self.copying = False
        self.copied: str | None = None
        self.copied_at: float | None = None

    # --- the application

    def upsert(self, items: Mapping[Key, Values], *, marking: bool = True) -> Mapping[Key, str]:
        """Write items, and marks in the same transaction; return what was acknowledged of the marked ones."""
        return self._change(dict(items), marking=marking)

    def delete(self, keys: Sequence[Key], *, marking: bool = True) -> Mapping[Key, str]:
        """Delete items; the marks stay. Return what was acknowledged of the marked ones."""
        return self._change(dict.fromkeys(keys), marking=marking)

    def _change(self, changes: Mapping[Key, Values | None], *, marking: bool) -> Mapping[Key, str]:
        graph = self._graph
        with self._locked(changes if marking else ()):
            before = {key: graph.marks[key].acked if key in graph.marks else "" for key in changes} if marking else {}
            self._pause("commit")
            # A commit that has begun is finished by the server, whatever becomes of the client.
            try:
                if marking:
                    for key in sorted(changes, key=str):
                        self._dirty(graph.marks.setdefault(key, _Mark(next(self._part))))
                    self._pause("marks are visible")
            finally:
                for key, values in changes.items():
                    if values is None:
                        graph.items.pop(key, None)
                    else:
                        graph.items[key] = values
            self._pause("commit is done")
        return before

    # --- Marks

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        """See `Marks`."""
        self._pause("remark")
        keys = [key for key in self._graph.marks if _within(key, after, until)]
        with self._locked(keys):
            there = [key for key in keys if key in self._graph.marks]
            for key in there:
                self._dirty(self._graph.marks[key])
        return set(there)

    def mark(self, keys: Sequence[Key]) -> None:
        """See `Marks`."""
        with self._locked(keys):
            self._pause("mark")
            for key in sorted(keys, key=str):
                self._dirty(self._graph.marks.setdefault(key, _Mark(next(self._part))))

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, Standing]:
        """See `Marks`."""
        self._pause("see how marks stand")
        found = {key: self._graph.marks[key] for key in keys if key in self._graph.marks}
        settled = {key: not mark.dirty and mark.taint_until is None for key, mark in found.items()}
        return {key: Standing(mark.ver, settled[key], mark.open) for key, mark in found.items()}

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        """See `Marks`."""
        self._pause("lease")
        now = self._clock()
        self._relays[owner] = now + seconds
        live = sum(until > now for until in self._relays.values())
        share = math.ceil(len(self._leases) / live)
        mine = [part for part, lease in enumerate(self._leases) if lease.owner == owner and lease.until > now]
        free = [part for part, lease in enumerate(self._leases) if lease.until <= now]
        for part in mine[share:]:
            self._leases[part] = _Lease()
        taken = free[: max(0, share - len(mine))]
        inherited = {part for part in taken if self._leases[part].owner}
        kept = frozenset(mine[:share] + taken)
        for part in kept:
            self._leases[part] = _Lease(owner, now + seconds)
        for mark in self._graph.marks.values():
            if mark.part in inherited and mark.dirty:
                mark.taint_until = max(mark.taint_until or 0.0, now + taint_seconds)
                mark.open = True
        return kept

    def release(self, owner: str) -> None:
        """See `Marks`."""
        self._pause("release")
        self._relays.pop(owner, None)
        self._leases = [_Lease() if lease.owner == owner else lease for lease in self._leases]

    def dirty(self, parts: frozenset[int], limit: int) -> list[Key]:
        """See `Marks`."""
        self._pause("dirty")
        waiting = [
            (mark.marked_at, str(key), key) for key, mark in self._graph.marks.items() if mark.part in parts and mark.dirty
        ]
        return [key for _, _, key in sorted(waiting)[:limit]]

    def look(self, keys: Sequence[Key]) -> Looked:
        """See `Marks`."""
        with self._locked(keys):
            self._pause("read the tokens")
            versions = {key: self._graph.marks[key].ver for key in keys if key in self._graph.marks}
            self._pause("read the items")
            page = self._page([key for key in keys if key in self._graph.items], None, exhausted=True)
        return Looked(versions, page)

    def acknowledge(self, seen: Mapping[Key, str], quarantined: Mapping[Key, str] = NOTHING) -> list[float]:
        """See `Marks`."""
        with self._locked(seen):
            self._pause("acknowledge")
            same = {key: mark for key, mark in self._graph.marks.items() if key in seen and mark.ver == seen[key]}
            for key, mark in same.items():
                mark.acked, mark.acked_at, mark.quarantined = mark.ver, self._clock(), quarantined.get(key)
        return [mark.acked_at - mark.marked_at for mark in same.values()]

    def taint(self, keys: Sequence[Key], seconds: float) -> None:
        """See `Marks`."""
        with self._locked(keys):
            self._pause("taint")
            for key in keys:
                if mark := self._graph.marks.get(key):
                    mark.taint_until = max(mark.taint_until or 0.0, self._clock() + seconds)
                    mark.open = True

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        """See `Marks`."""
        window = window_seconds if self.window_seconds is None else self.window_seconds
        for key in [key for key, mark in self._graph.marks.items() if mark.part in parts and mark.open]:
            with self._locked([key]):
                self._pause("sweep")
                mark, now = self._graph.marks.get(key), self._clock()
                if mark is None:
                    continue
                if mark.taint_until is not None and mark.taint_until <= now:
                    mark.taint_until = None
                    self._dirty(mark)
                elif mark.taint_until is None and not mark.dirty and mark.acked_at < now - window:
                    mark.open = False

    def prune(self, parts: frozenset[int], limit: int) -> int:
        """See `Marks`."""
        with self._locked([_CONTROL]):
            if not self._may_prune():
                return 0
            keys = [key for key, mark in self._graph.marks.items() if mark.part in parts and mark.prunable]
            pruned = sorted(keys, key=str)[:limit]
            with self._locked(pruned):
                self._pause("prune")
                gone = [key for key in pruned if key in self._graph.marks and self._graph.marks[key].prunable]
                for key in gone:
                    del self._graph.marks[key]
        return len(gone)

    def _may_prune(self) -> bool:
        return not self.copying and self.copied is not None and self.copied in (self.capture, STATIC)

    def copy_begins(self) -> None:
        """See `Marks`."""
        with self._locked([_CONTROL]):
            self._pause("a copy begins")
            self.copying = True

    def copy_ended(self, capture: str) -> None:
        """See `Marks`."""
        with self._locked([_CONTROL]):
            self._pause("a copy has ended")
            self.copying, self.copied, self.copied_at = False, capture, self._clock()

    def backlog(self) -> Backlog:
        """See `Marks`."""
        marks = [mark for mark in self._graph.marks.values() if mark.open]
        waiting = [self._clock() - mark.marked_at for mark in marks if mark.dirty]
        tainted = sum(mark.taint_until is not None for mark in marks)
        return Backlog(len(marks), len(waiting), tainted, max(waiting, default=0.0))

    # --- Source

    def identity(self) -> str:
        """See `Source`."""
        return "memory"

    def census(self, spec: SourceSpec) -> Census:
        """See `Source`."""
        total = len(self._graph.items)
        return Census(
            total, total, total, 0, dict.fromkeys(spec.property_names, frozenset()), key_indexed=True, key_unique=True
        )

    def plan(self, spec: SourceSpec, items_per_range: int, census: Census) -> list[Range]:
        """See `Source`."""
        del spec, items_per_range
        return [Range(0, None, None, census.total)]

    def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
        """See `Source`. Takes no lock: what it sees of a commit in progress may be half of it."""
        del spec
        self._pause("scan")
        keys = sorted(key for key in self._graph.items if _within(key, after, range_.until))[:limit]
        return self._page(keys, keys[-1] if keys else None, exhausted=len(keys) < limit)

    def missing(self, spec: SourceSpec, keys: Sequence[Key]) -> list[Key]:
        """See `Source`."""
        del spec
        self._pause("look for items")
        return [key for key in keys if key not in self._graph.items]

    # --- what all of it stands on

    def items(self) -> Mapping[Key, Values]:
        """Return every item, as a reader who takes no lock sees them now."""
        return self._graph.items

    def opened(self) -> tuple[dict[Key, str], set[Key]]:
        """Return every open mark's token, and the keys of those that are dirty, as a reader who takes no lock sees them now."""
        marks = {key: mark for key, mark in self._graph.marks.items() if mark.open}
        return {key: mark.ver for key, mark in marks.items()}, {key for key, mark in marks.items() if mark.dirty}

    def has_reached(self, key: Key, before: str) -> bool:
        """Say whether the sink holds a key as written when `before` was acknowledged, or later; without a mark it does."""
        mark = self._graph.marks.get(key)
        return mark is None or (mark.quarantined is None and (not mark.dirty or mark.acked != before))

    def page(self, keys: Collection[Key]) -> Page:
        """Return the items there are under some keys."""
        return self._page([key for key in keys if key in self._graph.items], None, exhausted=True)

    def _page(self, keys: Sequence[Key], last: Key | None, *, exhausted: bool) -> Page:
        values = [self._graph.items[key] for key in keys]
        vectors = np.array([value[0] for value in values], dtype=np.float32).reshape(len(keys), self._spec.dimension)
        return Page(list(keys), [], vectors, [value[1:] for value in values], [], last, exhausted)

    def _dirty(self, mark: _Mark) -> None:
        if not mark.dirty:
            mark.marked_at = self._clock()
        mark.ver = f"token-{next(self._tokens)}"
        mark.open = True

    @contextmanager
    def _locked(self, keys: Any) -> Iterator[None]:
        """Hold the marks' locks, taken in key order; wait while another transaction holds one."""
        mine = object()
        held: list[Any] = []
        try:
            for key in sorted(keys, key=str):
                self._pause("lock")
                while key in self._graph.locks:
                    self._pause("wait for a lock")
                self._graph.locks[key] = mine
                held.append(key)
            yield
        finally:
            for key in held:
                del self._graph.locks[key]


def _within(key: Key, after: Key | None, until: Key | None) -> bool:
    return (after is None or key > after) and (until is None or key <= until)  # type: ignore[operator]
