"""What a sample says of the whole: held against exact sums, against draws, and against what the literature gives."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from segue.pipelines.confidence import least_mean, most_differing


@pytest.mark.parametrize("sampled", [1, 10, 300, 1_000, 100_000])
def test_without_a_difference_it_is_the_rule_of_three(sampled: int) -> None:
    """1 - 0.05^(1/n) exactly, which is just below 3 / n for more than a few."""
    bound = most_differing(0, sampled)
    assert bound == pytest.approx(1 - 0.05 ** (1 / sampled), rel=1e-12)
    assert bound < 3 / sampled


@pytest.mark.parametrize(
    ("differing", "sampled", "published"),
    [(1, 10, 0.3942), (2, 20, 0.2826), (5, 100, 0.1023), (10, 1_000, 0.0169)],
)
def test_with_differences_it_is_what_tables_give(differing: int, sampled: int, published: float) -> None:
    """One-sided 95 % limits of Clopper and Pearson, the upper ends of two-sided 90 % tables."""
    assert most_differing(differing, sampled) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("differing", "sampled"), [(1, 30), (7, 50), (3, 400), (49, 50)])
def test_it_solves_its_equation_exactly(differing: int, sampled: int) -> None:
    """The binomial sum at the bound, in exact fractions, is one minus the confidence."""
    share = Fraction(most_differing(differing, sampled, confidence=0.9))
    below = sum(math.comb(sampled, one) * share**one * (1 - share) ** (sampled - one) for one in range(differing + 1))
    assert float(below) == pytest.approx(0.1, rel=1e-9)


def test_a_sample_that_says_nothing_bounds_nothing() -> None:
    """Nothing drawn, or everything different: up to all of it may differ."""
    assert most_differing(0, 0) == 1.0
    assert most_differing(12, 12) == 1.0


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    """Of 2,000 samples of 200 from a lot with 2 % bad, the bound is below the truth in at most 5 % and a little."""
    draw = random.Random(7)
    bounds = {bad: most_differing(bad, 200) for bad in range(60)}
    missed = sum(bounds[sum(draw.random() < 0.02 for _ in range(200))] < 0.02 for _ in range(2_000))
    assert missed / 2_000 < 0.065


@pytest.mark.parametrize("sampled", [1, 10, 100, 5_000])
def test_of_perfect_shares_the_mean_is_bounded_by_the_rule_of_three(sampled: int) -> None:
    """0.05^(1/n), as for a sample without a difference."""
    assert least_mean(1.0, sampled) == pytest.approx(0.05 ** (1 / sampled), rel=1e-12)
    assert 1 - least_mean(1.0, sampled) == pytest.approx(most_differing(0, sampled), rel=1e-9)


@pytest.mark.parametrize(("mean", "sampled"), [(0.967, 100), (0.5, 40), (0.999, 1_000)])
def test_the_bound_of_a_mean_solves_its_equation(mean: float, sampled: int) -> None:
    """The divergence at the bound, times the draws, is the logarithm of one in twenty; and it is below the mean."""
    bound = least_mean(mean, sampled)
    apart = mean * math.log(mean / bound) + (1 - mean) * math.log((1 - mean) / (1 - bound))
    assert sampled * apart == pytest.approx(math.log(20), rel=1e-9)
    assert bound < mean


def test_a_mean_of_nothing_bounds_nothing() -> None:
    """Nothing asked, or nothing found: the mean may be 0."""
    assert least_mean(1.0, 0) == 0.0
    assert least_mean(0.0, 50) == 0.0


def test_the_bound_of_a_mean_holds_as_often_as_it_says() -> None:
    """Of 2,000 samples of 100 shares that are 1 or mostly so, it is above the truth in at most 5 %."""
    draw = random.Random(11)
    shares, weights = [1.0, 0.9, 0.5, 0.0], [0.9, 0.05, 0.03, 0.02]
    truth = sum(share * weight for share, weight in zip(shares, weights, strict=True))
    missed = sum(least_mean(sum(draw.choices(shares, weights, k=100)) / 100, 100) > truth for _ in range(2_000))
    assert missed / 2_000 <= 0.05
