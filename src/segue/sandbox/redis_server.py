"""Redis, the operating system's, with a password."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from segue.errors import FatalError
from segue.sandbox.endpoint import Endpoint
from segue.sandbox.processes import Command, run_tool
from segue.sandbox.system_programs import required

_CONF = """bind 127.0.0.1
port {port}
requirepass {password}
dir {home}
save ""
appendonly yes
"""


@dataclass(frozen=True)
class RedisServer:
    """Redis with an append-only file, so that a killed one comes back with its data."""

    service: str = "redis"
    username: str = "default"
    port_purposes: tuple[str, ...] = ("redis",)
    polite_signal: signal.Signals = signal.SIGTERM
    stop_patience_seconds: float = 10
    start_patience_seconds: float = 30

    def version(self) -> str:
        """Whatever the system has."""
        program = required("redis-server", "redis-server")
        output = run_tool(Command([program, "--version"], Path(os.sep)), purpose="asking Redis for its version")
        match = re.search(r"v=(\S+)", output)
        return match[1] if match else "unknown"

    def install(self) -> None:
        """Find or install server and client."""
        required("redis-server", "redis-server")
        required("redis-cli", "redis-tools")

    def new_home(self, root: Path) -> Path:
        """A folder under the sandbox's root."""
        home = root / self.service
        home.mkdir(parents=True)
        return home

    def uri(self, port: int) -> str:
        """Database 0 on loopback."""
        return f"redis://127.0.0.1:{port}/0"

    def initialise(self, endpoint: Endpoint) -> None:
        """Nothing: the password is in the configuration."""

    def command(self, endpoint: Endpoint) -> Command:
        """Write the configuration, readable by the owner alone since it holds the password."""
        conf = endpoint.home / "redis.conf"
        conf.touch(mode=0o600)
        text = _CONF.format(port=endpoint.ports["redis"], password=endpoint.password, home=endpoint.home)
        conf.write_text(text, encoding="utf-8")
        return Command([required("redis-server", "redis-server"), str(conf)], endpoint.home)

    def query(self, endpoint: Endpoint) -> None:
        """PING with the password."""
        arguments = [required("redis-cli", "redis-tools"), "-h", "127.0.0.1", "-p", str(endpoint.ports["redis"])]
        environment = {"REDISCLI_AUTH": endpoint.password}
        command = Command([*arguments, "ping"], Path(os.sep), environment)
        if "PONG" not in run_tool(command, purpose="asking Redis", deadline_seconds=10):  # It exits with 0 when refused.
            message = "Redis refuses the password or is not ready"
            raise FatalError(message)
