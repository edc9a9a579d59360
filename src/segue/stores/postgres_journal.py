"""The journal of agent state, a table beside those of its rows.

Owns how an event is written and read. What is worth an event is decided by whoever does the thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from segue.model import Event, EventKind
from segue.stores.authorship import author, version
from segue.stores.postgres_store import Postgres

_RECORD = "INSERT INTO segue_agentdb_event (kind, sentence, data, made_by, version) VALUES (%s, %s, %s, %s, %s)"
_EVENTS = "SELECT kind, sentence, data, extract(epoch FROM at)::float8, made_by, version FROM segue_agentdb_event ORDER BY id"


class PostgresJournal:
    """The `Journal` of agent state.

    Args:
        postgres: Where its tables are.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def record(self, kind: EventKind, text: str, data: Mapping[str, Any] | None = None) -> None:
        """See `Journal`; a repeat after a lost reply may add it twice."""
        with self._postgres.translated(), self._postgres.connect() as connection:
            connection.execute(_RECORD, _values(kind, text, data or {}))

    def events(self) -> list[Event]:
        """See `Journal`; none where there is no table yet."""
        with self._postgres.translated(), self._postgres.connect() as connection:
            if connection.execute("SELECT to_regclass('segue_agentdb_event')").fetchone() == (None,):
                return []
            found = connection.execute(_EVENTS).fetchall()
        return [Event(EventKind(kind), text, data, at, by, made_by) for kind, text, data, at, by, made_by in found]


def note(connection: psycopg.Connection[Any], kind: EventKind, text: str, data: Mapping[str, Any]) -> None:
    """Add an event within a transaction; where that fails, the transaction goes on without it."""
    with suppress(psycopg.Error), connection.transaction():
        connection.execute(_RECORD, _values(kind, text, data))


def _values(kind: EventKind, text: str, data: Mapping[str, Any]) -> tuple[Any, ...]:
    return kind.value, text, Jsonb(dict(data)), author(), version()
