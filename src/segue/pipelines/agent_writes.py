"""Record → the Redis command that writes it, and the row it is in PostgreSQL: the one a copy would make of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from segue.errors import DataError, InvalidInput
from segue.model import AgentMapping, AgentRecord, AgentRow, Origin, RedisType, RedisWrite
from segue.pipelines.agent_codec import AgentCodec, Decoded
from segue.pipelines.agent_elements import Occurrences
from segue.pipelines.agent_values import UnfitError, text
from segue.ports import AgentWrite, Noted, ReadPiece

RECENT = 1_000
"""How far back an element may have an equal that bears the library's own time in microseconds."""

_SOME_ID = b"1700000000000-0"
"""Stands for the id that Redis will give to an element of a stream, to see whether the rest of it fits."""

_ELEMENT = msgspec.msgpack.Encoder().encode
_SAMPLED = {RedisType.LIST, RedisType.STREAM, RedisType.SET, RedisType.ZSET}


@dataclass(frozen=True, slots=True)
class AgentLayout:
    """One mapping as the library writes and reads it.

    Attributes:
        codec: The mapping, both ways.
        pushes_left: LIST: whether new elements are pushed at the left end.
        most: LIST: how many elements are kept; 0 keeps all.
    """

    codec: AgentCodec
    pushes_left: bool = False
    most: int = 0

    @property
    def mapping(self) -> AgentMapping:
        """The mapping."""
        return self.codec.mapping

    @property
    def is_per_agent(self) -> bool:
        """Whether an agent has keys of its own."""
        source = self.mapping.columns.get("agent_id")
        return source is not None and source.origin is Origin.PART and f"{{{source.argument}}}" in self.mapping.key

    def write(self, record: AgentRecord, db: int, *, lifetime_ms: int = 0, is_timed: bool = False) -> AgentWrite:
        """Return how a record is written.

        Args:
            record: The record.
            db: The logical database.
            lifetime_ms: In how many milliseconds its key expires; 0 leaves that as it is.
            is_timed: Whether it bears the library's own time, so that only a recent element can be equal to it.

        Raises:
            InvalidInput: The mapping has no place for it, or PostgreSQL could not hold what it would be.
        """
        held = self.codec.encode(record)
        command, arguments, element = self._command(held)
        if lifetime_ms and self.mapping.type not in _WHOLES:
            message = f"{self.mapping.key!r}: a lifetime is the key's, and this key holds many records"
            raise InvalidInput(message)
        write = AgentWrite(
            record.kind,
            held.key,
            held.type,
            command,
            arguments,
            element,
            replaces=held.type is RedisType.HASH and held.field is None,
            most=self.most if held.type is RedisType.LIST else 0,
            lifetime_ms=lifetime_ms,
            window=RECENT if is_timed else 0,
        )
        try:
            self.row(write.key, write.element, db, Noted(1, stream_id=_SOME_ID, score=str(held.score).encode()))
        except DataError as refusal:
            message = f"the record does not fit {self.mapping.key!r}: {refusal.message}"
            raise InvalidInput(message) from refusal
        return write

    def remove(self, conditions: Mapping[str, object], db: int) -> AgentWrite:
        """Return how the record with these values is removed.

        Raises:
            InvalidInput: They do not say which one, or records of this mapping cannot be removed one by one.
        """
        key, member = self.place(conditions)
        if self.mapping.type in {RedisType.LIST, RedisType.STREAM} or self.mapping.each:
            message = f"{self.mapping.key!r} holds records that cannot be removed one by one"
            raise InvalidInput(message)
        commands = {RedisType.HASH: "HDEL", RedisType.ZSET: "ZREM", RedisType.SET: "SREM"}
        if self.mapping.type in _WHOLES and not self.mapping.is_per_field:
            command = "DEL"
            arguments: tuple[bytes, ...] = ()
        elif member is None:
            message = f"{self.mapping.key!r} holds many records; say which one"
            raise InvalidInput(message)
        else:
            command, arguments = commands[self.mapping.type], (member,)
        name = self.codec.natural_key(db, key, member)
        return AgentWrite(self.mapping.kind, key, self.mapping.type, command, arguments, b"", removed=name)

    def place(self, conditions: Mapping[str, object]) -> tuple[bytes, bytes | None]:
        """Return the key where records with these values are, and the field or member where they say which.

        Raises:
            InvalidInput: They do not say which key.
        """
        parts: dict[str, str] = {}
        for name, source in self.mapping.columns.items():
            if source.origin is Origin.PART and conditions.get(name) is not None:
                parts[source.argument] = _text(conditions[name])
        key = self.codec.pattern.format(parts).encode()
        member = self.codec.member
        known = member is not None and all(part in parts for part in member.names)
        return key, member.format(parts).encode() if member is not None and known else None

    def sampled_key(self, agent_id: str | None) -> bytes:
        """Return the key that holds the experiences to draw from.

        Raises:
            InvalidInput: There is none: an agent must be named, or must not, or each experience has a key of its own.
        """
        if self.mapping.type not in _SAMPLED:
            message = f"{self.mapping.key!r} holds one experience a key; drawing from them would read every key of Redis"
            raise InvalidInput(message, hint="Sampling needs a list, a stream, a set or a zset.")
        if self.is_per_agent is not (agent_id is not None):
            message = (
                f"{self.mapping.key!r} is {'one key an agent: say which' if agent_id is None else 'one key for all agents'}"
            )
            raise InvalidInput(message)
        return self.place({"agent_id": agent_id})[0]

    def row(self, key: bytes, element: bytes, db: int, noted: Noted) -> AgentRow:
        """Return the row that a written element is.

        Raises:
            DataError: It is none that PostgreSQL can hold, or none under this mapping any more.
        """
        value: Any = msgspec.msgpack.decode(element)
        type_ = self.mapping.type
        if type_ is RedisType.STREAM:
            value = (noted.stream_id, value)
        elif type_ is RedisType.ZSET:
            value = (value, noted.score)
        seen = Occurrences()
        if type_ is RedisType.LIST:
            seen.begin(value, noted.equals)
        decoded = Decoded()
        piece = ReadPiece(db, key, type_, (value,), noted.observed_at, noted.expires_at, begins=False)
        self.codec.decode([piece], decoded, seen)
        if decoded.rows:
            return decoded.rows[0]
        refused = decoded.quarantined[0] if decoded.quarantined else None
        message = f"{refused.reason.value}: {refused.detail}" if refused else "it is no record of this mapping"
        raise DataError(message)

    def rows(self, piece: ReadPiece) -> list[AgentRow]:
        """Return the rows of what was read; what is none is left out."""
        decoded = Decoded()
        self.codec.decode([piece], decoded, Occurrences())
        return decoded.rows

    def _command(  # noqa: PLR0911  # one return a type
        self, held: RedisWrite
    ) -> tuple[str, tuple[bytes, ...], bytes]:
        """Return a command, its arguments, and the packed element."""
        if held.type is RedisType.STRING:
            return "SET", (held.value,), _ELEMENT(held.value)
        if held.type is RedisType.LIST:
            return "LPUSH" if self.pushes_left else "RPUSH", (held.value,), _ELEMENT(held.value)
        if held.type is RedisType.SET:
            return "SADD", (held.value,), _ELEMENT(held.value)
        if held.type is RedisType.ZSET:
            return "ZADD", (repr(held.score).encode(), held.value), _ELEMENT(held.value)
        if held.type is RedisType.STREAM or (held.type is RedisType.HASH and held.field is None):
            flat = [one for pair in sorted((held.fields or {}).items()) for one in pair]
            if not flat:
                message = f"{self.mapping.key!r}: a record without fields cannot be kept"
                raise InvalidInput(message)
            if held.type is RedisType.STREAM:
                return "XADD", (b"*", *flat), _ELEMENT(flat)
            return "HSET", tuple(flat), _ELEMENT(flat)
        if held.type is RedisType.HASH and held.field is not None:
            return "HSET", (held.field, held.value), _ELEMENT([held.field, held.value])
        message = f"{self.mapping.key!r}: the library does not write keys of type {held.type}"
        raise InvalidInput(message)


_WHOLES = {RedisType.STRING, RedisType.HASH, RedisType.JSON}


def layout_of(layouts: Sequence[AgentLayout], key: bytes) -> AgentLayout | None:
    """Return the first one that takes a key."""
    name = key.decode("utf-8", "backslashreplace")
    return next((one for one in layouts if one.codec.pattern.match(name) is not None), None)


def _text(value: object) -> str:
    try:
        return text(value, 0)
    except UnfitError as refusal:
        raise InvalidInput(refusal.detail) from refusal
