"""The journal in Neo4j, a node for each event, where it outlasts the machines that migrate.

Owns how an event is written and read. What is worth an event is decided by whoever does the thing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from segue.model import Event, EventKind
from segue.stores.authorship import author, version
from segue.stores.cypher import query
from segue.stores.neo4j_connection import Neo4jConnection, Transaction


class Neo4jJournal:
    """The `Journal` of one collection.

    Args:
        connection: The database the items are in.
        collection: Whose journal.
    """

    def __init__(self, connection: Neo4jConnection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    def record(self, kind: EventKind, text: str, data: Mapping[str, Any] | None = None) -> None:
        """See `Journal`."""
        name = str(uuid.uuid4())
        self._connection.write(lambda run: record(run, self._collection, name, kind, text, data or {}))

    def events(self) -> list[Event]:
        """See `Journal`."""
        rows = self._connection.rows(query("journal_events"), leader=True, collection=self._collection)
        return [
            Event(EventKind(kind), text, orjson.loads(data), at / 1000, by, made_by)
            for kind, text, data, at, by, made_by in rows
        ]


def record(transaction: Transaction, collection: str, name: str, kind: EventKind, text: str, data: Mapping[str, Any]) -> None:
    """Add an event within a transaction.

    Args:
        transaction: Where.
        collection: Whose journal.
        name: Unlike any other event's; the same when the transaction is run again.
        kind: What it is about.
        text: What happened.
        data: What JSON can hold.
    """
    transaction(
        query("journal_record"),
        collection=collection,
        name=name,
        kind=kind.value,
        sentence=text,
        data=orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        by=author(),
        version=version(),
    )
