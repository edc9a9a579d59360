"""What a copy is told, and what it tells: its job, what it needs beside writers, what it would do and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segue.errors import Interrupted
from segue.model import Counts, Layout, Quarantined, SourceSpec
from segue.ports import Census, Marks, Run


@dataclass(frozen=True, slots=True)
class Beside:
    """What a copy beside writers needs; without it the source is taken to stand still.

    Attributes:
        capture: The token under which every change is captured; a copy begun under another one is not continued.
        marks: The marks that writers make.
        landing_seconds: How long after sending an unanswered request may still land (Z).
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
    """

    capture: str
    marks: Marks
    landing_seconds: float
    wait: Callable[[float], bool]

    def until_landed(self) -> None:
        """Wait until everything that was sent before now has landed or never will.

        Counted from now, not from the sending, whose moment a stalled process cannot know.

        Raises:
            Interrupted: Somebody asked to stop before that.
        """
        if self.wait(self.landing_seconds):
            message = "stopped while waiting for late requests to land; everything acknowledged is recorded"
            raise Interrupted(message)


@dataclass(frozen=True, slots=True)
class Job:
    """What to copy, and how.

    Attributes:
        collection: The collection's name, under which its runs are recorded.
        spec: The source as configured.
        lay_out: From a spec with the properties' types as found to the collection's layout.
        batch_size: Rows a batch; None adapts between 100 and 5,000.
        items_per_range: Items a range has when it is planned.
        tool_version: A checkpoint of another version is not continued.
        patience_seconds: How long a store may fail to answer before the copy stops, resumable.
        beside: Set when writers go on meanwhile and mark what they change.
        nobody_writes: Set, without `beside`, when the operator states that nobody writes: where the copy is recorded as such.
    """

    collection: str
    spec: SourceSpec
    lay_out: Callable[[SourceSpec], Layout]
    batch_size: int | None
    items_per_range: int
    tool_version: str
    patience_seconds: float = 120.0
    beside: Beside | None = None
    nobody_writes: Marks | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        complete: Every range is done and the index is built; false when stopped on request.
        ran: False when there was nothing left to do.
        counts: The account over all ranges.
        reasons: Quarantined rows by reason.
        target_rows: The sink's own count, None while the copy is not complete, or where the sink cannot count.
        copy_seconds: This command's share of copying, without the index.
        migrated_now: Rows this command migrated.
        static: Nothing captures changes, so nothing that changes behind the copy is carried over.
        notes: What the operator should know.
        run: The record, for the quarantine and the working time over all interruptions.
    """

    complete: bool
    ran: bool
    counts: Counts
    reasons: Mapping[str, int]
    target_rows: int | None
    copy_seconds: float
    migrated_now: int
    static: bool
    notes: Sequence[str]
    layout: Layout
    run: Run


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do, found without changing anything.

    Attributes:
        exists: Whether the collection is there already.
        ranges: How many ranges the plan has.
        sampled: Rows read and encoded for the quarantine preview.
        reasons: Of these, how many would be quarantined, by reason.
        examples: Some of them.
    """

    census: Census
    layout: Layout
    exists: bool
    ranges: int
    sampled: int
    reasons: Mapping[str, int]
    examples: Sequence[Quarantined]
    notes: Sequence[str]
