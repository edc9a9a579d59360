"""The copy of what already exists: plan, copy range by range, build the index. Begin reading at `Backfill.run`.

A batch's way is one loop, in `RangeCopier.copy`: source.scan → codec.encode → sink.upsert → state.advance. The cursor moves
only behind rows that the sink has acknowledged, so whatever is killed is done again from there, and upserts make that
harmless. Other machines may copy ranges; the records stay here, and are written at the same two moments.
Knows ports only: no store, no terminal, no file.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from segue.delivery import find_guilty
from segue.errors import DataError, Interrupted, RetryableError, Throttled, UnsafeResume
from segue.model import STATIC, Counts, Encoded, Key, Layout, Page, Quarantined, Range, Rows, SourceSpec
from segue.patience import Patience
from segue.pipelines.batch_size import BatchSize
from segue.pipelines.conditions import conditions, differences, settled, with_types
from segue.pipelines.embeddings import Codec
from segue.ports import (
    Ack,
    BackfillState,
    Census,
    Copier,
    Landed,
    Marks,
    Progress,
    RangeProgress,
    Records,
    Run,
    Sink,
    Source,
    Workers,
    total,
)

T = TypeVar("T")

IN_FLIGHT = 2
"""Batches a worker has on their way while it reads the next one: enough to overlap, few enough to bound the memory."""

INDEX_POLL_SECONDS = 0.5

NEW = "new"
"""The condition of a run that says whether it made its collection; otherwise there may be rows of before."""

LEFTOVERS = 5_000
"""Keys of rows looked at together, when rows of items that are no more are looked for."""

STATIC_COPY = (
    "nothing captures changes: what changes behind the copy is not carried over; this copy is static and opens no gate. "
    "`segue capture install` and copy again with --restart; or, if nobody writes until the mode is dual_write, state that: "
    "--no-writers --restart"
)
STATED_COPY = (
    "nothing captures changes: this copy counts because, as --no-writers states, nobody writes until the mode is dual_write"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What a copy beside writers needs; without it the source is taken to stand still.

    Attributes:
        capture: The token under which every change is captured; a copy begun under another one is not continued.
        marks: The marks that writers make.
        landing_seconds: How long after sending an unanswered request may still land (Z).
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
    """

    capture: str
    marks: Marks
    landing_seconds: float
    wait: Callable[[float], bool]

    def until_landed(self) -> None:
        """Wait until everything that was sent before now has landed or never will.

        Counted from now, not from the sending, whose moment a stalled process cannot know.

        Raises:
            Interrupted: Somebody asked to stop before that.
        """
        if self.wait(self.landing_seconds):
            message = "stopped while waiting for late requests to land; everything acknowledged is recorded"
            raise Interrupted(message)


@dataclass(frozen=True, slots=True)
class Job:
    """What to copy, and how.

    Attributes:
        collection: The collection's name, under which its runs are recorded.
        spec: The source as configured.
        lay_out: From a spec with the properties' types as found to the collection's layout.
        batch_size: Rows a batch; None adapts between 100 and 5,000.
        items_per_range: Items a range has when it is planned.
        tool_version: A checkpoint of another version is not continued.
        patience_seconds: How long a store may fail to answer before the copy stops, resumable.
        beside: Set when writers go on meanwhile and mark what they change.
        nobody_writes: Set, without `beside`, when the operator states that nobody writes: where the copy is recorded as such.
    """

    collection: str
    spec: SourceSpec
    lay_out: Callable[[SourceSpec], Layout]
    batch_size: int | None
    items_per_range: int
    tool_version: str
    patience_seconds: float = 120.0
    beside: Beside | None = None
    nobody_writes: Marks | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        complete: Every range is done and the index is built; false when stopped on request.
        ran: False when there was nothing left to do.
        counts: The account over all ranges.
        reasons: Quarantined rows by reason.
        target_rows: The sink's own count, None while the copy is not complete, or where the sink cannot count.
        copy_seconds: This command's share of copying, without the index.
        migrated_now: Rows this command migrated.
        static: Nothing captures changes, so nothing that changes behind the copy is carried over.
        notes: What the operator should know.
        run: The record, for the quarantine and the working time over all interruptions.
    """

    complete: bool
    ran: bool
    counts: Counts
    reasons: Mapping[str, int]
    target_rows: int | None
    copy_seconds: float
    migrated_now: int
    static: bool
    notes: Sequence[str]
    layout: Layout
    run: Run


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, found without changing anything.

    Attributes:
        exists: Whether the collection is there already.
        ranges: How many ranges the plan has.
        sampled: Rows read and encoded for the quarantine preview.
        reasons: Of these, how many would be quarantined, by reason.
        examples: Some of them.
    """

    census: Census
    layout: Layout
    exists: bool
    ranges: int
    sampled: int
    reasons: Mapping[str, int]
    examples: Sequence[Quarantined]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch on its way."""

    encoded: Encoded
    ack: Ack | None
    sent_at: float
    after: Key | None
    last: Key | None
    exhausted: bool
    marked: int


class Backfill:
    """Copies one collection. One instance a run; `stop` may be set from any thread.

    `elsewhere` gives who copies the ranges, from the source's and the collection's layout; without it, this process does.
    """

    def __init__(
        self,
        job: Job,
        source: Source,
        sink: Sink,
        workers: Workers,
        progress: Progress,
        stop: threading.Event,
        *,
        elsewhere: Callable[[SourceSpec, Layout], Copier] | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._job = job
        self._source = source
        self._sink = sink
        self._workers = workers
        self._progress = progress
        self._stop = stop
        self._patiently = Patience(job.patience_seconds, progress, stop)
        self._left = 0

    def preview(self, most: int = 5_000) -> Preview:
        """Count, lay out, and encode a sample of at most `most` rows spread over the ranges. Changes no store, no state."""
        census = self._source.census(self._job.spec)
        spec, notes = settled(self._job.spec, census)
        layout = self._job.lay_out(spec)
        exists = self._sink.find(layout) is not None
        ranges = self._source.plan(spec, self._job.items_per_range, census)
        chosen = ranges[:: max(1, len(ranges) // 10)]
        codec = Codec(spec, layout)
        sample = [codec.encode(self._source.scan(spec, one, None, most // len(chosen))) for one in chosen]
        quarantined = [row for encoded in sample for row in encoded.quarantined]
        reasons = Counter(row.reason.value for row in quarantined)
        sampled = len(quarantined) + sum(len(encoded.rows) for encoded in sample)
        return Preview(census, layout, exists, len(ranges), sampled, dict(reasons.most_common()), quarantined[:20], notes)

    def prepare(self) -> Layout:
        """Make the collection and begin its index, and copy nothing; `run` finds both. Idempotent."""
        census = self._source.census(self._job.spec)
        spec, notes = settled(self._job.spec, census)
        for note in notes:
            self._progress.note(note)
        layout = self._job.lay_out(spec)
        self._patiently(lambda: self._sink.create(layout))
        self._patiently(lambda: self._sink.index(layout))
        return layout

    def run(self, state: BackfillState, *, restart: bool = False) -> Outcome:
        """Copy everything, or go on where the last run of this collection stopped.

        1. Take up the recorded run, or (`restart`, or none yet) plan one: census, layout, ranges, collection, record.
        2. Beside writers, keep every mark from here on.
        3. Copy the ranges that are not done, several at a time.
        4. Build the index, load the collection; record under which capture the copy is complete, or that nobody wrote.
        5. Record the run as finished.

        Running again after it finished does nothing. Stopped on request, it returns with everything in flight landed.

        Raises:
            UnsafeResume: The recorded run was begun under other conditions.
            SegueError: A store failed for longer than the job's patience; everything acknowledged is recorded.
        """
        latest = state.latest(self._job.collection)
        if latest is not None and self._job.beside is not None and state.in_flight(latest):
            self._progress.note(
                f"something may still be on its way: waiting {self._job.beside.landing_seconds:g} s for it to land"
            )
            self._job.beside.until_landed()
        recorded = None if restart else latest
        run, spec, layout = self._begin(state) if recorded is None else self._resume(state, recorded)
        before = state.progress(run)
        started = copied = time.monotonic()
        self._progress.planned(total(before), len(before), resumed=recorded is not None)
        try:
            if not run.finished:
                for note in self._static():
                    self._progress.note(note)
                if self._job.beside is not None:
                    self._patiently(self._job.beside.marks.copy_begins)
                self._copy_ranges(state, run, spec, layout)
                copied = time.monotonic()
                if not self._stop.is_set():
                    self._complete(state, run, spec, layout)
        finally:
            state.spent(run, time.monotonic() - started)
        now = state.latest(self._job.collection) or run
        counts = total(state.progress(now))
        target_rows, uncounted = self._count(layout) if now.finished else (None, [])
        return Outcome(
            complete=now.finished,
            ran=not run.finished,
            counts=counts,
            reasons=state.reasons(now),
            target_rows=target_rows,
            copy_seconds=copied - started,
            migrated_now=counts.migrated - total(before).migrated,
            static=self._job.beside is None,
            notes=[*now.notes, *self._left_to_the_relay(), *self._static(), *uncounted],
            layout=layout,
            run=now,
        )

    def _begin(self, state: BackfillState) -> tuple[Run, SourceSpec, Layout]:
        census = self._patiently(lambda: self._source.census(self._job.spec))
        spec, notes = settled(self._job.spec, census)
        layout = self._job.lay_out(spec)
        # A collection with another schema is found out before anything is planned or made.
        is_new = self._patiently(lambda: self._sink.find(layout)) is None
        ranges = self._patiently(lambda: self._source.plan(spec, self._job.items_per_range, census))
        target = self._patiently(lambda: self._sink.create(layout))
        conditions = {**self._conditions(spec, layout), NEW: is_new}
        run = state.begin(self._job.collection, conditions, target, ranges, notes)
        return run, spec, layout

    def _resume(self, state: BackfillState, run: Run) -> tuple[Run, SourceSpec, Layout]:
        recorded = state.conditions(run)
        key_unique = self._patiently(lambda: self._source.census(self._job.spec)).key_unique
        spec = with_types(self._job.spec, recorded, key_unique=key_unique)
        layout = self._job.lay_out(spec)
        now = {**self._conditions(spec, layout), NEW: recorded.get(NEW)}
        changed = list(differences(recorded, now))
        # Under other conditions the schema differs as well; what changed says more.
        target = run.target if changed else self._patiently(lambda: self._sink.find(layout))
        if target != run.target:
            changed.append(f"collection: {run.target!r} then, {target or 'none'!r} now")
        if changed:
            listed = "\n".join(f"  {difference}" for difference in changed)
            message = f"the checkpoint of {self._job.collection!r} was made under other conditions:\n{listed}"
            hint = "Go back to those conditions, or copy everything again: --restart (rows are replaced, none is doubled)."
            raise UnsafeResume(message, hint=hint)
        return run, spec, layout

    def _count(self, layout: Layout) -> tuple[int | None, list[str]]:
        """Return the sink's count; or none, and why: the copy is complete and recorded, whether the sink can count or not."""
        try:
            return self._patiently(lambda: self._sink.count(layout)), []
        except RetryableError as fault:
            return None, [f"the rows cannot be counted now: {fault}"]

    def _left_to_the_relay(self) -> list[str]:
        left = f"{self._left:,} keys had changed already and were not copied: the relay makes them equal"
        return [left] if self._left else []

    def _static(self) -> list[str]:
        if self._job.beside is not None:
            return []
        return [STATIC_COPY if self._job.nobody_writes is None else STATED_COPY]

    def _conditions(self, spec: SourceSpec, layout: Layout) -> Mapping[str, object]:
        identity = self._source.identity()
        # What is stated now was not stated of a copy that was begun before.
        capture = self._job.beside.capture if self._job.beside else STATIC if self._job.nobody_writes else None
        return conditions(self._job.spec, spec, layout, source=identity, tool_version=self._job.tool_version, capture=capture)

    def _copy_ranges(self, state: BackfillState, run: Run, spec: SourceSpec, layout: Layout) -> None:
        copier = self._copier(spec, layout)
        records = _Recorded(state, run, self._progress)

        def copy(worker: int, todo: RangeProgress) -> None:
            copier.copy(worker, todo, records)

        self._workers.run(copy, [todo for todo in state.progress(run) if not todo.done], self._stop)
        self._left = records.marked

    def _copier(self, spec: SourceSpec, layout: Layout) -> Copier:
        if self._elsewhere is not None:
            return self._elsewhere(spec, layout)
        size = BatchSize(spec.dimension, self._job.batch_size)
        return RangeCopier(spec, layout, self._source, self._sink, size, self._patiently, self._job.beside, self._stop)

    def _complete(self, state: BackfillState, run: Run, spec: SourceSpec, layout: Layout) -> None:
        self._patiently(lambda: self._sink.index(layout))
        while not (index := self._patiently(lambda: self._sink.index_progress(layout))).done:
            self._progress.indexing(index)
            if self._stop.wait(INDEX_POLL_SECONDS):
                return
        self._progress.indexing(index)
        self._patiently(lambda: self._sink.load(layout))
        if not state.conditions(run).get(NEW):
            self._take_out_leftovers(state, run, spec, layout)
        if self._stop.is_set():
            return
        # Before the run counts as finished, so that a run killed in between says it again.
        if (beside := self._job.beside) is not None:
            self._patiently(lambda: beside.marks.copy_ended(beside.capture))
        elif (marks := self._job.nobody_writes) is not None:
            self._patiently(lambda: marks.copy_ended(STATIC))
        state.finish(run)

    def _take_out_leftovers(self, state: BackfillState, run: Run, spec: SourceSpec, layout: Layout) -> None:
        """Take out what an earlier copy left in the collection: rows of items that are no more, or that cannot go any more.

        Changes of before this copy's capture left no marks, deletes among them. Beside writers such keys are marked, so that
        the relay makes each what its item is then; elsewhere the rows are deleted.
        """
        quarantined = [row.key for row in state.quarantine(run) if row.key is not None]
        gone = 0
        for start in range(0, len(quarantined), LEFTOVERS):
            self._take_out(layout, quarantined[start : start + LEFTOVERS])
        after: Key | None = None
        while not self._stop.is_set():
            behind = after
            keys = self._patiently(lambda behind=behind: self._sink.keys(layout, behind, LEFTOVERS))  # type: ignore[misc]
            if not keys:
                break
            missing = self._patiently(lambda keys=keys: self._source.missing(spec, keys))  # type: ignore[misc]
            if missing:
                self._take_out(layout, missing)
            gone += len(missing)
            after = keys[-1]
        if gone:
            done = "marked, the relay takes them out" if self._job.beside else "taken out"
            self._progress.note(f"{gone:,} rows were of items that are no more: {done}")

    def _take_out(self, layout: Layout, keys: Sequence[Key]) -> None:
        beside = self._job.beside
        if beside is not None:
            self._patiently(lambda: beside.marks.mark(keys))
        else:
            self._patiently(lambda: self._sink.delete(layout, keys).result())


class _Recorded:
    """The `Records` of a run: what workers tell goes into the state and to whoever watches. Usable from several threads.

    Attributes:
        marked: How many rows were left to the relay.
    """

    def __init__(self, state: BackfillState, run: Run, progress: Progress) -> None:
        self._state = state
        self._run = run
        self._progress = progress
        self._mutex = threading.Lock()
        self.marked = 0

    def sending(self, range_number: int) -> None:
        """See `Records`."""
        self._state.sending(self._run, range_number)

    def landed(self, worker: int, batch: Landed) -> None:
        """See `Records`."""
        self._state.advance(
            self._run,
            batch.range_number,
            batch.cursor,
            batch.migrated,
            batch.quarantined,
            done=batch.done,
            in_flight=batch.in_flight,
        )
        with self._mutex:
            self.marked += batch.marked
        self._progress.batch(worker, batch.range_number, batch.migrated, len(batch.quarantined))

    def working(self, worker: int, activity: str) -> None:
        """See `Records`."""
        self._progress.working(worker, activity)

    def note(self, text: str) -> None:
        """See `Records`."""
        self._progress.note(text)


class RangeCopier:
    """The `Copier` of this process; shared by the workers of a run."""

    def __init__(
        self,
        spec: SourceSpec,
        layout: Layout,
        source: Source,
        sink: Sink,
        size: BatchSize,
        patiently: Patience,
        beside: Beside | None,
        stop: threading.Event,
    ) -> None:
        self._beside = beside
        self._spec = spec
        self._layout = layout
        self._source = source
        self._codec = Codec(spec, layout)
        self._sink = sink
        self._size = size
        self._stop = stop
        self._patiently = patiently

    def copy(self, worker: int, todo: RangeProgress, records: Records) -> None:
        """Copy a range from its cursor to its end, or until asked to stop; everything sent has landed on return.

        Beside writers, for each batch: record it as in flight; what is marked already is re-marked, not copied; after the
        acknowledgement look again, and re-mark whatever of the batch is marked by now, held until an earlier attempt of
        the batch has landed. The relay makes marked keys equal, so they count as migrated here.
        """
        number, cursor, exhausted = todo.range.number, todo.cursor, False
        beside = self._beside if todo.range.keyed else None
        flying: deque[_Batch] = deque()

        def land() -> None:
            batch = flying.popleft()
            refused = self._settle(batch, beside, records)
            if beside is not None:
                self._remark(beside, batch.after, todo.range.until if batch.exhausted else batch.last)
            migrated = len(batch.encoded.rows) - len(refused) + batch.marked
            quarantined = batch.encoded.quarantined + refused
            flew = bool(flying)
            records.landed(
                worker, Landed(number, batch.last, migrated, batch.marked, quarantined, done=batch.exhausted, in_flight=flew)
            )

        while not exhausted and not self._stop.is_set():
            records.working(worker, f"range {number}: reading")
            page, after = self._scan(todo.range, cursor), cursor
            cursor, exhausted = page.last if page.last is not None else cursor, page.exhausted
            found = len(page.keys) + len(page.quarantined)
            if beside is not None:
                records.sending(number)
                page = page.without(self._remark(beside, after, todo.range.until if exhausted else cursor))
            encoded = self._codec.encode(page)
            marked = found - len(page.keys) - len(page.quarantined)
            ack = self._sink.upsert(self._layout, encoded.rows) if encoded.rows else None
            flying.append(_Batch(encoded, ack, time.monotonic(), after, cursor, exhausted, marked))
            if len(flying) > IN_FLIGHT:
                records.working(worker, f"range {number}: writing")
                land()
        while flying:
            land()
        records.working(worker, "idle")

    def _remark(self, beside: Beside, after: Key | None, until: Key | None) -> set[Key]:
        return self._patiently(lambda: beside.marks.remark(after, until))

    def _scan(self, range_: Range, cursor: Key | None) -> Page:
        return self._patiently(lambda: self._source.scan(self._spec, range_, cursor, self._size.rows))

    def _settle(self, batch: _Batch, beside: Beside | None, records: Records) -> list[Quarantined]:
        """Wait for the acknowledgement; return the rows that the sink refuses."""
        if batch.ack is None:
            return []
        rows = batch.encoded.rows
        try:
            try:
                batch.ack.result()
                self._size.observe(len(rows), time.monotonic() - batch.sent_at)
            except RetryableError as fault:
                if isinstance(fault, Throttled):
                    self._size.shrink()
                self._send(rows)
                if beside is not None:
                    # An attempt that failed may land after the one that did not; the closing look must come behind it.
                    records.note(f"a lost request may still land: waiting {beside.landing_seconds:g} s for it")
                    beside.until_landed()
        except DataError as refusal:
            return find_guilty(rows, batch.encoded.element_ids, refusal, self._send)
        return []

    def _send(self, rows: Rows) -> None:
        self._patiently(lambda: self._sink.upsert(self._layout, rows).result())
