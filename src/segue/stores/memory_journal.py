"""The journal in memory, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from segue.model import Event, EventKind


class MemoryJournal:
    """The `Journal` of one collection.

    Args:
        clock: The source's clock, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def record(self, kind: EventKind, text: str, data: Mapping[str, Any] | None = None) -> None:
        """See `Journal`."""
        with self._lock:
            self._events.append(Event(kind, text, dict(data or {}), self._clock(), "somebody@memory", "0"))

    def events(self) -> list[Event]:
        """See `Journal`."""
        with self._lock:
            return list(self._events)
