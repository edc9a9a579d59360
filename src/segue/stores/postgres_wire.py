"""Rows as PostgreSQL's COPY takes them in binary: what the server need not parse, this process need not print.

JSON travels as its text, which JSONB's binary form allows. Knows columns and bytes, no connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

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
_head = struct.Struct(">HI16sI16s").pack
_source = struct.Struct(">IiI").pack
_TRUE, _FALSE = b"\0\0\0\1\1", b"\0\0\0\1\0"


def block(table: AgentTable, rows: Sequence[AgentRow]) -> bytes:
    """Return rows as the inside of a binary COPY into `SOURCE_COLUMNS` and the table's columns; no signature, no end."""
    writers = [_WRITERS[column.type] for column in table.columns]
    fields = len(SOURCE_COLUMNS) + len(writers)
    pieces: list[bytes] = []
    add, extend = pieces.append, pieces.extend
    known: tuple[object, ...] = ()
    origin = b""
    for _, db, key, _, natural_key, content_hash, observed, expires, values in rows:
        # Rows of one reading have this in common.
        if known != (db, key, observed, expires):
            known = (db, key, observed, expires)
            encoded = key.encode()
            ends = _NULL if expires is None else _whole(8, expires - _TO_2000)
            origin = b"".join((_source(4, db, len(encoded)), encoded, _whole(8, observed - _TO_2000), ends))
        add(_head(fields, 16, natural_key, 16, content_hash))
        add(origin)
        extend([_NULL if value is None else write(value) for write, value in zip(writers, values, strict=True)])
    return b"".join(pieces)


def _text_field(value: str) -> bytes:
    encoded = value.encode()
    return _size(len(encoded)) + encoded


def _json_field(value: bytes) -> bytes:
    return _json(len(value) + 1, 1) + value


def _bytes_field(value: bytes) -> bytes:
    return _size(len(value)) + value


def _float_field(value: float) -> bytes:
    return _float(8, value)


def _whole_field(value: int) -> bytes:
    return _whole(8, value)


def _time_field(value: int) -> bytes:
    return _whole(8, value - _TO_2000)


def _boolean_field(value: bool) -> bytes:
    return _TRUE if value else _FALSE


_WRITERS: dict[ColumnType, Callable[..., bytes]] = {
    ColumnType.TEXT: _text_field,
    ColumnType.JSONB: _json_field,
    ColumnType.FLOAT: _float_field,
    ColumnType.BIGINT: _whole_field,
    ColumnType.BOOLEAN: _boolean_field,
    ColumnType.TIME: _time_field,
    ColumnType.BYTES: _bytes_field,
}
