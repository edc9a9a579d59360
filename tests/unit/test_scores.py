"""Scores, against the definitions that Neo4j and Milvus give, worked out with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segue.model import Metric
from segue.pipelines.scores import MILVUS_METRIC, exact_scores, exact_scores_of_all, neo4j_score

VECTORS = arrays.arrays(np.float64, 8, elements=st.floats(-100, 100)).filter(lambda vector: bool(np.linalg.norm(vector) > 1e-3))


@given(a=VECTORS, b=VECTORS)
def test_cosine_becomes_neo4js_score(a: np.ndarray, b: np.ndarray) -> None:
    """Milvus returns the cosine, Neo4j scores (1 + cosine) / 2: alike 1, orthogonal a half, opposite 0."""
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert neo4j_score(Metric.COSINE, cosine) == pytest.approx((1 + cosine) / 2, abs=1e-15)
    assert neo4j_score(Metric.COSINE, 1.0) == 1.0
    assert neo4j_score(Metric.COSINE, 0.0) == 0.5
    assert neo4j_score(Metric.COSINE, -1.0) == 0.0


@given(a=VECTORS, b=VECTORS)
def test_distance_becomes_neo4js_score(a: np.ndarray, b: np.ndarray) -> None:
    """Milvus returns the distance squared, Neo4j scores 1 / (1 + distance squared): near 1, far towards 0."""
    squared = float(np.sum((a - b) ** 2))
    assert neo4j_score(Metric.EUCLIDEAN, squared) == pytest.approx(1 / (1 + np.linalg.norm(a - b) ** 2), rel=1e-12)
    assert neo4j_score(Metric.EUCLIDEAN, 0.0) == 1.0


@given(a=VECTORS, b=VECTORS)
def test_the_inner_product_of_unit_vectors_scores_as_their_cosine(a: np.ndarray, b: np.ndarray) -> None:
    """For vectors of norm 1 the inner product is the cosine, so both metrics give one score."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert neo4j_score(Metric.DOT, float(a @ b)) == pytest.approx(neo4j_score(Metric.COSINE, float(a @ b)))


@pytest.mark.parametrize("metric", Metric)
@given(distances=st.lists(st.floats(-1, 1), min_size=2, max_size=6, unique=True))
def test_the_nearest_stays_the_nearest(metric: Metric, distances: list[float]) -> None:
    """Scores order hits as Milvus orders them: larger is nearer, but for the squared distance."""
    values = [abs(value) for value in distances] if metric is Metric.EUCLIDEAN else distances
    nearest = min(values) if metric is Metric.EUCLIDEAN else max(values)
    assert neo4j_score(metric, nearest) == max(neo4j_score(metric, value) for value in values)


def test_every_metric_has_one_in_milvus() -> None:
    """Milvus's own names, one for each of ours."""
    assert MILVUS_METRIC == {Metric.COSINE: "COSINE", Metric.EUCLIDEAN: "L2", Metric.DOT: "IP"}


@pytest.mark.parametrize("metric", list(Metric))
def test_exact_scores_are_those_of_single_pairs(metric: Metric) -> None:
    """A whole matrix at once scores as each of its rows by itself, by the written-out formula."""
    choose = np.random.default_rng(7)
    asked = choose.standard_normal(5).astype(np.float32)
    rows = choose.standard_normal((4, 5)).astype(np.float32)
    for row, score in zip(rows, exact_scores(metric, asked, rows), strict=True):
        product = sum(float(a) * float(b) for a, b in zip(asked, row, strict=True))
        length = math.sqrt(sum(float(a) ** 2 for a in asked)) * math.sqrt(sum(float(b) ** 2 for b in row))
        apart = sum((float(a) - float(b)) ** 2 for a, b in zip(asked, row, strict=True))
        wanted = {Metric.COSINE: (1 + product / length) / 2, Metric.DOT: (1 + product) / 2, Metric.EUCLIDEAN: 1 / (1 + apart)}
        assert score == pytest.approx(wanted[metric], abs=1e-12)


@pytest.mark.parametrize(("cosine", "score"), [(1.0000001, 1.0), (-1.0000001, 0.0)])
def test_a_cosine_beyond_one_is_rounding(cosine: float, score: float) -> None:
    """Milvus's float32 arithmetic can give a little more than 1; no score leaves [0, 1]."""
    assert neo4j_score(Metric.COSINE, cosine) == score


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_of_many_at_once_are_those_of_one_after_the_other(metric: Metric) -> None:
    """One row of scores a question, as `exact_scores` gives it; a vector against itself scores the most there is."""
    choose = np.random.default_rng(8)
    asked, rows = choose.standard_normal((3, 7)).astype(np.float32), choose.standard_normal((5, 7)).astype(np.float32)
    rows[2] = asked[1]
    scores = exact_scores_of_all(metric, asked, rows)
    for question, found in zip(asked, scores, strict=True):
        assert found == pytest.approx(exact_scores(metric, question, rows), abs=1e-12)
    if metric is not Metric.DOT:
        assert scores[1, 2] == pytest.approx(1.0, abs=1e-12)
