"""What is looked at from outside while others work, or after they did: no interface, only what such looks bring back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.model import AgentKind, Counts, Quarantined
from segue.ports.agent_state import KindCounts, UnknownKeys


@dataclass(frozen=True, slots=True)
class CopySeen:
    """The newest copy of a collection, as its records have it.

    Attributes:
        number: Of the run.
        target: The physical collection.
        begun_at, finished_at: By the clock of the machine that copied; None while it is not finished.
        seconds: Working time over all interruptions, of the stretches that have ended.
        touched_seconds_ago: When the records were written last; long ago for a copy that is at work means that it is not.
        counts: The account.
        reasons: How many rows are quarantined for each reason.
        examples: The first of the quarantined rows.
        ranges, ranges_done, ranges_in_flight: How many there are, are done, and may have batches on their way.
        notes: What the operator was told when the plan was made.
        tool_version: Segue's, that planned it.
    """

    number: int
    target: str
    begun_at: datetime
    finished_at: datetime | None
    seconds: float
    touched_seconds_ago: float
    counts: Counts
    reasons: Mapping[str, int]
    examples: Sequence[Quarantined]
    ranges: int
    ranges_done: int
    ranges_in_flight: int
    notes: Sequence[str]
    tool_version: str


@dataclass(frozen=True, slots=True)
class AgentCopySeen:
    """The newest copy of agent state, as its records have it.

    Attributes:
        copy: What every copy has, in rows.
        kinds: What it came to by kind.
        unknown: Keys that no mapping takes, by shape.
    """

    copy: CopySeen
    kinds: Mapping[AgentKind, KindCounts]
    unknown: Mapping[str, UnknownKeys]
