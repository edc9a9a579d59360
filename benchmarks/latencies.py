"""How long calls took, and how many there were a second. Makes the calls, in turn or on threads; knows no store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from report import Spread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Latencies:
    """The calls of one contender in one round.

    Attributes:
        calls: How many.
        per_second: How many a second, over all threads.
        p50, p95, p99: What that share of the calls took at most, in milliseconds.
    """

    calls: int
    per_second: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float], wall: float) -> Latencies:
        """Return what these calls come to, made within `wall` seconds."""
        p50, p95, p99 = (float(value) * 1000 for value in np.percentile(seconds, [50, 95, 99]))
        return cls(len(seconds), len(seconds) / wall, p50, p95, p99)


Rounds = Sequence[Latencies]
"""One contender's, round by round."""


def in_turn(calls: Mapping[str, Callable[[T], object]], asked: Sequence[T], rounds: int) -> dict[str, list[Latencies]]:
    """Make each of the calls with each of what is asked, call by call in turn, so that whatever happens falls on all alike.

    A first pass over some of it is not counted.
    """
    found: dict[str, list[Latencies]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(-1, rounds):
        taken: dict[str, list[float]] = {name: [] for name in names}
        for place, one in enumerate(asked if number >= 0 else asked[:10]):
            first = place % len(names)
            for name in [*names[first:], *names[:first]]:
                began = time.perf_counter()
                calls[name](one)
                taken[name].append(time.perf_counter() - began)
        if number >= 0:
            for name in names:
                found[name].append(Latencies.of(taken[name], sum(taken[name])))
    return found


def on_threads(call: Callable[[int], object], threads: int, seconds: float) -> tuple[list[float], float]:
    """Make a call from several threads, each again as soon as it has returned; it is given its thread's number.

    Returns:
        The seconds that each call took, and that all of them took together.
    """
    began = time.perf_counter()
    until = began + seconds

    def work(thread: int) -> list[float]:
        taken = []
        before = time.perf_counter()
        while before < until:
            call(thread)
            now = time.perf_counter()
            taken.append(now - before)
            before = now
        return taken

    with ThreadPoolExecutor(threads) as pool:
        taken = list(chain.from_iterable(pool.map(work, range(threads))))
    return taken, time.perf_counter() - began


def cells(rounds: Rounds) -> list[str]:
    """Return p50 with its spread over the rounds, p95 and p99, as a table shows them."""
    p95, p99 = Spread.of([one.p95 for one in rounds]), Spread.of([one.p99 for one in rounds])
    return [Spread.of([one.p50 for one in rounds]).text(".2f"), f"{p95.median:.2f}", f"{p99.median:.2f}"]


def ratio(rounds: Rounds, rival: Rounds, read: Callable[[Latencies], float]) -> Spread:
    """Return by how much the first is more than the rival, round by round, where the machine was the same."""
    return Spread.of([read(one) / read(other) for one, other in zip(rounds, rival, strict=True)])


def plain(found: Mapping[str, Rounds]) -> dict[str, list[dict[str, Any]]]:
    """Return them as plain values for JSON."""
    return {name: [asdict(one) for one in rounds] for name, rounds in found.items()}
