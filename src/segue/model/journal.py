"""What happened to a collection during its migration, one event at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from segue.model.agent_modes import AgentMode
from segue.model.serving import StorageMode


class EventKind(StrEnum):
    """What an event is about."""

    PREFLIGHT = "preflight"
    CAPTURE = "capture"
    MODE = "mode"
    COPY = "copy"
    RELAY = "relay"
    VALIDATION = "validation"
    ROLLBACK = "rollback"
    CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as the journal holds it.

    Attributes:
        kind: What it is about.
        text: What happened, in one sentence.
        data: The same for programs, and what the sentence leaves out; what JSON can hold, no secret.
        at: When, in seconds since 1970 by the source's clock.
        by: Who, as user@host.
        version: The Segue that did it.
    """

    kind: EventKind
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    by: str = ""
    version: str = ""


def mode_changed(
    before: str | None, mode: StorageMode | AgentMode, epoch: int, reason: str, overridden: Sequence[str]
) -> tuple[str, Mapping[str, Any]]:
    """Return the sentence and the data of a `MODE` event; `before` is whatever the control node said, even if it is no mode."""
    earlier = before or StorageMode.NEO4J_ONLY.value
    passed = f", {', '.join(overridden)} overridden" if overridden else ""
    why = f": {reason}" if reason else ""
    data = {"before": earlier, "mode": mode.value, "epoch": epoch, "reason": reason, "overridden": list(overridden)}
    return f"{earlier} → {mode} at epoch {epoch}{passed}{why}", data
