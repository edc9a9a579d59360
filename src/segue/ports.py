"""The interfaces between what Segue does and where it does it; they import only values.

A store, a state or a terminal implements these; a phase uses nothing else. One contract suite a port runs the same on the
memory implementation and on the real one (tests/contract).
"""

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
        types: For each carried property the distinct value types seen, in Neo4j's words, "NULL" where it is missing.
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


class Workers(Protocol):
    """Where ranges are worked on: threads here, other machines one day."""

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


@dataclass(frozen=True, slots=True)
class VectorIndexFound:
    """A vector index of the source.

    Attributes:
        name: The index's name.
        entity: NODE or RELATIONSHIP.
        labels: The labels (or relationship types) it covers.
        properties: The vector property first, then what else it indexes.
        dimension: None where the index takes any (Neo4j 5.23 and newer).
        metric: The similarity function's name, in lower case.
        state: ONLINE, POPULATING or FAILED.
    """

    name: str
    entity: str
    labels: tuple[str, ...]
    properties: tuple[str, ...]
    dimension: int | None
    metric: str
    state: str


@dataclass(frozen=True, slots=True)
class PropertyFound:
    """A property as a sample of nodes has it.

    Attributes:
        name: Its name.
        types: The distinct value types, in Neo4j's words, "NULL" among them when some sampled node lacks it.
    """

    name: str
    types: frozenset[str]


class Catalog(Protocol):
    """What the source says about itself. Reads only."""

    def vector_indexes(self) -> list[VectorIndexFound]:
        """Return every vector index, by name."""
        ...

    def unique_properties(self, label: str) -> list[str]:
        """Return the properties that a uniqueness constraint of their own guards on a label, by name."""
        ...

    def properties(self, label: str, sample: int) -> list[PropertyFound]:
        """Return the properties of the first `sample` nodes of a label, by name."""
        ...

    def dimensions(self, label: str, vector: str, sample: int) -> Mapping[int, int]:
        """Return how many of the first `sample` nodes have a vector of each length."""
        ...

    def duplicates(self, label: str, key: str, limit: int) -> list[tuple[object, int]]:
        """Return keys that several nodes have, and how many, at most `limit` of them; reads every key."""
        ...


@dataclass(frozen=True, slots=True)
class Looked:
    """Marks and their items as one transaction saw them, the marks locked before anything was read.

    Attributes:
        versions: Each key's token; a key without a mark is missing.
        page: The items there are; a key that is in neither its rows nor its quarantined has no item, and belongs deleted.
    """

    versions: Mapping[Key, str]
    page: Page


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to do, of all partitions.

    Attributes:
        open: Marks a reader must look at.
        dirty: Keys whose sink copy is out of date.
        tainted: Keys for which a late request may still land.
        oldest_seconds: How long the oldest dirty key has waited.
    """

    open: int
    dirty: int
    tainted: int
    oldest_seconds: float


class Marks(Protocol):
    """The marks of one collection, in the source, and what the protocol does with them. Each method is one transaction.

    A mark is written in the transaction of the change it speaks of (`Traffic`), never here; what is done here only makes
    marked keys dirty again or clean. Tokens are fresh at every mark and re-mark and never used twice. All times are the
    source's clock. Usable from several threads.

    Raises (every method):
        RetryableError: Whether it took effect is unknown; doing it again is harmless.
    """

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        """Give every mark of the interval (after, until] a fresh token; return their keys, of deleted items too."""
        ...

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        """Renew the owner's partitions, take free ones and give up surplus ones, so that live owners share evenly.

        Every dirty key of a partition taken over from an owner that did not release it is tainted in the same transaction.
        """
        ...

    def release(self, owner: str) -> None:
        """Give up all partitions; only for an owner that has nothing on its way."""
        ...

    def dirty(self, parts: frozenset[int], limit: int) -> list[Key]:
        """Return dirty keys of the partitions, the longest waiting first."""
        ...

    def look(self, keys: Sequence[Key]) -> Looked:
        """Lock the marks in key order, read their tokens, then read their items."""
        ...

    def acknowledge(self, seen: Mapping[Key, str]) -> int:
        """Record that the sink holds what each key was under the token seen, where it still is that token; return how many."""
        ...

    def taint(self, keys: Sequence[Key], seconds: float) -> None:
        """Note that a request for these keys may still land for that long; they count as tainted until the sweep cured them."""
        ...

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        """Cure taints that have run out with a fresh token; close marks acknowledged longer ago than the window."""
        ...

    def backlog(self) -> Backlog:
        """Return what is left to do."""
        ...


class Capture(Protocol):
    """How marks come to be without the application's help: a trigger in the source, in every writer's transaction."""

    def install(self) -> str:
        """Put it in for one collection, unless it is in; return its token. Idempotent.

        Raises:
            FatalError: The source has no triggers, or does not allow them; the hint says what to set.
        """
        ...

    def token(self) -> str | None:
        """Return what names this installation and no other, None when there is none: between two, changes carry no marks."""
        ...

    def works(self, seconds: float) -> bool:
        """Write canaries until one is marked; false when none is in that time."""
        ...

    def prove(self, seconds: float) -> bool:
        """See that it works, and wait for transactions begun before that; false when it takes longer.

        Proven, every transaction that commits from now on is captured: the barrier a copy may begin behind.
        """
        ...

    def remove(self) -> None:
        """Take it out. Marks stay. Idempotent."""
        ...
