"""PostgreSQL as a preflight asks it. What is tried is rolled back; connects when it is first asked."""

from __future__ import annotations

import threading
import uuid
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql as quoting

from segue.errors import SegueError
from segue.ports import About, Refused, Transport
from segue.stores.addresses import is_local
from segue.stores.postgres_store import Postgres


class PostgresPreflight:
    """The `AgentServer` over PostgreSQL. Usable from several threads.

    Args:
        postgres: Where it is.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._mutex = threading.Lock()

    @cached_property
    def _connection(self) -> psycopg.Connection[Any]:
        return self._postgres.connect()

    def connect(self) -> None:
        """See `Server`."""
        self._value("SELECT 1")

    def about(self) -> About:
        """See `Server`."""
        return About(str(self._value("SHOW server_version")))

    def transport(self) -> Transport:
        """See `Server`."""
        address = urlsplit(self._postgres.url)
        host = address.hostname
        with self._mutex:
            try:
                encrypted = bool(self._connection.pgconn.ssl_in_use)
            except SegueError:
                encrypted = False
        verified = encrypted and "sslmode=verify" in address.query
        return Transport(f"postgresql://{host}:{address.port or 5432}", is_local(host), encrypted, verified)

    def seconds(self) -> float:
        """See `Server`."""
        return float(self._value("SELECT extract(epoch FROM clock_timestamp())"))

    def refused(self, *, trying: bool) -> list[Refused]:
        """See `AgentServer`."""
        schema, name = self._postgres.schema, f"segue_preflight_{uuid.uuid4().hex}"
        wanted = [
            (
                "create tables",
                f"SELECT has_schema_privilege('{schema}', 'CREATE')",
                f"GRANT CREATE, USAGE ON SCHEMA {schema} TO role",
            ),
            (
                "create temporary tables",
                "SELECT has_database_privilege(current_database(), 'TEMPORARY')",
                "GRANT TEMPORARY ON DATABASE … TO role",
            ),
        ]
        found = []
        for what, question, grant in wanted:
            try:
                allowed = bool(self._value(question))
                why = "the role does not have it"
            except SegueError as refusal:
                allowed, why = False, refusal.message
            if not allowed:
                found.append(Refused(what, why, grant))
        if trying and not found:
            try:
                self._tried(quoting.SQL("CREATE TABLE {} (n bigint)").format(quoting.Identifier(schema, name)))
            except SegueError as refusal:
                found.append(Refused("create tables", refusal.message, wanted[0][2]))
        return found

    def dangers(self) -> list[str]:
        """See `AgentServer`."""
        encoding = str(self._value("SHOW server_encoding"))
        return [] if encoding == "UTF8" else [f"the database's encoding is {encoding}: not every text fits"]

    def held(self) -> str:
        """See `AgentServer`."""
        return str(self._value("SELECT pg_size_pretty(pg_database_size(current_database()))"))

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        if "_connection" in self.__dict__:
            self._connection.close()

    def _value(self, question: str) -> Any:
        with self._mutex, self._postgres.translated(), self._connection.transaction(force_rollback=True):
            row = self._connection.execute(question.encode()).fetchone()
            return row[0] if row else None

    def _tried(self, statement: quoting.Composed) -> None:
        with self._mutex, self._postgres.translated(), self._connection.transaction(force_rollback=True):
            self._connection.execute(statement)
