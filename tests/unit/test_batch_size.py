"""The size of batches: bounded, led by the sink's time, and steady when fixed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.pipelines.batch_size import LARGEST, MOST_BYTES, SMALLEST, START, TARGET_SECONDS, BatchSize


@given(
    dimension=st.integers(1, 32_768),
    events=st.lists(st.none() | st.tuples(st.integers(0, 6_000), st.floats(-1, 100, allow_nan=False)), max_size=60),
)
def test_the_size_stays_within_its_bounds(dimension: int, events: list[tuple[int, float] | None]) -> None:
    """Between 100 and 5,000 rows whatever happens, and never above the bytes a batch may have, if 100 rows fit."""
    size = BatchSize(dimension)
    for event in events:
        size.shrink() if event is None else size.observe(*event)
        assert SMALLEST <= size.rows <= LARGEST
        assert size.rows * dimension * 4 <= MOST_BYTES or size.rows == SMALLEST


@given(
    fixed=st.integers(1, 5_000),
    events=st.lists(st.none() | st.tuples(st.integers(0, 6_000), st.floats(0, 100)), max_size=20),
)
def test_a_fixed_size_stays(fixed: int, events: list[tuple[int, float] | None]) -> None:
    """What the operator fixed is kept, also when the sink asks for less."""
    size = BatchSize(768, fixed)
    for event in events:
        size.shrink() if event is None else size.observe(*event)
    assert size.rows == fixed


@pytest.mark.parametrize(("microseconds", "expected"), [(125, 2_000), (25, 5_000), (1_000, 250), (10_000, 100)])
def test_the_size_finds_what_the_sink_does_in_the_time(microseconds: int, expected: int) -> None:
    """A sink with a constant time a row is brought to the target, from above and from below, and kept there."""
    size = BatchSize(4)
    sizes = []
    for _ in range(60):
        size.observe(size.rows, size.rows * microseconds / 1e6)
        sizes.append(size.rows)
    assert sizes[-1] == pytest.approx(expected, rel=0.05)
    assert sizes[-1] == sizes[-2] == sizes[-3]


def test_one_step_is_small() -> None:
    """One slow or fast batch moves the size by a fifth or a quarter at most: a hiccup is no trend."""
    slow, fast = BatchSize(4), BatchSize(4)
    slow.observe(START, 60.0)
    fast.observe(START, 0.001)
    assert (slow.rows, fast.rows) == (START * 0.8, START * 1.25)


def test_a_part_of_a_batch_teaches_nothing() -> None:
    """A last, small batch is quick because it is small."""
    size = BatchSize(4)
    size.observe(START - 1, 0.001)
    size.observe(START, 0.0)
    assert size.rows == START


def test_a_sink_that_asks_for_less_gets_half() -> None:
    """Down to the smallest size and no further; then it may grow again."""
    size = BatchSize(4)
    seen = []
    for _ in range(5):
        size.shrink()
        seen.append(size.rows)
    assert seen == [500, 250, 125, 100, 100]
    size.observe(100, TARGET_SECONDS / 10)
    assert size.rows == 125
