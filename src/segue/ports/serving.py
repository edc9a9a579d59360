"""What an application's traffic stands on: the control node, its writes, its searches, and who counts them.

Everything here is called while a user waits, or beside users who do not: methods say what they cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segue.model import (
    Control,
    Fallback,
    FenceTimes,
    Filter,
    Hit,
    Instance,
    Item,
    Key,
    Observed,
    Opened,
    Page,
    Preflighted,
    Reason,
    Searched,
    StorageMode,
    StoreName,
    Validated,
    Written,
)
from segue.ports.marking import Backlog

Vector = NDArray[np.float32]
"""Shape (dimension,) float32."""


class ControlNode(Protocol):
    """The control node of one collection and the instances that act by it. Each method is one transaction.

    Raises (every method):
        RetryableError: Whether it took effect is unknown; doing it again is harmless.
    """

    def read(self) -> Control:
        """Return the control node; mode `neo4j_only` at epoch 0 when there is none."""
        ...

    def change(
        self, expected_epoch: int, mode: StorageMode, *, times: FenceTimes, reason: str, overridden: Sequence[str] = ()
    ) -> Control | None:
        """Set the mode and grow the epoch by one, if the epoch is still the expected one; None when it is not.

        The change is recorded in the journal with its reason, and with the names of the gates that were `overridden`.

        With the change to `neo4j_only` a capture by the library ends, and a static copy counts no more unless a trigger goes
        on capturing. `times` take effect with a change to a mode that does not read Milvus, and are kept with one to a mode
        that does: marks that closed under a shorter window are not opened again.
        """
        ...

    def reset(self, *, times: FenceTimes, reason: str) -> Control:
        """Set `neo4j_only` and grow the epoch, whatever the node says; for one that cannot be read. Else as `change`."""
        ...

    def captured(self, epoch: int) -> Control:
        """Note that the barrier of that epoch is reached in a mode that marks, so that every change is captured from now on.

        Idempotent; a capture that is noted already stays, and nothing happens when the epoch has changed.
        """
        ...

    def uncopied(self) -> None:
        """Note that what was copied is no more, so that no copy counts as complete. Idempotent."""
        ...

    def validated(self, validated: Validated) -> None:
        """Note what comparing both sides came to, in place of an earlier note; nothing happens when there is no node."""
        ...

    def searched(self, searched: Searched) -> None:
        """Note what checking searches came to, in place of an earlier note; nothing happens when there is no node."""
        ...

    def preflighted(self, preflight: Preflighted) -> None:
        """Note what a preflight came to; where there is no control node, one that passed makes it."""
        ...

    def renew(self, instance: Instance, seconds: float) -> Control:
        """Register an instance, or renew it, for that long, with all it says of itself; return the control node."""
        ...

    def leave(self, name: str) -> None:
        """Take an instance out; what it observed in the present epoch goes on counting. Idempotent."""
        ...

    def observed(self) -> Observed:
        """Return what all instances have seen of Milvus in the present epoch, those that left or lapsed among them."""
        ...

    def instances(self) -> list[Instance]:
        """Return the instances whose registration has not lapsed, by name."""
        ...

    def transactions(self) -> frozenset[str]:
        """Return the writing transactions that are open now, by an id that no later one has."""
        ...


class Writes(Protocol):
    """The application's writes, with their marks in the same transaction. Usable from several threads."""

    def upsert(self, rows: Sequence[Mapping[str, Any]], own: StorageMode) -> Written:
        """Write rows {key, vector, properties}, with distinct keys in order, in one transaction.

        Marks are left when the control node or `own` says so.

        Raises:
            RetryableError: Not known to be committed; writing again is harmless.
        """
        ...

    def delete(self, keys: Sequence[Key], own: StorageMode, *, missing_ok: bool) -> Written:
        """Delete items, keys distinct and in order, in one transaction, with their relationships; their marks stay.

        Raises:
            UnknownKey: Some key has no item, and `missing_ok` is false; nothing is deleted.
            RetryableError: Not known to be committed; deleting again is harmless.
        """
        ...

    def marking(self, keys: Sequence[Key], own: StorageMode) -> tuple[str, Mapping[str, Any]]:
        """Return the query and the parameters that mark keys, for a transaction of the application's own."""
        ...

    def reached(self, written: Written) -> bool:
        """Say whether the sink has acknowledged every key as it was written, or as it was written later."""
        ...

    def backlog(self) -> Backlog:
        """Return what is left to do for the relays."""
        ...


class Nearest(Protocol):
    """The source, searched by its own vector index. Usable from several threads."""

    def nearest(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> list[Hit]:
        """Return the k nearest items that meet the conditions, nearest first; fewer when there are no more.

        Raises:
            RetryableError: No answer within that time.
        """
        ...


class Lookup(Protocol):
    """The source's items, read as they are now, in any mode. Usable from several threads."""

    def by_keys(self, keys: Sequence[Key], seconds: float) -> list[Item]:
        """Return the items there are under these keys, in no order; values as a hit has them.

        Raises:
            RetryableError: No answer within that time.
        """
        ...

    def by_filter(self, conditions: Filter, seconds: float) -> list[Item]:
        """Return every item that meets the conditions, in no order, at the cost of a walk over the label.

        Raises:
            RetryableError: No answer within that time.
        """
        ...


class Pending(Protocol):
    """A search on its way."""

    @property
    def seconds(self) -> float:
        """How long the sink took to answer, from sending; known once `result` has returned."""
        ...

    def result(self) -> list[Hit]:
        """Wait for the answer: distinct keys, nearest first.

        Raises:
            SegueError: There is none.
        """
        ...


class Candidates(Protocol):
    """The sink, searched. What it shows lags behind what it acknowledged. Usable from several threads."""

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> Pending:
        """Ask for the k nearest rows that meet the conditions; returns at once.

        Raises:
            NotConnected: The connection is still being opened, which says nothing about the sink.
            SegueError: It cannot even be asked.
        """
        ...


class Fence(Protocol):
    """The open marks, for whoever reads the sink. Usable from several threads."""

    def read(self, most: int, most_dirty: int) -> Opened:
        """Return the control node and every open mark, with the items of those not acknowledged; one query, at the leader.

        Args:
            most: The most open marks wanted.
            most_dirty: The most of them that are not acknowledged: an item comes with each.

        Raises:
            RetryableError: The source does not answer.
        """
        ...

    def items(self, keys: Sequence[Key]) -> Page:
        """Return the items under these keys as they are now.

        Raises:
            RetryableError: The source does not answer.
        """
        ...


class Meter(Protocol):
    """Whoever counts; must not raise, and costs microseconds."""

    def asked(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """A store answered a search, for a user or for a comparison."""
        ...

    def searched(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """A user has an answer, which came from this store."""
        ...

    def fell_back(self, reason: Fallback) -> None:
        """Neo4j answers a search that Milvus should have answered."""
        ...

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        """A store failed at something; `kind` is the error's class."""
        ...

    def wrote(self, store: StoreName, attempts: int, successes: int) -> None:
        """So many items were to be written to a store, and so many were."""
        ...

    def fenced(self, open_marks: int, overlaid: int, seconds: float) -> None:
        """The fence was read: so many open marks, of which so many items stood in for rows."""
        ...

    def compared(self, overlap: float, score_error: float) -> None:
        """A shadow read: the share of keys both sides found, and the largest difference of scores of those."""
        ...

    def shadow_skipped(self) -> None:
        """A shadow read was not made, because others were still waiting."""
        ...

    def lagged(self, seconds: float) -> None:
        """A change became acknowledged that long after it was marked."""
        ...

    def quarantined(self, reason: Reason) -> None:
        """An item that was to be carried over cannot go; the sink holds no row of it."""
        ...

    def backlog(self, backlog: Backlog) -> None:
        """So much is left to do."""
        ...

    def acts(self, control: Control, own: StorageMode | None, reads: StorageMode) -> None:
        """An instance acts by this control node and its own mode; `reads` is the lower of the two."""
        ...

    def breaker(self, is_open: bool) -> None:
        """Milvus is not asked any more for a while, or is again."""
        ...

    def stands(self, control: Control, instances: Sequence[Instance]) -> None:
        """A relay sees this control node and these instances that act by it."""
        ...

    def stored(self, rows: int, indexed: int) -> None:
        """Milvus counts so many rows, and so many in the vector index."""
        ...

    def relays(self, is_up: bool) -> None:
        """A relay carries changes over, or waits for a store that does not answer."""
        ...

    def copied(self, migrated: int, quarantined: int, source: int, seconds_left: float | None) -> None:
        """The copy has come so far; None when it is too early to say how long it will take."""
        ...


class NoMeter:
    """A `Meter` that counts nothing."""

    def asked(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """See `Meter`."""

    def searched(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """See `Meter`."""

    def fell_back(self, reason: Fallback) -> None:
        """See `Meter`."""

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        """See `Meter`."""

    def wrote(self, store: StoreName, attempts: int, successes: int) -> None:
        """See `Meter`."""

    def fenced(self, open_marks: int, overlaid: int, seconds: float) -> None:
        """See `Meter`."""

    def compared(self, overlap: float, score_error: float) -> None:
        """See `Meter`."""

    def shadow_skipped(self) -> None:
        """See `Meter`."""

    def lagged(self, seconds: float) -> None:
        """See `Meter`."""

    def quarantined(self, reason: Reason) -> None:
        """See `Meter`."""

    def backlog(self, backlog: Backlog) -> None:
        """See `Meter`."""

    def acts(self, control: Control, own: StorageMode | None, reads: StorageMode) -> None:
        """See `Meter`."""

    def breaker(self, is_open: bool) -> None:
        """See `Meter`."""

    def stands(self, control: Control, instances: Sequence[Instance]) -> None:
        """See `Meter`."""

    def stored(self, rows: int, indexed: int) -> None:
        """See `Meter`."""

    def relays(self, is_up: bool) -> None:
        """See `Meter`."""

    def copied(self, migrated: int, quarantined: int, source: int, seconds_left: float | None) -> None:
        """See `Meter`."""
