"""What comparing both sides comes to: differences and the sums over them, and what both find. Knows no store and no rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from segue.model.items import Key

DIGESTS = 2**64
"""Digests of single rows are added up modulo this, so that their order does not matter."""


class Depth(StrEnum):
    """How much of both sides is compared."""

    SAMPLE = "sample"
    FULL = "full"
    QUICK = "quick"

    @property
    def whole(self) -> bool:
        """Whether every field of a row is read, or its content's hash only."""
        return self is not Depth.QUICK


class Kind(StrEnum):
    """In what way a key differs.

    MISSING: an item without a row. ORPHANED: a row without an item. STALE: a row that is not what the item encodes to.
    DUPLICATE: several rows under one key. UNFIT: a row of an item that cannot go, and must have none.
    """

    MISSING = "missing"
    ORPHANED = "orphaned"
    STALE = "stale"
    DUPLICATE = "duplicate"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a key differs.

    Attributes:
        key: Whose.
        kind: In what way.
        field: The field of the row, with the member of a JSON field behind a dot; empty where it is the row as a whole.
        source: What the item has, shortened.
        sink: What the row has, shortened.
    """

    key: Key
    kind: Kind
    field: str
    source: str
    sink: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many keys came to what; every key that is compared counts once.

    Attributes:
        matched: Item and row are equal.
        mismatched: The row is stale, one of several, or of an item that cannot go.
        missing: Items without a row.
        orphaned: Rows without an item.
        duplicates: Of those that differ, keys with several rows.
        quarantined: Items that cannot go, and have no row.
        source_digest, sink_digest: Sums over what was compared on each side; equal when all of it is.
        distance: The largest euclidean distance between an item's vector and its row's.
        cosine: The largest difference of such a pair's cosine from 1.
    """

    matched: int = 0
    mismatched: int = 0
    missing: int = 0
    orphaned: int = 0
    duplicates: int = 0
    quarantined: int = 0
    source_digest: int = 0
    sink_digest: int = 0
    distance: float = 0.0
    cosine: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(
            self.matched + other.matched,
            self.mismatched + other.mismatched,
            self.missing + other.missing,
            self.orphaned + other.orphaned,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            (self.source_digest + other.source_digest) % DIGESTS,
            (self.sink_digest + other.sink_digest) % DIGESTS,
            max(self.distance, other.distance),
            max(self.cosine, other.cosine),
        )

    @property
    def compared(self) -> int:
        """Keys with a verdict."""
        return self.matched + self.differing

    @property
    def differing(self) -> int:
        """Keys that are not equal."""
        return self.mismatched + self.missing + self.orphaned


@dataclass(frozen=True, slots=True)
class Recall:
    """How one store answered one set of questions.

    Attributes:
        judged: Questions with a verdict.
        mean: The mean share of the truly nearest that it found; 1 where there was nothing to find.
        least: The smallest of these shares.
        bound: What the mean over all such questions is at least, with 95 % confidence.
        score_error: The largest difference of a hit's score from the exact one.
        median_seconds, late_seconds: How long an answer took: half of them less, 95 of 100 less.
    """

    judged: int
    mean: float
    least: float
    bound: float
    score_error: float
    median_seconds: float
    late_seconds: float


@dataclass(frozen=True, slots=True)
class Poor:
    """A question of which Milvus missed something.

    Attributes:
        question: Whose vector it was.
        recall: The share it found.
        missed: Keys it should have found.
    """

    question: str
    recall: float
    missed: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of all questions under one filter, or under none.

    Attributes:
        form: The filter as the application writes it; empty for none.
        neo4j, milvus: How each side answered.
        unjudged: Questions that Milvus got no verdict on, because everything it found was being changed.
        empty: Questions to which there was nothing to find.
        poor: Those that Milvus answered worst, where it missed anything.
    """

    form: str
    neo4j: Recall
    milvus: Recall
    unjudged: int
    empty: int
    poor: Sequence[Poor]
