"""Rows on their way to the sink: sent, confirmed, and split when the sink refuses some of them.

Shared by everything that writes rows. Knows the sink's port only; when to try again is the caller's `send`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from segue.errors import DataError, FatalError
from segue.model import AgentRow, Quarantined, Reason, Rows

T = TypeVar("T")

HOPELESS = 20
"""Rows refused one by one, with none accepted between, after which the sink is taken to refuse all of them."""


def find_guilty(rows: Rows, element_ids: list[str], refusal: DataError, send: Callable[[Rows], None]) -> list[Quarantined]:
    """Halve refused rows until the guilty ones are alone; everything else is sent.

    Args:
        rows: What the sink refused as a whole.
        element_ids: One a row, or empty where keys are unique.
        refusal: The sink's reason.
        send: Sends rows and returns when they are acknowledged; raises DataError when some are refused.

    Returns:
        The rows that the sink refuses alone, with its reason.

    Raises:
        FatalError: Row after row is refused: it is not the rows.
        RetryableError: From `send`.
    """
    guilty: list[Quarantined] = []
    accepted = False
    parts = deque([(0, len(rows), refusal)])
    while parts:
        start, stop, refusal = parts.popleft()
        if stop - start == 1:
            element_id = element_ids[start] if element_ids else ""
            guilty.append(Quarantined(element_id, rows.keys[start], Reason.REFUSED_BY_SINK, refusal.message))
            if len(guilty) >= HOPELESS and not accepted:
                message = f"the sink refuses row after row: {refusal.message}"
                raise FatalError(message) from refusal
            continue
        middle = (start + stop) // 2
        for half in ((middle, stop), (start, middle)):
            try:
                send(rows.part(*half))
                accepted = True
            except DataError as again:
                parts.appendleft((*half, again))
    return guilty


def in_parts(rows: list[AgentRow], send: Callable[[list[AgentRow]], T]) -> tuple[list[T], list[Quarantined]]:
    """Send agents' rows, halved as often as PostgreSQL refuses some of them, until the guilty ones are alone.

    Args:
        rows: The rows.
        send: Sends some of them; raises DataError when some are refused, and none has arrived then.

    Returns:
        What `send` returned for the parts that went, and the rows that are refused alone, with the reason.

    Raises:
        FatalError: Row after row is refused: it is not the rows.
        RetryableError: From `send`.
    """
    sent: list[T] = []
    guilty: list[Quarantined] = []
    parts = deque([rows] if rows else [])
    while parts:
        part = parts.popleft()
        try:
            sent.append(send(part))
        except DataError as refusal:
            if len(part) > 1:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))
                continue
            guilty.append(
                Quarantined(part[0].element or part[0].natural_key.hex(), part[0].key, Reason.REFUSED_BY_SINK, refusal.message)
            )
            if len(guilty) >= HOPELESS and not sent:
                message = f"PostgreSQL refuses row after row: {refusal.message}"
                raise FatalError(message) from refusal
    return sent, guilty
