"""An application's users: threads that write and search while everything else goes wrong, and note every error they see.

Writers share keys and write through both kinds of capture. Readers each own a few keys that nobody else writes, so that they
know what a search must find: never less than their last committed write.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import numpy as np

import segue
from acceptance.shop import DIMENSION
from acceptance.workplace import Workplace

OWN_KEYS = 6
K = 10

_UPSERT = "MERGE (n:LABEL {id: $key}) SET n.embedding = $vector, n.title = $title, n.year = $year"
_DELETE = "MATCH (n:LABEL {id: $key}) DETACH DELETE n"


class Users:
    """Eight writers, two readers; a context manager that ends them.

    Attributes:
        writes: How many were committed.
        answers: How many searches, by the mode and by who answered.
        errors: What a user saw that no user should.

    Args:
        place: Where the plain driver is.
        stores: What the application holds; shared among the threads.
        keys: The writers' keys; some of them have no item at first.
        choose: What to do, and when.
    """

    def __init__(self, place: Workplace, stores: list[segue.DualWriteStore], keys: list[str], choose: random.Random) -> None:
        self._place = place
        self._keys = keys
        self._stop = threading.Event()
        self._mutex = threading.Lock()
        self.writes = 0
        self.answers: Counter[tuple[str, str]] = Counter()
        self.errors: list[str] = []
        works: list[Callable[[random.Random], None]] = [self._writer(None)] * 4
        works += [self._writer(stores[number % len(stores)]) for number in range(4)]
        works += [_Reader(self, stores[number % len(stores)], number).read for number in range(2)]
        self._threads = [
            threading.Thread(target=self._go_on, args=(work, random.Random(choose.random())), name=f"user {number}")
            for number, work in enumerate(works)
        ]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; every call in hand is answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, work: Callable[[random.Random], None], choose: random.Random) -> None:
        while not self._stop.wait(choose.uniform(0, 0.1)):
            try:
                work(choose)
            except Exception as fault:  # noqa: BLE001  # any error a user sees is one too many
                self.saw(f"{type(fault).__name__}: {fault}")

    def saw(self, error: str) -> None:
        """Note an error."""
        with self._mutex:
            self.errors.append(f"{time.strftime('%H:%M:%S')} {threading.current_thread().name}: {error}")

    def wrote(self) -> None:
        """Note a write."""
        with self._mutex:
            self.writes += 1

    def searched(self, mode: str, hits: list[segue.Hit]) -> None:
        """Note a search."""
        stores = {hit.store.value for hit in hits}
        with self._mutex:
            self.answers[mode, "milvus" if "milvus" in stores else "neo4j"] += 1

    def put(self, store: segue.DualWriteStore | None, key: str, vector: np.ndarray[Any, Any], title: str) -> None:
        """Create or change an item, by the library or by the plain driver."""
        if store is None:
            self._place.rows(_UPSERT, key=key, vector=vector.tolist(), title=title, year=2000)
        else:
            store.upsert([segue.Item(key, vector, {"title": title, "year": 2000})])
        self.wrote()

    def remove(self, store: segue.DualWriteStore | None, key: str) -> None:
        """Delete an item, by the library or by the plain driver, whether it is there or not."""
        if store is None:
            self._place.rows(_DELETE, key=key)
        else:
            store.delete([key], missing_ok=True)
        self.wrote()

    def _writer(self, store: segue.DualWriteStore | None) -> Callable[[random.Random], None]:
        def write(choose: random.Random) -> None:
            key = choose.choice(self._keys)
            if choose.random() < 0.3:  # so that about as many are made again as are deleted
                self.remove(store, key)
            else:
                vector = np.asarray([choose.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
                self.put(store, key, vector, str(choose.random()))

        return write


class _Reader:
    """Writes one of its own keys, searches where they lie, and compares: all it has as it wrote it last, nothing it deleted."""

    def __init__(self, users: Users, store: segue.DualWriteStore, number: int) -> None:
        self._users = users
        self._store = store
        self._name = f"own{number}"
        # Nothing else lies near an axis in so many dimensions.
        self._where = np.eye(DIMENSION, dtype=np.float32)[number]
        self._titles: dict[str, str] = {}
        self._written_at: dict[str, float] = {}
        self._turn = 0

    def read(self, choose: random.Random) -> None:
        """Take one turn."""
        self._turn += 1
        # The later ones seldom change, so that their marks close and Milvus answers for them.
        number = min(int(choose.expovariate(1.0)), OWN_KEYS - 1)
        key = f"{self._name}-{number}"
        store = self._store if choose.random() < 0.5 else None  # one way or the other
        near = self._where + np.asarray([choose.gauss(0, 0.02) for _ in range(DIMENSION)], np.float32)
        if choose.random() < 0.3:  # as the writers
            self._users.remove(store, key)
            self._titles.pop(key, None)
        else:
            title = f"turn {self._turn}"
            self._users.put(store, key, near, title)
            self._titles[key] = title
        self._written_at[key] = time.monotonic()
        for _ in range(choose.randrange(1, 4)):
            self._look()

    def _look(self) -> None:
        mode = self._store.mode.value
        hits = self._store.search(self._where, K)
        self._users.searched(mode, hits)
        found = {
            str(hit.key): (hit.properties.get("title"), hit.store.value) for hit in hits if str(hit.key) in self._written_at
        }
        for key in self._titles.keys() | found.keys():
            title, by = found.get(key, (None, "nobody"))
            if title != self._titles.get(key):
                age = time.monotonic() - self._written_at[key]
                answered = sorted({hit.store.value for hit in hits})
                self._users.saw(
                    f"in {mode}, {key} is {title!r} by {by}, and should be {self._titles.get(key)!r} for {age:.1f} s; "
                    f"hits of {answered}: {[str(hit.key) for hit in hits]}"
                )
