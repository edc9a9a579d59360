"""Steps of a way back or a clearing: each is tried, told and kept, and one that fails does not keep the others back.

Knows no step: what is done and in which order is the phases' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from segue.errors import Interrupted, SegueError


class StepStatus(StrEnum):
    """What became of a step."""

    PLANNED = "planned"
    DONE = "done"
    ALREADY = "already"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: What it is called in results.
        status: What became of it.
        seconds: How long it took.
        detail: What was found or done, in words.
        by_hand: Commands for what is left to do; empty when nothing is.
        collection: Of which collection; None for what is of all.
    """

    name: str
    status: StepStatus
    seconds: float
    detail: str
    by_hand: tuple[str, ...] = ()
    collection: str | None = None


class StepWatch(Protocol):
    """Whoever watches steps; must not raise."""

    def step(self, step: Step) -> None:
        """A step is over."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


Outcome = tuple[StepStatus, str]
"""What became of a step, and the detail."""


class Steps:
    """The steps of one collection, or of all, as they are taken.

    Args:
        collection: Whose; None for what is of all.
        now: A monotonic clock, in seconds.
        watch: Told every step.

    Attributes:
        taken: The steps so far.
    """

    def __init__(self, collection: str | None, now: Callable[[], float], watch: StepWatch) -> None:
        self.taken: list[Step] = []
        self._collection = collection
        self._now = now
        self._watch = watch

    def take(self, name: str, work: Callable[[], Outcome], by_hand: Callable[[], Sequence[str]] = tuple) -> bool:
        """Take a step; false when it failed, and then the commands of `by_hand` are kept with it.

        Raises:
            Interrupted: Somebody asks to stop.
        """
        began = self._now()
        try:
            status, detail = work()
        except Interrupted:
            raise
        except SegueError as fault:
            status, detail = StepStatus.FAILED, fault.message
        commands = tuple(by_hand()) if status is StepStatus.FAILED else ()
        step = Step(name, status, self._now() - began, detail, commands, self._collection)
        self.taken.append(step)
        self._watch.step(step)
        return status is not StepStatus.FAILED


def failed(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that failed."""
    return [step for step in steps if step.status is StepStatus.FAILED]
