"""Single values: dates as ISO 8601, points as objects, bytes as base64, and nothing that JSON cannot hold."""

from __future__ import annotations

import base64
import math
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from pytz import FixedOffset  # what the driver itself makes of an offset

from segue.pipelines.values import NotFiniteError, UnfaithfulValueError, iso_or_text, plain_properties, to_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | TEXT
MEMBERS = st.dictionaries(TEXT, PLAIN | st.lists(PLAIN, max_size=4), max_size=6)


@given(MEMBERS)
def test_json_reads_back_equal(members: dict[str, Any]) -> None:
    """Text, numbers, booleans and lists of them are the same after a reader opens the JSON, types included."""
    read = orjson.loads(to_json(members))
    assert read == members
    assert repr(sorted(read.items())) == repr(sorted(members.items()))


@given(MEMBERS)
def test_equal_members_give_equal_bytes(members: dict[str, Any]) -> None:
    """The order in which members come does not show, so the same node gives the same hash."""
    assert to_json(members) == to_json(dict(reversed(members.items())))


ISO = {
    "2020-02-29": Date(2020, 2, 29),
    "0001-01-01": Date(1, 1, 1),
    "2020-01-02T03:04:05.000000006": DateTime(2020, 1, 2, 3, 4, 5, 6),
    "2020-01-02T03:04:05.123456789+05:30": DateTime(2020, 1, 2, 3, 4, 5, 123_456_789, FixedOffset(330)),
    "01:02:03.000000004": Time(1, 2, 3, 4),
    "01:02:03.000000004-01:00": Time(1, 2, 3, 4, FixedOffset(-60)),
    "P1Y2M3DT5.5S": Duration(months=14, days=3, seconds=5, nanoseconds=500_000_000),
    "2020-01-02": date(2020, 1, 2),
    "2020-01-02T03:04:05+00:00": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
}


@pytest.mark.parametrize("text", ISO)
def test_times_are_iso_8601(text: str) -> None:
    """Dates, times and durations, the driver's and Python's, keep every nanosecond and their offset, also inside lists."""
    value = ISO[text]
    assert iso_or_text(value) == text
    assert orjson.loads(to_json({"at": value, "all": [value]})) == {"at": text, "all": [text]}


@given(st.binary(max_size=40))
def test_bytes_are_base64(content: bytes) -> None:
    """Bytes come back from the text, whichever of the two kinds they were."""
    for value in (content, bytearray(content)):
        assert base64.b64decode(orjson.loads(to_json({"b": value}))["b"], validate=True) == content


@pytest.mark.parametrize("point", [WGS84Point((1.5, -2.0)), WGS84Point((1.5, -2.0, 3.0)), CartesianPoint((0.0, 1e300))])
def test_points_are_objects(point: WGS84Point | CartesianPoint) -> None:
    """A point keeps its reference system and its coordinates, two or three."""
    assert orjson.loads(to_json({"p": point, "all": [point]})) == {
        "p": {"srid": point.srid, "coordinates": list(point)},
        "all": [{"srid": point.srid, "coordinates": list(point)}],
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [1.0, x], lambda x: {"deep": [x]}, lambda x: WGS84Point((x, 1.0))])
def test_numbers_that_json_cannot_hold_are_refused(number: float, wrap: Any) -> None:
    """NaN and the infinities would become null: refused wherever they are, and told from values of a strange kind."""
    with pytest.raises(NotFiniteError):
        to_json({"fine": "null", "bad": wrap(number)})


@pytest.mark.parametrize("value", ["null", ["null", 1.5], {"null": "nullnull"}, None, [None]])
def test_the_word_null_is_no_null(value: object) -> None:
    """Text that says null, and a null itself, are no numbers that were lost."""
    assert orjson.loads(to_json({"v": value})) == {"v": value}


@pytest.mark.parametrize("value", [object(), {1, 2}, complex(1, 2), ["\ud800"]])
def test_values_without_a_json_form_are_refused(value: object) -> None:
    """What has no faithful form is named, not turned into its repr."""
    with pytest.raises(UnfaithfulValueError, match="no JSON form") as refusal:
        to_json({"v": value})
    assert not isinstance(refusal.value, NotFiniteError)


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], {}, b"x", WGS84Point((1.0, 2.0))])
def test_what_is_no_text_gives_none(value: object) -> None:
    """Only text and times have a text form of their own."""
    assert iso_or_text(value) is None


def test_properties_are_as_a_reader_of_json_gets_them() -> None:
    """By name, missing ones left out; of values that no row can hold, which no JSON takes, nothing is changed."""
    at, point = Date(2020, 2, 29), WGS84Point((1.5, -2.0))
    strange = complex(1, 2)
    members = {"text": "a", "whole": 5.0, "at": at, "all": [at, 1], "p": point, "b": b"\x00", "empty": []}
    found = plain_properties([*members, "missing", "strange"], [*members.values(), None, strange])
    assert found.pop("strange") is strange
    assert found == orjson.loads(to_json(members))
    assert type(found["whole"]) is float
    assert math.isnan(plain_properties(["n"], [math.nan])["n"])
