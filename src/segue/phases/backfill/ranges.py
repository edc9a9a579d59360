"""A range of keys, copied batch by batch from its cursor to its end: the one loop that every row goes through."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from segue.delivery import find_guilty
from segue.errors import DataError, RetryableError, Throttled
from segue.model import Encoded, Key, Layout, Page, Quarantined, Range, Rows, SourceSpec
from segue.patience import Patience
from segue.phases.backfill.job import Beside
from segue.pipelines.batch_size import BatchSize
from segue.pipelines.embeddings import Codec
from segue.ports import Ack, Landed, RangeProgress, Records, Sink, Source

IN_FLIGHT = 2
"""Batches a worker has on their way while it reads the next one: enough to overlap, few enough to bound the memory."""


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
