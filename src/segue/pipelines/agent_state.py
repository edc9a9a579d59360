r"""Redis key ↔ PostgreSQL row: what a mapping makes of keys, and what of a record goes back into Redis. Pure.

Every element of a key comes out exactly once, as a row or as quarantined. Identity: a row's natural key is made of the
logical database, the key, and what tells its elements apart for as long as they are there:

- a string, a RedisJSON document, a hash that is one row: nothing else;
- a hash's field, a set's or zset's member, a stream's id, the names on the way to a member of a document;
- an element of a list or of an array: its content, and which of its equals it is. A place in a list means nothing once the
  list was pushed to or trimmed; the content lasts.

The content hash is of what a row was made from and of the mapping, so that a row is written anew when either changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import chain, repeat
from operator import add
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
import xxhash

from segue.errors import InvalidInput
from segue.model import (
    AgentColumn,
    AgentMapping,
    AgentRecord,
    AgentRow,
    ColumnSource,
    ColumnType,
    Encoding,
    Origin,
    Quarantined,
    Reason,
    RedisType,
    RedisWrite,
)
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_quick import QuickDocument, QuickFields, Values, columns_of
from segue.pipelines.agent_values import (
    Raw,
    UnfitError,
    column_value,
    decoded_json,
    decoded_msgpack,
    json_text,
    json_value,
    looks_pickled,
    moment,
    number,
    since_epoch,
    text,
)
from segue.pipelines.json_paths import at, is_member, put, walk
from segue.ports import ReadPiece

T = TypeVar("T")

AGENT_CODEC_VERSION = 1
"""Goes into every content hash; a change here writes every row anew."""


@dataclass(slots=True)
class Occurrences:
    """How many elements of each content came before; one for each reading of a list, from its first piece to its last."""

    counts: dict[bytes, int] = field(default_factory=dict)

    def begin(self, value: bytes, equals: int) -> None:
        """Begin behind so many elements that are equal to this one."""
        self.counts[xxhash.xxh3_128_digest(value)] = equals


@dataclass(slots=True)
class Decoded:
    """What keys came to; grows while they are decoded."""

    rows: list[AgentRow] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Element:
    """One element, in pieces that columns may come from."""

    value: bytes = b""
    fields: Mapping[bytes, bytes] | None = None
    score: bytes = b""
    stream_id: str = ""
    node: Any = None


class _Told(NamedTuple):
    """What elements are, a column at a time.

    Attributes:
        identities: What tells them apart within their key.
        contents: Their content hashes.
        elements: What their values are made of.
        names: What people call them; none where the key is the row, and of lists, where that is long.
    """

    identities: Sequence[bytes]
    contents: Sequence[bytes]
    elements: Sequence[Any]
    names: Sequence[str] = ()


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
        self._steps = mapping.each.split("/")[1:] if mapping.each else []
        self._fields = sorted(
            {source.argument.encode() for source in mapping.columns.values() if source.origin is Origin.FIELD}
            | ({mapping.document.encode()} if mapping.document else set())
        )
        self._takes_all = mapping.document is None and any(one.origin is Origin.VALUE for one in mapping.columns.values())
        described = orjson.dumps([AGENT_CODEC_VERSION, asdict(mapping)], option=orjson.OPT_SORT_KEYS)
        self._seed = xxhash.xxh3_64_intdigest(described)
        fits = not self._steps and mapping.document is None and QuickFields.fits(self._columns, mapping.encoding)
        is_hash = mapping.type in {RedisType.HASH, RedisType.STREAM}
        self._counts_equals = mapping.type is RedisType.LIST or bool(self._steps)
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
        one_by_one: list[_Told] = []
        for read in pieces:
            fitting = self._fitting(read, into)
            if fitting is not None:
                kept.append(read)
                keys.append(fitting[0])
                parts.append(fitting[1])
                if self._counts_equals:
                    if read.begins:
                        seen.counts.clear()
                    one_by_one.append(self._tell(read.elements, seen))
        if self._counts_equals:
            counts = [len(one.elements) for one in one_by_one]
            told = _Told(*(list(chain.from_iterable(column)) for column in zip(*one_by_one, strict=True))) if kept else None
        else:
            per_field = self.mapping.is_per_field
            counts = [sum(len(flat) // 2 for flat in read.elements) if per_field else len(read.elements) for read in kept]
            told = self._tell([one for read in kept for one in read.elements], seen)
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
        told: _Told,
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
                name = row[3] or (_shown_equal(identity) if identity else "")
                into.quarantined.append(Quarantined(name, row[2], row[-1].reason, row[-1].detail))
            else:
                into.rows.append(new(AgentRow, row))

    def encode(self, record: AgentRecord) -> RedisWrite:
        """Return what a record is in Redis under this mapping. Decoding it again gives the same record.

        Times become seconds since 1970 in documents and ISO 8601 elsewhere; what Redis gives (a stream's id) is left out.

        Raises:
            InvalidInput: The mapping has no place for a column that the record fills, one that it needs is missing, or many
                records share one value of that key.
        """
        mapping = self.mapping
        if record.kind is not mapping.kind or self._steps:
            held = "many records in one value" if self._steps else mapping.kind
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

    def natural_key(self, db: int, key: bytes, member: bytes | None) -> bytes:
        """Return what identifies the row of a key, or of one of its fields or members; not of lists and documents."""
        per_field = b"f" if self.mapping.is_per_field else b"m"
        return xxhash.xxh3_128_digest(b"%d\0%b\0" % (db, key) + (b"" if member is None else per_field + member))

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

    # What elements of each type are.

    def _tell(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        return (AgentCodec._ends if self._steps else _TELLERS[self.mapping.type])(self, elements, seen)

    def _wholes(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        del seen
        return _Told([b""] * len(elements), self._hashes(elements), elements)

    def _list(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        counts, identities = seen.counts, []
        for digest in map(xxhash.xxh3_128_digest, elements):
            place = counts.get(digest, 0)
            counts[digest] = place + 1
            identities.append(digest + (place.to_bytes(4, "little") if place else _FIRST))
        return _Told(identities, self._hashes(elements), elements)

    def _set(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        del seen
        return _Told([b"m" + one for one in elements], self._hashes(elements), elements, list(map(_shown, elements)))

    def _zset(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        del seen
        contents = self._hashes([member + b"\0" + score for member, score in elements])
        names = [_shown(member) for member, _ in elements]
        return _Told([b"m" + member for member, _ in elements], contents, elements, names)

    def _hash_rows(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        del seen
        if not self.mapping.is_per_field:
            return _Told([b""] * len(elements), self._hashes(self._contents(elements)), elements)
        names = [name for flat in elements for name in flat[::2]]
        values = [value for flat in elements for value in flat[1::2]]
        pairs = list(zip(names, values, strict=True))
        return _Told([b"f" + one for one in names], self._hashes(values), pairs, list(map(_shown, names)))

    def _stream(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        del seen
        contents = self._hashes(self._contents([flat for _, flat in elements]))
        names = [id_.decode() for id_, _ in elements]
        return _Told([b"i" + id_ for id_, _ in elements], contents, elements, names)

    def _ends(self, elements: Sequence[Any], seen: Occurrences) -> _Told:
        """Tell every end of the path through documents as an element of its own."""
        found = [end for value in elements for end in self._ends_of(value, seen)]
        return _Told(*zip(*found, strict=True)) if found else _Told((), (), ())

    def _ends_of(
        self, value: bytes, seen: Occurrences
    ) -> Iterator[tuple[bytes, bytes, tuple[Mapping[str, str], _Element | UnfitError], str]]:
        try:
            document = self._document(value)
        except UnfitError as refusal:
            yield b"", b"", ({}, refusal), ""
            return
        for names, node, fault in walk(document, self._steps, {}, ""):
            name = "/".join(names.values())
            if fault is not None:
                yield b"", b"", (names, fault), name
                continue
            content = bytes(node) if type(node) is Raw else msgspec.msgpack.encode(node)
            identity = b"n" + "\0".join(names.values()).encode()
            if "*" in self._steps:
                equal, digest = _among_equals(identity + content, seen)
                name, identity = f"{name}/{equal}" if name else equal, digest
            yield identity, self._hash(content), (names, _Element(value, node=node)), name

    # Values of rows: all at once where they are what they usually are.

    def _values(self, parts: Sequence[Mapping[str, str]], elements: Sequence[Any]) -> Sequence[Values | UnfitError]:
        quick = self._quickly(parts, elements)
        if quick is not None:
            return quick
        half = len(elements) // 2
        if self._quick is None or half < _FEW:
            return [self._carefully(*one) for one in zip(parts, elements, strict=True)]
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

    def _carefully(  # noqa: PLR0911  # one return a type
        self, parts: Mapping[str, str], element: Any
    ) -> Values | UnfitError:
        """Return a row's values, the way that says exactly what does not fit."""
        type_ = self.mapping.type
        if self._steps:
            names, end = element
            return end if isinstance(end, UnfitError) else self._row({**parts, **names}, end)
        if type_ is RedisType.SET:
            return self._member_row(parts, element, _Element(element))
        if type_ is RedisType.ZSET:
            return self._member_row(parts, element[0], _Element(element[0], score=element[1]))
        if type_ is RedisType.STREAM:
            return self._fields_row(parts, element[1], element[0].decode())
        if type_ is RedisType.HASH:
            if self.mapping.is_per_field:
                return self._member_row(parts, element[0], _Element(element[1]))
            return self._fields_row(parts, element, "")
        return self._row(parts, _Element(element))

    def _member_row(self, parts: Mapping[str, str], member: bytes, element: _Element) -> Values | UnfitError:
        if self.member is not None:
            try:
                more = self.member.match(member.decode())
            except UnicodeDecodeError:
                return UnfitError(Reason.KEY_TYPE, "the member is not UTF-8 text")
            if more is None:
                return UnfitError(Reason.KEY_TYPE, f"the member does not fit {self.mapping.member!r}")
            parts = {**parts, **more}
        return self._row(parts, element)

    def _fields_row(self, parts: Mapping[str, str], flat: Sequence[bytes], stream_id: str) -> Values | UnfitError:
        document, fields = self.mapping.document, dict(zip(flat[::2], flat[1::2], strict=True))
        if document is None:
            return self._row(parts, _Element(fields=fields, stream_id=stream_id))
        value = fields.get(document.encode())
        if value is None:
            return UnfitError(Reason.VALUE_MISSING, f"no field {document!r}")
        return self._row(parts, _Element(value, fields=fields, stream_id=stream_id))

    def _row(self, parts: Mapping[str, str], element: _Element) -> Values | UnfitError:
        values: list[str | bytes | float | bool | None] = []
        document = element.node
        try:
            for column, source in self._columns:
                if source is None:
                    values.append(None)
                    continue
                if document is None and (source.origin is Origin.JSON or self._is_whole(source)):
                    document = self._document(element.value)
                found = self._found(source, parts, element, document)
                try:
                    value = None if found is None else column_value(column, found, self.mapping.encoding)
                except UnfitError as refusal:
                    return UnfitError(refusal.reason, f"{column.name}: {refusal.detail}")
                if value is None and not source.optional:
                    return UnfitError(Reason.VALUE_MISSING, f"{column.name}: there is no {source}")
                values.append(value)
        except UnfitError as refusal:
            return refusal
        return tuple(values)

    def _found(  # noqa: PLR0911  # one return an origin
        self, source: ColumnSource, parts: Mapping[str, str], element: _Element, document: object
    ) -> object:
        origin = source.origin
        if origin is Origin.PART:
            return parts[source.argument]
        if origin is Origin.JSON:
            return at(document, source.argument)
        if origin is Origin.FIELD:
            return (element.fields or {}).get(source.argument.encode())
        if origin is Origin.VALUE:
            return self._whole_value(element, document)
        if origin is Origin.SCORE:
            return number(element.score.decode())
        if origin is Origin.CONST:
            return source.argument
        return element.stream_id if origin is Origin.STREAM_ID else int(element.stream_id.partition("-")[0])

    def _whole_value(self, element: _Element, document: object) -> object:
        if element.fields is not None and self.mapping.document is None:
            return {
                name.decode("utf-8", "backslashreplace"): _decoded_text(one) for name, one in sorted(element.fields.items())
            }
        if document is not None:
            return document
        if looks_pickled(element.value):
            raise UnfitError(Reason.PICKLE, "a pickle, which is never loaded: it may run any code")
        return element.value

    def _is_whole(self, source: ColumnSource) -> bool:
        decodes = self.mapping.encoding in {Encoding.JSON, Encoding.MSGPACK}
        return source.origin is Origin.VALUE and decodes and (not self.mapping.has_fields or self.mapping.document is not None)

    def _document(self, value: bytes) -> object:
        return decoded_msgpack(value) if self.mapping.encoding is Encoding.MSGPACK else decoded_json(value)

    def _is_plain_json(self) -> bool:
        mapping = self.mapping
        if (
            mapping.encoding is not Encoding.JSON
            or self._steps
            or mapping.member
            or (mapping.has_fields and not mapping.document)
        ):
            return False
        used = list(mapping.columns.values())
        plain = all(one.origin in {Origin.PART, Origin.CONST, Origin.JSON} for one in used)
        members = [one for one in used if one.origin is Origin.JSON]
        opaque = any(column.type is ColumnType.BYTES for column, source in self._columns if source is not None)
        return plain and bool(members) and not opaque and all(is_member(one.argument) for one in members)

    def _hash(self, content: bytes) -> bytes:
        return xxhash.xxh3_128_digest(content, self._seed)

    def _hashes(self, contents: Iterable[bytes]) -> list[bytes]:
        digest, seed = xxhash.xxh3_128_digest, self._seed
        return [digest(one, seed) for one in contents]

    def _contents(self, flats: Sequence[Sequence[bytes]]) -> Iterable[bytes]:
        """Return what of fields matters; their order in Redis does not."""
        if self._takes_all:
            return [msgspec.msgpack.encode(sorted(dict(zip(flat[::2], flat[1::2], strict=True)).items())) for flat in flats]
        if not self._fields:
            return [msgspec.msgpack.encode(())] * len(flats)
        return map(msgspec.msgpack.encode, zip(*columns_of(flats, self._fields), strict=True))

    # Back into Redis.

    def _encoded(self, given: Mapping[str, Any]) -> RedisWrite:  # noqa: C901, PLR0912  # one branch an origin
        mapping = self.mapping
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
        key = self.pattern.format(parts).encode()
        member = self.member.format(parts).encode() if self.member is not None else None
        if mapping.document is not None:
            fields[mapping.document.encode()] = value
        if mapping.has_fields:
            return RedisWrite(key, mapping.type, fields=fields)
        if mapping.is_per_field:
            return RedisWrite(key, mapping.type, value, field=member)
        return RedisWrite(key, mapping.type, member if member is not None else value, score=score)

    def _packed(self, document: object) -> bytes:
        return msgspec.msgpack.encode(document) if self.mapping.encoding is Encoding.MSGPACK else json_text(document)

    def _field_bytes(self, value: Any, column: AgentColumn) -> bytes:
        if column.type is ColumnType.JSONB and self.mapping.encoding is not Encoding.RAW:
            return self._packed(value)
        if isinstance(value, bytes):
            return value
        packs = self.mapping.encoding in {Encoding.JSON, Encoding.MSGPACK} and not self.mapping.has_fields
        return self._packed(value) if packs else _as_text(value, column).encode()


_TELLERS: Mapping[RedisType, Callable[[AgentCodec, Sequence[Any], Occurrences], _Told]] = {
    RedisType.STRING: AgentCodec._wholes,  # noqa: SLF001  # the class's own table
    RedisType.JSON: AgentCodec._wholes,  # noqa: SLF001
    RedisType.LIST: AgentCodec._list,  # noqa: SLF001
    RedisType.SET: AgentCodec._set,  # noqa: SLF001
    RedisType.ZSET: AgentCodec._zset,  # noqa: SLF001
    RedisType.HASH: AgentCodec._hash_rows,  # noqa: SLF001
    RedisType.STREAM: AgentCodec._stream,  # noqa: SLF001
}

_DECODED_TOGETHER = 500
_FEW = 4
"""Elements that are looked at one by one when one of them is unusual."""

_FIRST = bytes(4)
_WRITTEN = {Origin.PART, Origin.JSON, Origin.FIELD, Origin.VALUE, Origin.SCORE, Origin.CONST}


def _among_equals(value: bytes, seen: Occurrences) -> tuple[str, bytes]:
    digest = xxhash.xxh3_128_digest(value)
    place = seen.counts.get(digest, 0)
    seen.counts[digest] = place + 1
    return f"{digest.hex()}#{place}", digest + place.to_bytes(4, "little")


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


def _shown_equal(identity: bytes) -> str:
    return f"{identity[:-4].hex()}#{int.from_bytes(identity[-4:], 'little')}"


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace")


def _decoded_text(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _as_fields(value: Any) -> dict[bytes, bytes]:
    """Return an object as a hash holds it: every member as text, as it comes out again."""
    if not isinstance(value, Mapping):
        raise UnfitError(Reason.VALUE_TYPE, "a hash's fields are an object's members")
    return {text(name, 0).encode(): one if isinstance(one, bytes) else text(one, 0).encode() for name, one in value.items()}


def _as_text(value: Any, column: AgentColumn) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return text(value, column.size)


def written_at(record: AgentRecord) -> int | None:
    """Return the record's own time in microseconds since 1970, None where it has none."""
    found = record.values.get("timestamp")
    return since_epoch(found) if isinstance(found, datetime) else None
