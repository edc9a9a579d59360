"""The values of an application's traffic: storage modes, items written, hits found, the control node, who is registered.

Knows no store. What a mode means for a write and for a search is said here once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from segue.model.comparing import Depth
from segue.model.items import Key, Page
from segue.model.shadowing import Observed


class StorageMode(StrEnum):
    """Where vectors live for an application, in the order of the migration."""

    NEO4J_ONLY = "neo4j_only"
    DUAL_WRITE = "dual_write"
    SHADOW_MILVUS = "shadow_milvus"
    HYBRID = "hybrid"

    @property
    def rank(self) -> int:
        """Its place in the order, from 0."""
        return list(StorageMode).index(self)

    @property
    def marks(self) -> bool:
        """Whether a write leaves a mark."""
        return self is not StorageMode.NEO4J_ONLY

    @property
    def reads_milvus(self) -> bool:
        """Whether a vector search is answered by Milvus, behind the read fence."""
        return self.rank >= StorageMode.SHADOW_MILVUS.rank


class StoreName(StrEnum):
    """Who answered."""

    NEO4J = "neo4j"
    MILVUS = "milvus"


class Fallback(StrEnum):
    """Why Neo4j answers a search that Milvus should have answered."""

    MODE_CHANGED = "mode_changed"
    NOT_CONNECTED = "not_connected"
    BREAKER_OPEN = "breaker_open"
    MILVUS_FAILED = "milvus_failed"
    TOO_MANY_OPEN = "too_many_open"
    PAGE_USED_UP = "page_used_up"


class Freshness(StrEnum):
    """How new what a search finds must be.

    STRICT: no older than the last write that was committed before the search began.
    BOUNDED: older than that by a stated time at most; the marks are kept in memory meanwhile.
    """

    STRICT = "strict"
    BOUNDED = "bounded"


@dataclass(frozen=True, slots=True)
class Item:
    """One item as an application writes it.

    Attributes:
        key: Its business id.
        vector: As many finite numbers as the index has dimensions; stored in Neo4j as given, in Milvus as float32.
        properties: Properties to set; those not named keep their values, None removes one.
    """

    key: Key
    vector: Sequence[float] | NDArray[Any]
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found.

    Attributes:
        key: Its business id.
        score: On Neo4j's scale whoever answered: (1 + cosine) / 2, or 1 / (1 + squared distance); larger is nearer.
        properties: The carried properties it has; dates and times as ISO 8601 text, points and bytes as in Milvus's JSON.
        store: Where this hit was read from; in an answer of Milvus, items written a moment ago come from Neo4j.
    """

    key: Key
    score: float
    properties: Mapping[str, Any]
    store: StoreName


class Operator(StrEnum):
    """How a filter compares a property with a value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    IN = "in"
    CONTAINS = "contains"


Scalar = str | int | float | bool
"""What a filter compares with."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter. A property that is missing, or of another kind than the value, meets none, also not `!=`.

    Attributes:
        property: A carried property, or the key's property.
        operator: How it is compared; CONTAINS looks for the value in a list.
        value: One value; several for IN.
    """

    property: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


Filter = tuple[Condition, ...]
"""Conditions that must all hold; none lets everything through."""


@dataclass(frozen=True, slots=True)
class FenceTimes:
    """The times of the read fence, one set for all readers and relays of a collection, in seconds.

    Attributes:
        visible: How long after its acknowledgement a write may stay invisible to a search (Δ); Milvus's Bounded level
            promises about 5 s.
        fence: The longest time from sending a search to Milvus until the open marks are there (D_F); later ones are not used.
        slack: For what clocks and schedulers add.
    """

    visible: float = 5.0
    fence: float = 1.0
    slack: float = 0.5

    @property
    def window(self) -> float:
        """How long a mark stays open after its acknowledgement (U)."""
        return self.visible + self.fence + self.slack


@dataclass(frozen=True, slots=True)
class Validated:
    """What comparing both sides came to last.

    Attributes:
        epoch: The epoch that it was begun in.
        depth: How much was compared.
        clean: Nothing differs, or what did was repaired.
        rate: The share of the compared keys that are equal, the repaired ones among them.
        digest, sink_digest: Of everything compared, as each side has it; equal when all of it is.
        seconds_ago: How long ago it was begun, by the source's clock.
    """

    epoch: int
    depth: Depth
    clean: bool
    rate: float
    digest: str
    sink_digest: str
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What checking the searches of both sides against exact scores came to last.

    Attributes:
        epoch: The epoch that it was begun in.
        good: Milvus found enough, without a filter and under each.
        recall: The mean share of the truly nearest that Milvus found, where it found the least.
        neo4j_recall: What Neo4j found there.
        least: What was wanted of Milvus.
        seconds_ago: How long ago it was begun, by the source's clock.
    """

    epoch: int
    good: bool
    recall: float
    neo4j_recall: float
    least: float
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Preflighted:
    """What the last preflight came to.

    Attributes:
        passed: Whether it found everything that a migration needs.
        warnings: How many of its checks warned.
        seconds_ago: How long ago that was, by the source's clock.
    """

    passed: bool
    warnings: int
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Control:
    """The control node of a collection: what every instance acts by. Equal when it says the same, whenever it was looked at.

    Attributes:
        mode: The storage mode.
        epoch: Grows by one with every change; 0 when there is no control node yet.
        times: The fence's times.
        capture: What names the unbroken time in which every change leaves a mark (of the trigger or of the library);
            None when changes may go unmarked.
        copied: The capture under which a copy was completed; "static" for one whose operator states that nobody wrote.
        copied_seconds_ago: How long ago that was, by the source's clock; None when no copy is complete.
        changed_seconds_ago: How long ago the mode was changed last, by the source's clock; None when it never was.
        reason: Why the mode was changed last, in words.
        validated: What comparing both sides came to last; None when they never were.
        searched: What checking their searches came to last; None when that never was.
        preflight: What the last preflight came to; None when none is noted.
    """

    mode: StorageMode = StorageMode.NEO4J_ONLY
    epoch: int = 0
    times: FenceTimes = field(default_factory=FenceTimes)
    capture: str | None = None
    copied: str | None = None
    copied_seconds_ago: float | None = field(default=None, compare=False)
    changed_seconds_ago: float | None = field(default=None, compare=False)
    reason: str = ""
    validated: Validated | None = field(default=None, compare=False)
    searched: Searched | None = field(default=None, compare=False)
    preflight: Preflighted | None = field(default=None, compare=False)


STATIC = "static"
"""`Control.copied` of a copy made while nobody wrote, as its operator states."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of an application, as registered.

    Attributes:
        name: Unlike any other's, also of an earlier life of the same process.
        host: Where it runs.
        own: Its own mode, None for "as the control node says".
        epoch: The newest epoch that it acts in, with nothing of an older one in hand.
        observed: What it has seen of Milvus since the epoch began that `observed_epoch` names.
    """

    name: str
    host: str
    own: StorageMode | None
    epoch: int
    observed_epoch: int = field(default=0, compare=False)
    observed: Observed = field(default_factory=Observed, compare=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """What the read fence saw, in one query.

    Attributes:
        control: The control node as it was.
        marks: Of every open mark its key and its token; empty when there are too many.
        dirty: The keys of those whose token the sink has not acknowledged: what is read with such a mark may be older than
            its token.
        page: The items of the marks that are not acknowledged, each read no earlier than its mark. A key that is in
            neither its rows nor its quarantined has no item. No cursor, exhausted.
        too_many: There are more open marks than wanted, so none of them is given.
    """

    control: Control
    marks: Mapping[Key, str]
    dirty: AbstractSet[Key]
    page: Page
    too_many: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A write that is committed.

    Attributes:
        marked: Whether it left marks; without, nobody tells Milvus.
        before: For each key, the token that was acknowledged last when the write was made.
    """

    marked: bool
    before: Mapping[Key, str]
