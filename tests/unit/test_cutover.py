"""A change of mode on a control node in memory, with instances that act as scripted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from segue.errors import BarrierNotReached, ConfigError, FatalError, Interrupted, ModeRefused, SegueError, StoreUnavailable
from segue.migration import GateSeen, Terms
from segue.model import (
    STATIC,
    Control,
    Depth,
    FenceTimes,
    Instance,
    KeyType,
    Metric,
    Observed,
    Preflighted,
    SourceSpec,
    StorageMode,
    Validated,
)
from segue.phases.cutover import Changed, Overrides, Patience, change_mode, roll_out
from segue.ports import RolloutWatch
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import MemoryGraph

ONLY, DUAL, SHADOW, HYBRID = StorageMode
SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.COSINE)


class Watched:
    """A `Watch` that remembers."""

    def __init__(self) -> None:
        self.late: list[list[str]] = []
        self.notes: list[str] = []

    def waiting(self, late: Sequence[Instance], epoch: int) -> None:
        self.late.append([instance.name for instance in late])

    def note(self, text: str) -> None:
        self.notes.append(text)


class Trigger:
    """A `Capture` that proves itself, or does not."""

    def __init__(self, *, works: bool) -> None:
        self.is_working = works
        self.asked: list[float] = []

    def prove(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self.is_working

    def install(self) -> str:
        raise NotImplementedError

    def token(self) -> str | None:
        raise NotImplementedError

    def works(self, seconds: float) -> bool:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError


class Place:
    """A control node, marks, and a clock that passes while somebody waits; `at` says what happens at which second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.node = MemoryControl(clock=lambda: self.now)
        self.node.preflighted(Preflighted(passed=True, warnings=0, seconds_ago=0.0))
        self.marks = MemoryGraph(SPEC, clock=lambda: self.now)
        self.watch = Watched()
        self.at: dict[float, Callable[[], object]] = {}
        self.is_asked_to_stop = False
        self.node.preflighted(Preflighted(passed=True, warnings=0, seconds_ago=0.0))

    def change(
        self,
        wanted: StorageMode,
        *,
        overrides: Overrides = Overrides(),  # noqa: B008  # frozen
        seconds: float = 10.0,
        capture: Trigger | None = None,
        times: FenceTimes = FenceTimes(),  # noqa: B008  # frozen
    ) -> Changed:
        return change_mode(
            self.node,
            self.marks,
            wanted,
            collection="films",
            terms=Terms(times),
            overrides=overrides,
            patience=Patience(seconds, self._wait, lambda: self.now),
            watch=self.watch,
            capture=capture,
        )

    def register(self, name: str, epoch: int, own: StorageMode | None = None, seconds: float = 1000.0) -> None:
        self.node.renew(Instance(name, f"host-of-{name}", own, epoch), seconds)

    def open_shadow(self) -> None:
        """Come to `dual_write` with a validated copy, so that the gates to the next mode are open."""
        control = self.change(DUAL).control
        assert control.capture is not None
        self.node.copy_ended(control.capture)
        self.validated()
        self.now += FenceTimes().window

    def validated(self) -> None:
        """Note a clean validation of the present epoch."""
        epoch = self.node.read().epoch
        self.node.validated(Validated(epoch, Depth.SAMPLE, clean=True, rate=1.0, digest="", sink_digest="", seconds_ago=0.0))

    def shadowed(self, compared: int = 200) -> None:
        """Have an instance that saw shadow reads go well in the present epoch, and has left."""
        epoch = self.node.read().epoch
        self.node.renew(Instance("seen", "host", None, epoch, epoch, Observed(compared, 0.9 * compared, compared, 0)), 1.0)
        self.node.leave("seen")

    def _wait(self, seconds: float) -> bool:
        self.now += seconds
        for moment in [moment for moment in sorted(self.at) if moment <= self.now]:
            self.at.pop(moment)()
        return self.is_asked_to_stop


def test_into_dual_write_everything_is_captured_after_the_barrier() -> None:
    """With nobody registered the barrier is there at once; the capture is noted, and the reason with it."""
    place = Place()
    times = FenceTimes(2.0, 0.5, 0.1)
    changed = place.change(DUAL, times=times, overrides=Overrides(reason="begin"))
    assert (changed.before, changed.control.mode, changed.control.epoch) == (ONLY, DUAL, 1)
    assert changed.control.capture is not None
    assert (changed.control.times, changed.control.reason) == (times, "begin")
    assert place.node.read() == changed.control


@pytest.mark.parametrize(("path", "wanted"), [([], SHADOW), ([], HYBRID), ([DUAL], HYBRID), ([DUAL, SHADOW, HYBRID], DUAL)])
def test_only_neighbours_are_reached(path: list[StorageMode], wanted: StorageMode) -> None:
    """Anything else is refused, override or not; the hint names what can be reached, and nothing is changed."""
    place = Place()
    for mode in path:
        place.node.change(place.node.read().epoch, mode, times=FenceTimes(), reason="")
    before = place.node.read()
    with pytest.raises(ModeRefused) as refusal:
        place.change(wanted, overrides=Overrides(("backfill", "drained", "visible"), "because"))
    assert f"{wanted} of 'films' cannot be reached from {before.mode}" in refusal.value.message
    assert "neo4j_only" in refusal.value.hint or before.mode is ONLY
    assert refusal.value.exit_code == 5
    assert place.node.read() == before


def test_every_closed_gate_is_listed_with_its_command() -> None:
    """One refusal says all that is missing, and nothing is changed."""
    place = Place()
    place.change(DUAL)
    place.marks.upsert({"a": ([1.0, 2.0],)})
    with pytest.raises(ModeRefused) as refusal:
        place.change(SHADOW)
    assert "backfill: no copy is complete" in refusal.value.message
    assert "drained: 1 keys are dirty" in refusal.value.message
    assert "visible: " in refusal.value.message
    assert "segue migrate-embeddings --collection films" in refusal.value.hint
    assert "segue relay --until-drained --collection films" in refusal.value.hint
    assert place.node.read().epoch == 1


def test_the_way_forward_and_back() -> None:
    """With a copy that is complete and visible, one mode after the other; then back at once, and the capture is over."""
    place = Place()
    place.open_shadow()
    capture = place.node.read().capture
    assert place.change(SHADOW).control.capture == capture
    place.shadowed(199)
    with pytest.raises(ModeRefused, match=r"shadow: 199 shadow reads were compared in epoch 2"):
        place.change(HYBRID)
    place.shadowed()
    assert place.change(HYBRID).control.capture == capture
    back = place.change(ONLY)
    assert (back.before, back.control.mode, back.control.capture) == (HYBRID, ONLY, None)
    assert place.change(DUAL).control.capture not in {None, capture}
    with pytest.raises(ModeRefused, match="earlier capture"):
        place.change(SHADOW)


def test_going_back_asks_nothing_of_the_marks() -> None:
    """A rollback needs the control node and nothing else."""
    place = Place()
    place.open_shadow()
    place.change(SHADOW)
    place.marks.backlog = None  # type: ignore[method-assign,assignment]
    assert place.change(DUAL).control.mode is DUAL


def test_an_overridden_gate_passes_and_is_recorded() -> None:
    """By name and with its reason; gates that held anyway are not counted as overridden."""
    place = Place()
    place.open_shadow()
    place.marks.upsert({"a": ([1.0, 2.0],)})
    place.now += 60.0
    changed = place.change(SHADOW, overrides=Overrides(("drained", "visible"), "never quiet"))
    assert [gate.name for gate in changed.overridden] == ["drained"]
    assert isinstance(changed.overridden[0], GateSeen)
    assert changed.control.reason.startswith("never quiet [overridden: drained (1 keys are dirty")


@pytest.mark.parametrize(("gates", "reason", "words"), [(("nope",), "r", "'nope'"), (("drained",), " ", "reason")])
def test_an_override_needs_a_gate_and_a_reason(gates: tuple[str, ...], reason: str, words: str) -> None:
    """Anything else is a fault of the call."""
    with pytest.raises(ConfigError, match=words):
        Overrides(gates, reason)


def test_who_comes_second_is_told() -> None:
    """Between the look and the change somebody else changed it: refused, with what it is now."""
    place = Place()

    def meanwhile(step: str) -> None:
        if step == "change the mode":
            place.node._pause = lambda _: None
            place.node.change(0, DUAL, times=FenceTimes(), reason="other")

    place.node._pause = meanwhile
    with pytest.raises(ModeRefused, match=r"somebody else .* now dual_write at epoch 1"):
        place.change(DUAL)
    assert place.node.read().reason == "other"


def test_the_barrier_waits_for_every_instance() -> None:
    """It is reached with the last acknowledgement, and not before; the watch hears who holds it up."""
    place = Place()
    place.register("a", 0)
    place.register("b", 0)
    place.at = {2.0: lambda: place.register("a", 1), 6.0: lambda: place.register("b", 1)}
    control = place.change(DUAL).control
    assert place.now == 6.0
    assert place.watch.late == [["a", "b"], ["b"]]
    assert control.capture is not None


def test_an_instance_that_lapsed_or_left_is_waited_for_no_longer() -> None:
    """One died without a word, one left in order: the barrier is reached without them."""
    place = Place()
    place.register("dead", 0, seconds=3.0)
    place.register("leaving", 0)
    place.at = {1.0: lambda: place.node.leave("leaving")}
    place.change(DUAL)
    assert place.now == 3.0


def test_a_barrier_not_reached_names_who_holds_it_up_and_is_completed_by_the_same_command() -> None:
    """Exit 1, the mode stays changed, nothing counts as captured; the next run goes on waiting, without another epoch."""
    place = Place()
    place.register("slow", 0, own=HYBRID)
    with pytest.raises(BarrierNotReached) as fault:
        place.change(DUAL, seconds=2.0)
    assert "slow on host-of-slow (epoch 0, own mode hybrid)" in fault.value.message
    assert "same command goes on waiting" in fault.value.hint
    assert fault.value.exit_code == 1
    left = place.node.read()
    assert (left.mode, left.epoch, left.capture) == (DUAL, 1, None)

    place.register("slow", 1)
    changed = place.change(DUAL, seconds=2.0)
    assert (changed.before, changed.control.epoch) == (DUAL, 1)
    assert changed.control.capture is not None
    assert place.change(DUAL).control == changed.control


def test_captured_only_after_older_transactions() -> None:
    """A transaction that looked at the mode before may commit without a mark; only those open at the barrier count."""
    place = Place()
    place.node.open_transactions = {"old"}
    place.at = {
        1.0: lambda: place.node.open_transactions.add("new"),
        4.0: lambda: place.node.open_transactions.discard("old"),
    }
    place.change(DUAL)
    assert place.now == 4.0
    assert len(place.watch.notes) == 1


def test_a_transaction_that_does_not_end_keeps_the_capture_open() -> None:
    """Like an instance that does not acknowledge: exit 1, and the same command goes on."""
    place = Place()
    place.node.open_transactions = {"old"}
    with pytest.raises(BarrierNotReached, match="old"):
        place.change(DUAL, seconds=1.0)
    assert place.node.read().capture is None


def test_once_captured_old_transactions_are_not_waited_for() -> None:
    """They all mark: neither going forward nor stepping back has to wait."""
    place = Place()
    place.open_shadow()
    place.node.open_transactions = {"report"}
    place.change(SHADOW)
    place.change(DUAL)
    place.change(ONLY)
    assert place.node.read().mode is ONLY


def test_a_trigger_proves_itself() -> None:
    """Where a trigger captures, its proof is asked in the time that is left; its token names the capture."""
    place = Place()
    token = place.node.triggered(is_installed=True)
    works = Trigger(works=True)
    assert place.change(DUAL, capture=works).control.capture == token
    assert works.asked == [10.0]
    with pytest.raises(FatalError, match="marked no canary"):
        place.change(DUAL, capture=Trigger(works=False))
    place.change(ONLY, capture=Trigger(works=False))


def test_a_change_undone_during_the_barrier_is_told() -> None:
    """Whoever rolls back while another waits wins, and the other learns what the mode is."""
    place = Place()
    place.register("a", 0)

    def rolled_back() -> None:
        place.node.change(1, ONLY, times=FenceTimes(), reason="incident")
        place.register("a", 2)

    place.at = {1.0: rolled_back}
    with pytest.raises(ModeRefused, match="now neo4j_only at epoch 2"):
        place.change(DUAL)
    assert place.node.read().capture is None


def test_asked_to_stop_it_says_that_the_mode_is_changed() -> None:
    """Interrupted while waiting: exit 130."""
    place = Place()
    place.register("a", 0)
    place.is_asked_to_stop = True
    with pytest.raises(Interrupted, match="the mode is changed"):
        place.change(DUAL)


def test_a_source_that_is_away_for_a_moment_is_asked_again() -> None:
    """While waiting for instances an outage is told and outlasted; when it lasts, it is the error."""
    place = Place()
    asked = place.node.instances
    answers = [0, 1]

    def flaky() -> list[Instance]:
        if answers and answers.pop(0) == 0:
            message = "away"
            raise StoreUnavailable(message)
        return asked()

    place.node.instances = flaky  # type: ignore[method-assign]
    place.change(DUAL)
    assert place.watch.notes == ["away; trying again"]
    answers[:] = [0] * 100
    with pytest.raises(StoreUnavailable):
        place.change(DUAL, seconds=1.0)


def test_kept_times_decide_when_a_copy_is_visible() -> None:
    """On the way to a mode that reads Milvus the control node's times stay, whatever is configured now."""
    place = Place()
    place.change(DUAL, times=FenceTimes(visible=4.0))
    place.node.copy_ended(STATIC)
    place.validated()
    place.now += FenceTimes(visible=4.0).window
    place.change(SHADOW, times=FenceTimes(visible=900.0))
    place.shadowed()
    assert place.change(HYBRID, times=FenceTimes(visible=900.0)).control.times == FenceTimes(visible=4.0)
    assert isinstance(place.node.read(), Control)


class Deployed:
    """A `Rollout` into a variable, or one that fails."""

    def __init__(self, fault: SegueError | None = None) -> None:
        self.mode: StorageMode | None = None
        self.fault = fault

    def plan(self, mode: StorageMode) -> list[str]:
        raise NotImplementedError

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        if self.fault:
            raise self.fault
        self.mode = mode
        return True

    def undo(self, watch: RolloutWatch) -> None:
        raise NotImplementedError

    def by_hand(self, mode: StorageMode) -> list[str]:
        return [f"echo {mode}"]


def test_the_deployment_gets_the_highest_mode_of_all_collections() -> None:
    """One application serves them all: none is held down by another."""
    place, other = Place(), Place()
    place.change(DUAL)
    rollout = Deployed()
    assert roll_out([other.node, place.node], rollout, place.watch) is DUAL
    assert rollout.mode is DUAL


@pytest.mark.parametrize("fault", [StoreUnavailable("no answer"), FatalError("not allowed", hint="ask")])
def test_a_deployment_that_fails_leaves_the_control_node(fault: SegueError) -> None:
    """It says so with the command for the rest; the control node stays as it is. A request to stop passes through."""
    place = Place()
    before = place.change(DUAL).control
    with pytest.raises(FatalError, match="the mode is changed, but dual_write is not deployed: no") as failure:
        roll_out([place.node], Deployed(fault), place.watch)
    assert failure.value.hint.endswith("The same command tries again. By hand:\n  echo dual_write")
    assert failure.value.hint.startswith(fault.hint)
    assert place.node.read() == before
    with pytest.raises(Interrupted):
        roll_out([place.node], Deployed(Interrupted("stop")), place.watch)
