"""What is seen of Milvus while it answers users and Neo4j is asked too, and how much may go wrong. Knows no store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of Milvus, as sums: by one instance or by all, in an epoch or lately.

    Attributes:
        compared: Shadow reads that were compared.
        overlap: Of these, the sum of the shares of Neo4j's hits that Milvus found too.
        answers: How often Milvus was asked for a user.
        failed: How often it gave no answer that could be used: an error, a deadline, a fence that came too late.
    """

    compared: int = 0
    overlap: float = 0.0
    answers: int = 0
    failed: int = 0

    @property
    def mean_overlap(self) -> float:
        """The mean share of the nearest items known that Milvus found; 1 when nothing was compared."""
        return self.overlap / self.compared if self.compared else 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may go wrong while Milvus answers users.

    Attributes:
        least_reads: Shadow reads that must have been compared in an epoch before `hybrid`.
        least_overlap: The mean overlap of shadow reads below which something is wrong. An approximate index that is right
            finds about 0.9 to 1, and writes between the two answers lower it, so it must stay well below.
        most_failed: The share of answers of Milvus that may fail.
    """

    least_reads: int = 200
    least_overlap: float = 0.7
    most_failed: float = 0.05

    def is_failing(self, seen: Observed) -> bool:
        """Say whether too many answers failed."""
        return seen.failed > self.most_failed * seen.answers

    def is_missing(self, seen: Observed) -> bool:
        """Say whether Milvus finds too little of what is nearest."""
        return seen.overlap < self.least_overlap * seen.compared
