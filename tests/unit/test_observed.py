"""Histograms added up and looked into, and what a look at a collection comes to."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from segue.model import Counts, Event, EventKind, Histogram, Sample, Samples
from segue.phases.monitor import page
from segue.ports import CopySeen
from segue.seen import Seen

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def buckets(*upto: float) -> Histogram:
    """Return a histogram with the bounds 10, 20 and infinity."""
    return Histogram(tuple(zip((10.0, 20.0, math.inf), upto, strict=True)), sum=100.0)


@pytest.mark.parametrize(("share", "wanted"), [(0.25, 5.0), (0.5, 10.0), (0.75, 15.0), (1.0, 20.0)])
def test_a_quantile_lies_on_a_line_within_its_bucket(share: float, wanted: float) -> None:
    """Ten observations up to 10, ten up to 20."""
    assert buckets(10, 20, 20).quantile(share) == pytest.approx(wanted)


def test_a_quantile_above_every_bound_is_the_last_bound() -> None:
    """More is not known; without observations nothing is."""
    assert buckets(0, 0, 5).quantile(0.5) == 20.0
    assert Histogram().quantile(0.5) is None
    assert Histogram().mean is None


def test_what_was_observed_since_an_earlier_look() -> None:
    """Bucket by bucket; a process that began anew counts from its beginning."""
    assert buckets(5, 7, 9).since(buckets(2, 3, 4)).bounds == ((10.0, 3.0), (20.0, 4.0), (math.inf, 5.0))
    assert buckets(1, 1, 1).since(buckets(2, 3, 4)) == buckets(1, 1, 1)


def test_processes_are_added_up() -> None:
    """Two instances with the same bounds make one histogram; other collections stay out."""
    found = [Sample("x_ms_bucket", {"collection": "a", "le": "10", "instance": one}, 2.0) for one in ("1", "2")]
    found.append(Sample("x_ms_bucket", {"collection": "b", "le": "10"}, 50.0))
    assert Samples(found).of("a").histogram("x_ms").bounds == ((10.0, 4.0),)


def copying(migrated: int, at: datetime) -> Seen:
    """Return a look at a copy that was written a moment ago."""
    counts = Counts(1_000, migrated, 0)
    copy = CopySeen(1, "films_v1", NOW, None, 0.0, 1.0, counts, {}, (), 4, 1, 1, (), "0")
    return Seen("films", at, copy=copy)


def test_rate_and_time_left_come_from_two_looks() -> None:
    """100 items in 10 s, 700 to go."""
    now = page(copying(300, NOW + timedelta(seconds=10)), copying(200, NOW))
    assert (now.is_copying, now.rate, now.eta_seconds) == (True, pytest.approx(10.0), pytest.approx(70.0))


def test_at_the_first_look_the_rate_is_the_journals() -> None:
    """From its last two samples, on a machine without the records; nothing is guessed from one."""

    def told(state: str, at: float, migrated: int) -> Event:
        return Event(EventKind.COPY, "", {"state": state, "migrated": migrated, "quarantined": 0, "source": 1_000}, at)

    begun, later = told("planned", 100.0, 0), told("progress", 110.0, 500)
    once = page(Seen("films", NOW, events=[begun, later]))
    assert (once.is_copying, once.rate, once.eta_seconds) == (True, 50.0, 10.0)
    assert page(Seen("films", NOW, events=[begun])).rate is None
    ended = Event(EventKind.COPY, "", {"state": "complete", "migrated": 1_000, "quarantined": 0, "source": 1_000}, 120.0)
    assert page(Seen("films", NOW, events=[begun, later, ended])).is_copying is False
