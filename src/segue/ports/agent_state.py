"""What moving agent state stands on: Redis as it is read, and the tables as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from segue.model import AgentKind, AgentRow, Quarantined, RedisType
from segue.ports.copying import BackfillState, Run


@dataclass(frozen=True, slots=True)
class RedisNode:
    """One server that holds keys, and one of its logical databases: what is scanned from one cursor to the next.

    Attributes:
        address: Host and port.
        db: The logical database.
        run_id: What a server's cursors are bound to; another one after every restart.
        keys: How many keys it says it has, those included that are due to expire.
        slots: Of a cluster: which slots it serves, and the epoch of that; another text after every move.
        moving: Of a cluster: the slots that are on their way to or from it; meanwhile their keys are on either side.
    """

    address: str
    db: int
    run_id: str
    keys: int
    slots: str = ""
    moving: str = ""


@dataclass(frozen=True, slots=True)
class ScanPage:
    """Keys of a node, in no order; one may come twice, and one that is written meanwhile not at all.

    Attributes:
        keys: The keys.
        cursor: Where the next page begins; None at the end.
    """

    keys: Sequence[bytes]
    cursor: str | None


class ReadPiece(NamedTuple):
    """A key's elements, all of them or the next of many. All bytes.

    Attributes:
        db: The logical database.
        key: The key.
        type: The type that it was read as; where it is of another one, `actual` says which, and there are no elements.
        elements: STRING, JSON, LIST, SET: bytes each. HASH: flat lists [field, value, …]. ZSET: (member, score) each. STREAM:
            (id, flat list) each.
        observed_at: When, in microseconds since 1970, by Redis's clock, in one step with the reading.
        expires_at: When the key expires, in the same way.
        actual: What a key of another type is.
        begins: Whether this is a key's first piece, or its first again because the key changed too much to go on.
        ends: Whether it is its last one.
    """

    db: int
    key: bytes
    type: RedisType
    elements: Sequence[Any]
    observed_at: int
    expires_at: int | None = None
    actual: str | None = None
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What a sampled key is.

    Attributes:
        key: The key.
        db: The logical database.
        type: Its type in Redis's words.
        length: Elements it has, or bytes of a string.
        memory: Bytes it takes, by Redis's own account; None where that may not be asked.
        expires_in: Seconds until it expires; None where it does not.
        examples: A few elements, in the form of `ReadPiece.elements`.
    """

    key: bytes
    db: int
    type: str
    length: int
    memory: int | None
    expires_in: float | None
    examples: Sequence[object]


class AgentSource(Protocol):
    """Redis, only ever read. One thread at a time."""

    def nodes(self) -> list[RedisNode]:
        """Return every node and database that holds keys, as they are now."""
        ...

    def scan(self, node: RedisNode, cursor: str | None, count: int) -> ScanPage:
        """Return the next page of keys.

        Raises:
            RetryableError: Nothing was lost; call again, unless the node's `run_id` has changed: then begin it again.
        """
        ...

    def read(
        self, node: RedisNode, keys: Sequence[bytes], type_: RedisType, *, whole: bool = False, since_ms: int | None = None
    ) -> Iterator[ReadPiece]:
        """Read keys of one type, in pieces of bounded size; a key that is gone yields nothing.

        Args:
            node: Where they are.
            keys: Which.
            type_: What they are taken to be.
            whole: Never in pieces: for hashes that are one row each.
            since_ms: STREAM: begin at that time.

        Raises:
            RetryableError: As `scan`; what was yielded holds.
        """
        ...

    def sample(self, node: RedisNode, keys: Sequence[bytes]) -> list[KeyFacts]:
        """Return what some keys are; those that are gone are left out."""
        ...

    def clock(self) -> int:
        """Return Redis's clock, in microseconds since 1970."""
        ...

    @property
    def ops(self) -> int:
        """How many keys and pieces have been read so far."""
        ...


class AgentSink(Protocol):
    """The tables in PostgreSQL. One thread at a time."""

    def unfit(self) -> list[str]:
        """Return, in words, how existing tables differ from what they must be; nothing where they fit or are not there."""
        ...

    def prepare(self) -> None:
        """Make the tables that are missing. Idempotent; several may call it at once.

        Raises:
            TableMismatch: See `unfit`.
        """
        ...

    def write(self, rows: Sequence[AgentRow], *, touch: bool = False) -> int:
        """Write rows in one transaction; return how many are new or replaced older ones that differ.

        A row replaces the one under its natural key only when it was read from Redis at the same time or later. With `touch` it
        does so, too, when nothing differs, so that whatever was read between the two can no longer land.

        Raises:
            RetryableError: Not acknowledged; the rows may or may not be there. Writing again is safe.
            DataError: At least one of the rows is refused; none was written.
        """
        ...

    def index(self) -> None:
        """Build the indexes for reading, beside writers. Idempotent."""
        ...

    def counts(self) -> Mapping[AgentKind, int]:
        """Return the number of rows by kind."""
        ...


@dataclass(frozen=True, slots=True)
class KindCounts:
    """What of one kind a copy came to.

    Attributes:
        keys: Keys that were read.
        migrated: Rows that PostgreSQL acknowledged, be it by holding them already.
        written: Of these, rows that were new or replaced older ones that differed.
        skipped: What was left out on request: rows older than `--since`, or, of a kind that is left out, keys.
    """

    keys: int = 0
    migrated: int = 0
    written: int = 0
    skipped: int = 0

    def __add__(self, other: KindCounts) -> KindCounts:
        """Return both together."""
        return KindCounts(
            self.keys + other.keys,
            self.migrated + other.migrated,
            self.written + other.written,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class UnknownKeys:
    """Keys of one shape that no mapping takes."""

    keys: int
    example: str


@dataclass(frozen=True, slots=True)
class AgentAdvance:
    """What is recorded together, once PostgreSQL has acknowledged the rows.

    Attributes:
        cursor: Where the scan goes on; None while a page is not finished.
        done: Whether the range is.
        quarantined: What cannot go.
        kinds: The counts to add.
        unknown: The unknown keys to add, by shape.
    """

    cursor: str | None
    done: bool
    quarantined: Sequence[Quarantined]
    kinds: Mapping[AgentKind, KindCounts]
    unknown: Mapping[str, UnknownKeys]


class AgentCopyState(BackfillState, Protocol):
    """The records of copies of agent state: runs and ranges as of any copy, a range being a node's logical database."""

    def record(self, run: Run, range_number: int, advance: AgentAdvance) -> None:
        """Record, all together or not at all. What is quarantined under the same key and element is so once."""
        ...

    def kinds(self, run: Run) -> Mapping[AgentKind, KindCounts]:
        """Return the counts by kind."""
        ...

    def unknown(self, run: Run) -> Mapping[str, UnknownKeys]:
        """Return the keys that no mapping takes, by shape, the most frequent first."""
        ...


@dataclass(frozen=True, slots=True)
class AgentDifference:
    """A row that is not what Redis has.

    Attributes:
        kind: Whose table.
        natural_key: Which row.
        key: The Redis key.
        missing: Whether it is not there at all.
        fields: The columns that differ.
    """

    kind: AgentKind
    natural_key: bytes
    key: str
    missing: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentCompared:
    """What comparing a batch came to.

    Attributes:
        compared: Rows, each natural key once.
        differences: Those that are missing or differ.
        source_digest, sink_digest: Sums over the content hashes of both sides.
    """

    compared: int
    differences: Sequence[AgentDifference]
    source_digest: int
    sink_digest: int


@dataclass(frozen=True, slots=True)
class UnseenRow:
    """A row whose element was not seen in Redis."""

    kind: AgentKind
    natural_key: bytes
    db: int
    key: str


class AgentComparer(AgentSink, Protocol):
    """The tables as they are compared."""

    def compare(self, rows: Sequence[AgentRow], *, remember: bool) -> AgentCompared:
        """Compare rows as Redis makes them with those that are there, value by value.

        Args:
            rows: The rows.
            remember: Whether `unseen` shall know of them.
        """
        ...

    def unseen(self, kind: AgentKind, dbs: Sequence[int]) -> Iterator[list[UnseenRow]]:
        """Yield rows that came from these logical databases and are none of those remembered, page by page."""
        ...

    def delete(self, kind: AgentKind, natural_keys: Sequence[bytes], looked_at: int) -> int:
        """Delete rows, but none that was read from Redis after that time (microseconds since 1970); return how many."""
        ...
