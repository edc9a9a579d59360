"""The relay over stores in memory: what it makes equal, deletes, quarantines and leaves; and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from segue.errors import DataError, StoreUnavailable, Throttled
from segue.model import CarriedProperty, Key, KeyType, Layout, Metric, PropertyType, Reason, Rows, SourceSpec, StoreName
from segue.phases.relay import BATCH_BYTES, PRUNE_SECONDS, Relay, Step, Timing, keep_equal
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import VERSION_FIELD, Preset, make_layout
from segue.ports import Ack, Backlog, NoMeter
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_store import MemorySink

SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.COSINE, (CarriedProperty("n", PropertyType.INTEGER),))
LAYOUT = make_layout(SPEC, name="c", preset=Preset.SEGUE, m=16, ef_construction=100)
TIMING = Timing(request=1, landing=4, lease=10, window=3, drain=5)


class Refusing(MemorySink):
    """A sink that refuses some keys, or does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[Key] = set()
        self.is_away = False
        self.most: int | None = None
        self.sent: list[int] = []

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
        self.sent.append(len(rows))
        if self.most is not None and len(rows) > self.most:
            msg = "less, please"
            raise Throttled(msg)
        if self.is_away:
            msg = "away"
            raise StoreUnavailable(msg)
        if self.refused & set(rows.keys):
            msg = "not this one"
            raise DataError(msg)
        return super().upsert(layout, rows)


class Watched:
    """A `Watch` that remembers."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def backlog(self, backlog: Backlog) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


class Counted(NoMeter):
    """A `Meter` that remembers what a relay tells it."""

    def __init__(self) -> None:
        self.attempts = self.successes = 0
        self.lags: list[float] = []
        self.faults: list[tuple[StoreName, str]] = []
        self.is_open = False
        self.dirty: list[int] = []

    def wrote(self, store: StoreName, attempts: int, successes: int) -> None:
        assert store is StoreName.MILVUS
        self.attempts += attempts
        self.successes += successes

    def lagged(self, seconds: float) -> None:
        self.lags.append(seconds)

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        self.faults.append((store, kind))

    def breaker(self, is_open: bool) -> None:
        self.is_open = is_open

    def backlog(self, backlog: Backlog) -> None:
        self.dirty.append(backlog.dirty)


class Place:
    """A graph, a sink, a clock, and one relay that holds everything."""

    def __init__(self, batch: int = 500) -> None:
        self.now = 0.0
        self.meter = Counted()
        self.graph = MemoryGraph(SPEC, clock=self.clock)
        self.sink = Refusing()
        self.sink.create(LAYOUT)
        codec = Codec(SPEC, LAYOUT)
        self.relay = Relay("one", self.graph, codec, LAYOUT, self.sink, TIMING, self.clock, meter=self.meter, batch=batch)
        self.relay.hold()

    def clock(self) -> float:
        return self.now

    def write(self, *keys: Key, vector: Sequence[float] = (1.0, 2.0)) -> None:
        self.graph.upsert({key: (list(vector), 7) for key in keys})


def test_marked_keys_become_what_their_items_are() -> None:
    """Written items get rows under their token, deleted ones lose theirs, and all are clean."""
    place = Place()
    place.write("a", "b")
    assert place.relay.step() == Step(taken=2, equal=2)
    place.graph.delete(["b"])
    assert place.relay.step() == Step(taken=1, equal=1)

    rows = place.sink.rows("c")
    assert set(rows) == {"a"}
    assert rows["a"][VERSION_FIELD] == place.graph.look(["a"]).versions["a"]
    assert place.relay.step() == Step()


def test_an_item_that_cannot_go_is_quarantined_and_absent() -> None:
    """Its old row is deleted, the reason told, and the key does not come up again."""
    place = Place()
    place.write("a")
    place.relay.step()
    place.write("a", vector=(0.0, 0.0))

    step = place.relay.step()

    assert [(row.key, row.reason) for row in step.quarantined] == [("a", Reason.ZERO_NORM)]
    assert not place.sink.rows("c")
    assert place.relay.step() == Step()


def test_a_row_the_sink_refuses_is_found_and_absent_and_the_rest_goes() -> None:
    """Out of several keys only the guilty one is quarantined."""
    place = Place()
    place.sink.refused = {"b"}
    place.write("a", "b", "c")

    step = place.relay.step()

    assert [(row.key, row.reason) for row in step.quarantined] == [("b", Reason.REFUSED_BY_SINK)]
    assert set(place.sink.rows("c")) == {"a", "c"}


def test_an_unknown_outcome_taints() -> None:
    """The keys stay dirty and count as tainted; once the sink is back they are made equal, and again after the taint."""
    place = Place()
    place.write("a")
    place.sink.is_away = True
    assert place.relay.step() == Step(taken=1, unknown=1)
    assert place.graph.backlog().tainted == 1

    place.sink.is_away = False
    assert place.relay.step().equal == 1
    place.now += TIMING.landing
    place.relay.sweep()
    assert place.relay.step().equal == 1
    assert place.graph.backlog().tainted == 0


def test_nothing_is_sent_that_the_lease_would_not_outlast() -> None:
    """A relay that was stalled for longer than its lease sends nothing, even where it still thinks that it is the owner."""
    place = Place()
    place.write("a")
    place.now += TIMING.lease - TIMING.request + 0.1

    assert place.relay.step() == Step(taken=1)
    assert not place.sink.rows("c")


def test_it_ends_when_drained_and_leaves_the_partitions() -> None:
    """`until_drained` returns by itself, with nothing left, and another owner has everything at once."""
    place, watch = Place(), Watched()
    place.write("a", "b")

    keep_equal(place.relay, place.graph, TIMING, place.clock, threading.Event(), watch, until_drained=True)

    assert sum(step.equal for step in watch.steps) == 2
    assert len(place.graph.lease("another", 10, 1)) == 2


def keys(number: int) -> list[Key]:
    """Return so many keys."""
    return [f"k{one:03}" for one in range(number)]


def test_an_outage_taints_what_was_in_hand_and_then_a_key_at_a_time() -> None:
    """One batch, then single keys until nothing is sent any more; a probe after each pause; then all is made equal."""
    place = Place(batch=50)
    place.write(*keys(200))
    place.sink.is_away = True
    steps = [place.relay.step() for _ in range(10)]

    assert place.sink.sent == [50, 1, 1, 1, 1]
    assert [step.taken for step in steps] == [50, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert place.meter.is_open
    assert place.graph.backlog().tainted <= 54

    for _ in range(20):
        place.now += 0.25
        place.relay.step()
        place.relay.hold()
    assert place.sink.sent[5:] == [1] * len(place.sink.sent[5:])
    assert 2 <= len(place.sink.sent[5:]) <= 4

    place.sink.is_away = False
    for _ in range(40):
        place.now += 0.25
        place.relay.hold()
        place.relay.step()
        place.relay.sweep()
    assert not place.meter.is_open
    assert len(place.sink.rows("c")) == 200
    assert max(place.sink.sent[5:]) == 50


def test_a_sink_that_asks_for_less_gets_less_and_then_more_again() -> None:
    """Throttled, the batch is halved as often as it takes, down to one key; accepted, it grows again to its maximum."""
    place = Place(batch=40)
    place.write(*keys(300))
    place.sink.most = 12
    for _ in range(4):
        place.relay.step()
    assert place.sink.sent == [40, 20, 10, 20]
    assert not place.meter.is_open

    place.sink.most = 0
    for _ in range(8):
        place.relay.step()
    assert place.sink.sent[-2:] == [1, 1]
    assert not place.meter.is_open

    place.sink.most = None
    place.sink.sent.clear()
    for _ in range(8):
        place.relay.step()
    assert place.sink.sent[:7] == [1, 2, 4, 8, 16, 32, 40]


def test_a_batch_of_large_vectors_is_bounded_by_bytes() -> None:
    """Whatever number is asked for, a step sends no more vectors than fit, and at least one."""
    for dimension in (4_096, 32_768, BATCH_BYTES):
        spec = replace(SPEC, dimension=dimension)
        layout = make_layout(spec, name="c", preset=Preset.SEGUE, m=16, ef_construction=100)
        asked: list[int] = []

        class Asked(MemoryGraph):
            def dirty(self, parts: frozenset[int], limit: int) -> list[Key]:
                asked.append(limit)  # noqa: B023  # called within this turn
                return []

        graph = Asked(spec, clock=lambda: 0.0)
        Relay("one", graph, Codec(spec, layout), layout, MemorySink(), TIMING, lambda: 0.0, batch=100_000).step()
        assert asked == [max(1, BATCH_BYTES // (4 * dimension))]


def test_a_relay_tells_what_it_wrote_and_how_late() -> None:
    """Each key's lag counts from the change that made it dirty; what fails and what cannot go is told too."""
    place = Place()
    place.write("a")
    place.now += 2
    place.write("b")
    place.now += 1
    place.relay.hold()
    place.relay.step()
    assert sorted(place.meter.lags) == [1.0, 3.0]
    assert (place.meter.attempts, place.meter.successes, place.meter.faults) == (2, 2, [])

    place.write("c", vector=(0.0, 0.0))
    place.relay.step()
    assert (place.meter.attempts, place.meter.successes) == (3, 2)

    place.sink.is_away = True
    place.write("d")
    place.relay.step()
    assert (place.meter.attempts, place.meter.successes) == (4, 2)
    assert place.meter.faults == [(StoreName.MILVUS, "StoreUnavailable")]


class Stopping(Watched):
    """A `Watch` that asks to stop at the first step that made something equal."""

    def __init__(self, stop: threading.Event, act: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.left: Backlog | None = None
        self._stop = stop
        self._act = act

    def step(self, step: Step) -> None:
        super().step(step)
        if step.equal:
            self._act()
            self._stop.set()

    def backlog(self, backlog: Backlog) -> None:
        self.left = backlog


def test_asked_to_stop_it_drains_and_leaves() -> None:
    """What is dirty then is made equal first, then another owner has everything at once, and what is left is told."""
    place, stop = Place(batch=10), threading.Event()
    place.write(*keys(95))
    watch = Stopping(stop)

    keep_equal(place.relay, place.graph, TIMING, place.clock, stop, watch, until_drained=False, meter=place.meter)

    assert len(place.sink.rows("c")) == 95
    assert watch.left is not None
    assert watch.left.dirty == place.meter.dirty[-1] == 0
    assert len(place.graph.lease("another", 10, 1)) == 2


def test_a_drain_is_bounded() -> None:
    """However much is dirty, it ends when its time is over, and the rest is the other relays'."""
    place, stop = Place(batch=10), threading.Event()
    place.write(*keys(95))

    def pass_time() -> None:
        place.now += 2

    keep_equal(place.relay, place.graph, TIMING, place.clock, stop, Stopping(stop, pass_time), until_drained=False)

    # One step before it was asked to stop, and those that begin within the five seconds: at 0, 2 and 4.
    assert len(place.sink.rows("c")) == 40
    assert len(place.graph.lease("another", 10, 1)) == 2


def test_a_drain_ends_when_the_sink_is_away() -> None:
    """It does not wait for it; the marks stay, and the partitions are free."""
    place, stop = Place(batch=10), threading.Event()
    place.write(*keys(30))

    def go_away() -> None:
        place.sink.is_away = True

    keep_equal(place.relay, place.graph, TIMING, place.clock, stop, Stopping(stop, go_away), until_drained=False)

    assert place.sink.sent == [10, 10]
    assert place.graph.backlog().dirty == 20
    assert len(place.graph.lease("another", 10, 1)) == 2


def test_a_source_that_is_away_is_told_and_waited_for() -> None:
    """The relay goes on when it is back."""
    place, watch = Place(), Watched()
    place.write("a")
    away = iter([StoreUnavailable("away")])

    dirty = place.graph.dirty

    def dirty_or_away(parts: frozenset[int], limit: int) -> list[Key]:
        for fault in away:
            raise fault
        return dirty(parts, limit)

    place.graph.dirty = dirty_or_away  # type: ignore[method-assign]
    keep_equal(place.relay, place.graph, TIMING, place.clock, threading.Event(), watch, until_drained=True, meter=place.meter)

    assert place.meter.faults == [(StoreName.NEO4J, "StoreUnavailable")]
    assert [note for note in watch.notes if "away" in note]
    assert set(place.sink.rows("c")) == {"a"}


def test_marks_are_pruned_about_once_a_minute() -> None:
    """A relay deletes what nobody needs any more, at its beginning and then now and then, not at every step."""
    place, stop = Place(), threading.Event()
    place.graph.capture = place.graph.copied = "one"
    pruned_at: list[float] = []
    prune = place.graph.prune

    def noted(parts: frozenset[int], limit: int) -> int:
        pruned_at.append(place.now)
        return prune(parts, limit)

    class Passing(Watched):
        """Lets time pass at each step."""

        def step(self, step: Step) -> None:
            place.now += 20
            if place.now >= 3 * PRUNE_SECONDS:
                stop.set()

    place.graph.prune = noted  # type: ignore[method-assign]
    place.write("a")
    place.relay.step()
    keep_equal(place.relay, place.graph, TIMING, place.clock, stop, Passing(), until_drained=False)

    assert len(pruned_at) == 3
    assert place.graph.look(["a"]).versions == {}
