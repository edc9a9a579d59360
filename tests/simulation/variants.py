"""Every known way to break the protocol, each as the smallest change to a part that a scene is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segue.model import FenceTimes, Instance, Key, Layout, Opened, Page, Rows
from segue.pipelines.layouts import VERSION_FIELD
from segue.ports import Looked
from segue.ports.marking import NOTHING
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import _Mark
from segue.stores.memory_serving import MemoryServing
from segue.traffic.dual_write import DualWriteStore
from segue.traffic.search import Search
from simulation.scenes import Graph, Scene
from simulation.sink import Network, Row
from simulation.world import World

# --- the write side


def writes_milvus_directly(scene: Scene, store: DualWriteStore, key: Key, version: int | None) -> None:
    """After its commit the application writes the sink itself."""
    if version is None:
        store.delete([key], missing_ok=True)
        scene.network.delete(scene.layout, [key])
    else:
        store.upsert([scene.item(key, version)])
        vectors = np.array([scene.vector(key, version)], np.float32)
        scene.network.upsert(scene.layout, Rows([key], vectors, {VERSION_FIELD: [""]}))


class ClearsUnconditionally(Graph):
    """The mark is cleared whatever was marked meanwhile."""

    def acknowledge(self, seen: Mapping[Key, str], quarantined: Mapping[Key, str] = NOTHING) -> list[float]:
        now = {key: self._graph.marks[key].ver for key in seen if key in self._graph.marks}
        return super().acknowledge(now, quarantined)


class NoClosingLook(Graph):
    """The backfill never looks for marks after its acknowledgement, only before it sends a batch."""

    def __init__(self, world: World, control: MemoryControl) -> None:
        super().__init__(world, control)
        self.sent: set[tuple[Key | None, Key | None]] = set()

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        self.sent ^= {(after, until)}
        return super().remark(after, until) if (after, until) in self.sent else set()


class DataVersionAsToken(Graph):
    """The token is the item's data version: re-marking gives the same one."""

    def _dirty(self, mark: _Mark) -> None:
        super()._dirty(mark)
        mark.ver = f"version-{len(self._graph.items)}"


class TokensStartAgain(Graph):
    """Tokens are counted per key, and the count goes with the mark."""

    def _dirty(self, mark: _Mark) -> None:
        number = int(mark.ver or "0") + 1
        super()._dirty(mark)
        mark.ver = str(number)


class NoTaint(Graph):
    """An unknown outcome is forgotten."""

    def taint(self, keys: Sequence[Key], seconds: float) -> None: ...


class NoTaintAtTakeover(Graph):
    """A new owner trusts that the old one left nothing on its way."""

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        before = {key: mark.taint_until for key, mark in self._graph.marks.items()}
        kept = super().lease(owner, seconds, taint_seconds)
        for key, mark in self._graph.marks.items():
            mark.taint_until = before.get(key)
        return kept


class TaintEndsByTheClock(Graph):
    """A taint that has run out is forgotten instead of cured."""

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        for mark in self._graph.marks.values():
            if mark.taint_until is not None and mark.taint_until <= self._clock():
                mark.taint_until = None
        super().sweep(parts, window_seconds)


class TwoOwners(NoTaintAtTakeover):
    """Every relay holds every partition, and taints nothing."""

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        super().lease(owner, seconds, taint_seconds)
        return frozenset(range(len(self._leases)))


class NoBarrier(MemoryControl):
    """A mode change waits for nobody, so that the copy begins before the barrier."""

    def instances(self) -> list[Instance]:
        return []

    def transactions(self) -> frozenset[str]:
        return frozenset()


class MarkInAnotherTransaction(Graph):
    """The mark is written after the change, in a transaction of its own."""

    def upsert(self, items: Mapping[Key, Any], *, marking: bool = True) -> Mapping[Key, str]:
        super().upsert(items, marking=False)
        if marking:
            with self._locked(items):
                for key in items:
                    self._pause("mark afterwards")
                    self._dirty(self._graph.marks.setdefault(key, _Mark(next(self._part))))
        return {}


class DeleteWithoutMark(Graph):
    """A delete leaves no mark."""

    def delete(self, keys: Sequence[Key], *, marking: bool = True) -> Mapping[Key, str]:
        del marking
        return super().delete(keys, marking=False)


class Inserts(Network):
    """Rows are inserted, not upserted: the sink keeps both of a key."""

    def _with(self, before: tuple[Row, ...], row: Row) -> tuple[Row, ...]:
        return (*before, row)


class LooksTooEarly(Network):
    """The copy's closing look does not wait until the batch is acknowledged."""

    def upsert(self, layout: Layout, rows: Rows) -> Any:
        reply = super().upsert(layout, rows)
        return reply if self._world.running().startswith("relay") else _Unheard(self._world)


class _Unheard:
    def __init__(self, world: World) -> None:
        self._world = world

    def result(self) -> None:
        self._world.pause("go on without the answer")


class ShowsNoKeys(Network):
    """A new copy finds nothing that an earlier one left."""

    def keys(self, layout: Layout, after: Key | None, limit: int) -> list[Key]:
        return []


class ReadsTheItemFirst(Graph):
    """The relay reads the item, and then the token."""

    def look(self, keys: Sequence[Key]) -> Looked:
        page = self.page(keys)
        self._pause("read the tokens")
        return Looked({key: self._graph.marks[key].ver for key in keys if key in self._graph.marks}, page)


class ReadsWithoutTheLock(Graph):
    """The relay reads token and item without locking the mark."""

    def look(self, keys: Sequence[Key]) -> Looked:
        self._pause("read the tokens")
        versions = {key: self._graph.marks[key].ver for key in keys if key in self._graph.marks}
        self._pause("read the items")
        return Looked(versions, self.page(keys))


class PrunesWhileABatchIsInFlight(Graph):
    """A mark goes as soon as it is closed, although a batch on its way holds an older row of its key."""

    def _may_prune(self) -> bool:
        return True


# --- the read side


class TrustsAtOnce(Graph):
    """An acknowledged key is trusted at once: U = 0."""

    def window(self) -> float:
        return -1.0


class TrustsWhenVisible(Graph):
    """An acknowledged key is trusted when it is visible to searches that begin now: U = Δ."""

    def window(self) -> float:
        return self.control.now().times.visible


class StampsWhenSending(Graph):
    """`acked_at` is the time at which the item was read to be sent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: dict[str, float] = {}

    def look(self, keys: Sequence[Key]) -> Looked:
        now = self._clock()
        looked = super().look(keys)
        self.sent |= dict.fromkeys(looked.versions.values(), now)
        return looked

    def acknowledge(self, seen: Mapping[Key, str], quarantined: Mapping[Key, str] = NOTHING) -> list[float]:
        lags = super().acknowledge(seen, quarantined)
        for mark in self._graph.marks.values():
            if mark.ver == mark.acked and mark.ver in self.sent:
                mark.acked_at = self.sent[mark.ver]
        return lags


class LateFenceIsUsed(MemoryServing):
    """However late the fence comes, it is combined with what Milvus showed before."""

    def read(self, most: int, most_dirty: int) -> Opened:
        opened = super().read(most, most_dirty)
        patient = FenceTimes(visible=2, fence=1e9, slack=0)
        return replace(opened, control=replace(opened.control, times=patient))


class LaggingFence(MemoryServing):
    """The fence is answered by a member of the cluster that lags: sometimes as it was at an earlier read."""

    kept: Opened | None = None

    def read(self, most: int, most_dirty: int) -> Opened:
        opened = super().read(most, most_dirty)
        if self.kept is None or self._graph.world.choose("the member has caught up", 2):  # type: ignore[attr-defined]
            self.kept = opened
        return self.kept


class ClosesWithoutLookingAgain(Graph):
    """The label is taken off a mark that was clean before its lock was had."""

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        now, window = self._clock(), self.window()
        closing = [
            key
            for key, mark in self._graph.marks.items()
            if mark.open and mark.taint_until is None and not mark.dirty and mark.acked_at < now - window and mark.part in parts
        ]
        for key in closing:
            with self._locked([key]):
                self._pause("close")
                if key in self._graph.marks:
                    self._graph.marks[key].open = False
        super().sweep(parts, window_seconds)


class CachesWhileDirty(Search):
    """Items under open marks are kept by their token whether it is acknowledged or not."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        parts = self._overlay.parts
        self._overlay.parts = lambda opened: parts(_all_acknowledged(opened))  # type: ignore[method-assign]


def _all_acknowledged(opened: Opened) -> Opened:
    return replace(opened, dirty=set(), page=Page([], [], opened.page.vectors[:0], [], [], None, exhausted=True))
