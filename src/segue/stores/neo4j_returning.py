"""Neo4j looked at by whoever takes users back to it, or clears up behind a migration.

Owns which nodes are the protocol's own. Decides nothing: whether something may go is the phases' business.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from segue.errors import ModeRefused
from segue.model import Key, KeyType, Metric, SourceSpec, StorageMode
from segue.ports import IndexState, Vector
from segue.stores.cypher import literal, query, quoted
from segue.stores.neo4j_connection import Neo4jConnection, Transaction

SAMPLED = 50
"""Nodes looked at for one that a search must find; those that cannot be migrated either are passed over."""

LOOK_SECONDS = 10.0

REMOVED_AT_ONCE = 10_000
"""Nodes removed in one transaction."""

_KINDS = {
    "marks": ("SegueMark", "SegueCanary"),
    "leases": ("SegueLease", "SegueRelay"),
    "instances": ("SegueInstance",),
    "control": ("SegueControl",),
}
_SIMILARITY = {Metric.COSINE: "cosine", Metric.EUCLIDEAN: "euclidean", Metric.DOT: "cosine"}
_KEY_TYPES: dict[KeyType, type[Key]] = {KeyType.STRING: str, KeyType.INTEGER: int}


class Neo4jReadiness:
    """The `Readiness` of one collection's source.

    Args:
        connection: Where to look.
        spec: Which index, over which nodes.
    """

    def __init__(self, connection: Neo4jConnection, spec: SourceSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._key_type = _KEY_TYPES[spec.key_type]
        self._places = {"label": quoted(spec.label), "key": quoted(spec.key), "vector": quoted(spec.vector)}

    def look(self) -> IndexState:
        """See `Readiness`."""
        index = self._connection.ask(query("vector_index"), {"index": self._spec.index}, seconds=LOOK_SECONDS)
        counting = query("label_count", label=self._places["label"])
        ((items,),) = self._connection.ask(counting, {}, seconds=LOOK_SECONDS)
        state, percent = index[0][:2] if index else (None, 0.0)
        return IndexState(state, float(percent), items)

    def sample(self) -> tuple[Key, Vector] | None:
        """See `Readiness`."""
        text = query("embedded_sample", **self._places)
        for key, value in self._connection.ask(text, {"limit": SAMPLED}, seconds=LOOK_SECONDS):
            vector = _vector(value, self._spec.dimension)
            if type(key) is self._key_type and vector is not None:
                return key, vector
        return None

    def statement(self) -> str:
        """See `Readiness`."""
        index = self._connection.ask(query("vector_index"), {"index": self._spec.index}, seconds=LOOK_SECONDS)
        return index[0][2] if index else create_statement(self._spec)


class Neo4jTraces:
    """The `Traces` of one collection.

    Args:
        connection: The database the items are in.
        collection: Whose traces.
        spec: Its source.
    """

    def __init__(self, connection: Neo4jConnection, collection: str, spec: SourceSpec) -> None:
        self._connection = connection
        self._collection = collection
        self._spec = spec

    def found(self) -> Mapping[str, int]:
        """See `Traces`."""
        return {kind: self._count(labels) for kind, labels in _KINDS.items()}

    def remove(self, kind: str, epoch: int) -> int:
        """See `Traces`. Many nodes go in several transactions, each under the control node's lock."""
        text = query("traces_remove", labels="|".join(_KINDS[kind]))
        removed = 0
        while gone := self._remove_some(text, epoch):
            removed += gone
        return removed

    def drop_index(self) -> bool:
        """See `Traces`."""
        was_there = bool(self._connection.rows(query("vector_index"), index=self._spec.index))
        # A schema statement takes no parameters, and IF EXISTS makes running it again harmless.
        self._connection.write(lambda run: run(f"DROP INDEX {quoted(self._spec.index)} IF EXISTS"))
        return was_there

    def _count(self, labels: tuple[str, ...]) -> int:
        nodes: int = self._connection.rows(query("traces_found", labels="|".join(labels)), collection=self._collection)[0][0]
        return nodes

    def _remove_some(self, text: str, epoch: int) -> int:
        def work(transaction: Transaction) -> int:
            # The lock comes first: whoever changes the mode now waits until these are gone, and what it then needs is new.
            for mode, now in transaction(query("traces_lock"), collection=self._collection):
                if (mode, now) != (StorageMode.NEO4J_ONLY, epoch):
                    message = f"somebody else changed the mode of {self._collection!r} meanwhile: now {mode} at epoch {now}"
                    raise ModeRefused(message, hint="What is left is in use again.")
            gone: int = transaction(text, collection=self._collection, limit=REMOVED_AT_ONCE)[0][0]
            return gone

        return self._connection.write(work)


def create_statement(spec: SourceSpec) -> str:
    """Return the statement that makes the vector index as configured."""
    settings = f"`vector.dimensions`: {spec.dimension}, `vector.similarity_function`: {literal(_SIMILARITY[spec.metric])}"
    return (
        f"CREATE VECTOR INDEX {quoted(spec.index)} IF NOT EXISTS FOR (n:{quoted(spec.label)}) ON (n.{quoted(spec.vector)}) "
        f"OPTIONS {{indexConfig: {{{settings}}}}}"
    )


def _vector(value: object, dimension: int) -> Vector | None:
    if not isinstance(value, list) or len(value) != dimension:
        return None
    try:
        vector = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        return None
    norm = float(np.linalg.norm(vector))
    return vector if np.isfinite(norm) and norm > 0 else None
