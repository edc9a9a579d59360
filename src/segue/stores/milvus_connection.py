"""The one place that connects to Milvus and puts its errors into Segue's words.

Two ways to the same server: `MilvusClient` for everything that is rare, and a gRPC channel of our own for upserts, queries and
searches, which carries requests built by `milvus_wire` without a client that copies and retries. Every call has a deadline;
pymilvus's own retries (75 of them) are off, so that an outcome is known when it is reported.
"""

from __future__ import annotations

import base64
import importlib.util
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import grpc

from segue.errors import (
    AuthenticationFailed,
    ConfigError,
    DatabaseNotFound,
    DataError,
    ExtraMissing,
    FatalError,
    NotLoaded,
    RetryableError,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    Throttled,
    TlsMismatch,
)
from segue.stores.milvus_client import (
    DataNotMatchException,
    DataTypeNotMatchException,
    MilvusClient,
    MilvusException,
    milvus_pb2,
    milvus_pb2_grpc,
)
from segue.stores.tls_probe import PROBE_SECONDS, takes_tls

# pymilvus logs a stack trace for every error it raises, handled or not.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

_BUSY_CODES = {1, 2, 3, 4, 7, 9}
"""merr: not ready, unavailable, memory, request limit, disk limit, deny: the server may take the same request later."""

_NOT_NOW: Mapping[int | grpc.StatusCode, tuple[type[RetryableError], str]] = {
    **dict.fromkeys((8, 49), (Throttled, "asks for less")),
    # For a while after a restart; or until it is loaded again, by whoever released it.
    **dict.fromkeys((101, 103), (NotLoaded, "has a collection out of memory")),
}
"""What may succeed later, and what is said of it."""
_DATABASE_CODES = {800}
_RECOVERING = ("node not match", "node not found", "session not found")
"""A server that was killed and is back knows its own parts by their old names for a minute; it gives no code of its own."""

_OUT_OF_TIME = ("context deadline exceeded", "context done", "context canceled")
"""The server knows a request's deadline, and may find out first that it has passed; it gives no code of its own for that."""

_GRPC_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is back is to be found at once; left alone, gRPC waits up to two minutes.
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class MilvusConnection:
    """A Milvus server, or a Milvus Lite file. Usable from several threads; opened at once.

    Args:
        uri: http://HOST:PORT, https://HOST:PORT, or a path ending in `.db`.
        token: "user:password" or an API key; empty for none.
        database: The database all calls name.
        ca_file: The certificate authority to trust under https, None for the system's.
        timeout_seconds: The deadline of every request.

    Raises:
        StoreUnavailable, TlsMismatch, AuthenticationFailed, DatabaseNotFound, ConfigError
    """

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        database: str = "default",
        ca_file: Path | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.uri = uri
        self.database = database
        self.timeout_seconds = timeout_seconds
        self.lite = uri.endswith(".db")
        if self.lite and importlib.util.find_spec("milvus_lite") is None:
            raise ExtraMissing.of(what=f"Milvus Lite at {uri}", extra="lite", missing=["milvus-lite"])
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._metadata = _metadata(token, database)
        with ExitStack() as opened:
            if not self.lite:
                self._channel = _channel(uri, ca_file)
                # Left open, one that is not ready would try on for ever, in a thread of its own.
                opened.callback(self._channel.close)
                # Made once: it holds a callable for each of the service's methods.
                self._stub = milvus_pb2_grpc.MilvusServiceStub(self._channel)
                self._await(self._channel, min(timeout_seconds, 10.0))
                self._knock()
            options = {"server_pem_path": str(ca_file)} if ca_file else {}
            with self.translated():
                # Of a file there is no other database; pymilvus 2.6 takes none for the first part of the file's path.
                self.client = MilvusClient(
                    uri, token=token, db_name="default" if self.lite else database, timeout=10.0, **options
                )
                opened.callback(self.client.close)
                self.client.list_collections(timeout=10.0)
            opened.pop_all()

    def __enter__(self) -> Self:
        """Return the connection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both ways."""
        self.close()

    def close(self) -> None:
        """Close both ways. Idempotent."""
        if self._channel is not None:
            self._channel.close()
        self.client.close()

    def send_upsert(self, request: Any) -> grpc.Future[Any]:
        """Send a prepared upsert request; returns at once.

        Raises:
            FatalError: This is a Lite file, which has no channel of ours.
        """
        return self._send(self._requests().Upsert, request, self.timeout_seconds)

    def send_query(self, request: Any) -> grpc.Future[Any]:
        """Send a prepared query request; returns at once.

        Raises:
            FatalError: This is a Lite file, which has no channel of ours.
        """
        return self._send(self._requests().Query, request, self.timeout_seconds)

    def send_search(self, request: Any, timeout_seconds: float) -> grpc.Future[Any]:
        """Send a prepared search request; returns at once.

        Raises:
            FatalError: This is a Lite file, which has no channel of ours.
        """
        return self._send(self._requests().Search, request, timeout_seconds)

    def ask(self, method: str, request: Any) -> Any:
        """Send a request that pymilvus has no call for, and return the answer.

        Raises:
            FatalError: This is a Lite file, which has no channel of ours.
            DataError: The server refuses it, or does not know it.
        """
        with self.translated():
            answer = self._send(getattr(self._requests(), method), request, self.timeout_seconds).result()
        # Some calls answer with nothing but a status.
        status = getattr(answer, "status", answer)
        code = status.code or status.error_code
        if code:
            raise self.refusal(code, status.reason)
        return answer

    def _requests(self) -> Any:
        if self._stub is None:
            message = "a Milvus Lite file takes calls of its client, not requests"
            raise FatalError(message)
        return self._stub

    def _send(self, method: Any, request: Any, timeout_seconds: float) -> grpc.Future[Any]:
        try:
            future: grpc.Future[Any] = method.future(request, timeout=timeout_seconds, metadata=self._metadata)
        except ValueError as fault:
            # What gRPC says of a channel that somebody has closed.
            message = f"Milvus at {self.uri}: the connection is closed"
            raise StoreUnavailable(message) from fault
        return future

    @contextmanager
    def translated(self, timeout_seconds: float | None = None) -> Iterator[None]:
        """Raise Segue's errors for pymilvus's and gRPC's; a deadline is named as given, else as every request's."""
        try:
            yield
        except (DataNotMatchException, DataTypeNotMatchException) as fault:
            # pymilvus looked at the rows itself, and gives the code that servers give when they are not ready.
            message = f"Milvus at {self.uri} cannot be sent these rows: {fault.message}"
            raise DataError(message) from fault
        except MilvusException as fault:
            raise self.refusal(fault.code, fault.message or str(fault)) from fault
        except grpc.RpcError as fault:
            raise self._failure(fault, timeout_seconds or self.timeout_seconds) from fault

    def refusal(self, code: int | grpc.StatusCode, message: str) -> SegueError:
        """Return the error for a status the server answered with."""
        where = f"Milvus at {self.uri}"
        text = message.strip().splitlines()[0] if message.strip() else "no reason given"
        lowered = text.lower()
        if "auth check failure" in lowered or "unauthenticated" in lowered:
            return AuthenticationFailed(f"{where} refuses the token", hint=_TOKEN_HINT)
        if code in _DATABASE_CODES or "database not found" in lowered:
            return DatabaseNotFound(f"{where} has no database {self.database!r}", hint="Set [milvus] database, or create it.")
        if code in _NOT_NOW:
            kind, words = _NOT_NOW[code]
            return kind(f"{where} {words}: {text}")
        # pymilvus gives gRPC's status as the code when it gives up trying again, as its `delete` does while a server is away.
        away = isinstance(code, grpc.StatusCode) or code in _BUSY_CODES or "fail connecting" in lowered
        if away or any(sign in message.lower() for sign in _RECOVERING):
            return StoreUnavailable(f"{where} does not answer: {text}", hint=_ADDRESS_HINT)
        if any(sign in lowered for sign in _OUT_OF_TIME):
            return StoreTimeout(f"{where} gave no answer in time: {text}", hint=_TIME_HINT)
        return DataError(f"{where} refuses the request: {text} (code {code})")

    def _failure(self, fault: grpc.RpcError, timeout_seconds: float) -> SegueError:
        where = f"Milvus at {self.uri}"
        # What the library raises is a Call too, which its types do not say.
        code = getattr(fault, "code", lambda: None)()
        text = str(getattr(fault, "details", lambda: None)() or type(fault).__name__)
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationFailed(f"{where} refuses the token", hint=_TOKEN_HINT)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return StoreTimeout(f"{where} gave no answer within {timeout_seconds:g} s", hint=_TIME_HINT)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
            return DataError(f"{where} takes no message of that size: {text}")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Throttled(f"{where} asks for less: {text}")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return StoreUnavailable(f"{where} does not answer: {text}", hint=_ADDRESS_HINT)
        return FatalError(f"{where}: {text}")

    def _knock(self) -> None:
        """Show the token by our own channel first: pymilvus reports a refused one like a server that is down."""
        with self.translated():
            self._stub.ShowCollections(milvus_pb2.ShowCollectionsRequest(), timeout=10.0, metadata=self._metadata)

    def _await(self, channel: grpc.Channel, seconds: float) -> None:
        """Wait until the channel is open, and find out why when it does not open."""
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise self._unopened() from None

    def _unopened(self) -> SegueError:
        where, parts = f"Milvus at {self.uri}", urlsplit(self.uri)
        host, port = parts.hostname or "", parts.port or 19530
        try:
            heard = _heard(host, port)
        except OSError:
            return StoreUnavailable(f"{where} does not answer: nothing listens there", hint=_ADDRESS_HINT)
        if heard is None:
            hint = "Is it still starting, or overloaded? Its log says."
            return StoreTimeout(f"{where} takes connections but gives no answer", hint=hint)
        if takes_tls(host, port) or (parts.scheme == "https" and heard):
            hint = "http:// is plain, https:// is TLS with a trusted certificate ([milvus] ca_file): MILVUS_URI."
            return TlsMismatch(f"{where}: something listens there, but not with {parts.scheme}://", hint=hint)
        # As a load balancer does while the server behind it is away.
        return StoreUnavailable(f"{where} does not answer: something takes connections there and hangs up", hint=_ADDRESS_HINT)


_TOKEN_HINT = "Set MILVUS_TOKEN (user:password, or an API key) or MILVUS_TOKEN_FILE."  # noqa: S105  # names a variable
_TIME_HINT = "Is it overloaded, or the network cut? [milvus] request_timeout_seconds gives it more time."
_ADDRESS_HINT = "Is the server up, and the address right? MILVUS_URI or [milvus] uri."


def _metadata(token: str, database: str) -> tuple[tuple[str, str], ...]:
    credentials = (("authorization", base64.b64encode(token.encode()).decode()),) if token else ()
    return (*credentials, ("dbname", database))


def _channel(uri: str, ca_file: Path | None) -> grpc.Channel:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https", "tcp") or not parts.hostname:
        message = f"{uri!r} is no Milvus address"
        raise ConfigError(message, hint="Give http://HOST:PORT, https://HOST:PORT, or the path of a .db file: MILVUS_URI.")
    target = f"{parts.hostname}:{parts.port or 19530}"
    if parts.scheme == "https":
        trusted = _certificates(ca_file) if ca_file else None
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(trusted), options=_GRPC_OPTIONS)
    return grpc.insecure_channel(target, options=_GRPC_OPTIONS)


def _certificates(ca_file: Path) -> bytes:
    try:
        return ca_file.read_bytes()
    except OSError as fault:
        message = f"cannot read the certificates in {ca_file}: {fault.strerror}"
        raise ConfigError(message, hint="Set [milvus] ca_file.") from fault


def _heard(host: str, port: int) -> bytes | None:
    """Return what whatever listens there answers to a plain request, nothing when it hangs up; None when it stays silent.

    Raises:
        OSError: Nobody listens there.
    """
    with socket.create_connection((host, port), timeout=PROBE_SECONDS) as wire:
        try:
            # No gRPC, and complete: a server with TLS refuses it, one without answers or hangs up.
            wire.sendall(b"GET / HTTP/1.1\r\nHost: segue\r\n\r\n")
            return wire.recv(1)
        except TimeoutError:
            return None
        except OSError:
            return b""
