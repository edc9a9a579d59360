"""What a copy stands on: the source it reads, the sink it writes, the records it resumes from, the workers it runs on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.model import Counts, Key, KeyType, Layout, Page, Quarantined, Range, Rows, SourceSpec


@dataclass(frozen=True, slots=True)
class Census:
    """One pass over the label, made by the source itself.

    Attributes:
        total: Nodes under the label: the items and what can only be quarantined.
        embedded: Of these, nodes that have the vector property at all.
        strings, integers: How many keys are of each type.
        types: For each carried property the distinct value types seen, in Neo4j's words, "NULL" where it is missing
            from a node that has a key.
        key_indexed: Whether an index serves ranges over the key.
        key_unique: Whether a uniqueness constraint guards the key.
    """

    total: int
    embedded: int
    strings: int
    integers: int
    types: Mapping[str, frozenset[str]]
    key_indexed: bool
    key_unique: bool

    def keyed(self, key_type: KeyType) -> int:
        """Return how many nodes have a key of that type."""
        return self.strings if key_type is KeyType.STRING else self.integers


class Source(Protocol):
    """Where items are read from. Never writes. Usable from several threads."""

    def identity(self) -> str:
        """Return what makes this database this one and no other, for as long as it exists."""
        ...

    def census(self, spec: SourceSpec) -> Census:
        """Count the label's nodes and the types of their keys and carried properties."""
        ...

    def plan(self, spec: SourceSpec, items_per_range: int, census: Census) -> list[Range]:
        """Cut the keys into half-open ranges, in order, that cover every possible key.

        The last range is unbounded above, so that keys written later fall into one; a range with `keyed=False` is added
        when some nodes have no usable key.
        """
        ...

    def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
        """Read the next page of a range, in key order, beginning behind `after`.

        A page holds at most `limit` nodes, more only where several nodes share its last key. Reading again with the same
        arguments gives the same page while nobody writes.

        Raises:
            RetryableError: Nothing was lost; call again.
        """
        ...

    def missing(self, spec: SourceSpec, keys: Sequence[Key]) -> list[Key]:
        """Return those of some keys that have no item.

        Raises:
            RetryableError: Nothing was lost; call again.
        """
        ...


class Ack(Protocol):
    """A write on its way."""

    def result(self) -> None:
        """Wait until the sink has acknowledged all rows.

        Raises:
            RetryableError: Not acknowledged; the rows may or may not be there. Upserting again is safe.
            DataError: The sink refuses at least one of the rows; none may be counted.
        """
        ...


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far an index has come.

    Attributes:
        indexed: Rows indexed so far.
        total: Rows to index, as the sink counts them.
        done: Whether searches use the whole index.
    """

    indexed: int
    total: int
    done: bool


class Sink(Protocol):
    """Where rows are written to. Usable from several threads."""

    def field_names(self, name: str) -> frozenset[str] | None:
        """Return the names of the fields that the collection of that name or alias has, None where there is none."""
        ...

    def find(self, layout: Layout) -> str | None:
        """Return the identity of the collection that `layout.name` leads to, None where there is none.

        Raises:
            CollectionMismatch: It exists with another schema; the message lists the differences.
        """
        ...

    def create(self, layout: Layout) -> str:
        """Create what is missing of the physical collection and its alias; return the identity. Idempotent."""
        ...

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
        """Send rows with distinct keys; each replaces whatever the sink holds under its key. Returns at once."""
        ...

    def delete(self, layout: Layout, keys: Sequence[Key]) -> Ack:
        """Remove the rows under these keys; keys without a row are no error. Returns at once."""
        ...

    def index(self, layout: Layout) -> None:
        """Begin to build the vector index over all rows, unless there is one. Idempotent."""
        ...

    def index_progress(self, layout: Layout) -> IndexProgress:
        """Return how far the vector index has come."""
        ...

    def load(self, layout: Layout) -> None:
        """Make the collection searchable; returns when it is. Idempotent."""
        ...

    def keys(self, layout: Layout, after: Key | None, limit: int) -> list[Key]:
        """Return keys of rows that Segue wrote, the next behind a key in order, `limit` at most; none at the end.

        With everything acknowledged visible; needs a loaded collection.
        """
        ...

    def count(self, layout: Layout) -> int:
        """Return the number of rows, counted by the sink with everything acknowledged visible. A hint, not a proof."""
        ...


@dataclass(frozen=True, slots=True)
class RangeProgress:
    """A range and how far it has come.

    Attributes:
        range: The range as planned.
        cursor: The last key acknowledged by the sink, None at the beginning.
        migrated: Rows acknowledged.
        quarantined: Rows recorded as unable to go.
        done: The source has nothing behind the cursor.
    """

    range: Range
    cursor: Key | None
    migrated: int
    quarantined: int
    done: bool

    @property
    def source(self) -> int:
        """Items in the range: as planned while it is open, as seen once it is done or has outgrown its plan."""
        seen = self.migrated + self.quarantined
        return seen if self.done else max(self.range.planned, seen)


def total(ranges: Sequence[RangeProgress]) -> Counts:
    """Return the account over all ranges; of keys in Redis, what is pending is an estimate."""
    return Counts(
        sum(one.source for one in ranges),
        sum(one.migrated for one in ranges),
        sum(one.quarantined for one in ranges),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One copy of one collection, from its plan to its index, over as many interruptions as it takes."""

    number: int
    target: str
    seconds: float
    finished: bool
    notes: tuple[str, ...]


class Progress(Protocol):
    """Whoever watches a copy: a terminal, plain lines, nobody. Called from several threads; must not raise."""

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """The plan is made or taken up again; these are the counts at that moment."""
        ...

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """A batch is acknowledged and recorded."""
        ...

    def working(self, worker: int, activity: str) -> None:
        """A worker does something else now."""
        ...

    def indexing(self, progress: IndexProgress) -> None:
        """The index grows."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know, once."""
        ...


class BackfillState(Protocol):
    """The records of copies: what a resume goes on from. One writer process; usable from several threads.

    Everything that `advance` records is recorded together or not at all.
    """

    def latest(self, collection: str) -> Run | None:
        """Return the newest run of a collection."""
        ...

    def conditions(self, run: Run) -> Mapping[str, object]:
        """Return the conditions a run was begun under, as given to `begin`."""
        ...

    def begin(
        self,
        collection: str,
        conditions: Mapping[str, object],
        target: str,
        ranges: Sequence[Range],
        notes: Sequence[str],
    ) -> Run:
        """Record a new run with its plan."""
        ...

    def progress(self, run: Run) -> list[RangeProgress]:
        """Return every range of a run, in order."""
        ...

    def advance(
        self,
        run: Run,
        range_number: int,
        cursor: Key | None,
        migrated: int,
        quarantined: Sequence[Quarantined],
        *,
        done: bool,
        in_flight: bool = False,
    ) -> None:
        """Record an acknowledged batch: the cursor behind it, how many rows went, which ones cannot.

        `in_flight` says whether other batches of the range are still on their way.
        """
        ...

    def sending(self, run: Run, range_number: int) -> None:
        """Record that batches of a range may be on their way from now on, until `advance` says that none is."""
        ...

    def in_flight(self, run: Run) -> bool:
        """Return whether something that was sent in this run may still be on its way."""
        ...

    def spent(self, run: Run, seconds: float) -> None:
        """Add working time to a run."""
        ...

    def finish(self, run: Run) -> None:
        """Record that a run is complete: every range done, the index built."""
        ...

    def quarantine(self, run: Run, limit: int | None = None) -> list[Quarantined]:
        """Return the rows that could not go, in order of range and key; all unless limited."""
        ...

    def reasons(self, run: Run) -> Mapping[str, int]:
        """Return how many rows are quarantined for each reason."""
        ...


@dataclass(frozen=True, slots=True)
class Landed:
    """A batch that the sink has acknowledged.

    Attributes:
        range_number: The range it is of.
        cursor: Its last key, None when it held none.
        migrated: How many rows went, those included that are the relay's to make equal.
        marked: How many of these they are.
        quarantined: Which rows cannot go.
        done: Whether the range has come to its end.
        in_flight: Whether other batches of the range are still on their way.
    """

    range_number: int
    cursor: Key | None
    migrated: int
    marked: int
    quarantined: Sequence[Quarantined]
    done: bool
    in_flight: bool


class Records(Protocol):
    """What a worker tells of the range it copies. Called by one thread a worker."""

    def sending(self, range_number: int) -> None:
        """Batches of a range may be on their way from now on. Recorded on return."""
        ...

    def landed(self, worker: int, batch: Landed) -> None:
        """A batch is acknowledged. Recorded on return."""
        ...

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""
        ...

    def note(self, text: str) -> None:
        """See `Progress`."""
        ...


class Copier(Protocol):
    """Copies ranges, here or elsewhere. Usable from several threads."""

    def copy(self, worker: int, todo: RangeProgress, records: Records) -> None:
        """Copy a range from its cursor to its end, or until asked to stop; everything sent has landed on return.

        Raises:
            SegueError: A store failed for longer than patience lasts, or whoever copies is gone.
        """
        ...


class Workers(Protocol):
    """Several ranges worked on at the same time."""

    def run(self, work: Callable[[int, RangeProgress], None], ranges: Sequence[RangeProgress], stop: threading.Event) -> None:
        """Work on every range, each once, several at a time; return when all are done or `stop` is set.

        Args:
            work: Called with the worker's number and a range.
            ranges: What to work on, in order.
            stop: Asks workers to finish what they have in hand; set by `run` itself when one fails.

        Raises:
            Exception: The first one that `work` raised, after the other workers have come to rest.
        """
        ...
