"""Neo4j as a preflight asks it: version, clock, privileges, procedures, triggers. What is tried is rolled back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from urllib.parse import urlsplit

from segue.errors import FatalError, RetryableError, SegueError
from segue.model import SourceSpec
from segue.ports import About, Refused, Transport, Triggers, VectorIndexFound
from segue.stores.addresses import transport
from segue.stores.cypher import quoted
from segue.stores.neo4j_catalog import Neo4jCatalog
from segue.stores.neo4j_connection import Neo4jConnection

_READS = (
    ("read items", "MATCH (n:LABEL) RETURN n LIMIT 1", "GRANT MATCH {*} ON GRAPH * TO role"),
    ("show indexes", "SHOW INDEXES YIELD name RETURN count(*)", "GRANT SHOW INDEX ON DATABASE * TO role"),
    ("show constraints", "SHOW CONSTRAINTS YIELD name RETURN count(*)", "GRANT SHOW CONSTRAINT ON DATABASE * TO role"),
    (
        "show transactions",
        "SHOW TRANSACTIONS YIELD transactionId RETURN count(*)",
        "GRANT SHOW TRANSACTION (*) ON DATABASE * TO role",
    ),
)

_MARK = """
CREATE (m:SegueMark:SegueOpen {collection: '', key: '', ver: '', acked: ''})
SET m.part = 0, m.marked_at = timestamp() REMOVE m:SegueOpen DELETE m
"""

# With the names that marks have anyway: names of labels and properties stay, whatever is rolled back.
_WRITES = (
    (
        "create and delete marks",
        _MARK,
        "GRANT WRITE ON GRAPH * TO role; GRANT CREATE NEW LABEL, CREATE NEW PROPERTY NAME ON DATABASE * TO role",
    ),
    (
        "create constraints",
        "CREATE CONSTRAINT segue_control IF NOT EXISTS FOR (c:SegueControl) REQUIRE c.collection IS UNIQUE",
        "GRANT CONSTRAINT MANAGEMENT ON DATABASE * TO role",
    ),
    (
        "create indexes",
        "CREATE INDEX segue_open IF NOT EXISTS FOR (m:SegueOpen) ON (m.collection)",
        "GRANT INDEX MANAGEMENT ON DATABASE * TO role",
    ),
)


class Neo4jPreflight:
    """The `SourceServer` over Neo4j.

    Args:
        connection: The database the items are in.
    """

    def __init__(self, connection: Neo4jConnection) -> None:
        self._connection = connection

    def connect(self) -> None:
        """See `Server`."""
        self._connection.rows("RETURN 1")

    def about(self) -> About:
        """See `Server`."""
        found = self._connection.rows(
            "CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel' RETURN versions[0], edition"
        )
        return About(*found[0])

    def transport(self) -> Transport:
        """See `Server`."""
        return transport(
            self._connection.uri,
            encrypted="+s" in urlsplit(self._connection.uri).scheme,
            verified=urlsplit(self._connection.uri).scheme.endswith("+s"),
        )

    def seconds(self) -> float:
        """See `Server`."""
        return float(self._connection.rows("RETURN timestamp()")[0][0]) / 1000

    def refused(self, label: str, *, trying: bool) -> list[Refused]:
        """See `SourceServer`."""
        found = []
        for what, statement, grant in _READS:
            found += _attempted(what, grant, partial(self._connection.rows, statement.replace("LABEL", quoted(label))))
        for what, statement, grant in _WRITES if trying else ():
            found += _attempted(what, grant, partial(self._connection.tried, statement))
        return found

    def missing(self, procedures: Collection[str]) -> list[str]:
        """See `SourceServer`."""
        found = self._connection.rows(
            "SHOW PROCEDURES EXECUTABLE YIELD name WHERE name IN $names RETURN name", names=list(procedures)
        )
        there = {row[0] for row in found}
        return [name for name in procedures if name not in there]

    def triggers(self) -> Triggers:
        """See `SourceServer`."""
        try:
            version = str(self._connection.rows("RETURN apoc.version()")[0][0])
        except FatalError:
            return Triggers(None, enabled=False)
        try:
            shown = self._connection.administer(
                "CALL apoc.trigger.show($database) YIELD name RETURN name", database=self._connection.database
            )
        except FatalError as refusal:
            return Triggers(version, enabled=False, why=refusal.message.splitlines()[0])
        return Triggers(version, enabled=True, installed=sorted(row[0] for row in shown))

    def vector_indexes(self) -> list[VectorIndexFound]:
        """See `SourceServer`."""
        return Neo4jCatalog(self._connection).vector_indexes()

    def duplicates(self, spec: SourceSpec, limit: int) -> list[tuple[object, int]]:
        """See `SourceServer`."""
        return Neo4jCatalog(self._connection).duplicates(spec.label, spec.key, limit)


def _attempted(what: str, grant: str, attempt: Callable[[], object]) -> list[Refused]:
    try:
        attempt()
    except RetryableError:
        raise
    except SegueError as refusal:
        return [Refused(what, refusal.message, grant)]
    return []
