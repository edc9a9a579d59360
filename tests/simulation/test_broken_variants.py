"""Each way to break the protocol is found by the simulation: the proof that it can find anything at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from segue.model import Key
from segue.ports import Looked
from segue.stores.memory_marks import MemoryGraph
from simulation.test_convergence import Scene

SEEDS = 1500


class ClearsUnconditionally(MemoryGraph):
    """The mark is cleared whatever was marked meanwhile."""

    def acknowledge(self, seen: Mapping[Key, str]) -> list[float]:
        now = {key: self._graph.marks[key].ver for key in seen}
        return super().acknowledge(now)


class NoClosingLook(MemoryGraph):
    """The backfill never looks for marks after its acknowledgement."""

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        self._looks = getattr(self, "_looks", 0) + 1
        return super().remark(after, until) if self._looks % 2 else set()


class NoTaint(MemoryGraph):
    """An unknown outcome is forgotten."""

    def taint(self, keys: Sequence[Key], seconds: float) -> None: ...


class NoTaintAtTakeover(MemoryGraph):
    """A new owner trusts that the old one left nothing on its way."""

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        before = {key: mark.taint_until for key, mark in self._graph.marks.items()}
        kept = super().lease(owner, seconds, taint_seconds)
        for key, mark in self._graph.marks.items():
            mark.taint_until = before.get(key)
        return kept


class TaintEndsByTheClock(MemoryGraph):
    """A taint that has run out is forgotten instead of cured."""

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        for mark in self._graph.marks.values():
            if mark.taint_until is not None and mark.taint_until <= self._clock():
                mark.taint_until = None
        super().sweep(parts, window_seconds)


class TwoOwners(MemoryGraph):
    """Every relay holds every partition."""

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        super().lease(owner, seconds, taint_seconds)
        return frozenset(range(len(self._leases)))


class DeleteWithoutMark(MemoryGraph):
    """A delete leaves no mark."""

    def delete(self, keys: Sequence[Key], *, marking: bool = True) -> None:
        super().delete(keys, marking=False)


class MarkInAnotherTransaction(MemoryGraph):
    """The mark is written after the change, in a transaction of its own."""

    def upsert(self, items: Mapping[Key, Any], *, marking: bool = True) -> None:
        super().upsert(items, marking=False)
        if marking:
            with self._locked(items):
                for key in items:
                    self._pause("mark afterwards")
                    if key in self._graph.marks:
                        self._dirty(self._graph.marks[key])


class ReadsWithoutTheLock(MemoryGraph):
    """The relay reads token and item without locking the mark."""

    def look(self, keys: Sequence[Key]) -> Looked:
        self._pause("read the tokens")
        versions = {key: self._graph.marks[key].ver for key in keys if key in self._graph.marks}
        self._pause("read the items")
        return Looked(versions, self._page([key for key in keys if key in self._graph.items], None, exhausted=True))


class ReadsTheItemFirst(MemoryGraph):
    """The relay reads the item, and then the token."""

    def look(self, keys: Sequence[Key]) -> Looked:
        page = self._page([key for key in keys if key in self._graph.items], None, exhausted=True)
        self._pause("read the tokens")
        return Looked({key: self._graph.marks[key].ver for key in keys if key in self._graph.marks}, page)


class TokensAreReused(MemoryGraph):
    """The token is the item's data version: re-marking gives the same one."""

    def _dirty(self, mark: Any) -> None:
        super()._dirty(mark)
        mark.ver = f"version-{sum(1 for _ in self._graph.items)}"


class PrunesWhileABatchIsInFlight(MemoryGraph):
    """A mark goes as soon as it is closed, although a batch on its way holds an older row of its key."""

    def _may_prune(self) -> bool:
        return True


@pytest.mark.parametrize(
    "variant",
    [
        ClearsUnconditionally,
        NoClosingLook,
        NoTaint,
        NoTaintAtTakeover,
        TaintEndsByTheClock,
        TwoOwners,
        DeleteWithoutMark,
        ReadsWithoutTheLock,
        ReadsTheItemFirst,
        TokensAreReused,
        PrunesWhileABatchIsInFlight,
    ],
    ids=lambda variant: variant.__name__,
)
def test_a_broken_protocol_is_found(variant: type[MemoryGraph], tmp_path: Path) -> None:
    """Some seed shows that this variant does not converge."""
    for seed in range(SEEDS):
        scene = Scene(seed, tmp_path / f"{seed}.db")
        scene.graph = scene.make_graph(variant)
        if scene.play():
            return
    pytest.fail(f"{SEEDS} seeds did not find it")
