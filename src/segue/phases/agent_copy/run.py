"""A copy of agent state from its plan to its record: ranges, pages, what is read and decoded."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from segue.errors import CursorLost, FatalError, StoreUnavailable, UnsafeResume
from segue.model import TABLES, AgentKind, AgentRow, Origin, Range, RedisType
from segue.patience import Patience
from segue.phases.agent_copy.delivery import Batch, Delivery, Writer
from segue.phases.agent_copy.job import COLLECTION, AgentJob, AgentOutcome, AgentPreview, MappingPreview
from segue.pipelines.agent_codec import AgentCodec, Decoded, in_groups
from segue.pipelines.agent_elements import AGENT_CODEC_VERSION, Occurrences
from segue.pipelines.agent_sorting import Sorter
from segue.pipelines.conditions import differences
from segue.ports import (
    AgentCopyState,
    AgentSink,
    AgentSource,
    Progress,
    RangeProgress,
    ReadPiece,
    RedisNode,
    Run,
    UnknownKeys,
    total,
)

T = TypeVar("T")

_MOST_SCANNED = 100_000
_ELEMENTS_AT_ONCE = 4_000
_PREVIEW_KEYS = 1_000_000
_PREVIEW_READ = 200
_PASSES = 3
_REST_SECONDS = 2.0


class _Stopped(Exception):  # no error
    """Somebody asked to stop in the middle of a large page, which is read again next time."""


class AgentCopy:
    """One copy of all agent state that is mapped.

    Args:
        job: What to copy.
        source: Redis.
        sink: PostgreSQL.
        progress: Who watches.
        stop: Set when the copy shall end after what it has in hand.
    """

    def __init__(self, job: AgentJob, source: AgentSource, sink: AgentSink, progress: Progress, stop: threading.Event) -> None:
        self._job = job
        self._source = source
        self._sink = sink
        self._progress = progress
        self._stop = stop
        self._patiently = Patience(job.patience_seconds, progress, stop, but_not=(CursorLost,))
        self._sorter = Sorter(job.codecs, job.ignore)
        self._nodes: list[RedisNode] = []
        self._readings = 0
        self._held: Batch | None = None

    def preview(self) -> AgentPreview:
        """Say what `run` would do: every key is looked at (a million at most), a few of each mapping are read."""
        unfit = self._sink.unfit()
        nodes = self._source.nodes()
        keys: Counter[int] = Counter()
        chosen: dict[int, list[tuple[RedisNode, bytes]]] = defaultdict(list)
        unknown: dict[str, UnknownKeys] = {}
        scanned = 0
        for node, page in self._pages(nodes):
            scanned += len(page)
            for place, names in self._sorter.sort(page, unknown).items():
                keys[place] += len(names)
                chosen[place] += [(node, name) for name in names[: max(0, _PREVIEW_READ - len(chosen[place]))]]
        mappings, examples = [], []
        for place, codec in enumerate(self._job.codecs):
            decoded = Decoded()
            for node in nodes:
                codec.decode(
                    self._pieces(node, codec, [name for at, name in chosen[place] if at is node]), decoded, Occurrences()
                )
            reasons = Counter(one.reason.value for one in decoded.quarantined)
            examples += decoded.quarantined[:5]
            mapping, read = codec.mapping, len(chosen[place])
            mappings.append(MappingPreview(mapping.key, mapping.kind, keys[place], len(decoded.rows), read, reasons))
        return AgentPreview(nodes, scanned, scanned < _PREVIEW_KEYS, mappings, unknown, examples, unfit)

    def _pages(self, nodes: Sequence[RedisNode]) -> Iterator[tuple[RedisNode, Sequence[bytes]]]:
        scanned = 0
        for node in nodes:
            cursor: str | None = None
            while not self._stop.is_set() and scanned < _PREVIEW_KEYS:
                page = self._source.scan(node, cursor, self._job.keys_per_page)
                yield node, page.keys
                scanned += len(page.keys)
                cursor = page.cursor
                if cursor is None:
                    break

    def run(self, state: AgentCopyState, *, restart: bool = False) -> AgentOutcome:
        """Copy everything that is mapped, or go on where the last run stopped.

        1. Make the tables that are missing; refuse others' of the same names.
        2. Take up the recorded run, or plan one: a range for each node and logical database. A Redis that was restarted, or a
           cluster that moved its slots, is read from the beginning, because its cursors mean nothing any more; while slots
           are being moved it is waited for, because a key may be on either side then, and be seen on neither.
        3. Copy range by range.
        4. Build the indexes; record the run as finished.

        A run that is finished is followed by a new one: what has changed since is copied, what has not costs no write.

        Raises:
            UnsafeResume: An unfinished run was begun under another mapping.
            SegueError: A store failed for longer than the job's patience; everything acknowledged is recorded.
        """
        started, ops = time.monotonic(), self._source.ops
        self._patiently(self._sink.prepare)
        run, resumed = self._begin(state, restart=restart)
        try:
            for _ in range(_PASSES):
                ranges = state.progress(run)
                self._progress.planned(total(ranges), len(ranges), resumed=resumed)
                said = self._copy_ranges(state, run, ranges)
                if said is None:
                    break
                self._progress.note(f"{said}; reading from the beginning, what is there already is not written again")
                run, resumed = self._plan(state, [said]), True
            else:
                message = "Redis was restarted or moved its slots again and again; the copy is not complete"
                raise FatalError(message, hint="Run the same command again when it has come to rest.")
            if not self._stop.is_set():
                self._patiently(self._sink.index)
                state.finish(run)
        finally:
            state.spent(run, time.monotonic() - started)
        return self._outcome(state, run, time.monotonic() - started, self._source.ops - ops)

    def _begin(self, state: AgentCopyState, *, restart: bool) -> tuple[Run, bool]:
        latest = state.latest(COLLECTION)
        self._nodes = self._patiently(self._source.nodes)
        if latest is None or latest.finished or restart:
            return self._plan(state, []), False
        recorded = dict(state.conditions(latest))
        nodes = recorded.pop("nodes")
        changed = differences(recorded, self._conditions())
        if changed:
            listed = "\n".join(f"  {difference}" for difference in changed)
            message = f"the checkpoint of the agent state was made under other conditions:\n{listed}"
            hint = "Go back to those conditions, or copy everything again: --restart (rows are compared, none is doubled)."
            raise UnsafeResume(message, hint=hint)
        if nodes != _placed(self._nodes):
            return self._plan(state, ["Redis was restarted, or is another one; it is read from the beginning"]), False
        return latest, True

    def _plan(self, state: AgentCopyState, notes: Sequence[str]) -> Run:
        self._nodes = self._patiently(lambda: self._at_rest(_REST_SECONDS if notes else 0.0))
        ranges = [Range(number, None, None, node.keys) for number, node in enumerate(self._nodes)]
        return state.begin(COLLECTION, {**self._conditions(), "nodes": _placed(self._nodes)}, "", ranges, notes)

    def _at_rest(self, seconds: float) -> list[RedisNode]:
        """Return the nodes, of a cluster whose slots have been where they are for so long.

        Raises:
            StoreUnavailable: They are being moved.
        """
        before = self._source.nodes()
        if not any(node.slots for node in before):
            return before
        # They are moved one after the other, with moments between in which none is on its way.
        self._stop.wait(seconds)
        nodes = self._source.nodes()
        moving = [f"{node.address} {node.moving}" for node in nodes if node.moving]
        if moving or _placed(before) != _placed(nodes):
            message = f"the cluster is moving slots: {', '.join(moving)[:200] or 'it has just moved one'}"
            hint = "Run the same command again when it has come to rest: redis-cli --cluster check ADDRESS."
            raise StoreUnavailable(message, hint=hint)
        return nodes

    def _conditions(self) -> dict[str, object]:
        job = self._job
        return {
            "tool": {"version": job.tool_version, "codec": AGENT_CODEC_VERSION},
            "mappings": {str(number): dict(one) for number, one in enumerate(job.described)},
            "ignore": list(job.ignore),
            "skip_history": job.skip_history,
            "since": job.since,
        }

    def _copy_ranges(self, state: AgentCopyState, run: Run, ranges: Sequence[RangeProgress]) -> str | None:
        """Copy what is not done; return why everything must be read again, None where it need not."""
        writer = Writer(Delivery(self._sink, state, run, self._patiently, self._progress).deliver)
        try:
            with writer:
                for todo in ranges:
                    if not todo.done and not self._stop.is_set():
                        self._copy_range(writer, self._nodes[todo.range.number], todo)
        except CursorLost as lost:
            return lost.message
        before, self._nodes = _placed(self._nodes), self._patiently(self._source.nodes)
        if not self._stop.is_set() and _placed(self._nodes) != before:
            return "Redis has moved slots, or was restarted, meanwhile"
        return None

    def _copy_range(self, writer: Writer, node: RedisNode, todo: RangeProgress) -> None:
        cursor = None if todo.cursor is None else str(todo.cursor)
        self._held = None
        self._progress.working(0, f"{node.address}, database {node.db}")
        with suppress(_Stopped):
            while not self._stop.is_set():
                behind = cursor

                def read(behind: str | None = behind) -> Batch:
                    return self._page(writer, node, todo.range.number, behind)

                page = self._patiently(read, self._still_there)
                told = f"{self._source.ops:,} keys and pieces read"
                self._progress.working(0, f"{node.address}, database {node.db}: {told}")
                if self._held is None:
                    self._held = page
                else:
                    self._held.take_in(page)
                cursor = page.cursor
                if cursor is None or len(self._held.rows) >= self._job.rows_per_batch or self._held.scanned >= _MOST_SCANNED:
                    self._flush(writer)
                if cursor is None:
                    return
        self._flush(writer)

    def _flush(self, writer: Writer) -> None:
        """Send the pages that are held together."""
        held, self._held = self._held, None
        if held is not None:
            writer.put(held)

    def _page(self, writer: Writer, node: RedisNode, number: int, cursor: str | None) -> Batch:
        """Read one page of keys. Of a large one, much is sent on the way, behind the pages that are held."""
        found = self._source.scan(node, cursor, self._job.keys_per_page)
        self._readings += 1
        batch = Batch(number, self._readings)
        # A page may name a key twice.
        for place, names in self._sorter.sort(dict.fromkeys(found.keys), batch.unknown).items():
            codec = self._job.codecs[place]
            kind = codec.mapping.kind
            if self._job.skip_history and kind is AgentKind.EXPERIENCES:
                batch.skipped[kind] += len(names)
                continue
            batch.keys[kind] += len(names)
            for decoded in self._decoded(node, codec, names):
                batch.rows += self._wanted(decoded.rows, batch)
                batch.quarantined += decoded.quarantined
                if len(batch.rows) + len(batch.quarantined) >= self._job.rows_per_batch:
                    self._flush(writer)
                    writer.put(Batch(number, batch.page, batch.rows, batch.quarantined))
                    batch.rows, batch.quarantined = [], []
        batch.scanned, batch.ends, batch.cursor = len(found.keys), True, found.cursor
        return batch

    def _decoded(self, node: RedisNode, codec: AgentCodec, names: Sequence[bytes]) -> Iterator[Decoded]:
        """Yield what keys come to, some thousand elements at a time."""
        decoded, seen = Decoded(), Occurrences()
        for pieces in in_groups(self._pieces(node, codec, names)):
            codec.decode(pieces, decoded, seen)
            if len(decoded.rows) + len(decoded.quarantined) >= _ELEMENTS_AT_ONCE:
                yield decoded
                decoded = Decoded()
                if self._stop.is_set():
                    raise _Stopped
        yield decoded

    def _pieces(self, node: RedisNode, codec: AgentCodec, names: Sequence[bytes]) -> Iterator[ReadPiece]:
        mapping = codec.mapping
        whole = mapping.type is RedisType.HASH and not mapping.is_per_field
        at = mapping.columns.get("timestamp")
        by_id = self._job.since is not None and at is not None and at.origin is Origin.STREAM_TIME
        since_ms = self._job.since // 1000 if by_id and self._job.since is not None else None
        return self._source.read(node, names, mapping.type, whole=whole, since_ms=since_ms)

    def _wanted(self, rows: list[AgentRow], batch: Batch) -> list[AgentRow]:
        """Leave out experiences that are older than asked for; those without a time stay."""
        since = self._job.since
        if since is None or not rows or rows[0].kind is not AgentKind.EXPERIENCES:
            return rows
        place = TABLES[AgentKind.EXPERIENCES].place("timestamp")
        kept = [row for row in rows if row.values[place] is None or row.values[place] >= since]  # type: ignore[operator]
        batch.skipped[AgentKind.EXPERIENCES] += len(rows) - len(kept)
        return kept

    def _still_there(self) -> None:
        """Look, after a failure, whether the servers are still the ones whose cursors we hold.

        Raises:
            CursorLost: They are not.
        """
        before, now = _placed(self._nodes), self._source.nodes()
        if _placed(now) != before:
            message = "Redis was restarted, moves slots, or another server took over"
            raise CursorLost(message)

    def _outcome(self, state: AgentCopyState, run: Run, seconds: float, ops: int) -> AgentOutcome:
        now = state.latest(COLLECTION) or run
        unknown = state.unknown(now)
        notes = list(now.notes)
        if unknown:
            keys = sum(one.keys for one in unknown.values())
            notes.append(
                f"{keys:,} keys fit no mapping and were left alone; [agentdb] ignore names those that are not agent state"
            )
        return AgentOutcome(
            complete=now.finished,
            counts=total(state.progress(now)),
            kinds=state.kinds(now),
            unknown=unknown,
            reasons=state.reasons(now),
            tables=self._sink.counts() if now.finished else {},
            seconds=seconds,
            ops=ops,
            notes=notes,
            run=now,
        )


def _placed(nodes: Sequence[RedisNode]) -> list[list[object]]:
    return [[node.address, node.db, node.run_id, node.slots, node.moving] for node in nodes]
