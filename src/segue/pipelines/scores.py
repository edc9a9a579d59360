"""Metrics and scores, mapped exactly between Neo4j and Milvus; owns the two conventions and nothing else.

Neo4j's vector index scores on [0, 1] ((1 + cosine) / 2, or 1 / (1 + squared distance)); Milvus returns the cosine, the
inner product, or the squared distance. Sources: Neo4j Cypher manual, vector indexes, "Cosine and Euclidean similarity
functions"; Milvus reference, "Metric types".
"""

from __future__ import annotations

from segue.model import Metric

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
