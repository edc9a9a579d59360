"""What is of no further use after a migration, or after a way back. Begin reading at `clean_up`.

Takes nothing away that a mode still needs: in `hybrid` marks and control node are what keeps both sides equal, so only what is
old in Milvus may go, and Neo4j's vector index where that is asked for. Knows ports only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from segue.errors import ModeRefused
from segue.model import Control, Instance, StorageMode
from segue.ports import Capture, ControlNode, Marks, Physicals, Readiness, Traces
from segue.steps import Outcome, Step, Steps, StepStatus, StepWatch

KINDS = ("marks", "leases", "instances", "control")
"""What the protocol keeps in Neo4j, in the order in which it goes: the control node last, under whose lock the others do."""

NAMED = 10
"""How many instances a refusal names."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one collection's clearing needs.

    Attributes:
        collection: Its name.
        node: The control node.
        marks: For the backlog.
        traces: What the protocol keeps in Neo4j.
        capture: The trigger; None where none is noted.
        readiness: Neo4j's vector index.
        physicals: Opens the collections in Milvus.
    """

    collection: str
    node: ControlNode
    marks: Marks
    traces: Traces
    capture: Capture | None
    readiness: Readiness
    physicals: Callable[[], AbstractContextManager[Physicals]]


def clean_up(
    rooms: Sequence[Room], now: Callable[[], float], watch: StepWatch, *, drops_index: bool, is_confirmed: bool
) -> list[Step]:
    """Take away what is of no further use, or say what would go.

    1. May it be cleared, for every collection? Before that nothing is changed.
    2. In `neo4j_only`: the trigger, marks, leases, instances, the control node.
    3. Collections in Milvus that Segue made and readers do not open any more.
    4. In `hybrid`, where it is asked for: Neo4j's vector index, last.

    Idempotent.

    Args:
        rooms: The collections.
        now: A monotonic clock, in seconds.
        watch: Told every step.
        drops_index: Whether Neo4j's vector index is to go.
        is_confirmed: Whether to do it; otherwise only to say it.

    Raises:
        ModeRefused: Something of it is in use; nothing is changed.
    """
    controls = [_examined(room, drops_index=drops_index) for room in rooms]
    steps: list[Step] = []
    for room, control in zip(rooms, controls, strict=True):
        taken = Steps(room.collection, now, watch)
        _clear(room, control, taken, drops_index=drops_index, is_confirmed=is_confirmed)
        steps += taken.taken
    return steps


def _examined(room: Room, *, drops_index: bool) -> Control:
    """Return the control node of a collection that may be cleared."""
    control, instances = room.node.read(), room.node.instances()
    name = room.collection
    if control.mode not in {StorageMode.NEO4J_ONLY, StorageMode.HYBRID}:
        message = f"{name!r} is in {control.mode}: its migration is under way, and everything there is in use"
        raise ModeRefused(message, hint="Clear up in hybrid, when it has arrived, or in neo4j_only, when it is taken back.")
    late = [one for one in instances if one.epoch < control.epoch]
    if late:
        message = f"{len(late):,} instances of {name!r} do not act by epoch {control.epoch} yet: {_named(late)}"
        raise ModeRefused(message, hint=f"segue mode set {control.mode} --collection {name} waits for them.")
    if control.mode is StorageMode.NEO4J_ONLY:
        marking = [one for one in instances if one.own is not None and one.own.marks]
        if marking:
            message = (
                f"{len(marking):,} instances of {name!r} have a mode of their own in which they leave marks: {_named(marking)}"
            )
            raise ModeRefused(message, hint="Deploy neo4j_only first (STORAGE_MODE, STORAGE_MODE_FILE).")
        if drops_index:
            message = f"{name!r} is in neo4j_only: its vector index in Neo4j answers every search"
            raise ModeRefused(message, hint="It may go in hybrid only.")
    elif drops_index:
        left = room.marks.backlog()
        if left.dirty or left.tainted:
            message = f"{left.dirty:,} keys of {name!r} are dirty, {left.tainted:,} tainted: Milvus is not equal yet"
            raise ModeRefused(message, hint=f"segue relay --until-drained --collection {name}")
    return control


def _clear(room: Room, control: Control, steps: Steps, *, drops_index: bool, is_confirmed: bool) -> None:
    if control.mode is StorageMode.NEO4J_ONLY:
        steps.take("trigger", lambda: _trigger(room.capture, is_confirmed=is_confirmed))
        for kind in KINDS:
            if not steps.take(kind, lambda kind=kind: _traces(room, kind, control.epoch, is_confirmed=is_confirmed)):  # type: ignore[misc]
                break
    else:
        steps.take(
            "protocol", lambda: (StepStatus.SKIPPED, f"marks, trigger and control node are kept: {control.mode} needs them")
        )
    steps.take("milvus", lambda: _old_collections(room, is_confirmed=is_confirmed))
    if drops_index:
        steps.take("index", lambda: _index(room, control, is_confirmed=is_confirmed))


def _trigger(capture: Capture | None, *, is_confirmed: bool) -> Outcome:
    if capture is None:
        return StepStatus.ALREADY, "there is none"
    if not is_confirmed:
        return StepStatus.PLANNED, "is taken out"
    capture.remove()
    return StepStatus.DONE, "taken out"


def _traces(room: Room, kind: str, epoch: int, *, is_confirmed: bool) -> Outcome:
    found = room.traces.found()[kind]
    if not found:
        return StepStatus.ALREADY, "there are none"
    if not is_confirmed:
        return StepStatus.PLANNED, f"{found:,} nodes are removed"
    return StepStatus.DONE, f"{room.traces.remove(kind, epoch):,} nodes removed"


def _old_collections(room: Room, *, is_confirmed: bool) -> Outcome:
    with room.physicals() as physicals:
        found = physicals.found()
        old = [one for one in found if not one.is_current]
        kept = f"; {', '.join(one.name for one in found if one.is_current)} is kept" if len(old) < len(found) else ""
        if not old:
            return StepStatus.ALREADY, f"there are no old collections{kept}"
        named = ", ".join(one.name for one in old)
        if not is_confirmed:
            return StepStatus.PLANNED, f"deletes {named}{kept}"
        for one in old:
            physicals.drop(one)
    return StepStatus.DONE, f"deleted {named}{kept}"


def _index(room: Room, control: Control, *, is_confirmed: bool) -> Outcome:
    statement = room.readiness.statement()
    if room.readiness.look().state is None:
        return StepStatus.ALREADY, f"it is gone; a way back needs it: {statement}"
    if not is_confirmed:
        return StepStatus.PLANNED, f"is dropped; with Milvus away searches fail then, and a way back first needs: {statement}"
    now = room.node.read()
    if (now.mode, now.epoch) != (control.mode, control.epoch):
        return StepStatus.FAILED, f"kept: somebody else changed the mode meanwhile, to {now.mode} at epoch {now.epoch}"
    room.traces.drop_index()
    return StepStatus.DONE, f"dropped; with Milvus away searches fail now, and a way back first needs: {statement}"


def _named(instances: Sequence[Instance]) -> str:
    own = [f"{one.name} on {one.host}{f' (own mode {one.own})' if one.own else ''}" for one in instances[:NAMED]]
    more = f"; and {len(instances) - NAMED} more" if len(instances) > NAMED else ""
    return f"{'; '.join(own)}{more}"
