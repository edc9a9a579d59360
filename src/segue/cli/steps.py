"""How verbs that take steps tell them: a line each on stderr, the same in the result, and what is left as an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import structlog

from segue.errors import FatalError, NotConfirmed
from segue.steps import Step, failed
from segue.telemetry.logging import LogFormat


class Watch:
    """Tells each step on stderr when it is over."""

    def __init__(self, log_format: LogFormat) -> None:
        self.steps: list[Step] = []
        self._json = log_format is LogFormat.JSON

    def step(self, step: Step) -> None:
        """See `steps.StepWatch`."""
        self.steps.append(step)
        if self._json:
            facts = {"step": step.name, "status": step.status.value, "seconds": round(step.seconds, 3), "detail": step.detail}
            structlog.get_logger().info("step", collection=step.collection, by_hand=list(step.by_hand), **facts)
            return
        of = f"{step.collection}: " if step.collection else ""
        self._say(f"{of}{step.name}: {step.status} ({step.seconds:.1f} s): {step.detail}")

    def note(self, text: str) -> None:
        """See `steps.StepWatch`."""
        if self._json:
            structlog.get_logger().info("note", text=text)
            return
        self._say(text)

    def _say(self, line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def step_data(step: Step) -> dict[str, Any]:
    """Return a step as programs read it."""
    return {
        "name": step.name,
        "collection": step.collection,
        "status": step.status.value,
        "seconds": round(step.seconds, 3),
        "detail": step.detail,
        "by_hand": list(step.by_hand),
    }


def incomplete(steps: Sequence[Step]) -> FatalError | None:
    """Return the error that says which steps failed, and what does by hand what they did not; None when none failed."""
    wrong = failed(steps)
    if not wrong:
        return None
    named = "; ".join(f"{f'{step.collection}: ' if step.collection else ''}{step.name}: {step.detail}" for step in wrong)
    commands = [f"  {command}" for step in wrong for command in step.by_hand]
    hint = "\n".join(["The same command goes on. By hand:", *commands]) if commands else "The same command goes on."
    return FatalError(f"not everything is done: {named}", hint=hint)


def unconfirmed() -> NotConfirmed:
    """Return the error of a verb that showed what it would do."""
    message = "nothing was changed: this is what would be done"
    return NotConfirmed(message, hint="To do it: the same command with --confirm")
