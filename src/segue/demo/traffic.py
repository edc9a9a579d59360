"""Who uses the film service while it is moved: a reader and two editors, and what they see, counted here and nowhere else.

One editor writes by the plain driver and knows nothing of Segue, the other by the store that `segue.connect` gave; the reader
asks that store. Nobody tries a failed call again: each counts.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from segue import DualWriteStore, Hit, Item, StorageMode, StoreName
from segue.demo.application import FilmService, properties_of
from segue.demo.films import Film, Question
from segue.errors import FatalError

READ_PAUSE_SECONDS = 0.02
EDIT_PAUSE_SECONDS = 0.05

NEAREST = 10
"""How many films a question asks for."""

PREMIERE_EVERY = 8
"""One write in so many is a new film, which is looked for at once, taken out, and looked for again."""

REMOVE_EVERY = 3
"""One write in so many takes a film out."""

PREMIERES = 10
"""Ids that the new films of one editor take in turn."""

LOOK_SECONDS = 0.1

DRIVER, STORE = "driver", "store"
"""By what an editor writes; each write is counted under it."""

LOOKED = "looked for what was just written"
"""What a search for something fresh counts as, when it found what is and not what is not."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One search that was answered.

    Attributes:
        mode: The storage mode at its beginning and at its end; None when it changed meanwhile.
        store: Who answered: Milvus when any hit is Milvus's, since what was just written comes from Neo4j in any case.
        milliseconds: How long the caller waited.
    """

    mode: StorageMode | None
    store: StoreName
    milliseconds: float


class Tally:
    """What users did and saw. Usable from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._searches: list[Answered] = []
        self._done: Counter[str] = Counter()
        self._faults: list[str] = []

    def searched(self, search: Answered) -> None:
        """Count a search."""
        with self._mutex:
            self._searches.append(search)

    def did(self, what: str) -> None:
        """Count something else that went well."""
        with self._mutex:
            self._done[what] += 1

    def failed(self, what: str) -> None:
        """Note a call that failed, or an answer that was wrong."""
        with self._mutex:
            self._faults.append(what)

    @property
    def faults(self) -> int:
        """How many calls failed, and how many answers were wrong."""
        with self._mutex:
            return len(self._faults)

    def done(self, what: str) -> int:
        """Return how often something went well."""
        with self._mutex:
            return self._done[what]

    def searches(self, since: int = 0) -> list[Answered]:
        """Return the searches, those after the first so many."""
        with self._mutex:
            return self._searches[since:]

    def answered_by(self, store: StoreName, since: int = 0) -> int:
        """Return how many searches after the first so many this store answered."""
        return sum(search.store is store for search in self.searches(since))

    def by_mode(self) -> list[tuple[StorageMode, int, int, float]]:
        """Return each mode there was, with the searches that Neo4j and Milvus answered, and the median milliseconds."""
        searches = self.searches()
        rows = []
        for mode in StorageMode:
            of_mode = [search for search in searches if search.mode is mode]
            if of_mode:
                milvus = sum(search.store is StoreName.MILVUS for search in of_mode)
                median = statistics.median(search.milliseconds for search in of_mode)
                rows.append((mode, len(of_mode) - milvus, milvus, median))
        return rows

    def require_sound(self) -> None:
        """Let the tour go on only while no user has seen a fault.

        Raises:
            FatalError: Somebody has; it says what came first.
        """
        with self._mutex:
            faults = list(self._faults)
        if faults:
            message = f"users saw {len(faults)} faults; the first: {faults[0]}"
            raise FatalError(message, hint="None was expected. application.log and relay.log in the demo's folder say more.")


class Desk(Protocol):
    """Where an editor writes, each call for good when it returns."""

    name: str

    def add(self, film: Film) -> None:
        """Write a film that is not there."""
        ...

    def edit(self, film: Film) -> None:
        """Change a film's description."""
        ...

    def remove(self, film: Film) -> None:
        """Take a film out."""
        ...


class DriverDesk:
    """A desk over the plain driver; it knows nothing of Segue."""

    name = DRIVER

    def __init__(self, service: FilmService) -> None:
        self._service = service

    def add(self, film: Film) -> None:
        """See `Desk`."""
        self._service.add([film])

    def edit(self, film: Film) -> None:
        """See `Desk`."""
        self._service.edit(film.id, film.description)

    def remove(self, film: Film) -> None:
        """See `Desk`."""
        self._service.remove(film.id)


class StoreDesk:
    """A desk over the library."""

    name = STORE

    def __init__(self, store: DualWriteStore) -> None:
        self._store = store

    def add(self, film: Film) -> None:
        """See `Desk`."""
        properties = properties_of(film)
        key = properties.pop("id")
        self._store.upsert([Item(key=key, vector=_vector_of(film), properties=properties)])

    def edit(self, film: Film) -> None:
        """See `Desk`."""
        self.add(film)

    def remove(self, film: Film) -> None:
        """See `Desk`."""
        self._store.delete([film.id])


class Traffic:
    """A reader and two editors, each in a thread of its own; a context manager that lets them work until its end.

    In the end every film is there that was there in the beginning, and no other.

    Args:
        service: The film service, by plain drivers.
        store: What the application holds since its one line was changed.
        edited: The films that the editors work on, half of them each.
        questions: What the reader asks.
    """

    def __init__(
        self, service: FilmService, store: DualWriteStore, edited: Sequence[Film], questions: Sequence[Question]
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._questions = questions
        self._closed = threading.Event()
        self._edits_end = threading.Event()
        self._reader = threading.Thread(target=self._read, name="reader")
        self._editors = [
            threading.Thread(target=self._edit, args=(DriverDesk(service), edited[0::2]), name="editor-driver"),
            threading.Thread(target=self._edit, args=(StoreDesk(store), edited[1::2]), name="editor-store"),
        ]

    def __enter__(self) -> Self:
        """Let everybody begin."""
        for thread in (self._reader, *self._editors):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send everybody home."""
        self.end_edits()
        self._closed.set()
        self._reader.join()

    @property
    def mode(self) -> StorageMode:
        """The mode that their searches follow now."""
        return self._store.mode

    def end_edits(self) -> None:
        """Stop the editors; the reader goes on. Idempotent."""
        self._edits_end.set()
        for thread in self._editors:
            thread.join()

    def until(self, seen: Callable[[Tally], bool], seconds: float, what: str) -> None:
        """Wait until users have seen something.

        Raises:
            FatalError: They have not within that time, or have seen a fault.
        """
        deadline = time.monotonic() + seconds
        while not seen(self.tally):
            self.tally.require_sound()
            if time.monotonic() > deadline:
                message = f"within {seconds:g} s no {what}"
                raise FatalError(message, hint="application.log and relay.log in the demo's folder say more.")
            time.sleep(LOOK_SECONDS)
        self.tally.require_sound()

    def _read(self) -> None:
        for question in itertools.cycle(self._questions):
            if self._closed.wait(READ_PAUSE_SECONDS):
                return
            self._search(question.vector)

    def _edit(self, desk: Desk, films: Sequence[Film]) -> None:
        """Edit films, take some out and put them back a round later; and write new ones, which are looked for."""
        gone: dict[str, Film] = {}
        for turn, film in enumerate(itertools.cycle(films)):
            if self._edits_end.wait(EDIT_PAUSE_SECONDS):
                break
            if turn % PREMIERE_EVERY == 0:
                self._premiere(desk, _remake(film, desk.name, turn))
            elif film.id in gone:
                self._write(desk, desk.add, gone.pop(film.id))
            elif turn % REMOVE_EVERY == 0:
                self._write(desk, desk.remove, film)
                gone[film.id] = film
            else:
                self._write(desk, desk.edit, replace(film, description=f"{film.description} (Edit {turn}.)"))
        for film in gone.values():
            self._write(desk, desk.add, film)

    def _premiere(self, desk: Desk, new: Film) -> None:
        """Write a film and look for it at once, take it out and look again."""
        if self._write(desk, desk.add, new):
            self._expect(new, is_there=True)
        if self._write(desk, desk.remove, new):
            self._expect(new, is_there=False)

    def _write(self, desk: Desk, write: Callable[[Film], None], film: Film) -> bool:
        try:
            write(film)
        except Exception as fault:  # noqa: BLE001  # whatever it is, a user's call failed
            self.tally.failed(f"a write of {film.id} by the {desk.name}: {type(fault).__name__}: {fault}")
            return False
        self.tally.did(desk.name)
        return True

    def _expect(self, film: Film, *, is_there: bool) -> None:
        hits = self._search(_vector_of(film))
        if hits is None:
            return
        if (film.id in [hit.key for hit in hits]) is is_there:
            self.tally.did(LOOKED)
        else:
            wrong = "written a moment ago, was not found" if is_there else "taken out a moment ago, was still found"
            self.tally.failed(f"{film.id}, {wrong}")

    def _search(self, vector: NDArray[np.float32]) -> list[Hit] | None:
        """Search, and count it; None when it failed."""
        before = self._store.mode
        began = time.perf_counter()
        try:
            hits = self._store.search(vector, k=NEAREST)
        except Exception as fault:  # noqa: BLE001  # whatever it is, a user's call failed
            self.tally.failed(f"a search in {before}: {type(fault).__name__}: {fault}")
            return None
        milliseconds = 1_000 * (time.perf_counter() - began)
        store = StoreName.MILVUS if any(hit.store is StoreName.MILVUS for hit in hits) else StoreName.NEO4J
        self.tally.searched(Answered(before if self._store.mode is before else None, store, milliseconds))
        if len(hits) < NEAREST:
            self.tally.failed(f"a search in {before}, answered by {store}, found {len(hits)} films instead of {NEAREST}")
        return hits


def _remake(film: Film, editor: str, turn: int) -> Film:
    """Return a new film near an old one, under one of few ids."""
    vector = _vector_of(film)
    aside = np.random.default_rng(turn).normal(size=vector.shape)
    near = vector + 0.3 * aside / np.linalg.norm(aside)
    unit = (near / np.linalg.norm(near)).astype(np.float32)
    number = turn // PREMIERE_EVERY % PREMIERES
    return replace(film, id=f"remake-{number}-by-{editor}", title=f"{film.title} (remake)", vector=unit)


def _vector_of(film: Film) -> NDArray[np.float32]:
    if film.vector is None:
        message = f"{film.id} is a draft without a vector"
        raise ValueError(message)
    return film.vector
