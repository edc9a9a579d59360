"""How much is read of Redis a second, by a clock of the test's own."""

from __future__ import annotations

import pytest

from segue.stores import redis_connection
from segue.stores.redis_connection import Pace


class Clock:
    """A clock that moves when somebody sleeps, or is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.mark.parametrize("idle", [0.0, 0.9, 30.0])
def test_what_was_left_unused_is_not_saved_up(monkeypatch: pytest.MonkeyPatch, idle: float) -> None:
    """However long nothing was read before, or in between: from then on it is as many a second as were allowed."""
    clock = Clock()
    monkeypatch.setattr(redis_connection, "time", clock)
    pace = Pace(100)
    for _ in range(2):
        clock.sleep(idle)
        began = clock.now
        for _ in range(20):
            pace.spend(10)
        assert 1.75 <= clock.now - began <= 2.0
    assert pace.spent == 400


def test_without_a_bound_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It only counts."""
    clock = Clock()
    monkeypatch.setattr(redis_connection, "time", clock)
    pace = Pace(None)
    pace.spend(1_000_000)
    assert (clock.now, pace.spent) == (100.0, 1_000_000)
