"""The record of what happened to a collection, beside its items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from segue.model import Event, EventKind


class Journal(Protocol):
    """The events of one collection: added to, never changed. Usable from several threads and machines.

    A change of the mode is recorded by the control node itself, in the transaction that makes it (`MODE`, with `before`,
    `mode`, `epoch`, `reason` and `overridden`).

    Raises (every method):
        RetryableError: The source does not answer.
    """

    def record(self, kind: EventKind, text: str, data: Mapping[str, Any] | None = None) -> None:
        """Add an event with the present moment by the source's clock, user, host and version.

        Not idempotent, except that a repeat after a lost reply adds it once.

        Args:
            kind: What it is about.
            text: What happened, in one sentence.
            data: What JSON can hold; no secret.
        """
        ...

    def events(self) -> list[Event]:
        """Return all events, oldest first."""
        ...
