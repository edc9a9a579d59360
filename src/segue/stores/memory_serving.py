"""Neo4j's part in an application's traffic, in memory: writes with their marks, the read fence, an exact vector search.

Stands on the graph and the control node in memory, and interleaves like them: `pause` is called wherever others may come
in between. What a reader sees of a commit in progress may be half of it, as in Neo4j.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from segue.errors import UnknownKey
from segue.model import Filter, Hit, Item, Key, Opened, Page, SourceSpec, StorageMode, StoreName, Written
from segue.pipelines.filters import matches
from segue.pipelines.scores import exact_scores
from segue.pipelines.values import plain_properties
from segue.ports import Backlog, Vector
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_marks import MemoryGraph


class MemoryServing:
    """`Writes`, `Fence`, `Nearest` and `Lookup` of one collection.

    Args:
        spec: Which properties an item has.
        graph: Items and marks.
        control: The control node.
        pause: Called where others may come in between, with what is about to happen.
    """

    def __init__(
        self, spec: SourceSpec, graph: MemoryGraph, control: MemoryControl, *, pause: Callable[[str], None] = lambda _: None
    ) -> None:
        self._spec = spec
        self._graph = graph
        self._control = control
        self._pause = pause
        self._numbers = itertools.count(1)

    # --- Writes

    def upsert(self, rows: Sequence[Mapping[str, Any]], own: StorageMode) -> Written:
        """See `Writes`; an item has all its properties, and one that is not named is None."""
        names = self._spec.property_names
        items = {row["key"]: [row["vector"], *(row["properties"].get(name) for name in names)] for row in rows}
        with self._transaction(own) as marking:
            return Written(marking, self._graph.upsert(items, marking=marking))

    def delete(self, keys: Sequence[Key], own: StorageMode, *, missing_ok: bool) -> Written:
        """See `Writes`."""
        with self._transaction(own) as marking:
            missing = [key for key in keys if key not in self._graph.items()]
            if missing and not missing_ok:
                message = f"no item under {missing[0]!r}; nothing was deleted"
                raise UnknownKey(message)
            return Written(marking, self._graph.delete(keys, marking=marking))

    def reached(self, written: Written) -> bool:
        """See `Writes`."""
        return all(self._graph.has_reached(key, before) for key, before in written.before.items())

    def backlog(self) -> Backlog:
        """See `Writes`."""
        return self._graph.backlog()

    # --- Fence

    def read(self, most: int, most_dirty: int) -> Opened:
        """See `Fence`."""
        self._pause("read the fence")
        control, (marks, dirty) = self._control.now(), self._graph.opened()
        too_many = len(marks) > most or len(dirty) > most_dirty
        if too_many:
            marks, dirty = {}, set()
        self._pause("read the fence's items")
        page = self._graph.page([key for key in marks if key in dirty])
        self._pause("the fence answers")
        return Opened(control, marks, dirty, page, too_many)

    def items(self, keys: Sequence[Key]) -> Page:
        """See `Fence`."""
        self._pause("read items")
        page = self._graph.page(keys)
        self._pause("items are read")
        return page

    # --- Nearest

    def nearest(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> list[Hit]:
        """See `Nearest`; exact."""
        del seconds
        self._pause("search Neo4j")
        page = self._graph.page(list(self._graph.items()))
        self._pause("Neo4j answers")
        return nearest_of(self._spec, page, vector, k, conditions, StoreName.NEO4J)

    # --- Lookup

    def by_keys(self, keys: Sequence[Key], seconds: float) -> list[Item]:
        """See `Lookup`."""
        del seconds
        return self._as_items(self._graph.page(list(keys)))

    def by_filter(self, conditions: Filter, seconds: float) -> list[Item]:
        """See `Lookup`."""
        del seconds
        everything = self._as_items(self._graph.page(list(self._graph.items())))
        return [item for item in everything if matches(conditions, {self._spec.key: item.key, **item.properties})]

    def _as_items(self, page: Page) -> list[Item]:
        names = self._spec.property_names
        return [
            Item(key, vector, plain_properties(names, values))
            for key, vector, values in zip(page.keys, page.vectors, page.properties, strict=True)
        ]

    @contextmanager
    def _transaction(self, own: StorageMode) -> Iterator[bool]:
        """Give whether a transaction marks, which it learns when it begins and keeps to its end."""
        name = f"transaction-{next(self._numbers)}"
        self._control.open_transactions.add(name)
        try:
            yield own.marks or self._control.now().mode.marks
        finally:
            self._control.open_transactions.discard(name)


def nearest_of(spec: SourceSpec, page: Page, vector: Vector, k: int, conditions: Filter, store: StoreName) -> list[Hit]:
    """Return the k nearest of a page's items that meet the conditions, by exact scores."""
    if not page.keys:
        return []
    scores = exact_scores(spec.metric, vector, page.vectors)
    hits = []
    for place in np.argsort(-scores, kind="stable"):
        properties = plain_properties(spec.property_names, page.properties[place])
        if matches(conditions, {spec.key: page.keys[place], **properties}):
            hits.append(Hit(page.keys[place], float(scores[place]), properties, store))
    return hits[:k]
