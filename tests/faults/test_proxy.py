"""The proxy by which the tests cut networks: what is cut is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from acceptance.workplace import LONG
from faults.proxy import Proxy


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before a server that says back what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        def answer(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                while data := client.recv(100):
                    client.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        proxy = Proxy(*server.getsockname())
        yield proxy
        proxy.cut()
        server.shutdown(socket.SHUT_RDWR)


def test_no_connection_survives_a_cut(proxy: Proxy) -> None:
    """Neither one in use nor one that is only being made; mended, new ones go through."""
    with socket.create_connection(("127.0.0.1", proxy.port), LONG) as used:
        assert _answer(used) == b"x"
        proxy.swallow()
        with socket.create_connection(("127.0.0.1", proxy.port), LONG) as being_made:
            proxy.cut()
            assert _answer(used) == b""
            assert _answer(being_made) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), LONG)
    proxy.mend()
    with socket.create_connection(("127.0.0.1", proxy.port), LONG) as fresh:
        assert _answer(fresh) == b"x"


def _answer(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"x")
        return connection.recv(1)
    return b""
