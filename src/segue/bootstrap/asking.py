"""Questions to stores of which one may be away: what is answered is kept, what is not is told. Knows no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from segue.errors import RetryableError, SegueError

T = TypeVar("T")


def ask(questions: Mapping[str, Callable[[], Any]], found: dict[str, Any], unreachable: list[str]) -> bool:
    """Ask one store each question; return false where it is away, since further questions would only take its time.

    Args:
        questions: By name.
        found: Where answers go, by the same names.
        unreachable: To which what was not answered is added, and why.
    """
    for name, asked in questions.items():
        try:
            found[name] = asked()
        except RetryableError as fault:
            unreachable.append(fault.message)
            return False
        except SegueError as fault:
            unreachable.append(f"{name}: {fault.message}")
    return True


def tried(asked: Callable[[], T], unreachable: list[str]) -> T | None:
    """Return an answer, None where there is none; then why is added to `unreachable`."""
    try:
        return asked()
    except SegueError as fault:
        unreachable.append(fault.message)
        return None
