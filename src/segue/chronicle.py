"""What a report is made of, whatever was migrated: stretches of time in a mode, overridden gates, things that were to be shown.

Pure: made of the journal's events. Knows neither embeddings nor agent state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from segue.model import AgentMode, Counts, Event, EventKind, StorageMode

Mode = TypeVar("Mode", StorageMode, AgentMode)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time in one mode.

    Attributes:
        mode: The mode.
        epoch: Its epoch.
        start, end: From when until when; the end of the present one is the moment of the report.
        reason: Why it was begun.
        is_present: Whether it goes on.
    """

    mode: StorageMode | AgentMode
    epoch: int
    start: datetime
    end: datetime
    reason: str
    is_present: bool


@dataclass(frozen=True, slots=True)
class Override:
    """A gate that was closed and let pass.

    Attributes:
        gate: Its name.
        mode: The mode that it stood before.
        at: When.
        by: Who let it pass.
        reason: Why, with what the gate had found.
    """

    gate: str
    mode: StorageMode | AgentMode
    at: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Something that was to be shown.

    Attributes:
        what: What.
        holds: Whether it was shown; None when nobody looked yet.
        evidence: By which words.
    """

    what: str
    holds: bool | None
    evidence: str


def moment(event: Event) -> datetime:
    """Return when an event happened."""
    return datetime.fromtimestamp(event.at, UTC)


def stretches(modes: type[Mode], events: Sequence[Event], now: datetime) -> list[Stretch]:
    """Return the modes in order of time; what was before the first change counts from the first event."""
    changes: list[Event] = of_kind(events, EventKind.MODE)
    if not changes:
        return []
    found = []
    first, begins = moment(events[0]), moment(changes[0])
    if first < begins:
        before = modes(changes[0].data.get("before", next(iter(modes))))
        found.append(Stretch(before, changes[0].data["epoch"] - 1, first, begins, "", is_present=False))
    for change, after in zip(changes, [*changes[1:], None], strict=True):
        end = moment(after) if after else max(now, moment(change))
        reason = str(change.data.get("reason", ""))
        mode, epoch = modes(change.data["mode"]), change.data["epoch"]
        found.append(Stretch(mode, epoch, moment(change), end, reason, is_present=after is None))
    return found


def overrides(modes: type[Mode], events: Sequence[Event]) -> list[Override]:
    """Return the gates that were let pass."""
    return [
        Override(gate, modes(event.data["mode"]), moment(event), event.by, str(event.data.get("reason", "")))
        for event in of_kind(events, EventKind.MODE)
        for gate in event.data.get("overridden", ())
    ]


def of_kind(events: Sequence[Event], kind: EventKind) -> list[Event]:
    """Return the events of a kind, in order of time."""
    return [event for event in events if event.kind is kind]


def accounted(counts: Counts | None, unit: str) -> Proof:
    """Return whether every item or row went or is known to be unable to; `unit` is its name."""
    what = f"every {unit} is accounted for"
    if counts is None:
        return Proof(what, None, "no copy is recorded")
    gone = f"{counts.migrated:,} migrated + {counts.quarantined:,} quarantined + {counts.pending:,} pending"
    return Proof(what, counts.pending == 0, f"{counts.source:,} {unit}s = {gone}")


def ago(seconds: float) -> str:
    """Return a stretch of time in the largest unit of which there are two."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
