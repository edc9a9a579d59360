"""The one place that opens a Neo4j driver and puts its errors into Segue's words.

Owns the driver's options and the error mapping. Knows no query of the product.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ClientError,
    ConfigurationError,
    DriverError,
    Forbidden,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from segue.errors import (
    AuthenticationFailed,
    ConfigError,
    DatabaseNotFound,
    FatalError,
    RetryableError,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    TlsMismatch,
)
from segue.stores.tls_probe import takes_tls, was_refused_by_tls
from segue.stores.watchdog import Watchdog

# The driver logs what it also raises.
logging.getLogger("neo4j").setLevel(logging.CRITICAL)

T = TypeVar("T")

Transaction = Callable[..., list[list[Any]]]
"""Runs a query with parameters within a transaction and returns its rows."""

_DATABASE_CODES = ("Neo.ClientError.Database.DatabaseNotFound", "Neo.TransientError.Database.DatabaseUnavailable")
_MADE_MEANWHILE = "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists"
"""Two statements with IF NOT EXISTS at once, of which neither found it there."""

_DELETED_MEANWHILE = "Neo.ClientError.Statement.EntityNotFound"
"""A query waited for the lock of a node that another transaction deleted meanwhile."""


_SCHEMES = {f"{scheme}{tls}" for scheme in ("bolt", "neo4j") for tls in ("", "+s", "+ssc")}
_TLS_ALERT = ("\\x15\\x03", "wrong version number", "record layer failure", "certificate verify failed")


class Neo4jConnection:
    """A driver bound to one database. Usable from several threads; opened at the first query.

    Args:
        uri: bolt://, neo4j:// and their +s and +ssc forms.
        username: The user; with an empty password, no authentication is sent.
        password: The password; held by the driver only.
        database: The database all queries name.
        connect_timeout_seconds: How long a connection may take to open.
        request_timeout_seconds: How long a page may take to arrive; a query that reads a whole label, ten times as long.
        retry_seconds: How long a write is tried anew while the server does not answer.
    """

    def __init__(
        self,
        uri: str,
        *,
        username: str,
        password: str,
        database: str,
        connect_timeout_seconds: float = 10.0,
        request_timeout_seconds: float = 60.0,
        retry_seconds: float = 30.0,
    ) -> None:
        self.uri = uri
        self.database = database
        self._username = username
        self._password = password
        self._connect_timeout_seconds = connect_timeout_seconds
        self._request_timeout_seconds = request_timeout_seconds
        self._retry_seconds = retry_seconds
        self._mutex = threading.Lock()
        self._has_answered = False
        self._driver = self._open(uri)
        self._watchdog = Watchdog()

    def _open(self, uri: str) -> neo4j.Driver:
        auth = (self._username, self._password) if self._password else None
        try:
            _require_bolt(uri)
            return neo4j.GraphDatabase.driver(
                uri,
                auth=auth,
                connection_timeout=self._connect_timeout_seconds,
                connection_acquisition_timeout=self._connect_timeout_seconds,
                # Left alone, the driver begins a transaction anew for 30 s, whatever its caller's time.
                max_transaction_retry_time=min(self._retry_seconds, self._request_timeout_seconds),
                notifications_min_severity="OFF",
                user_agent="segue",
            )
        except (ConfigurationError, ValueError) as fault:
            message = f"{uri!r} is no Neo4j address: {fault}"
            raise ConfigError(message, hint="Give bolt://HOST:PORT or neo4j://HOST:PORT (+s with TLS): NEO4J_URI.") from fault

    def __enter__(self) -> Self:
        """Return the connection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the driver."""
        self.close()

    def close(self) -> None:
        """Close the driver. Idempotent."""
        self._driver.close()
        self._watchdog.close()

    def rows(self, cypher: str, *, leader: bool = False, **parameters: Any) -> list[list[Any]]:
        """Run a reading query and return its rows. `leader`: see `ask`."""
        access = neo4j.WRITE_ACCESS if leader else neo4j.READ_ACCESS
        with self._running(cypher, parameters, 10 * self._request_timeout_seconds, access) as result:
            return [list(record) for record in result]

    def ask(self, cypher: str, parameters: dict[str, Any], *, seconds: float, leader: bool = False) -> list[list[Any]]:
        """Run a reading query while a user waits and return its rows.

        Args:
            cypher: The query.
            parameters: Its parameters.
            seconds: How long the answer may take.
            leader: Whether it must be answered by the member that takes the writes, which alone has seen them all.
        """
        access = neo4j.WRITE_ACCESS if leader else neo4j.READ_ACCESS
        with self._running(cypher, parameters, seconds, access) as result:
            return [list(record) for record in result]

    @contextmanager
    def streamed(self, cypher: str, *, leader: bool = False, **parameters: Any) -> Iterator[neo4j.Result]:
        """Run a reading query in a transaction of its own; records arrive while they are iterated. `leader`: see `ask`."""
        access = neo4j.WRITE_ACCESS if leader else neo4j.READ_ACCESS
        with self._running(cypher, parameters, self._request_timeout_seconds, access) as result:
            yield result

    @contextmanager
    def _running(
        self, cypher: str, parameters: dict[str, Any], seconds: float, access: str = neo4j.READ_ACCESS
    ) -> Iterator[neo4j.Result]:
        with (
            self.translated(),
            self._deadline(seconds) as driver,
            driver.session(database=self.database, default_access_mode=access, fetch_size=-1) as session,
        ):
            result = session.run(neo4j.Query(cypher), parameters)
            self._has_answered = True
            yield result

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[neo4j.Driver]:
        """Give the driver for as long as said; it waits for ever for a server that keeps a connection open and is silent.

        Closing the driver is what ends such a wait; queries of other threads fail with it, and may be tried again.
        """
        driver = self._driver

        def abandon() -> None:
            with self._mutex:
                if self._driver is driver:
                    self._driver = self._open(self.uri)
            # Closing can take a while, and other deadlines must not wait for it.
            threading.Thread(target=shut, daemon=True).start()

        def shut() -> None:
            driver.close()
            # A second close of a driver does nothing, but a connection that was being opened during the first is open still.
            driver._pool.close()  # noqa: SLF001

        watched = self._watchdog.watch(seconds, abandon)
        try:
            yield driver
        except (DriverError, Neo4jError, OSError) as fault:
            if driver is self._driver:
                raise
            raise self._late(seconds) from fault
        finally:
            self._watchdog.leave(watched)

    def _late(self, seconds: float) -> StoreTimeout:
        message = f"Neo4j at {self.uri} gave no answer within {seconds:g} s"
        hint = "Is it overloaded, or the network cut? [neo4j] request_timeout_seconds gives it more time."
        return StoreTimeout(message, hint=hint)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one writing transaction, again when the server asks for it (a deadlock, a new leader).

        Args:
            work: Given a function that runs a query and returns its rows; may be called several times.
        """

        def attempt(transaction: neo4j.ManagedTransaction) -> T:
            if driver is not self._driver:
                # Begun anew on a driver that was given up: no deadline watches over it any more.
                raise self._late(self._request_timeout_seconds)
            return work(lambda text, **values: [list(record) for record in transaction.run(text, values)])

        with (
            self.translated(),
            self._deadline(self._request_timeout_seconds) as driver,
            driver.session(database=self.database) as session,
        ):
            return session.execute_write(attempt)

    def define(self, statement: str) -> None:
        """Run a schema statement that has IF NOT EXISTS; that somebody else makes the same at this moment is no error."""
        try:
            self.write(lambda run: run(statement))
        except FatalError as fault:
            if getattr(fault.__cause__, "code", "") != _MADE_MEANWHILE:
                raise

    def tried(self, cypher: str, **parameters: Any) -> None:
        """Run a query and take back what it did."""
        with (
            self.translated(),
            self._deadline(self._request_timeout_seconds) as driver,
            driver.session(database=self.database) as session,
            session.begin_transaction() as transaction,
        ):
            transaction.run(neo4j.Query(cypher).text, parameters).consume()
            transaction.rollback()

    def administer(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a query on the system database and return its rows."""
        with (
            self.translated(),
            self._deadline(self._request_timeout_seconds) as driver,
            driver.session(database="system") as session,
        ):
            return [list(record) for record in session.run(neo4j.Query(cypher), parameters)]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise Segue's errors for the driver's."""
        try:
            yield
        except (Neo4jError, DriverError, ssl.SSLError, OSError) as fault:
            raise self._translate(self._reason(fault)) from fault

    def _has_met_tls(self) -> bool:
        """Say whether a plain address led to a port with TLS, which hangs up without a word; only until the first answer."""
        address = urlsplit(self.uri)
        return not (self._has_answered or "+" in address.scheme) and takes_tls(address.hostname or "", address.port or 7687)

    def _reason(self, fault: Exception) -> Exception:
        """Return why a routing table could not be had, which the driver keeps to itself; any other error as it is."""
        if not isinstance(fault, ServiceUnavailable) or "routing" not in str(fault):
            return fault
        try:
            with self._open(self.uri.replace("neo4j", "bolt", 1)) as direct:
                direct.verify_connectivity()
        except (Neo4jError, DriverError, ssl.SSLError, OSError) as reason:
            return reason
        return fault

    def _translate(self, fault: Exception) -> SegueError:  # noqa: PLR0911  # one return an error, in order of precedence
        where = f"Neo4j at {self.uri}"
        code = getattr(fault, "code", "") or ""
        if isinstance(fault, AuthError):
            hint = "Set NEO4J_USERNAME and NEO4J_PASSWORD (or NEO4J_PASSWORD_FILE)."
            return AuthenticationFailed(f"{where} refuses the credentials of user {self._username!r}", hint=hint)
        if code in _DATABASE_CODES:
            hint = "SHOW DATABASES lists what there is; set NEO4J_DATABASE or [neo4j] database."
            return DatabaseNotFound(f"{where} has no database {self.database!r}, or it is not available", hint=hint)
        if isinstance(fault, Forbidden):
            return FatalError(f"{where}: user {self._username!r} may not do this: {fault.message}")
        if _speaks_tls(fault) or (isinstance(fault, ServiceUnavailable) and self._has_met_tls()):
            hint = "bolt:// and neo4j:// are plain, bolt+s:// and neo4j+s:// need TLS with a trusted certificate: NEO4J_URI."
            return TlsMismatch(f"{where}: TLS does not match ({_first_line(fault)})", hint=hint)
        if isinstance(fault, (ServiceUnavailable, SessionExpired, TransientError, OSError)):
            hint = "Is the server up, and the address right? NEO4J_URI or [neo4j] uri."
            return StoreUnavailable(f"{where} does not answer: {_first_line(fault)}", hint=hint)
        if code == _DELETED_MEANWHILE:
            return RetryableError(f"{where}: a node was deleted while a query waited for it")
        if isinstance(fault, ClientError):
            return FatalError(f"{where} refuses a query: {fault.message}")
        return FatalError(f"{where}: {_first_line(fault)}")


def _require_bolt(uri: str) -> None:
    if urlsplit(uri).scheme not in _SCHEMES:
        message = f"{urlsplit(uri).scheme or 'no scheme'} is none that speaks Bolt"
        raise ValueError(message)


def _speaks_tls(fault: BaseException) -> bool:
    return was_refused_by_tls(fault) or any(sign in repr(fault) for sign in _TLS_ALERT)


def _first_line(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0].rstrip(":")
