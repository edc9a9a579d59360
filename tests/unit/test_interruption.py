"""A signal that comes while the main thread holds the lock that stopping needs: nothing hangs."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIGNALLED = """
import faulthandler, os, signal, sys, threading
from segue.cli.interruption import stoppable
from segue.telemetry.logging import LogFormat, configure
import structlog

faulthandler.dump_traceback_later(60, exit=True)
configure(LogFormat.JSON)
for _ in range(50):
    with stoppable(said="the rest is finished") as stop:
        threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while not stop.wait(0.0):
            BUSY
print("ended")
"""


@pytest.mark.parametrize("busy", ["pass", "structlog.get_logger().info('a batch')"], ids=["waiting", "logging"])
def test_a_signal_stops_whatever_the_main_thread_is_in_the_middle_of(busy: str) -> None:
    """The event it waits for has a lock, and so has the log; a handler that took either itself would wait for ever."""
    command = (sys.executable, "-c", SIGNALLED.replace("BUSY", busy))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "ended\n", ended.stderr[-3_000:]
    assert ended.stderr.count('"event": "stopping"') == 50
