"""How a mode gets to where the application is deployed, for instances that have one of their own."""

from __future__ import annotations

from typing import Protocol

from segue.model import StorageMode


class RolloutWatch(Protocol):
    """Whoever watches a roll-out; must not raise."""

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


class Rollout(Protocol):
    """One place where the deployed mode is written: a file, a ConfigMap, a Deployment."""

    def plan(self, mode: StorageMode) -> list[str]:
        """Return what `apply` would do, in words, with the value there is now; changes nothing.

        Raises:
            SegueError: The place cannot be looked at.
        """
        ...

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        """Write the mode, and wait until it is rolled out; false when it was there already. Idempotent.

        Raises:
            SegueError: It is not rolled out; the message says what holds now.
        """
        ...

    def undo(self, watch: RolloutWatch) -> None:
        """Write what was there before this object's last `apply`; nothing when that changed nothing.

        Raises:
            SegueError: What was there before is not back.
        """
        ...

    def by_hand(self, mode: StorageMode) -> list[str]:
        """Return the commands by which an operator does the same."""
        ...
