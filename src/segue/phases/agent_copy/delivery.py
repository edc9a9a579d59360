"""Batches of rows on their way into PostgreSQL and the records: in order, by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Self

from segue.delivery import in_parts
from segue.model import AgentKind, AgentRow, Quarantined
from segue.patience import Patience
from segue.ports import AgentAdvance, AgentCopyState, AgentSink, KindCounts, Progress, Run, UnknownKeys

BATCHES_BETWEEN = 2
"""Batches that are read and wait to be written."""


@dataclass(slots=True)
class Batch:
    """Rows on their way, and what is recorded when they have arrived.

    Attributes:
        range_number: Of which range.
        page: Which reading of which page; a page that is read again is another one.
        rows: The rows.
        quarantined: What cannot go.
        keys, skipped: By kind, how many keys were read and rows left out.
        unknown: Keys that no mapping takes.
        scanned: Keys of the keyspace that are done with it.
        ends: Whether the page ends with it, so that the cursor may move.
        cursor: Where the scan goes on then; None at the end of the range.
    """

    range_number: int
    page: int
    rows: list[AgentRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    keys: Counter[AgentKind] = field(default_factory=Counter)
    skipped: Counter[AgentKind] = field(default_factory=Counter)
    unknown: dict[str, UnknownKeys] = field(default_factory=dict)
    scanned: int = 0
    ends: bool = False
    cursor: str | None = None

    def take_in(self, later: Batch) -> None:
        """Add a page that follows."""
        self.rows += later.rows
        self.quarantined += later.quarantined
        self.keys += later.keys
        self.skipped += later.skipped
        self.unknown = _together(self.unknown, later.unknown)
        self.scanned += later.scanned
        # The number stays the first one's: pieces of that page may have gone ahead, and are counted with it.
        self.ends, self.cursor = later.ends, later.cursor


class Delivery:
    """Batches into PostgreSQL and the records, in order."""

    def __init__(self, sink: AgentSink, state: AgentCopyState, run: Run, patiently: Patience, progress: Progress) -> None:
        self._sink = sink
        self._state = state
        self._run = run
        self._patiently = patiently
        self._progress = progress
        self._page = -1
        self._counts: dict[AgentKind, KindCounts] = {}

    def deliver(self, batch: Batch) -> None:
        """Write a batch; record it, and move the cursor when its page ends with it."""
        if batch.page != self._page:
            self._page, self._counts = batch.page, {}
        refused: list[Quarantined] = []
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for kind, alike in groupby(batch.rows, itemgetter(0)):
            by_kind[kind] += alike
        for kind, rows in by_kind.items():
            written, guilty = in_parts(rows, lambda part: self._patiently(lambda: self._sink.write(part)))
            refused += guilty
            self._add(kind, KindCounts(migrated=len(rows) - len(guilty), written=sum(written)))
        quarantined = batch.quarantined + refused
        if batch.ends:
            for kind in batch.keys.keys() | batch.skipped.keys():
                self._add(kind, KindCounts(keys=batch.keys[kind], skipped=batch.skipped[kind]))
            advance = AgentAdvance(batch.cursor, batch.cursor is None, quarantined, self._counts, batch.unknown)
            self._state.record(self._run, batch.range_number, advance)
            self._page = -1
        elif quarantined:
            self._state.record(self._run, batch.range_number, AgentAdvance(None, False, quarantined, {}, {}))
        self._progress.batch(0, batch.range_number, len(batch.rows) - len(refused), len(quarantined))

    def _add(self, kind: AgentKind, counts: KindCounts) -> None:
        self._counts[kind] = self._counts.get(kind, KindCounts()) + counts


class Writer:
    """A thread that takes batches in order; what fails there is raised here."""

    def __init__(self, deliver: Callable[[Batch], None]) -> None:
        self._deliver = deliver
        self._queue: queue.Queue[Batch | None] = queue.Queue(BATCHES_BETWEEN)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="segue-agent-writer")

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let everything arrive that was put; raise what failed, unless something else is being raised."""
        with suppress(BaseException):
            self.put(None)
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def put(self, batch: Batch | None) -> None:
        """Hand a batch over; waits while enough of them wait already."""
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                self._queue.put(batch, timeout=0.2)
            except queue.Full:
                continue
            return

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                self._deliver(batch)
            except BaseException as fault:  # noqa: BLE001  # raised again by whoever hands over the next one
                self._failure = fault
                return


def _together(one: dict[str, UnknownKeys], other: dict[str, UnknownKeys]) -> dict[str, UnknownKeys]:
    return {
        name: UnknownKeys(
            (one[name].keys if name in one else 0) + (other[name].keys if name in other else 0),
            (one.get(name) or other[name]).example,
        )
        for name in one.keys() | other.keys()
    }
