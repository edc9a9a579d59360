"""The filter of a search: which forms are refused and how, what the others mean, and how values are written for a store."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import InvalidInput
from segue.model import CarriedProperty, Condition, KeyType, Metric, Operator, PropertyType, SourceSpec
from segue.pipelines.filters import as_float, as_integer, matches, parse
from segue.pipelines.layouts import Preset, make_layout
from segue.stores.milvus_filters import expression
from segue.stores.neo4j_filters import condition

SPEC = SourceSpec(
    *("ix", "Item", "id", KeyType.STRING, "v", 4, Metric.COSINE),
    properties=(
        CarriedProperty("title", PropertyType.STRING),
        CarriedProperty("year", PropertyType.INTEGER),
        CarriedProperty("rating", PropertyType.FLOAT),
        CarriedProperty("seen", PropertyType.BOOLEAN),
        CarriedProperty("extra", PropertyType.JSON),
    ),
)
LAYOUT = make_layout(SPEC, name="items", preset=Preset.SEGUE, m=16, ef_construction=200)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number != 2.0**63)
)
COMPARING = [one for one in Operator if one not in (Operator.IN, Operator.CONTAINS)]


def test_a_form_becomes_conditions() -> None:
    """A bare value is equality; several operators on one property are several conditions; no form is none."""
    form = {"year": {">=": 1970, "<": 1980.5}, "id": "k", "extra": {"in": ["US", "FR"]}, "seen": {"!=": True}}
    assert parse(form, SPEC) == (
        Condition("year", Operator.AT_LEAST, 1970),
        Condition("year", Operator.LESS, 1980.5),
        Condition("id", Operator.EQUAL, "k"),
        Condition("extra", Operator.IN, ("US", "FR")),
        Condition("seen", Operator.NOT_EQUAL, True),
    )
    assert parse(None, SPEC) == parse({}, SPEC) == ()


@pytest.mark.parametrize(
    ("form", "said", "hint"),
    [
        (["year"], "the filter is a list", "Write"),
        ({"yaer": 1}, "'yaer' is no carried property", "extra, id, rating, seen, title, year"),
        ({1: 1}, "1 is no carried property", "year"),
        ({"year": {"==": 1}}, "'year' is compared by '=='", "= != < <= > >= in contains"),
        ({"year": {None: 1}}, "'year' is compared by None", "contains"),
        ({"year": {}}, "'year' is compared with nothing", "Write"),
        ({"title": None}, "'title' = None", "finite number"),
        ({"rating": float("nan")}, "'rating' = nan", "finite number"),
        ({"rating": {"<": float("inf")}}, "'rating' < inf", "finite number"),
        ({"rating": 2.0**63}, "2**63 exactly", "smaller"),
        ({"extra": ["a"]}, "'extra' = ['a']", "'in'"),
        ({"extra": b"a"}, "'extra' = b'a'", "text"),
        ({"title": {"in": "US"}}, "'title' in 'US'", "one at least"),
        ({"title": {"in": []}}, "'title' in []", "one at least"),
        ({"extra": {"in": ["a", 1]}}, "a mixture of number and text", "one kind"),
        ({"extra": {"in": [1, True]}}, "a mixture of boolean and number", "one kind"),
        ({"extra": {"in": [1, None]}}, "'extra' in None", "finite number"),
        ({"extra": 2**63}, "64-bit", "2"),
        ({"extra": {"in": [-(2**63) - 1]}}, "64-bit", "2"),
        ({"extra": "\ud83d"}, "half a character", "cut"),
        ({"year": "1979"}, "'year' = '1979': a text, and the property holds integers", "number"),
        ({"year": {"in": ["1979"]}}, "holds integers", "number"),
        ({"seen": 1}, "holds booleans", "boolean"),
        ({"rating": True}, "holds floats", "number"),
        ({"title": 5}, "holds strings", "text"),
        ({"id": 5}, "holds strings", "text"),
        ({"title": {"contains": "a"}}, "holds no lists", "="),
        ({"id": {"contains": "a"}}, "holds no lists", "="),
        ({"extra": {"contains": 2**53}}, "2**53", "smaller"),
        ({"extra": {"contains": ["a"]}}, "'extra' contains", "text"),
        ({"seen": {"<": True}}, "no order", "="),
        ({"extra": {">=": False}}, "no order", "="),
        ({"title": {"<": "a\U0001f600"}}, "U+E000", "without"),
        ({"title": {">=": "\ue000"}}, "U+E000", "without"),
    ],
)
def test_what_has_no_one_meaning_is_refused(form: Any, said: str, hint: str) -> None:
    """Saying where, what, and what to write instead."""
    with pytest.raises(InvalidInput) as caught:
        parse(form, SPEC)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("form", "value", "met"),
    [
        ({"extra": 5}, 5.0, True),
        ({"extra": 1}, True, False),
        ({"extra": True}, 1, False),
        ({"extra": {"!=": 1}}, True, False),
        ({"extra": {"!=": 1}}, "1", False),
        ({"extra": {"!=": 1}}, None, False),
        ({"extra": {"!=": 1}}, [1], False),
        ({"extra": {"!=": 1}}, 2, True),
        ({"extra": {"!=": "a"}}, "A", True),
        ({"extra": {"<": "b"}}, "a\U0001f600", True),
        ({"extra": {"<": "é"}}, "z", True),
        ({"extra": {"<": 2}}, "1", False),
        ({"extra": {">": 2**53}}, 2**53 + 1, True),
        ({"extra": 2**53 + 1}, 2.0**53, False),
        ({"extra": {">=": 0}}, -0.0, True),
        ({"extra": {"in": [1, 2.5]}}, 1.0, True),
        ({"extra": {"in": [1, 2]}}, True, False),
        ({"extra": {"contains": 1}}, [True, "1"], False),
        ({"extra": {"contains": 1}}, ["x", 1.0], True),
        ({"extra": {"contains": "a"}}, "a", False),
        ({"extra": {"contains": "a"}}, None, False),
        ({"extra": {">": 1, "<": 3}}, 3, False),
    ],
)
def test_the_meaning(form: Any, value: Any, met: bool) -> None:
    """Kinds are apart, what is missing meets nothing, numbers compare by value, text by code point."""
    properties = {} if value is None else {"extra": value}
    assert matches(parse(form, SPEC), properties) is met


def test_every_condition_must_hold() -> None:
    """One that does not is enough to be left out; no condition lets everything through."""
    conditions = parse({"year": 1979, "title": "Alien"}, SPEC)
    assert matches(conditions, {"year": 1979, "title": "Alien"})
    assert not matches(conditions, {"year": 1979, "title": "Aliens"})
    assert matches((), {})


@given(how=st.sampled_from(COMPARING), value=NUMBERS, other=NUMBERS)
def test_comparing_within_one_type_is_comparing(how: Operator, value: float, other: float) -> None:
    """What a comparison comes to among integers, or among floats, has the same outcome, however close the numbers are."""
    for near in (other, value, int(value), *(int(value) + step for step in (-1, 1, 1024))):
        typed = as_integer(how, value) if isinstance(near, int) else as_float(how, value)
        expected = matches((Condition("n", how, value),), {"n": near})
        outcome = typed if isinstance(typed, bool) else matches((Condition("n", *typed),), {"n": near})
        if not isinstance(near, int) or -(2**63) <= near < 2**63:
            assert outcome is expected
            assert isinstance(typed, bool) or type(typed[1]) is type(near)


@given(text=st.text(), name=st.text())
def test_text_for_milvus_is_one_literal_that_reads_back(text: str, name: str) -> None:
    """No value and no name ends its quotes early, and both are read back as they were."""
    name = f"n{name}"
    spec = replace(SPEC, properties=(CarriedProperty(name, PropertyType.JSON),))
    said = expression(parse({name: text}, spec), LAYOUT)
    literal = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
    assert literal.sub("…", said) == "(properties[…] == …)"
    assert [json.loads(one) for one in literal.findall(said)] == [name, text]


@given(text=st.text(), number=NUMBERS)
def test_no_value_is_in_the_text_of_cypher(text: str, number: float) -> None:
    """The text is the same whatever the values, which are all bound, under names that differ."""
    form = {"title": {"!=": text, "in": [text, "a"]}, "extra": {"contains": "b"}, "seen": True}
    said, values = condition(parse(form, SPEC))
    assert said == condition(parse({**form, "title": {"!=": "", "in": ["", "a"]}}, SPEC))[0]
    assert sorted(set(re.findall(r"\$(\w+)", said))) == sorted(values)
    assert list(values.values()) == [text, [text, "a"], "b", True]
    _, values = condition(parse({"extra": {"in": [number]}}, SPEC))
    assert {type(one) for bound in values.values() for one in bound} <= {int, float}


def test_no_conditions_are_no_text_for_milvus_and_true_for_cypher() -> None:
    """What a search without a filter is sent."""
    assert expression((), LAYOUT) == ""
    assert condition(()) == ("true", {})


def test_a_typed_field_is_asked_by_its_own_name_and_the_key_by_the_primary_keys() -> None:
    """Only what has no field of its own is looked for in the JSON."""
    said = expression(parse({"year": {">": 1979.5}, "id": {"in": ["a", "b"]}, "extra": {"!=": True}}, SPEC), LAYOUT)
    assert said == '(year > 1979) and (id in ["a", "b"]) and (properties["extra"] == false)'
    langchain = SourceSpec(
        *("ix", "Item", "key", KeyType.STRING, "v", 4, Metric.COSINE), (CarriedProperty("text", PropertyType.JSON),)
    )
    layout = make_layout(langchain, name="items", preset=Preset.LANGCHAIN, m=16, ef_construction=200)
    # A field holds one type, whatever other types the property was expected to have.
    assert expression(parse({"text": 5, "key": "a"}, langchain), layout) == '(pk in []) and (pk == "a")'
