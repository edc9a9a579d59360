"""PostgreSQL: connections, errors in Segue's words, and the tables of agent state with the one way rows get into them.

A batch is COPYed into a temporary table and merged from there in one statement, so it is there whole or not at all, twice is
once, and of two states of a row the one that was read from Redis later stays. Knows no Redis and no mapping.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql as quoting

from segue.errors import (
    AuthenticationFailed,
    DatabaseNotFound,
    DataError,
    FatalError,
    ModeRefused,
    PermissionMissing,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    TableMismatch,
    Throttled,
)
from segue.model import TABLES, AgentKind, AgentRow, AgentTable, ColumnType
from segue.stores.postgres_wire import END, SIGNATURE, SOURCE_COLUMNS, block
from segue.stores.sql import sql

_LOCK = 0x5E6E_A6DB
"""The advisory lock of whoever changes the schema."""

WRITING_LOCK = "hashtextextended('segue agentdb control ' || current_schema(), 0)"
"""The advisory lock that whoever writes agents' rows shares, and whoever changes their mode has alone."""

_LOCK_POLL_SECONDS = 0.2
_ROWS_A_BLOCK = 2_000
_MERGED_AFTER_REFUSAL = 20
_NATURAL_KEY = attrgetter("natural_key")
_DEFAULT_PORT = 5432


class Postgres:
    """Where PostgreSQL is, and how to connect to it.

    Args:
        url: Without credentials.
        username, password: The credentials; without a name the system's customs count.
        schema: Which schema holds the tables.
        connect_timeout_seconds, request_timeout_seconds: How long connecting, and one statement, may take.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None,
        password: str | None,
        schema: str,
        connect_timeout_seconds: float,
        request_timeout_seconds: float,
    ) -> None:
        self.url = url
        self.schema = schema
        self._username = username
        self._password = password
        self._connect_timeout_seconds = connect_timeout_seconds
        self._request_timeout_seconds = request_timeout_seconds

    @property
    def parameters(self) -> dict[str, Any]:
        """What `psycopg.connect` or a pool takes, besides the address."""
        given = {"user": self._username, "password": self._password}
        return {
            **{name: value for name, value in given.items() if value},
            "connect_timeout": max(2, round(self._connect_timeout_seconds)),
            "application_name": "segue",
            # A server that hangs must not hang us: a dead wire is found out by the system.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }

    def configure(self, connection: psycopg.Connection[Any]) -> None:
        """Set a new connection up: its schema, its deadlines, UTC."""
        milliseconds = round(self._request_timeout_seconds * 1000)
        connection.execute(quoting.SQL("SET search_path TO {}").format(quoting.Identifier(self.schema)))
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(quoting.SQL("SET statement_timeout TO {}").format(milliseconds))
        connection.execute(quoting.SQL("SET lock_timeout TO {}").format(min(milliseconds, 30_000)))
        connection.commit()

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection.

        Raises:
            SegueError: Nothing answers, or it refuses.
        """
        with self.translated():
            connection = psycopg.connect(self.url, **self.parameters)
            try:
                self.configure(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise Segue's errors for the driver's."""
        try:
            yield
        except psycopg.Error as fault:
            raise self._translate(fault) from fault

    def _translate(self, fault: psycopg.Error) -> SegueError:  # noqa: PLR0911  # one return an error, in order of precedence
        where = f"PostgreSQL at {_address(self.url)}"
        told = fault.diag.message_primary or (str(fault) or type(fault).__name__).strip().splitlines()[-1]
        code = fault.sqlstate or ""
        if "password authentication failed" in told or "no password supplied" in told or code.startswith("28"):
            hint = "Set DATABASE_URL with the right user and password, or PGUSER and PGPASSWORD (or PGPASSWORD_FILE)."
            return AuthenticationFailed(f"{where} refuses the credentials of user {self._username!r}", hint=hint)
        if code == "3D000" or ("database" in told and "does not exist" in told):
            return DatabaseNotFound(f"{where}: {told}", hint="Create it, or name another one: DATABASE_URL.")
        if code in _DENIED:
            hint = (
                f"Grant the role what it needs in schema {self.schema!r}: USAGE and CREATE on it, TEMPORARY on the database;\n"
            )
            return PermissionMissing(
                f"{where}: {told}", hint=hint + "on a read-only replica or in a read-only role nothing can be written."
            )
        if code == "3F000":
            return FatalError(
                f"{where}: {told}", hint=f"Create the schema {self.schema!r}, or name another: [postgres] schema."
            )
        if code[:2] in _OF_THE_DATA or code in _TOO_LARGE:
            return DataError(f"{where} refuses a row: {told}")
        if code in _LATER:
            return StoreTimeout(f"{where}: {told}") if code == "57014" else StoreUnavailable(f"{where}: {told}")
        if code[:2] == "53":
            return Throttled(f"{where}: {told}")
        if code[:2] in {"57", "08", "40"} or (not code and isinstance(fault, psycopg.OperationalError)):
            hint = "Is the server up, and the address right? DATABASE_URL or [postgres] url."
            return StoreUnavailable(f"{where} does not answer: {told}", hint=hint)
        return FatalError(f"{where}: {told}")


_DENIED = {"42501", "25006"}
_TOO_LARGE = {"54000", "54001", "54011"}
_OF_THE_DATA = {"22", "23"}
_LATER = {"55P03", "57014", "40P01", "40001"}


class AgentTables:
    """The `AgentSink` over PostgreSQL. One thread at a time; connects when it is first used, and again after a failure.

    Args:
        postgres: Where.
        monthly: Whether experiences are kept in a partition a month.
    """

    def __init__(self, postgres: Postgres, *, monthly: bool = False) -> None:
        self._postgres = postgres
        self._monthly = monthly
        self._connection: psycopg.Connection[Any] | None = None
        self._partitions: set[str] = set()
        self._merging: Counter[AgentKind] = Counter()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def unfit(self) -> list[str]:
        """See `AgentSink`."""
        with self._session() as connection:
            faults = [fault for kind, table in TABLES.items() for fault in self._table_faults(connection, kind, table)]
            connection.rollback()
        return faults

    def is_there(self) -> bool:
        """Say whether all tables are there and as they must be."""
        if self.unfit():
            return False
        with self._session() as connection:
            found = [connection.execute(sql("agentdb_columns"), (table.name,)).fetchone() for table in TABLES.values()]
            connection.rollback()
        return all(found)

    def prepare(self) -> None:
        """See `AgentSink`."""
        with self._alone() as connection:
            faults = [fault for kind, table in TABLES.items() for fault in self._table_faults(connection, kind, table)]
            connection.rollback()
            if faults:
                listed = "\n".join(f"  {fault}" for fault in faults)
                message = f"schema {self._postgres.schema!r} has tables of these names with other columns:\n{listed}"
                hint = "Rename them, or let Segue use another schema: [postgres] schema."
                raise TableMismatch(message, hint=hint)
            self._migrate(connection, "0001")

    def index(self) -> None:
        """See `AgentSink`."""
        with self._alone() as connection:
            connection.execute("SET statement_timeout TO 0")
            connection.commit()
            connection.autocommit = True
            # One that was left half-built by a kill is in the way of its successor.
            for (name,) in connection.execute(_HALF_BUILT).fetchall():
                connection.execute(quoting.SQL("DROP INDEX {}").format(quoting.Identifier(name)))
            connection.autocommit = False
            self._migrate(connection, "head")
            connection.autocommit = True
            for table in TABLES.values():
                connection.execute(quoting.SQL("ANALYZE {}").format(quoting.Identifier(table.name)))

    def write(self, rows: Sequence[AgentRow], *, touch: bool = False) -> int:
        """See `AgentSink`."""
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for kind, alike in groupby(rows, itemgetter(0)):
            by_kind[kind] += alike
        written = 0
        with self._session() as connection:
            self._refuse_stale(connection)
            for kind in sorted(by_kind):
                if not touch and self._added(connection, kind, by_kind[kind]):
                    written += len(by_kind[kind])
                    continue
                self._stage(connection, kind, by_kind[kind])
                written += connection.execute(self._merge(kind, touch=touch)).rowcount
            connection.commit()
        return written

    def _added(self, connection: psycopg.Connection[Any], kind: AgentKind, rows: Sequence[AgentRow]) -> bool:
        """Put rows into their table as they are, at half of what merging costs; false where they must be merged.

        That is right where none of them is there and none was removed: the unique natural key refuses the one, and for the
        other a removal waits for the table's lock. After a refusal some batches are merged at once, so that few rows are
        written in vain.
        """
        table = TABLES[kind]
        if self._merging[kind] or (self._monthly and kind is AgentKind.EXPERIENCES):
            self._merging[kind] = max(0, self._merging[kind] - 1)
            return False
        try:
            with connection.transaction():
                connection.execute(f"LOCK TABLE {table.name} IN ROW EXCLUSIVE MODE")
                if connection.execute("SELECT FROM segue_agentdb_gone LIMIT 1").fetchone() is not None:
                    return False
                # In the order of the natural key, so that two copies never wait for each other in a circle.
                self._send(connection, kind, table.name, sorted(rows, key=_NATURAL_KEY))
        except (psycopg.errors.UniqueViolation, psycopg.errors.FeatureNotSupported):
            # Some are there; or the table takes no COPY, because it has policies for its rows.
            self._merging[kind] = _MERGED_AFTER_REFUSAL
            return False
        return True

    def _send(self, connection: psycopg.Connection[Any], kind: AgentKind, name: str, rows: Sequence[AgentRow]) -> None:
        table = TABLES[kind]
        with connection.cursor().copy(f"COPY {name} ({_columns(table)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(SIGNATURE)
            for start in range(0, len(rows), _ROWS_A_BLOCK):
                copy.write(block(table, rows[start : start + _ROWS_A_BLOCK]))
            copy.write(END)

    def _refuse_stale(self, connection: psycopg.Connection[Any]) -> None:
        """Refuse what was read from Redis while agents write PostgreSQL first; until the commit that cannot change.

        Raises:
            ModeRefused: They do.
        """
        connection.execute(f"SELECT pg_advisory_xact_lock_shared({WRITING_LOCK})")
        if connection.execute(sql("agentdb_first")).fetchone() is not None:
            message = "agents write PostgreSQL first: what Redis holds is older, and would take their writes back"
            raise ModeRefused(message, hint="segue mode show --agentdb says the mode, docs/agent-library.md the ways back.")

    def counts(self) -> Mapping[AgentKind, int]:
        """See `AgentSink`."""
        with self._session() as connection:
            found = {
                kind: connection.execute(
                    quoting.SQL("SELECT count(*) FROM {}").format(quoting.Identifier(table.name))
                ).fetchone()
                for kind, table in TABLES.items()
            }
            connection.rollback()
        return {kind: row[0] if row else 0 for kind, row in found.items()}

    def _stage(self, connection: psycopg.Connection[Any], kind: AgentKind, rows: Sequence[AgentRow]) -> None:
        table = TABLES[kind]
        columns = _columns(table)
        connection.execute(sql("agentdb_stage", staged=staged_table(table), columns=columns, table=table.name))
        self._send(connection, kind, staged_table(table), rows)
        if self._monthly and kind is AgentKind.EXPERIENCES:
            self._make_partitions(connection, table)

    def _make_partitions(self, connection: psycopg.Connection[Any], table: AgentTable) -> None:
        months = {month for (month,) in connection.execute(sql("agentdb_months", staged=staged_table(table))).fetchall()}
        for month in sorted(months - self._partitions):
            # Of two copies that need the same one, the second waits here and finds it made.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK + 1,))
            year, number = int(month[:4]), int(month[5:7])
            following = f"{year + number // 12:04}-{number % 12 + 1:02}-01"
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table.name}_{month[:4]}_{month[5:7]} PARTITION OF {table.name} "
                f"FOR VALUES FROM ('{month} 00:00Z') TO ('{following} 00:00Z')"
            )
        self._partitions |= months

    def _merge(self, kind: AgentKind, *, touch: bool) -> str:
        table = TABLES[kind]
        changing = [name for name in _columns(table).split(", ") if name != "natural_key"]
        return sql(
            "agentdb_merge",
            table=table.name,
            columns=_columns(table),
            staged=staged_table(table),
            identity='natural_key, "timestamp"' if self._monthly and kind is AgentKind.EXPERIENCES else "natural_key",
            assignments=", ".join(f"{name} = excluded.{name}" for name in changing),
            touch="TRUE OR" if touch else "",
        )

    def _table_faults(self, connection: psycopg.Connection[Any], kind: AgentKind, table: AgentTable) -> Iterator[str]:
        found = {
            name: (type_, free) for name, type_, free in connection.execute(sql("agentdb_columns"), (table.name,)).fetchall()
        }
        if not found:
            return
        wanted = expected_columns(kind)
        for name, type_ in wanted.items():
            if name not in found:
                yield f"{table.name}.{name}: missing, {type_} is needed"
            elif found[name][0] != type_:
                yield f"{table.name}.{name}: is {found[name][0]}, {type_} is needed"
        for name, (type_, free) in found.items():
            if name not in wanted and not free:
                yield f"{table.name}.{name}: {type_} that every row must have, Segue knows nothing of it"

    def _migrate(self, connection: psycopg.Connection[Any], target: str) -> None:
        # Alembic brings SQLAlchemy along, which takes a while to import and is of use only here.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415
        from sqlalchemy import create_engine  # noqa: PLC0415
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
        from sqlalchemy.pool import StaticPool  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", "segue.stores:agentdb_migrations")
        engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
        try:
            with engine.connect() as wrapped:
                config.attributes.update(connection=wrapped, monthly=self._monthly)
                command.upgrade(config, target)
                wrapped.commit()
        except DBAPIError as fault:
            raise fault.orig if isinstance(fault.orig, psycopg.Error) else fault from fault

    @contextmanager
    def _alone(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection of its own that nobody changes the schema beside."""
        connection = self._postgres.connect()
        with self._postgres.translated(), connection:
            # Polled: whoever waits within a statement holds a snapshot, which a concurrent index build waits for in turn.
            while not connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()[0]:
                connection.commit()
                time.sleep(_LOCK_POLL_SECONDS)
            connection.commit()
            yield connection

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None:
            self._connection = self._postgres.connect()
        connection = self._connection
        try:
            with self._postgres.translated():
                try:
                    yield connection
                except psycopg.DataError:
                    connection.rollback()
                    raise
        except DataError:
            raise
        except BaseException:
            # What it left half-done is known to nobody; a new one costs milliseconds.
            self.close()
            raise


_HALF_BUILT = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace AND c.relname ~ '^rl_.*_agent$'
"""


def expected_columns(kind: AgentKind) -> dict[str, str]:
    """Return the columns that a table must have, with their types in PostgreSQL's words."""
    table = TABLES[kind]
    filled = {
        column.name: f"character varying({column.size})"
        if column.type is ColumnType.TEXT and column.size
        else column.type.value
        for column in table.columns
    }
    return {
        "id": "bigint",
        **filled,
        "natural_key": "uuid",
        "content_hash": "uuid",
        "source_db": "integer",
        "source_key": "text",
        "observed_at": "timestamp with time zone",
        "expires_at": "timestamp with time zone",
    }


def _columns(table: AgentTable) -> str:
    return ", ".join([*SOURCE_COLUMNS, *(f'"{column.name}"' for column in table.columns)])


def staged_table(table: AgentTable) -> str:
    """Return the name of the temporary table that a batch lands in."""
    return f"staged_{table.name}"


def _address(url: str) -> str:
    address = urlsplit(url)
    return f"{address.hostname or 'localhost'}:{address.port or _DEFAULT_PORT}{address.path}"
