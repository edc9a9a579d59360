"""Workers on threads: each range once, several at a time, and at rest when `run` returns."""

from __future__ import annotations

import threading

import pytest

from segue.engines.local_workers import LocalWorkers
from segue.model import Range
from segue.ports import RangeProgress

RANGES = [RangeProgress(Range(number, None, None, 0), None, 0, 0, done=False) for number in range(12)]


def test_every_range_is_worked_on_once() -> None:
    """All of them, each by one worker, begun in order, and the workers are numbered from 0."""
    seen: list[tuple[int, int]] = []
    LocalWorkers(3).run(lambda worker, todo: seen.append((worker, todo.range.number)), RANGES, threading.Event())
    assert sorted(number for _, number in seen) == list(range(12))
    assert {worker for worker, _ in seen} <= {0, 1, 2}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_more_than_asked_for_at_a_time(count: int) -> None:
    """So many ranges are in work at once as workers were asked for, not more."""
    meeting = threading.Barrier(count, timeout=10)
    lock, working, most = threading.Lock(), 0, 0

    def work(_worker: int, _todo: RangeProgress) -> None:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        meeting.wait()  # All of them must be here at once for any to go on.
        with lock:
            working -= 1

    LocalWorkers(count).run(work, RANGES, threading.Event())
    assert most == count


def test_no_ranges_is_no_work() -> None:
    """Nothing to do returns at once."""
    LocalWorkers(4).run(lambda *_: pytest.fail("no range to work on"), [], threading.Event())


def test_asked_to_stop_no_further_range_is_begun() -> None:
    """What is in hand is finished; the others are left."""
    stop, seen = threading.Event(), []

    def work(_worker: int, todo: RangeProgress) -> None:
        stop.set()
        seen.append(todo.range.number)

    LocalWorkers(1).run(work, RANGES, stop)
    assert seen == [0]


def test_a_failure_stops_the_others_and_is_raised() -> None:
    """The first failure asks the others to stop, is raised when they have come to rest, and no thread is left."""
    stop, rested = threading.Event(), []
    all_begun = threading.Barrier(4)

    def work(worker: int, todo: RangeProgress) -> None:
        all_begun.wait(10)
        if todo.range.number == 0:
            message = "the store is gone"
            raise RuntimeError(message)
        stop.wait(10)
        rested.append(worker)

    with pytest.raises(RuntimeError, match="the store is gone"):
        LocalWorkers(4).run(work, RANGES, stop)
    assert stop.is_set()
    assert len(rested) == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segue-worker")]
