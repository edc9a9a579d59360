"""One connection to one Redis server and logical database: commands in one go, errors in Segue's words.

Works on the client library's connections, below its commands: a page of a thousand keys is one write and one read, at a third
of the processor time. It never reconnects by itself, because after a restart a server's cursors mean nothing: whoever opens
the connection again learns by the run id whether that happened. Sends no command that writes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from hiredis import pack_command
from redis.connection import Connection, SSLConnection
from redis.exceptions import AskError, ClusterDownError, MasterDownError, TryAgainError

from segue.errors import (
    AuthenticationFailed,
    DatabaseNotFound,
    FatalError,
    PermissionMissing,
    RetryableError,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    TlsMismatch,
)
from segue.stores.tls_probe import takes_tls, was_refused_by_tls

OWN_KEYS = b"segue:agentdb:"
"""What the keys begin with that Segue keeps beside the agents' own: the gate and the outbox."""

Command = tuple[bytes | str | int, ...]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a server is, and how to speak to it.

    Attributes:
        host, port: The server.
        tls: Whether it speaks TLS.
        ca_file: Whom to trust, besides the system's authorities.
        username, password: The credentials.
        connect_timeout_seconds, request_timeout_seconds: How long connecting, and one answer, may take.
    """

    host: str
    port: int
    tls: bool
    ca_file: Path | None
    username: str | None
    password: str | None
    connect_timeout_seconds: float
    request_timeout_seconds: float

    def at(self, host: str, port: int) -> RedisAddress:
        """Return another server with the same customs."""
        return replace(self, host=host, port=port)

    def __str__(self) -> str:
        """Return host and port."""
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Return host and port, never the password."""
        return f"RedisAddress({self})"


class RedisLink:
    """A connection that is open from its making to its closing.

    Args:
        address: Where.
        db: The logical database.

    Raises:
        SegueError: Nothing answers there, or it refuses.
    """

    def __init__(self, address: RedisAddress, db: int) -> None:
        self.address = address
        self.db = db
        extra: dict[str, Any] = {}
        if address.tls:
            extra = {"ssl_ca_certs": str(address.ca_file) if address.ca_file else None, "ssl_check_hostname": True}
        self._connection = (SSLConnection if address.tls else Connection)(
            host=address.host,
            port=address.port,
            db=db,
            username=address.username or None,
            password=address.password or None,
            socket_timeout=address.request_timeout_seconds,
            socket_connect_timeout=address.connect_timeout_seconds,
            socket_keepalive=True,
            protocol=2,
            **extra,
        )
        self._is_open = True
        with self._translated():
            self._connection.connect()
        self.facts = self.info("server")
        self.run_id = self.facts.get("run_id", "")

    def close(self) -> None:
        """Close it. Idempotent."""
        self._is_open = False
        with suppress(redis.RedisError, OSError):
            self._connection.disconnect()

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._is_open

    def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go and return their replies; one that is refused has the refusal as its reply."""
        if not self._is_open:
            message = f"the connection to Redis at {self.address} is closed"
            raise StoreUnavailable(message)
        with self._translated():
            self._connection.send_packed_command([b"".join([pack_command(command) for command in commands])])
            read, replies = self._connection.read_response, []
            for _ in commands:
                try:
                    replies.append(read())
                except redis.ResponseError as refusal:
                    replies.append(refusal)
            return replies

    def ask(self, *command: bytes | str | int) -> Any:
        """Send one command and return its reply.

        Raises:
            SegueError: It is refused.
        """
        reply = self.call([command])[0]
        if isinstance(reply, redis.RedisError):
            raise self._translate(reply) from reply
        return reply

    def pushed(self, seconds: float) -> Any:
        """Return the next message of a subscription, None where none comes within that time."""
        if not self._is_open:
            message = f"the connection to Redis at {self.address} is closed"
            raise StoreUnavailable(message)
        with self._translated():
            return self._connection.read_response() if self._connection.can_read(seconds) else None

    def together(self, commands: Sequence[Command]) -> tuple[int, list[Any]]:
        """Run commands in one step of the server; return its clock in microseconds, and the replies."""
        replies = self.call([("MULTI",), ("TIME",), *commands, ("EXEC",)])
        refused = next((one for one in replies if isinstance(one, redis.RedisError)), None)
        if refused is not None:
            raise self._translate(refused) from refused
        clock, *found = replies[-1]
        return clock_of(clock), found

    def one_by_one(self, commands: Sequence[Command]) -> tuple[int, list[Any]]:
        """Run commands where a cluster allows no transaction over several slots; the clock is read just before them."""
        clock, *found = self.call([("TIME",), *commands])
        if isinstance(clock, redis.RedisError):
            raise self._translate(clock) from clock
        return clock_of(clock), found

    def info(self, section: str) -> dict[str, str]:
        """Return a section of the server's facts."""
        lines = self.ask("INFO", section).decode("utf-8", "replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def refuse(self, reply: object) -> None:
        """Raise a reply that is a refusal, unless it only says that the key is of another type."""
        if isinstance(reply, redis.RedisError) and not is_wrong_type(reply):
            raise self._translate(reply) from reply

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError, ssl.SSLError) as fault:
            # What was sent and not answered would be taken for the answer to the next question.
            self.close()
            raise self._translate(fault) from fault
        except BaseException:
            self.close()
            raise

    def _translate(self, fault: Exception) -> SegueError:  # noqa: PLR0911  # one return an error, in order of precedence
        where, told = f"Redis at {self.address}", (str(fault) or type(fault).__name__).splitlines()[0]
        told = told.replace(self.address.password, "…") if self.address.password else told
        if isinstance(fault, redis.AuthenticationError) or told.startswith(("WRONGPASS", "NOAUTH", "invalid username")):
            user = f"user {self.address.username!r}" if self.address.username else "the default user"
            hint = "Set REDIS_URL with the right password, or REDIS_USERNAME and REDIS_PASSWORD (or REDIS_PASSWORD_FILE)."
            return AuthenticationFailed(f"{where} refuses the credentials of {user}: {told}", hint=hint)
        if told.startswith("NOPERM") or isinstance(fault, redis.exceptions.NoPermissionError):
            hint = "The user needs: +@read +@connection +info +time +multi +exec +scan, and ~* or the mapped keys."
            return PermissionMissing(f"{where}: {told}", hint=hint)
        if "DB index" in told:
            return DatabaseNotFound(
                f"{where} has no logical database {self.db}: {told}", hint="[redis] databases, or REDIS_URL."
            )
        if isinstance(fault, AskError):
            return StoreUnavailable(f"{where} has moved the slot of a key elsewhere: {told}")
        if isinstance(fault, (ClusterDownError, MasterDownError, TryAgainError)) or told.startswith(("LOADING", "BUSY")):
            return StoreUnavailable(f"{where} cannot answer now: {told}")
        if isinstance(fault, redis.BusyLoadingError):
            return StoreUnavailable(f"{where} is still loading its data")
        if isinstance(fault, redis.ResponseError):
            return FatalError(f"{where} refuses a command: {told}")
        if _speaks_tls(fault) or (not self.address.tls and takes_tls(self.address.host, self.address.port)):
            hint = "redis:// is plain, rediss:// needs TLS with a certificate that is trusted: REDIS_URL, [redis] ca_file."
            return TlsMismatch(f"{where}: TLS does not match ({told})", hint=hint)
        if isinstance(fault, (redis.TimeoutError, TimeoutError)):
            return StoreTimeout(f"{where} has not answered in time: {told}")
        hint = "Is the server up, and the address right? REDIS_URL or [redis] url."
        return StoreUnavailable(f"{where} does not answer: {told}", hint=hint)


_SAVED_SECONDS = 0.1


class Pace:
    """Bounds how many keys and pieces are read a second, and counts them.

    Args:
        most: At most so many a second; None for as many as there are.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._began = time.monotonic()
        self._allowed_from = 0
        self.spent = 0

    def spend(self, ops: int) -> None:
        """Count so many, and wait until they are allowed."""
        self.spent += ops
        if self._most is None:
            return
        due = self._began + (self.spent - self._allowed_from) / self._most
        now = time.monotonic()
        if due > now:
            time.sleep(due - now)
        elif now - due > _SAVED_SECONDS:
            # What was left unused for longer, as before the first one, is not saved up for a burst.
            self._began, self._allowed_from = now, self.spent


def is_wrong_type(reply: object) -> bool:
    """Say whether a refusal means that the key is of another type."""
    # The second one is RedisJSON's.
    return isinstance(reply, redis.ResponseError) and ("WRONGTYPE" in str(reply) or "wrong Redis type" in str(reply))


def clock_of(reply: Sequence[bytes]) -> int:
    """Return the reply of TIME in microseconds."""
    return int(reply[0]) * 1_000_000 + int(reply[1])


def _speaks_tls(fault: BaseException) -> bool:
    return was_refused_by_tls(fault) or "SSL" in str(fault)


__all__ = ["Command", "Pace", "RedisAddress", "RedisLink", "RetryableError", "clock_of", "is_wrong_type"]
