"""A record → what it is in Redis under a mapping. Pure; decoding that again gives the same record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from segue.errors import InvalidInput
from segue.model import AgentColumn, AgentMapping, AgentRecord, ColumnType, Encoding, Origin, Reason, RedisWrite
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_quick import Columns
from segue.pipelines.agent_values import UnfitError, json_text, number, text
from segue.pipelines.json_paths import put

_WRITTEN = {Origin.PART, Origin.JSON, Origin.FIELD, Origin.VALUE, Origin.SCORE, Origin.CONST}


class RecordEncoder:
    """The way back of one mapping. Stateless; usable from several threads.

    Args:
        mapping: What becomes what.
        columns: The table's, each with where it comes from.
        key, member: What the mapping's keys look like, and its members where they are taken apart.
    """

    def __init__(self, mapping: AgentMapping, columns: Columns, key: KeyPattern, member: KeyPattern | None) -> None:
        self._mapping = mapping
        self._columns = columns
        self._pattern = key
        self._member = member

    def encode(self, record: AgentRecord) -> RedisWrite:
        """Return what a record is in Redis under this mapping. Decoding it again gives the same record.

        Times become seconds since 1970 in documents and ISO 8601 elsewhere; what Redis gives (a stream's id) is left out.

        Raises:
            InvalidInput: The mapping has no place for a column that the record fills, one that it needs is missing, or many
                records share one value of that key.
        """
        mapping = self._mapping
        if record.kind is not mapping.kind or mapping.each:
            held = "many records in one value" if mapping.each else mapping.kind
            message = f"{mapping.key!r} holds {held}, not one record of {record.kind}"
            raise InvalidInput(message)
        given = {name: value for name, value in record.values.items() if value is not None}
        homeless = sorted(given.keys() - mapping.columns.keys())
        missing = [n for n, s in mapping.columns.items() if not s.optional and n not in given and s.origin in _WRITTEN]
        if homeless or missing:
            message = f"{mapping.key!r} has no place for {', '.join(homeless)}" if homeless else f"{', '.join(missing)} missing"
            raise InvalidInput(message)
        try:
            return self._encoded(given)
        except UnfitError as refusal:
            message = f"the record does not fit {mapping.key!r}: {refusal.detail}"
            raise InvalidInput(message) from refusal

    def _encoded(self, given: Mapping[str, Any]) -> RedisWrite:  # noqa: C901, PLR0912  # one branch an origin
        mapping = self._mapping
        parts: dict[str, str] = {}
        document: dict[str, Any] = {}
        fields: dict[bytes, bytes] = {}
        value, score = b"", None
        for column, source in self._columns:
            one = given.get(column.name)
            if source is None or one is None:
                continue
            if source.origin is Origin.PART:
                parts[source.argument] = _as_text(one, column)
            elif source.origin is Origin.JSON:
                put(document, source.argument, one.timestamp() if isinstance(one, datetime) else one)
            elif source.origin is Origin.FIELD:
                fields[source.argument.encode()] = self._field_bytes(one, column)
            elif source.origin is Origin.VALUE and mapping.has_fields and mapping.document is None:
                fields |= _as_fields(one)
            elif source.origin is Origin.VALUE:
                value = self._field_bytes(one, column)
            elif source.origin is Origin.SCORE:
                score = number(one)
            elif source.origin is Origin.CONST and _as_text(one, column) != source.argument:
                raise UnfitError(Reason.VALUE_TYPE, f"{column.name} is always {source.argument!r} there")
        if any(source is not None and source.origin is Origin.JSON for _, source in self._columns):
            value = self._packed(document)
        key = self._pattern.format(parts).encode()
        member = self._member.format(parts).encode() if self._member is not None else None
        if mapping.document is not None:
            fields[mapping.document.encode()] = value
        if mapping.has_fields:
            return RedisWrite(key, mapping.type, fields=fields)
        if mapping.is_per_field:
            return RedisWrite(key, mapping.type, value, field=member)
        return RedisWrite(key, mapping.type, member if member is not None else value, score=score)

    def _packed(self, document: object) -> bytes:
        return msgspec.msgpack.encode(document) if self._mapping.encoding is Encoding.MSGPACK else json_text(document)

    def _field_bytes(self, value: Any, column: AgentColumn) -> bytes:
        if column.type is ColumnType.JSONB and self._mapping.encoding is not Encoding.RAW:
            return self._packed(value)
        if isinstance(value, bytes):
            return value
        packs = self._mapping.encoding in {Encoding.JSON, Encoding.MSGPACK} and not self._mapping.has_fields
        return self._packed(value) if packs else _as_text(value, column).encode()


def _as_fields(value: Any) -> dict[bytes, bytes]:
    """Return an object as a hash holds it: every member as text, as it comes out again."""
    if not isinstance(value, Mapping):
        raise UnfitError(Reason.VALUE_TYPE, "a hash's fields are an object's members")
    return {text(name, 0).encode(): one if isinstance(one, bytes) else text(one, 0).encode() for name, one in value.items()}


def _as_text(value: Any, column: AgentColumn) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return text(value, column.size)
