"""What an application holds: writes to Neo4j that mark, searches that follow the mode. Begin at `DualWriteStore`.

A write is one Neo4j transaction and never touches Milvus; the relay carries it over. Owns the checks of a call's arguments and
the bounded wait for Milvus. Knows ports only; what is opened and closed with it is the composition root's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from segue.errors import InvalidInput, RetryableError, SegueError
from segue.model import Freshness, Hit, Item, Key, SourceSpec, StorageMode, StoreName, Written
from segue.pipelines.calls import checked_items, checked_k, checked_keys, checked_vector, checked_wait
from segue.pipelines.filters import parse
from segue.ports import Backlog, Lookup, Meter, Writes
from segue.traffic.awaited import Awaited
from segue.traffic.modes import ModeFollower
from segue.traffic.search import Search

T = TypeVar("T")

LOOK_SECONDS = 0.02
"""Between looks whether Milvus has what a waiting writer wrote."""


class Transaction(Protocol):
    """A transaction of the application's own, as the Neo4j driver gives it to a unit of work."""

    def run(self, query: Any, parameters: dict[str, Any], /) -> Any:
        """Run a query."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a store is made of.

    Attributes:
        spec: What the collection's items look like.
        key_bytes: The longest text key Milvus takes, in bytes of UTF-8.
        writes: Neo4j, written.
        search: The searches.
        lookup: Neo4j, read.
        lookup_seconds: How long reading it may take.
        follower: The storage mode this instance acts by.
        meter: Counts.
        freshness: What a search promises unless it is told otherwise.
        close: Ends everything that was opened for the store. Idempotent.
    """

    spec: SourceSpec
    key_bytes: int
    writes: Writes
    search: Search
    lookup: Lookup
    lookup_seconds: float
    follower: ModeFollower
    meter: Meter
    freshness: Freshness
    close: Callable[[], None]


class DualWriteStore:
    """The vectors of one collection, for an application that is being moved. Made by `segue.connect`.

    Neo4j holds everything in every mode; Milvus is made equal to it by `segue relay`. No Milvus outage fails or slows a write.
    Usable from several threads. A context manager that closes itself.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    @property
    def mode(self) -> StorageMode:
        """The mode that searches follow now: the lower of the control node's and this instance's own."""
        return self._parts.follower.view.reads

    @property
    def spec(self) -> SourceSpec:
        """What the collection's items look like: label, key, vector, and the properties that travel."""
        return self._parts.spec

    def upsert(self, items: Sequence[Item], *, wait: float | None = None) -> bool:
        """Write items in one Neo4j transaction; what is there under their keys is replaced, property by property. Idempotent.

        Args:
            items: With distinct keys.
            wait: How many seconds to wait for Milvus to have them, at most; None does not wait.

        Returns:
            Whether Milvus is known to have them by now; without `wait`, always false.

        Raises:
            InvalidInput: An item does not fit the index (a ValueError); nothing was written.
            RetryableError: Neo4j did not answer; whether the items are written is unknown, writing them again is harmless.
        """
        rows = checked_items(items, self._parts.spec, self._parts.key_bytes)
        return self._write(partial(self._parts.writes.upsert, rows), len(rows), checked_wait(wait)) if rows else False

    def delete(self, keys: Sequence[Key], *, wait: float | None = None, missing_ok: bool = False) -> bool:
        """Delete items, with their relationships, in one Neo4j transaction.

        Args:
            keys: The items' keys; repeated ones count once.
            wait: How many seconds to wait for Milvus to have forgotten them, at most; None does not wait.
            missing_ok: Let keys pass that have no item.

        Returns:
            Whether Milvus is known to have forgotten them by now; without `wait`, always false.

        Raises:
            UnknownKey: A key has no item (a ValueError); nothing was deleted.
            InvalidInput: A key is none of this collection (a ValueError); nothing was deleted.
            RetryableError: Neo4j did not answer; whether they are deleted is unknown, deleting again is harmless.
        """
        chosen = checked_keys(keys, self._parts.spec, self._parts.key_bytes)
        remove = partial(self._parts.writes.delete, chosen, missing_ok=missing_ok)
        return self._write(remove, len(chosen), checked_wait(wait)) if chosen else False

    def mark(self, transaction: Transaction, keys: Sequence[Key]) -> None:
        """Mark keys whose items a transaction of the application's own changes or deletes, in that transaction.

        Call it for every key the transaction touches, behind the change: where a trigger captures too, a mark that is locked
        before its node can deadlock with another writer.

        Args:
            transaction: What the driver gives to a unit of work, or an explicit transaction.
            keys: The items' keys, of deleted and of new ones too. For a key that changes, the old one and the new one.

        Raises:
            InvalidInput: A key is none of this collection (a ValueError).
        """
        text, parameters = self._marking(keys)
        transaction.run(text, parameters).consume()

    def search(
        self,
        vector: Sequence[float] | NDArray[Any],
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the word users look for
        freshness: Freshness | str | None = None,
    ) -> list[Hit]:
        """Return the k items nearest to a vector, nearest first; the mode decides who answers.

        Args:
            vector: As many finite numbers as the index has dimensions.
            k: How many, from 1 to 10,000.
            filter: Conditions that all must hold: {"year": 1979}, {"year": {">=": 1970, "<": 1980}}, {"country": {"in":
                ["US", "FR"]}}, {"genres": {"contains": "Drama"}}, {"title": {"!=": "Alien"}}.
            freshness: "strict": every write committed before the search began is seen. "bounded": those of the last second
                may be missing; spares Neo4j a small query. None is what `connect` was told.

        Returns:
            Fewer than k only when there are no more. Scores are on Neo4j's scale, whoever answered.

        Raises:
            InvalidInput: An argument does not fit (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        spec = self._parts.spec
        asked = checked_vector(vector, spec, "search").astype(np.float32)
        chosen = self._parts.freshness if freshness is None else Freshness(freshness)
        return self._parts.search.search(asked, checked_k(k), parse(filter, spec), chosen)

    def get(self, keys: Sequence[Key]) -> list[Item]:
        """Return the items there are under these keys, in their order, as Neo4j holds them now; in every mode.

        Properties are those that travel, with values as a hit has them; an item without a vector has an empty one.

        Raises:
            InvalidInput: A key is none of this collection (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        chosen = checked_keys(keys, self._parts.spec, self._parts.key_bytes)
        found = {item.key: item for item in self._parts.lookup.by_keys(chosen, self._parts.lookup_seconds)} if chosen else {}
        return [found[key] for key in dict.fromkeys(keys) if key in found]

    def find(self, filter: Mapping[str, Any]) -> list[Item]:  # noqa: A002  # the word users look for
        """Return every item that meets a filter, in key order, as Neo4j holds them now; in every mode.

        Neo4j walks over the whole label, and the answer is held in memory: for maintenance, not for every request.

        Args:
            filter: As in `search`; one condition at least.

        Raises:
            InvalidInput: The filter does not fit, or is empty (a ValueError).
            RetryableError: Neo4j does not answer.
        """
        conditions = parse(filter, self._parts.spec)
        if not conditions:
            message = "find was given no condition, which would return the whole collection"
            raise InvalidInput(message, hint='Give one at least: {"year": 1979}.')
        found = self._parts.lookup.by_filter(conditions, self._parts.lookup_seconds)
        return sorted(found, key=lambda item: item.key)

    def pending(self) -> Backlog:
        """Return how much the relay has left to do: marks open, keys dirty and tainted, how long the oldest waits.

        Raises:
            RetryableError: Neo4j does not answer.
        """
        return self._parts.writes.backlog()

    def close(self) -> None:
        """End the store's threads and connections, and take the instance out of the register. Idempotent."""
        self._parts.close()

    def _marking(self, keys: Sequence[Key]) -> tuple[str, dict[str, Any]]:
        chosen = checked_keys(keys, self._parts.spec, self._parts.key_bytes)
        own = self._parts.follower.view.own or StorageMode.NEO4J_ONLY
        text, parameters = self._parts.writes.marking(chosen, own)
        return text, dict(parameters)

    def _write(self, write: Callable[[StorageMode], Written], items: int, wait: float | None) -> bool:
        meter = self._parts.meter
        with self._parts.follower.acting() as view:
            try:
                written = write(view.own or StorageMode.NEO4J_ONLY)
            except SegueError as fault:
                meter.wrote(StoreName.NEO4J, items, 0)
                meter.failed(StoreName.NEO4J, "write", type(fault).__name__)
                raise
        meter.wrote(StoreName.NEO4J, items, items)
        return self._await_milvus(written, wait) if wait is not None and written.marked else False

    def _await_milvus(self, written: Written, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._parts.writes.reached(written):
                    return True
            except RetryableError as fault:
                # The write is committed: not knowing about Milvus is no reason to fail it.
                self._parts.meter.failed(StoreName.NEO4J, "wait", type(fault).__name__)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(LOOK_SECONDS, left))


class AsyncDualWriteStore(Awaited[DualWriteStore]):
    """`DualWriteStore` for asyncio: the same words, awaited. Made by `segue.connect_async`.

    Calls run in threads of its own, since both drivers' fast paths are synchronous; `mark` runs in the application's own
    asynchronous transaction. An async context manager that closes itself.

    Args:
        store: What it stands for.
        threads: How many calls are made at the same time; more wait.
    """

    def __init__(self, store: DualWriteStore, *, threads: int = 32) -> None:
        super().__init__(store, threads=threads, name="segue")

    @property
    def spec(self) -> SourceSpec:
        """See `DualWriteStore.spec`."""
        return self._store.spec

    @property
    def mode(self) -> StorageMode:
        """See `DualWriteStore.mode`."""
        return self._store.mode

    async def upsert(self, items: Sequence[Item], *, wait: float | None = None) -> bool:
        """See `DualWriteStore.upsert`."""
        return await self._run(partial(self._store.upsert, items, wait=wait))

    async def delete(self, keys: Sequence[Key], *, wait: float | None = None, missing_ok: bool = False) -> bool:
        """See `DualWriteStore.delete`."""
        return await self._run(partial(self._store.delete, keys, wait=wait, missing_ok=missing_ok))

    async def mark(self, transaction: Any, keys: Sequence[Key]) -> None:
        """See `DualWriteStore.mark`; in an asynchronous transaction."""
        text, parameters = await self._run(partial(self._store._marking, keys))  # noqa: SLF001  # its twin
        result = await transaction.run(text, parameters)
        await result.consume()

    async def search(
        self,
        vector: Sequence[float] | NDArray[Any],
        k: int = 10,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  # the word users look for
        freshness: Freshness | str | None = None,
    ) -> list[Hit]:
        """See `DualWriteStore.search`."""
        return await self._run(partial(self._store.search, vector, k, filter=filter, freshness=freshness))

    async def get(self, keys: Sequence[Key]) -> list[Item]:
        """See `DualWriteStore.get`."""
        return await self._run(partial(self._store.get, keys))

    async def find(self, filter: Mapping[str, Any]) -> list[Item]:  # noqa: A002  # the word users look for
        """See `DualWriteStore.find`."""
        return await self._run(partial(self._store.find, filter))

    async def pending(self) -> Backlog:
        """See `DualWriteStore.pending`."""
        return await self._run(self._store.pending)
