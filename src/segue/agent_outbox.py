"""Redis's outbox carried over to PostgreSQL: take, make rows, apply, settle. At least once, and twice is once.

Shared by the application's own thread and by whoever changes the mode. Knows ports only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from segue.errors import DataError
from segue.model import AgentRow
from segue.pipelines.agent_writes import AgentLayout, layout_of
from segue.ports import AgentMeter, AgentPostgres, AgentRedis, Gone, OutboxEntry

ENTRIES_AT_ONCE = 500


class OutboxDrain:
    """Carries entries over, oldest first. One thread at a time; any number of drains may work beside each other.

    An entry is settled only after PostgreSQL has committed it, so a kill in between leaves it to be applied again: rows are
    compared by the time at which Redis was written, and the same row again changes nothing.
    """

    def __init__(self, layouts: Sequence[AgentLayout], redis: AgentRedis, postgres: AgentPostgres, meter: AgentMeter) -> None:
        self._layouts = list(layouts)
        self._redis = redis
        self._postgres = postgres
        self._meter = meter

    def step(self, wait_seconds: float = 0.0) -> int | None:
        """Carry a batch over; return how many entries it had, None while another drain is at work.

        Raises:
            RetryableError: A store does not answer; the entries stay.
        """
        entries = self._redis.outbox(ENTRIES_AT_ONCE, wait_seconds)
        if not entries:
            return 0
        rows: dict[bytes, AgentRow] = {}
        gone: dict[bytes, Gone] = {}
        refused: dict[bytes, str] = {}
        for entry in entries:
            if entry.removed:
                gone[entry.id] = Gone(entry.kind, entry.removed, entry.noted.observed_at)
                continue
            try:
                rows[entry.id] = self._row(entry)
            except DataError as refusal:
                refused[entry.id] = refusal.message
        if not self._apply(rows, list(gone.values()), refused):
            return None
        self._redis.settle([one.id for one in entries if one.id not in refused], refused)
        self._meter.carried(len(entries) - len(refused), len(refused))
        return len(entries)

    def _row(self, entry: OutboxEntry) -> AgentRow:
        layout = layout_of(self._layouts, entry.key)
        if layout is None:
            message = "no mapping takes this key any more"
            raise DataError(message)
        return layout.row(entry.key, entry.element, entry.db, entry.noted)

    def _apply(self, rows: dict[bytes, AgentRow], gone: Sequence[Gone], refused: dict[bytes, str]) -> bool:
        """Apply everything; rows that PostgreSQL refuses are found by halving."""
        parts = deque([list(rows)])
        while parts:
            part = parts.popleft()
            try:
                if not self._postgres.apply([rows[id_] for id_ in part], gone if not parts else ()):
                    return False
            except DataError as refusal:
                if len(part) > 1:
                    parts.extendleft((part[len(part) // 2 :], part[: len(part) // 2]))
                    continue
                refused[part[0]] = refusal.message
                if not parts and gone and not self._postgres.apply((), gone):
                    return False
        return True
