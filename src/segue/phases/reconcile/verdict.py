"""What a reconcile is given, and what it comes to. Data, and one word for being stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.errors import Interrupted
from segue.model import Control, Depth, Difference, Key, Kind, Layout, SourceSpec, Tally
from segue.ports import ControlNode, Journal, Marks, Sink, SinkSide, Source, SourceSide

MOST_MOVING = 0.01
"""Keys without a verdict, as a share of those with one, beyond which nothing is called clean."""


class Watch(Protocol):
    """Whoever watches a reconcile; called from several threads; must not raise."""

    def range_done(self, compared: int, ranges_left: int) -> None:
        """A range was compared: so many keys in all by now, so many ranges left."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What to compare, and how.

    Attributes:
        collection: The collection's name, under which comparisons are recorded.
        configured: The source as configured.
        spec: The same with the properties' types as the collection has them.
        layout: The collection's layout.
        depth: How much is compared.
        sample_size: Items to draw, where a sample is.
        items_per_range: Items a range has at least, where everything is compared.
        settle_seconds: How long keys that move, or wait for a relay, are waited for in the end.
        tool_version: A comparison of another version is not continued.
    """

    collection: str
    configured: SourceSpec
    spec: SourceSpec
    layout: Layout
    depth: Depth
    sample_size: int
    items_per_range: int
    settle_seconds: float
    tool_version: str


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides, the marks between them, and the control node.

    Attributes:
        source: The items, by the reconcile's way.
        counted: The same source, for its census.
        sink: The rows.
        written: The same sink, for a direct copy.
        journal: Where a verdict is kept for good.
    """

    source: SourceSide
    counted: Source
    sink: SinkSide
    written: Sink
    marks: Marks
    node: ControlNode
    journal: Journal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison came to.

    Attributes:
        complete: Everything that was to be compared was; false when stopped on request.
        items, rows: What each side counts as a whole; a hint beside the comparison.
        tally: The sums over what was compared.
        differing: Every key that differs.
        shown: What the first of them differ in.
        moving: Keys without a verdict: they kept changing, or wait for a relay.
        bound: The share of all items that differs at most, with 95 % confidence; None where all were compared.
        control: The control node as it was in the beginning.
        began_seconds_ago: How long ago the comparison was begun, over interruptions.
        notes: What the operator should know.
        repaired: Keys that differed and are equal now.
    """

    complete: bool
    items: int
    rows: int
    tally: Tally
    differing: Mapping[Key, Kind]
    shown: Sequence[Difference]
    moving: Sequence[Key]
    bound: float | None
    control: Control
    began_seconds_ago: float
    notes: Sequence[str]
    repaired: frozenset[Key] = frozenset()

    @property
    def rate(self) -> float:
        """The share of the compared keys that are equal now; 1 where there was nothing to compare, 0 where all of it moved."""
        compared = self.tally.compared
        if not compared:
            return 0.0 if self.moving else 1.0
        return (self.tally.matched + len(self.repaired)) / compared

    @property
    def clean(self) -> bool:
        """Whether nothing differs, or all that did is repaired; and hardly a key was left without a verdict."""
        return self.tally.differing <= len(self.repaired) and len(self.moving) <= MOST_MOVING * self.tally.compared


def stopped() -> Interrupted:
    """Return the error of a comparison that was asked to stop before its verdict."""
    return Interrupted("interrupted before the verdict", hint="The same command goes on behind the ranges that are recorded.")
