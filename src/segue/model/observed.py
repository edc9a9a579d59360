"""What processes count, as read from outside: samples of metrics, and histograms added up over processes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric.

    Attributes:
        name: As exposed, a histogram's suffixes included.
        labels: Its labels.
        value: Its value.
    """

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Course:
    """One series of an expression over time.

    Attributes:
        labels: Its labels.
        points: Moment, in seconds since 1970, and value; a moment without a value is left out.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by size.

    Attributes:
        bounds: Upper bound and how many observations are not above it, in order; the last bound is infinite.
        sum: Of all observations.
    """

    bounds: tuple[tuple[float, float], ...] = ()
    sum: float = 0.0

    @property
    def count(self) -> float:
        """How many observations there are."""
        return self.bounds[-1][1] if self.bounds else 0.0

    @property
    def mean(self) -> float | None:
        """The mean; None without observations."""
        return self.sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Return what this share of the observations is not above, by straight lines within a bucket; None without any.

        What is above the last finite bound counts as that bound: the truth is at least as large.
        """
        if not self.count:
            return None
        wanted, lower, before = share * self.count, 0.0, 0.0
        for bound, upto in self.bounds:
            if upto >= wanted:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * ((wanted - before) / (upto - before) if upto > before else 1.0)
            lower, before = bound, upto
        return lower

    def since(self, earlier: Histogram) -> Histogram:
        """Return what was observed after an earlier look; everything when a process began anew meanwhile."""
        had = dict(earlier.bounds)
        if any(upto < had.get(bound, 0.0) for bound, upto in self.bounds):
            return self
        return Histogram(tuple((bound, upto - had.get(bound, 0.0)) for bound, upto in self.bounds), self.sum - earlier.sum)


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one moment, of as many processes as were asked."""

    all: Sequence[Sample] = field(default=())

    def of(self, collection: str) -> Samples:
        """Return those of one collection."""
        return Samples([one for one in self.all if one.labels.get("collection") == collection])

    def values(self, name: str, **labels: str) -> list[float]:
        """Return every value of a metric under these labels."""
        return [one.value for one in self._found(name, labels)]

    def total(self, name: str, **labels: str) -> float | None:
        """Return a metric's sum over all processes and over the labels not given; None where nobody has it."""
        values = self.values(name, **labels)
        return sum(values) if values else None

    def greatest(self, name: str, **labels: str) -> float | None:
        """Return the largest value of a gauge that each process knows by itself; None where nobody has it."""
        return max(self.values(name, **labels), default=None)

    def by(self, name: str, *wanted: str) -> dict[tuple[str, ...], float]:
        """Return a metric's sums by some labels."""
        sums: dict[tuple[str, ...], float] = {}
        for one in self._found(name, {}):
            place = tuple(one.labels.get(label, "") for label in wanted)
            sums[place] = sums.get(place, 0.0) + one.value
        return sums

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return a histogram, added up over all processes and over the labels not given."""
        sums: dict[float, float] = {}
        for one in self._found(f"{name}_bucket", labels):
            bound = float(one.labels["le"])
            sums[bound] = sums.get(bound, 0.0) + one.value
        return Histogram(tuple(sorted(sums.items())), self.total(f"{name}_sum", **labels) or 0.0)

    def _found(self, name: str, labels: Mapping[str, str]) -> Iterable[Sample]:
        return (one for one in self.all if one.name == name and labels.items() <= one.labels.items())
