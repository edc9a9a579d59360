"""What a sample says of everything it was drawn from. Pure; knows no store and draws nothing itself."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def most_differing(differing: int, sampled: int, *, confidence: float = CONFIDENCE) -> float:
    """Return the share of all items that differs at most, with this confidence, when so many of a sample did.

    The one-sided upper bound of Clopper and Pearson (Biometrika 26, 1934, 404-413): the largest p under which a sample as good
    as this one, or better, would still have had the probability 1 - confidence, that is, p with

        sum over i = 0 … d of  C(n, i) p^i (1 - p)^(n - i)  =  1 - confidence.

    With d = 0 it is 1 - (1 - confidence)^(1/n), for 95 % about 3 / n ("rule of three", Hanley and Lippman-Hand, JAMA 249, 1983,
    1743-1745). It holds for draws from one lot. Drawn from strata in proportion to their size it errs on the safe side: the
    chance to see none is a product over the strata, the largest for a given whole when all strata differ alike (the logarithm
    is concave); for d differences see Hoeffding, Annals of Mathematical Statistics 27, 1956, 713-721.

    Args:
        differing: How many of the sample differ (d).
        sampled: How many were drawn (n); of none nothing is known, so the bound is 1.
        confidence: Between 0 and 1.
    """
    if differing >= sampled:
        return 1.0
    if differing == 0:
        return -math.expm1(math.log1p(-confidence) / sampled)
    low, high = differing / sampled, 1.0
    # Halved until floats lie beside each other; the sum falls while p grows.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _at_most(differing, sampled, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(differing: int, sampled: int, share: float) -> float:
    """Return the probability of at most so many differing ones in a sample, when this share of everything differs."""
    all_ways = math.lgamma(sampled + 1)
    logarithms = [
        all_ways
        - math.lgamma(one + 1)
        - math.lgamma(sampled - one + 1)
        + one * math.log(share)
        + (sampled - one) * math.log1p(-share)
        for one in range(differing + 1)
    ]
    largest = max(logarithms)
    return math.exp(largest) * sum(math.exp(one - largest) for one in logarithms)
