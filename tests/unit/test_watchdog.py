"""Deadlines: what is left in time is never acted on, and what is not is, whatever else is watched meanwhile."""

from __future__ import annotations

import threading
import time

from segue.stores.watchdog import Watchdog

SOON = 0.05
LONG = 60.0


def test_a_deadline_that_passes_is_acted_on_in_time_although_a_later_one_is_watched() -> None:
    """The thread sleeps until the earliest deadline, also when that one came last; the later one is not acted on."""
    watchdog = Watchdog()
    acted, too_early = threading.Event(), threading.Event()
    watchdog.watch(LONG, too_early.set)
    time.sleep(SOON)
    begun = time.monotonic()
    watchdog.watch(SOON, acted.set)
    assert acted.wait(5)
    assert time.monotonic() - begun >= SOON
    assert not too_early.is_set()
    watchdog.close()


def test_what_is_left_is_not_acted_on() -> None:
    """Leaving one deadline leaves the others watched, in the order of their times."""
    watchdog = Watchdog()
    acted: list[str] = []
    done = threading.Event()
    left = watchdog.watch(SOON, lambda: acted.append("left"))
    watchdog.watch(3 * SOON, done.set)
    watchdog.watch(2 * SOON, lambda: acted.append("stayed"))
    watchdog.leave(left)
    watchdog.leave(left)
    assert done.wait(5)
    assert acted == ["stayed"]
    watchdog.close()


def test_an_idle_watchdog_wakes_for_the_next_deadline() -> None:
    """After everything was left or acted on, a new deadline is watched like the first."""
    watchdog = Watchdog()
    for _ in range(2):
        acted = threading.Event()
        watchdog.watch(SOON, acted.set)
        assert acted.wait(5)
        time.sleep(SOON)
    watchdog.close()


def test_closing_forgets_everything_and_ends_the_thread() -> None:
    """No deadline is acted on afterwards, and no thread stays behind."""
    watchdog = Watchdog()
    acted = threading.Event()
    before = set(threading.enumerate())
    watchdog.watch(3 * SOON, acted.set)
    (thread,) = set(threading.enumerate()) - before
    watchdog.close()
    watchdog.close()
    thread.join(5)
    assert not thread.is_alive()
    assert not acted.wait(6 * SOON)
