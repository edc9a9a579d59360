"""Bringing the sandbox's servers up and down: who runs, who must be started, restarted, forgotten or ended.

One lock per root makes concurrent calls safe. A record per service says which process it is; a record whose process has
gone, or whose pid belongs to somebody else by now, is stale and never acted on.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from segue.errors import ConfigError, FatalError, Interrupted, SegueError
from segue.sandbox.endpoint import Endpoint, forget, load, save
from segue.sandbox.milvus_server import MilvusServer
from segue.sandbox.neo4j_server import NEO4J_5, NEO4J_2026
from segue.sandbox.postgres_server import PostgresServer
from segue.sandbox.processes import end, free_ports, is_alive, is_free, locked, log_ending, names_a_taken_port, spawn
from segue.sandbox.prometheus_server import PrometheusServer
from segue.sandbox.redis_server import RedisServer
from segue.sandbox.server import Server
from segue.sandbox.settings import sandbox_root

_SERVERS: dict[str, Server] = {
    server.service: server
    for server in (NEO4J_2026, NEO4J_5, MilvusServer(), RedisServer(), PostgresServer(), PrometheusServer())
}
_ALIAS = "neo4j"
SERVICES = (_ALIAS, *_SERVERS)
DEFAULT = (_ALIAS, "milvus", "redis", "postgres")
_POLL_SECONDS = 0.25
_TRIES = 3

Announce = Callable[[str], None]


def _say_nothing(_line: str) -> None:
    pass


def up(wanted: Sequence[str] = DEFAULT, *, root: Path | None = None, announce: Announce = _say_nothing) -> dict[str, Endpoint]:
    """Make sure that these services run and answer; returns them by their own names, `neo4j` as the line it became.

    What runs is used again; what died is started again with its data, ports and password. Installs what is missing.

    Raises:
        ConfigError: A name is no service of the sandbox.
        FatalError: A service cannot be installed or does not start; the others run. Calling again tries again.
    """
    root = root or sandbox_root()
    servers = _chosen(wanted)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(root / "lock", lambda: announce("waiting for another process that works on this sandbox")):
        cancelled = threading.Event()
        starts = [_Start(server, root, announce, cancelled) for server in servers]
        with ThreadPoolExecutor(max_workers=len(starts) or 1) as threads:
            futures = [threads.submit(start.run) for start in starts]
            try:
                errors = [future.exception() for future in futures]
            except BaseException:  # Ctrl-C: the threads end what they started, then this goes on.
                cancelled.set()
                raise
        _raise_all([error for error in errors if error is not None])
        return {server.service: future.result() for server, future in zip(servers, futures, strict=True)}


def down(root: Path | None = None, *, services: Sequence[str] = tuple(_SERVERS)) -> list[str]:
    """End the sandbox's servers, all or these, and remove their data, keeping the logs; returns those that ran.

    Running it twice, or without a sandbox, does nothing. A process that only took over an old pid is left alone.
    """
    root = root or sandbox_root()
    if not root.is_dir():
        return []
    with locked(root / "lock"):
        records = [record for service in services if (record := load(root, service))]
        ended = [record.service for record in records if is_alive(record.pid, record.started)]
        with ThreadPoolExecutor(max_workers=len(_SERVERS)) as threads:
            list(threads.map(lambda record: _remove(record, root), records))
    return ended


def running(root: Path | None = None) -> dict[str, Endpoint]:
    """The services that have answered and whose processes run, by their own names; asks the system, not the servers."""
    root = root or sandbox_root()
    records = [record for service in _SERVERS if (record := load(root, service)) and record.is_initialised]
    return {record.service: record for record in records if is_alive(record.pid, record.started)}


def _chosen(wanted: Sequence[str]) -> list[Server]:
    unknown = sorted(set(wanted) - set(SERVICES))
    if unknown:
        message = f"the sandbox has no service {', '.join(unknown)}"
        raise ConfigError(message, hint=f"It has {', '.join(SERVICES)}.")
    names = [_newest_neo4j_line() if name == _ALIAS else name for name in wanted]
    return [_SERVERS[name] for name in dict.fromkeys(names)]


def _newest_neo4j_line() -> str:
    try:
        NEO4J_2026.java()
    except FatalError:
        return NEO4J_5.service
    return NEO4J_2026.service


def _remove(record: Endpoint, root: Path) -> None:
    server = _SERVERS[record.service]
    end(record.pid, record.started, polite_signal=server.polite_signal, patience_seconds=server.stop_patience_seconds)
    shutil.rmtree(record.home, ignore_errors=True)
    forget(root, record.service)


def _raise_all(errors: list[BaseException]) -> None:
    if not errors:
        return
    known = [error for error in errors if isinstance(error, SegueError)]
    if len(errors) == 1 or len(known) < len(errors):
        raise next((error for error in errors if error not in known), errors[0])
    message = "; ".join(error.message for error in known)
    raise FatalError(message, hint="\n".join(error.hint for error in known if error.hint)) from errors[0]


@dataclass(frozen=True)
class _Start:
    """The start of one service, in a thread of its own."""

    server: Server
    root: Path
    announce: Announce
    cancelled: threading.Event

    def run(self) -> Endpoint:
        service = self.server.service
        record = load(self.root, service)
        if record and is_alive(record.pid, record.started):
            return self._reuse(record)
        self.announce(f"{service}: preparing")
        self.server.install()
        if self.cancelled.is_set():
            raise self._interrupted()
        if record and record.is_initialised and record.home.is_dir():
            self.announce(f"{service}: its process has gone; starting it again with its data")
            endpoint = self._with_usable_ports(record)
        else:
            if record:
                shutil.rmtree(record.home, ignore_errors=True)
            endpoint = self._new_endpoint()
        return self._launch(endpoint)

    def _reuse(self, record: Endpoint) -> Endpoint:
        ready = self._wait_until_ready(record)
        self.announce(f"{ready.service}: runs already at {ready.uri}")
        return ready

    def _new_endpoint(self) -> Endpoint:
        log = self.root / "logs" / f"{self.server.service}.log"
        log.unlink(missing_ok=True)
        ports = free_ports(*self.server.port_purposes)
        leftover = self.root / self.server.service
        shutil.rmtree(leftover, ignore_errors=True)
        endpoint = Endpoint(
            service=self.server.service,
            version=self.server.version(),
            uri=self.server.uri(ports[self.server.port_purposes[0]]),
            username=self.server.username,
            password=secrets.token_hex(16),
            pid=0,
            started=0.0,
            home=self.server.new_home(self.root),
            log=log,
            ports=ports,
        )
        save(endpoint, self.root)
        self.server.initialise(endpoint)
        return endpoint

    def _with_usable_ports(self, record: Endpoint) -> Endpoint:
        return record if all(is_free(port) for port in record.ports.values()) else self._with_other_ports(record)

    def _with_other_ports(self, record: Endpoint) -> Endpoint:
        ports = free_ports(*self.server.port_purposes)
        return replace(record, ports=ports, uri=self.server.uri(ports[self.server.port_purposes[0]]))

    def _launch(self, endpoint: Endpoint) -> Endpoint:
        """Start it; on other ports when somebody took one of its own between the look at them and its start."""
        for _ in range(_TRIES - 1):
            logged = endpoint.log.stat().st_size if endpoint.log.exists() else 0
            try:
                return self._launched(endpoint)
            except FatalError:
                if not names_a_taken_port(endpoint.log, logged):
                    raise
                self.announce(f"{endpoint.service}: a port of its own was taken; trying others")
                endpoint = self._with_other_ports(endpoint)
        return self._launched(endpoint)

    def _launched(self, endpoint: Endpoint) -> Endpoint:
        began = time.monotonic()
        self.announce(f"{endpoint.service}: starting")
        pid, started = spawn(self.server.command(endpoint), endpoint.log)
        endpoint = replace(endpoint, pid=pid, started=started)
        save(endpoint, self.root)
        endpoint = self._wait_until_ready(endpoint)
        self.announce(f"{endpoint.service}: ready at {endpoint.uri} after {time.monotonic() - began:.1f} s")
        return endpoint

    def _wait_until_ready(self, endpoint: Endpoint) -> Endpoint:
        """Query it until it answers; a process that does not is ended, so that nothing half-started stays."""
        deadline = time.monotonic() + self.server.start_patience_seconds
        problem: Exception | None = None
        while not self.cancelled.is_set() and time.monotonic() < deadline:
            try:
                self.server.query(endpoint)
            except Exception as exc:  # noqa: BLE001 - whatever a client raises, it means "not yet"
                problem = exc
            else:
                ready = replace(endpoint, is_initialised=True)
                save(ready, self.root)
                return ready
            if not is_alive(endpoint.pid, endpoint.started):
                break
            self.cancelled.wait(_POLL_SECONDS)
        self._end(endpoint)
        raise self._failure(endpoint, problem)

    def _end(self, endpoint: Endpoint) -> None:
        patience = self.server.stop_patience_seconds
        end(endpoint.pid, endpoint.started, polite_signal=self.server.polite_signal, patience_seconds=patience)

    def _failure(self, endpoint: Endpoint, problem: Exception | None) -> SegueError:
        if self.cancelled.is_set():
            return self._interrupted()
        message = f"{endpoint.service} {endpoint.version} does not answer at {endpoint.uri}"
        hint = f"The end of its log, {endpoint.log}:\n{log_ending(endpoint.log)}"
        return FatalError(f"{message} ({type(problem).__name__})" if problem else message, hint=hint)

    def _interrupted(self) -> SegueError:
        return Interrupted(f"starting {self.server.service} was interrupted")
