"""The circuit breaker: when it opens, what it lets through then, and when it closes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from segue.breaker import Breaker

FAILURES = 3


class Clock:
    """A clock that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of this test's own."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """A closed one that opens after three failures, with pauses of 1, 2, 4 and 5 seconds."""
    return Breaker(clock, failures=FAILURES, first_pause=1.0, last_pause=5.0)


def opened(breaker: Breaker) -> Breaker:
    """Let it open."""
    for _ in range(FAILURES):
        breaker.failed()
    return breaker


def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker) -> None:
    """A success between them begins the count anew."""
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed()
        assert breaker.allows()
        assert not breaker.is_open

    breaker.failed()

    assert breaker.is_open
    assert not breaker.allows()


def test_one_probe_goes_through_after_the_pause(breaker: Breaker, clock: Clock) -> None:
    """Not before it, and no second one while the first is on its way; it is still open meanwhile."""
    opened(breaker)
    clock.now += 0.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()
    assert not breaker.allows()
    assert breaker.is_open


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    """Everything goes through again, and the next outage begins with the first pause."""
    opened(breaker)
    for _ in range(3):
        clock.now += 5.0
        assert breaker.allows()
        breaker.failed()
    clock.now += 5.0
    assert breaker.allows()
    breaker.succeeded()

    assert not breaker.is_open
    assert breaker.allows()
    opened(breaker)
    clock.now += 1.0
    assert breaker.allows()


def test_pauses_double_up_to_the_last(breaker: Breaker, clock: Clock) -> None:
    """Each probe that fails makes the next one wait twice as long, but never longer than the last pause."""
    opened(breaker)
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        clock.now += pause - 0.1
        assert not breaker.allows()
        clock.now += 0.1
        assert breaker.allows()
        breaker.failed()


def test_failures_of_requests_sent_before_it_opened_are_no_news(breaker: Breaker, clock: Clock) -> None:
    """Many fail together when a store goes away: the pause is the first one all the same."""
    for _ in range(10 * FAILURES):
        breaker.failed()
    clock.now += 1.0
    assert breaker.allows()


def test_a_probe_whose_outcome_is_never_told_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    """Whoever sent it may be gone; one more goes through a pause later."""
    opened(breaker)
    clock.now += 1.0
    assert breaker.allows()
    clock.now += 0.9
    assert not breaker.allows()
    clock.now += 0.1
    assert breaker.allows()


def test_of_many_threads_one_sends_the_probe(breaker: Breaker, clock: Clock) -> None:
    """All ask at the same moment."""
    opened(breaker)
    clock.now += 1.0
    together = Barrier(8)

    def ask(_: int) -> bool:
        together.wait()
        return breaker.allows()

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 1
