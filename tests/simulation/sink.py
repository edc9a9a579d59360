"""Milvus, for the protocol's purposes: behind a network that loses replies and delivers late, read from replicas that lag.

A key's rows are kept as the vector's bytes and the token they were written under. What has landed on a key is kept as its
history; a search sees, of each key anew, some moment of it that is not older than what must be visible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segue.model import Filter, Hit, Key, Layout, Rows, SourceSpec, StoreName
from segue.pipelines.layouts import VERSION_FIELD
from segue.pipelines.scores import exact_scores
from segue.ports import IndexProgress, Vector
from simulation.world import Request, World

Row = tuple[bytes, str]

SEND_WITHIN = 1.0
"""How long a relay that has found its lease to last may be stopped before it sends: less than what the lease leaves for it."""


class Network:
    """A `Sink` and `Candidates`.

    Args:
        world: Who decides what lands when, and what a search sees.
        spec: What a row is made of.
        visible: How long after its acknowledgement a write may stay invisible to searches (Δ).

    Attributes:
        copy_takes: How long a batch of the copy is under way before it is sent.
    """

    def __init__(self, world: World, spec: SourceSpec, visible: float) -> None:
        self._world = world
        self._spec = spec
        self._visible = visible
        self.copy_takes = 0.0
        self._landed: dict[Key, list[tuple[tuple[Row, ...], Request | None]]] = {}
        self._is_made = False

    def field_names(self, name: str) -> frozenset[str] | None:
        """There is always the one collection."""
        del name
        return frozenset()

    def find(self, layout: Layout) -> str | None:
        """Return the one collection, once somebody has made it or written to it."""
        return layout.name if self._is_made or self._landed else None

    def create(self, layout: Layout) -> str:
        """Make the one collection."""
        self._is_made = True
        return layout.name

    def upsert(self, layout: Layout, rows: Rows) -> _Reply:
        """Put an upsert on its way."""
        del layout
        versions = rows.columns[VERSION_FIELD]
        new = {key: (rows.vectors[place].tobytes(), versions[place]) for place, key in enumerate(rows.keys)}

        def land(request: Request) -> None:
            for key, row in new.items():
                self._put(key, self._with(self.rows_of(key), row), request)

        return self._send("upsert", land)

    def delete(self, layout: Layout, keys: Sequence[Key]) -> _Reply:
        """Put a delete on its way."""
        del layout
        gone = list(keys)

        def land(request: Request) -> None:
            for key in gone:
                self._put(key, (), request)

        return self._send("delete", land)

    def index(self, layout: Layout) -> None:
        """Nothing to build."""

    def index_progress(self, layout: Layout) -> IndexProgress:
        """Nothing to build."""
        del layout
        return IndexProgress(0, 0, done=True)

    def load(self, layout: Layout) -> None:
        """Nothing to load."""

    def keys(self, layout: Layout, after: Key | None, limit: int) -> list[Key]:
        """Return the keys of rows, with everything that has landed visible."""
        del layout
        self._world.pause("read keys of rows")
        keys = sorted(key for key in self._landed if self.rows_of(key) and (after is None or str(key) > str(after)))
        return keys[:limit]

    def count(self, layout: Layout) -> int:
        """Return the number of rows."""
        del layout
        return sum(len(self.rows_of(key)) for key in self._landed)

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> _Asked:
        """Put a search on its way; it takes effect some time before its answer."""
        del conditions, seconds
        asked = _Asked(self._world)
        asked.request = self._world.request(lambda _: asked.found(self._nearest(vector, k)), reads=True)
        self._world.pause("sent a search")
        return asked

    # --- for scenes

    def has(self, key: Key, vector: Sequence[float]) -> None:
        """Hold a row from the beginning."""
        self._put(key, ((np.asarray(vector, "<f4").tobytes(), ""),), None)

    def rows_of(self, key: Key) -> tuple[Row, ...]:
        """Return what has landed last on a key."""
        history = self._landed.get(key)
        return history[-1][0] if history else ()

    def rows(self) -> Mapping[Key, tuple[Row, ...]]:
        """Return all rows there are."""
        return {key: self.rows_of(key) for key in self._landed if self.rows_of(key)}

    def _with(self, before: tuple[Row, ...], row: Row) -> tuple[Row, ...]:
        del before
        return (row,)

    def _put(self, key: Key, rows: tuple[Row, ...], request: Request | None) -> None:
        self._landed.setdefault(key, []).append((rows, request))

    def _seen(self, key: Key) -> tuple[Row, ...]:
        """Return a key's rows as the replica that answers shows them."""
        history = self._landed[key]
        must = max((place for place, (_, request) in enumerate(history) if self._must_show(request)), default=-1)
        options = [rows for rows, _ in history[must:]] if must >= 0 else [(), *[rows for rows, _ in history]]
        return options[self._world.choose(f"a replica shows more of {key} than it must", len(options))]

    def _must_show(self, request: Request | None) -> bool:
        if request is None:
            return True
        return request.settled_at is not None and self._world.now >= request.settled_at + self._visible

    def _nearest(self, vector: Vector, k: int) -> list[Hit]:
        hits = []
        for key in sorted(self._landed, key=str):
            rows = self._seen(key)
            if rows:
                vectors = np.stack([np.frombuffer(held, "<f4") for held, _ in rows])
                scores = exact_scores(self._spec.metric, vector, vectors)
                best = int(np.argmax(scores))
                hits.append(Hit(key, float(scores[best]), {"n": int(vectors[best][1])}, StoreName.MILVUS))
        return sorted(hits, key=lambda hit: -hit.score)[:k]

    def _send(self, what: str, land: Any) -> _Reply:
        is_leased = self._world.running().startswith("relay")
        if self.copy_takes and not is_leased:
            self._world.sleep(self.copy_takes)
        self._world.pause(f"send {what}", within=SEND_WITHIN if is_leased else None)
        return _Reply(self._world, self._world.request(land))


class _Reply:
    def __init__(self, world: World, request: Request) -> None:
        self._world = world
        self._request = request

    def result(self) -> None:
        self._world.answer_to(self._request)


class _Asked:
    """A `Pending`."""

    request: Request

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent_at = world.now
        self._hits: list[Hit] = []
        self.seconds = 0.0

    def found(self, hits: list[Hit]) -> None:
        self._hits = hits

    def result(self) -> list[Hit]:
        self._world.answer_to(self.request)
        self.seconds = self._world.now - self._sent_at
        return self._hits
