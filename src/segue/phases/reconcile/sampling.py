"""Drawing a sample of items, the same share of each interval of keys, and cutting keys into intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segue.model import Key
from segue.ports import SourceSide

STRATA = 20
STRATUM_ITEMS = 50
"""A sample is drawn from at most so many intervals of keys, at least so many items of each."""

PILOT_KEYS = 2_000
"""Keys drawn to cut intervals by."""

WINDOWS = 10
"""Places in the sink where a sample looks for rows without an item."""


def drawn(source: SourceSide, total: int, wanted: int, choose: Callable[[Sequence[Key], int], list[Key]]) -> list[Key]:
    """Draw items, from each interval of keys in proportion to how many it has, rounded up."""
    bounds = cuts(source, total, min(STRATA, max(1, wanted // STRATUM_ITEMS)))
    chosen: list[Key] = []
    # Twice as many as wanted come, so that hardly ever too few of an interval do; otherwise all there are are taken.
    for stratum in source.draw(bounds, min(1.0, (2 * wanted + 50) / total)):
        share = -(-wanted * stratum.items // total)
        chosen += choose(stratum.drawn, min(share, len(stratum.drawn)))
    return chosen


def cuts(source: SourceSide, total: int, intervals: int) -> list[Key]:
    """Return the keys that cut all of them into intervals of about the same size."""
    if intervals < 2:  # noqa: PLR2004  # one interval has no cut
        return []
    (pilot,) = source.draw([], min(1.0, PILOT_KEYS / max(1, total)))
    keys = sorted(pilot.drawn)
    return list(dict.fromkeys(keys[len(keys) * number // intervals] for number in range(1, intervals) if keys))


def places(keys: Sequence[Key]) -> list[Key | None]:
    """Return keys spread over all of them, and the place before the first."""
    ordered = sorted(keys)
    return [None, *ordered[:: max(1, len(ordered) // WINDOWS)][1:WINDOWS]]
