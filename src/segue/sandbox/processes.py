"""Starting, recognising and ending processes, and running the tools that install them; it knows no server by name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from segue.errors import FatalError

# Below the range from which the kernel takes the ports of outgoing connections, which would else steal a chosen one.
_PORTS = range(20_000, 32_000)
_CLOCK_TICK_SECONDS = 0.01
_LOG_LINES_SHOWN = 15


@dataclass(frozen=True)
class Command:
    """One program to start. Secrets go into files or `environment`, never into `arguments`, which `ps` shows."""

    arguments: Sequence[str]
    working_folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None


def spawn(command: Command, log: Path) -> tuple[int, float]:
    """Start it detached, in a process group of its own, its output appended to `log`; returns pid and start time."""
    account = pwd.getpwnam(command.user) if command.user else None
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the arguments are our own
            command.arguments,
            cwd=command.working_folder,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=account and [],
        )
    process.returncode = 0  # It outlives this interpreter on purpose: Popen must neither wait for it nor warn.
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.pid, _started(psutil.Process(process.pid))
    return process.pid, 0.0


def run_tool(command: Command, *, purpose: str, hint: str = "", deadline_seconds: float = 900) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        FatalError: It is missing, failed, or took longer than `deadline_seconds`; with the end of its output.
    """
    account = pwd.getpwnam(command.user) if command.user else None
    try:
        result = subprocess.run(  # noqa: S603 - the arguments are our own
            command.arguments,
            cwd=command.working_folder,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline_seconds,
            check=False,
            text=True,
            errors="replace",
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=account and [],
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        reason = f"took longer than {deadline_seconds:.0f} s" if isinstance(exc, subprocess.TimeoutExpired) else str(exc)
        message = f"{purpose} failed: {command.arguments[0]}: {reason}"
        raise FatalError(message, hint=hint) from exc
    if result.returncode != 0:
        message = f"{purpose} failed: {Path(command.arguments[0]).name} ended with exit code {result.returncode}"
        raise FatalError(message, hint="\n".join(part for part in (_last_lines(result.stdout), hint) if part))
    return result.stdout


def is_alive(pid: int, started: float) -> bool:
    """Whether exactly this process still runs: the same pid with another start time is somebody else's."""
    try:
        process = psutil.Process(pid)
        is_same = abs(_started(process) - started) <= _CLOCK_TICK_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def _started(process: psutil.Process) -> float:
    """Seconds from boot to its start: unlike the time of day it stays the same when somebody sets the clock."""
    boot = psutil.boot_time()
    return process.create_time() - boot


def end(pid: int, started: float, *, polite_signal: signal.Signals, patience_seconds: float) -> None:
    """End this process and all it started: ask, wait, then kill. Does nothing when it has gone or was replaced."""
    if pid <= 0 or not is_alive(pid, started):
        return
    leader = psutil.Process(pid)
    family = [leader, *leader.children(recursive=True)]
    with contextlib.suppress(psutil.NoSuchProcess):
        leader.send_signal(polite_signal)
    psutil.wait_procs([leader], timeout=patience_seconds)
    if is_alive(pid, started):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil refuses a pid that was reused
            process.kill()
    psutil.wait_procs(family, timeout=10)


def log_ending(log: Path) -> str:
    """The last lines of a log file, for an error message."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
        return _last_lines(file.read().decode("utf-8", errors="replace"))
    return ""


def names_a_taken_port(log: Path, since: int) -> bool:
    """Whether a server says in its log, behind the first `since` bytes, that an address it wanted was in use."""
    with log.open("rb") as file:
        file.seek(since)
        return b"already in use" in file.read().lower()


def _last_lines(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(plain.strip().splitlines()[-_LOG_LINES_SHOWN:])


def free_ports(*purposes: str) -> dict[str, int]:
    """A different free port for each purpose."""
    chosen: dict[str, int] = {}
    while len(chosen) < len(purposes):
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        if port not in chosen.values() and is_free(port):
            chosen[purposes[len(chosen)]] = port
    return chosen


def is_free(port: int) -> bool:
    """Whether nothing listens on that port, on loopback or on all interfaces."""
    for address in ("127.0.0.1", ""):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((address, port))
            except OSError:
                return False
    return True


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on that file, between threads and between processes; it is freed when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            while True:  # Polled, not blocked upon, so that Ctrl-C is heard in any thread.
                time.sleep(0.2)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
        yield
