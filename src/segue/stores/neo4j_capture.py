"""Capture by trigger: an APOC before-trigger marks what any client's transaction touches, in that transaction.

Owns the trigger's text and the canary that proves it. Knows no relay: what becomes of the marks is none of its business.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from segue.errors import FatalError
from segue.model import SourceSpec
from segue.stores.cypher import literal, query, quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_keys import CYPHER_TYPE
from segue.stores.neo4j_marks import PARTITIONS, prepare

_CANARY_SECONDS = 0.2

_SETTINGS = (
    "Capture needs APOC core in the server's plugins, and in its configuration:\n"
    "  apoc.conf: apoc.trigger.enabled=true\n"
    "  neo4j.conf: dbms.security.procedures.unrestricted=apoc.*\n"
    "then a restart. A shorter apoc.trigger.refresh (in ms) makes a new trigger live sooner."
)


class TriggerCapture:
    """The `Capture` of one collection over APOC triggers.

    Args:
        connection: The database the items are in; its user must be allowed to install triggers.
        collection: Whose marks.
        spec: Which nodes the items are, and which of their properties travel.
    """

    def __init__(self, connection: Neo4jConnection, collection: str, spec: SourceSpec) -> None:
        self._connection = connection
        self._collection = collection
        self._spec = spec
        self._name = f"segue_{collection}"

    def install(self) -> str:
        """See `Capture`."""
        found = self.token()
        if found is not None:
            return found
        prepare(self._connection)
        call = "CALL apoc.trigger.install($database, $name, $statement, {phase: 'before'}) YIELD name RETURN name"
        self._administer(call, statement=query("capture_trigger", **self._places()))
        token: str = self._write("capture_begin")[0][0]
        return token

    def token(self) -> str | None:
        """See `Capture`."""
        noted = self._connection.rows(query("capture_token"), collection=self._collection)
        if not noted:
            return None
        shown = self._administer("CALL apoc.trigger.show($database) YIELD name, paused RETURN name, paused")
        return noted[0][0] if [self._name, False] in shown else None

    def is_noted(self) -> bool:
        """Say whether an installation is noted, whether or not the trigger is still there."""
        return bool(self._connection.rows(query("capture_token"), collection=self._collection))

    def works(self, seconds: float) -> bool:
        """See `Capture`."""
        deadline = time.monotonic() + seconds
        try:
            while not self._canary_is_marked():
                if time.monotonic() > deadline:
                    return False
                time.sleep(_CANARY_SECONDS)
        finally:
            self._write("capture_clean")
        return True

    def prove(self, seconds: float) -> bool:
        """See `Capture`."""
        deadline = time.monotonic() + seconds
        return self.works(seconds) and self._older_transactions_end(deadline)

    def remove(self) -> None:
        """See `Capture`."""
        self._write("capture_end")
        self._administer("CALL apoc.trigger.drop($database, $name) YIELD name RETURN name")

    def _places(self) -> dict[str, str]:
        spec = self._spec
        carried = [spec.vector, *spec.property_names, spec.key]
        return {
            "label": quoted(spec.label),
            "label_name": literal(spec.label),
            "key": quoted(spec.key),
            "key_name": literal(spec.key),
            "carried_names": ", ".join(literal(name) for name in carried),
            "collection": literal(self._collection),
            "type": CYPHER_TYPE[spec.key_type],
            "partitions": str(PARTITIONS),
        }

    def _canary_is_marked(self) -> bool:
        key = f"segue-canary-{uuid.uuid4().hex}" if self._spec.key_type.value == "string" else -uuid.uuid4().int % 2**62
        self._write("capture_canary", key=key)
        return bool(self._write("capture_proof", key=key))

    def _older_transactions_end(self, deadline: float) -> bool:
        """Wait until every transaction that was open when the canary was marked has ended."""
        older = {row[0] for row in self._connection.rows(query("transactions"), database=self._connection.database)}
        while older & {row[0] for row in self._connection.rows(query("transactions"), database=self._connection.database)}:
            if time.monotonic() > deadline:
                return False
            time.sleep(_CANARY_SECONDS)
        return True

    def _write(self, name: str, **values: Any) -> list[list[Any]]:
        return self._connection.write(lambda run: run(query(name), collection=self._collection, **values))

    def _administer(self, cypher: str, **values: Any) -> list[list[Any]]:
        try:
            return self._connection.administer(cypher, database=self._connection.database, name=self._name, **values)
        except FatalError as refusal:
            message = f"triggers cannot be used: {refusal.message}"
            raise FatalError(message, hint=_SETTINGS) from refusal
