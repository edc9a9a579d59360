"""Ctrl-C and SIGTERM: once, finish what is in flight and save; twice, stop at once (which is safe, only less tidy)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from segue.errors import Interrupted
from segue.telemetry.logging import is_json

STOPPING = "the batches in flight are finished and recorded (again to stop at once)"


class Stop(threading.Event):
    """Set when the work shall stop, for whatever reason.

    Attributes:
        requested: A person or the system asked for it; otherwise something failed.
    """

    requested = False


@contextmanager
def stoppable(said: str = STOPPING) -> Iterator[Stop]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second one ends the process.

    Args:
        said: What is said about the stop; nothing where there is nothing to finish.
    """
    stop = Stop()

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.requested:
            os._exit(Interrupted.exit_code)
        stop.requested = True
        stop.set()
        if said and is_json():
            structlog.get_logger().info("stopping", text=said)
        elif said:
            sys.stderr.write(f"\nstopping: {said}\n")

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
