"""The relay: makes marked keys equal again and clears their marks. Begin reading at `Relay.step`.

State-based: it writes what an item is now, never what changed, so order, repeats and crashes do no harm. Any number of relays
may run; leases share the partitions among them. Knows ports only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from segue.breaker import Breaker
from segue.delivery import find_guilty
from segue.errors import DataError, RetryableError, Throttled
from segue.model import Key, Layout, Quarantined, Rows, StoreName
from segue.pipelines.embeddings import Codec
from segue.ports import Backlog, Marks, Meter, NoMeter, Sink

SWEEP_SECONDS = 1.0
PRUNE_SECONDS = 60.0
PRUNE_AT_ONCE = 1_000
"""Marks deleted in one transaction; writers of these keys wait for it."""

IDLE_SECONDS = 0.05
"""Between looks for marks when there were none: what a change waits at most before it is taken up."""

FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 5.0

BATCH_BYTES = 16 << 20
"""Bytes of vectors that a step sends at most."""


class Watch(Protocol):
    """Whoever watches a relay; must not raise."""

    def step(self, step: Step) -> None:
        """A step was made."""
        ...

    def backlog(self, backlog: Backlog) -> None:
        """This is left to do; told about once a second."""
        ...

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """The protocol's times, in seconds.

    Attributes:
        request: The longest a step's requests are waited for; nothing is sent when the lease ends sooner.
        landing: How long after sending an unanswered request may still land (Z); longer than `request`.
        lease: How long a lease lasts; longer than `request`.
        window: How long after its acknowledgement a mark stays open for readers (U), where the control node does not say.
        drain: How long, once asked to stop, dirty keys are still made equal.
    """

    request: float = 60.0
    landing: float = 90.0
    lease: float = 150.0
    window: float = 10.0
    drain: float = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did.

    Attributes:
        taken: Keys looked at.
        equal: Of these, keys acknowledged under the token seen; the others were marked again meanwhile, or are tainted.
        unknown: Keys tainted, because the outcome of a request is unknown.
        quarantined: Items that cannot go; the sink holds no row of them.
    """

    taken: int = 0
    equal: int = 0
    unknown: int = 0
    quarantined: tuple[Quarantined, ...] = ()


class Relay:
    """One owner of partitions. Its methods are called in turn from one thread.

    Args:
        owner: A name that no other relay has, and that this one did not have in an earlier life.
        clock: This process's monotonic clock, in seconds, against which its own lease is held.
        meter: Counts what is written, what fails and how late changes arrive.
        batch: Keys a step takes at most; fewer where vectors are large, while the sink asks for less, and after it did not
            answer.
    """

    def __init__(
        self,
        owner: str,
        marks: Marks,
        codec: Codec,
        layout: Layout,
        sink: Sink,
        timing: Timing,
        clock: Callable[[], float],
        *,
        meter: Meter | None = None,
        batch: int = 500,
    ) -> None:
        self._owner = owner
        self._marks = marks
        self._codec = codec
        self._layout = layout
        self._sink = sink
        self._timing = timing
        self._clock = clock
        self._meter = meter or NoMeter()
        self._batch = self._most = max(1, min(batch, BATCH_BYTES // (4 * layout.vector.size)))
        self._breaker = Breaker(clock, last_pause=LAST_PAUSE_SECONDS)
        self._parts: frozenset[int] = frozenset()
        self._held_until = 0.0

    @property
    def waits(self) -> bool:
        """Whether the sink is only tried now and then, because it does not answer."""
        return self._breaker.is_open

    def hold(self) -> frozenset[int]:
        """Take, renew or give up partitions; to be called more often than a lease lasts. Return those held."""
        # Measured from before the call, so that this clock never holds the lease longer than the source's does.
        asked = self._clock()
        self._parts = self._marks.lease(self._owner, self._timing.lease, self._timing.landing)
        self._held_until = asked + self._timing.lease
        return self._parts

    def step(self) -> Step:
        """Make some dirty keys equal.

        1. Take dirty keys of the partitions held; a single one to try a sink that failed again and again, none in between.
        2. Lock their marks, read their tokens, then their items.
        3. Upsert the items there are, delete the rest; send nothing that the lease would not outlast.
        4. Acknowledge the tokens seen; a key that was marked again meanwhile stays dirty. Outcome unknown: taint.

        Raises:
            RetryableError: The source did not answer; nothing is lost.
            FatalError: The sink refuses everything.
        """
        keys = self._marks.dirty(self._parts, 1 if self._breaker.is_open else self._batch)
        if not keys or not self._breaker.allows():
            return Step()
        looked = self._marks.look(keys)
        if not looked.versions:
            return Step(taken=len(keys))
        encoded = self._codec.encode(looked.page, looked.versions)
        present = set(encoded.rows.keys)
        gone = [key for key in looked.versions if key not in present]
        if self._clock() + self._timing.request > self._held_until:
            return Step(taken=len(keys))
        try:
            refused = self._write(encoded.rows, gone)
        except RetryableError as fault:
            self._failed(fault, len(looked.versions))
            self._marks.taint(list(looked.versions), self._timing.landing)
            return Step(taken=len(keys), unknown=len(looked.versions))
        quarantined = (*encoded.quarantined, *refused)
        self._succeeded(len(looked.versions), len(quarantined))
        lags = self._marks.acknowledge(looked.versions, _reasons(quarantined))
        for row in quarantined:
            self._meter.quarantined(row.reason)
        for lag in lags:
            self._meter.lagged(lag)
        return Step(taken=len(keys), equal=len(lags), quarantined=quarantined)

    def _failed(self, fault: RetryableError, keys: int) -> None:
        """Take less from now on: half where the sink asks for less, and a single key where it does not answer."""
        self._batch = max(1, self._batch // 2) if isinstance(fault, Throttled) else 1
        if isinstance(fault, Throttled):
            self._breaker.succeeded()
        else:
            self._breaker.failed()
        self._meter.wrote(StoreName.MILVUS, keys, 0)
        self._meter.failed(StoreName.MILVUS, "write", type(fault).__name__)
        self._meter.breaker(self._breaker.is_open)

    def _succeeded(self, keys: int, quarantined: int) -> None:
        self._batch = min(2 * self._batch, self._most)
        self._breaker.succeeded()
        self._meter.wrote(StoreName.MILVUS, keys, keys - quarantined)
        self._meter.breaker(self._breaker.is_open)

    def sweep(self) -> None:
        """Cure what was tainted long enough, close what readers need not look at any more."""
        self._marks.sweep(self._parts, self._timing.window)

    def prune(self) -> None:
        """Delete some of the marks that nobody needs any more, of the partitions held."""
        self._marks.prune(self._parts, PRUNE_AT_ONCE)

    def leave(self) -> None:
        """Give up all partitions; only between steps, when nothing is on its way."""
        self._marks.release(self._owner)
        self._parts = frozenset()

    def _write(self, rows: Rows, gone: list[Key]) -> list[Quarantined]:
        """Upsert rows and delete keys; return the rows that the sink refuses, whose older rows are deleted too."""
        refused: list[Quarantined] = []
        if rows:
            try:
                self._upsert(rows)
            except DataError as refusal:
                refused = find_guilty(rows, [], refusal, self._upsert)
        absent = [*gone, *(row.key for row in refused if row.key is not None)]
        if absent:
            self._sink.delete(self._layout, absent).result()
        return refused

    def _upsert(self, rows: Rows) -> None:
        self._sink.upsert(self._layout, rows).result()


def _reasons(quarantined: Sequence[Quarantined]) -> dict[Key, str]:
    return {row.key: row.reason.value for row in quarantined if row.key is not None}


def keep_equal(
    relay: Relay,
    marks: Marks,
    timing: Timing,
    clock: Callable[[], float],
    stop: threading.Event,
    watch: Watch,
    *,
    until_drained: bool,
    meter: Meter | None = None,
) -> None:
    """Relay until asked to stop, or until nothing is dirty and nothing can land late; then leave the partitions to others.

    Asked to stop, it goes on for `Timing.drain` at most while there is something to make equal. A store that does not answer
    is tried again with growing pauses, for as long as it takes: the marks wait.
    """
    meter = meter or NoMeter()

    def told() -> Backlog:
        backlog = marks.backlog()
        watch.backlog(backlog)
        meter.backlog(backlog)
        return backlog

    renew_at = sweep_at = prune_at = 0.0
    pause = 0.0
    while not stop.is_set():
        try:
            if clock() >= renew_at:
                relay.hold()
                renew_at = clock() + timing.lease / 3
            step = relay.step()
            watch.step(step)
            if clock() >= sweep_at:
                relay.sweep()
                backlog = told()
                if until_drained and not backlog.dirty and not backlog.tainted:
                    break
                sweep_at = clock() + SWEEP_SECONDS
            if clock() >= prune_at:
                relay.prune()
                prune_at = clock() + PRUNE_SECONDS
            pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS) if step.unknown else 0.0
            meter.relays(is_up=not relay.waits)
        except RetryableError as fault:
            pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS)
            watch.note(f"{fault}; trying again")
            meter.failed(StoreName.NEO4J, "relay", type(fault).__name__)
            meter.relays(is_up=False)
            step = Step()
        stop.wait(pause or (0.0 if step.taken else IDLE_SECONDS))
    if stop.is_set():
        with suppress(RetryableError):
            _drain(relay, timing, clock, watch)
            told()
    meter.relays(is_up=False)
    # A source that is away gives the partitions to others when the lease has run out.
    with suppress(RetryableError):
        relay.leave()


def _drain(relay: Relay, timing: Timing, clock: Callable[[], float], watch: Watch) -> None:
    """Make equal what is dirty now, for as long as it goes well and the time lasts."""
    until = clock() + timing.drain
    # Renewed, so that it outlasts what is sent.
    relay.hold()
    while clock() < until:
        step = relay.step()
        watch.step(step)
        if not step.equal:
            return
