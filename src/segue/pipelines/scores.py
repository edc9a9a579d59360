"""Metrics and scores, mapped exactly between Neo4j and Milvus; owns the two conventions and nothing else.

Neo4j's vector index scores on [0, 1] ((1 + cosine) / 2, or 1 / (1 + squared distance)); Milvus returns the cosine, the
inner product, or the squared distance. Sources: Neo4j Cypher manual, vector indexes, "Cosine and Euclidean similarity
functions"; Milvus reference, "Metric types".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segue.model import Metric, Vectors

MILVUS_METRIC = {Metric.COSINE: "COSINE", Metric.EUCLIDEAN: "L2", Metric.DOT: "IP"}


def neo4j_score(metric: Metric, milvus_distance: float) -> float:
    """Return the score Neo4j would give for what Milvus returned as `distance`.

    Cosine and dot: larger is nearer in both. Euclidean: Milvus's squared distance, smaller is nearer, becomes a score
    where larger is nearer. `dot` equals Neo4j's cosine score only for vectors of norm 1. A cosine that rounding has carried
    beyond 1 counts as 1.
    """
    if metric is Metric.EUCLIDEAN:
        return 1.0 / (1.0 + milvus_distance)
    if metric is Metric.COSINE:
        return (1.0 + max(-1.0, min(1.0, milvus_distance))) / 2.0
    return (1.0 + milvus_distance) / 2.0


class Scorer:
    """Vectors laid out to be scored exactly against one after another. Usable from several threads.

    Args:
        metric: How likeness is measured.
        vectors: Shape (rows, dimension); each with a direction, under cosine.
    """

    def __init__(self, metric: Metric, vectors: Vectors) -> None:
        self._metric = metric
        self._rows: NDArray[np.float64] = vectors.astype(np.float64)
        self._squares: NDArray[np.float64] = np.einsum("ij,ij->i", self._rows, self._rows)

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of each vector against one of shape (dimension,), on Neo4j's scale.

        Returns:
            Shape (rows,), larger is nearer.
        """
        asked = vector.astype(np.float64)
        if self._metric is Metric.EUCLIDEAN:
            apart = self._rows - asked
            distances: NDArray[np.float64] = np.einsum("ij,ij->i", apart, apart)
            return 1.0 / (1.0 + distances)
        # Not `rows @ asked`: BLAS wakes its threads for so little, and on busy cores waits for them a hundred times as long as
        # the product takes.
        products: NDArray[np.float64] = np.einsum("ij,j->i", self._rows, asked)
        if self._metric is Metric.COSINE:
            products = products / np.sqrt(self._squares * (asked @ asked))
        return (1.0 + products) / 2.0


def exact_scores(metric: Metric, vector: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float64]:
    """Return the score of each vector against one, on Neo4j's scale; see `Scorer`."""
    return Scorer(metric, vectors).scores(vector)


def exact_scores_of_all(metric: Metric, asked: Vectors, vectors: Vectors) -> NDArray[np.float64]:
    """Return the score of each vector against each of several at once, by one product of matrices; for many of both.

    Args:
        metric: How likeness is measured.
        asked: Shape (questions, dimension); each with a direction, under cosine.
        vectors: Shape (rows, dimension), likewise.

    Returns:
        Shape (questions, rows), larger is nearer. Euclidean scores of all but equal vectors are less exact than one by one.
    """
    first, second = asked.astype(np.float64), vectors.astype(np.float64)
    products: NDArray[np.float64] = first @ second.T
    if metric is Metric.DOT:
        return (1.0 + products) / 2.0
    ours, theirs = np.einsum("ij,ij->i", first, first)[:, None], np.einsum("ij,ij->i", second, second)
    if metric is Metric.EUCLIDEAN:
        distances: NDArray[np.float64] = np.maximum(ours + theirs - 2.0 * products, 0.0)
        return 1.0 / (1.0 + distances)
    cosines: NDArray[np.float64] = products / np.sqrt(ours * theirs)
    return (1.0 + cosines) / 2.0
