"""The relay over stores in memory: what it makes equal, deletes, quarantines and leaves; and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from segue.errors import DataError, StoreUnavailable
from segue.model import CarriedProperty, Key, KeyType, Layout, Metric, PropertyType, Reason, Rows, SourceSpec
from segue.phases.relay import Relay, Step, Timing, keep_equal
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import VERSION_FIELD, Preset, make_layout
from segue.ports import Ack, Backlog
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_store import MemorySink

SPEC = SourceSpec("i", "L", "id", KeyType.STRING, "v", 2, Metric.COSINE, (CarriedProperty("n", PropertyType.INTEGER),))
LAYOUT = make_layout(SPEC, name="c", preset=Preset.SEGUE, m=16, ef_construction=100)
TIMING = Timing(request=1, landing=4, lease=10, window=3)


class Refusing(MemorySink):
    """A sink that refuses some keys, or does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[Key] = set()
        self.is_away = False

    def upsert(self, layout: Layout, rows: Rows) -> Ack:
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


class Place:
    """A graph, a sink, a clock, and one relay that holds everything."""

    def __init__(self) -> None:
        self.now = 0.0
        self.graph = MemoryGraph(SPEC, clock=self.clock)
        self.sink = Refusing()
        self.sink.create(LAYOUT)
        self.relay = Relay("one", self.graph, Codec(SPEC, LAYOUT), LAYOUT, self.sink, TIMING, self.clock)
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
