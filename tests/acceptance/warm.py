"""Commands without their start: a process that has imported Segue and its libraries forks for every command of the tests.

More than half of the processor time of a test that runs commands was Python importing the same modules again. A fork begins
where `python -m segue` is when it has imported them: it opens its own connections, has its own streams, environment, signals
and exit code. What people start from a shell is started from one in the tests of documents, scripts and distributions.

Knows nothing of what a command does. Run as a program, this file is the process that forks.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import segue

_LONGEST = 1 << 20
"""Bytes of a command with its environment."""

_NOT_IMPORTED = ("segue.__main__", "segue.demo", "segue.integrations", "segue.stores.agentdb_migrations", "segue.engines.ray_")
"""What is run rather than imported, or drags libraries along that few commands need."""

_INTEGER = struct.Struct("i")


class Warm:
    """A forked command, used as a `subprocess.Popen` is.

    Args:
        arguments: Behind `segue`.
        folder: Where it runs.
        environment: All of it.
        streams: File descriptors for its stdin, stdout and stderr; DEVNULL for none.

    Attributes:
        pid: The command's.
        returncode: As Popen has it: None while it runs, minus the signal that ended it.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], streams: Sequence[int]) -> None:
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self._replies, theirs = socket.socketpair()
        asked = json.dumps({"arguments": arguments, "folder": str(folder), "environment": dict(environment)})
        with theirs, Path(os.devnull).open("r+b") as nothing:
            descriptors = [nothing.fileno() if one == subprocess.DEVNULL else one for one in streams]
            _forker().fork(asked.encode(), [*descriptors, theirs.fileno()])
        self.pid = self._reply()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, for so many seconds at most, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        # Who waits in one thread must not keep another from looking, or from sending a signal.
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        try:
            if self.returncode is None:
                self._replies.settimeout(timeout)
                self.returncode = self._reply()
                self._replies.close()
        except (BlockingIOError, TimeoutError):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
        else:
            return self.returncode
        finally:
            self._lock.release()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def _reply(self) -> int:
        told = self._replies.recv(_INTEGER.size)
        assert told, "the process that forks is gone"
        (number,) = _INTEGER.unpack(told)
        return int(number)


class _Forker:
    """The process that forks, as the tests see it; it ends when they do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        # On SIGABRT each thread's stack goes to stderr: what a test that waits in vain has to tell. What gRPC reads as it is
        # imported, a command has set before that.
        grpc = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}
        environment = {**os.environ, **grpc, "PYTHONFAULTHANDLER": "1"}
        with theirs:
            # Without -P what lies beside this file could be imported in the place of a library.
            command = (sys.executable, "-P", __file__, str(theirs.fileno()))
            self._process = subprocess.Popen(
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        atexit.register(self._end)

    def fork(self, asked: bytes, descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._asking, [asked], descriptors)

    def _end(self) -> None:
        self._asking.close()
        self._process.wait()


_MAKING = threading.Lock()


def _forker() -> _Forker:
    with _MAKING:
        return _make_forker()


@functools.cache
def _make_forker() -> _Forker:
    return _Forker()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be run, and the descriptors that came with it: stdin, stdout, stderr, and where its end is told."""

    text: bytes
    descriptors: list[int]


def _serve(asking: socket.socket) -> _Asked | None:
    """Fork for everything that is asked: return that in the fork, and None here when nobody asks any more."""
    commands: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    for one in (woken, waker):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    with selectors.DefaultSelector() as selector:
        selector.register(asking, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4_096)
                _tell_ends(commands)
            if asking in ready:
                text, descriptors, _, _ = socket.recv_fds(asking, _LONGEST, 4)
                if not text:
                    return None
                pid = os.fork()
                if not pid:
                    break
                *streams, replies = descriptors
                for descriptor in streams:
                    os.close(descriptor)
                commands[pid] = socket.socket(fileno=replies)
                commands[pid].send(_INTEGER.pack(pid))
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in (asking, woken, waker, *commands.values()):
        one.close()
    return _Asked(text, descriptors)


def _tell_ends(commands: dict[int, socket.socket]) -> None:
    while commands:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with commands.pop(pid) as replies, contextlib.suppress(OSError):  # who asked may be gone
            replies.send(_INTEGER.pack(os.waitstatus_to_exitcode(status)))


def _become(asked: _Asked) -> None:
    """Be what `python -m segue` is in that folder, with that environment and those streams."""
    *streams, replies = asked.descriptors
    os.close(replies)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    told = json.loads(asked.text)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    sys.argv[1:] = told["arguments"]
    runpy.run_module("segue", run_name="__main__", alter_sys=True)


def _import_all() -> None:
    for module in pkgutil.walk_packages(segue.__path__, "segue."):
        if not module.name.startswith(_NOT_IMPORTED):
            importlib.import_module(module.name)
    # What is here stays shared with the forks.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _import_all()
    if (given := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _become(given)
