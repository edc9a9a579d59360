"""The reconcile: compares both sides, and makes the sink equal again where asked. Begin reading at `Reconcile.run`.

Items are enumerated by a pass over their label and looked up by key, rows by ranges of keys at the Strong level; neither goes
the copy's way. Beside writers nothing is a difference at one look: it must still be there, the same, at a second one, with
the key's mark clean and unchanged between them. Whatever moved is looked at again in the end. Knows ports only.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

from segue.delivery import find_guilty
from segue.errors import DataError, Interrupted, ModeRefused
from segue.model import (
    Control,
    Depth,
    Difference,
    EventKind,
    Key,
    Kind,
    Layout,
    Range,
    Rows,
    SourceSpec,
    StorageMode,
    Tally,
    Validated,
)
from segue.pipelines.comparison import Compared, Comparer
from segue.pipelines.conditions import conditions, differences
from segue.pipelines.confidence import most_differing
from segue.pipelines.embeddings import Codec
from segue.ports import (
    Census,
    Comparison,
    ControlNode,
    Journal,
    Marks,
    RangeCompared,
    RangeProgress,
    ReconcileState,
    Sink,
    SinkSide,
    Source,
    SourceSide,
    Standing,
    Workers,
)

MOST_KEYS = 1_000
PAGE_BYTES = 4 << 20
"""Keys a page, and bytes of its vectors: a page is read from both sides at once, two more are on their way."""

PAGES_AHEAD = 2

MOST_RANGES = 64
"""However many items there are: each range costs a pass over the label."""

STRATA = 20
STRATUM_ITEMS = 50
"""A sample is drawn from at most so many intervals of keys, at least so many items of each."""

PILOT_KEYS = 2_000
"""Keys drawn to cut intervals by."""

WINDOWS = 10
WINDOW_ROWS = 100
"""Places in the sink, and neighbouring rows at each, where a sample looks for rows without an item."""

SECOND_LOOK_SECONDS = 0.5
SHOWN = 50
MOST_MOVING = 0.01
"""Keys without a verdict, as a share of those with one, beyond which nothing is called clean."""

RELAYED_A_SECOND = 500
"""Keys that a relay is taken to make equal in a second, for how long it is waited for."""

CHANCE = random.SystemRandom()


class Watch(Protocol):
    """Whoever watches a reconcile; called from several threads; must not raise."""

    def range_done(self, compared: int, ranges_left: int) -> None:
        """A range was compared: so many keys in all by now, so many ranges left."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What to compare, and how.

    Attributes:
        collection: The collection's name, under which comparisons are recorded.
        configured: The source as configured.
        spec: The same with the properties' types as the collection has them.
        layout: The collection's layout.
        depth: How much is compared.
        sample_size: Items to draw, where a sample is.
        items_per_range: Items a range has at least, where everything is compared.
        settle_seconds: How long keys that move, or wait for a relay, are waited for in the end.
        tool_version: A comparison of another version is not continued.
    """

    collection: str
    configured: SourceSpec
    spec: SourceSpec
    layout: Layout
    depth: Depth
    sample_size: int
    items_per_range: int
    settle_seconds: float
    tool_version: str


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, the marks between them, and the control node.

    Attributes:
        source: The items, by the reconcile's way.
        counted: The same source, for its census.
        sink: The rows.
        written: The same sink, for a direct copy.
        journal: Where a verdict is kept for good.
    """

    source: SourceSide
    counted: Source
    sink: SinkSide
    written: Sink
    marks: Marks
    node: ControlNode
    journal: Journal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison came to.

    Attributes:
        complete: Everything that was to be compared was; false when stopped on request.
        items, rows: What each side counts as a whole; a hint beside the comparison.
        tally: The sums over what was compared.
        differing: Every key that differs.
        shown: What the first of them differ in.
        moving: Keys without a verdict: they kept changing, or wait for a relay.
        bound: The share of all items that differs at most, with 95 % confidence; None where all were compared.
        control: The control node as it was in the beginning.
        began_seconds_ago: How long ago the comparison was begun, over interruptions.
        notes: What the operator should know.
        repaired: Keys that differed and are equal now.
    """

    complete: bool
    items: int
    rows: int
    tally: Tally
    differing: Mapping[Key, Kind]
    shown: Sequence[Difference]
    moving: Sequence[Key]
    bound: float | None
    control: Control
    began_seconds_ago: float
    notes: Sequence[str]
    repaired: frozenset[Key] = frozenset()

    @property
    def rate(self) -> float:
        """The share of the compared keys that are equal now; 1 where there was nothing to compare, 0 where all of it moved."""
        compared = self.tally.compared
        if not compared:
            return 0.0 if self.moving else 1.0
        return (self.tally.matched + len(self.repaired)) / compared

    @property
    def clean(self) -> bool:
        """Whether nothing differs, or all that did is repaired; and hardly a key was left without a verdict."""
        return self.tally.differing <= len(self.repaired) and len(self.moving) <= MOST_MOVING * self.tally.compared


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair would do.

    Attributes:
        remarked: By a mark, which the relay acts on; otherwise by a direct copy.
        copied: Keys whose rows would be made equal.
        deleted: Keys whose rows have no item and would go.
    """

    remarked: bool
    copied: Sequence[Key]
    deleted: Sequence[Key]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A key at one look: what both sides had, and its mark right after."""

    state: tuple[object, ...]
    standing: Standing | None


@dataclass
class _Account:
    """What is known by now; of one thread."""

    tally: Tally = field(default_factory=Tally)
    differing: dict[Key, Kind] = field(default_factory=dict)
    shown: list[Difference] = field(default_factory=list)
    suspects: dict[Key, _Seen] = field(default_factory=dict)

    def as_compared(self) -> RangeCompared:
        return RangeCompared(self.tally, self.differing, self.shown[:SHOWN], list(self.suspects))


class Reconcile:
    """Compares one collection, once. `stop` may be set from any thread.

    Args:
        job: What to compare.
        sides: Where.
        workers: Who compares ranges.
        watch: Told how it goes.
        clock: A monotonic clock, in seconds.
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
        stop: Asks to stop.
        choose: Draws so many of a list, each with the same chance.
    """

    def __init__(
        self,
        job: Job,
        sides: Sides,
        workers: Workers,
        watch: Watch,
        *,
        clock: Callable[[], float],
        wait: Callable[[float], bool],
        stop: threading.Event,
        choose: Callable[[Sequence[Key], int], list[Key]] = CHANCE.sample,
    ) -> None:
        self._job = job
        self._sides = sides
        self._workers = workers
        self._watch = watch
        self._clock = clock
        self._wait = wait
        self._stop = stop
        self._choose = choose
        self._codec = Codec(job.spec, job.layout)
        self._comparer = Comparer(job.layout, whole=job.depth.whole)
        self._page = max(1, min(MOST_KEYS, PAGE_BYTES // (4 * job.spec.dimension)))

    def run(self, state: ReconcileState) -> Outcome:
        """Compare; changes no store but the records in `state`, which a sample leaves alone.

        1. Count the label; draw a sample, or cut the keys into ranges and take up what is recorded.
        2. Look at each key on both sides; what is equal is done.
        3. Look again at what differs; a difference that is the same, under a mark that is clean and the same, counts.
        4. Whatever moved between is looked at until it rests, or `settle_seconds` have passed.

        Raises:
            Interrupted: Somebody asked to stop a sample, or to stop waiting for the keys that move.
            RetryableError: A side did not answer; what was compared of ranges is recorded.
        """
        began = self._clock()
        rows = self._sides.sink.count()
        control = self._sides.node.read()
        # Only counts are wanted, no types.
        census = self._sides.counted.census(replace(self._job.configured, properties=()))
        if self._job.depth is Depth.SAMPLE:
            found, bound = self._sample(census)
            complete, began_seconds_ago = True, self._clock() - began
        else:
            comparison = self._comparison(state, control, census)
            self._compare_ranges(state, comparison)
            bound = None
            complete = not state.to_compare(comparison)
            found = state.found(comparison)
            if complete:
                found = self._until_at_rest(found)
                state.finish_comparison(comparison)
            recorded = state.latest_comparison(self._job.collection)
            began_seconds_ago = recorded.began_seconds_ago if recorded else 0.0
        unkeyed = census.total - census.keyed(self._job.spec.key_type)
        tally = found.tally + Tally(quarantined=unkeyed if self._job.depth is not Depth.SAMPLE else 0)
        shown = list(found.shown)[:SHOWN]
        notes = _notes(control, len(found.moving))
        return Outcome(
            complete,
            census.total,
            rows.result(),
            tally,
            found.differing,
            shown,
            found.moving,
            bound,
            control,
            began_seconds_ago,
            notes,
        )

    def record(self, outcome: Outcome, *, threshold: float) -> None:
        """Note the verdict on the control node, where there is one, and in the journal.

        Args:
            outcome: What was found, with what was repaired.
            threshold: The share of equal keys that was wanted.
        """
        tally, epoch, depth = outcome.tally, outcome.control.epoch, self._job.depth
        source, sink = f"{tally.source_digest:016x}", f"{tally.sink_digest:016x}"
        ago = outcome.began_seconds_ago
        self._sides.node.validated(Validated(epoch, depth, outcome.clean, outcome.rate, source, sink, ago))
        found = "nothing differs" if outcome.clean else f"{tally.differing - len(outcome.repaired):,} keys differ"
        text = f"{depth}: {tally.compared:,} keys compared, {outcome.rate:.4%} equal; {found}"
        data = {
            "checked": "rows",
            "depth": depth.value,
            "epoch": epoch,
            "mode": outcome.control.mode.value,
            "clean": outcome.clean,
            "rate": outcome.rate,
            "threshold": threshold,
            "bound": outcome.bound,
            "items": outcome.items,
            "rows": outcome.rows,
            "compared": tally.compared,
            "matched": tally.matched,
            "mismatched": tally.mismatched,
            "missing": tally.missing,
            "orphaned": tally.orphaned,
            "duplicates": tally.duplicates,
            "repaired": len(outcome.repaired),
            "quarantined": tally.quarantined,
            "in_motion": len(outcome.moving),
            "digests": {"source": source, "sink": sink},
            "max_distance": tally.distance,
            "max_cosine_difference": tally.cosine,
            "began_seconds_ago": ago,
        }
        self._sides.journal.record(EventKind.VALIDATION, text, data)

    # --- a sample

    def _sample(self, census: Census) -> tuple[RangeCompared, float]:
        total = census.keyed(self._job.spec.key_type)
        keys = self._drawn(total) if total > self._job.sample_size else self._sides.source.keys(None, None)
        account = _Account()
        near = self._sides.sink.behind(_places(keys), WINDOW_ROWS)
        self._look_at(account, list(dict.fromkeys(keys)))
        self._look_for_orphans(account, set(near.result()).difference(keys))
        self._second_look(account)
        if self._stop.is_set():
            raise _stopped()
        found = self._until_at_rest(account.as_compared())
        differing = found.tally.mismatched + found.tally.missing
        sampled = found.tally.matched + differing
        exact = differing / sampled if sampled else 0.0
        return found, most_differing(differing, sampled) if total > self._job.sample_size else exact

    def _drawn(self, total: int) -> list[Key]:
        """Draw items, from each interval of keys in proportion to how many it has, rounded up."""
        wanted = self._job.sample_size
        bounds = self._cuts(total, min(STRATA, max(1, wanted // STRATUM_ITEMS)))
        drawn: list[Key] = []
        # Twice as many as wanted come, so that hardly ever too few of an interval do; otherwise all there are are taken.
        for stratum in self._sides.source.draw(bounds, min(1.0, (2 * wanted + 50) / total)):
            share = -(-wanted * stratum.items // total)
            drawn += self._choose(stratum.drawn, min(share, len(stratum.drawn)))
        return drawn

    def _cuts(self, total: int, intervals: int) -> list[Key]:
        """Return the keys that cut all of them into intervals of about the same size."""
        if intervals < 2:  # noqa: PLR2004  # one interval has no cut
            return []
        (pilot,) = self._sides.source.draw([], min(1.0, PILOT_KEYS / max(1, total)))
        keys = sorted(pilot.drawn)
        return list(dict.fromkeys(keys[len(keys) * number // intervals] for number in range(1, intervals) if keys))

    def _look_for_orphans(self, account: _Account, rows: Collection[Key]) -> None:
        """Look whether rows have an item, and at those that have none."""
        for part in self._parts(list(rows)):
            there = self._sides.source.items(part)
            alone = set(part).difference(there.keys, (row.key for row in there.quarantined))
            self._look_at(account, list(alone))

    # --- everything

    def _comparison(self, state: ReconcileState, control: Control, census: Census) -> Comparison:
        """Take up the recorded comparison, or begin one where there is none that may be continued."""
        now = self._conditions(control)
        latest = state.latest_comparison(self._job.collection)
        if latest is not None and not latest.finished:
            changed = differences(state.comparison_conditions(latest), now)
            if not changed:
                self._watch.note(f"going on with the comparison begun {latest.began_seconds_ago:,.0f} s ago")
                return latest
            self._watch.note(f"the comparison that was interrupted is begun anew: {'; '.join(changed)}")
        total = census.keyed(self._job.spec.key_type)
        intervals = min(MOST_RANGES, max(1, -(-total // self._job.items_per_range)))
        bounds = self._cuts(total, intervals)
        edges = [None, *bounds, None]
        ranges = [Range(number, after, until, total // intervals) for number, (after, until) in enumerate(pairwise(edges))]
        return state.begin_comparison(self._job.collection, now, ranges)

    def _conditions(self, control: Control) -> Mapping[str, object]:
        identity = self._sides.counted.identity()
        bound_to = conditions(
            self._job.configured,
            self._job.spec,
            self._job.layout,
            source=identity,
            tool_version=self._job.tool_version,
            capture=control.capture,
        )
        target = self._sides.written.find(self._job.layout)
        return bound_to | {"depth": self._job.depth.value, "epoch": control.epoch, "collection": target}

    def _compare_ranges(self, state: ReconcileState, comparison: Comparison) -> None:
        def compare(worker: int, todo: RangeProgress) -> None:
            del worker
            found = self._range(todo.range)
            if found is not None:
                state.compared(comparison, todo.range.number, found)
                self._watch.range_done(state.found(comparison).tally.compared, len(state.to_compare(comparison)))

        todo = [RangeProgress(one, None, 0, 0, done=False) for one in state.to_compare(comparison)]
        self._workers.run(compare, todo, self._stop)

    def _range(self, one: Range) -> RangeCompared | None:
        """Compare a range; None when asked to stop before its end."""
        account = _Account()
        keys = dict.fromkeys(self._sides.source.keys(one.after, one.until))
        rows = self._sides.sink.keys(one.after, one.until)
        self._look_at(account, [*keys, *(key for key in rows if key not in keys)])
        self._second_look(account)
        return None if self._stop.is_set() else account.as_compared()

    # --- looking

    def _pages(self, keys: Sequence[Key]) -> Iterator[tuple[Compared, Sequence[Key]]]:
        """Look at keys, a page at a time, with rows on their way while items are read."""
        whole = self._job.depth.whole
        waiting = deque(self._parts(keys))
        ahead = deque((part, self._sides.sink.rows(part, whole=whole)) for part in _taken(waiting, PAGES_AHEAD))
        while ahead and not self._stop.is_set():
            part, reading = ahead.popleft()
            ahead.extend((one, self._sides.sink.rows(one, whole=whole)) for one in _taken(waiting, 1))
            encoded = self._codec.encode(self._sides.source.items(part))
            yield self._comparer.compare(encoded, *reading.result()), part

    def _seen(self, compared: Compared, keys: Sequence[Key]) -> dict[Key, _Seen]:
        seen: dict[Key, _Seen] = {}
        for part in self._parts(keys):
            # Marks come last: one that is the same at two looks was so all the time between them.
            standing = self._sides.marks.standing(part)
            seen |= {key: _Seen(compared.state(key), standing.get(key)) for key in part}
        return seen

    def _look_at(self, account: _Account, keys: Sequence[Key]) -> None:
        """Look at keys that are not counted yet: count what is equal, suspect the rest. Ends early when asked to stop."""
        for compared, page in self._pages(keys):
            account.tally += compared.tally([key for key in page if key not in compared.differing])
            account.suspects |= self._seen(compared, list(compared.differing))

    def _second_look(self, account: _Account) -> None:
        """Look at all suspects again, once; those without a verdict stay suspects."""
        if not account.suspects:
            return
        if self._wait(SECOND_LOOK_SECONDS):
            return
        before, account.suspects = account.suspects, {}
        for compared, page in self._pages(list(before)):
            now = self._seen(compared, list(compared.differing))
            moving = {key: seen for key, seen in now.items() if not _rests(before[key], seen)}
            account.suspects |= moving
            account.tally += compared.tally([key for key in page if key not in moving])
            for key in compared.differing.keys() - moving.keys():
                account.differing[key] = compared.differing[key].kind
                account.shown += compared.differing[key].differences if len(account.shown) < SHOWN else ()

    def _until_at_rest(self, found: RangeCompared) -> RangeCompared:
        """Look at the keys that moved until they rest, for so long."""
        if not found.moving:
            return found
        until = self._clock() + self._job.settle_seconds
        account = _Account(found.tally, dict(found.differing), list(found.shown))
        self._look_at(account, found.moving)
        while account.suspects and self._clock() < until and not self._stop.is_set():
            self._second_look(account)
        if self._stop.is_set():
            raise _stopped()
        return account.as_compared()

    def _parts(self, keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
        return (keys[start : start + self._page] for start in range(0, len(keys), self._page))

    # --- repairing

    def plan(self, outcome: Outcome, *, fix: bool, delete_orphans: bool) -> Plan:
        """Say what a repair would do.

        Raises:
            ModeRefused: Some changes leave no mark, although writers may mark theirs: neither way is safe.
        """
        if outcome.control.capture is None and outcome.control.mode is not StorageMode.NEO4J_ONLY:
            message = (
                f"the mode of {self._job.collection!r} is {outcome.control.mode}, but its barrier is not reached: "
                "no repair is safe"
            )
            raise ModeRefused(message, hint=f"`segue mode set {outcome.control.mode}` goes on waiting for it.")
        orphans = [key for key, kind in outcome.differing.items() if kind is Kind.ORPHANED]
        others = [key for key, kind in outcome.differing.items() if kind is not Kind.ORPHANED]
        return Plan(outcome.control.capture is not None, others if fix else [], orphans if delete_orphans else [])

    def repair(self, plan: Plan) -> tuple[frozenset[Key], list[str]]:
        """Make the sink equal again under the keys of a plan; return those that are, and what to say of the others.

        Where changes are captured every key is marked, and the relay makes it what its item is, or deletes its row; it is
        waited for. Otherwise rows are written and deleted directly. Each key is then looked at again. Idempotent.

        Raises:
            Interrupted: Somebody asked to stop; keys that are marked stay so.
        """
        keys = [*plan.copied, *plan.deleted]
        if not keys:
            return frozenset(), []
        if not plan.remarked:
            for part in self._parts(keys):
                self._copy(part, frozenset(plan.deleted))
            left: set[Key] = set()
        else:
            for part in self._parts(keys):
                self._sides.marks.mark(part)
            left = self._until_relayed(keys)
        equal = self._equal([key for key in keys if key not in left])
        if self._stop.is_set():
            raise _stopped()
        notes = [f"{len(keys):,} keys were {'marked for the relay' if plan.remarked else 'copied again or deleted'}"]
        if left:
            notes.append(
                f"{len(left):,} of them wait for a relay: none runs, or it is behind. "
                f"`segue relay --until-drained --collection {self._job.collection}`"
            )
        if unequal := len(keys) - len(left) - len(equal):
            notes.append(f"{unequal:,} of them differ all the same, or were changed meanwhile; validate again")
        return equal, notes

    def _copy(self, keys: Sequence[Key], orphans: Collection[Key]) -> None:
        encoded = self._codec.encode(self._sides.source.items(keys))
        rows, unfit = encoded.rows, {row.key for row in encoded.quarantined}
        if rows:
            try:
                self._upsert(rows)
            except DataError as refusal:
                unfit |= {row.key for row in find_guilty(rows, [], refusal, self._upsert)}
        fit = set(rows.keys) - unfit
        gone = [key for key in keys if key not in fit and (key in unfit or key in orphans)]
        if gone:
            self._sides.written.delete(self._job.layout, gone).result()
        # A writer that marks although the mode does not ask for it may have changed one meanwhile: then it is the relay's.
        if marked := list(self._sides.marks.standing(keys)):
            self._sides.marks.mark(marked)

    def _upsert(self, rows: Rows) -> None:
        self._sides.written.upsert(self._job.layout, rows).result()

    def _until_relayed(self, keys: Sequence[Key]) -> set[Key]:
        """Wait until the relay has settled these keys, for so long; return those it has not."""
        until = self._clock() + self._job.settle_seconds + len(keys) / RELAYED_A_SECOND
        left = set(keys)
        while left:
            for part in self._parts(list(left)):
                standing = self._sides.marks.standing(part)
                left -= {key for key in part if key not in standing or standing[key].settled}
            if not left or self._clock() >= until:
                break
            if self._wait(SECOND_LOOK_SECONDS):
                raise _stopped()
        return left

    def _equal(self, keys: Sequence[Key]) -> frozenset[Key]:
        pages = self._pages(keys)
        return frozenset(key for compared, page in pages for key in page if key not in compared.differing)


def _places(keys: Sequence[Key]) -> list[Key | None]:
    """Return keys spread over all of them, and the place before the first."""
    ordered = sorted(keys)
    return [None, *ordered[:: max(1, len(ordered) // WINDOWS)][1:WINDOWS]]


def _rests(before: _Seen, now: _Seen) -> bool:
    return before == now and (now.standing is None or now.standing.settled)


def _taken(waiting: deque[Sequence[Key]], most: int) -> Iterator[Sequence[Key]]:
    while waiting and most:
        yield waiting.popleft()
        most -= 1


def _notes(control: Control, moving: int) -> list[str]:
    notes = []
    if control.capture is None:
        notes.append("changes are not captured: what changes in Neo4j is not carried over, and shows as a difference")
    if moving:
        notes.append(f"{moving:,} keys are in motion, without a verdict: they kept changing, or wait for a relay")
    return notes


def _stopped() -> Interrupted:
    return Interrupted("interrupted before the verdict", hint="The same command goes on behind the ranges that are recorded.")
