"""A TCP proxy on loopback that can be cut, mended and made a black hole: what networks and hanging servers do.

Owns sockets and threads; knows no protocol.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_BYTES = 65_536


class Proxy:
    """Passes connections on to a server, until told otherwise. Usable from several threads.

    Args:
        host: The server's host.
        port: The server's port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._mutex = threading.Lock()
        self._passing = threading.Event()
        self._answering = threading.Event()
        self.port = 0
        self.passed = 0
        self.mend()

    def cut(self) -> None:
        """Close every connection and refuse new ones. Idempotent."""
        with self._mutex:
            open_ones = [*self._connections, *([self._listener] if self._listener else [])]
            self._listener = None
            self._connections.clear()
        for one in open_ones:
            _close(one)
        # Only now, so that what was held back is lost with its connection.
        self._passing.set()
        self._answering.set()

    def mend(self) -> None:
        """Take connections again, on the same port as ever, and pass on what they send. Idempotent."""
        self._passing.set()
        self._answering.set()
        if self._listener is not None:
            return
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def swallow(self) -> None:
        """Become a black hole: connections open and stay open, and nothing that is sent arrives anywhere. Idempotent."""
        self._passing.clear()

    def mute(self) -> None:
        """Let everything arrive at the server, and hold its answers back; `mend` lets them through, `cut` loses them."""
        self._answering.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._passing.wait()
        try:
            server = socket.create_connection(self._server)
        except OSError:
            _close(client)
            return
        with self._mutex:
            self._connections |= {client, server}
        for here, there, gate in ((client, server, self._passing), (server, client, self._answering)):
            threading.Thread(target=self._pass, args=(here, there, gate), daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := here.recv(_BYTES):
                self._passing.wait()
                gate.wait()
                there.sendall(data)
                self.passed += len(data)
        with self._mutex:
            self._connections -= {here, there}
        _close(here)
        _close(there)


@contextmanager
def proxied(address: str) -> Iterator[tuple[Proxy, str]]:
    """Give a proxy before the server at an address, and the address by which to go through it."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    try:
        yield proxy, f"{parts.scheme}://127.0.0.1:{proxy.port}"
    finally:
        proxy.cut()


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
