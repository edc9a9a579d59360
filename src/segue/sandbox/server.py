"""What every kind of server must say about itself, so that `lifecycle` can treat them alike."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Protocol

from segue.sandbox.endpoint import Endpoint
from segue.sandbox.processes import Command


class Server(Protocol):
    """One kind of server. Its calls may take minutes the first time (downloads) and run in a thread of their own."""

    @property
    def service(self) -> str:
        """The name users know it by."""

    @property
    def username(self) -> str:
        """The user that gets the random password."""

    @property
    def port_purposes(self) -> tuple[str, ...]:
        """What it needs ports for; the first is the one that clients connect to."""

    @property
    def polite_signal(self) -> signal.Signals:
        """The signal that asks it to stop."""

    @property
    def stop_patience_seconds(self) -> float:
        """How long it may take to stop before it is killed."""

    @property
    def start_patience_seconds(self) -> float:
        """How long it may take from its start to its first answer."""

    def version(self) -> str:
        """The version of what `install` got."""

    def install(self) -> None:
        """Get all programs it needs; quick when they are there.

        Raises:
            FatalError: Something is missing and cannot be installed without the user.
        """

    def new_home(self, root: Path) -> Path:
        """An empty folder for its data, which it may write as the user it runs under."""

    def uri(self, port: int) -> str:
        """Its address, without credentials, on that port (the first of `port_purposes`)."""

    def initialise(self, endpoint: Endpoint) -> None:
        """Put configuration and password into an empty home, before the first start."""

    def command(self, endpoint: Endpoint) -> Command:
        """How to start it on its home."""

    def query(self, endpoint: Endpoint) -> None:
        """Ask it something with its password; any exception means that it is not ready."""
