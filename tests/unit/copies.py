"""A copy between stores in memory that can be killed, refused, throttled and watched at every call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segue.engines.local_workers import LocalWorkers
from segue.errors import SegueError
from segue.model import (
    CarriedProperty,
    Counts,
    Key,
    KeyType,
    Layout,
    Metric,
    PropertyType,
    Quarantined,
    Reason,
    Rows,
    SourceSpec,
)
from segue.phases.backfill import Backfill, Job, Outcome
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import Ack, IndexProgress, RangeProgress, Sink, Source, total
from segue.state.sqlite_state import SqliteState
from segue.stores.memory_store import MemorySink, MemorySource

DIMENSION = 4
SPEC = SourceSpec(
    "ix",
    "Film",
    "id",
    KeyType.STRING,
    "embedding",
    DIMENSION,
    Metric.COSINE,
    (CarriedProperty("title", PropertyType.STRING), CarriedProperty("year", PropertyType.INTEGER)),
)
JOB = Job(
    collection="films",
    spec=SPEC,
    lay_out=partial(make_layout, name="films", preset=Preset.SEGUE, m=16, ef_construction=200),
    batch_size=4,
    items_per_range=10,
    tool_version="1.0",
    patience_seconds=10.0,
)
BAD: dict[Reason, dict[str, Any]] = {
    Reason.NO_EMBEDDING: {"embedding": None},
    Reason.WRONG_DIMENSION: {"embedding": [1.0]},
    Reason.NOT_A_VECTOR: {"embedding": "text"},
    Reason.NOT_FINITE: {"embedding": [float("nan"), 1.0, 1.0, 1.0]},
    Reason.ZERO_NORM: {"embedding": [0.0] * DIMENSION},
    Reason.KEY_TYPE: {"id": 7},
    Reason.KEY_MISSING: {"id": None},
    Reason.KEY_TOO_LONG: {"id": "x" * 600},
    Reason.VALUE_TOO_LARGE: {"title": "x" * 70_000},
}
"""What makes a node one that cannot go, by the reason for it."""


class Killed(BaseException):
    """The process is gone: nothing that handles errors handles this."""


def film(number: int, **changes: Any) -> dict[str, Any]:
    """Return a film that can go, but for the changes."""
    vector = np.random.default_rng(number).normal(size=DIMENSION).tolist()
    return {"id": f"film {number:04}", "embedding": vector, "title": f"Film {number}", "year": 1900 + number} | changes


def films(good: int, *bad: Reason) -> MemorySource:
    """Return a source of so many good films, with one bad one for each reason among them."""
    source = MemorySource("films")
    source.index("Film", "id")
    for number, reason in enumerate(bad):
        source.create("Film", film(good + number) | BAD[reason])
    for number in range(good):
        source.create("Film", film(number))
    return source


def expected(numbers: Sequence[int]) -> dict[Key, tuple[bytes, str, int]]:
    """Return, by key, what the sink must hold of good films: vector, title, year; worked out without the codec."""
    made = [film(number) for number in numbers]
    return {one["id"]: (np.array(one["embedding"], "<f4").tobytes(), one["title"], one["year"]) for one in made}


def held(sink: MemorySink) -> dict[Key, tuple[bytes, str, int]]:
    """Return, by key, what the sink holds of films."""
    return {key: (row["vector"], row["title"], row["year"]) for key, row in sink.rows("films").items()}


@dataclass
class Calls:
    """Counts calls to stores, and strikes at one of them.

    Attributes:
        strike_at: The number of the call to strike, from 1; 0 never strikes.
        after: Whether to strike after the call took effect, so that only its answer is lost.
        made: The calls so far, by name.
    """

    strike_at: int = 0
    after: bool = False
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the lock that keeps the count right under several workers."""
        self._mutex = threading.Lock()

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        """Make the call, or die before it, or behind it."""
        with self._mutex:
            self.made.append(name)
            struck = len(self.made) == self.strike_at
        if struck and not self.after:
            raise Killed(name)
        result = call()
        if struck:
            raise Killed(name)
        return result


class Struck:
    """Any port, with its calls counted and one of them struck; the acknowledgement of an upsert is a call of its own."""

    def __init__(self, port: Any, calls: Calls) -> None:
        self._port = port
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        """Return the port's method, counted."""
        method = getattr(self._port, name)

        def counted(*values: Any, **options: Any) -> Any:
            result = self._calls(name, lambda: method(*values, **options))
            return StruckAck(result, self._calls) if name == "upsert" else result

        return counted


class StruckAck:
    """An acknowledgement that counts as a call."""

    def __init__(self, ack: Ack, calls: Calls) -> None:
        self._ack = ack
        self._calls = calls

    def result(self) -> None:
        """See `Ack`."""
        self._calls("result", self._ack.result)


class MoodySink:
    """A sink in memory that answers some upserts with an error.

    Args:
        memory: Where accepted rows go.
        mood: From a batch to the error it gets, None to accept it.
        lands: Whether a batch with an error is written all the same, so that only the answer is bad.
    """

    def __init__(self, memory: MemorySink, mood: Callable[[Rows], SegueError | None], *, lands: bool = False) -> None:
        self._memory = memory
        self._mood = mood
        self._lands = lands
        self.batches: list[int] = []

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
        """See `Sink`."""
        self.batches.append(len(rows))
        fault = self._mood(rows)
        if fault is None or self._lands:
            ack = self._memory.upsert(layout, rows)
            if fault is None:
                return ack
        done: Future[None] = Future()
        done.set_exception(fault)
        return done

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the sink in memory."""
        return getattr(self._memory, name)


class InOrder:
    """One worker, in the caller's thread, so that a kill strikes the same call each time."""

    def run(self, work: Callable[[int, RangeProgress], None], ranges: Sequence[RangeProgress], stop: threading.Event) -> None:
        """See `Workers`."""
        for one in ranges:
            if not stop.is_set():
                work(0, one)


@dataclass
class Watch:
    """Remembers what a copy says of itself, and checks its account at every batch.

    Attributes:
        items: How many items the source has; None when it changes meanwhile.
        left: How many items count as migrated because the relay will carry them.
    """

    state: SqliteState
    items: int | None
    sink: MemorySink
    on_batch: Callable[[], None] = lambda: None
    left: int = 0
    batches: int = 0
    resumed: bool | None = None
    notes: list[str] = field(default_factory=list)

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        assert ranges >= 1
        assert self.items in (None, counts.source)
        self.resumed = resumed

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`: source = migrated + quarantined + pending, and what counts as migrated is in the sink."""
        assert worker >= 0
        run = self.state.latest("films")
        assert run is not None
        progress = self.state.progress(run)
        counts = total(progress)
        assert counts.source == counts.migrated + counts.quarantined + counts.pending
        assert self.items in (None, counts.source)
        assert counts.pending >= 0
        assert all(0 <= one.migrated + one.quarantined <= one.source for one in progress)
        assert counts.migrated - self.left <= len(self.sink.rows("films"))
        assert progress[range_number].migrated >= migrated
        assert progress[range_number].quarantined >= quarantined
        assert len(self.state.quarantine(run)) >= counts.quarantined
        self.batches += 1
        self.on_batch()

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""
        assert progress.indexed <= progress.total

    def note(self, text: str) -> None:
        """See `Progress`."""
        self.notes.append(text)


@dataclass
class Copy:
    """A copy of films from a source in memory to a sink in memory, as one command after another makes it."""

    source: MemorySource
    folder: Path
    items: int | None
    job: Job = JOB
    workers: int = 1
    sink: MemorySink = field(default_factory=MemorySink)
    watch: Watch | None = None
    left: int = 0

    def run(
        self,
        *,
        calls: Calls | None = None,
        sink: Sink | None = None,
        source: Source | None = None,
        on_batch: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
        restart: bool = False,
    ) -> Outcome:
        """Run the command once, in a process of its own as far as its records go."""
        with SqliteState(self.folder / "state.db") as state:
            state._connection.execute("PRAGMA synchronous = OFF")  # No power fails here, and 300 copies are made.
            self.watch = Watch(state, self.items, self.sink, on_batch, self.left)
            ports: list[Any] = [source or self.source, sink or self.sink, state]
            if calls is not None:
                ports = [Struck(port, calls) for port in ports]
            workers = LocalWorkers(self.workers) if self.workers > 1 else InOrder()
            backfill = Backfill(self.job, ports[0], ports[1], workers, self.watch, stop or threading.Event())
            return backfill.run(ports[2], restart=restart)

    def quarantined(self) -> list[Quarantined]:
        """Return the rows that the last run quarantined."""
        with SqliteState(self.folder / "state.db") as state:
            run = state.latest("films")
            assert run is not None
            return state.quarantine(run)

    def quarantine(self) -> dict[Reason, int]:
        """Return how many rows the last run quarantined, by reason, counted from the rows themselves."""
        rows = [row.reason for row in self.quarantined()]
        return {reason: rows.count(reason) for reason in set(rows)}

    def with_job(self, **changes: Any) -> Copy:
        """Return the same copy under another job."""
        return replace(self, job=replace(self.job, **changes))
