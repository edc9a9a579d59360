"""PostgreSQL, the operating system's, with password authentication; under another user when we are root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from segue.sandbox.endpoint import Endpoint
from segue.sandbox.processes import Command, run_tool
from segue.sandbox.system_programs import required

_PACKAGE = "postgresql"


@dataclass(frozen=True)
class PostgresServer:
    """PostgreSQL with one superuser `segue`, reachable by TCP on loopback only."""

    service: str = "postgres"
    username: str = "segue"
    port_purposes: tuple[str, ...] = ("postgres",)
    polite_signal: signal.Signals = signal.SIGINT  # "fast": does not wait for clients to leave
    stop_patience_seconds: float = 10
    start_patience_seconds: float = 60

    def version(self) -> str:
        """Whatever the system has."""
        command = Command([_program("postgres"), "--version"], Path(os.sep))
        return run_tool(command, purpose="asking PostgreSQL for its version").split()[2]

    def install(self) -> None:
        """Find or install server and client."""
        _program("initdb")
        _program("psql")

    def new_home(self, root: Path) -> Path:
        """Under the root when we are its user; else a temporary folder, since no other user gets through root's own."""
        account = _account()
        if account is None:
            home = root / self.service
            home.mkdir(parents=True, mode=0o700)
            return home
        home = Path(tempfile.mkdtemp(prefix="segue-postgres-"))
        shutil.chown(home, account)
        return home

    def uri(self, port: int) -> str:
        """The `postgres` database on loopback."""
        return f"postgresql://127.0.0.1:{port}/postgres"

    def initialise(self, endpoint: Endpoint) -> None:
        """Run `initdb`, which reads the password from a file."""
        secret = endpoint.home / "password"
        secret.touch(mode=0o600)
        secret.write_text(endpoint.password, encoding="utf-8")
        account = _account()
        if account is not None:
            shutil.chown(secret, account)
        arguments = [_program("initdb"), "--auth=scram-sha-256", f"--username={endpoint.username}"]
        arguments += [f"--pwfile={secret}", "--encoding=UTF8", "--locale=C", "-D", str(endpoint.home / "data")]
        run_tool(Command(arguments, endpoint.home, user=account), purpose="creating the PostgreSQL data folder")
        secret.unlink()

    def command(self, endpoint: Endpoint) -> Command:
        """The server itself; no socket files, whose paths may not be long."""
        arguments = [_program("postgres"), "-D", str(endpoint.home / "data"), "-p", str(endpoint.ports["postgres"])]
        arguments += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        return Command(arguments, endpoint.home, user=_account())

    def query(self, endpoint: Endpoint) -> None:
        """SELECT 1 with the password."""
        environment = {"PGPASSWORD": endpoint.password, "PGUSER": endpoint.username, "PGCONNECT_TIMEOUT": "5"}
        command = Command([_program("psql"), "-w", "-c", "select 1", endpoint.uri], Path(os.sep), environment)
        run_tool(command, purpose="asking PostgreSQL", deadline_seconds=10)


def _account() -> str | None:
    """Whom the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _program(name: str) -> str:
    return required(name, _PACKAGE, find=_find)


def _find(name: str) -> str | None:
    """On the path, else in the newest of Debian's version folders, which are not on it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return next((str(folder / name) for folder in reversed(folders) if (folder / name).exists()), shutil.which(name))
