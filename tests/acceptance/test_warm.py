"""A forked command is what one started by Python is."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from acceptance.warm import Warm
from acceptance.workplace import COMMAND, Started


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("validate", "--nonsense"), ("validate",), ("report", "--format", "json")],
    ids=["help", "misused", "without a configuration", "refused in JSON"],
)
def test_a_forked_command_says_what_a_started_one_does(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Exit code, stdout and stderr, in its folder and with its environment, which is not this process's."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "91", "SEGUE_LOG_FORMAT": "text"}
    started = subprocess.run((*COMMAND, *arguments), check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
    forked = Started(arguments, tmp_path, environment).ended()
    assert (forked.code, forked.out, forked.err) == (started.returncode, started.stdout, started.stderr)


def test_a_signal_ends_a_forked_command_and_its_code_says_so(tmp_path: Path) -> None:
    """As Popen tells it, and as often as it is asked; what has ended is signalled no more: its number may be another's."""
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
    stuck = Warm(("--help",), tmp_path, dict(os.environ), (subprocess.DEVNULL, writing, subprocess.DEVNULL))
    with pytest.raises(subprocess.TimeoutExpired):
        stuck.wait(0.2)
    assert stuck.poll() is None
    threading.Timer(0.2, stuck.kill).start()
    assert stuck.wait(60.0) == stuck.wait() == stuck.poll() == -signal.SIGKILL
    stuck.kill()
    os.close(reading)
    os.close(writing)
