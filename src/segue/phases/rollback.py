"""The way back: users on Neo4j again, from any mode and any state. Begin reading at `roll_back`.

Neo4j is complete in every mode, so nothing is copied. Every step looks at how things are, not at what an earlier run did, so
that running it again, or twice at once, does no harm; and whatever step fails, the others that protect users go on. Knows
ports only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from segue.errors import FatalError, Interrupted, RetryableError, SegueError
from segue.migration import highest
from segue.model import Control, FenceTimes, Instance, StorageMode
from segue.ports import ByHand, ControlNode, Nearest, Physical, Physicals, Readiness, Rollout
from segue.steps import Outcome, Step, Steps, StepStatus, StepWatch, failed

TRIES = 5
"""How often the mode is changed anew when somebody else changes it meanwhile."""

POLL_SECONDS = 0.05
"""Between two looks at who has acknowledged; an instance looks twice a second."""

CANARY_HITS = 10
CANARY_SECONDS = 10.0
CANARY_SCORE = 0.99
"""What an item's own vector must score; exactly 1, but for what an index rounds."""

NAMED = 10
"""How many instances a step names."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one collection's way back needs; nothing in it has been connected yet.

    Attributes:
        collection: Its name.
        node: The control node.
        readiness: Whether Neo4j can answer.
        nearest: Neo4j's searches.
        physicals: Opens the collections in Milvus; called only when they are to go.
        times: The read fence's, as configured.
    """

    collection: str
    node: ControlNode
    readiness: Readiness
    nearest: Nearest
    physicals: Callable[[], AbstractContextManager[Physicals]]
    times: FenceTimes


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where instances have a mode of their own.

    Attributes:
        rollout: The place where it is written.
        others: Control nodes of the collections that are not taken back but share the deployment, whose mode must not
            hold them down.
    """

    rollout: Rollout
    others: Sequence[ControlNode]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of a way back.

    Attributes:
        reason: Why; recorded beside the mode.
        may_delete: Asked last for each collection, with what would go, whether it may; None keeps Milvus without looking.
        wait_seconds: How long instances may take to act by the mode.
    """

    reason: str
    may_delete: Callable[[str, Sequence[Physical]], bool] | None
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, and whether somebody asks to stop.

    Attributes:
        now: A monotonic clock, in seconds.
        wait: Waits so many seconds, or less; true when asked to stop.
    """

    now: Callable[[], float]
    wait: Callable[[float], bool]


@dataclass(frozen=True, slots=True)
class Returned:
    """How one collection's way back came out.

    Attributes:
        collection: Its name.
        before: The mode before; None when it is not known.
        control: The control node now; None when it is not known.
        items: Nodes under the label; None when they could not be counted.
        late: Instances that do not act by the new mode yet.
        reads_seconds: After how long no search was Milvus's any more; None when that is not known.
    """

    collection: str
    before: StorageMode | None
    control: Control | None
    items: int | None
    late: Sequence[Instance]
    reads_seconds: float | None


def roll_back(
    rooms: Sequence[Room], deployment: Deployment | None, wish: Wish, by_hand: ByHand, clock: Clock, watch: StepWatch
) -> tuple[list[Returned], list[Step]]:
    """Take users back to Neo4j.

    1. mode: every collection's to `neo4j_only`, by compare-and-set, again when somebody else changes it meanwhile; outright
       when the control node makes no sense. From here on no new search is Milvus's.
    2. instances: every registered one acknowledges the new epoch.
    3. rollout: the mode to where the application is deployed.
    4. neo4j: the vector index is online.
    5. canary: a search for an item's own vector finds it.
    6. milvus: kept, or its collections are deleted, and only when all of that holds for the collection.

    Idempotent. Steps fail one by one, with what is left to do by hand; nothing is raised for that.

    Args:
        rooms: The collections.
        deployment: None where instances have no mode of their own.
        wish: What the operator wants.
        by_hand: Commands for what is left to do.
        clock: Time, and whether somebody asks to stop.
        watch: Told every step.

    Raises:
        Interrupted: Somebody asks to stop; the same command goes on.
    """
    began = clock.now()
    ways = [_Way(room, by_hand, clock, watch) for room in rooms]
    shared = Steps(None, clock.now, watch)
    for way in ways:
        way.change_mode(wish.reason)
    until = clock.now() + wish.wait_seconds
    for way in ways:
        way.await_instances(until, began)
    if deployment is not None:
        wanted = _deployed(deployment)
        rollout = deployment.rollout
        shared.take("rollout", lambda: _roll_out(rollout, wanted, watch), lambda: rollout.by_hand(wanted))
    for way in ways:
        way.verify()
    is_rolled_out = not failed(shared.taken)
    for way in ways:
        way.clear_milvus(wish.may_delete, is_rolled_out=is_rolled_out)
    return [way.returned() for way in ways], [*(step for way in ways for step in way.steps.taken), *shared.taken]


def preview(
    rooms: Sequence[Room], deployment: Deployment | None, by_hand: ByHand, clock: Clock, watch: StepWatch, *, deletes: bool
) -> tuple[list[Returned], list[Step]]:
    """Say what `roll_back` would do now; changes nothing."""
    ways = [_Way(room, by_hand, clock, watch) for room in rooms]
    shared = Steps(None, clock.now, watch)
    for way in ways:
        way.plan(deletes=deletes)
    if deployment is not None:
        wanted = _deployed(deployment)
        rollout = deployment.rollout
        shared.take("rollout", lambda: (StepStatus.PLANNED, "; ".join(rollout.plan(wanted))), lambda: rollout.by_hand(wanted))
    return [way.returned() for way in ways], [*(step for way in ways for step in way.steps.taken), *shared.taken]


class _Way:
    """One collection on its way back."""

    def __init__(self, room: Room, by_hand: ByHand, clock: Clock, watch: StepWatch) -> None:
        self.steps = Steps(room.collection, clock.now, watch)
        self._room = room
        self._by_hand = by_hand
        self._clock = clock
        self._watch = watch
        self._before: StorageMode | None = None
        self._control: Control | None = None
        self._items: int | None = None
        self._late: list[Instance] = []
        self._reads_seconds: float | None = None
        self._holds = True

    def change_mode(self, reason: str) -> None:
        """Step 1."""
        self._take("mode", lambda: self._to_neo4j(reason), self._mode_by_hand)

    def await_instances(self, until: float, began: float) -> None:
        """Step 2; without a mode there is nothing to acknowledge."""
        if self._control is None:
            self._skip("instances", "not waited for: the mode is not changed")
            return
        epoch = self._control.epoch
        if self._take("instances", lambda: self._acknowledged(epoch, until), self._instances_by_hand):
            self._reads_seconds = self._clock.now() - began

    def verify(self) -> None:
        """Steps 4 and 5; they do not need the ones before."""
        if self._take("neo4j", self._index_serves, self._index_by_hand):
            self._take("canary", self._finds_itself, lambda: [self._by_hand.cypher(self._canary_by_hand())])
        else:
            self._skip("canary", "not asked: Neo4j's vector index does not serve")

    def clear_milvus(self, may_delete: Callable[[str, Sequence[Physical]], bool] | None, *, is_rolled_out: bool) -> None:
        """Step 6."""
        if may_delete is None:
            self._skip("milvus", "kept: no collection is touched", matters=False)
        elif not (self._holds and is_rolled_out):
            self._skip("milvus", "kept: a step before it failed, and nothing is deleted then")
        else:
            found: list[Physical] = []
            self._take("milvus", lambda: self._delete(may_delete, found), lambda: self._milvus_by_hand(found))

    def plan(self, *, deletes: bool) -> None:
        """Say what the steps would do; looking may fail, and says so."""
        if self._take("mode", self._mode_planned, self._mode_by_hand):
            self._take("instances", self._instances_planned)
        else:
            self._skip("instances", "not looked at: Neo4j does not say")
        self._take("neo4j", self._index_planned)
        self.steps.take("canary", lambda: (StepStatus.PLANNED, "a search for an item's own vector is to find it"))
        if deletes:
            self._take("milvus", self._delete_planned)
        else:
            self.steps.take("milvus", lambda: (StepStatus.PLANNED, "kept: no collection is touched"))

    def returned(self) -> Returned:
        """Return how it came out."""
        return Returned(self._room.collection, self._before, self._control, self._items, tuple(self._late), self._reads_seconds)

    def _take(self, name: str, work: Callable[[], Outcome], by_hand: Callable[[], Sequence[str]] = tuple) -> bool:
        went = self.steps.take(name, work, by_hand)
        self._holds = self._holds and went
        return went

    def _skip(self, name: str, why: str, *, matters: bool = True) -> None:
        self._holds = self._holds and not matters
        self.steps.take(name, lambda: (StepStatus.SKIPPED, why))

    # --- mode

    def _to_neo4j(self, reason: str) -> Outcome:
        node, tried = self._room.node, 0
        while True:
            try:
                now = node.read()
            except FatalError as fault:
                # Somebody wrote it by hand. Whatever else keeps it from being read keeps it from being written too.
                self._control = node.reset(times=self._room.times, reason=reason)
                return StepStatus.DONE, f"{fault.message}: now {self._control.mode}, epoch {self._control.epoch}"
            self._before = self._before or now.mode
            if now.mode is StorageMode.NEO4J_ONLY:
                self._control = now
                return StepStatus.ALREADY, f"{now.mode} at epoch {now.epoch}"
            changed = node.change(now.epoch, StorageMode.NEO4J_ONLY, times=self._room.times, reason=reason)
            if changed is not None:
                self._control = changed
                return StepStatus.DONE, f"{now.mode} → {changed.mode}, epoch {changed.epoch}"
            tried += 1
            if tried == TRIES:
                return StepStatus.FAILED, f"somebody else changed the mode {tried} times meanwhile; it is not neo4j_only"
            self._watch.note(f"somebody else changed the mode of {self._room.collection!r} meanwhile; looking again")

    def _mode_planned(self) -> Outcome:
        now = self._room.node.read()
        self._before, self._control = now.mode, now
        if now.mode is StorageMode.NEO4J_ONLY:
            return StepStatus.ALREADY, f"{now.mode} at epoch {now.epoch}"
        return StepStatus.PLANNED, f"{now.mode} → neo4j_only, epoch {now.epoch + 1}"

    def _mode_by_hand(self) -> list[str]:
        # The whole of what `ControlNode.change` does on the way to neo4j_only: it must not leave a capture that is over.
        statement = (
            f'MERGE (c:SegueControl {{collection: "{self._room.collection}"}}) '
            'SET c.mode = "neo4j_only", c.epoch = coalesce(c.epoch, 0) + 1, c.changed_at = timestamp(), '
            'c.reason = "rolled back by hand", c.library_token = null, '
            'c.copied = CASE WHEN c.capture_token IS NOT NULL OR c.copied <> "static" THEN c.copied END'
        )
        return [self._by_hand.cypher(statement)]

    # --- instances

    def _acknowledged(self, epoch: int, until: float) -> Outcome:
        while True:
            instances = self._instances(until)
            self._late = sorted((one for one in instances if one.epoch < epoch), key=lambda one: one.epoch)
            if not self._late:
                return StepStatus.DONE, f"{len(instances):,} registered, all in epoch {epoch}"
            if self._clock.now() >= until:
                named = "; ".join(f"{one.name} on {one.host} (epoch {one.epoch})" for one in self._late[:NAMED])
                more = f"; and {len(self._late) - NAMED} more" if len(self._late) > NAMED else ""
                return StepStatus.FAILED, f"{len(self._late):,} of {len(instances):,} do not act by it yet: {named}{more}"
            self._pause()

    def _instances(self, until: float) -> list[Instance]:
        """Return those registered; a source that does not answer is asked again while there is time."""
        while True:
            try:
                return self._room.node.instances()
            except RetryableError as fault:
                if self._clock.now() >= until:
                    raise
                self._watch.note(f"{fault}; trying again")
                self._pause()

    def _pause(self) -> None:
        if self._clock.wait(POLL_SECONDS):
            message = "interrupted; the mode is changed, not everything is verified"
            raise Interrupted(message, hint="The same command goes on.")

    def _instances_planned(self) -> Outcome:
        instances = self._room.node.instances()
        return StepStatus.PLANNED, f"{len(instances):,} registered are waited for"

    def _instances_by_hand(self) -> list[str]:
        return [
            f"kubectl delete pod {one.host}   # a pod; elsewhere end process {_process(one)} on {one.host}"
            for one in self._late[:NAMED]
        ]

    # --- neo4j

    def _index_serves(self) -> Outcome:
        found = self._room.readiness.look()
        self._items = found.items
        if found.state is None:
            return StepStatus.FAILED, f"there is no vector index; {found.items:,} nodes under the label"
        words = f"vector index {found.state}, {found.percent:g} % built; {found.items:,} nodes under the label"
        return (StepStatus.DONE if found.serves else StepStatus.FAILED), words

    def _index_planned(self) -> Outcome:
        found = self._room.readiness.look()
        self._items = found.items
        if not found.serves:
            return StepStatus.FAILED, f"the vector index is {found.state or 'not there'}: Neo4j could not answer searches now"
        return StepStatus.PLANNED, f"vector index ONLINE; {found.items:,} nodes under the label"

    def _index_by_hand(self) -> list[str]:
        try:
            statement = self._room.readiness.statement()
        except SegueError:
            return [self._by_hand.cypher("SHOW VECTOR INDEXES")]
        return [self._by_hand.cypher(statement), self._by_hand.cypher("SHOW VECTOR INDEXES")]

    def _finds_itself(self) -> Outcome:
        sample = self._room.readiness.sample()
        if sample is None:
            return StepStatus.DONE, "no item to search for"
        key, vector = sample
        hits = self._room.nearest.nearest(vector, CANARY_HITS, (), CANARY_SECONDS)
        if not hits:
            return StepStatus.FAILED, f"a search for the vector of {key!r} found nothing"
        # Many items may share a vector, so that others stand before it.
        if key not in {hit.key for hit in hits} and hits[0].score < CANARY_SCORE:
            return StepStatus.FAILED, f"a search for the vector of {key!r} did not find it; the best of {len(hits)} is another"
        return StepStatus.DONE, f"a search for the vector of {key!r} answered by Neo4j: {len(hits)} hits"

    def _canary_by_hand(self) -> str:
        return "SHOW VECTOR INDEXES YIELD name, state, populationPercent"

    # --- milvus

    def _delete(self, may_delete: Callable[[str, Sequence[Physical]], bool], found: list[Physical]) -> Outcome:
        with self._room.physicals() as physicals:
            found += physicals.found()
            if not found:
                return StepStatus.ALREADY, "there is no collection"
            named = ", ".join(one.name for one in found)
            if not may_delete(self._room.collection, found):
                return StepStatus.SKIPPED, f"kept: {named}"
            now = self._room.node.read()
            if self._control is None or (now.mode, now.epoch) != (self._control.mode, self._control.epoch):
                return StepStatus.FAILED, f"kept: somebody else changed the mode meanwhile, to {now.mode} at epoch {now.epoch}"
            # First, so that no later way forward takes a copy for complete that is no more.
            self._room.node.uncopied()
            for one in found:
                physicals.drop(one)
        return StepStatus.DONE, f"deleted: {named}"

    def _delete_planned(self) -> Outcome:
        with self._room.physicals() as physicals:
            found = physicals.found()
        if not found:
            return StepStatus.ALREADY, "there is no collection"
        named = ", ".join(f"{one.name} (alias {', '.join(one.aliases)})" if one.aliases else one.name for one in found)
        return StepStatus.PLANNED, f"deletes {named}, when every step before it has succeeded"

    def _milvus_by_hand(self, found: Sequence[Physical]) -> list[str]:
        forget = f'MATCH (c:SegueControl {{collection: "{self._room.collection}"}}) REMOVE c.copied, c.copied_at'
        names = [one.name for one in found] or [f"{self._room.collection}_v1"]
        return [self._by_hand.cypher(forget), self._by_hand.drop(names, self._room.collection)]


def _deployed(deployment: Deployment) -> StorageMode:
    """Return the mode that the deployment is to have; when the others cannot be asked, the one that protects."""
    try:
        return highest(node.read().mode for node in deployment.others)
    except SegueError:
        return StorageMode.NEO4J_ONLY


def _roll_out(rollout: Rollout, mode: StorageMode, watch: StepWatch) -> Outcome:
    if rollout.apply(mode, watch):
        return StepStatus.DONE, f"{mode} is deployed"
    return StepStatus.ALREADY, f"{mode} was deployed already"


def _process(instance: Instance) -> str:
    """Return the process id that the library puts into an instance's name, else the name."""
    parts = instance.name.rsplit("-", 2)
    return parts[1] if len(parts) == 3 and parts[1].isdigit() else instance.name  # noqa: PLR2004  # host, process, token
