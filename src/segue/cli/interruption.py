"""Ctrl-C and SIGTERM: once, finish what is in flight and save; twice, stop at once (which is safe, only less tidy).

A signal's handler runs between two instructions of the main thread, whatever locks that holds: an event's that it waits for, a
log's that it writes to. So the handler only passes the signal on, and a thread of its own acts on it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import structlog

from segue.errors import Interrupted
from segue.telemetry.logging import is_json

STOPPING = "the batches in flight are finished and recorded (again to stop at once)"

SAID_SECONDS = 1.0
"""How long it may take at the end to say what there is to say."""

_LEFT = 0
"""Stands for no signal: nobody is listened to any more."""


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
    # Of all queues only this one may be put into while the same thread is in the middle of a `put`.
    signals = SimpleQueue[int]()

    def act() -> None:
        while signals.get() != _LEFT:
            if stop.requested:
                os._exit(Interrupted.exit_code)
            stop.requested = True
            stop.set()
            if said and is_json():
                structlog.get_logger().info("stopping", text=said)
            elif said:
                sys.stderr.write(f"\nstopping: {said}\n")

    acting = threading.Thread(target=act, name="segue-interruption", daemon=True)
    acting.start()
    before = {
        number: signal.signal(number, lambda number, _: signals.put(number)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.put(_LEFT)
        acting.join(SAID_SECONDS)
