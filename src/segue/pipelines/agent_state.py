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
from typing import Any

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
    part_names,
)
from segue.pipelines.agent_keys import KeyPattern
from segue.pipelines.agent_quick import QuickDocument, QuickFields, Values
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
from segue.ports import ReadPiece

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
        names = part_names(mapping.member) if mapping.member else []
        fits = not self._steps and mapping.document is None and QuickFields.fits(self._columns, mapping.encoding)
        is_hash = mapping.type in {RedisType.HASH, RedisType.STREAM}
        self._quick = QuickDocument(self._columns) if self._is_plain_json() else None
        self._quick_fields = QuickFields(self._columns, frozenset(names), mapping.encoding) if fits and is_hash else None

    def decode(self, read: ReadPiece, into: Decoded, seen: Occurrences) -> None:
        """Make rows of a key's elements, or quarantine them.

        Args:
            read: The key, or a piece of it.
            into: Takes rows and quarantined ones.
            seen: The same one for all pieces of a list or an array.
        """
        try:
            key = read.key.decode()
        except UnicodeDecodeError:
            shown = read.key.decode("utf-8", "backslashreplace")
            into.quarantined.append(Quarantined("", shown, Reason.KEY_TYPE, "the key is not UTF-8 text"))
            return
        parts = self.pattern.match(key)
        if parts is None or "\0" in key:
            detail = f"the key does not fit {self.mapping.key!r}" if parts is None else "the key holds the character U+0000"
            into.quarantined.append(Quarantined("", key, Reason.KEY_TYPE, detail))
            return
        if read.actual is not None:
            detail = f"it is a {read.actual}, the mapping says {read.type}"
            into.quarantined.append(Quarantined("", key, Reason.REDIS_TYPE, detail))
            return
        make = _MAKERS[self.mapping.type] if not self._steps else AgentCodec._ends
        prefix = b"%d\0%b\0" % (read.db, read.key)
        kind, db, observed, expires = self.mapping.kind, read.db, read.observed_at, read.expires_at
        natural, rows, new = xxhash.xxh3_128_digest, into.rows, tuple.__new__
        for name, identity, content, values in make(self, read, parts, seen):
            if isinstance(values, UnfitError):
                into.quarantined.append(Quarantined(name, key, values.reason, values.detail))
                continue
            # The named tuple's own constructor takes twice as long.
            rows.append(new(AgentRow, (kind, db, key, name, natural(prefix + identity), content, observed, expires, values)))

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

    # Elements of each type: name, identity, content hash, and values or why they are quarantined.

    def _whole(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        del seen
        template = self._quick.template(parts) if self._quick is not None else None
        for value in read.elements:
            yield "", b"", self._hash(value), self._value_row(parts, template, value)

    def _list(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        template = self._quick.template(parts) if self._quick is not None else None
        digest_of, counts = xxhash.xxh3_128_digest, seen.counts
        for value in read.elements:
            digest = digest_of(value)
            place = counts.get(digest, 0)
            counts[digest] = place + 1
            row = self._value_row(parts, template, value)
            # Its name is only for people, and long; what is in PostgreSQL is named by its natural key.
            name = f"{digest.hex()}#{place}" if isinstance(row, UnfitError) else ""
            yield name, digest + (place.to_bytes(4, "little") if place else _FIRST), digest_of(value, self._seed), row

    def _set(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        del seen
        for member in read.elements:
            yield _shown(member), _digest(member), self._hash(member), self._member_row(parts, member, _Element(member))

    def _zset(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        del seen
        for member, score in read.elements:
            element = _Element(member, score=score)
            content = self._hash(member + b"\0" + score)
            yield _shown(member), _digest(member), content, self._member_row(parts, member, element)

    def _hash_rows(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        del seen
        template = self._quick_fields.template(parts) if self._quick_fields is not None else None
        for flat in read.elements:
            held = zip(flat[::2], flat[1::2], strict=True)
            if not self.mapping.is_per_field:
                fields = dict(held)
                yield "", b"", self._hash(self._content(fields)), self._fields_row(parts, template, fields, "")
                continue
            for name, value in held:
                row = self._quick_member(template, name, value) or self._member_row(parts, name, _Element(value))
                yield _shown(name), b"f" + name, self._hash(value), row

    def _stream(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        del seen
        quick = self._quick if self.mapping.document is not None else self._quick_fields
        template = quick.template(parts) if quick is not None else None
        for id_, flat in read.elements:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            name = id_.decode()
            yield name, b"i" + id_, self._hash(self._content(fields)), self._fields_row(parts, template, fields, name)

    def _ends(self, read: ReadPiece, parts: Mapping[str, str], seen: Occurrences) -> Iterator[_Made]:
        for value in read.elements:
            try:
                document = self._document(value)
            except UnfitError as refusal:
                yield "", b"", b"", refusal
                continue
            for names, node, fault in _walk(document, self._steps, {}, ""):
                if fault is not None:
                    yield "/".join(names.values()), b"", b"", fault
                    continue
                content = bytes(node) if type(node) is Raw else msgspec.msgpack.encode(node)
                name, identity = "/".join(names.values()), b"n" + "\0".join(names.values()).encode()
                if "*" in self._steps:
                    equal, digest = _among_equals(identity + content, seen)
                    name, identity = f"{name}/{equal}" if name else equal, digest
                yield name, identity, self._hash(content), self._row({**parts, **names}, _Element(value, node=node))

    # Values of a row, by the way of the element.

    def _value_row(self, parts: Mapping[str, str], template: list[Any] | None, value: bytes) -> Values | UnfitError:
        if template is not None and self._quick is not None:
            quick = self._quick.values(template, value)
            if quick is not None:
                return quick
        return self._row(parts, _Element(value))

    def _quick_member(self, template: list[Any] | None, name: bytes, value: bytes) -> Values | None:
        if template is None or self._quick_fields is None:
            return None
        parts: Mapping[str, str] | None = {}
        if self.member is not None:
            try:
                parts = self.member.match(name.decode())
            except UnicodeDecodeError:
                return None
        return None if parts is None else self._quick_fields.of_value(template, value, parts)

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

    def _fields_row(
        self, parts: Mapping[str, str], template: list[Any] | None, fields: Mapping[bytes, bytes], stream_id: str
    ) -> Values | UnfitError:
        document = self.mapping.document
        quick: Values | None = None
        if document is None:
            if template is not None and self._quick_fields is not None:
                quick = self._quick_fields.of_fields(template, fields)
            return quick or self._row(parts, _Element(fields=fields, stream_id=stream_id))
        value = fields.get(document.encode())
        if value is None:
            return UnfitError(Reason.VALUE_MISSING, f"no field {document!r}")
        if template is not None and self._quick is not None:
            quick = self._quick.values(template, value)
        return quick or self._row(parts, _Element(value, fields=fields, stream_id=stream_id))

    def _row(self, parts: Mapping[str, str], element: _Element) -> Values | UnfitError:
        """Return a row's values, the way that says exactly what does not fit."""
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
            return _at(document, source.argument)
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
        return plain and bool(members) and not opaque and all(_is_member(one.argument) for one in members)

    def _hash(self, content: bytes) -> bytes:
        return xxhash.xxh3_128_digest(content, self._seed)

    def _content(self, fields: Mapping[bytes, bytes]) -> bytes:
        """Return what of the fields matters; their order in Redis does not."""
        if self._takes_all:
            return msgspec.msgpack.encode(sorted(fields.items()))
        return msgspec.msgpack.encode([fields.get(name) for name in self._fields])

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
                _put(document, source.argument, one.timestamp() if isinstance(one, datetime) else one)
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


_Made = tuple[str, bytes, bytes, Values | UnfitError]
_Maker = Callable[[AgentCodec, ReadPiece, Mapping[str, str], Occurrences], Iterable[_Made]]

_MAKERS: Mapping[RedisType, _Maker] = {
    RedisType.STRING: AgentCodec._whole,  # noqa: SLF001  # the class's own table
    RedisType.JSON: AgentCodec._whole,  # noqa: SLF001
    RedisType.LIST: AgentCodec._list,  # noqa: SLF001
    RedisType.SET: AgentCodec._set,  # noqa: SLF001
    RedisType.ZSET: AgentCodec._zset,  # noqa: SLF001
    RedisType.HASH: AgentCodec._hash_rows,  # noqa: SLF001
    RedisType.STREAM: AgentCodec._stream,  # noqa: SLF001
}

_FIRST = bytes(4)
_WRITTEN = {Origin.PART, Origin.JSON, Origin.FIELD, Origin.VALUE, Origin.SCORE, Origin.CONST}


def _walk(
    node: object, steps: Sequence[str], names: dict[str, str], way: str
) -> Iterator[tuple[dict[str, str], Any, UnfitError | None]]:
    """Yield every end of a path: the names on the way to it and what is there, or why the way does not go on."""
    if not steps:
        yield names, node, None
        return
    step, *left = steps
    if step == "*":
        elements = _elements(node)
        if elements is None:
            yield names, None, UnfitError(Reason.VALUE_TYPE, f"there is no array at {way or '/'}")
            return
        for one in elements:
            yield from _walk(one, left, names, f"{way}/*")
        return
    members = _members(node)
    if members is None:
        yield names, None, UnfitError(Reason.VALUE_TYPE, f"there is no object at {way or '/'}")
    elif step.startswith("{"):
        for name, one in members.items():
            yield from _walk(one, left, {**names, step[1:-1]: text(name, 0)}, f"{way}/{name}")
    elif (name := _unescaped(step)) in members:
        yield from _walk(members[name], left, names, f"{way}/{name}")
    else:
        yield names, None, UnfitError(Reason.VALUE_MISSING, f"there is nothing at {way}/{name}")


def _at(node: object, pointer: str) -> object:
    """Return what a JSON pointer leads to, None where that is nothing."""
    for step in pointer.split("/")[1:]:
        name = _unescaped(step)
        members = _members(node)
        if members is not None:
            node = members.get(name)
        else:
            elements = _elements(node)
            node = elements[int(name)] if elements is not None and name.isdigit() and int(name) < len(elements) else None
        if node is None:
            return None
    return node


def _members(node: object) -> Mapping[Any, Any] | None:
    if type(node) is Raw:
        if bytes(node).lstrip()[:1] != b"{":
            return None
        try:
            found: Mapping[str, Any] = msgspec.json.decode(node, type=dict[str, Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as refusal:
            raise UnfitError(Reason.NOT_DECODABLE, f"no JSON: {refusal}") from refusal
        return found
    return node if isinstance(node, dict) else None


def _elements(node: object) -> Sequence[Any] | None:
    if type(node) is Raw:
        if bytes(node).lstrip()[:1] != b"[":
            return None
        found: Sequence[Any] = msgspec.json.decode(node, type=list[Raw])
        return found
    return node if isinstance(node, list) else None


def _put(document: dict[str, Any], pointer: str, value: object) -> None:
    *way, last = [_unescaped(step) for step in pointer.split("/")[1:]]
    for name in way:
        document = document.setdefault(name, {})
    document[last] = value


def _is_member(pointer: str) -> bool:
    return pointer.count("/") == 1


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _among_equals(value: bytes, seen: Occurrences) -> tuple[str, bytes]:
    digest = xxhash.xxh3_128_digest(value)
    place = seen.counts.get(digest, 0)
    seen.counts[digest] = place + 1
    return f"{digest.hex()}#{place}", digest + place.to_bytes(4, "little")


def _digest(member: bytes) -> bytes:
    return b"m" + member


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
