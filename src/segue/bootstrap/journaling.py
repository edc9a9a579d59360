"""Config → the journal, for what a verb did. A journal that cannot be written stops no verb: it is said, and the work goes on.

Every event of a verb carries the run's id and the digest of the configuration; user, host and version are the journal's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from segue.config import CollectionSettings, Settings, digest
from segue.errors import Interrupted, RetryableError, SegueError
from segue.model import Counts, EventKind
from segue.phases.backfill import Outcome
from segue.ports import IndexProgress, Journal, Progress
from segue.telemetry.logging import RUN

if TYPE_CHECKING:
    from segue.stores.neo4j_connection import Neo4jConnection

EVENT_SECONDS = 5.0
"""How long an event is tried to be added while Neo4j does not answer. A copy waits for that, and says nothing meanwhile."""

MOST_SAMPLES = 100
"""Of a copy's progress, however long it takes: one each time it has come a hundredth further."""

SAMPLE_SECONDS = 1.0
"""And not more often than that."""


class Recorder:
    """Adds to one collection's journal; never raises.

    Args:
        journal: Where.
        settings: By which configuration it is done.
        note: Told when the journal cannot be written.
    """

    def __init__(self, journal: Journal, settings: Settings, note: Callable[[str], None]) -> None:
        self._journal = journal
        self._by = {"run": RUN, "config": digest(settings)}
        self._note = note
        self._may_write = True

    def record(self, kind: EventKind, text: str, data: Mapping[str, Any]) -> None:
        """Add an event. Where this user may not, that is said once, and nothing is tried again."""
        if not self._may_write:
            return
        try:
            self._journal.record(kind, text, {**self._by, **data})
        except SegueError as fault:
            self._may_write = isinstance(fault, RetryableError)
            self._note(f"not in the journal: {text} ({fault.message})")

    def predicted(self) -> Mapping[str, Any] | None:
        """Return what the last preflight predicted of the copy; None where it predicted nothing, or nobody can be asked."""
        try:
            events = self._journal.events()
        except SegueError:
            return None
        found = [event.data.get("prediction") for event in events if event.kind is EventKind.PREFLIGHT]
        return next((one for one in reversed(found) if one), None)


def recorder(
    connection: Neo4jConnection, settings: Settings, collection: CollectionSettings, note: Callable[[str], None]
) -> Recorder:
    """Return what adds to the journal of a collection."""
    from segue.stores.neo4j_journal import Neo4jJournal

    return Recorder(Neo4jJournal(connection, collection.name), settings, note)


@contextmanager
def open_recorder(settings: Settings, collection: CollectionSettings, note: Callable[[str], None]) -> Iterator[Recorder]:
    """Give what adds to the journal by a connection of its own, which is patient only for `EVENT_SECONDS`."""
    from segue import bootstrap  # it uses this module too

    with bootstrap.open_neo4j(settings, most_connect_seconds=EVENT_SECONDS, retry_seconds=EVENT_SECONDS) as connection:
        yield recorder(connection, settings, collection, note)


def record(
    settings: Settings,
    collection: CollectionSettings,
    kind: EventKind,
    text: str,
    data: Mapping[str, Any],
    note: Callable[[str], None],
) -> None:
    """Connect to Neo4j for one event, and add it; never raises."""
    with open_recorder(settings, collection, note) as journal:
        journal.record(kind, text, data)


def copy_ended(recorder: Recorder, outcome: Outcome) -> None:
    """Add how a copy came out; a command that found nothing to do leaves no event."""
    if not outcome.ran:
        return
    counts = outcome.counts
    state = "complete" if outcome.complete else "interrupted"
    text = f"copy {state}: {counts.migrated:,} of {counts.source:,} items migrated, {counts.quarantined:,} quarantined"
    predicted = recorder.predicted() if outcome.complete else None
    if predicted:
        text = f"{text}; predicted {span(predicted)}, took {outcome.run.seconds:.1f} s"
    data = {
        "state": state,
        **counts.as_dict(),
        "reasons": dict(outcome.reasons),
        "migrated_now": outcome.migrated_now,
        "copy_seconds": round(outcome.copy_seconds, 3),
        "seconds": round(outcome.run.seconds, 3),
        "predicted": predicted,
        "target": outcome.run.target.split("#")[0],
        "target_rows": outcome.target_rows,
        "static": outcome.static,
        "notes": list(outcome.notes),
    }
    recorder.record(EventKind.COPY, text, data)


def span(predicted: Mapping[str, Any]) -> str:
    """Return a prediction in words."""
    return f"{predicted['seconds']:.1f} s ({predicted['low']:.1f} to {predicted['high']:.1f})"


def copy_failed(recorder: Recorder, fault: SegueError) -> None:
    """Add that a copy stopped, and why."""
    state = "interrupted" if isinstance(fault, Interrupted) else "failed"
    recorder.record(EventKind.COPY, f"copy {state}: {fault.message}", {"state": state})


class Sampled:
    """Writes into the journal how far a copy has come, now and then, and passes everything on to whoever shows it.

    Usable from several threads.

    Args:
        shown: Who shows it.
        recorder: The journal.
        how: How the copy is made, for the event of its beginning.
    """

    def __init__(self, shown: Progress, recorder: Recorder, how: Mapping[str, Any]) -> None:
        self._shown = shown
        self._recorder = recorder
        self._how = how
        self._mutex = threading.Lock()
        self._source = self._migrated = self._quarantined = 0
        self._sampled = 0
        self._sampled_at = 0.0
        self.working = shown.working
        self.note = shown.note

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        with self._mutex:
            self._source, self._migrated, self._quarantined = counts.source, counts.migrated, counts.quarantined
            self._sampled, self._sampled_at = counts.migrated + counts.quarantined, time.monotonic()
        words = "resumed" if resumed else "planned"
        text = f"copy {words}: {counts.source:,} items in {ranges:,} ranges, {counts.pending:,} to go"
        self._recorder.record(EventKind.COPY, text, {"state": words, "ranges": ranges, **self._how, **counts.as_dict()})
        self._shown.planned(counts, ranges, resumed=resumed)

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""
        with self._mutex:
            self._migrated += migrated
            self._quarantined += quarantined
            done = self._migrated + self._quarantined
            now = time.monotonic()
            is_due = (done - self._sampled) * MOST_SAMPLES >= max(
                self._source, done
            ) and now - self._sampled_at >= SAMPLE_SECONDS
            if is_due:
                self._sampled, self._sampled_at = done, now
            counts = Counts(max(self._source, done), self._migrated, self._quarantined)
        if is_due:
            text = f"copy under way: {counts.migrated:,} of {counts.source:,} items"
            self._recorder.record(EventKind.COPY, text, {"state": "progress", **counts.as_dict()})
        self._shown.batch(worker, range_number, migrated, quarantined)

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""
        self._shown.indexing(progress)
