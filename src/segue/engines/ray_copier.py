"""Ranges on the machines of a Ray cluster: an actor a worker copies there, its records stay here.

Of a range, only what an actor tells comes back: what it is about to send, and what was acknowledged. It goes on when that is
recorded, as a worker of this process does. Knows no store; what an actor copies with is opened over there, by what it is given.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from segue.errors import ConfigError, SegueError, WorkerLost
from segue.ports import Copier, Landed, RangeProgress, Records

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, made for the copy and ended with it."""

START_SECONDS = 60.0
"""How long the cluster may take to give a worker."""

CLIENT_PORT = 10001
"""Where a cluster takes connections of ray://, unless told otherwise."""

CONNECT_SECONDS = 10.0

_WAKE_SECONDS = 0.5

OpenCopier = Callable[[Records, threading.Event], AbstractContextManager[Copier]]
"""Opens what an actor copies with: given where it tells what it does, and what asks it to stop. Is sent there, pickled."""


@contextmanager
def connected(address: str, workers: int) -> Iterator[None]:
    """Connect this process to a Ray cluster; on leaving, the actors it began there end.

    Args:
        address: `auto` for the cluster this machine belongs to, ray://HOST:PORT for another, `local` for one made here.
        workers: How many actors will copy at the same time, each on a CPU.

    Raises:
        ConfigError: There is no cluster at that address.
    """
    # Whether a user's machine tells its maker about itself is the user's to decide.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _require_listener(address)
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=False, **here)
    except Exception as fault:  # Ray raises it bare where a process that it started says nothing
        message = f"there is no Ray cluster at {address!r}: {str(fault).splitlines()[0]}"
        hint = "--ray auto on a machine of the cluster, --ray ray://HOST:10001 elsewhere, --ray local for this machine alone."
        raise ConfigError(message, hint=hint) from fault
    finally:
        # Ray's own handler would end the process before its batches have landed.
        signal.signal(signal.SIGTERM, before)
    try:
        # Ray prints what happens to its workers, and stdout is for the result.
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Make sure that somebody listens at ray://HOST:PORT; Ray itself would try for minutes.

    Raises:
        OSError, ValueError: Nobody does, or that is no address.
    """
    parts = urlsplit(address)
    if parts.scheme == "ray":
        socket.create_connection((parts.hostname or "", parts.port or CLIENT_PORT), timeout=CONNECT_SECONDS).close()


class RayCopier:
    """The `Copier` whose workers are actors on the connected cluster; each is begun with its first range.

    Args:
        address: Of the cluster, for messages; see `connected`.
        open_copier: See `OpenCopier`.
        stop: Asks them to stop.
    """

    def __init__(self, address: str, open_copier: OpenCopier, stop: threading.Event) -> None:
        self._address = address
        self._open_copier = open_copier
        self._stop = stop
        self._actors: dict[int, Any] = {}

    def copy(self, worker: int, todo: RangeProgress, records: Records) -> None:
        """See `Copier`.

        Raises:
            WorkerLost: The actor is gone, with its machine or alone; everything it was told is recorded.
            ConfigError: The cluster gives no worker, or has another Segue.
        """
        try:
            self._copy(self._actor(worker), worker, todo, records)
        except RayActorError as fault:
            message = f"the Ray worker that copied range {todo.range.number} is gone"
            raise WorkerLost(message, hint="What it had acknowledged is recorded; the same command goes on.") from fault

    def _copy(self, there: Any, worker: int, todo: RangeProgress, records: Records) -> None:
        copying = there.copy.remote(worker, todo)
        is_asked = False
        while True:
            ended, _ = ray.wait([copying], timeout=0)
            told: list[_Told] = ray.get(there.told.remote())
            for one in told:
                getattr(records, one.method)(*one.arguments)
                if one.is_awaited:
                    there.confirm.remote()
            if self._stop.is_set() and not is_asked:
                there.stop.remote()
                is_asked = True
            if ended and not told:
                break
        fault: SegueError | None = ray.get(copying)
        if fault is not None:
            raise fault

    def _actor(self, worker: int) -> Any:
        if worker not in self._actors:
            begun: Any = ray.remote(_There).options(num_cpus=1, max_concurrency=4).remote(self._open_copier)
            try:
                version = ray.get(begun.version.remote(), timeout=START_SECONDS)
            except GetTimeoutError:
                cpus = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
                message = f"the Ray cluster at {self._address!r} gave worker {worker} no CPU within {START_SECONDS:g} s"
                raise ConfigError(message, hint=f"It has {cpus:g} CPUs in all; --workers asks for fewer.") from None
            except RayActorError as fault:
                message = f"the Ray cluster at {self._address!r} cannot begin a worker: {str(fault).splitlines()[-1]}"
                hint = f"Its machines need the same Segue as this one: pip install 'segue[fast,ray]=={_version()}'."
                raise ConfigError(message, hint=hint) from fault
            if version != _version():
                message = f"the Ray cluster at {self._address!r} has Segue {version}, and this is {_version()}"
                raise ConfigError(message, hint="Install the same version on all its machines.")
            self._actors[worker] = begun
        return self._actors[worker]


@dataclass(frozen=True, slots=True)
class _Told:
    """A call of `Records` on its way to where they are kept."""

    method: str
    arguments: tuple[Any, ...]
    is_awaited: bool


class _Telling:
    """The `Records` an actor has: it keeps nothing, and waits until what must be recorded is."""

    def __init__(self) -> None:
        self.told: SimpleQueue[_Told] = SimpleQueue()
        self.recorded = threading.Semaphore(0)

    def sending(self, range_number: int) -> None:
        """See `Records`."""
        self._tell("sending", range_number, is_awaited=True)

    def landed(self, worker: int, batch: Landed) -> None:
        """See `Records`."""
        self._tell("landed", worker, batch, is_awaited=True)

    def working(self, worker: int, activity: str) -> None:
        """See `Records`."""
        self._tell("working", worker, activity)

    def note(self, text: str) -> None:
        """See `Records`."""
        self._tell("note", text)

    def _tell(self, method: str, *arguments: Any, is_awaited: bool = False) -> None:
        self.told.put(_Told(method, arguments, is_awaited))
        if is_awaited:
            self.recorded.acquire()


class _There:
    """What an actor does. Ray calls it by several threads: one copies, the others pass on what it tells."""

    def __init__(self, open_copier: OpenCopier) -> None:
        self._open_copier = open_copier
        self._telling = _Telling()
        self._stop = threading.Event()
        self._opened = ExitStack()
        self._copier: Copier | None = None

    def version(self) -> str:
        """Return Segue's version over there."""
        return _version()

    def copy(self, worker: int, todo: RangeProgress) -> SegueError | None:
        """Copy a range; return the fault that ended it, since Ray would wrap what is raised."""
        try:
            if self._copier is None:
                self._copier = self._opened.enter_context(self._open_copier(self._telling, self._stop))
                gc.collect()
                gc.freeze()
            self._copier.copy(worker, todo, self._telling)
        except SegueError as fault:
            return fault
        return None

    def told(self) -> list[_Told]:
        """Return what is to be passed on, as soon as there is something, and after half a second in any case."""
        told: list[_Told] = []
        with suppress(Empty):
            told.append(self._telling.told.get(timeout=_WAKE_SECONDS))
            while True:
                told.append(self._telling.told.get_nowait())
        return told

    def confirm(self) -> None:
        """Let the copy go on: what it told is recorded."""
        self._telling.recorded.release()

    def stop(self) -> None:
        """Ask the copy to stop."""
        self._stop.set()


def _version() -> str:
    return importlib.metadata.version("segue")
