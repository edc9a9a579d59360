"""Both sides of a reconcile in memory, over whatever holds the items and the rows; for tests and the simulation."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segue.model import Key, Layout, Page, Rows
from segue.ports import Stratum


class MemorySourceSide:
    """The `SourceSide` over items in this process.

    Args:
        keys: Gives the key of every item.
        page: Gives the items under some keys.
        chance: Gives a number of [0, 1) at each call.
    """

    def __init__(
        self, keys: Callable[[], Iterable[Key]], page: Callable[[Sequence[Key]], Page], chance: Callable[[], float]
    ) -> None:
        self._keys = keys
        self._page = page
        self._chance = chance

    def draw(self, bounds: Sequence[Key], share: float) -> list[Stratum]:
        """See `SourceSide`."""
        strata: list[list[Key]] = [[] for _ in range(len(bounds) + 1)]
        for key in self._keys():
            strata[bisect.bisect_left(bounds, key)].append(key)
        return [Stratum(len(keys), [key for key in keys if self._chance() < share]) for keys in strata]

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """See `SourceSide`."""
        return [key for key in self._keys() if _within(key, after, until)]

    def items(self, keys: Sequence[Key]) -> Page:
        """See `SourceSide`."""
        return self._page(keys)


class MemorySinkSide:
    """The `SinkSide` over rows in this process; a key has one row.

    Args:
        rows: Gives every row by key: field name to value, vectors as little-endian float32 bytes.
        layout: The rows' layout.
        pause: Called before the sink is read, with what is about to happen.
    """

    def __init__(
        self,
        rows: Callable[[], Mapping[Key, Mapping[str, Any]]],
        layout: Layout,
        *,
        pause: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rows = rows
        self._layout = layout
        self._pause = pause

    def rows(self, keys: Sequence[Key], *, whole: bool) -> _Read:
        """See `SinkSide`."""
        del whole
        self._pause("read rows")
        held = self._rows()
        found = {key: held[key] for key in keys if key in held}
        size, vector = self._layout.vector.size, self._layout.vector.name
        packed = b"".join(row[vector] for row in found.values())
        names = {name for row in found.values() for name in row} - {vector, self._layout.primary.name}
        columns = {name: [row[name] for row in found.values()] for name in names}
        return _Read(Rows(list(found), np.frombuffer(packed, "<f4").reshape(len(found), size), columns))

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """See `SinkSide`."""
        self._pause("list rows")
        return sorted(key for key in self._rows() if _within(key, after, until))

    def behind(self, places: Sequence[Key | None], limit: int) -> _Listed:
        """See `SinkSide`."""
        return _Listed([key for place in places for key in self.keys(place, None)[:limit]])

    def count(self) -> _Counted:
        """See `SinkSide`."""
        return _Counted(len(self._rows()))


class _Listed:
    def __init__(self, keys: list[Key]) -> None:
        self._keys = keys

    def result(self) -> list[Key]:
        """See `Listing`."""
        return self._keys


class _Counted:
    def __init__(self, number: int) -> None:
        self._number = number

    def result(self) -> int:
        """See `Counting`."""
        return self._number


class _Read:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def result(self) -> tuple[Rows, Mapping[Key, int]]:
        """See `Reading`."""
        return self._rows, {}


def _within(key: Key, after: Key | None, until: Key | None) -> bool:
    return (after is None or key > after) and (until is None or key <= until)  # type: ignore[operator]
