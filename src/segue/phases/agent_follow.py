"""Keeping PostgreSQL up to date while Redis changes: what is told of at once, everything now and then. See `AgentFollow.run`.

Notifications are lossy, so they only make it quick; what guarantees is the re-scan, which reads every mapped key within a
stated time. Keys are read as a copy reads them, and rows replace older ones only, so reading twice and in any order does no
harm. What Redis has no more stays in PostgreSQL, as with a copy. Memory is bounded. Knows ports only.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.delivery import in_parts
from segue.errors import RetryableError
from segue.model import Quarantined, RedisType
from segue.pipelines.agent_codec import AgentCodec, Decoded, in_groups
from segue.pipelines.agent_elements import Occurrences
from segue.pipelines.agent_sorting import Sorter
from segue.ports import AgentSink, AgentSource, KeyNotices, RedisNode

MOST_TOLD = 100_000
"""Keys that wait to be read because of a notification; further ones wait for the re-scan."""

MOST_STREAMS = 100_000
"""Streams of which it is known how far they were read; others are read from the beginning."""

KEYS_AT_ONCE = 500
KEYS_A_PAGE = 1_000
TICK_SECONDS = 0.1
LINE_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_ROWS_AT_ONCE = 10_000
_OVERLAP_MS = 1_000


@dataclass(slots=True)
class FollowStanding:
    """How following stands.

    Attributes:
        read: Keys that were read because of a notification.
        rescanned: Keys that were read by re-scans.
        written: Rows that were new, or replaced older ones that differed.
        quarantined: Elements that cannot go, counted at every reading.
        passes: Re-scans that are complete.
        overflowed: Notifications that were left to the re-scan.
        waiting: Keys that wait to be read.
        lag_seconds: How long the oldest of them has waited.
        rescan_seconds: How long the last complete re-scan took; what was never told of is found within that and the pause.
    """

    read: int = 0
    rescanned: int = 0
    written: int = 0
    quarantined: int = 0
    passes: int = 0
    overflowed: int = 0
    waiting: int = 0
    lag_seconds: float = 0.0
    rescan_seconds: float = 0.0


class FollowWatch(Protocol):
    """Whoever watches."""

    def standing(self, standing: FollowStanding) -> None:
        """Every few seconds."""
        ...

    def refused(self, row: Quarantined) -> None:
        """An element cannot go."""
        ...

    def note(self, text: str) -> None:
        """Something that the operator may want to know."""
        ...


@dataclass(frozen=True, slots=True)
class FollowJob:
    """What to follow.

    Attributes:
        codecs: One a mapping, in the order in which they count.
        ignore: Globs of keys that are somebody else's.
        rescan_seconds: A re-scan begins so long after the one before began, or when that ends, if it takes longer.
    """

    codecs: Sequence[AgentCodec]
    ignore: Sequence[str]
    rescan_seconds: float


class AgentFollow:
    """One process that follows.

    Args:
        job: What to follow.
        source, sink: Both sides.
        notices: What Redis tells of changed keys, if it does.
        stop: Set when it shall end after what it has in hand.
    """

    def __init__(
        self,
        job: FollowJob,
        source: AgentSource,
        sink: AgentSink,
        notices: KeyNotices,
        watch: FollowWatch,
        stop: threading.Event,
    ) -> None:
        self._job = job
        self._source = source
        self._sink = sink
        self._notices = notices
        self._watch = watch
        self._stop = stop
        self._sorter = Sorter(job.codecs, job.ignore)
        self._told: OrderedDict[tuple[int, bytes], float] = OrderedDict()
        self._streams: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._standing = FollowStanding()

    def run(self) -> FollowStanding:
        """Follow until asked to stop. A store that does not answer is waited for; then everything is read again.

        Raises:
            FatalError: A store refuses.
        """
        told_at = 0.0
        while not self._stop.is_set():
            try:
                for said in self._notices.begin():
                    self._watch.note(said)
                for is_idle in self._rescans():
                    self._take(TICK_SECONDS if is_idle else 0.0)
                    self._read_told()
                    if time.monotonic() - told_at >= LINE_SECONDS:
                        told_at = time.monotonic()
                        self._watch.standing(self._now())
                    if self._stop.is_set():
                        break
            except RetryableError as fault:
                # What was told of meanwhile is lost, and a server may be another one.
                self._watch.note(f"{fault.message}; trying again, then reading everything")
                self._stop.wait(_RETRY_SECONDS)
        self._watch.standing(self._now())
        return self._standing

    def _rescans(self) -> Iterator[bool]:
        """Read a page at each step, for ever; say whether there was none to read, because the next re-scan is not due."""
        while True:
            began = time.monotonic()
            for node in self._source.nodes():
                cursor: str | None = None
                while True:
                    page = self._source.scan(node, cursor, KEYS_A_PAGE)
                    self._standing.rescanned += self._read(node, list(dict.fromkeys(page.keys)), is_told=False)
                    cursor = page.cursor
                    yield False
                    if cursor is None:
                        break
            self._standing.passes += 1
            self._standing.rescan_seconds = time.monotonic() - began
            while time.monotonic() < began + self._job.rescan_seconds:
                yield True

    def _take(self, seconds: float) -> None:
        """Take what is told; of keys that wait already nothing new is learnt."""
        now = time.monotonic()
        for db, key in self._notices.take(seconds):
            if len(self._told) < MOST_TOLD or (db, key) in self._told:
                self._told.setdefault((db, key), now)
            else:
                self._standing.overflowed += 1

    def _read_told(self) -> None:
        if not self._told:
            return
        keys: dict[int, list[bytes]] = {}
        for db, key in list(self._told)[:KEYS_AT_ONCE]:
            keys.setdefault(db, []).append(key)
        for node in self._source.nodes():
            self._standing.read += self._read(node, keys.get(node.db, []), is_told=True)
        for db, some in keys.items():
            for key in some:
                self._told.pop((db, key), None)

    def _read(self, node: RedisNode, keys: Sequence[bytes], *, is_told: bool) -> int:
        """Copy these keys; return how many are mapped. Streams that were read before are read on from there, if told."""
        done = 0
        for place, names in self._sorter.sort(keys, {}).items():
            codec = self._job.codecs[place]
            done += len(names)
            if is_told and codec.mapping.type is RedisType.STREAM:
                for name in names:
                    self._copy(node, codec, [name], self._streams.get((node.db, name)))
            else:
                self._copy(node, codec, names, None)
        return done

    def _copy(self, node: RedisNode, codec: AgentCodec, names: Sequence[bytes], since_ms: int | None) -> None:
        mapping = codec.mapping
        whole = mapping.type is RedisType.HASH and not mapping.is_per_field
        decoded, seen = Decoded(), Occurrences()
        for pieces in in_groups(self._source.read(node, names, mapping.type, whole=whole, since_ms=since_ms)):
            codec.decode(pieces, decoded, seen)
            for piece in pieces:
                if mapping.type is RedisType.STREAM and piece.elements:
                    self._note_stream(node.db, piece.key, int(piece.elements[-1][0].partition(b"-")[0]))
            if len(decoded.rows) >= _ROWS_AT_ONCE:
                self._write(decoded)
                decoded = Decoded()
        self._write(decoded)

    def _note_stream(self, db: int, key: bytes, last_ms: int) -> None:
        self._streams.pop((db, key), None)
        # Read again from a little before: ids that were given by hand may be close together.
        self._streams[db, key] = max(0, last_ms - _OVERLAP_MS)
        if len(self._streams) > MOST_STREAMS:
            self._streams.popitem(last=False)

    def _write(self, decoded: Decoded) -> None:
        written, refused = in_parts(decoded.rows, self._sink.write)
        self._standing.written += sum(written)
        self._standing.quarantined += len(decoded.quarantined) + len(refused)
        for row in (*decoded.quarantined, *refused):
            self._watch.refused(row)

    def _now(self) -> FollowStanding:
        self._standing.waiting = len(self._told)
        oldest = next(iter(self._told.values()), None)
        self._standing.lag_seconds = 0.0 if oldest is None else time.monotonic() - oldest
        return self._standing
