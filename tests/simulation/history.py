"""What happened to the items, and what a search may therefore answer: the invariants as code."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segue.model import Hit, Key
from simulation.sink import Row

State = int | None
"""An item's version, None while there is no item."""

Place = dict[Key, int]
"""For each key, how far its history has come."""

FULL = 10
"""With so many wanted every item belongs into the answer, so that a missing one was seen as deleted."""


class Items(dict[Key, Sequence[Any]]):
    """The graph's items, which write down every state that they take, in the order in which it can be seen.

    Args:
        who: Names the process that runs now.
    """

    def __init__(self, who: Callable[[], str]) -> None:
        super().__init__()
        self.states: dict[Key, list[State]] = {}
        self._by: dict[Key, list[str]] = {}
        self._who = who

    def __setitem__(self, key: Key, values: Sequence[Any]) -> None:
        """Note the version."""
        super().__setitem__(key, values)
        self._note(key, int(values[1]))

    def pop(self, key: Key, default: Any = None) -> Any:
        """Note that there is none."""
        found = super().pop(key, default)
        self._note(key, None)
        return found

    def written_by(self, key: Key, who: str) -> int | None:
        """Return where in a key's history the newest state is that this process wrote."""
        by = self._by.get(key, [])
        return max((place for place, name in enumerate(by) if name == who), default=None)

    def _note(self, key: Key, state: State) -> None:
        self.states.setdefault(key, [None]).append(state)
        self._by.setdefault(key, [""]).append(self._who())


class Expected:
    """What searches must see: no older than every write returned before they began, and never back in time for one client.

    Args:
        items: The history.
        vector: Gives a key's vector at a version.
        asked: What is searched for.
    """

    def __init__(self, items: Items, vector: Callable[[Key, int], Sequence[float]], asked: Sequence[float]) -> None:
        self._items = items
        self._vector = vector
        self._asked = np.asarray(asked)
        self._returned: Place = {}
        self._seen: dict[str, Place] = {}
        self.wrong: list[str] = []

    def returned(self, key: Key, who: str) -> None:
        """A write was reported to its writer as done: it must be in the graph, and every later search must see it."""
        place = self._items.written_by(key, who)
        if place is None:
            self.wrong.append(f"a write of {key} by {who} returned, but Neo4j has not committed it")
        else:
            self._returned[key] = max(self._returned.get(key, 0), place)

    def floor(self) -> Place:
        """Return what a search that begins now must at least see."""
        return dict(self._returned)

    def found(self, client: str, floor: Place, hits: Sequence[Hit], k: int) -> None:
        """A search that began at this floor has answered."""
        seen = self._seen.setdefault(client, {})
        least = {key: max(floor.get(key, 0), seen.get(key, 0)) for key in self._items.states}
        answer = {hit.key: int(hit.properties["n"]) for hit in hits}
        if k < FULL:
            self._ranked(client, least, hits, k)
            return
        for key, states in self._items.states.items():
            place = next((place for place in range(least[key], len(states)) if states[place] == answer.get(key)), None)
            if place is None:
                since = states[least[key] :]
                self.wrong.append(f"{client} found {key} as {answer.get(key)}, expected one of {since} (history {states})")
            else:
                seen[key] = place

    def _ranked(self, client: str, least: Place, hits: Sequence[Hit], k: int) -> None:
        """Say whether some state of every key, none too old, has exactly this answer."""
        answer = [(hit.key, int(hit.properties["n"])) for hit in hits]
        keys = list(self._items.states)
        for states in itertools.product(*[dict.fromkeys(self._items.states[key][least[key] :]) for key in keys]):
            there = [(self._away(key, state), key, state) for key, state in zip(keys, states, strict=True) if state is not None]
            if [(key, state) for _, key, state in sorted(there)[:k]] == answer:
                return
        self.wrong.append(f"{client} found {answer} of {k}, which no states since {least} of {self._items.states} give")

    def _away(self, key: Key, version: int) -> float:
        return float(np.linalg.norm(np.asarray(self._vector(key, version)) - self._asked))


def equal(rows: Mapping[Key, Sequence[Row]], items: Mapping[Key, Sequence[Any]]) -> list[str]:
    """Return, in words, every key that has not exactly one row, equal to its item, or none where there is no item."""
    wrong = []
    for key in sorted(rows.keys() | items.keys(), key=str):
        wanted = [np.asarray(items[key][0], dtype="<f4").tobytes()] if key in items else []
        held = [vector for vector, _ in rows.get(key, ())]
        if wanted != held:
            shown = [np.frombuffer(vector, "<f4").tolist() for vector in held]
            wrong.append(f"{key}: item {items.get(key)}, rows {shown}")
    return wrong
