"""The check of searches between stores in memory: what counts as found, what is left out beside writers, what is refused."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segue.errors import Interrupted, ModeRefused
from segue.model import (
    CarriedProperty,
    EventKind,
    FenceTimes,
    Filter,
    Hit,
    Key,
    KeyType,
    Metric,
    PropertyType,
    SourceSpec,
    StorageMode,
    StoreName,
)
from segue.phases import search_check as module
from segue.phases.search_check import Job, Narrowed, Outcome, Question, SearchCheck, Stores
from segue.pipelines.filters import matches, parse
from segue.pipelines.layouts import Preset, make_layout
from segue.pipelines.scores import exact_scores
from segue.ports import Vector
from segue.stores.memory_control import MemoryControl
from segue.stores.memory_journal import MemoryJournal
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_serving import MemoryServing
from segue.stores.memory_sides import MemorySourceSide

SPEC = SourceSpec(
    "ix", "Item", "id", KeyType.STRING, "v", 2, Metric.EUCLIDEAN, (CarriedProperty("year", PropertyType.INTEGER),)
)
LAYOUT = make_layout(SPEC, name="items", preset=Preset.SEGUE, m=16, ef_construction=200)
ITEMS, K = 200, 5


class Answer:
    """A `Pending` that is there."""

    seconds = 0.001

    def __init__(self, hits: list[Hit]) -> None:
        self._hits = hits

    def result(self) -> list[Hit]:
        return self._hits


class World:
    """Items on a line, a Milvus that shows rows as they were given to it, and a clock that passes when told to.

    Attributes:
        shown: What Milvus shows: vector and year by key.
        hidden: Keys that Milvus never finds, though it has them; under any filter, or without.
        at_search: Called at each search of Milvus, before it answers.
        at_note: Called when the exact scores are worked out.
        drift: How far Milvus's scores are off.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.graph = MemoryGraph(SPEC, clock=lambda: self.now)
        self.control = MemoryControl(clock=lambda: self.now)
        self.serving = MemoryServing(SPEC, self.graph, self.control)
        self.journal = MemoryJournal(lambda: self.now)
        self.chance = random.Random(3)
        self.stop = threading.Event()
        self.shown: dict[Key, Sequence[Any]] = {}
        self.hidden: set[Key] = set()
        self.hides_under_filters_only = False
        self.at_search: Callable[[], None] = lambda: None
        self.at_note: Callable[[], None] = lambda: None
        self.drift = 0.0
        self.reloads = 0
        self.put({f"k{number:04}": float(number) for number in range(ITEMS)})

    def put(self, places: dict[Key, float]) -> None:
        """Have items on both sides, with no mark."""
        items = {key: [[place, 1.0], int(place)] for key, place in places.items()}
        self.graph.upsert(items, marking=False)
        self.shown |= items

    def write(self, key: Key, place: float) -> None:
        """Let the application write an item, with its mark; Milvus shows the old row until somebody relays."""
        self.graph.upsert({key: [[place, 1.0], int(place)]})

    def relay(self, key: Key, *, closes: bool) -> None:
        """Make a key equal in Milvus; its mark closes only when its window has passed."""
        items = self.graph.items()
        if key in items:
            self.shown[key] = items[key]
        else:
            self.shown.pop(key, None)
        self.graph.acknowledge(self.graph.look([key]).versions)
        if closes:
            self.now += 100.0
            self.graph.sweep(frozenset(range(2)), 1.0)

    def capture(self) -> None:
        """Let the library capture every change from now on."""
        self.control.change(0, StorageMode.DUAL_WRITE, times=FenceTimes(), reason="")
        self.control.captured(1)

    # --- Candidates, and Watch

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> Answer:
        self.at_search()
        hides = not self.hides_under_filters_only or bool(conditions)
        rows = {
            key: item
            for key, item in self.shown.items()
            if not (hides and key in self.hidden) and matches(conditions, {"id": key, "year": item[1]})
        }
        scores = exact_scores(
            Metric.EUCLIDEAN, vector, np.array([item[0] for item in rows.values()], np.float32).reshape(-1, 2)
        )
        hits = [Hit(key, float(score) + self.drift, {}, StoreName.MILVUS) for key, score in zip(rows, scores, strict=True)]
        return Answer(sorted(hits, key=lambda hit: -hit.score)[:k])

    def note(self, text: str) -> None:
        if "exact scores" in text:
            self.at_note()

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.stop.is_set()

    def reload(self) -> None:
        self.reloads += 1

    # --- the check

    def check(
        self, *, items: int = 100, at: Sequence[float] = (), filters: Sequence[dict[str, Any]] = (), least: float = 0.95
    ) -> SearchCheck:
        """Return a check that asks for items drawn, and for places of the application's own."""
        questions = [Question(f"at {place:g}", np.array([place, 1.0], np.float32)) for place in at]
        narrowed = [Narrowed(str(form), parse(form, SPEC)) for form in filters]
        job = Job("items", SPEC, SPEC, LAYOUT, items, questions, narrowed, K, 3, 5.0, least)
        side = MemorySourceSide(self.graph.items, self.graph.page, self.chance.random)
        stores = Stores(self.graph, side, self.serving, self, self.graph, self.control, self.journal, self.reload)
        return SearchCheck(job, stores, self, clock=lambda: self.now, wait=self.wait, stop=self.stop, choose=self.chance.sample)

    def run(self, **how: Any) -> Outcome:
        return self.check(**how).run()


@pytest.fixture
def world() -> World:
    """Two hundred items, copied."""
    return World()


def test_a_right_copy_is_found_whole(world: World) -> None:
    """Both sides find everything, score as they should, and the bound is the rule of three's."""
    found = world.run()
    (asked,) = found.asked
    assert (found.questions, found.scored, found.good) == (100, ITEMS, True)
    for side in (asked.neo4j, asked.milvus):
        assert (side.judged, side.mean, side.least) == (100, 1.0, 1.0)
        assert side.bound == pytest.approx(0.05 ** (1 / 100))
        assert side.score_error < 1e-6
    assert (asked.poor, asked.unjudged, asked.empty) == ([], 0, 0)


def test_what_milvus_misses_lowers_its_recall_only(world: World) -> None:
    """Two of the five nearest to one place, one of those of another: the mean is theirs, and the worst is named first."""
    world.hidden = {"k0050", "k0051", "k0099"}
    found = world.run(items=0, at=(50.4, 100.2, 20.0, 150.0))
    (asked,) = found.asked
    assert asked.neo4j.mean == 1.0
    assert (asked.milvus.mean, asked.milvus.least) == (pytest.approx((3 / 5 + 4 / 5 + 2) / 4), 3 / 5)
    assert [(one.question, one.recall, list(one.missed)) for one in asked.poor] == [
        ("at 50.4", 3 / 5, ["k0050", "k0051"]),
        ("at 100.2", 4 / 5, ["k0099"]),
    ]
    assert not found.good
    assert world.run(items=0, at=(50.4, 100.2, 20.0, 150.0), least=0.85).good


def test_scores_that_differ_are_said(world: World) -> None:
    """By how much at most; a wrong score alone is no miss."""
    world.drift = 0.01
    (asked,) = world.run().asked
    assert asked.milvus.score_error == pytest.approx(0.01)
    assert asked.neo4j.score_error < 1e-6
    assert asked.milvus.mean == 1.0


def test_keys_that_tie_are_right_either_way(world: World) -> None:
    """Fifty items at one place, of which any five are the nearest; more than are kept in mind."""
    world.put({f"t{number:02}": 500.0 for number in range(50)})
    world.shown = dict(reversed(world.shown.items()))
    (asked,) = world.run(items=0, at=(500.0, 499.0)).asked
    assert (asked.milvus.mean, asked.neo4j.mean) == (1.0, 1.0)


def test_a_block_at_a_time_it_comes_to_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the blocks are that are in memory, the truth is the same."""
    world.hidden = {f"k{number:04}" for number in range(0, ITEMS, 7)}
    at = tuple(float(number) for number in range(0, ITEMS, 3))
    whole = world.run(items=0, at=at, filters=[{"year": {"<": 120}}])
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    assert world.run(items=0, at=at, filters=[{"year": {"<": 120}}]) == whole
    assert whole.asked[0].milvus.mean < 1.0


def test_under_a_filter_only_what_meets_it_counts(world: World) -> None:
    """What Milvus finds without it is no excuse: the filter's own recall decides, and its form is named."""
    world.hidden, world.hides_under_filters_only = {f"k{number:04}" for number in range(0, 100, 2)}, True
    found = world.run(filters=[{"year": {"<": 100}}, {"year": {">=": 150}}])
    assert [one.milvus.mean == 1.0 for one in found.asked] == [True, False, True]
    assert found.worst.form == "{'year': {'<': 100}}"
    assert found.worst.milvus.mean == pytest.approx(0.5, abs=0.1)
    assert not found.good


def test_a_filter_that_nothing_meets_proves_nothing_and_breaks_nothing(world: World) -> None:
    """It is said how many questions had nothing to find."""
    found = world.run(items=7, filters=[{"year": -1}])
    assert (found.asked[1].empty, found.asked[1].unjudged, found.asked[1].milvus.judged) == (7, 0, 0)
    assert found.good
    assert any("7 questions under" in note for note in found.notes)


@pytest.mark.parametrize("when", ["before", "after the scores", "at the search"])
@pytest.mark.parametrize("change", ["moved away", "come near", "deleted"])
def test_what_is_being_changed_is_left_out(world: World, when: str, change: str) -> None:
    """An item that Milvus does not show yet as it is, or shows still as it was, is nobody's fault."""
    world.capture()

    def act() -> None:
        if change == "moved away":
            world.write("k0050", 900.0)
        elif change == "come near":
            world.write("k0180", 50.1)
        else:
            world.graph.delete(["k0050"])

    if when == "before":
        act()
    elif when == "after the scores":
        world.at_note = act
    else:
        world.at_search = act
    found = world.run(items=0, at=(50.0, 49.0, 51.0))
    (asked,) = found.asked
    assert (asked.milvus.mean, asked.neo4j.mean, asked.unjudged) == (1.0, 1.0, 0)
    assert asked.milvus.judged == 3
    assert found.good


def test_acknowledged_but_not_visible_yet_is_left_out_until_its_mark_closes(world: World) -> None:
    """While the mark is open a search need not show it; once it is closed, a Milvus that does not is at fault."""
    world.capture()
    old = world.shown["k0050"]
    world.write("k0050", 900.0)
    world.relay("k0050", closes=False)
    world.shown["k0050"] = old
    assert world.run(items=0, at=(50.0,)).asked[0].milvus.mean == 1.0

    world.relay("k0050", closes=True)
    world.shown["k0050"] = old
    assert world.run(items=0, at=(50.0,)).asked[0].milvus.mean == 4 / 5


def test_a_row_without_an_item_takes_a_place_that_is_missed(world: World) -> None:
    """What Milvus finds although it is no more is wrong, and pushes a right one out."""
    world.capture()
    world.graph.delete(["k0050"], marking=False)
    (asked,) = world.run(items=0, at=(50.0,)).asked
    assert (asked.neo4j.mean, asked.milvus.mean) == (1.0, 4 / 5)


def test_an_item_that_cannot_go_judges_neither_side(world: World) -> None:
    """Neo4j finds it, Milvus has no row of it; the quarantine accounts for it elsewhere."""
    world.graph.upsert({"unfit": [[50.0, 1.0], "no year"]}, marking=False)
    (asked,) = world.run(items=0, at=(50.0,)).asked
    assert (asked.neo4j.mean, asked.milvus.mean) == (1.0, 1.0)


def test_where_everything_moves_nothing_is_proven(world: World) -> None:
    """No fault is found, but nothing is called good either."""
    world.capture()
    for key in list(world.graph.items()):
        world.write(key, float(key[1:]) + 0.5)
    found = world.run(items=10)
    assert (found.asked[0].unjudged, found.asked[0].milvus.judged) == (10, 0)
    assert (found.enough, found.good) == (False, False)


def test_a_look_that_takes_too_long_is_no_look(world: World) -> None:
    """When marks are read so late that a change may have settled meanwhile, the question is asked again, then given up."""
    world.capture()
    world.write("k0050", 50.0)
    world.relay("k0050", closes=True)
    slow = iter([10.0, 0.0])

    def answer_late() -> None:
        world.now += next(slow, 0.0)

    world.at_search = answer_late
    assert world.run(items=0, at=(50.0,)).asked[0].unjudged == 0
    slow = iter([10.0] * module.TRIES)
    late = world.run(items=0, at=(50.0, 100.0))
    assert (late.asked[0].unjudged, late.enough, late.good) == (1, True, False)


def test_rows_of_a_copy_are_given_time_to_show(world: World) -> None:
    """A copy that ended a moment ago leaves no marks: the first question waits until its rows are visible."""
    world.capture()
    capture = world.control.read().capture
    assert capture is not None
    world.control.copy_ended(capture)
    asked_at: list[float] = []
    world.at_search = lambda: asked_at.append(world.now)
    copied_at = world.now
    world.run(items=2)
    assert asked_at[0] == copied_at + FenceTimes().visible
    world.now += 100.0
    began, asked_at[:] = world.now, []
    world.run(items=2)
    assert asked_at[0] == began
    asked_at.clear()
    began = world.now
    world.check(items=2).run(just_written=True)
    assert asked_at[0] == began + FenceTimes().visible


def test_the_collection_is_loaded_anew_only_while_nobody_searches_it(world: World) -> None:
    """In `dual_write` it is; in `shadow_milvus` it is refused, and nothing is released."""
    world.capture()
    check = world.check()
    check.reload()
    assert (world.reloads, check.run().reloaded) == (1, True)
    assert not world.run().reloaded
    world.control.change(1, StorageMode.SHADOW_MILVUS, times=FenceTimes(), reason="")
    with pytest.raises(ModeRefused) as refusal:
        world.check().reload()
    assert "searches are answered from what would be released" in refusal.value.message
    assert "mode set dual_write" in refusal.value.hint
    assert world.reloads == 1


def test_the_verdict_is_noted_where_milvus_did_worst(world: World) -> None:
    """Epoch, recall of both sides under that filter, what was wanted, and when it was begun."""
    world.capture()
    world.hidden, world.hides_under_filters_only = {f"k{number:04}" for number in range(0, 100, 2)}, True
    check = world.check(filters=[{"year": {"<": 100}}])
    found = check.run()
    check.record(found)
    noted = world.control.read().searched
    assert noted is not None
    assert (noted.epoch, noted.good, noted.least, noted.neo4j_recall) == (1, False, 0.95, 1.0)
    assert noted.recall == found.asked[1].milvus.mean
    (event,) = world.journal.events()
    assert (event.kind, event.data["checked"], event.data["clean"]) == (EventKind.VALIDATION, "searches", False)
    assert event.data["asked"][1]["milvus"]["mean"] == noted.recall
    assert event.text.startswith(f"100 searches: Milvus finds {noted.recall:.2%} of the 5 nearest under")
    assert math.isclose(noted.seconds_ago, found.seconds, abs_tol=1e-6)


def test_stopped_it_gives_no_verdict(world: World) -> None:
    """Nothing is half judged in silence."""
    world.at_note = world.stop.set
    with pytest.raises(Interrupted):
        world.run()


def test_items_are_drawn_from_all_of_them(world: World) -> None:
    """As many as asked for, each once, from everywhere."""
    check = world.check(items=60)
    names = [question.name for question in check._drawn()]
    assert len(set(names)) == 60
    assert {name[:3] for name in names} == {"k00", "k01"}
    assert replace(check.run(), seconds=0.0).questions == 60
