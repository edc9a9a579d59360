"""The reconcile between stores in memory: what counts beside writers, what is mended and how, what is resumed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.engines.local_workers import LocalWorkers
from segue.errors import Interrupted, ModeRefused
from segue.model import (
    CarriedProperty,
    Depth,
    EventKind,
    FenceTimes,
    Key,
    KeyType,
    Kind,
    Metric,
    PropertyType,
    SourceSpec,
    StorageMode,
)
from segue.phases.reconcile import Job, Outcome, Reconcile, Sides, looking
from segue.phases.reconcile.sampling import drawn
from segue.phases.relay import Relay, Timing
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.state.sqlite_comparisons import SqliteComparisons
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_journal import MemoryJournal
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_sides import MemorySinkSide, MemorySourceSide
from segue.stores.memory_store import MemorySink

SPEC = SourceSpec(
    "ix", "Item", "id", KeyType.STRING, "v", 2, Metric.EUCLIDEAN, (CarriedProperty("title", PropertyType.STRING),)
)
LAYOUT = make_layout(SPEC, name="items", preset=Preset.SEGUE, m=16, ef_construction=200)


def item(number: float, title: str = "t") -> Sequence[Any]:
    """Return an item's values."""
    return [[float(number), 1.0], title]


class World:
    """Both sides with a copy of `items` items, and a clock that passes only when waited for.

    Attributes:
        meanwhile: What happens at each wait, in turn; then nothing.
        stops_after_ranges: Asks to stop when so many are compared; 0 never does.
    """

    def __init__(self, folder: Path, items: int) -> None:
        self.now = 1_000.0
        self.folder = folder
        self.graph = MemoryGraph(SPEC, clock=lambda: self.now)
        self.control = MemoryControl(clock=lambda: self.now)
        self.journal = MemoryJournal(lambda: self.now)
        self.memory = MemorySink()
        self.memory.create(LAYOUT)
        self.stop = threading.Event()
        self.meanwhile: list[Callable[[], None]] = []
        self.said: list[str] = []
        self.chance = random.Random(1)
        self.compared_ranges = self.stops_after_ranges = 0
        self.graph.upsert({f"k{number:05}": item(number) for number in range(items)}, marking=False)
        self.copy(list(self.graph.items()))

    def copy(self, keys: Sequence[Key]) -> None:
        """Write rows as the backfill does."""
        self.memory.upsert(LAYOUT, Codec(SPEC, LAYOUT).encode(self.graph.page(keys)).rows).result()

    def spoil(self, *keys: Key) -> None:
        """Change rows behind everybody's back."""
        for key in keys:
            held = self.graph.items()[key]
            self.graph.upsert({key: item(-7, "spoiled")}, marking=False)
            self.copy([key])
            self.graph.upsert({key: held}, marking=False)

    def capture(self) -> None:
        """Let the library capture every change from now on."""
        self.control.change(0, StorageMode.DUAL_WRITE, times=FenceTimes(), reason="")
        self.control.captured(1)

    def relay(self) -> None:
        """Let a relay make equal what is dirty."""
        one = Relay("r", self.graph, Codec(SPEC, LAYOUT), LAYOUT, self.memory, Timing(), lambda: self.now)
        one.hold()
        while one.step().taken:
            pass
        one.sweep()
        one.leave()

    def reconcile(self, depth: Depth = Depth.FULL, sample_size: int = 100, settle: float = 5.0) -> Reconcile:
        """Return a reconcile of the collection."""
        job = Job("items", SPEC, SPEC, LAYOUT, depth, sample_size, 20, settle, "1.0")
        source = MemorySourceSide(self.graph.items, self.graph.page, self.chance.random)
        sink = MemorySinkSide(partial(self.memory.rows, "items"), LAYOUT)
        sides = Sides(source, self.graph, sink, self.memory, self.graph, self.control, self.journal)
        workers = LocalWorkers(1)
        return Reconcile(
            job, sides, workers, self, clock=lambda: self.now, wait=self.wait, stop=self.stop, choose=self.chance.sample
        )

    def run(self, depth: Depth = Depth.FULL, sample_size: int = 100, settle: float = 5.0) -> Outcome:
        """Compare once."""
        with SqliteComparisons(self.folder / "state.db") as state:
            return self.reconcile(depth, sample_size, settle).run(state)

    def wait(self, seconds: float) -> bool:
        """Let time pass, and whatever happens meanwhile."""
        self.now += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return self.stop.is_set()

    def range_done(self, compared: int, ranges_left: int) -> None:
        """See `Watch`."""
        self.compared_ranges += 1
        if self.compared_ranges == self.stops_after_ranges:
            self.stop.set()

    def note(self, text: str) -> None:
        """See `Watch`."""
        self.said.append(text)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two hundred items, copied."""
    return World(tmp_path, 200)


@pytest.mark.parametrize("depth", [Depth.FULL, Depth.QUICK])
def test_a_spoiled_row_a_lost_one_and_one_too_many(world: World, depth: Depth) -> None:
    """Each is one difference of its kind, and all others match."""
    world.spoil("k00007")
    world.memory.delete(LAYOUT, ["k00008"])
    world.graph.delete(["k00009"], marking=False)
    found = world.run(depth)
    assert found.differing == {"k00007": Kind.STALE, "k00008": Kind.MISSING, "k00009": Kind.ORPHANED}
    assert (found.tally.compared, found.tally.matched) == (200, 197)
    assert found.rate == 197 / 200
    assert not found.clean


def test_a_key_under_a_dirty_mark_is_in_motion_not_different(world: World) -> None:
    """Nobody relays: the change is told apart from a difference, and after the bounded wait still has no verdict."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new")})
    found = world.run()
    assert (list(found.moving), found.differing) == (["k00003"], {})
    assert found.tally.compared == 199
    assert found.clean


def test_where_nothing_rests_nothing_is_clean(world: World) -> None:
    """No relay and every key dirty: no difference, but no success either."""
    world.capture()
    world.graph.upsert({key: item(3, "new") for key in world.graph.items()})
    found = world.run()
    assert (found.tally.compared, len(found.moving), found.differing) == (0, 200, {})
    assert (found.rate, found.clean) == (0.0, False)
    world.relay()
    assert world.run().clean


def test_stopped_while_it_waits_for_moving_keys_it_gives_no_verdict(world: World) -> None:
    """The ranges are recorded, and the same command goes on with what moved."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new")})
    world.meanwhile = [lambda: None, world.stop.set]
    with pytest.raises(Interrupted):
        world.run()
    world.stop.clear()
    world.relay()
    ranges = world.compared_ranges
    found = world.run()
    assert (found.tally.matched, list(found.moving)) == (200, [])
    assert world.compared_ranges == ranges


def test_a_key_under_a_tainted_mark_is_in_motion_too(world: World) -> None:
    """Its row may still change: a late request may land."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new")})
    world.relay()
    world.spoil("k00003")
    world.graph.taint(["k00003"], 1_000.0)
    assert list(world.run().moving) == ["k00003"]


def test_a_difference_under_a_clean_mark_counts(world: World) -> None:
    """Acknowledged, untainted, the same at both looks, and the row is wrong all the same."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new")})
    world.relay()
    world.spoil("k00003")
    assert world.run().differing == {"k00003": Kind.STALE}


def test_what_the_relay_mends_between_the_looks_is_equal(world: World) -> None:
    """Dirty at the first look, made equal before the second: a match."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new"), "k9": item(9)})
    world.graph.delete(["k00004"])
    world.meanwhile = [world.relay]
    found = world.run()
    assert (found.differing, list(found.moving)) == ({}, [])
    assert found.tally.matched == 200


def test_a_key_marked_anew_between_the_looks_is_looked_at_until_it_rests(world: World) -> None:
    """Changed and relayed at each of three looks: the mark is clean every time, but never the same; then it rests, wrong."""
    world.capture()
    world.graph.upsert({"k00003": item(3, "new")})
    world.relay()

    def change() -> None:
        world.graph.upsert({"k00003": item(3, f"at {world.now}")})
        world.relay()
        world.spoil("k00003")

    change()
    world.meanwhile = [change, change, change]
    found = world.run()
    assert found.differing == {"k00003": Kind.STALE}
    assert not world.meanwhile
    assert world.now >= 1_000 + 4 * looking.SECOND_LOOK_SECONDS


def test_repair_by_a_mark_waits_for_the_relay_and_looks_again(world: World) -> None:
    """Where changes are captured each key is marked, with or without an item; the relay writes one and deletes the other."""
    world.capture()
    world.spoil("k00001")
    world.graph.delete(["k00002"], marking=False)
    one = world.reconcile()
    with SqliteComparisons(world.folder / "state.db") as state:
        found = one.run(state)
    plan = one.plan(found, fix=True, delete_orphans=True)
    assert (plan.remarked, list(plan.copied), list(plan.deleted)) == (True, ["k00001"], ["k00002"])
    world.meanwhile = [world.relay]
    repaired, _ = one.repair(plan)
    assert repaired == {"k00001", "k00002"}
    assert replace(found, repaired=repaired).clean
    assert world.run().clean


def test_repair_by_a_mark_says_when_nobody_relays(world: World) -> None:
    """The wait is bounded, nothing is written directly, and the note says what to run."""
    world.capture()
    world.spoil("k00001")
    one = world.reconcile()
    with SqliteComparisons(world.folder / "state.db") as state:
        found = one.run(state)
    before = world.memory.rows("items")["k00001"]
    repaired, notes = one.repair(one.plan(found, fix=True, delete_orphans=False))
    assert repaired == frozenset()
    assert any("segue relay --until-drained" in note for note in notes)
    assert world.memory.rows("items")["k00001"] == before


def test_a_direct_repair_leaves_orphans_unless_told(world: World) -> None:
    """Nothing captures and no mode reads Milvus: rows are written at once; orphans go only when asked."""
    world.spoil("k00001")
    world.graph.delete(["k00002"], marking=False)
    one = world.reconcile()
    with SqliteComparisons(world.folder / "state.db") as state:
        found = one.run(state)
    assert one.repair(one.plan(found, fix=True, delete_orphans=False))[0] == {"k00001"}
    assert world.run().differing == {"k00002": Kind.ORPHANED}
    assert one.repair(one.plan(found, fix=False, delete_orphans=True))[0] == {"k00002"}
    assert world.run().clean


def test_a_direct_repair_leaves_to_the_relay_what_got_a_mark(world: World) -> None:
    """An instance may mark although the mode does not ask for it: its key is marked again, so that the relay comes last."""
    world.spoil("k00001")
    one = world.reconcile()
    with SqliteComparisons(world.folder / "state.db") as state:
        found = one.run(state)
    world.graph.upsert({"k00001": item(1, "written meanwhile")})
    world.relay()
    one.repair(one.plan(found, fix=True, delete_orphans=False))
    assert world.graph.backlog().dirty == 1


def test_no_repair_where_some_changes_leave_no_mark(world: World) -> None:
    """The mode marks, its barrier is not reached: neither way is safe, and nothing is touched."""
    world.control.change(0, StorageMode.DUAL_WRITE, times=FenceTimes(), reason="")
    world.spoil("k00001")
    found = world.run()
    with pytest.raises(ModeRefused, match="barrier is not reached"):
        world.reconcile().plan(found, fix=True, delete_orphans=False)


def test_interrupted_it_goes_on_where_it_was(world: World) -> None:
    """Stopped after one range of many: the next run compares the others only, and finds what both found."""
    world.spoil("k00000", "k00199")
    first = world.reconcile()
    world.stops_after_ranges = 1
    with SqliteComparisons(world.folder / "state.db") as state:
        found = first.run(state)
    assert not found.complete
    assert 0 < found.tally.compared < 200

    world.stop.clear()
    world.stops_after_ranges = 0
    whole = world.run()
    assert whole.complete
    assert whole.differing == {"k00000": Kind.STALE, "k00199": Kind.STALE}
    assert whole.tally.compared == 200
    assert world.compared_ranges == 10
    assert any("going on" in text for text in world.said)

    world.run()
    assert world.compared_ranges > 10, "a finished comparison is not continued"


def test_under_other_conditions_it_begins_anew_and_says_why(world: World) -> None:
    """The mode was changed meanwhile: what was compared in another epoch says nothing of this one."""
    world.stops_after_ranges = 1
    world.run()
    world.stop.clear()
    world.stops_after_ranges = 0
    world.capture()
    found = world.run()
    assert found.tally.compared == 200
    assert world.compared_ranges == 11
    assert any("begun anew" in text and "epoch: 0 then, 1 now" in text for text in world.said)


def test_a_sample_that_is_stopped_gives_no_verdict(world: World) -> None:
    """Nothing is half compared in silence."""
    world.stop.set()
    with pytest.raises(Interrupted):
        world.run(Depth.SAMPLE)


def test_the_verdict_is_noted_with_the_epoch_and_ages(world: World) -> None:
    """On the control node, in place of an earlier one; without a control node nothing is made."""
    world.reconcile().record(world.run(), threshold=0.99)
    assert world.control.read().validated is None
    world.capture()
    found = world.run()
    world.reconcile().record(found, threshold=0.99)
    world.now += 60
    noted = world.control.read().validated
    assert noted is not None
    assert (noted.epoch, noted.depth, noted.clean, noted.rate) == (1, Depth.FULL, True, 1.0)
    # Real time goes on as well, which a busy machine takes much of.
    assert 59 <= noted.seconds_ago < 120


def test_a_sample_finds_what_it_should_as_often_as_it_says(tmp_path: Path) -> None:
    """One in a hundred spoiled, 100 drawn of 2,000: seen with the probability of such a draw, and bounded from above."""
    world = World(tmp_path, 2_000)
    bad = 20
    world.spoil(*(f"k{number:05}" for number in random.Random(5).sample(range(2_000), bad)))
    runs, seen, bounded, drawn = 200, 0, 0, []
    for seed in range(runs):
        world.chance.seed(seed)
        found = world.run(Depth.SAMPLE, 100)
        assert found.bound is not None
        drawn.append(found.tally.compared)
        seen += bool(found.differing)
        bounded += found.bound >= bad / 2_000
    missed = np.prod([(2_000 - bad - one) / (2_000 - one) for one in range(100)])
    # Four standard deviations of a share over so many runs.
    slack = 4 * np.sqrt(missed * (1 - missed) / runs)
    assert abs(seen / runs - (1 - missed)) < slack
    assert bounded / runs >= 0.95 - 0.03
    assert {100, 101, 102} >= set(drawn)


def test_a_sample_is_spread_over_the_keys(tmp_path: Path) -> None:
    """Each tenth of the keys gives a tenth of the sample, to within the strata's edges."""
    world = World(tmp_path, 2_000)
    source = MemorySourceSide(world.graph.items, world.graph.page, world.chance.random)
    shares = [0] * 10
    for key in drawn(source, 2_000, 1_000, world.chance.sample):
        shares[int(str(key)[1:]) // 200] += 1
    assert all(80 <= share <= 120 for share in shares), shares


def test_a_sample_looks_for_orphans_beside_its_keys(tmp_path: Path) -> None:
    """A hundred rows without an item among two thousand: some are beside the places looked at, and each is one."""
    world = World(tmp_path, 2_000)
    world.graph.delete([f"k{number:05}" for number in range(7, 2_000, 20)], marking=False)
    found = world.run(Depth.SAMPLE, 100)
    assert found.tally.orphaned > 10
    assert set(found.differing.values()) == {Kind.ORPHANED}
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / (found.tally.compared - found.tally.orphaned)))


def test_every_verdict_is_in_the_journal(world: World) -> None:
    """With what was compared and found, what was wanted, and a digest of each side; the newest is last, none is replaced."""
    world.reconcile().record(world.run(), threshold=0.99)
    world.spoil("k00007")
    world.memory.delete(LAYOUT, ["k00008"])
    world.reconcile(Depth.SAMPLE).record(world.run(Depth.SAMPLE, 150), threshold=0.5)
    first, second = world.journal.events()
    assert {event.kind for event in (first, second)} == {EventKind.VALIDATION}
    assert first.text == "full: 200 keys compared, 100.0000% equal; nothing differs"
    assert (first.data["depth"], first.data["matched"], first.data["clean"], first.data["bound"]) == ("full", 200, True, None)
    assert first.data["digests"]["source"] == first.data["digests"]["sink"]
    assert (second.data["depth"], second.data["threshold"]) == ("sample", 0.5)
    assert second.data["compared"] == second.data["matched"] + second.data["missing"] + second.data["mismatched"]
    assert 0 < second.data["bound"] < 1
    assert second.data["epoch"] == 0
