"""Rows as PostgreSQL's COPY takes them in binary: what the server need not parse, this process need not print.

JSON travels as its text, which JSONB's binary form allows. Knows columns and bytes, no connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import add
from typing import Any

from segue.model import AgentRow, AgentTable, ColumnType

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
END = b"\xff\xff"

SOURCE_COLUMNS = ("natural_key", "content_hash", "source_db", "source_key", "observed_at", "expires_at")
"""What every table has besides what mappings fill; in this order, before the others, on the wire."""

_NULL = b"\xff\xff\xff\xff"
_TO_2000 = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000."""

_size = struct.Struct(">I").pack
_float = struct.Struct(">Id").pack
_whole = struct.Struct(">Iq").pack
_json = struct.Struct(">IB").pack
_head = struct.Struct(">HI16sI16sIiI").pack
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"


def block(table: AgentTable, rows: Sequence[AgentRow]) -> bytes:
    """Return rows as the inside of a binary COPY into `SOURCE_COLUMNS` and the table's columns; no signature, no end."""
    if not rows:
        return b""
    _, dbs, keys, _, naturals, contents, observed, expires, values = zip(*rows, strict=True)
    number, fields = len(rows), len(SOURCE_COLUMNS) + len(table.columns)
    names = list(map(str.encode, keys))
    # A column at a time: what a row is made of is put together in the end, by one walk over all of it.
    pieces: list[Iterable[bytes]] = [
        [
            _head(fields, 16, natural, 16, content, 4, db, len(name))
            for natural, content, db, name in zip(naturals, contents, dbs, names, strict=True)
        ],
        names,
        _times(observed) if len(set(observed)) > 1 else repeat(_whole(8, observed[0] - _TO_2000), number),
        _filled(_times, expires) if any(expires) else repeat(_NULL, number),
    ]
    for column, held in zip(table.columns, zip(*values, strict=True), strict=True):
        pieces.append(_filled(_WRITERS[column.type], held))
    return b"".join(chain.from_iterable(zip(*pieces, strict=True)))


def _filled(write: _Writer, values: Sequence[Any]) -> Iterable[bytes]:
    if None not in values:
        return write(values)
    present = iter(write([one for one in values if one is not None]))
    return [_NULL if one is None else next(present) for one in values]


def _texts(values: Sequence[str]) -> Iterable[bytes]:
    return _sized(list(map(str.encode, values)))


def _sized(values: Sequence[bytes]) -> Iterable[bytes]:
    return map(add, map(_size, map(len, values)), values)


def _jsons(values: Sequence[bytes]) -> Iterable[bytes]:
    return [_json(len(value) + 1, 1) + value for value in values]


def _floats(values: Sequence[float]) -> Iterable[bytes]:
    return map(_float, repeat(8), values)


def _wholes(values: Sequence[int]) -> Iterable[bytes]:
    return map(_whole, repeat(8), values)


def _times(values: Sequence[int]) -> Iterable[bytes]:
    return [_whole(8, value - _TO_2000) for value in values]


def _booleans(values: Sequence[bool]) -> Iterable[bytes]:
    return [_TRUE if value else _FALSE for value in values]


_Writer = Callable[[Sequence[Any]], Iterable[bytes]]

_WRITERS: dict[ColumnType, _Writer] = {
    ColumnType.TEXT: _texts,
    ColumnType.JSONB: _jsons,
    ColumnType.FLOAT: _floats,
    ColumnType.BIGINT: _wholes,
    ColumnType.BOOLEAN: _booleans,
    ColumnType.TIME: _times,
    ColumnType.BYTES: _sized,
}
