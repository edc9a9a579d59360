"""The way back on stores in memory: from every mode, with every step failing in turn, twice, and two at once."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from segue.errors import FatalError, Interrupted, StoreUnavailable
from segue.model import Control, FenceTimes, Filter, Hit, Instance, Key, KeyType, Metric, SourceSpec, StorageMode
from segue.phases.rollback import TRIES, Clock, Deployment, Returned, Room, Wish, preview, roll_back
from segue.ports import IndexState, Physical, RolloutWatch, Vector
from segue.steps import Step, StepStatus
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_serving import MemoryServing

ONLY, DUAL, SHADOW, HYBRID = StorageMode
SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.COSINE)
AWAY = StoreUnavailable("nobody answers")


class Neo4j:
    """A graph with two items, its control node, and searches; each of them may be away, or wrong."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.node = Node(clock=clock)
        self.graph = MemoryGraph(SPEC, clock=clock)
        self.graph.upsert({"a": ([1.0, 0.0],), "b": ([0.0, 1.0],)})
        self._serving = MemoryServing(SPEC, self.graph, self.node)
        self.index: str | None = "ONLINE"
        self.is_away = False
        self.finds: list[Hit] | None = None

    def look(self) -> IndexState:
        self._answer()
        return IndexState(self.index, 100.0, len(self.graph.items()))

    def sample(self) -> tuple[Key, Vector] | None:
        self._answer()
        return "a", np.array([1.0, 0.0], np.float32)

    def statement(self) -> str:
        self._answer()
        return "CREATE VECTOR INDEX i"

    def nearest(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> list[Hit]:
        self._answer()
        return self._serving.nearest(vector, k, conditions, seconds) if self.finds is None else self.finds

    def _answer(self) -> None:
        if self.is_away:
            raise AWAY


class Node(MemoryControl):
    """A control node that may be away; `before_change` plays whoever comes in between."""

    is_away = False
    before_change: Callable[[], object] = staticmethod(lambda: None)

    def read(self) -> Control:
        if self.is_away:
            raise AWAY
        return super().read()

    def change(self, expected_epoch: int, mode: StorageMode, *, times: FenceTimes, reason: str) -> Control | None:
        self.before_change()
        return super().change(expected_epoch, mode, times=times, reason=reason)

    def instances(self) -> list[Instance]:
        if self.is_away:
            raise AWAY
        return super().instances()

    def go(self, mode: StorageMode) -> None:
        """Change the mode as others do."""
        super().change(self.now().epoch, mode, times=FenceTimes(), reason="others")


class Milvus:
    """Collections by name; may be away."""

    def __init__(self) -> None:
        self.collections = [Physical("films_v1", (), is_current=False), Physical("films_v2", ("films",), is_current=True)]
        self.is_away = False
        self.opened = 0

    @contextmanager
    def open(self) -> Iterator[Milvus]:
        self.opened += 1
        if self.is_away:
            raise AWAY
        yield self

    def found(self) -> list[Physical]:
        return list(self.collections)

    def drop(self, physical: Physical) -> None:
        self.collections.remove(physical)


class File:
    """A `Rollout` into a variable."""

    def __init__(self) -> None:
        self.mode = HYBRID
        self.is_away = False

    def plan(self, mode: StorageMode) -> list[str]:
        return [f"{self.mode} → {mode}"]

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        if self.is_away:
            raise AWAY
        changed, self.mode = self.mode is not mode, mode
        return changed

    def undo(self, watch: RolloutWatch) -> None:
        raise NotImplementedError

    def by_hand(self, mode: StorageMode) -> list[str]:
        return [f"echo {mode}"]


class Shell:
    """Commands as words."""

    def cypher(self, statement: str) -> str:
        return f"cypher {statement}"

    def drop(self, names: Sequence[str], alias: str) -> str:
        return f"drop {alias} {' '.join(names)}"

    def segue(self, *arguments: str) -> str:
        return shlex.join(arguments)


class Place:
    """One collection in some mode, and an operator; time passes while somebody waits, and instances then act."""

    def __init__(self, mode: StorageMode = HYBRID) -> None:
        self.now = 0.0
        self.neo4j = Neo4j(lambda: self.now)
        self.node = self.neo4j.node
        self.milvus = Milvus()
        self.file = File()
        self.acting: list[str] = []
        self.is_asked_to_stop = False
        self.told: list[Step] = []
        self.notes: list[str] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.is_to_go = True
        self.others: list[Node] = []
        for step in list(StorageMode)[1 : mode.rank + 1]:
            self.node.go(step)
            self.node.captured(self.node.now().epoch)
        if mode.marks:
            capture = self.node.now().capture
            assert capture is not None
            self.node.copy_ended(capture)

    @property
    def room(self) -> Room:
        return Room("films", self.node, self.neo4j, self.neo4j, self.milvus.open, FenceTimes())

    def register(self, name: str, *, acts: bool = True) -> None:
        self.node.renew(Instance(name, f"host-of-{name}", None, self.node.now().epoch), 1000.0)
        if acts:
            self.acting.append(name)

    def back(self, *, deletes: bool = False) -> tuple[Returned, dict[str, Step]]:
        wish = Wish("incident 7", self._may_delete if deletes else None, 10.0)
        (returned,), steps = roll_back([self.room], self.deployment, wish, Shell(), self._clock, self)
        return returned, {step.name: step for step in steps}

    def shown(self, *, deletes: bool = False) -> dict[str, Step]:
        _, steps = preview([self.room], self.deployment, Shell(), self._clock, self, deletes=deletes)
        return {step.name: step for step in steps}

    @property
    def deployment(self) -> Deployment:
        return Deployment(self.file, self.others)

    def step(self, step: Step) -> None:
        self.told.append(step)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _may_delete(self, name: str, found: Sequence[Physical]) -> bool:
        self.asked.append((name, [one.name for one in found]))
        return self.is_to_go

    @property
    def _clock(self) -> Clock:
        return Clock(lambda: self.now, self._wait)

    def _wait(self, seconds: float) -> bool:
        self.now += seconds
        if self.now >= 0.5:
            for name in self.acting:
                self.node.renew(Instance(name, f"host-of-{name}", None, self.node.now().epoch), 1000.0)
        return self.is_asked_to_stop


def statuses(steps: dict[str, Step]) -> dict[str, str]:
    """Return what became of each step."""
    return {name: step.status.value for name, step in steps.items()}


@pytest.mark.parametrize("mode", StorageMode)
def test_from_every_mode(mode: StorageMode) -> None:
    """One call leads to `neo4j_only`, everybody acts by it, and it says after how long; Milvus is not even asked."""
    place = Place(mode)
    place.milvus.is_away = True
    place.register("shop-1")
    returned, steps = place.back()
    first = "already" if mode is ONLY else "done"
    assert statuses(steps) == {
        "mode": first, "instances": "done", "rollout": "done", "neo4j": "done", "canary": "done", "milvus": "skipped",
    }  # fmt: skip
    assert list(place.told) == [steps[name] for name in ("mode", "instances", "rollout", "neo4j", "canary", "milvus")]
    now = place.node.now()
    assert (now.mode, returned.before, returned.control, returned.items) == (ONLY, mode, now, 2)
    assert now.reason == ("incident 7" if mode is not ONLY else "")
    assert returned.reads_seconds == pytest.approx(0.0 if mode is ONLY else 0.5, abs=0.06)
    assert (place.milvus.opened, place.file.mode) == (0, ONLY)
    assert all(not step.by_hand for step in steps.values())


def test_twice_is_once() -> None:
    """The second call changes nothing and says so; the epoch stays."""
    place = Place()
    place.back()
    before = place.node.now()
    returned, steps = place.back()
    assert (statuses(steps)["mode"], statuses(steps)["rollout"]) == ("already", "already")
    assert place.node.now() == before
    assert returned.before is ONLY


def test_somebody_else_changes_the_mode_meanwhile() -> None:
    """It looks again and goes back from whatever the mode is now; two at once come to the same end."""
    place = Place(DUAL)
    changes = iter([SHADOW, HYBRID])

    def other() -> None:
        wanted = next(changes, None)
        if wanted:
            place.node.go(wanted)

    place.node.before_change = other
    returned, steps = place.back()
    assert (steps["mode"].status, place.node.now().mode) == (StepStatus.DONE, ONLY)
    assert returned.before is DUAL
    assert len(place.notes) == 2

    place = Place(HYBRID)
    place.node.before_change = lambda: place.node.go(ONLY) if place.node.now().mode is not ONLY else None
    _, steps = place.back()
    assert (steps["mode"].status, place.node.now().epoch) == (StepStatus.ALREADY, 4)


def test_somebody_who_never_stops_changing_the_mode() -> None:
    """After a few tries it says so; the rollout still protects, and nothing is deleted."""
    place = Place(HYBRID)
    place.node.before_change = lambda: place.node.go(SHADOW if place.node.now().mode is HYBRID else HYBRID)
    _, steps = place.back(deletes=True)
    assert statuses(steps) == {
        "mode": "failed", "instances": "skipped", "rollout": "done", "neo4j": "done", "canary": "done", "milvus": "skipped",
    }  # fmt: skip
    assert f"{TRIES} times" in steps["mode"].detail
    assert 'SET c.mode = "neo4j_only", c.epoch = coalesce(c.epoch, 0) + 1' in steps["mode"].by_hand[0]
    assert len(place.milvus.collections) == 2


def _neo4j_is_away(place: Place) -> None:
    place.neo4j.is_away = place.node.is_away = True


def _instance_hangs(place: Place) -> None:
    place.register("pod-7-4711-abcd", acts=False)


def _rollout_fails(place: Place) -> None:
    place.file.is_away = True


def _no_index(place: Place) -> None:
    place.neo4j.index = None


def _index_is_built(place: Place) -> None:
    place.neo4j.index = "POPULATING"


def _finds_nothing(place: Place) -> None:
    place.neo4j.finds = []


def _milvus_is_away(place: Place) -> None:
    place.milvus.is_away = True


@pytest.mark.parametrize(
    ("fault", "wrong", "by_hand"),
    [
        (_neo4j_is_away, ["mode", "neo4j"], 'cypher MERGE (c:SegueControl {collection: "films"})'),
        (_instance_hangs, ["instances"], "kubectl delete pod host-of-pod-7-4711-abcd   # a pod; elsewhere end process 4711"),
        (_rollout_fails, ["rollout"], "echo neo4j_only"),
        (_no_index, ["neo4j"], "cypher CREATE VECTOR INDEX i"),
        (_index_is_built, ["neo4j"], "cypher CREATE VECTOR INDEX i"),
        (_finds_nothing, ["canary"], "cypher SHOW VECTOR INDEXES"),
        (_milvus_is_away, ["milvus"], 'cypher MATCH (c:SegueControl {collection: "films"}) REMOVE c.copied, c.copied_at'),
    ],
)
def test_a_step_fails(fault: Callable[[Place], None], wrong: list[str], by_hand: str) -> None:
    """The other steps that protect are taken, the command for the rest is given, nothing is deleted, and later it goes on."""
    place = Place()
    place.register("shop-1")
    fault(place)
    returned, steps = place.back(deletes=True)
    assert [name for name, step in steps.items() if step.status is StepStatus.FAILED] == wrong
    assert steps[wrong[0]].by_hand[0].startswith(by_hand)
    assert len(place.milvus.collections) == 2
    assert (place.file.mode is ONLY) == ("rollout" not in wrong)
    assert (place.node.now().mode is ONLY) == ("mode" not in wrong)
    assert (returned.reads_seconds is None) == bool({"mode", "instances"} & set(wrong))

    place.neo4j.is_away = place.node.is_away = place.file.is_away = place.milvus.is_away = False
    place.neo4j.index, place.neo4j.finds = "ONLINE", None
    place.node.leave("pod-7-4711-abcd")
    _, steps = place.back(deletes=True)
    assert set(statuses(steps).values()) <= {"done", "already"}
    assert place.milvus.collections == []


def test_a_late_instance_is_named() -> None:
    """All but one act by it: it is said who does not, and users' time is not claimed."""
    place = Place()
    place.register("shop-1")
    place.register("stuck", acts=False)
    returned, steps = place.back()
    assert "1 of 2 do not act by it yet: stuck on host-of-stuck (epoch 3)" in steps["instances"].detail
    assert [one.name for one in returned.late] == ["stuck"]
    assert place.now == pytest.approx(10.0, abs=0.1)


def test_deleting_forgets_the_copy_first() -> None:
    """Asked with what would go, last; afterwards no later way forward takes the copy for complete. Twice does no harm."""
    place = Place()
    _, steps = place.back(deletes=True)
    assert place.asked == [("films", ["films_v1", "films_v2"])]
    assert (steps["milvus"].status, steps["milvus"].detail) == (StepStatus.DONE, "deleted: films_v1, films_v2")
    assert (place.milvus.collections, place.node.now().copied) == ([], None)
    _, steps = place.back(deletes=True)
    assert (steps["milvus"].status, len(place.asked)) == (StepStatus.ALREADY, 1)


def test_refused_at_the_question() -> None:
    """Whoever answers something else keeps Milvus, and the way back is complete all the same."""
    place = Place()
    place.is_to_go = False
    _, steps = place.back(deletes=True)
    assert (steps["milvus"].status, len(place.milvus.collections)) == (StepStatus.SKIPPED, 2)
    assert place.node.now().copied is not None


def test_nothing_is_deleted_under_a_mode_that_came_meanwhile() -> None:
    """Somebody went forward again while it was verified: the copy is theirs now."""
    place = Place()
    place.milvus.found = lambda: (place.node.go(DUAL), Milvus().found())[1]  # type: ignore[method-assign,func-returns-value]
    _, steps = place.back(deletes=True)
    assert steps["milvus"].status is StepStatus.FAILED
    assert "somebody else changed the mode meanwhile, to dual_write" in steps["milvus"].detail
    assert len(place.milvus.collections) == 2


@pytest.mark.parametrize("mode", StorageMode)
def test_shown_is_not_done(mode: StorageMode) -> None:
    """What it would do is said step by step, and nothing changes, be it away or not."""
    place = Place(mode)
    place.register("shop-1")
    before = place.node.now()
    steps = place.shown(deletes=True)
    assert steps["mode"].status is (StepStatus.ALREADY if mode is ONLY else StepStatus.PLANNED)
    assert steps["rollout"].detail == "hybrid → neo4j_only"
    assert "films_v1, films_v2 (alias films)" in steps["milvus"].detail
    assert steps["instances"].detail == "1 registered are waited for"
    _neo4j_is_away(place)
    _milvus_is_away(place)
    away = place.shown(deletes=True)
    assert {name for name, step in away.items() if step.status is StepStatus.FAILED} == {"mode", "neo4j", "milvus"}
    assert (place.node.now(), len(place.milvus.collections), place.file.mode) == (before, 2, HYBRID)


def test_the_deployment_keeps_the_highest_mode_of_those_that_share_it() -> None:
    """Another collection that stays in hybrid is not held down; when it cannot be asked, it is."""
    place = Place()
    other = Node(clock=lambda: 0.0)
    other.go(DUAL)
    other.go(SHADOW)
    place.others = [other]
    place.back()
    assert place.file.mode is SHADOW
    other.is_away = True
    place.back()
    assert place.file.mode is ONLY


def test_asked_to_stop_while_it_waits() -> None:
    """The mode is changed, nothing is deleted, and it says that the same command goes on."""
    place = Place()
    place.register("stuck", acts=False)
    place.is_asked_to_stop = True
    with pytest.raises(Interrupted, match="the mode is changed"):
        place.back(deletes=True)
    assert (place.node.now().mode, len(place.milvus.collections)) == (ONLY, 2)


def test_items_that_share_a_vector_are_no_alarm() -> None:
    """Others with the very same vector may stand before the canary's item; a far one alone means the index misses it."""
    place = Place()
    place.neo4j.graph.upsert({f"copy-{number}": ([1.0, 0.0],) for number in range(20)})
    assert place.back()[1]["canary"].status is StepStatus.DONE
    place.neo4j.graph.delete([f"copy-{number}" for number in range(20)])
    place.neo4j.finds = [hit for hit in place.neo4j.nearest(np.array([1, 0], np.float32), 2, (), 1.0) if hit.key == "b"]
    assert place.back()[1]["canary"].status is StepStatus.FAILED


def test_a_control_node_that_makes_no_sense_is_mended() -> None:
    """A mode that somebody wrote by hand cannot be read: it is set outright, said so, and the rest goes on."""
    place = Place()
    read = place.node.read
    is_mended: list[bool] = []

    def refuse() -> Control:
        if is_mended:
            return read()
        is_mended.append(True)
        message = "mode 'turbo' is none"
        raise FatalError(message)

    place.node.read = refuse  # type: ignore[method-assign]
    returned, steps = place.back()
    assert (steps["mode"].status, steps["mode"].detail) == (StepStatus.DONE, "mode 'turbo' is none: now neo4j_only, epoch 4")
    assert (returned.before, place.node.now().mode, place.file.mode) == (None, ONLY, ONLY)


def test_a_node_that_can_neither_be_read_nor_written_is_left_to_a_command() -> None:
    """Wrong credentials, say: the statement for the shell is given, and the rollout goes on."""
    place = Place()

    def refuse(**_: object) -> Control:
        message = "not allowed"
        raise FatalError(message)

    place.node.read = refuse  # type: ignore[method-assign]
    place.node.reset = refuse  # type: ignore[method-assign]
    _, steps = place.back()
    assert steps["mode"].by_hand[0].startswith("cypher MERGE (c:SegueControl")
    assert place.file.mode is ONLY
