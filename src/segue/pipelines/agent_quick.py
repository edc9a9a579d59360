"""The short way from many elements to rows' values, a column at a time; gives up on whatever is unusual.

`AgentCodec` goes the careful way then, which alone says what a value is or why it does not fit; where this way returns values,
they are the same. A column is looked at as a whole: that costs a fraction of what looking at each of its values does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from math import isfinite
from operator import attrgetter
from typing import Any

import msgspec

from segue.model import AgentColumn, ColumnSource, ColumnType, Encoding, Origin
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_values import Raw, column_value, microseconds, sound_json, text

Columns = Sequence[tuple[AgentColumn, ColumnSource | None]]
Values = tuple[str | bytes | float | bool | None, ...]
_Convert = Callable[[Sequence[Any]], Sequence[Any]]
_UNUSUAL = (msgspec.DecodeError, RecursionError, ValueError, TypeError)
_SECONDS = 1e11
_EARLIEST = 1e8
_NUMERALS = b"0123456789.+-eE"


class _Rows:
    """What both ways share: columns that the key fills, and those that are filled element by element."""

    def __init__(self, columns: Columns, member_parts: Iterable[str] = ()) -> None:
        self._size = len(columns)
        self._constants: list[tuple[int, AgentColumn, str]] = []
        self._of_keys: list[tuple[int, str, _Convert]] = []
        for place, (column, source) in enumerate(columns):
            if source is not None and source.origin is Origin.CONST:
                self._constants.append((place, column, source.argument))
            elif source is not None and source.origin is Origin.PART and source.argument not in member_parts:
                convert = _texts_of(column.size) if column.type is ColumnType.TEXT else _each(column, Encoding.JSON)
                self._of_keys.append((place, source.argument, convert))

    def _together(self, parts: Sequence[Mapping[str, str]], found: dict[int, Iterable[Any]]) -> list[Values]:
        for place, argument, convert in self._of_keys:
            found[place] = convert([one[argument] for one in parts])
        for place, column, value in self._constants:
            found[place] = [column_value(column, value, Encoding.JSON)] * len(parts)
        return list(zip(*[found.get(place, repeat(None)) for place in range(self._size)], strict=False))


class QuickDocument(_Rows):
    """Rows of JSON objects whose members fill the columns, decoded without making objects of what stays JSON.

    Args:
        columns: All from members of the document, from the key's parts, or constant.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        members: list[Any] = []
        self._steps: list[tuple[int, bool, _Convert]] = []
        for place, (column, source) in enumerate(columns):
            if source is not None and source.origin is Origin.JSON:
                name = source.argument[1:].replace("~1", "/").replace("~0", "~")
                members.append((f"c{place}", _MEMBERS[column.type], msgspec.field(name=name, default=None)))
                self._steps.append((place, source.optional, _of_member(column)))
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Document", members, gc=False)).decode
        names = [name for name, *_ in members]
        get = attrgetter(*names)
        self._get: Callable[[Any], Any] = get if len(names) > 1 else lambda document: (get(document),)

    def values(self, parts: Sequence[Mapping[str, str]], documents: Iterable[Any]) -> list[Values] | None:
        """Return the values of a row each; None where the careful way must say what one of them is."""
        try:
            columns = list(zip(*map(self._get, map(self._decode, documents)), strict=True))
            found: dict[int, Iterable[Any]] = {
                place: _filled(column, optional, convert)
                for (place, optional, convert), column in zip(self._steps, columns, strict=True)
            }
            return self._together(parts, found)
        except _UNUSUAL:
            return None


class QuickFields(_Rows):
    """Rows whose columns are filled by fields, by a value of its own, or by parts of a member's name.

    Args:
        columns: All from fields, the value, parts, or constant.
        member: The pattern of members' names, where they have one.
        encoding: What a JSON column's bytes are.
    """

    def __init__(self, columns: Columns, member: KeyPattern | None, encoding: Encoding) -> None:
        names = member.names if member is not None else []
        super().__init__(columns, names)
        self._member = member
        self._fields: list[tuple[int, bytes, bool, _Convert]] = []
        self._value: list[tuple[int, bool, _Convert]] = []
        self._parts: list[tuple[int, str, _Convert]] = []
        for place, (column, source) in enumerate(columns):
            if source is None:
                continue
            if source.origin is Origin.FIELD:
                self._fields.append((place, source.argument.encode(), source.optional, _of_bytes(column, encoding)))
            elif source.origin is Origin.VALUE:
                self._value.append((place, source.optional, _of_bytes(column, encoding)))
            elif source.origin is Origin.PART and source.argument in names:
                self._parts.append((place, source.argument, _texts_of(column.size)))

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

    def of_fields(self, parts: Sequence[Mapping[str, str]], flats: Sequence[Sequence[bytes]]) -> list[Values] | None:
        """Return the values of a row each; None where the careful way must say what one of them is."""
        try:
            columns = columns_of(flats, [name for _, name, _, _ in self._fields])
            found: dict[int, Iterable[Any]] = {
                place: _filled(column, optional, convert)
                for (place, _, optional, convert), column in zip(self._fields, columns, strict=True)
            }
            return self._together(parts, found)
        except _UNUSUAL:
            return None

    def of_members(
        self, parts: Sequence[Mapping[str, str]], names: Sequence[bytes], values: Sequence[bytes]
    ) -> list[Values] | None:
        """Return the values of a row each; None where the careful way must say what one of them is."""
        try:
            found: dict[int, Iterable[Any]] = {
                place: _filled(values, optional, convert) for place, optional, convert in self._value
            }
            if self._member is not None:
                more = [one for one in map(self._member.match, map(bytes.decode, names)) if one is not None]
                if len(more) < len(names):
                    return None
                for place, argument, convert in self._parts:
                    found[place] = convert([one[argument] for one in more])
            return self._together(parts, found)
        except _UNUSUAL:
            return None


def columns_of(flats: Sequence[Sequence[bytes]], names: Sequence[bytes]) -> list[Sequence[Any]]:
    """Return the values of fields, a column a name, from flat lists [field, value, …]; None where there is no such field."""
    if len(set(map(len, flats))) == 1:
        turned = list(zip(*flats, strict=True))
        # What one program writes has the same fields in the same order, as a rule.
        if all(len(set(same)) == 1 for same in turned[::2]):
            held = {same[0]: values for same, values in zip(turned[::2], turned[1::2], strict=True)}
            return [held.get(name) or (None,) * len(flats) for name in names]
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in flats]
    return [[one.get(name) for one in fields] for name in names]


def _filled(column: Sequence[Any], optional: bool, convert: _Convert) -> Sequence[Any]:
    """Convert a column, but not what is missing.

    Raises:
        ValueError: Something is missing that may not be.
    """
    if None not in column:
        converted = convert(column)
        # JSON's null is NULL, too.
        if None in converted and not optional:
            raise ValueError
        return converted
    if not optional:
        raise ValueError
    present = iter(convert([one for one in column if one is not None]))
    return [None if one is None else next(present) for one in column]


def _texts_of(size: int) -> _Convert:
    # Actions that are numbers are few; what text they become is found out once. A number is not the equal one of another type.
    scalar = lru_cache(1024, typed=True)(lambda value: text(value, size))

    def texts(column: Sequence[Any]) -> Sequence[Any]:
        held = [one if type(one) is str else scalar(one) for one in column]
        joined = "".join(held)
        if joined.isascii() and "\0" not in joined and not (size and any(map(size.__lt__, map(len, held)))):
            return held
        return [text(one, size) for one in held]

    return texts


def _jsons(column: Sequence[Any]) -> Sequence[Any]:
    held: list[Any] = [bytes(one) for one in column]
    joined = b"".join(held)
    if not joined.isascii() or b"\\u0000" in joined:
        held = [sound_json(one) for one in held]
    return [None if one == b"null" else one for one in held] if b"null" in held else held


def _times(column: Sequence[Any]) -> Sequence[Any]:
    return [
        round(one * 1_000_000.0) if type(one) is float and _EARLIEST <= one < _SECONDS else microseconds(one) for one in column
    ]


def _as_they_are(column: Sequence[Any]) -> Sequence[Any]:
    return column


def _each(column: AgentColumn, encoding: Encoding) -> _Convert:
    return lambda values: [column_value(column, one, encoding) for one in values]


def _of_member(column: AgentColumn) -> _Convert:
    if column.type is ColumnType.TEXT:
        return _texts_of(column.size)
    if column.type is ColumnType.BIGINT:
        return _each(column, Encoding.JSON)
    return {ColumnType.JSONB: _jsons, ColumnType.TIME: _times}.get(column.type, _as_they_are)


_MEMBERS: Mapping[ColumnType, Any] = {
    ColumnType.TEXT: str | int | float | bool | None,
    ColumnType.JSONB: Raw,
    ColumnType.FLOAT: float | None,
    ColumnType.BIGINT: int | None,
    ColumnType.BOOLEAN: bool | None,
    ColumnType.TIME: str | int | float | None,
}

_decode_raw = msgspec.json.Decoder(Raw).decode


def _of_bytes(column: AgentColumn, encoding: Encoding) -> _Convert:
    if column.type is ColumnType.JSONB:
        return lambda values: _jsons(list(map(_decode_raw, values)))
    if column.type is ColumnType.FLOAT:
        return _floats
    if column.type is ColumnType.BOOLEAN:
        return lambda values: [_BOOLEANS[one] if one in _BOOLEANS else column_value(column, one, encoding) for one in values]
    if column.type is ColumnType.TEXT:
        texts = _texts_of(column.size)
        return lambda values: texts([one.decode() for one in values])
    if column.type is ColumnType.TIME:
        return lambda values: [_moment_of(column, one, encoding) for one in values]
    return _each(column, encoding)


def _moment_of(column: AgentColumn, value: bytes, encoding: Encoding) -> Any:
    if value[:1].isdigit() and b"-" not in value and not value.translate(None, _NUMERALS):
        found = float(value)
        if _EARLIEST <= found < _SECONDS:
            return round(found * 1_000_000.0)
    return column_value(column, value, encoding)


_BOOLEANS = {b"true": True, b"false": False, b"True": True, b"False": False, b"1": True, b"0": False}


def _floats(column: Sequence[bytes]) -> list[float]:
    found = list(map(float, column))
    # Python takes underscores and spaces, and makes infinity of what is too large; the careful way tells them apart.
    if b"".join(column).translate(None, _NUMERALS) or not all(map(isfinite, found)):
        message = "a number that needs a closer look"
        raise ValueError(message)
    return found
