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
            listener, self._listener = self._listener, None
            open_ones = [*self._connections]
        if listener is not None:
            _shut(listener)
            listener.close()
        for one in open_ones:
            _shut(one)
        # Only now, so that what was held back is lost with its connection.
        self._passing.set()
        self._answering.set()

    def mend(self) -> None:
        """Take connections again, on the same port as ever, and pass on what they send. Idempotent."""
        self._passing.set()
        self._answering.set()
        with self._mutex:
            if self._listener is not None:
                return
            listener = self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
            self.port = listener.getsockname()[1]
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
            threading.Thread(target=self._connect, args=(client, listener), daemon=True).start()

    def _connect(self, client: socket.socket, listener: socket.socket) -> None:
        self._passing.wait()
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            with self._mutex:
                if self._listener is not listener:
                    # Cut while it was being made.
                    return
                self._connections |= {client, server}
            back = threading.Thread(target=self._pass, args=(server, client, self._answering), daemon=True)
            back.start()
            self._pass(client, server, self._passing)
            # Closed only when nobody reads it any more: its number may be another connection's next.
            back.join()
            with self._mutex:
                self._connections -= {client, server}

    def _pass(self, here: socket.socket, there: socket.socket, gate: threading.Event) -> None:
        with suppress(OSError):
            while data := here.recv(_BYTES):
                self._passing.wait()
                gate.wait()
                there.sendall(data)
                self.passed += len(data)
        _shut(here)
        _shut(there)


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


def _shut(one: socket.socket) -> None:
    """End what goes over it, both ways, and wake whoever waits for it."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
