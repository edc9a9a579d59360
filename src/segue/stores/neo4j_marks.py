"""Marks in Neo4j: the notes that a key's sink copy is out of date, and the leases of those who act on them.

Every method is one transaction, with the marks' write locks taken first and in key order. Knows no sink; when to call what
is the relay's and the backfill's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from segue.model import Key, SourceSpec
from segue.ports import Backlog, Looked, Standing
from segue.ports.marking import NOTHING
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection, Transaction
from segue.stores.neo4j_keys import key_bounds
from segue.stores.neo4j_rows import Decoded, carried, guarded

PARTITIONS = 64
"""Partitions of a collection's keys. A mark keeps the one it was given at random when it was made."""

_SCHEMA = (
    "CREATE CONSTRAINT segue_mark IF NOT EXISTS FOR (m:SegueMark) REQUIRE (m.collection, m.key) IS UNIQUE",
    "CREATE CONSTRAINT segue_control IF NOT EXISTS FOR (c:SegueControl) REQUIRE c.collection IS UNIQUE",
    "CREATE CONSTRAINT segue_lease IF NOT EXISTS FOR (l:SegueLease) REQUIRE (l.collection, l.part) IS UNIQUE",
    # Readers look for open marks all the time, and must not pay for those of other collections.
    "CREATE INDEX segue_open IF NOT EXISTS FOR (m:SegueOpen) ON (m.collection)",
    "CREATE CONSTRAINT segue_relay IF NOT EXISTS FOR (r:SegueRelay) REQUIRE (r.collection, r.owner) IS UNIQUE",
    "CREATE CONSTRAINT segue_event IF NOT EXISTS FOR (e:SegueEvent) REQUIRE (e.collection, e.name) IS UNIQUE",
    "CREATE CONSTRAINT segue_instance IF NOT EXISTS FOR (i:SegueInstance) REQUIRE (i.collection, i.name) IS UNIQUE",
)


def prepare(connection: Neo4jConnection) -> None:
    """Create the constraints that keep marks, leases, control nodes and instances single, and the index over open marks.

    Idempotent.
    """
    for statement in _SCHEMA:
        connection.define(statement)


class Neo4jMarks:
    """The `Marks` of one collection. Usable from several threads.

    Args:
        connection: The database the items are in.
        collection: Whose marks.
        spec: Which nodes the items are.
    """

    def __init__(self, connection: Neo4jConnection, collection: str, spec: SourceSpec) -> None:
        self._connection = connection
        self._collection = collection
        self._spec = spec

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        """See `Marks`."""
        bounds, values = key_bounds("m.key", self._spec.key_type, after, until)
        return {row[0] for row in self._write(query("marks_remark", bounds=bounds), **values)}

    def mark(self, keys: Sequence[Key]) -> None:
        """See `Marks`."""
        # In key order, like every lock on marks.
        self._write(query("writes_mark"), keys=sorted(keys), marks=True, partitions=PARTITIONS)

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, Standing]:
        """See `Marks`."""
        found = self._connection.rows(query("marks_standing"), leader=True, collection=self._collection, keys=list(keys))
        return {key: Standing(version, settled, is_open) for key, version, settled, is_open in found}

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        """See `Marks`."""

        def work(transaction: Transaction) -> frozenset[int]:
            live, leases, now = self._leases(transaction, owner, seconds)
            mine = [part for part, holder, until in leases if holder == owner and until > now]
            share = math.ceil(PARTITIONS / live)
            free = [(part, holder) for part, holder, until in leases if until <= now]
            taken = free[: max(0, share - len(mine))]
            kept = mine[:share] + [part for part, _ in taken]
            self._run(transaction, "marks_lease_hold", owner=owner, kept=kept, given=mine[share:], until=now + _ms(seconds))
            inherited = [part for part, holder in taken if holder]
            if inherited:
                self._run(transaction, "marks_take_over", parts=inherited, milliseconds=_ms(taint_seconds))
            return frozenset(kept)

        return self._connection.write(work)

    def release(self, owner: str) -> None:
        """See `Marks`."""
        self._write(query("marks_lease_release"), owner=owner)

    def dirty(self, parts: frozenset[int], limit: int) -> list[Key]:
        """See `Marks`."""
        found = self._connection.rows(query("marks_dirty"), collection=self._collection, parts=sorted(parts), limit=limit)
        return [row[0] for row in found]

    def look(self, keys: Sequence[Key]) -> Looked:
        """See `Marks`."""
        text = query(
            "marks_look",
            label=quoted(self._spec.label),
            key=quoted(self._spec.key),
            vector=guarded(self._spec, looking_closely=False),
            properties=carried(self._spec),
        )

        def work(transaction: Transaction) -> Looked:
            self._run(transaction, "marks_lock", keys=list(keys))
            versions: dict[Key, str] = {}
            decoded = Decoded(self._spec)
            for key, version, row in transaction(text, collection=self._collection, keys=list(keys)):
                versions[key] = version
                if row is not None:
                    decoded.add_all([row], key)
            return Looked(versions, decoded.page(None, exhausted=True))

        return self._connection.write(work)

    def acknowledge(self, seen: Mapping[Key, str], quarantined: Mapping[Key, str] = NOTHING) -> list[float]:
        """See `Marks`."""
        pairs = [{"key": key, "ver": version, "quarantined": quarantined.get(key)} for key, version in seen.items()]
        return [row[0] / 1000 for row in self._write(query("marks_acknowledge"), seen=pairs)]

    def taint(self, keys: Sequence[Key], seconds: float) -> None:
        """See `Marks`."""
        self._write(query("marks_taint"), keys=list(keys), milliseconds=_ms(seconds))

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        """See `Marks`."""
        self._write(query("marks_cure"), parts=sorted(parts))
        self._write(query("marks_close"), parts=sorted(parts), milliseconds=_ms(window_seconds))

    def prune(self, parts: frozenset[int], limit: int) -> int:
        """See `Marks`."""

        def work(transaction: Transaction) -> int:
            # The control node's lock comes first: a copy that begins now waits until these marks are gone.
            if not self._run(transaction, "marks_prunable"):
                return 0
            pruned: int = self._run(transaction, "marks_prune", parts=sorted(parts), limit=limit)[0][0]
            return pruned

        return self._connection.write(work)

    def copy_begins(self) -> None:
        """See `Marks`."""
        self._write(query("marks_copy_begins"))

    def copy_ended(self, capture: str) -> None:
        """See `Marks`."""
        self._write(query("marks_copy_ended"), capture=capture)

    def backlog(self) -> Backlog:
        """See `Marks`."""
        found = self._connection.rows(query("marks_backlog"), collection=self._collection)
        open_marks, dirty, tainted, oldest = found[0]
        return Backlog(open_marks, dirty, tainted, oldest / 1000)

    def _leases(self, transaction: Transaction, owner: str, seconds: float) -> tuple[int, list[tuple[int, str, int]], int]:
        """Lock every lease, register the owner; return live owners, the leases, and the database's clock."""
        rows = self._run(transaction, "marks_lease_lock", owner=owner, milliseconds=_ms(seconds), partitions=PARTITIONS)
        live, now = rows[0][3], rows[0][4]
        return live, [(part, holder, until) for part, holder, until, _, _ in rows], now

    def _run(self, transaction: Transaction, name: str, **values: Any) -> list[list[Any]]:
        return transaction(query(name), collection=self._collection, **values)

    def _write(self, text: str, **values: Any) -> list[list[Any]]:
        return self._connection.write(lambda transaction: transaction(text, collection=self._collection, **values))


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
