"""Calling a store until it answers. Knows no store; what counts as an answer is the call's to raise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

import tenacity

from segue.errors import RetryableError

T = TypeVar("T")


class Noting(Protocol):
    """Who is told of a failure."""

    def note(self, text: str) -> None:
        """Say something the operator should know, once."""
        ...


class Patience:
    """Calls a store until it answers, with growing pauses, as long as patience lasts and nobody asked to stop.

    Args:
        seconds: How long patience lasts.
        progress: Told of each failure.
        stop: Asks to stop.
        but_not: A RetryableError after which the same call would help nothing; raised at once.
    """

    def __init__(
        self, seconds: float, progress: Noting, stop: threading.Event, *, but_not: tuple[type[RetryableError], ...] = ()
    ) -> None:
        self._seconds = seconds
        self._progress = progress
        self._stop = stop
        self._but_not = but_not

    def __call__(self, call: Callable[[], T], between: Callable[[], None] = lambda: None) -> T:
        """Call; after a failure `between` is called before the next try."""
        first = True

        def attempt() -> T:
            nonlocal first
            if not first:
                between()
            first = False
            return call()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda fault: isinstance(fault, RetryableError) and not isinstance(fault, self._but_not)
            ),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            stop=tenacity.stop_any(tenacity.stop_after_delay(self._seconds), tenacity.stop_when_event_set(self._stop)),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=lambda state: self._progress.note(f"{state.outcome and state.outcome.exception()}; trying again"),
            reraise=True,
        )
        return retrying(attempt)
