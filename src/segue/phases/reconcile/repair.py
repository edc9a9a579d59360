"""Making the sink equal again where a reconcile found that it differs: by marks, or directly where nothing captures changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from segue.delivery import find_guilty
from segue.errors import DataError, ModeRefused
from segue.model import Key, Kind, Rows, StorageMode
from segue.phases.reconcile.looking import SECOND_LOOK_SECONDS, Looks
from segue.phases.reconcile.verdict import Job, Outcome, Sides, stopped
from segue.pipelines.embeddings import Codec

RELAYED_A_SECOND = 500
"""Keys that a relay is taken to make equal in a second, for how long it is waited for."""


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


class Repair:
    """Repairs one collection.

    Args:
        job: What was compared.
        sides: Where.
        looks: Looks at the keys again.
        clock: A monotonic clock, in seconds.
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
        stop: Asks to stop.
    """

    def __init__(
        self,
        job: Job,
        sides: Sides,
        looks: Looks,
        *,
        clock: Callable[[], float],
        wait: Callable[[float], bool],
        stop: threading.Event,
    ) -> None:
        self._job = job
        self._sides = sides
        self._looks = looks
        self._clock = clock
        self._wait = wait
        self._stop = stop
        self._codec = Codec(job.spec, job.layout)

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
            for part in self._looks.parts(keys):
                self._copy(part, frozenset(plan.deleted))
            left: set[Key] = set()
        else:
            for part in self._looks.parts(keys):
                self._sides.marks.mark(part)
            left = self._until_relayed(keys)
        equal = self._looks.equal([key for key in keys if key not in left])
        if self._stop.is_set():
            raise stopped()
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
            for part in self._looks.parts(list(left)):
                standing = self._sides.marks.standing(part)
                left -= {key for key in part if key not in standing or standing[key].settled}
            if not left or self._clock() >= until:
                break
            if self._wait(SECOND_LOOK_SECONDS):
                raise stopped()
        return left
