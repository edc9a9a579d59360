"""The one place that opens a Neo4j driver and puts its errors into Segue's words.

Owns the driver's options and the error mapping. Knows no query of the product.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

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
    SegueError,
    StoreUnavailable,
    TlsMismatch,
)

_DATABASE_CODES = ("Neo.ClientError.Database.DatabaseNotFound", "Neo.TransientError.Database.DatabaseUnavailable")
_TLS_ALERT = ("\\x15\\x03", "wrong version number", "record layer failure", "certificate verify failed")


class Neo4jConnection:
    """A driver bound to one database. Usable from several threads; opened at the first query.

    Args:
        uri: bolt://, neo4j:// and their +s and +ssc forms.
        username: The user; with an empty password, no authentication is sent.
        password: The password; held by the driver only.
        database: The database all queries name.
        connect_timeout_seconds: How long a connection may take to open.
    """

    def __init__(self, uri: str, *, username: str, password: str, database: str, connect_timeout_seconds: float = 10.0) -> None:
        self.uri = uri
        self.database = database
        self._username = username
        auth = (username, password) if password else None
        try:
            self._driver = neo4j.GraphDatabase.driver(
                uri,
                auth=auth,
                connection_timeout=connect_timeout_seconds,
                connection_acquisition_timeout=connect_timeout_seconds + 50,
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

    def rows(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a reading query and return its rows."""
        with self.streamed(cypher, **parameters) as result:
            return [list(record) for record in result]

    @contextmanager
    def streamed(self, cypher: str, **parameters: Any) -> Iterator[neo4j.Result]:
        """Run a reading query in a transaction of its own; records arrive while they are iterated."""
        with (
            self.translated(),
            self._driver.session(database=self.database, default_access_mode=neo4j.READ_ACCESS, fetch_size=-1) as session,
        ):
            yield session.run(neo4j.Query(cypher), parameters)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise Segue's errors for the driver's."""
        try:
            yield
        except (Neo4jError, DriverError, ssl.SSLError, OSError) as fault:
            raise self._translate(fault) from fault

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
        if _speaks_tls(fault):
            hint = "bolt:// and neo4j:// are plain, bolt+s:// and neo4j+s:// need TLS with a trusted certificate: NEO4J_URI."
            return TlsMismatch(f"{where}: TLS does not match ({_first_line(fault)})", hint=hint)
        if isinstance(fault, (ServiceUnavailable, SessionExpired, TransientError, OSError)):
            hint = "Is the server up, and the address right? NEO4J_URI or [neo4j] uri."
            return StoreUnavailable(f"{where} does not answer: {_first_line(fault)}", hint=hint)
        if isinstance(fault, ClientError):
            return FatalError(f"{where} refuses a query: {fault.message}")
        return FatalError(f"{where}: {_first_line(fault)}")


def _speaks_tls(fault: BaseException) -> bool:
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return any(sign in repr(fault) for sign in _TLS_ALERT)


def _first_line(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0].rstrip(":")
