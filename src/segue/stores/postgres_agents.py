"""PostgreSQL as agents write and read it: the control row, writes that check it in their transaction, the way back to Redis.

A write and a change of mode hold the same advisory lock, shared and alone: when a change has committed, no write of the mode
before is in hand any more. Knows no mapping and no Redis.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import sql as quoting

from segue.errors import GateClosed
from segue.model import (
    TABLES,
    AgentControl,
    AgentKind,
    AgentMode,
    AgentRecord,
    AgentRow,
    AgentTable,
    AgentValidated,
    EventKind,
    RedisType,
    mode_changed,
)
from segue.ports import AgentWrite, Gone, MakeRow, Noted
from segue.stores.postgres_journal import note
from segue.stores.postgres_store import WRITING_LOCK, AgentTables, Postgres
from segue.stores.postgres_wire import SOURCE_COLUMNS
from segue.stores.sql import sql

_IDLE_SECONDS = 1.0
"""After so long unused a connection is tried before it is used."""

_APPLYING = "hashtextextended('segue agentdb outbox ' || current_schema(), 0)"
GONE_DAYS = 7
"""How long it is remembered that a row was removed. What it guards against is a row that was read before and lands after."""

_HISTORY = {RedisType.LIST, RedisType.STREAM}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresAgents(AgentTables):
    """The `AgentPostgres` over PostgreSQL, besides being an `AgentSink`. These methods may be called from several threads.

    Args:
        postgres: Where.
        monthly: Whether experiences are kept in a partition a month.
    """

    def __init__(self, postgres: Postgres, *, monthly: bool = False) -> None:
        super().__init__(postgres, monthly=monthly)
        self._mutex = threading.Lock()
        self._idle: list[tuple[psycopg.Connection[Any], float]] = []
        self._is_closed = False

    def close(self) -> None:
        """Close every connection that is not in use, and the others when they are given back. Idempotent."""
        self._is_closed = True
        self._drop()
        super().close()

    # The control row.

    def control(self) -> AgentControl:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            if connection.execute("SELECT to_regclass('segue_agentdb_control')").fetchone() == (None,):
                return AgentControl()
            found = connection.execute(sql("agentdb_control")).fetchone()
        if found is None:
            return AgentControl()
        mode, epoch, is_open, reason, clean, validated_epoch, age, detail = found
        verdict = None if clean is None else AgentValidated(clean, validated_epoch, age, detail or "")
        return AgentControl(AgentMode(mode), epoch, is_open, reason, verdict)

    def clock(self) -> int:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            return _now(connection)

    def change(
        self,
        seen: AgentControl,
        mode: AgentMode,
        *,
        epoch: int,
        is_open: bool,
        reason: str,
        overridden: Sequence[str] = (),
    ) -> AgentControl | None:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            connection.execute(f"SELECT pg_advisory_xact_lock({WRITING_LOCK})")
            done = connection.execute(sql("agentdb_change"), (mode.value, epoch, is_open, reason, seen.epoch)).rowcount
            if done:
                text, data = mode_changed(seen.mode.value, mode, epoch, reason, overridden)
                note(
                    connection,
                    EventKind.MODE,
                    text if is_open else f"{text}; nothing is written yet",
                    {**data, "open": is_open},
                )
        return AgentControl(mode, epoch, is_open, reason, seen.validated) if done else None

    def validated(self, *, clean: bool, detail: str, data: Mapping[str, Any] = {}) -> None:
        """Record what a comparison of both sides came to, with the present epoch; `data` is for the journal."""
        with self._lent() as connection:
            connection.execute(
                "UPDATE segue_agentdb_control SET validated_at = now(), validated_epoch = epoch, validated_clean = %s, "
                "validated_detail = %s",
                (clean, detail),
            )
            text = f"Redis and PostgreSQL compared, {detail}: {'clean' if clean else 'not clean'}"
            note(connection, EventKind.VALIDATION, text, {"clean": clean, "detail": detail, **data})

    # Writes.

    def put(self, writes: Sequence[AgentWrite], make: MakeRow, db: int) -> None:
        """See `AgentPostgres`."""
        removed = [write for write in writes if write.removed]
        added = [write for write in writes if not write.removed]
        with self._lent() as connection:
            connection.execute(f"SELECT pg_advisory_xact_lock_shared({WRITING_LOCK})")
            self._check(connection)
            # A stream's ids grow in the order in which its elements are committed.
            for key in sorted({write.key for write in added if write.type is RedisType.STREAM}):
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", (key.hex(), db))
            now = _now(connection)
            only_here = self._put(connection, added, make, now) if added else []
            self._remove(connection, [Gone(write.kind, write.removed, now) for write in removed])
            with connection.cursor().copy("COPY segue_agentdb_only_here (packed) FROM STDIN") as copy:
                for write in [*only_here, *removed]:
                    copy.write_row((_packed(write, now),))

    def apply(self, rows: Sequence[AgentRow], gone: Sequence[Gone]) -> bool:
        """See `AgentPostgres`."""
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for row in rows:
            by_kind[row.kind].append(row)
        with self._lent() as connection:
            if connection.execute(f"SELECT pg_try_advisory_xact_lock({_APPLYING})").fetchone() == (False,):
                return False
            # Whoever writes beside, a copy perhaps, has committed before, and sees what is gone when it writes again.
            for kind in sorted({one.kind for one in gone}):
                connection.execute(f"LOCK TABLE {TABLES[kind].name} IN SHARE ROW EXCLUSIVE MODE")
            for kind in sorted(by_kind):
                self._stage(connection, kind, by_kind[kind])
                connection.execute(self._merge(kind, touch=False))
            self._remove(connection, gone)
            if gone:
                # Nobody holds for so long what was read before: it is written within minutes, or given up.
                connection.execute(f"DELETE FROM segue_agentdb_gone WHERE observed_at < now() - interval '{GONE_DAYS} days'")
        return True

    # Reads.

    def find(self, kind: AgentKind, conditions: Mapping[str, object]) -> list[AgentRecord]:
        """See `AgentPostgres`."""
        query = quoting.SQL("{} ORDER BY observed_at DESC, id DESC").format(_select(TABLES[kind], conditions))
        return self._records(kind, query, _values(kind, conditions))

    def sample(self, kind: AgentKind, conditions: Mapping[str, object], count: int, newest: int) -> list[AgentRecord]:
        """See `AgentPostgres`; sorts the ids it draws from, so it takes longer the more there are."""
        table = TABLES[kind]
        inner = _select(table, conditions, quoting.SQL('id, "timestamp"'))
        if newest:
            inner = quoting.SQL('{} ORDER BY "timestamp" DESC LIMIT {}').format(inner, newest)
        query = quoting.SQL("SELECT {} FROM {} WHERE id IN (SELECT id FROM ({}) newest ORDER BY random() LIMIT {})").format(
            _named(table), quoting.Identifier(table.name), inner, count
        )
        return self._records(kind, query, _values(kind, conditions))

    def held(self, kind: AgentKind, natural_keys: Sequence[bytes]) -> Mapping[bytes, tuple[bytes | None, int]]:
        """See `AgentPostgres`."""
        query = (
            "SELECT natural_key, content_hash, (extract(epoch FROM observed_at) * 1000000)::bigint "
            f"FROM {TABLES[kind].name} WHERE natural_key = ANY(%s)"
        )
        with self._lent() as connection:
            found = connection.execute(query, ([uuid.UUID(bytes=one) for one in natural_keys],)).fetchall()
        return {name.bytes: (content.bytes if content else None, observed) for name, content, observed in found}

    # The way back.

    def only_here(self, count: int) -> list[tuple[int, AgentWrite]]:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            found = connection.execute(
                "SELECT id, packed FROM segue_agentdb_only_here ORDER BY id LIMIT %s", (count,)
            ).fetchall()
        return [(number, _unpacked(packed)) for number, packed in found]

    def forget(self, up_to: int | None) -> None:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            connection.execute("DELETE FROM segue_agentdb_only_here WHERE %s::bigint IS NULL OR id <= %s", (up_to, up_to))

    def waiting(self) -> int:
        """See `AgentPostgres`."""
        with self._lent() as connection:
            if connection.execute("SELECT to_regclass('segue_agentdb_only_here')").fetchone() == (None,):
                return 0
            found = connection.execute("SELECT count(*) FROM segue_agentdb_only_here").fetchone()
        return found[0] if found else 0

    def _check(self, connection: psycopg.Connection[Any]) -> None:
        found = connection.execute("SELECT mode, open, epoch FROM segue_agentdb_control").fetchone()
        mode, is_open, epoch = found or (AgentMode.REDIS_ONLY.value, True, 0)
        if mode != AgentMode.POSTGRES or not is_open:
            message = f"the mode is {mode} at epoch {epoch}: PostgreSQL is not written first; nothing was written"
            raise GateClosed(message)

    def _put(
        self, connection: psycopg.Connection[Any], writes: Sequence[AgentWrite], make: MakeRow, now: int
    ) -> list[AgentWrite]:
        """Write records; return what each is in Redis, with the ids that Redis would have given."""
        named, rows = [], []
        for place, write in enumerate(writes):
            expires = now + write.lifetime_ms * 1_000 if write.lifetime_ms else None
            score = write.arguments[0] if write.command == "ZADD" else b""
            noted = Noted(now, expires, stream_id=b"%d-%d" % (now // 1_000, now % 1_000 * 100_000 + place), score=score)
            named.append(
                write if write.command != "XADD" else write._replace(arguments=(noted.stream_id, *write.arguments[1:]))
            )
            rows.append((write, noted, make(write, noted)))
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for write, _, row in rows:
            if write.type not in _HISTORY:
                by_kind[row.kind].append(row)
        for kind in sorted(by_kind):
            # Of one record that is given twice the last counts.
            distinct = {row.natural_key: row for row in by_kind[kind]}
            self._stage(connection, kind, list(distinct.values()))
            connection.execute(self._over(kind))
            self._empty(connection, kind)
            names = [uuid.UUID(bytes=one) for one in distinct]
            connection.execute("DELETE FROM segue_agentdb_gone WHERE natural_key = ANY(%s)", (names,))
        self._append(connection, [one for one in rows if one[0].type in _HISTORY], make)
        return named

    def _append(
        self, connection: psycopg.Connection[Any], left: list[tuple[AgentWrite, Noted, AgentRow]], make: MakeRow
    ) -> None:
        """Add elements of histories; one that has an equal is the next of its equals."""
        while left:
            kind = left[0][2].kind
            first: dict[bytes, tuple[AgentWrite, Noted, AgentRow]] = {}
            for one in left:
                if one[2].kind is kind:
                    first.setdefault(one[2].natural_key, one)
            self._stage(connection, kind, [row for _, _, row in first.values()])
            found = connection.execute(sql("agentdb_append", **self._places(kind))).fetchall()
            self._empty(connection, kind)
            added = {id(first[name.bytes]) for (name,) in found}
            following = []
            for write, noted, row in (one for one in left if id(one) not in added):
                further = noted._replace(equals=noted.equals + 1)
                following.append((write, further, make(write, further)) if row.kind is kind else (write, noted, row))
            left = following

    def _remove(self, connection: psycopg.Connection[Any], gone: Sequence[Gone]) -> None:
        for kind in sorted({one.kind for one in gone}):
            chosen = [one for one in gone if one.kind is kind]
            names = [uuid.UUID(bytes=one.natural_key) for one in chosen]
            times = [_EPOCH + timedelta(microseconds=one.observed_at) for one in chosen]
            connection.execute(sql("agentdb_gone", table=TABLES[kind].name), (names, times))

    def _over(self, kind: AgentKind) -> str:
        places = self._places(kind)
        changing = [name for name in places["columns"].split(", ") if name not in {"natural_key", "observed_at"}]
        assignments = ", ".join(f"{name} = excluded.{name}" for name in changing)
        identity = 'natural_key, "timestamp"' if self._monthly and kind is AgentKind.EXPERIENCES else "natural_key"
        return sql("agentdb_put", **places, assignments=assignments, identity=identity)

    def _places(self, kind: AgentKind) -> dict[str, str]:
        table = TABLES[kind]
        columns = ", ".join([*SOURCE_COLUMNS, *(f'"{column.name}"' for column in table.columns)])
        return {"table": table.name, "columns": columns, "staged": f"staged_{table.name}"}

    def _empty(self, connection: psycopg.Connection[Any], kind: AgentKind) -> None:
        connection.execute(f"DELETE FROM staged_{TABLES[kind].name}")

    def _records(self, kind: AgentKind, query: quoting.Composable, values: Sequence[object]) -> list[AgentRecord]:
        names = [column.name for column in TABLES[kind].columns]
        with self._lent() as connection:
            found = connection.execute(query, values).fetchall()
        return [
            AgentRecord(kind, {name: one for name, one in zip(names, row, strict=True) if one is not None}) for row in found
        ]

    @contextmanager
    def _lent(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection of one thread's own for one transaction, which is committed in the end, or rolled back."""
        connection = self._take()
        try:
            with self._postgres.translated():
                yield connection
                connection.commit()
        except BaseException:
            with suppress(psycopg.Error):
                connection.rollback()
            raise
        finally:
            if connection.broken or connection.closed or self._is_closed:
                with suppress(psycopg.Error):
                    connection.close()
            else:
                with self._mutex:
                    self._idle.append((connection, time.monotonic()))

    def _take(self) -> psycopg.Connection[Any]:
        while True:
            with self._mutex:
                connection, since = self._idle.pop() if self._idle else (None, 0.0)
            if connection is None:
                return self._postgres.connect()
            if time.monotonic() - since < _IDLE_SECONDS:
                return connection
            try:
                connection.execute("SELECT 1")
                connection.commit()
            except psycopg.Error:
                connection.close()
                self._drop()
                continue
            return connection

    def _drop(self) -> None:
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            with suppress(psycopg.Error):
                connection.close()


def _now(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    return int(found[0]) if found else 0


def _named(table: AgentTable) -> quoting.Composed:
    return quoting.SQL(", ").join(quoting.Identifier(column.name) for column in table.columns)


def _select(table: AgentTable, conditions: Mapping[str, object], what: quoting.Composable | None = None) -> quoting.Composed:
    clauses = [quoting.SQL("(expires_at IS NULL OR expires_at > now())")]
    for name in conditions:
        # A state may be longer than an index takes, so it is found by its md5 first.
        is_hashed = (table.name, name) == ("rl_q_values", "state")
        condition = quoting.SQL("md5({0}) = md5(%s) AND {0} = %s" if is_hashed else "{0} = %s")
        clauses.append(condition.format(quoting.Identifier(name)))
    return quoting.SQL("SELECT {} FROM {} WHERE {}").format(
        what or _named(table), quoting.Identifier(table.name), quoting.SQL(" AND ").join(clauses)
    )


def _values(kind: AgentKind, conditions: Mapping[str, object]) -> list[object]:
    """Return what stands behind the conditions, in their order; a state stands in two places."""
    twice = kind is AgentKind.Q_VALUES
    return [value for name, one in conditions.items() for value in ((one, one) if twice and name == "state" else (one,))]


def _packed(write: AgentWrite, now: int) -> bytes:
    until = now + write.lifetime_ms * 1_000 if write.lifetime_ms else 0
    return msgspec.msgpack.encode([*write._replace(lifetime_ms=until)])


def _unpacked(packed: bytes) -> AgentWrite:
    kind, key, type_, command, arguments, element, replaces, most, until, window, removed = msgspec.msgpack.decode(packed)
    left = max(1, (until - time.time_ns() // 1_000) // 1_000) if until else 0
    return AgentWrite(
        AgentKind(kind), key, RedisType(type_), command, tuple(arguments), element, replaces, most, left, window, removed
    )
