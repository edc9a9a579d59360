"""What a `ReconcileState` promises: ranges are recorded whole, everything found comes back, older comparisons are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.model import Difference, Kind, Range, Tally
from segue.ports import RangeCompared, ReconcileState
from segue.state.sqlite_comparisons import SqliteComparisons

RANGES = [Range(0, None, "m", 10), Range(1, "m", None, 10)]
CONDITIONS = {"depth": "full", "epoch": 3, "capture": None}
FOUND = RangeCompared(
    Tally(7, 1, 1, 1, 1, 2, 2**63 + 5, 17, 0.5, 0.25),
    {"a": Kind.STALE, "ü": Kind.MISSING, "c": Kind.ORPHANED},
    [Difference("a", Kind.STALE, "vector", "1", "2"), Difference("a", Kind.STALE, "year", "3", "nothing")],
    ["moving"],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a state file."""
    return tmp_path / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[ReconcileState]:
    """A new state."""
    with SqliteComparisons(path) as opened:
        yield opened


def test_nothing_was_ever_compared(state: ReconcileState) -> None:
    """A new state knows no comparison."""
    assert state.latest_comparison("films") is None


def test_what_is_found_comes_back_after_reopening(path: Path) -> None:
    """Sums over the ranges, every key with its kind, what is shown, what moved; and only the ranges left are to do."""
    with SqliteComparisons(path) as state:
        begun = state.begin_comparison("films", CONDITIONS, RANGES)
        assert state.to_compare(begun) == RANGES
        state.compared(begun, 0, FOUND)
    with SqliteComparisons(path) as state:
        latest = state.latest_comparison("films")
        assert latest is not None
        assert (latest.number, latest.finished) == (begun.number, False)
        assert 0 <= latest.began_seconds_ago < 60
        assert state.comparison_conditions(latest) == CONDITIONS
        assert state.to_compare(latest) == RANGES[1:]
        assert state.found(latest) == FOUND
        state.compared(latest, 1, RangeCompared(Tally(matched=5, source_digest=2**63), {7: Kind.UNFIT}, [], []))
        both = state.found(latest)
        assert (both.tally.matched, both.tally.source_digest) == (12, 5)
        assert both.differing == dict(FOUND.differing) | {7: Kind.UNFIT}
        state.finish_comparison(latest)
        finished = state.latest_comparison("films")
        assert finished is not None
        assert finished.finished


def test_a_new_comparison_takes_the_place_of_older_ones_of_its_collection(state: ReconcileState) -> None:
    """Their keys are forgotten with them; another collection's stay."""
    old = state.begin_comparison("films", CONDITIONS, RANGES)
    state.compared(old, 0, FOUND)
    other = state.begin_comparison("books", CONDITIONS, RANGES)
    state.compared(other, 0, FOUND)
    new = state.begin_comparison("films", CONDITIONS, RANGES)
    assert state.latest_comparison("films") == new
    assert state.found(new) == RangeCompared(Tally(), {}, [], [])
    assert state.found(other) == FOUND
