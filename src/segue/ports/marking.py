"""The protocol's notes in the source: marks, who acts on them, and how they come to be without the application's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from segue.model import Key, Page

NOTHING: Mapping[Key, str] = MappingProxyType({})
"""No key at all."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Marks and their items as one transaction saw them, the marks locked before anything was read.

    Attributes:
        versions: Each key's token; a key without a mark is missing.
        page: The items there are; a key that is in neither its rows nor its quarantined has no item, and belongs deleted.
    """

    versions: Mapping[Key, str]
    page: Page


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to do, of all partitions.

    Attributes:
        open: Marks a reader must look at.
        dirty: Keys whose sink copy is out of date.
        tainted: Keys for which a late request may still land.
        oldest_seconds: How long the oldest dirty key has waited.
    """

    open: int
    dirty: int
    tainted: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mark stands.

    Attributes:
        version: Its token.
        settled: It is clean, and no late request can land.
        open: A reader must look at it: a search of the sink may not show yet what was acknowledged. Closing it changes nothing.
    """

    version: str
    settled: bool
    open: bool = field(compare=False)


class Marks(Protocol):
    """The marks of one collection, in the source, and what the protocol does with them. Each method is one transaction.

    The mark of a change is written in the transaction of that change (`Writes`), never here; what is done here makes keys
    dirty without a change, or clean. Tokens are fresh at every mark and re-mark and never used twice. All times are the
    source's clock. Usable from several threads.

    Raises (every method):
        RetryableError: Whether it took effect is unknown; doing it again is harmless.
    """

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        """Give every mark of the interval (after, until] a fresh token; return their keys, of deleted items too."""
        ...

    def mark(self, keys: Sequence[Key]) -> None:
        """Give these keys a mark with a fresh token, a new one where they have none; with or without an item."""
        ...

    def standing(self, keys: Sequence[Key]) -> Mapping[Key, Standing]:
        """Return how the marks of these keys stand; keys without a mark are missing."""
        ...

    def lease(self, owner: str, seconds: float, taint_seconds: float) -> frozenset[int]:
        """Renew the owner's partitions, take free ones and give up surplus ones, so that live owners share evenly.

        Every dirty key of a partition taken over from an owner that did not release it is tainted in the same transaction.
        """
        ...

    def release(self, owner: str) -> None:
        """Give up all partitions; only for an owner that has nothing on its way."""
        ...

    def dirty(self, parts: frozenset[int], limit: int) -> list[Key]:
        """Return dirty keys of the partitions, the longest waiting first."""
        ...

    def look(self, keys: Sequence[Key]) -> Looked:
        """Lock the marks in key order, read their tokens, then read their items."""
        ...

    def acknowledge(self, seen: Mapping[Key, str], quarantined: Mapping[Key, str] = NOTHING) -> list[float]:
        """Record that the sink holds what each key was under the token seen, where it still is that token.

        Args:
            seen: The tokens.
            quarantined: Of these keys the sink holds no row, because their items cannot go; why.

        Returns:
            For each that still is as seen, how many seconds ago it became dirty.
        """
        ...

    def taint(self, keys: Sequence[Key], seconds: float) -> None:
        """Note that a request for these keys may still land for that long; they count as tainted until the sweep cured them."""
        ...

    def sweep(self, parts: frozenset[int], window_seconds: float) -> None:
        """Cure taints that have run out with a fresh token; close marks acknowledged longer ago than the window."""
        ...

    def prune(self, parts: frozenset[int], limit: int) -> int:
        """Delete at most `limit` closed marks whose protection nobody needs any more; return how many went.

        A mark goes when it is closed, clean and untainted, and no copy is under way or still to be made under the present
        capture: until then a batch in flight may hold an older row of its key.
        """
        ...

    def copy_begins(self) -> None:
        """Keep every mark from now on, until `copy_ended`. Idempotent; a copy says so before it reads its first item."""
        ...

    def copy_ended(self, capture: str) -> None:
        """Record that a copy made under this capture is complete, with nothing of it in flight."""
        ...

    def backlog(self) -> Backlog:
        """Return what is left to do."""
        ...


class Capture(Protocol):
    """How marks come to be without the application's help: a trigger in the source, in every writer's transaction."""

    def install(self) -> str:
        """Put it in for one collection, unless it is in; return its token. Idempotent.

        Raises:
            FatalError: The source has no triggers, or does not allow them; the hint says what to set.
        """
        ...

    def token(self) -> str | None:
        """Return what names this installation and no other, None when there is none: between two, changes carry no marks."""
        ...

    def works(self, seconds: float) -> bool:
        """Write canaries until one is marked; false when none is in that time."""
        ...

    def prove(self, seconds: float) -> bool:
        """See that it works, and wait for transactions begun before that; false when it takes longer.

        Proven, every transaction that commits from now on is captured: the barrier a copy may begin behind.
        """
        ...

    def remove(self) -> None:
        """Take it out. Marks stay. Idempotent."""
        ...
