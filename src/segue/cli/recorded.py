"""What the journal holds, as tables for people and as plain values for programs; whatever was migrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from segue.chronicle import Override, Proof, Stretch, moment
from segue.cli.output import Listing
from segue.model import Event

_WORDS = {True: "yes", False: "no", None: "not yet"}


def clock(at: datetime) -> str:
    """Return a moment as tables show it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def proven(proofs: Sequence[Proof]) -> Listing:
    """Return what was to be shown, and whether it was."""
    rows = [(one.what, _WORDS[one.holds], one.evidence) for one in proofs]
    return Listing("What was proven", ("what", "shown", "by"), rows)


def remaining(left: Sequence[str]) -> Listing:
    """Return what is left to do."""
    return Listing("What is left", ("what",), [(one,) for one in left] or [("nothing",)])


def modes(stretches: Sequence[Stretch]) -> Listing:
    """Return the modes in order of time."""
    rows = [
        (one.mode.value, str(one.epoch), clock(one.start), "now" if one.is_present else clock(one.end), one.reason)
        for one in stretches
    ]
    return Listing("Modes", ("mode", "epoch", "from", "until", "why"), rows)


def overridden(overrides: Sequence[Override]) -> Listing:
    """Return the gates that were let pass."""
    rows = [(one.gate, one.mode.value, clock(one.at), one.by, one.reason) for one in overrides]
    return Listing("Overridden gates", ("gate", "before", "when", "by", "why"), rows or [("none", "", "", "", "")])


def done(events: Sequence[Event]) -> Listing:
    """Return everything that was recorded."""
    rows = [(clock(moment(one)), one.text, one.by, one.version) for one in events]
    return Listing("What was done", ("when", "what", "by", "segue"), rows)


def quarantined(reasons: Mapping[str, int], unit: str) -> Listing:
    """Return how many cannot go, and why."""
    return Listing("Quarantined", ("reason", unit), [(reason, f"{number:,}") for reason, number in reasons.items()])


def history(stretches: Sequence[Stretch], overrides: Sequence[Override], events: Sequence[Event]) -> dict[str, Any]:
    """Return modes, overridden gates and events for programs."""
    return {
        "modes": [
            {
                "mode": one.mode.value,
                "epoch": one.epoch,
                "from": one.start.isoformat(),
                "until": None if one.is_present else one.end.isoformat(),
                "seconds": round((one.end - one.start).total_seconds(), 3),
                "reason": one.reason,
            }
            for one in stretches
        ],
        "overrides": [
            {"gate": one.gate, "mode": one.mode.value, "at": one.at.isoformat(), "by": one.by, "reason": one.reason}
            for one in overrides
        ],
        "events": [event_data(one) for one in events],
    }


def event_data(event: Event) -> dict[str, Any]:
    """Return an event for programs."""
    return {
        "at": moment(event).isoformat(),
        "kind": event.kind.value,
        "text": event.text,
        "by": event.by,
        "version": event.version,
        "data": dict(event.data),
    }
