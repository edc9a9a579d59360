"""The application's writes in Neo4j: the change and the mark that speaks of it, in one transaction.

Data changes first, then the marks are locked, each in key order, as under a trigger; relays and copies lock marks only. So none
of them waits for another in a circle. Whether a mark is left is decided within the transaction, by the control node as it is
then. Knows no sink.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segue.errors import UnknownKey
from segue.model import Key, SourceSpec, StorageMode, Written
from segue.ports import Backlog
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection, Transaction
from segue.stores.neo4j_marks import PARTITIONS, Neo4jMarks, prepare


class Neo4jWrites:
    """The `Writes` of one collection. Usable from several threads.

    Args:
        connection: The database the items are in.
        collection: Whose marks.
        spec: Which nodes the items are.
    """

    def __init__(self, connection: Neo4jConnection, collection: str, spec: SourceSpec) -> None:
        self._connection = connection
        self._collection = collection
        self._marks = Neo4jMarks(connection, collection, spec)
        places = {"label": quoted(spec.label), "key": quoted(spec.key), "vector": quoted(spec.vector)}
        self._upsert = query("writes_upsert", mark=query("writes_mark"), **places)
        self._delete = query("writes_delete", mark=query("writes_mark"), **places)
        self._label, self._key = spec.label, spec.key
        self._prepared = False

    def upsert(self, rows: Sequence[Mapping[str, Any]], own: StorageMode) -> Written:
        """See `Writes`."""
        _, parameters = self.marking([row["key"] for row in rows], own)
        found = self._connection.write(lambda transaction: transaction(self._upsert, rows=rows, **parameters))
        return _written(found[0][0])

    def delete(self, keys: Sequence[Key], own: StorageMode, *, missing_ok: bool) -> Written:
        """See `Writes`."""
        attempts = 0
        _, parameters = self.marking(keys, own)

        def work(transaction: Transaction) -> Written:
            nonlocal attempts
            attempts += 1
            before, found = transaction(self._delete, **parameters)[0]
            deleted = set(found)
            # An attempt before this one may have been committed without the driver's knowing.
            if not missing_ok and attempts == 1 and len(deleted) < len(keys):
                missing = [key for key in keys if key not in deleted]
                shown = ", ".join(repr(key) for key in missing[:5]) + (", …" if len(missing) > 5 else "")  # noqa: PLR2004
                message = f"no :{self._label} node has {self._key} {shown}; nothing was deleted"
                raise UnknownKey(message, hint="delete(…, missing_ok=True) lets such keys pass.")
            return _written(before)

        return self._connection.write(work)

    def marking(self, keys: Sequence[Key], own: StorageMode) -> tuple[str, Mapping[str, Any]]:
        """See `Writes`."""
        if own.marks and not self._prepared:
            # Without the constraints two writers could each make a mark of the same key.
            prepare(self._connection)
            self._prepared = True
        parameters = {"collection": self._collection, "marks": own.marks, "keys": list(keys), "partitions": PARTITIONS}
        return query("writes_mark"), parameters

    def reached(self, written: Written) -> bool:
        """See `Writes`."""
        before = [[key, token] for key, token in written.before.items()]
        return not self._connection.rows(query("writes_not_reached"), collection=self._collection, before=before)

    def backlog(self) -> Backlog:
        """See `Writes`."""
        return self._marks.backlog()


def _written(before: Sequence[tuple[Key, str]]) -> Written:
    return Written(marked=bool(before), before=dict(before))
