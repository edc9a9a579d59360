r"""How long a copy will take, from a rehearsal of it on the same system. Pure arithmetic; no rate is built in.

    working time  =  begin + (items - first) * seconds an item  +  a + b * items * ln(items)
                     \______________ the copy ______________/     \_______ the index ______/

`begin` is when the first batch was acknowledged, `first` how many items it had; seconds an item is what came after it. a and b
are solved from two indexes of different sizes: HNSW's construction takes n ln n steps (Malkov and Yashunin, 2016), and sealing
scheduling and loading take some time whatever the size.

The interval: blocks of the rehearsed copy differ, and their spread gives the standard error of the mean, of which ± 2. The sink
is asked twice a second and does its own work by the second, so each index is known to ± 1 s, and b accordingly. And 15 % for
what a rehearsal of a few seconds does not see (caches, compaction, other segments).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from segue.ports import Rehearsed, Stretch

BLOCKS = 8
GRAIN_SECONDS = 1.0
"""How exactly the time of an index is known."""

UNSEEN = 0.15
"""The share by which a run may differ for reasons that a rehearsal of a few seconds does not see."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is to be expected of a copy, in seconds.

    Attributes:
        items: Items of the copy.
        seconds: Its working time: copy, and index with loading.
        low, high: Where that will lie.
        copy_seconds, index_seconds: What it is made of.
        planning_seconds: What comes before: counting and cutting.
        rate, rate_low, rate_high: Items a second while it copies.
        rehearsed: Items that this was measured with.
    """

    items: int
    seconds: float
    low: float
    high: float
    copy_seconds: float
    index_seconds: float
    planning_seconds: float
    rate: float
    rate_low: float
    rate_high: float
    rehearsed: int

    def as_dict(self) -> dict[str, Any]:
        """Return it by name."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def predict(rehearsed: Rehearsed, items: int) -> Prediction | None:
    """Return how long copying so many items will take; None where too little was acknowledged to say."""
    marks = rehearsed.acknowledged
    if not marks or not items or not rehearsed.indexings:
        return None
    first, last = marks[0], marks[-1]
    each, error = _seconds_an_item(marks)
    copy = first.seconds + max(0, items - first.items) * each
    index, index_error = _index_seconds(rehearsed.indexings, items)
    seconds = copy + index
    off = UNSEEN * seconds + 2 * error * items + index_error
    slower, faster = each + 2 * error, max(each - 2 * error, each / 10)
    return Prediction(
        items=items,
        seconds=seconds,
        low=max(0.0, seconds - off),
        high=seconds + off,
        copy_seconds=copy,
        index_seconds=index,
        planning_seconds=rehearsed.planning_seconds,
        rate=1 / each,
        rate_low=1 / slower,
        rate_high=1 / faster,
        rehearsed=last.items,
    )


def _seconds_an_item(marks: Sequence[Stretch]) -> tuple[float, float]:
    """Return the mean after the first acknowledgement and its standard error; of a single one, its own and half of that."""
    first, last = marks[0], marks[-1]
    if last.items <= first.items or last.seconds <= first.seconds:
        each = last.seconds / last.items
        return each, each / 2
    each = (last.seconds - first.seconds) / (last.items - first.items)
    bounds = np.linspace(0, len(marks) - 1, min(BLOCKS, len(marks) - 1) + 1).astype(int)
    blocks = [
        (marks[end].seconds - marks[begin].seconds) / max(1, marks[end].items - marks[begin].items)
        for begin, end in pairwise(bounds)
    ]
    error = float(np.std(blocks, ddof=1)) / math.sqrt(len(blocks)) if len(blocks) > 1 else each / 2
    return each, error


def _index_seconds(indexings: Sequence[Stretch], items: int) -> tuple[float, float]:
    """Return a + b * items * ln(items), solved from the least and the greatest index, and how far it may be off."""
    small, large = min(indexings, key=_size), max(indexings, key=_size)
    between = _steps(large.items) - _steps(small.items)
    if between <= 0:
        # Of one index alone all is taken to grow, which is too much rather than too little.
        grown = max(1.0, _steps(items) / _steps(large.items))
        return large.seconds * grown, GRAIN_SECONDS * grown
    each = max(0.0, large.seconds - small.seconds) / between
    beyond = max(0.0, _steps(items) - _steps(large.items))
    return large.seconds + each * beyond, GRAIN_SECONDS * (1 + beyond / between)


def _size(index: Stretch) -> int:
    return index.items


def _steps(items: int) -> float:
    return items * math.log(max(2, items))
