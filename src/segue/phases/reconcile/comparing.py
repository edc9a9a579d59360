"""Comparing both sides: a sample, or everything range by range. Begin at `Reconcile.run`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from segue.model import Control, Depth, EventKind, Key, Range, Tally, Validated
from segue.phases.reconcile.looking import SHOWN, Account, Looks
from segue.phases.reconcile.repair import Plan, Repair
from segue.phases.reconcile.sampling import cuts, drawn, places
from segue.phases.reconcile.verdict import Job, Outcome, Sides, Watch, stopped
from segue.pipelines.conditions import conditions, differences
from segue.pipelines.confidence import most_differing
from segue.ports import Census, Comparison, RangeCompared, RangeProgress, ReconcileState, Workers

MOST_RANGES = 64
"""However many items there are: each range costs a pass over the label."""

WINDOW_ROWS = 100
"""Neighbouring rows at each place in the sink where a sample looks for rows without an item."""

CHANCE = random.SystemRandom()


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
        self._stop = stop
        self._choose = choose
        self._looks = Looks(job, sides, clock=clock, wait=wait, stop=stop)
        self._repair = Repair(job, sides, self._looks, clock=clock, wait=wait, stop=stop)

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
                found = self._looks.until_at_rest(found)
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

    def plan(self, outcome: Outcome, *, fix: bool, delete_orphans: bool) -> Plan:
        """See `Repair.plan`."""
        return self._repair.plan(outcome, fix=fix, delete_orphans=delete_orphans)

    def repair(self, plan: Plan) -> tuple[frozenset[Key], list[str]]:
        """See `Repair.repair`."""
        return self._repair.repair(plan)

    # --- a sample

    def _sample(self, census: Census) -> tuple[RangeCompared, float]:
        total, wanted, source = census.keyed(self._job.spec.key_type), self._job.sample_size, self._sides.source
        keys = drawn(source, total, wanted, self._choose) if total > wanted else source.keys(None, None)
        account = Account()
        near = self._sides.sink.behind(places(keys), WINDOW_ROWS)
        self._looks.look_at(account, list(dict.fromkeys(keys)))
        self._looks.look_for_orphans(account, set(near.result()).difference(keys))
        self._looks.second_look(account)
        if self._stop.is_set():
            raise stopped()
        found = self._looks.until_at_rest(account.as_compared())
        differing = found.tally.mismatched + found.tally.missing
        sampled = found.tally.matched + differing
        exact = differing / sampled if sampled else 0.0
        return found, most_differing(differing, sampled) if total > wanted else exact

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
        bounds = cuts(self._sides.source, total, intervals)
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
        account = Account()
        keys = dict.fromkeys(self._sides.source.keys(one.after, one.until))
        rows = self._sides.sink.keys(one.after, one.until)
        self._looks.look_at(account, [*keys, *(key for key in rows if key not in keys)])
        self._looks.second_look(account)
        return None if self._stop.is_set() else account.as_compared()


def _notes(control: Control, moving: int) -> list[str]:
    notes = []
    if control.capture is None:
        notes.append("changes are not captured: what changes in Neo4j is not carried over, and shows as a difference")
    if moving:
        notes.append(f"{moving:,} keys are in motion, without a verdict: they kept changing, or wait for a relay")
    return notes
