"""Whether a process that should run on still does, for whoever would start it anew; it knows parts by name, and no store.

A store that is away makes no part stuck, since a new process would not find it either: waiting is a sign of life too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

STUCK_SECONDS = 300.0
"""Without a sign of life. Longer than a step may take: a request's deadline, and a write that Neo4j is given time for."""


class Health:
    """Parts that give signs of life. Usable from several threads.

    Args:
        parts: Their names; without any, everything is well while the process runs.
        stuck_seconds: Without a sign of life from a part, it counts as stuck.
    """

    def __init__(
        self, parts: Iterable[str], *, stuck_seconds: float = STUCK_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stuck_seconds = stuck_seconds
        self._clock = clock
        self._seen = dict.fromkeys(parts, clock())
        self._working: set[str] = set()

    def lives(self, part: str) -> None:
        """Note a sign of life."""
        self._seen[part] = self._clock()

    def works(self, part: str) -> None:
        """Note that a part does what it is there for; from then on it is ready."""
        self._working.add(part)
        self.lives(part)

    def stuck(self) -> Sequence[str]:
        """Return the parts without a sign of life for too long, in words."""
        now = self._clock()
        late = {part: now - seen for part, seen in self._seen.items() if now - seen > self._stuck_seconds}
        return [f"{part}: no sign of life for {seconds:.0f} s" for part, seconds in late.items()]

    def not_ready(self) -> Sequence[str]:
        """Return the parts that have not begun to do what they are there for, in words."""
        return [f"{part}: has not reached its stores yet" for part in self._seen if part not in self._working]
