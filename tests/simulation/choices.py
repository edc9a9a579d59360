"""Who decides in a simulated world: chance by a seed, or a script that departs from the default order here and there."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")


class Choices(Protocol):
    """Whoever decides."""

    weights: dict[str, float]

    def pick(self, weights: Sequence[float]) -> int:
        """Choose among options, of which the first is the default."""
        ...

    def draw(self, options: Sequence[T]) -> T:
        """Choose what a scene is like."""
        ...


class Chance:
    """Chance, by a seed. The same seed gives the same run."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        choose = self._random.choice
        # Each seed has a temperament, so that rare orders are rare in few seeds only.
        self.weights = {
            "run": 6.0,
            "land": choose((1.0, 6.0)),
            "land late": choose((0.05, 0.3, 3.0)),
            "answer": choose((2.0, 8.0)),
            "tick": choose((0.2, 0.7, 2.0)),
            "crash": choose((0.05, 0.5)),
            "give up": choose((0.5, 4.0)),
            "die": 0.3,
            "stale": choose((0.3, 1.0, 3.0)),
            "stall": choose((0.05, 0.5)),
        }

    def pick(self, weights: Sequence[float]) -> int:
        """See `Choices`."""
        return self._random.choices(range(len(weights)), weights)[0]

    def draw(self, options: Sequence[T]) -> T:
        """See `Choices`."""
        return self._random.choice(options)


class Script:
    """The default order, but for a few departures from it: which option to take at which choice."""

    def __init__(self, departures: Mapping[int, int]) -> None:
        self.widths: list[int] = []
        self.weights = dict.fromkeys(Chance(0).weights, 1.0)
        self._departures = departures

    def pick(self, weights: Sequence[float]) -> int:
        """See `Choices`."""
        self.widths.append(len(weights))
        return self._departures.get(len(self.widths) - 1, 0)

    def draw(self, options: Sequence[T]) -> T:
        """See `Choices`; a scene is as its script says, and where it says nothing, the first."""
        return options[0]


@dataclass
class Explored:
    """What a systematic search came to.

    Attributes:
        runs: How many schedules were run.
        wrong: What is wrong with the last one; empty when nothing was found.
        departures: How the last one departs from the default order.
    """

    runs: int = 0
    wrong: list[str] = field(default_factory=list)
    departures: Mapping[int, int] = field(default_factory=dict)


def explore(play: Callable[[Script], list[str]], *, departures: int, within: int = 10_000, most: int | None = None) -> Explored:
    """Run every schedule that departs from the default order at most so often, those that depart seldom first.

    Args:
        play: Runs a scene by a script, from its start; returns what is wrong.
        departures: How often at most.
        within: Only among so many first choices.
        most: End after so many runs.
    """
    done = Explored()
    waiting: deque[tuple[tuple[int, int], ...]] = deque([()])
    while waiting and (most is None or done.runs < most):
        taken = waiting.popleft()
        script = Script(dict(taken))
        done.runs += 1
        done.wrong, done.departures = play(script), dict(taken)
        if done.wrong:
            break
        if len(taken) < departures:
            first = taken[-1][0] + 1 if taken else 0
            for place in range(first, min(len(script.widths), within)):
                waiting.extend((*taken, (place, option)) for option in range(1, script.widths[place]))
    return done
