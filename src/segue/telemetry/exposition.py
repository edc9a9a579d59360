"""A registry's metrics over HTTP, and the probes of Kubernetes beside them.

Owns the port and its threads. Knows nothing of what the metrics mean: see `metrics`; nor of what is healthy: see `health`.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from wsgiref.simple_server import WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

from segue.errors import ConfigError
from segue.telemetry.health import Health

POLL_SECONDS = 0.1

EVERY_INTERFACE = "0.0.0.0"  # noqa: S104  # Prometheus scrapes from another machine, and a metric holds no secret

PROBES: Mapping[str, Callable[[Health], Sequence[str]]] = {"/healthz": Health.stuck, "/readyz": Health.not_ready}


class Served:
    """A registry served over HTTP, by threads that do not keep the process alive."""

    def __init__(self, server: WSGIServer, thread: threading.Thread, metrics: WSGIApplication, health: Health) -> None:
        self._server = server
        self._thread = thread
        self._health = health
        self._scraped = 0.0
        self._metrics = metrics
        server.set_app(self._answer)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def await_scrape(self, seconds: float, stop: threading.Event) -> bool:
        """Wait until the metrics as they are now were scraped, for so long at most; say whether they were."""
        now = time.monotonic()
        while self._scraped < now and time.monotonic() < now + seconds and not stop.wait(POLL_SECONDS):
            pass
        return self._scraped >= now

    def close(self) -> None:
        """Stop listening; the port is free afterwards."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if (question := PROBES.get(environ["PATH_INFO"])) is None:
            began = time.monotonic()
            body = self._metrics(environ, start_response)
            self._scraped = max(self._scraped, began)
            return body
        missing = question(self._health)
        start_response("503 Service Unavailable" if missing else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [("\n".join(missing or ["ok"]) + "\n").encode()]


def serve(
    port: int | None, registry: CollectorRegistry, address: str = EVERY_INTERFACE, health: Health | None = None
) -> Served:
    """Serve a registry at `/metrics`, in plain HTTP without a password, as exporters do; beside it `/healthz` and `/readyz`.

    Args:
        port: None takes any free one.
        registry: What is served.
        address: Where to listen.
        health: What the probes ask; without it they find everything well while the process runs.

    Raises:
        ConfigError: Nothing can listen there; the port may be taken.
    """
    try:
        server, thread = start_http_server(port or 0, addr=address, registry=registry)
    except OSError as fault:
        message = f"metrics cannot be served at {address}:{port or 'any port'}: {fault.strerror}"
        hint = "Choose an address of this machine and a port that this user may open."
        if fault.errno == errno.EADDRINUSE:
            message = f"metrics cannot be served at {address}:{port}: the port is taken"
            hint = "Choose another port, or stop whoever listens there (perhaps an older run of the same command)."
        raise ConfigError(message, hint=hint) from fault
    return Served(server, thread, make_wsgi_app(registry), health or Health(()))
