"""A copy from its plan to its record: what is done once, around the ranges."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from segue.errors import RetryableError, UnsafeResume
from segue.model import STATIC, Key, Layout, SourceSpec
from segue.patience import Patience
from segue.phases.backfill.job import Job, Outcome, Preview
from segue.phases.backfill.ranges import RangeCopier
from segue.pipelines.batch_size import BatchSize
from segue.pipelines.conditions import conditions, differences, settled, with_types
from segue.pipelines.embeddings import Codec
from segue.ports import BackfillState, Copier, Landed, Progress, RangeProgress, Run, Sink, Source, Workers, total

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
