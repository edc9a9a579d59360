"""The change of a storage mode: gates, compare-and-set, barrier. Begin reading at `change_mode`.

What may follow what, and behind which gates, is said in `migration`. Any number of operators may run this at once. Knows
ports only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from segue.errors import BarrierNotReached, ConfigError, FatalError, Interrupted, ModeRefused, RetryableError, SegueError
from segue.migration import (
    GateSeen,
    Standing,
    Terms,
    closed,
    gate_names,
    gates_before,
    highest,
    reachable,
)
from segue.model import Control, Instance, StorageMode
from segue.ports import Capture, ControlNode, Marks, Rollout, RolloutWatch

POLL_SECONDS = 0.25
"""Between two looks at who has acknowledged; an instance looks about once a second."""

NAMED_INSTANCES = 10
"""How many of those that hold a barrier up are named in an error."""


class Watch(Protocol):
    """Whoever watches a change; must not raise."""

    def waiting(self, late: Sequence[Instance], epoch: int) -> None:
        """These instances have not acknowledged the epoch yet; told whenever it is others."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """Gates that an operator lets pass all the same.

    Attributes:
        gates: Their names.
        reason: Why, in words; recorded in the control node. Also without gates, as why the mode is changed.

    Raises:
        ConfigError: There is no such gate, or no reason is given.
    """

    gates: tuple[str, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        """Check names and reason."""
        unknown = [name for name in self.gates if name not in gate_names()]
        if unknown:
            message = f"there is no gate {unknown[0]!r}"
            raise ConfigError(message, hint=f"Gates: {', '.join(gate_names())}")
        if self.gates and not self.reason.strip():
            message = "a gate is overridden only with a reason"
            raise ConfigError(message, hint="Say why, it is recorded: --reason TEXT")


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to.

    Attributes:
        before: The mode before.
        control: The control node after the barrier.
        overridden: The gates that were closed and let pass.
    """

    before: StorageMode
    control: Control
    overridden: Sequence[GateSeen] = ()


class Patience:
    """How long something may be waited for, and that waiting ends when somebody asks to stop.

    Args:
        seconds: How long in all, from now.
        wait: Waits so many seconds, or less; true when asked to stop.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, wait: Callable[[float], bool], clock: Callable[[], float]) -> None:
        self._until = clock() + seconds
        self._wait = wait
        self._clock = clock

    @property
    def left(self) -> float:
        """Seconds left; 0 when it has run out."""
        return max(0.0, self._until - self._clock())

    def pause(self) -> None:
        """Wait until the next look.

        Raises:
            Interrupted: Somebody asks to stop.
        """
        if self._wait(POLL_SECONDS):
            message = "interrupted before the barrier; the mode is changed"
            raise Interrupted(message, hint="The same command goes on waiting.")


def look(
    control_node: ControlNode,
    control: Control,
    marks: Marks,
    wanted: StorageMode,
    *,
    collection: str,
    terms: Terms,
) -> list[GateSeen]:
    """Return the gates before a mode as they are now, with the control node as it was read."""
    kept = replace(terms, times=control.times) if wanted.reads_milvus else terms
    return gates_before(wanted, Standing(collection, control, marks.backlog(), control_node.observed(), kept))


def examine(
    control_node: ControlNode,
    marks: Marks,
    wanted: StorageMode,
    *,
    collection: str,
    terms: Terms,
    overrides: Overrides,
) -> tuple[Control, list[GateSeen]]:
    """Return the control node, and the gates before a mode that are closed but overridden. Changes nothing.

    Raises:
        ModeRefused: The mode cannot be reached from the present one, or a gate is closed; every one that is, is listed.
    """
    control = control_node.read()
    if wanted is control.mode:
        return control, []
    if wanted not in reachable(control.mode):
        message = f"{wanted} of {collection!r} cannot be reached from {control.mode} (epoch {control.epoch})"
        raise ModeRefused(message, hint=f"From here: {', '.join(reachable(control.mode))}.")
    if wanted.rank < control.mode.rank:
        return control, []
    gates = look(
        control_node,
        control,
        marks,
        wanted,
        collection=collection,
        terms=terms,
    )
    shut = closed(gates, overrides.gates)
    if shut:
        listed = "; ".join(f"{gate.name}: {gate.evidence}" for gate in shut)
        message = f"{wanted} of {collection!r} is not open yet ({listed})"
        todo = [f"{gate.name}: {gate.command}" for gate in shut]
        raise ModeRefused(message, hint="\n".join([*todo, "Or, knowing better: --override GATE --reason TEXT"]))
    return control, [gate for gate in gates if not gate.holds]


def change_mode(
    control_node: ControlNode,
    marks: Marks,
    wanted: StorageMode,
    *,
    collection: str,
    terms: Terms,
    overrides: Overrides,
    patience: Patience,
    watch: Watch,
    capture: Capture | None = None,
) -> Changed:
    """Change a collection's mode and wait until everybody acts by it.

    1. May it be reached, and do its gates hold?
    2. Compare-and-set on the epoch: of changes at once one wins.
    3. The barrier: every registered instance acknowledges the epoch.
    4. Into a mode that marks, unless changes are captured already: the transactions open now end; then every change from here
       on leaves a mark, which is noted. Where a trigger captures, its proof is asked instead.

    Idempotent: asked for the mode that it has already, it completes what an earlier call left (3 and 4). `patience` is for 3
    and 4 together; the times of `terms` take effect as `ControlNode.change` says; `capture` is the trigger, None where none
    captures.

    Raises:
        ModeRefused: Nothing is changed; or somebody else changed the mode meanwhile, and it is as they said.
        BarrierNotReached: The mode is changed; it says who holds the barrier up.
        Interrupted: The mode is changed; whether the barrier is reached is not known.
        FatalError: The trigger marks nothing; the mode is changed.
    """
    control, overridden = examine(
        control_node,
        marks,
        wanted,
        collection=collection,
        terms=terms,
        overrides=overrides,
    )
    before = control.mode
    if wanted is not before:
        changed = control_node.change(
            control.epoch,
            wanted,
            times=terms.times,
            reason=_in_words(overridden, overrides.reason),
            overridden=[gate.name for gate in overridden],
        )
        if changed is None:
            raise _overtaken(collection, wanted, control_node.read())
        control = changed
    epoch = control.epoch
    _reach(control_node, epoch, patience, watch)
    if wanted.marks:
        if capture is not None:
            _prove(capture, collection, patience)
        elif control.capture is None:
            _outlast_transactions(control_node, patience, watch)
        now = control_node.captured(epoch)
    else:
        now = control_node.read()
    if now.epoch != epoch:
        raise _overtaken(collection, wanted, now)
    return Changed(before, now, overridden)


def roll_out(control_nodes: Sequence[ControlNode], rollout: Rollout, watch: RolloutWatch) -> StorageMode:
    """Carry the mode to where the application is deployed, after the control nodes have it; return what is deployed.

    Args:
        control_nodes: Of every collection that the deployed application serves.
        rollout: The place.
        watch: Told what happens.

    Raises:
        FatalError: It is not deployed; the control nodes stay as they are, and instances act by the lower of both modes.
        Interrupted: Somebody asks to stop.
    """
    wanted = highest(node.read().mode for node in control_nodes)
    try:
        rollout.apply(wanted, watch)
    except Interrupted:
        raise
    except SegueError as fault:
        message = f"the mode is changed, but {wanted} is not deployed: {fault.message}"
        hint = "\n".join(
            [*fault.hint.splitlines(), "The same command tries again. By hand:", *_indented(rollout.by_hand(wanted))]
        )
        raise FatalError(message, hint=hint) from fault
    return wanted


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _reach(control_node: ControlNode, epoch: int, patience: Patience, watch: Watch) -> None:
    """Wait until every registered instance has acknowledged the epoch, or a later one."""
    told: list[Instance] = []
    while late := _late(control_node, epoch, patience, watch):
        if late != told:
            watch.waiting(late, epoch)
            told = late
        if not patience.left:
            named = "; ".join(_described(instance) for instance in late[:NAMED_INSTANCES])
            more = f"; and {len(late) - NAMED_INSTANCES} more" if len(late) > NAMED_INSTANCES else ""
            message = f"the mode is changed, but the barrier of epoch {epoch} is not reached; it waits for {named}{more}"
            hint = "An instance with a long operation in hand, or one that hangs. The same command goes on waiting."
            raise BarrierNotReached(message, hint=hint)
        patience.pause()


def _late(control_node: ControlNode, epoch: int, patience: Patience, watch: Watch) -> list[Instance]:
    """Return those that have not acknowledged the epoch, the slowest first; a source that does not answer is asked again."""
    while True:
        try:
            late = [instance for instance in control_node.instances() if instance.epoch < epoch]
        except RetryableError as fault:
            if not patience.left:
                raise
            watch.note(f"{fault}; trying again")
            patience.pause()
        else:
            return sorted(late, key=lambda instance: instance.epoch)


def _outlast_transactions(control_node: ControlNode, patience: Patience, watch: Watch) -> None:
    """Wait until every transaction that is open now has ended: it may have looked at the mode before."""
    older = control_node.transactions()
    has_told = False
    while left := older & control_node.transactions():
        if not patience.left:
            message = (
                f"the mode is changed, but {len(left)} transactions begun before are still open: {', '.join(sorted(left)[:5])}"
            )
            raise BarrierNotReached(message, hint="SHOW TRANSACTIONS says whose they are. The same command goes on waiting.")
        if not has_told:
            watch.note(f"waiting for {len(left)} transactions begun before the barrier to end")
            has_told = True
        patience.pause()


def _prove(capture: Capture, collection: str, patience: Patience) -> None:
    if not capture.prove(patience.left):
        message = (
            f"the mode is changed, but the trigger of {collection!r} marked no canary, or older transactions are still open"
        )
        raise FatalError(message, hint="`segue capture status` says more; then the same command again.")


def _overtaken(collection: str, wanted: StorageMode, now: Control) -> ModeRefused:
    message = f"somebody else changed the mode of {collection!r} meanwhile: now {now.mode} at epoch {now.epoch}"
    return ModeRefused(message, hint=f"If it is still to be {wanted}, the same command again.")


def _in_words(overridden: Sequence[GateSeen], reason: str) -> str:
    passed = ", ".join(f"{gate.name} ({gate.evidence})" for gate in overridden)
    return f"{reason} [overridden: {passed}]" if passed else reason


def _described(instance: Instance) -> str:
    own = f", own mode {instance.own}" if instance.own else ""
    return f"{instance.name} on {instance.host} (epoch {instance.epoch}{own})"
