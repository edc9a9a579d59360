"""Agent state as values: what is kept of agents, in which columns, and where in Redis each column comes from.

Owns the four kinds, their columns in PostgreSQL, and a mapping with its own consistency. Knows no store and decodes nothing.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class AgentKind(StrEnum):
    """What an agent's record is."""

    EXPERIENCES = "experiences"
    Q_VALUES = "q_values"
    POLICIES = "policies"
    METADATA = "metadata"


class RedisType(StrEnum):
    """How a key is held in Redis; `json` is a RedisJSON document."""

    STRING = "string"
    LIST = "list"
    HASH = "hash"
    STREAM = "stream"
    ZSET = "zset"
    SET = "set"
    JSON = "json"


class Encoding(StrEnum):
    """What a value's bytes are."""

    JSON = "json"
    MSGPACK = "msgpack"
    NUMBER = "number"
    RAW = "raw"


class RowsOf(StrEnum):
    """What of a hash becomes a row: the whole hash, or each of its fields."""

    KEY = "key"
    FIELD = "field"


class ColumnType(StrEnum):
    """What a column holds, in PostgreSQL's words."""

    TEXT = "text"
    JSONB = "jsonb"
    FLOAT = "double precision"
    BIGINT = "bigint"
    BOOLEAN = "boolean"
    TIME = "timestamp with time zone"
    BYTES = "bytea"


@dataclass(frozen=True, slots=True)
class AgentColumn:
    """A column that a mapping fills.

    Attributes:
        name: Its name.
        type: What it holds.
        size: TEXT: the greatest number of characters; 0 is unlimited.
        required: Whether a record without it is none.
    """

    name: str
    type: ColumnType
    size: int = 0
    required: bool = False


@dataclass(frozen=True, slots=True)
class AgentTable:
    """The table of one kind, as far as mappings fill it."""

    name: str
    columns: tuple[AgentColumn, ...]

    def place(self, column: str) -> int:
        """Return a column's place in a row's values."""
        return next(place for place, one in enumerate(self.columns) if one.name == column)


_AGENT = AgentColumn("agent_id", ColumnType.TEXT, 100, required=True)
_TIME = AgentColumn("timestamp", ColumnType.TIME)

TABLES: Mapping[AgentKind, AgentTable] = {
    AgentKind.EXPERIENCES: AgentTable(
        "rl_experiences",
        (
            _AGENT,
            AgentColumn("state", ColumnType.JSONB),
            AgentColumn("action", ColumnType.TEXT, 100),
            AgentColumn("reward", ColumnType.FLOAT),
            AgentColumn("next_state", ColumnType.JSONB),
            AgentColumn("done", ColumnType.BOOLEAN),
            _TIME,
        ),
    ),
    AgentKind.Q_VALUES: AgentTable(
        "rl_q_values",
        (
            _AGENT,
            AgentColumn("state", ColumnType.TEXT, required=True),
            AgentColumn("action", ColumnType.TEXT, 100, required=True),
            AgentColumn("q_value", ColumnType.FLOAT, required=True),
            AgentColumn("visits", ColumnType.BIGINT),
            _TIME,
        ),
    ),
    AgentKind.POLICIES: AgentTable(
        "rl_policies",
        (
            _AGENT,
            AgentColumn("version", ColumnType.TEXT, 100),
            AgentColumn("policy", ColumnType.JSONB),
            AgentColumn("payload", ColumnType.BYTES),
            _TIME,
        ),
    ),
    AgentKind.METADATA: AgentTable(
        "rl_agent_metadata",
        (
            _AGENT,
            AgentColumn("name", ColumnType.TEXT, 200),
            AgentColumn("value", ColumnType.JSONB),
            _TIME,
        ),
    ),
}
"""The tables, by kind; in PostgreSQL each has the columns of `SOURCE_COLUMNS` besides."""


class Origin(StrEnum):
    """Where in Redis a column's value comes from."""

    PART = "part"
    JSON = "json"
    FIELD = "field"
    VALUE = "value"
    SCORE = "score"
    STREAM_ID = "stream-id"
    STREAM_TIME = "stream-time"
    CONST = "const"


_WITH_ARGUMENT = {Origin.PART, Origin.JSON, Origin.FIELD, Origin.CONST}


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """One column's origin.

    Attributes:
        origin: The sort of place.
        argument: PART: the named part; JSON: an RFC 6901 pointer; FIELD: the field's name; CONST: the value itself.
        optional: Whether a record may lack it; the column is NULL then.
    """

    origin: Origin
    argument: str = ""
    optional: bool = False

    @staticmethod
    def parse(text: str) -> ColumnSource:
        """Read `part:agent_id`, `json:/state`, `json:/next_state?`, `field:reward`, `value`, `score`, `const:x`, ….

        Raises:
            ValueError: It says nothing of the kind.
        """
        optional = text.endswith("?") and not text.startswith("const:")
        name, colon, argument = text.removesuffix("?" if optional else "").partition(":")
        try:
            origin = Origin(name)
        except ValueError:
            known = ", ".join(f"{one}:…" if one in _WITH_ARGUMENT else one for one in Origin)
            message = f"{text!r} is no source of a column; there are {known}"
            raise ValueError(message) from None
        if bool(colon) is not (origin in _WITH_ARGUMENT) or (colon and not argument and origin is not Origin.JSON):
            message = f"{text!r}: {origin} {'needs an argument behind a colon' if not argument else 'takes no argument'}"
            raise ValueError(message)
        if origin is Origin.JSON and argument and not argument.startswith("/"):
            message = f"{text!r}: a JSON pointer begins with a slash"
            raise ValueError(message)
        return ColumnSource(origin, argument, optional)

    def __str__(self) -> str:
        """Return it as `parse` reads it."""
        colon = f":{self.argument}" if self.origin in _WITH_ARGUMENT else ""
        return f"{self.origin}{colon}{'?' if self.optional else ''}"


Pattern = Sequence[tuple[str, str | None]]
"""Literal text and the named part behind it, in order; None where nothing follows."""


def parse_pattern(text: str) -> Pattern:
    """Read `agent:{agent_id}:experiences`; a literal brace is written twice, as in `agent:{{{agent_id}}}`.

    Raises:
        ValueError: The braces do not match, a part has no name or one twice, or nothing separates two parts.
    """
    try:
        found = [(literal, name) for literal, name, _, _ in string.Formatter().parse(text)]
    except ValueError as fault:
        message = f"{text!r} is no pattern: {fault}; a literal brace is written twice"
        raise ValueError(message) from None
    merged: list[tuple[str, str | None]] = []
    for literal, name in found:
        # The formatter ends a piece at each doubled brace.
        before = merged.pop()[0] if merged and merged[-1][1] is None else ""
        merged.append((before + literal, name))
    names = [name for _, name in merged if name is not None]
    if any(not name.isidentifier() for name in names) or len(set(names)) != len(names):
        message = f"{text!r}: each part needs a name of its own, of letters, digits and underscores"
        raise ValueError(message)
    if any(not literal for literal, _ in merged[1:]):
        message = f"{text!r}: two parts need something between them, to tell where one ends"
        raise ValueError(message)
    if not merged:
        message = "a pattern cannot be empty"
        raise ValueError(message)
    return merged


def part_names(pattern: str) -> list[str]:
    """Return the names of a pattern's parts, in order."""
    return [name for _, name in parse_pattern(pattern) if name is not None]


@dataclass(frozen=True, slots=True)
class AgentMapping:
    """How keys of one pattern become rows of one kind.

    Attributes:
        kind: What they are.
        key: The key's pattern, with named parts.
        type: The Redis type; a key of another is quarantined.
        encoding: What a value is; of a hash, what each field's value is where its column is JSON.
        columns: Where each column comes from.
        rows: Of a hash: whether it is a row, or each field is.
        member: The pattern of a hash's fields (rows of fields) or of a set's or zset's members, with named parts.
        document: Of a stream entry or a whole hash: the field that holds the encoded document.
        each: A path into the document whose every end is a row: `/{state}/{action}` names members, `/*` walks an array.
    """

    kind: AgentKind
    key: str
    type: RedisType
    encoding: Encoding
    columns: Mapping[str, ColumnSource]
    rows: RowsOf = RowsOf.KEY
    member: str | None = None
    document: str | None = None
    each: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: With every fault.
        """
        faults = [*self._faults()]
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def table(self) -> AgentTable:
        """The table of this kind."""
        return TABLES[self.kind]

    @property
    def is_per_field(self) -> bool:
        """Whether each field of a hash is a row."""
        return self.type is RedisType.HASH and self.rows is RowsOf.FIELD

    @property
    def has_fields(self) -> bool:
        """Whether a row has named fields: a whole hash, or a stream's entry."""
        return self.type is RedisType.STREAM or (self.type is RedisType.HASH and self.rows is RowsOf.KEY)

    @property
    def parts(self) -> frozenset[str]:
        """The names of everything that is a part of the key, of a member, or of the path."""
        names = {*part_names(self.key), *(part_names(self.member) if self.member else ())}
        return frozenset(names | set(each_names(self.each)))

    def _faults(self) -> Sequence[str]:
        faults = [*self._pattern_faults()]
        if faults:
            return faults
        known = {column.name for column in self.table.columns}
        faults += [f"{self.table.name} has no column {name!r}" for name in self.columns if name not in known]
        for column in self.table.columns:
            source = self.columns.get(column.name)
            if column.required and (source is None or source.optional):
                faults.append(f"{column.name} must come from somewhere, in every record")
        for name, source in self.columns.items():
            fault = self._source_fault(source)
            if fault:
                faults.append(f"{name} = {str(source)!r}: {fault}")
        return faults

    def _pattern_faults(self) -> Sequence[str]:  # one branch a rule
        faults = []
        for pattern in (self.key, self.member):
            if pattern is not None:
                try:
                    parse_pattern(pattern)
                except ValueError as fault:
                    faults.append(str(fault))
        if self.member is not None and not (self.is_per_field or self.type in {RedisType.ZSET, RedisType.SET}):
            faults.append("`member` is for hashes with rows = 'field', for sets and for zsets")
        if self.rows is RowsOf.FIELD and self.type is not RedisType.HASH:
            faults.append("rows = 'field' is for hashes")
        if self.document is not None and not self.has_fields:
            faults.append("`document` is for streams and for hashes that are one row")
        if self.each is not None and (not self.each.startswith("/") or self.type not in _DOCUMENTS or self.document):
            faults.append("`each` is a path that begins with a slash, for strings and RedisJSON documents")
        if self.type is RedisType.JSON and self.encoding is not Encoding.JSON:
            faults.append("a RedisJSON document is encoded as json")
        return faults

    def _source_fault(self, source: ColumnSource) -> str:  # noqa: PLR0911  # one return a rule
        if source.origin is Origin.PART and source.argument not in self.parts:
            return f"no such part; there are {', '.join(sorted(self.parts)) or 'none'}"
        if source.origin is Origin.FIELD and not self.has_fields:
            return "only streams, and hashes that are one row, have fields"
        if source.origin is Origin.JSON:
            if self.encoding not in {Encoding.JSON, Encoding.MSGPACK}:
                return f"a value encoded as {self.encoding} has no members"
            if self.has_fields and self.document is None:
                return "`document` must say which field holds the document; a field itself is field:NAME"
        if source.origin is Origin.SCORE and self.type is not RedisType.ZSET:
            return "only a zset has scores"
        if source.origin in {Origin.STREAM_ID, Origin.STREAM_TIME} and self.type is not RedisType.STREAM:
            return "only a stream has ids"
        return ""


_DOCUMENTS = {RedisType.STRING, RedisType.JSON}


def each_names(path: str | None) -> list[str]:
    """Return the names that a path such as `/{state}/{action}` gives to members."""
    steps = (path or "").split("/")
    return [step[1:-1] for step in steps if step.startswith("{") and step.endswith("}")]


class AgentRow(NamedTuple):
    """One row on its way to PostgreSQL.

    Attributes:
        kind: Whose table.
        db: Redis's logical database.
        key: The Redis key.
        element: What of the key, for people and for finding it again: a field, a member, a stream id, `digest#occurrence` of a
            list's element; empty where the key is the row.
        natural_key: 16 bytes that identify the row, whatever it holds.
        content_hash: 16 bytes of what it was made from and how.
        observed_at: When Redis was read, microseconds since 1970 by Redis's own clock.
        expires_at: When the key expires, in the same way; None where it does not.
        values: In the order of the table's columns: str, bytes (JSON text, or the payload), float, int, bool; times as
            microseconds since 1970; None is NULL.
    """

    kind: AgentKind
    db: int
    key: str
    element: str
    natural_key: bytes
    content_hash: bytes
    observed_at: int
    expires_at: int | None
    values: tuple[str | bytes | float | bool | None, ...]


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One record as applications hold it.

    Attributes:
        kind: What it is.
        values: Column name to value: JSON columns as Python's own values, times as aware `datetime`, payloads as bytes.
    """

    kind: AgentKind
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RedisWrite:
    """What one record is in Redis.

    Attributes:
        key: The key.
        type: Its type.
        value: STRING, LIST, JSON: the value or the element; SET, ZSET: the member; a hash of rows: the field's value.
        fields: STREAM, and a hash that is one row: the fields.
        field: A hash of rows: the field.
        score: ZSET: the score.
    """

    key: bytes
    type: RedisType
    value: bytes = b""
    fields: Mapping[bytes, bytes] | None = None
    field: bytes | None = None
    score: float | None = None
