"""Shadow reads of agent state: what Redis answered is looked for in PostgreSQL, beside the user's call and never within it.

A difference counts only when it is still there after the outbox has had time: PostgreSQL may be behind, it must not be wrong.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from segue.errors import SegueError
from segue.model import AgentKind, AgentRow, AgentStoreName
from segue.ports import AgentMeter, AgentPostgres, AgentRedis

MOST_WAITING = 50
GRACE_SECONDS = 2.0
"""How long a row may be on its way."""

_log = logging.getLogger(__name__)


class AgentShadow:
    """Compares a share of the reads, in a thread of its own. Usable from several threads.

    Args:
        rate: The share, from 0 to 1.
        grace_seconds: How long a row may be on its way; while the outbox is longer than that, nothing is said.
    """

    def __init__(
        self,
        redis: AgentRedis,
        postgres: AgentPostgres,
        meter: AgentMeter,
        *,
        rate: float,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._meter = meter
        self._rate = rate
        self._grace_seconds = grace_seconds
        self._stop = threading.Event()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segue-agent-shadow")

    def close(self) -> None:
        """End the thread; what waits is not compared. Idempotent."""
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def compare(self, rows: Sequence[AgentRow]) -> None:
        """Compare these rows, or not: by chance, and never when too many wait."""
        if rows and random.random() < self._rate and not self._stop.is_set() and self._waiting.acquire(blocking=False):  # noqa: S311
            self._thread.submit(self._look, rows, time.monotonic())

    def _look(self, rows: Sequence[AgentRow], read_at: float) -> None:
        try:
            different = self._different(rows)
            if different and not self._stop.wait(max(0.0, read_at + self._grace_seconds - time.monotonic())):
                _, _, oldest = self._redis.waiting()
                if oldest > time.monotonic() - read_at:
                    # What was read may still be in the outbox.
                    return
                different = self._different(different)
            self._meter.compared(len(rows) - len(different), len(different))
            for row in different[:3]:
                _log.warning("PostgreSQL differs from Redis in %s %s", row.key, row.element)
        except SegueError as fault:
            self._meter.failed(AgentStoreName.POSTGRES, "shadow", type(fault).__name__)
        finally:
            self._waiting.release()

    def _different(self, rows: Sequence[AgentRow]) -> list[AgentRow]:
        """Return the rows that PostgreSQL lacks, or holds as they were before; a newer state of one is no difference."""
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for row in rows:
            by_kind[row.kind].append(row)
        found = []
        for kind, some in by_kind.items():
            held = self._postgres.held(kind, [row.natural_key for row in some])
            for row in some:
                content, observed = held.get(row.natural_key, (None, 0))
                if content != row.content_hash and observed < row.observed_at:
                    found.append(row)
        return found
