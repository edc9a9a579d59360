"""Agent state, both ways: every element of a key comes out once, as a row or with its reason, and what goes in comes back."""

from __future__ import annotations

import json
import math
import pickle
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import InvalidInput
from segue.model import (
    AgentKind,
    AgentMapping,
    AgentRecord,
    ColumnSource,
    Encoding,
    Quarantined,
    Reason,
    RedisType,
    RowsOf,
)
from segue.pipelines.agent_codec import AgentCodec, Decoded
from segue.pipelines.agent_elements import Occurrences
from segue.ports import ReadPiece

NOW = 1_795_557_855_699_772
EXPERIENCE = {
    "agent_id": "part:agent_id",
    "state": "json:/state",
    "action": "json:/action",
    "reward": "json:/reward",
    "next_state": "json:/next_state?",
    "done": "json:/done?",
    "timestamp": "json:/timestamp?",
}
GOOD: dict[str, Any] = {
    "state": [1, {"x": None}],
    "action": "left",
    "reward": 0.5,
    "next_state": {"é": 1},
    "done": False,
    "timestamp": 1_700_000_000.25,
}


def mapping_of(
    kind: AgentKind, key: str, type_: RedisType, encoding: Encoding, columns: dict[str, str], **more: Any
) -> AgentMapping:
    """Return a mapping with columns as the configuration writes them."""
    return AgentMapping(kind, key, type_, encoding, {name: ColumnSource.parse(text) for name, text in columns.items()}, **more)


def listed(encoding: Encoding = Encoding.JSON, **columns: str) -> AgentCodec:
    """Return the codec of lists of experiences."""
    chosen = {**EXPERIENCE, **columns}
    return AgentCodec(mapping_of(AgentKind.EXPERIENCES, "agent:{agent_id}:experiences", RedisType.LIST, encoding, chosen))


def decoded(codec: AgentCodec, key: str | bytes, *elements: Any, seen: Occurrences | None = None, db: int = 0) -> Decoded:
    """Decode one key."""
    into = Decoded()
    name = key.encode() if isinstance(key, str) else key
    piece = ReadPiece(db, name, codec.mapping.type, elements, NOW, begins=seen is None)
    codec.decode([piece], into, seen or Occurrences())
    return into


def only(found: Decoded) -> tuple[Any, ...]:
    """Return the values of the only row."""
    assert [(one.reason, one.detail) for one in found.quarantined] == []
    assert len(found.rows) == 1
    return found.rows[0].values


def refusal(found: Decoded) -> Quarantined:
    """Return the only quarantined one."""
    assert found.rows == []
    assert len(found.quarantined) == 1
    return found.quarantined[0]


def test_an_experience_in_every_column() -> None:
    """Each column comes from where the mapping says, JSON as it was written, times in microseconds."""
    values = only(decoded(listed(), "agent:a1:experiences", json.dumps(GOOD, ensure_ascii=False).encode()))
    assert values[0] == "a1"
    assert json.loads(values[1]) == [1, {"x": None}]
    assert values[2:4] == ("left", 0.5)
    assert json.loads(values[4]) == {"é": 1}
    assert values[5:] == (False, 1_700_000_000_250_000)


@pytest.mark.parametrize("encoding", [Encoding.JSON, Encoding.MSGPACK])
def test_the_same_record_under_both_encodings(encoding: Encoding) -> None:
    """JSON and MessagePack of one record make the same columns."""
    packed = json.dumps(GOOD).encode() if encoding is Encoding.JSON else msgspec.msgpack.encode(GOOD)
    values = only(decoded(listed(encoding), "agent:a:experiences", packed))
    plain = [json.loads(value) if isinstance(value, bytes) else value for value in values]
    assert plain == ["a", GOOD["state"], "left", 0.5, GOOD["next_state"], False, 1_700_000_000_250_000]


@pytest.mark.parametrize(("changed", "column", "expected"), [
    ({"action": 3}, 2, "3"),
    ({"action": 1.0}, 2, "1.0"),
    ({"action": True}, 2, "true"),
    ({"action": [0.1, 2]}, 2, "[0.1,2]"),
    ({"reward": 7}, 3, 7.0),
    ({"reward": "1.5e3"}, 3, 1500.0),
    ({"reward": math.inf}, 3, math.inf),
    ({"done": 1}, 5, True),
    ({"done": "False"}, 5, False),
    ({"done": None}, 5, None),
    ({"next_state": None}, 4, None),
    ({"timestamp": 1_700_000_000}, 6, 1_700_000_000_000_000),
    ({"timestamp": 1_700_000_000_123}, 6, 1_700_000_000_123_000),
    ({"timestamp": 1_700_000_000_123_456}, 6, 1_700_000_000_123_456),
    ({"timestamp": 1_700_000_000_123_456_789}, 6, 1_700_000_000_123_456),
    ({"timestamp": "1700000000.5"}, 6, 1_700_000_000_500_000),
    ({"timestamp": "2023-11-14T22:13:20Z"}, 6, 1_700_000_000_000_000),
    ({"timestamp": "2023-11-15T00:13:20+02:00"}, 6, 1_700_000_000_000_000),
    ({"timestamp": "2023-11-14T22:13:20"}, 6, 1_700_000_000_000_000),
])  # fmt: skip
def test_values_that_fit(changed: dict[str, Any], column: int, expected: object) -> None:
    """Numbers, booleans, text and times in their usual forms become what the column holds."""
    assert only(decoded(listed(), "agent:a:experiences", json.dumps({**GOOD, **changed}).encode()))[column] == expected


@pytest.mark.parametrize(("changed", "reason", "said"), [
    ({"action": "x" * 101}, Reason.VALUE_TOO_LARGE, "action: 101 characters, the column takes 100"),
    ({"action": "a\0b"}, Reason.NUL_CHARACTER, "action: it holds the character U+0000"),
    ({"action": None}, Reason.VALUE_MISSING, "action: there is no json:/action"),
    ({"state": {"a": "\0"}}, Reason.NUL_CHARACTER, "state: it holds \\u0000"),
    ({"state": [math.nan]}, Reason.VALUE_NOT_FINITE, "state: a number in it is not finite"),
    ({"reward": "much"}, Reason.VALUE_TYPE, "reward: the text 'much' is no number"),
    ({"reward": [1]}, Reason.VALUE_TYPE, "reward: an array is no number"),
    ({"reward": "1e400"}, Reason.VALUE_TOO_LARGE, "reward: 1e400 is too large"),
    ({"done": 2}, Reason.VALUE_TYPE, "done: a whole number is neither true nor false"),
    ({"timestamp": 17}, Reason.VALUE_TYPE, "timestamp: 17 is no time"),
    ({"timestamp": "yesterday"}, Reason.VALUE_TYPE, "timestamp: 'yesterday' is no time in ISO 8601"),
])  # fmt: skip
def test_values_that_do_not_fit(changed: dict[str, Any], reason: Reason, said: str) -> None:
    """What a column cannot take is quarantined with the key, the column and the measured fact."""
    found = refusal(decoded(listed(), "agent:a:experiences", json.dumps({**GOOD, **changed}).encode()))
    assert (found.key, found.reason) == ("agent:a:experiences", reason)
    assert found.detail.startswith(said)


@pytest.mark.parametrize(("value", "reason"), [
    (b"", Reason.NOT_DECODABLE),
    (b"{", Reason.NOT_DECODABLE),
    (b'{"state": 1} {}', Reason.NOT_DECODABLE),
    (b"\xff\xfe", Reason.NOT_DECODABLE),
    (b"[" * 100_000, Reason.NOT_DECODABLE),
    (b'{"state": "\\ud800", "action": 1, "reward": 1}', Reason.NOT_DECODABLE),
    (b'{"state": "\xff", "action": 1, "reward": 1}', Reason.NOT_DECODABLE),
    (b"[1]", Reason.VALUE_MISSING),
    (b"null", Reason.VALUE_MISSING),
    *[(pickle.dumps(GOOD, protocol=number), Reason.PICKLE) for number in range(6)],
    (zlib.compress(pickle.dumps(GOOD)), Reason.PICKLE),
    (zlib.compress(json.dumps(GOOD).encode()), Reason.NOT_DECODABLE),
])  # fmt: skip
@pytest.mark.parametrize("encoding", [Encoding.JSON, Encoding.MSGPACK])
def test_bytes_that_are_something_else(encoding: Encoding, value: bytes, reason: Reason) -> None:
    """Bytes that are not what the mapping says are quarantined, pickles among them by name; none of it is ever loaded."""
    found = refusal(decoded(listed(encoding), "agent:a:experiences", value))
    assert found.reason is reason or (encoding is Encoding.MSGPACK and reason is not Reason.PICKLE)


def test_truncated_msgpack() -> None:
    """A MessagePack document that ends too early is quarantined, wherever it was cut."""
    packed = msgspec.msgpack.encode(GOOD)
    for length in range(len(packed)):
        assert refusal(decoded(listed(Encoding.MSGPACK), "agent:a:experiences", packed[:length])).reason is Reason.NOT_DECODABLE


def test_equal_elements_of_a_list_are_told_apart() -> None:
    """Equal elements are rows of their own, the same ones whatever was pushed or trimmed, in however many pieces."""
    same, other = json.dumps(GOOD).encode(), json.dumps({**GOOD, "action": "right"}).encode()
    whole = decoded(listed(), "agent:a:experiences", same, other, same)
    keys = [row.natural_key for row in whole.rows]
    assert len(set(keys)) == 3
    seen = Occurrences()
    pieces = [decoded(listed(), "agent:a:experiences", one, seen=seen).rows[0].natural_key for one in (same, other, same)]
    assert pieces == keys
    trimmed = decoded(listed(), "agent:a:experiences", other, same, json.dumps({**GOOD, "reward": 9}).encode())
    assert {row.natural_key for row in trimmed.rows[:2]} <= set(keys)
    assert trimmed.rows[2].natural_key not in keys


def test_what_identifies_a_row() -> None:
    """Key, database and element identify a row; its content and the mapping only decide whether it is written anew."""
    codec = AgentCodec(mapping_of(AgentKind.EXPERIENCES, "exp:{agent_id}:{n}", RedisType.STRING, Encoding.JSON, EXPERIENCE))
    first, second = (decoded(codec, "exp:a:1", json.dumps({**GOOD, "reward": n}).encode()).rows[0] for n in (1, 2))
    assert first.natural_key == second.natural_key
    assert first.content_hash != second.content_hash
    assert decoded(codec, "exp:a:2", json.dumps(GOOD).encode()).rows[0].natural_key != first.natural_key
    assert decoded(codec, "exp:a:1", json.dumps(GOOD).encode(), db=1).rows[0].natural_key != first.natural_key
    changed = AgentCodec(
        mapping_of(
            AgentKind.EXPERIENCES, "exp:{agent_id}:{n}", RedisType.STRING, Encoding.JSON, {**EXPERIENCE, "done": "json:/end?"}
        )
    )
    again = decoded(changed, "exp:a:1", json.dumps({**GOOD, "reward": 1}).encode()).rows[0]
    assert again.natural_key == first.natural_key
    assert again.content_hash != first.content_hash


def q_codec(**more: Any) -> AgentCodec:
    """Return the codec of a hash of actions a state."""
    columns = {"agent_id": "part:agent_id", "state": "part:state", "action": "part:action", "q_value": "value"}
    chosen = {"key": "q:{agent_id}:{state}", "type_": RedisType.HASH, "encoding": Encoding.NUMBER, "member": "{action}", **more}
    return AgentCodec(mapping_of(AgentKind.Q_VALUES, columns=columns, rows=RowsOf.FIELD, **chosen))  # type: ignore[misc]


def test_q_values_of_a_hash() -> None:
    """Each field of a hash is a row; a part at the end takes all that is left, separators too."""
    found = decoded(q_codec(), "q:a:room:3", [b"left", b"0.25", b"right", b"nan", b"up", b"x"])
    assert [row.values[:4] for row in found.rows[:1]] == [("a", "room:3", "left", 0.25)]
    assert math.isnan(float(found.rows[1].values[3] or 0))
    assert [(one.element_id, one.reason) for one in found.quarantined] == [("up", Reason.VALUE_TYPE)]


@pytest.mark.parametrize("type_", [RedisType.STRING, RedisType.JSON])
def test_q_values_of_one_document(type_: RedisType) -> None:
    """A path names the members on the way; every end of it is a row, found again when values change."""
    columns = {"agent_id": "part:agent_id", "state": "part:state", "action": "part:action", "q_value": "value"}
    codec = AgentCodec(
        mapping_of(AgentKind.Q_VALUES, "rl:{agent_id}:qtable", type_, Encoding.JSON, columns, each="/table/{state}/{action}")
    )
    before = decoded(codec, "rl:a:qtable", b'{"table": {"s/1": {"l": 1, "r": 2.5}, "s2": {"l": 3}, "s3": 4}}')
    assert [row.values[1:4] for row in before.rows] == [("s/1", "l", 1.0), ("s/1", "r", 2.5), ("s2", "l", 3.0)]
    assert [(one.element_id, one.reason) for one in before.quarantined] == [("s3", Reason.VALUE_TYPE)]
    after = decoded(codec, "rl:a:qtable", b'{"table": {"s2": {"l": 4}}}')
    assert after.rows[0].natural_key == before.rows[2].natural_key
    with pytest.raises(InvalidInput, match="many records in one value"):
        codec.encode(codec.record(after.rows[0]))


def test_experiences_of_one_array() -> None:
    """A whole buffer in one value: each element is a row, identified like a list's."""
    codec = AgentCodec(
        mapping_of(AgentKind.EXPERIENCES, "buffer:{agent_id}", RedisType.STRING, Encoding.JSON, EXPERIENCE, each="/items/*")
    )
    found = decoded(codec, "buffer:a", json.dumps({"items": [GOOD, GOOD, {"state": 1}]}).encode())
    assert len({row.natural_key for row in found.rows}) == 2
    assert [one.reason for one in found.quarantined] == [Reason.VALUE_MISSING]


def test_stream_entries() -> None:
    """An entry's id identifies it and says when; its document is in one field, or its values are fields of their own."""
    columns = {**EXPERIENCE, "timestamp": "stream-time"}
    codec = AgentCodec(
        mapping_of(AgentKind.EXPERIENCES, "rl:{agent_id}", RedisType.STREAM, Encoding.JSON, columns, document="data")
    )
    entry = (b"1700000000123-4", [b"other", b"1", b"data", json.dumps(GOOD).encode()])
    found = decoded(codec, "rl:a", entry)
    assert only(found)[6] == 1_700_000_000_123_000
    assert found.rows[0].element == "1700000000123-4"
    assert refusal(decoded(codec, "rl:a", (b"1-1", [b"other", b"1"]))).detail == "no field 'data'"
    fields = {"agent_id": "field:agent", "state": "field:state", "action": "field:action", "reward": "field:reward"}
    apart = AgentCodec(mapping_of(AgentKind.EXPERIENCES, "rl", RedisType.STREAM, Encoding.JSON, fields))
    flat = [b"agent", b"a7", b"state", b'{"x":[1]}', b"action", b"2", b"reward", b"-1.5"]
    assert only(decoded(apart, "rl", (b"1-1", flat)))[:4] == ("a7", b'{"x":[1]}', "2", -1.5)


def test_a_hash_that_is_one_row() -> None:
    """A hash's fields fill the columns; what is not mapped and the order of fields change nothing."""
    columns = {"agent_id": "part:id", "value": "value"}
    codec = AgentCodec(mapping_of(AgentKind.METADATA, "agent:{id}:state", RedisType.HASH, Encoding.RAW, columns))
    one = decoded(codec, "agent:7:state", [b"a", b"1", b"b", b"\xff"]).rows[0]
    other = decoded(codec, "agent:7:state", [b"b", b"\xff", b"a", b"1"]).rows[0]
    assert one == other
    assert json.loads(one.values[2] or b"") == {"a": "1", "b": "/w=="}


def test_scores_and_members() -> None:
    """A zset's score is a column of its own, and changes the row it belongs to; members follow their pattern."""
    columns = {"agent_id": "part:agent_id", "state": "part:state", "action": "part:action", "q_value": "score"}
    codec = AgentCodec(
        mapping_of(AgentKind.Q_VALUES, "z:{agent_id}", RedisType.ZSET, Encoding.RAW, columns, member="{state}|{action}")
    )
    before = decoded(codec, "z:a", (b"s1|left", b"1.5"), (b"odd", b"1"))
    assert before.rows[0].values[:4] == ("a", "s1", "left", 1.5)
    assert [one.detail for one in before.quarantined] == ["the member does not fit '{state}|{action}'"]
    after = decoded(codec, "z:a", (b"s1|left", b"2"))
    assert after.rows[0].natural_key == before.rows[0].natural_key
    assert after.rows[0].content_hash != before.rows[0].content_hash
    members = AgentCodec(mapping_of(AgentKind.EXPERIENCES, "s:{agent_id}", RedisType.SET, Encoding.JSON, EXPERIENCE))
    assert only(decoded(members, "s:a", json.dumps(GOOD).encode()))[2] == "left"


def test_raw_policies() -> None:
    """Opaque bytes go as they are, but no pickle does, in whatever wrapping."""
    columns = {"agent_id": "part:agent_id", "version": "part:version", "payload": "value"}
    codec = AgentCodec(mapping_of(AgentKind.POLICIES, "policy:{agent_id}:{version}", RedisType.STRING, Encoding.RAW, columns))
    weights = bytes(range(256))
    assert only(decoded(codec, "policy:a:v1", weights))[3] == weights
    for pickled in (pickle.dumps(GOOD), zlib.compress(pickle.dumps(GOOD)), b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl"):
        assert refusal(decoded(codec, "policy:a:v1", pickled)).reason is Reason.PICKLE


@pytest.mark.parametrize("key", [b"agent:\xff:experiences", b"agent:a\0:experiences", b"other"])
def test_keys_that_do_not_fit(key: bytes) -> None:
    """A key that is no text, or not of the pattern, is quarantined under its own name, not dropped."""
    assert refusal(decoded(listed(), key, b"{}")).reason is Reason.KEY_TYPE


RECORDS: Sequence[tuple[AgentCodec, AgentRecord]] = [
    (
        listed(encoding),
        AgentRecord(
            AgentKind.EXPERIENCES,
            {**GOOD, "agent_id": "a", "timestamp": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)},
        ),
    )
    for encoding in (Encoding.JSON, Encoding.MSGPACK)
] + [
    (q_codec(), AgentRecord(AgentKind.Q_VALUES, {"agent_id": "a", "state": "s:1", "action": "left", "q_value": 0.1})),
]


@pytest.mark.parametrize(("codec", "record"), RECORDS)
def test_a_record_goes_and_comes_back(codec: AgentCodec, record: AgentRecord) -> None:
    """What a record is in Redis decodes to the same record again."""
    written = codec.encode(record)
    element: Any = [written.field, written.value] if written.field is not None else written.value
    found = decoded(codec, written.key, element)
    assert found.quarantined == []
    assert codec.record(found.rows[0]) == record


def test_records_that_have_no_place() -> None:
    """A record that the mapping cannot hold is refused before anything is written, with what is wrong."""
    record = {"agent_id": "a", "state": "s", "action": "l", "q_value": 1.0}
    with pytest.raises(InvalidInput, match="has no place for visits"):
        q_codec().encode(AgentRecord(AgentKind.Q_VALUES, {**record, "visits": 1}))
    with pytest.raises(InvalidInput, match="q_value missing"):
        q_codec().encode(AgentRecord(AgentKind.Q_VALUES, {**record, "q_value": None}))
    with pytest.raises(InvalidInput, match="would not be read back"):
        q_codec().encode(AgentRecord(AgentKind.Q_VALUES, {**record, "agent_id": "a:b"}))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON_VALUES), min_size=1, max_size=12), st.booleans())
def test_the_quick_way_agrees_with_the_careful_one(documents: list[dict[str, Any]], escaped: bool) -> None:
    """Whatever documents hold, decoding them together gives what the careful way gives, values and refusals alike."""
    packed = [json.dumps({**GOOD, **one}, ensure_ascii=escaped).encode("utf-8", "surrogatepass") for one in documents]
    quick, careful = listed(), listed()
    assert careful._quick is not None
    careful._quick = None
    assert repr(decoded(quick, "agent:a:experiences", *packed)) == repr(decoded(careful, "agent:a:experiences", *packed))


FIELDS = {name: source.replace("json:/", "field:") for name, source in EXPERIENCE.items()}
CHANGED = st.dictionaries(st.sampled_from(sorted(GOOD)), JSON_VALUES | st.text() | st.binary(max_size=9))


@given(st.lists(CHANGED, min_size=1, max_size=9))
def test_the_quick_way_of_fields_agrees_with_the_careful_one(changes: list[dict[str, Any]]) -> None:
    """Whatever the fields of hashes hold, the short way gives what the careful way gives, values and refusals alike."""
    flats = [[one for pair in _fields(changed).items() for one in pair] for changed in changes]
    mapping = mapping_of(AgentKind.EXPERIENCES, "exp:{agent_id}", RedisType.HASH, Encoding.JSON, FIELDS)
    quick, careful = AgentCodec(mapping), AgentCodec(mapping)
    assert careful._quick is not None
    careful._quick = None
    pieces = [ReadPiece(0, b"exp:%d" % number, RedisType.HASH, [flat], NOW) for number, flat in enumerate(flats)]
    found = [Decoded(), Decoded()]
    for codec, into in zip((quick, careful), found, strict=True):
        codec.decode(pieces, into, Occurrences())
    assert repr(found[0]) == repr(found[1])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"left", b"right", b"x" * 101, b"\xff", b"\0", "é".encode()]),
            st.binary(max_size=12)
            | st.floats().map(lambda one: repr(one).encode())
            | st.from_regex(rb"[ _]?[0-9_]{1,5}e?[0-9]{0,4}"),
        ),
        max_size=12,
    )
)
def test_the_quick_way_of_numbers_agrees_with_the_careful_one(fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever the names and bytes of Q-values are, the short way gives what the careful way gives."""
    quick, careful = q_codec(), q_codec()
    assert careful._quick is not None
    careful._quick = None
    flat = [one for pair in fields for one in pair]
    assert repr(decoded(quick, "q:a:s", flat)) == repr(decoded(careful, "q:a:s", flat))


def _fields(changed: dict[str, Any]) -> dict[bytes, bytes]:
    fields = {name.encode(): json.dumps(value).encode() for name, value in GOOD.items()}
    for name, value in changed.items():
        plain = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        fields[name.encode()] = plain if isinstance(plain, bytes) else json.dumps(value).encode()
    return fields
