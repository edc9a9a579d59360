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


def least_mean(mean: float, sampled: int, *, confidence: float = CONFIDENCE) -> float:
    """Return what the mean of shares in [0, 1] is at least, with this confidence, when so many had this mean.

    The bound of Hoeffding (Journal of the American Statistical Association 58, 1963, 13-30, theorem 1) for independent draws,
    whatever they are distributed like: the smallest m with

        n (a ln(a / m) + (1 - a) ln((1 - a) / (1 - m)))  <=  -ln(1 - confidence),   a the mean of n draws.

    With a mean of 1 it is (1 - confidence)^(1/n), the rule of three once more.

    Args:
        mean: Of the shares seen (a).
        sampled: How many they are (n); of none nothing is known, so the bound is 0.
        confidence: Between 0 and 1.
    """
    if not sampled or mean <= 0.0:
        return 0.0
    enough = -math.log1p(-confidence) / sampled
    low, high = 0.0, min(mean, 1.0)
    # Halved until floats lie beside each other; the divergence falls while m grows towards the mean.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _divergence(min(mean, 1.0), middle) > enough else (low, middle)
    return high


def _divergence(mean: float, other: float) -> float:
    """Return how far a coin that falls so is from another, after Kullback and Leibler."""
    rest = 0.0 if mean == 1.0 else (1.0 - mean) * math.log((1.0 - mean) / (1.0 - other))
    return mean * math.log(mean / other) + rest
