"""A circuit breaker: a store that fails again and again is left alone for a while, then tried with one request.

Knows no store and sends nothing: its caller asks before each request and says how it went.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Breaker:
    """Closed: everything may be sent. After so many failures in a row it opens: nothing may, but one probe a pause.

    A probe that succeeds closes it; one that fails doubles the pause, up to the last one. A probe whose outcome is never told
    counts for nothing: the next one may go a pause later. Usable from several threads.

    Args:
        clock: A monotonic clock, in seconds.
        failures: How many in a row open it.
        first_pause: From opening to the first probe, in seconds.
        last_pause: The longest time between two probes, in seconds.
    """

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 5, first_pause: float = 0.5, last_pause: float = 30.0
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._first_pause = first_pause
        self._last_pause = last_pause
        self._mutex = threading.Lock()
        self._failed = 0
        self._pause = first_pause
        self._probe_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether it lets nothing through but probes."""
        with self._mutex:
            return self._probe_at is not None

    def allows(self) -> bool:
        """Say whether to send a request now; while open, true once a pause: that request is the probe."""
        with self._mutex:
            if self._probe_at is None:
                return True
            now = self._clock()
            if now < self._probe_at:
                return False
            self._probing = True
            self._probe_at = now + self._pause
            return True

    def succeeded(self) -> None:
        """Note that a request was answered; closes it."""
        with self._mutex:
            self._failed = 0
            self._pause = self._first_pause
            self._probe_at = None
            self._probing = False

    def failed(self) -> None:
        """Note that a request was not answered."""
        with self._mutex:
            if self._probe_at is None:
                self._failed += 1
                if self._failed < self._failures:
                    return
            elif self._probing:
                self._pause = min(2 * self._pause, self._last_pause)
            else:
                # Sent before it opened, and no news.
                return
            self._probing = False
            self._probe_at = self._clock() + self._pause
