"""Redis key ↔ PostgreSQL row: what a mapping makes of keys, and what of a record goes back into Redis. Pure.

Every element of a key comes out exactly once, as a row or as quarantined. `agent_elements` tells what an element is; its values
are found the short way of `agent_quick` or the careful one of `agent_rows`; `agent_encoding` is the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from operator import add
from typing import Any, TypeVar

import xxhash

from segue.model import (
    AgentMapping,
    AgentRecord,
    AgentRow,
    ColumnType,
    Encoding,
    Origin,
    Quarantined,
    Reason,
    RedisType,
    RedisWrite,
)
from segue.pipelines.agent_elements import Elements, Occurrences, Told, shown_equal
from segue.pipelines.agent_encoding import RecordEncoder
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_quick import QuickDocument, QuickFields, Values, columns_of
from segue.pipelines.agent_rows import CarefulRows
from segue.pipelines.agent_values import UnfitError, json_value, moment
from segue.pipelines.json_paths import is_member
from segue.ports import ReadPiece

T = TypeVar("T")

_DECODED_TOGETHER = 500
_FEW = 4
"""Elements that are looked at one by one when one of them is unusual."""


@dataclass(slots=True)
class Decoded:
    """What keys came to; grows while they are decoded."""

    rows: list[AgentRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


class AgentCodec:
    """One mapping, both ways. Stateless; usable from several threads.

    Args:
        mapping: What becomes what.
    """

    def __init__(self, mapping: AgentMapping) -> None:
        self.mapping = mapping
        self.pattern = KeyPattern(mapping.key)
        self.member = KeyPattern(mapping.member) if mapping.member else None
        self._columns = [(column, mapping.columns.get(column.name)) for column in mapping.table.columns]
        self._elements = Elements(mapping)
        self._careful = CarefulRows(mapping, self._columns, self.member)
        self._encoder = RecordEncoder(mapping, self._columns, self.pattern, self.member)
        fits = not mapping.each and mapping.document is None and QuickFields.fits(self._columns, mapping.encoding)
        is_hash = mapping.type in {RedisType.HASH, RedisType.STREAM}
        self._quick: QuickDocument | QuickFields | None = None
        if self._is_plain_json():
            self._quick = QuickDocument(self._columns)
        elif fits and is_hash:
            self._quick = QuickFields(self._columns, self.member, mapping.encoding)

    def decode(self, pieces: Iterable[ReadPiece], into: Decoded, seen: Occurrences) -> None:
        """Make rows of keys' elements, or quarantine them. Many at once cost a fraction of one at a time.

        Args:
            pieces: Keys, or pieces of them, in order.
            into: Takes rows and quarantined ones.
            seen: The same one for all pieces of a list or an array; begins anew with every key.
        """
        kept: list[ReadPiece] = []
        keys: list[str] = []
        parts: list[Mapping[str, str]] = []
        one_by_one: list[Told] = []
        for read in pieces:
            fitting = self._fitting(read, into)
            if fitting is not None:
                kept.append(read)
                keys.append(fitting[0])
                parts.append(fitting[1])
                if self._elements.count_equals:
                    if read.begins:
                        seen.counts.clear()
                    one_by_one.append(self._elements.tell(read.elements, seen))
        if self._elements.count_equals:
            counts = [len(one.elements) for one in one_by_one]
            told = Told(*(list(chain.from_iterable(column)) for column in zip(*one_by_one, strict=True))) if kept else None
        else:
            per_field = self.mapping.is_per_field
            counts = [sum(len(flat) // 2 for flat in read.elements) if per_field else len(read.elements) for read in kept]
            told = self._elements.tell([one for read in kept for one in read.elements], seen)
        if told is not None and told.elements:
            self._make_rows(kept, _spread(keys, counts), _spread(parts, counts), counts, told, into)

    def _fitting(self, read: ReadPiece, into: Decoded) -> tuple[str, Mapping[str, str]] | None:
        """Return a key as text with its parts; quarantine what is none of this mapping."""
        try:
            key = read.key.decode()
        except UnicodeDecodeError:
            shown = read.key.decode("utf-8", "backslashreplace")
            into.quarantined.append(Quarantined("", shown, Reason.KEY_TYPE, "the key is not UTF-8 text"))
            return None
        parts = self.pattern.match(key)
        if parts is None or "\0" in key:
            detail = f"the key does not fit {self.mapping.key!r}" if parts is None else "the key holds the character U+0000"
            into.quarantined.append(Quarantined("", key, Reason.KEY_TYPE, detail))
            return None
        if read.actual is not None:
            detail = f"it is a {read.actual}, the mapping says {read.type}"
            into.quarantined.append(Quarantined("", key, Reason.REDIS_TYPE, detail))
            return None
        return key, parts

    def _make_rows(
        self,
        kept: Sequence[ReadPiece],
        keys: Sequence[str],
        parts: Sequence[Mapping[str, str]],
        counts: Sequence[int],
        told: Told,
        into: Decoded,
    ) -> None:
        natural = xxhash.xxh3_128_digest
        prefixes = _spread([b"%d\0%b\0" % (read.db, read.key) for read in kept], counts)
        values = self._values(parts, told.elements)
        columns = (
            repeat(self.mapping.kind),
            _spread([read.db for read in kept], counts),
            keys,
            told.names or repeat(""),
            map(natural, map(add, prefixes, told.identities)),
            told.contents,
            _spread([read.observed_at for read in kept], counts),
            _spread([read.expires_at for read in kept], counts),
            values,
        )
        # The named tuple's own constructor takes twice as long.
        new = tuple.__new__
        if UnfitError not in set(map(type, values)):
            into.rows += [new(AgentRow, row) for row in zip(*columns, strict=False)]
            return
        for row, identity in zip(zip(*columns, strict=False), told.identities, strict=True):
            if isinstance(row[-1], UnfitError):
                name = row[3] or (shown_equal(identity) if identity else "")
                into.quarantined.append(Quarantined(name, row[2], row[-1].reason, row[-1].detail))
            else:
                into.rows.append(new(AgentRow, row))

    def encode(self, record: AgentRecord) -> RedisWrite:
        """See `RecordEncoder.encode`."""
        return self._encoder.encode(record)

    def natural_key(self, db: int, key: bytes, member: bytes | None) -> bytes:
        """Return what identifies the row of a key, or of one of its fields or members; not of lists and documents."""
        return self._elements.natural_key(db, key, member)

    def record(self, row: AgentRow) -> AgentRecord:
        """Return a row as applications hold it; columns that are NULL are left out."""
        values: dict[str, object] = {}
        for (column, _), value in zip(self._columns, row.values, strict=True):
            if value is None:
                continue
            if column.type is ColumnType.JSONB and isinstance(value, bytes):
                values[column.name] = json_value(value)
            else:
                values[column.name] = moment(value) if column.type is ColumnType.TIME and isinstance(value, int) else value
        return AgentRecord(row.kind, values)

    # Values of rows: all at once where they are what they usually are.

    def _values(self, parts: Sequence[Mapping[str, str]], elements: Sequence[Any]) -> Sequence[Values | UnfitError]:
        quick = self._quickly(parts, elements)
        if quick is not None:
            return quick
        half = len(elements) // 2
        if self._quick is None or half < _FEW:
            return [self._careful.values(*one) for one in zip(parts, elements, strict=True)]
        # What is unusual about one is not to make all of them slow.
        return [*self._values(parts[:half], elements[:half]), *self._values(parts[half:], elements[half:])]

    def _quickly(self, parts: Sequence[Mapping[str, str]], elements: Sequence[Any]) -> Sequence[Values] | None:
        quick, document = self._quick, self.mapping.document
        if quick is None:
            return None
        if isinstance(quick, QuickFields) and self.mapping.is_per_field:
            return quick.of_members(parts, *zip(*elements, strict=True))
        taken = [flat for _, flat in elements] if self.mapping.type is RedisType.STREAM else elements
        if isinstance(quick, QuickFields):
            return quick.of_fields(parts, taken)
        return quick.values(parts, taken if document is None else columns_of(taken, [document.encode()])[0])

    def _is_plain_json(self) -> bool:
        mapping = self.mapping
        if (
            mapping.encoding is not Encoding.JSON
            or mapping.each
            or mapping.member
            or (mapping.has_fields and not mapping.document)
        ):
            return False
        used = list(mapping.columns.values())
        plain = all(one.origin in {Origin.PART, Origin.CONST, Origin.JSON} for one in used)
        members = [one for one in used if one.origin is Origin.JSON]
        opaque = any(column.type is ColumnType.BYTES for column, source in self._columns if source is not None)
        return plain and bool(members) and not opaque and all(is_member(one.argument) for one in members)


def in_groups(pieces: Iterable[ReadPiece]) -> Iterator[list[ReadPiece]]:
    """Yield pieces by as many as are best decoded together."""
    group: list[ReadPiece] = []
    elements = 0
    for piece in pieces:
        group.append(piece)
        elements += max(1, len(piece.elements))
        if elements >= _DECODED_TOGETHER:
            yield group
            group, elements = [], 0
    if group:
        yield group


def _spread(column: Sequence[T], counts: Sequence[int]) -> Sequence[T]:
    """Return each key's value as many times as it has elements."""
    if set(counts) == {1}:
        return column
    return list(chain.from_iterable(map(repeat, column, counts)))
