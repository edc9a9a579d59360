"""How much of what is truly nearest an answer has: the nearest by exact scores, and hits held against them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segue.model import Hit, Key

TIE = 1e-6
"""Scores this near to each other are equal: the stores reckon in float32."""


class TrulyNearest:
    """The truly nearest known by now, of every question."""

    def __init__(self, questions: int, most: int) -> None:
        self._most = most
        self._scores = np.full((questions, most), -np.inf)
        self._keys = np.full((questions, most), None, dtype=object)

    def take(self, keys: Sequence[Key], scores: NDArray[np.float64]) -> None:
        """Take in more items with their scores, of shape (questions, keys)."""
        scores = np.concatenate([self._scores, scores], axis=1)
        named = np.empty(len(keys), dtype=object)
        named[:] = keys
        known = np.concatenate([self._keys, np.broadcast_to(named, (len(self._keys), len(keys)))], axis=1)
        best = np.argpartition(-scores, self._most - 1, axis=1)[:, : self._most]
        self._scores, self._keys = np.take_along_axis(scores, best, axis=1), np.take_along_axis(known, best, axis=1)

    def of(self, question: int) -> list[Key]:
        """Return the keys nearest to a question, in no order."""
        return [key for key in self._keys[question].tolist() if key is not None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one store said, as far as it can be judged.

    Attributes:
        right: How many of the truly nearest it found.
        wanted: How many it should have found.
        missed: Keys it should have found.
        score_error: The largest difference of a score.
    """

    right: int = 0
    wanted: int = 0
    missed: Sequence[Key] = ()
    score_error: float = 0.0


def judged(hits: Sequence[Hit], truth: Mapping[Key, float], left_out: Collection[Key], k: int) -> Answer:
    """Hold one store's hits against the truth; keys that are left out take their places with them."""
    kept = [hit for hit in hits if hit.key not in left_out]
    wanted = min(k - (len(hits) - len(kept)), len(truth))
    errors = [abs(hit.score - truth[hit.key]) for hit in kept if hit.key in truth]
    if wanted <= 0:
        return Answer(score_error=max(errors, default=0.0))
    last = sorted(truth.values(), reverse=True)[wanted - 1]
    right = sum(truth.get(hit.key, -np.inf) >= last - TIE for hit in kept)
    found = {hit.key for hit in kept}
    missed = [key for key in sorted(truth, key=truth.__getitem__, reverse=True)[:wanted] if key not in found]
    return Answer(min(right, wanted), wanted, missed, max(errors, default=0.0))
