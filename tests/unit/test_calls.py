"""What does not fit is refused before anything is sent, in words that say what, where and what to do."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from segue.errors import InvalidInput
from segue.model import Item, KeyType, Metric, SourceSpec
from segue.pipelines.calls import MOST_HITS, checked_items, checked_k, checked_key, checked_keys, checked_vector, checked_wait

SPEC = SourceSpec("films", "Film", "id", KeyType.STRING, "embedding", 3, Metric.COSINE)
NUMBERED = SourceSpec("films", "Film", "id", KeyType.INTEGER, "embedding", 3, Metric.EUCLIDEAN)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ([1.0, 2.0], "has 2 elements, index 'films' has 3 dimensions"),
        ([[1.0, 2.0, 3.0]], "the shape (1, 3)"),
        ([1.0, float("nan"), 2.0], "element 1 of the vector is nan"),
        ([1.0, 2.0, float("inf")], "element 2 of the vector is inf"),
        ([1.0, 2.0, 1e39], "element 2 of the vector is 1e+39, which is no finite float32"),
        ([0.0, 0.0, 0.0], "cosine needs a direction"),
        ([1e-60, 0.0, 0.0], "cosine needs a direction"),
        (["a", "b", "c"], "no sequence of numbers"),
        ([1.0, None, 2.0], "element 1 of the vector is nan"),
        (None, "the shape ()"),
    ],
)
def test_a_vector_that_no_search_could_find_is_refused(vector: Any, words: str) -> None:
    """Of another length, not finite as float32, without a direction under cosine, or not of numbers."""
    with pytest.raises(InvalidInput) as refused:
        checked_vector(vector, SPEC, "item 'a'")
    assert words in refused.value.message
    assert refused.value.message.startswith("item 'a'")


def test_a_zero_vector_has_a_place_where_distance_counts() -> None:
    """Only cosine needs a direction."""
    assert checked_vector([0, 0, 0], NUMBERED, "").tolist() == [0.0, 0.0, 0.0]


def test_vectors_keep_what_they_were_given() -> None:
    """Numbers of any kind become float64, with nothing rounded: Neo4j holds what the application has."""
    assert checked_vector((1, 0.1, 2), SPEC, "").tolist() == [1.0, 0.1, 2.0]
    assert checked_vector(np.array([1, 2, 3], np.float32), SPEC, "").dtype == np.float64


@pytest.mark.parametrize(
    ("spec", "key", "words"),
    [
        (SPEC, 7, "key 7 is a int, and the keys of :Film(id) are text"),
        (SPEC, None, "key None is a NoneType"),
        (SPEC, "é" * 257, "has 514 bytes, Milvus takes 512"),
        (SPEC, "\ud800", "half a character"),
        (NUMBERED, "7", "key '7' is no integer from -2**63"),
        (NUMBERED, True, "key True is no integer from -2**63"),
        (NUMBERED, 2**63 - 1, "is no integer from -2**63"),
    ],
)
def test_a_key_of_another_kind_is_refused(spec: SourceSpec, key: Any, words: str) -> None:
    """Keys of a collection are of one type, and Milvus has to be able to hold them."""
    with pytest.raises(InvalidInput) as refused:
        checked_key(key, spec, 512)
    assert words in refused.value.message


def test_keys_come_out_distinct_and_in_order() -> None:
    """Locks are taken in key order, so that no two writers wait for each other in a circle."""
    assert checked_keys(["b", "a", "b", "Z"], SPEC, 512) == ["Z", "a", "b"]
    assert checked_keys([10, 9], NUMBERED, 0) == [9, 10]
    with pytest.raises(InvalidInput, match="are the text 'abc'"):
        checked_keys("abc", SPEC, 512)


def test_items_become_rows_in_key_order() -> None:
    """One row an item, with the vector as a list of floats and the properties as given."""
    rows = checked_items([Item("b", [1, 2, 3], {"year": 1979}), Item("a", [3.0, 2.0, 1.0])], SPEC, 512)
    assert rows == [
        {"key": "a", "vector": [3.0, 2.0, 1.0], "properties": {}},
        {"key": "b", "vector": [1.0, 2.0, 3.0], "properties": {"year": 1979}},
    ]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([{"key": "a"}], "items[0] is a dict"),
        ([Item("a", [1, 2, 3]), Item("a", [1, 2, 3])], "item 'a' is there twice"),
        ([Item("a", [1, 2, 3], {"id": "b"})], "property 'id' is the key"),
        ([Item("a", [1, 2, 3], {"embedding": []})], "property 'embedding' is the vector"),
        ([Item("a", [1, 2, 3], {"": 1})], "'' cannot be the name of a property"),
        ([Item("a", [1, 2, 3], {"x": {"y": 1}})], "property 'x' is a dict that Neo4j cannot hold"),
        ([Item("a", [1, 2, 3], {"x": [[1], [2]]})], "property 'x' is a list that Neo4j cannot hold"),
        ([Item("a", [1, 2, 3], {"x": [1, None]})], "property 'x' is a list that Neo4j cannot hold"),
        ([Item("a", [1, 2, 3], {"x": 2**63})], "property 'x' is a int that Neo4j cannot hold"),
    ],
)
def test_items_that_neo4j_would_refuse_are_refused_first(items: list[Any], words: str) -> None:
    """The message names the item and what of it does not fit."""
    with pytest.raises(InvalidInput) as refused:
        checked_items(items, SPEC, 512)
    assert words in refused.value.message


def test_properties_of_every_kind_that_neo4j_holds_pass() -> None:
    """Dates and lists among them; None, which takes a property away; and bytes."""
    properties = {"a": "x", "b": 1, "c": 1.5, "d": True, "e": None, "f": [1, 2], "g": dt.date(2026, 1, 2), "h": b"x"}
    assert checked_items([Item("a", [1, 2, 3], properties)], SPEC, 512)[0]["properties"] == properties


@pytest.mark.parametrize("k", [0, -1, MOST_HITS + 1, 1.5, "10", True, None])
def test_k_is_a_number_that_can_be_answered(k: Any) -> None:
    """Neither nothing, nor more than Milvus gives."""
    with pytest.raises(InvalidInput, match="k is"):
        checked_k(k)


@pytest.mark.parametrize("wait", [-0.1, float("nan"), "1", True])
def test_waiting_is_a_number_of_seconds(wait: Any) -> None:
    """None does not wait; anything else is a number from 0."""
    with pytest.raises(InvalidInput, match="wait is"):
        checked_wait(wait)
    assert checked_wait(None) is None
    assert checked_wait(0) == 0
    assert checked_wait(2.5) == 2.5


def test_what_does_not_fit_is_a_value_error() -> None:
    """Applications catch what Python's own functions raise for such a thing."""
    assert issubclass(InvalidInput, ValueError)
