"""Deadlines of waits that end by themselves only when somebody ends them: one thread watches them all.

A thread for each wait would cost more than a short query. Knows nothing of what is waited for.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable


class Watchdog:
    """Calls what it was given when its time has come, unless told before to leave it. Usable from several threads.

    Its thread begins with the first deadline.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._numbers = itertools.count()
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._wakes_at = -math.inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def watch(self, seconds: float, act: Callable[[], None]) -> int:
        """Let `act` be called in so many seconds, on the watchdog's thread; return what `leave` takes. Costs microseconds."""
        at = time.monotonic() + seconds
        with self._condition:
            number = next(self._numbers)
            self._watched[number] = (at, act)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="segue-watchdog", daemon=True)
                self._thread.start()
            elif at < self._wakes_at:
                self._condition.notify()
        return number

    def leave(self, number: int) -> None:
        """Forget a deadline; its act is not called any more, unless it is being called now. Idempotent."""
        # The thread may wake in vain then, which is cheaper than waking it now.
        with self._condition:
            self._watched.pop(number, None)

    def close(self) -> None:
        """Forget all deadlines and end the thread. Idempotent."""
        with self._condition:
            self._is_closed = True
            self._watched.clear()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._is_closed:
                    return
                now = time.monotonic()
                due = [number for number, (at, _) in self._watched.items() if at <= now]
                acts = [self._watched.pop(number)[1] for number in due]
                if not acts:
                    self._wakes_at = min((at for at, _ in self._watched.values()), default=math.inf)
                    self._condition.wait(None if self._wakes_at == math.inf else self._wakes_at - now)
            for act in acts:
                act()
