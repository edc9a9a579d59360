"""Both sides as the reconcile reads them, by other ways than the copy's, and the records it resumes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from segue.model import Difference, Key, Kind, Page, Range, Rows, Tally


@dataclass(frozen=True, slots=True)
class Stratum:
    """An interval of keys and what was drawn from it.

    Attributes:
        items: How many keyed nodes it has.
        drawn: Keys of some of them, each node with the same chance.
    """

    items: int
    drawn: Sequence[Key]


class SourceSide(Protocol):
    """The items, enumerated by a pass over their label, without the index over the key that the copy goes along.

    Never writes; always the newest committed state. Usable from several threads.

    Raises (every method):
        RetryableError: Nothing was lost; call again.
    """

    def draw(self, bounds: Sequence[Key], share: float) -> list[Stratum]:
        """Draw each item with the same probability, by strata: keys up to the first bound, up to the second, …, the rest.

        Bounds are in order. One pass over the label.
        """
        ...

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """Return the key of every item in (after, until], in no order, once for each node. One pass over the label."""
        ...

    def items(self, keys: Sequence[Key]) -> Page:
        """Return the items under these keys as they are now; no cursor, exhausted."""
        ...


class Reading(Protocol):
    """Rows on their way from the sink."""

    def result(self) -> tuple[Rows, Mapping[Key, int]]:
        """Wait for the rows there are, each key once, in no order; and for the keys that have several, with how many.

        Raises:
            RetryableError: They did not come; ask again.
        """
        ...


class Listing(Protocol):
    """Keys on their way from the sink."""

    def result(self) -> list[Key]:
        """Wait for the keys.

        Raises:
            RetryableError: They did not come; ask again.
        """
        ...


class Counting(Protocol):
    """A number on its way from the sink."""

    def result(self) -> int:
        """Wait for the number.

        Raises:
            RetryableError: It did not come; ask again.
        """
        ...


class SinkSide(Protocol):
    """The rows, as everything acknowledged has left them (Milvus's Strong level). Usable from several threads.

    Raises (every method):
        RetryableError: Nothing was lost; call again.
    """

    def rows(self, keys: Sequence[Key], *, whole: bool) -> Reading:
        """Ask for the rows under these keys; returns at once.

        `whole`: every field but the token. Otherwise the hash of the row's content only, and vectors of shape (rows, 0).
        """
        ...

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """Return the keys of every row in (after, until], each once, in order."""
        ...

    def behind(self, places: Sequence[Key | None], limit: int) -> Listing:
        """Ask for the next keys of rows behind each of these keys (None: the first), in order, `limit` at most for each."""
        ...

    def count(self) -> Counting:
        """Ask how many rows there are in all, those counted that share a key; returns at once."""
        ...


@dataclass(frozen=True, slots=True)
class RangeCompared:
    """What comparing a range came to.

    Attributes:
        tally: Its sums.
        differing: Every key that differs.
        shown: What some of them differ in.
        moving: Keys that changed while they were looked at; without a verdict yet.
    """

    tally: Tally
    differing: Mapping[Key, Kind]
    shown: Sequence[Difference]
    moving: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of all of a collection, over as many interruptions as it takes.

    Attributes:
        number: Its number.
        began_seconds_ago: How long ago it was begun, by this machine's clock.
        finished: Every range has been compared and a verdict was given.
    """

    number: int
    began_seconds_ago: float = field(compare=False)
    finished: bool


class ReconcileState(Protocol):
    """The records of comparisons: what a resume goes on from. One writer process; usable from several threads."""

    def latest_comparison(self, collection: str) -> Comparison | None:
        """Return the newest comparison of a collection."""
        ...

    def comparison_conditions(self, comparison: Comparison) -> Mapping[str, object]:
        """Return the conditions a comparison was begun under, as given to `begin_comparison`."""
        ...

    def begin_comparison(self, collection: str, conditions: Mapping[str, object], ranges: Sequence[Range]) -> Comparison:
        """Record a new comparison with its ranges; older ones of the collection are forgotten."""
        ...

    def to_compare(self, comparison: Comparison) -> list[Range]:
        """Return the ranges that are not compared yet, in order."""
        ...

    def compared(self, comparison: Comparison, range_number: int, found: RangeCompared) -> None:
        """Record what comparing a range came to, all of it or nothing."""
        ...

    def found(self, comparison: Comparison) -> RangeCompared:
        """Return everything recorded, over all ranges."""
        ...

    def finish_comparison(self, comparison: Comparison) -> None:
        """Record that a verdict was given."""
        ...
