"""How many rows a batch has: fixed, or led by how long the sink takes for one. Pure arithmetic; knows no clock."""

from __future__ import annotations

SMALLEST = 100
LARGEST = 5_000
START = 1_000

TARGET_SECONDS = 0.25
"""Longer batches gain nothing (1,000 to 2,000 rows of 768 dimensions are as fast as 5,000) and cost memory and patience."""

MOST_BYTES = 3 * 2**20
"""Of vectors a batch, 1,024 rows of 768 dimensions: larger ones are no faster, and this bounds a worker's memory."""


class BatchSize:
    """The size of the next batch. Approximate under threads, which is enough: a size is advice.

    Args:
        dimension: Of the vectors, to bound the batch in bytes.
        fixed: A size to keep; None to adapt between 100 and 5,000.
    """

    def __init__(self, dimension: int, fixed: int | None = None) -> None:
        self._fixed = fixed is not None
        self._most = max(SMALLEST, min(LARGEST, MOST_BYTES // (dimension * 4)))
        self._rows = float(fixed or min(START, self._most))

    @property
    def rows(self) -> int:
        """The number of rows to ask for now."""
        return int(self._rows)

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a full batch that took `seconds` from sending to acknowledgement."""
        if self._fixed or rows < self.rows or seconds <= 0:
            return
        wanted = self._rows * TARGET_SECONDS / seconds
        step = min(max(wanted, self._rows * 0.8), self._rows * 1.25)
        self._rows = min(max(step, SMALLEST), self._most)

    def shrink(self) -> None:
        """Halve the size: the sink asks for less. A fixed size stays."""
        if not self._fixed:
            self._rows = max(SMALLEST, self._rows / 2)
