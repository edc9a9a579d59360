"""The short way from a record to a row's values, for what records usually are; gives up on whatever is unusual.

`AgentCodec` goes the careful way then, which alone says what a value is or why it does not fit; where this way returns values,
they are the same. What a mapping takes from the key is put in place once for all elements of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from segue.model import AgentColumn, ColumnSource, ColumnType, Encoding, Origin
from segue.pipelines.agent_values import Raw, UnfitError, column_value, microseconds, sound_json, text

Columns = Sequence[tuple[AgentColumn, ColumnSource | None]]
Values = tuple[str | bytes | float | bool | None, ...]

_SECONDS = 1e11
_EARLIEST = 1e8


class QuickDocument:
    """Rows of JSON objects whose members fill the columns, decoded at once, without objects for what stays JSON.

    Args:
        columns: All from members of the document, from the key's parts, or constant.
    """

    def __init__(self, columns: Columns) -> None:
        self._size, self._told = len(columns), _told_by_the_key(columns)
        members: list[Any] = []
        self._steps: list[tuple[int, bool, Callable[[Any], Any] | None]] = []
        for place, (column, source) in enumerate(columns):
            if source is not None and source.origin is Origin.JSON:
                name = source.argument[1:].replace("~1", "/").replace("~0", "~")
                kind, convert = _MEMBERS[column.type]
                members.append((f"c{place}", kind, msgspec.field(name=name, default=None)))
                self._steps.append(
                    (place, source.optional, _text_of(column.size) if column.type is ColumnType.TEXT else convert)
                )
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Document", members, gc=False)).decode
        names = [name for name, *_ in members]
        get = attrgetter(*names)
        self._get: Callable[[Any], Any] = get if len(names) > 1 else lambda document: (get(document),)

    def template(self, parts: Mapping[str, str]) -> list[Any] | None:
        """Return a row with what comes from the key in place; None where that does not fit."""
        return _template(self._size, self._told, parts)

    def values(self, template: list[Any], value: bytes) -> Values | None:
        """Return a row's values; None where the careful way must say what they are."""
        try:
            found = self._get(self._decode(value))
            row = template.copy()
            for (place, optional, convert), one in zip(self._steps, found, strict=True):
                held = one if one is None or convert is None else convert(one)
                if held is None and not optional:
                    return None
                row[place] = held
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None
        return tuple(row)


class QuickFields:
    """Rows whose columns are filled by fields, by a value of its own, or by parts of a member's name.

    Args:
        columns: All from fields, the value, parts, or constant.
        member_parts: Which parts come from a member's name.
        encoding: What a JSON column's bytes are.
    """

    def __init__(self, columns: Columns, member_parts: frozenset[str], encoding: Encoding) -> None:
        self._size = len(columns)
        self._told = [one for one in _told_by_the_key(columns) if not (one[3] and one[2] in member_parts)]
        self._fields: list[tuple[int, bytes, bool, Callable[[bytes], Any]]] = []
        self._value: list[tuple[int, bool, Callable[[bytes], Any]]] = []
        self._parts: list[tuple[int, str, Callable[[str], Any]]] = []
        for place, (column, source) in enumerate(columns):
            if source is None:
                continue
            if source.origin is Origin.FIELD:
                self._fields.append((place, source.argument.encode(), source.optional, _of_bytes(column, encoding)))
            elif source.origin is Origin.VALUE:
                self._value.append((place, source.optional, _of_bytes(column, encoding)))
            elif source.origin is Origin.PART and source.argument in member_parts:
                self._parts.append((place, source.argument, _text_of(column.size)))

    @staticmethod
    def fits(columns: Columns, encoding: Encoding) -> bool:
        """Say whether columns can be filled this way."""
        if encoding not in {Encoding.JSON, Encoding.NUMBER}:
            return False
        used = [(column, source) for column, source in columns if source is not None]
        simple = {Origin.PART, Origin.CONST, Origin.FIELD, Origin.VALUE}
        return all(
            source.origin in simple
            and column.type is not ColumnType.BYTES
            and (source.origin is not Origin.PART or column.type is ColumnType.TEXT)
            # A value that is a document is decoded first; a number is a number in every encoding.
            and (source.origin is not Origin.VALUE or (encoding is Encoding.NUMBER and column.type is ColumnType.FLOAT))
            and (source.origin is not Origin.FIELD or encoding is Encoding.JSON or column.type is not ColumnType.JSONB)
            for column, source in used
        )

    def template(self, parts: Mapping[str, str]) -> list[Any] | None:
        """Return a row with what comes from the key in place; None where that does not fit."""
        return _template(self._size, self._told, parts)

    def of_fields(self, template: list[Any], fields: Mapping[bytes, bytes]) -> Values | None:
        """Return a row's values; None where the careful way must say what they are."""
        row = template.copy()
        try:
            for place, name, optional, convert in self._fields:
                found = fields.get(name)
                held = None if found is None else convert(found)
                if held is None and not optional:
                    return None
                row[place] = held
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None
        return tuple(row)

    def of_value(self, template: list[Any], value: bytes, parts: Mapping[str, str]) -> Values | None:
        """Return a row's values; None where the careful way must say what they are."""
        row = template.copy()
        try:
            for place, optional, convert in self._value:
                held = convert(value)
                if held is None and not optional:
                    return None
                row[place] = held
            for place, name, to_text in self._parts:
                row[place] = to_text(parts[name])
        except (msgspec.DecodeError, RecursionError, ValueError):
            return None
        return tuple(row)


_Told = tuple[int, AgentColumn, str, bool, Callable[[Any], Any] | None]


def _told_by_the_key(columns: Columns) -> list[_Told]:
    """Return what is the same for every element of a key: where it goes, what it is, how it becomes text."""
    return [
        (place, column, source.argument, source.origin is Origin.PART, _text_of(column.size) if _is_text(column) else None)
        for place, (column, source) in enumerate(columns)
        if source is not None and source.origin in {Origin.PART, Origin.CONST}
    ]


def _template(size: int, told: Sequence[_Told], parts: Mapping[str, str]) -> list[Any] | None:
    row: list[Any] = [None] * size
    try:
        for place, column, argument, is_part, to_text in told:
            value = parts[argument] if is_part else argument
            row[place] = column_value(column, value, Encoding.JSON) if to_text is None else to_text(value)
    except UnfitError:
        return None
    return row


def _is_text(column: AgentColumn) -> bool:
    return column.type is ColumnType.TEXT


def _text_of(size: int) -> Callable[[Any], str]:
    def to_text(value: Any) -> str:
        if type(value) is str and value.isascii() and len(value) <= (size or len(value)) and "\0" not in value:
            return value
        return text(value, size)

    return to_text


def _json_of(slice_: Any) -> bytes | None:
    held = bytes(slice_)
    if held == b"null":
        return None
    return held if held.isascii() and b"\\u0000" not in held else sound_json(held)


def _time_of(value: Any) -> int:
    if type(value) is float and _EARLIEST <= value < _SECONDS:
        return round(value * 1_000_000.0)
    return microseconds(value)


_BIGINT = AgentColumn("", ColumnType.BIGINT)


def _whole_of(value: int) -> Any:
    return column_value(_BIGINT, value, Encoding.JSON)


_MEMBERS: Mapping[ColumnType, tuple[Any, Callable[[Any], Any] | None]] = {
    ColumnType.TEXT: (str | int | float | bool | None, None),
    ColumnType.JSONB: (Raw, _json_of),
    ColumnType.FLOAT: (float | None, None),
    ColumnType.BIGINT: (int | None, _whole_of),
    ColumnType.BOOLEAN: (bool | None, None),
    ColumnType.TIME: (str | int | float | None, _time_of),
}

_decode_raw = msgspec.json.Decoder(Raw).decode


def _of_bytes(column: AgentColumn, encoding: Encoding) -> Callable[[bytes], Any]:
    if column.type is ColumnType.JSONB:
        return lambda value: _json_of(_decode_raw(value))
    if column.type is ColumnType.FLOAT:
        return _float_of
    if column.type is ColumnType.BOOLEAN:
        return lambda value: _BOOLEANS[value] if value in _BOOLEANS else column_value(column, value, encoding)
    if column.type is ColumnType.TEXT:
        to_text = _text_of(column.size)
        return lambda value: to_text(value.decode())
    if column.type is ColumnType.TIME:
        return lambda value: _moment_of(column, value, encoding)
    return lambda value: column_value(column, value, encoding)


def _moment_of(column: AgentColumn, value: bytes, encoding: Encoding) -> Any:
    if value[:1].isdigit() and b"-" not in value:
        found = _float_of(value)
        if _EARLIEST <= found < _SECONDS:
            return round(found * 1_000_000.0)
    return column_value(column, value, encoding)


_BOOLEANS = {b"true": True, b"false": False, b"True": True, b"False": False, b"1": True, b"0": False}


def _float_of(value: bytes) -> float:
    found = float(value)
    # Python takes underscores and spaces, and makes infinity of what is too large; the careful way tells them apart.
    if found - found != 0 or b"_" in value or value.strip() != value:
        message = "a number that needs a closer look"
        raise ValueError(message)
    return found
