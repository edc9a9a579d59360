r"""What the elements of a key are: what tells them apart, and what of them matters. Pure.

Every element comes out exactly once. Identity: a row's natural key is made of the logical database, the key, and what tells its
elements apart for as long as they are there:

- a string, a RedisJSON document, a hash that is one row: nothing else;
- a hash's field, a set's or zset's member, a stream's id, the names on the way to a member of a document;
- an element of a list or of an array: its content, and which of its equals it is. A place in a list means nothing once the
  list was pushed to or trimmed; the content lasts.

The content hash is of what a row was made from and of the mapping, so that a row is written anew when either changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import msgspec
import orjson
import xxhash

from segue.model import AgentMapping, Origin, RedisType
from segue.pipelines.agent_quick import columns_of
from segue.pipelines.agent_values import Raw, UnfitError, decoded
from segue.pipelines.json_paths import walk

AGENT_CODEC_VERSION = 1
"""Goes into every content hash; a change here writes every row anew."""

_FIRST = bytes(4)


@dataclass(slots=True)
class Occurrences:
    """How many elements of each content came before; one for each reading of a list, from its first piece to its last."""

    counts: dict[bytes, int] = field(default_factory=dict)

    def begin(self, value: bytes, equals: int) -> None:
        """Begin behind so many elements that are equal to this one."""
        self.counts[xxhash.xxh3_128_digest(value)] = equals


@dataclass(frozen=True, slots=True)
class Element:
    """One element, in pieces that columns may come from."""

    value: bytes = b""
    fields: Mapping[bytes, bytes] | None = None
    score: bytes = b""
    stream_id: str = ""
    node: Any = None


class Told(NamedTuple):
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


class Elements:
    """The elements of one mapping's keys. Stateless; usable from several threads.

    Args:
        mapping: Says what a row is made of.

    Attributes:
        count_equals: Whether equals are told apart by counting them, so that the pieces of one key must come in order.
    """

    def __init__(self, mapping: AgentMapping) -> None:
        self._mapping = mapping
        self._steps = mapping.each.split("/")[1:] if mapping.each else []
        self._fields = sorted(
            {source.argument.encode() for source in mapping.columns.values() if source.origin is Origin.FIELD}
            | ({mapping.document.encode()} if mapping.document else set())
        )
        self._takes_all = mapping.document is None and any(one.origin is Origin.VALUE for one in mapping.columns.values())
        described = orjson.dumps([AGENT_CODEC_VERSION, asdict(mapping)], option=orjson.OPT_SORT_KEYS)
        self._seed = xxhash.xxh3_64_intdigest(described)
        self.count_equals = mapping.type is RedisType.LIST or bool(self._steps)

    def tell(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        """Tell what elements are, each on its own; those of several keys at once where no equals are counted.

        Args:
            elements: As `ReadPiece` has them.
            seen: The same one for all pieces of a list or an array.
        """
        return (Elements._ends if self._steps else _TELLERS[self._mapping.type])(self, elements, seen)

    def natural_key(self, db: int, key: bytes, member: bytes | None) -> bytes:
        """Return what identifies the row of a key, or of one of its fields or members; not of lists and documents."""
        per_field = b"f" if self._mapping.is_per_field else b"m"
        return xxhash.xxh3_128_digest(b"%d\0%b\0" % (db, key) + (b"" if member is None else per_field + member))

    def _wholes(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        del seen
        return Told([b""] * len(elements), self._hashes(elements), elements)

    def _list(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        counts, identities = seen.counts, []
        for digest in map(xxhash.xxh3_128_digest, elements):
            place = counts.get(digest, 0)
            counts[digest] = place + 1
            identities.append(digest + (place.to_bytes(4, "little") if place else _FIRST))
        return Told(identities, self._hashes(elements), elements)

    def _set(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        del seen
        return Told([b"m" + one for one in elements], self._hashes(elements), elements, list(map(_shown, elements)))

    def _zset(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        del seen
        contents = self._hashes([member + b"\0" + score for member, score in elements])
        names = [_shown(member) for member, _ in elements]
        return Told([b"m" + member for member, _ in elements], contents, elements, names)

    def _hash_rows(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        del seen
        if not self._mapping.is_per_field:
            return Told([b""] * len(elements), self._hashes(self._contents(elements)), elements)
        names = [name for flat in elements for name in flat[::2]]
        values = [value for flat in elements for value in flat[1::2]]
        pairs = list(zip(names, values, strict=True))
        return Told([b"f" + one for one in names], self._hashes(values), pairs, list(map(_shown, names)))

    def _stream(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        del seen
        contents = self._hashes(self._contents([flat for _, flat in elements]))
        names = [id_.decode() for id_, _ in elements]
        return Told([b"i" + id_ for id_, _ in elements], contents, elements, names)

    def _ends(self, elements: Sequence[Any], seen: Occurrences) -> Told:
        """Tell every end of the path through documents as an element of its own."""
        found = [end for value in elements for end in self._ends_of(value, seen)]
        return Told(*zip(*found, strict=True)) if found else Told((), (), ())

    def _ends_of(
        self, value: bytes, seen: Occurrences
    ) -> Iterator[tuple[bytes, bytes, tuple[Mapping[str, str], Element | UnfitError], str]]:
        try:
            document = decoded(value, self._mapping.encoding)
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
            yield identity, self._hash(content), (names, Element(value, node=node)), name

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


_TELLERS: Mapping[RedisType, Callable[[Elements, Sequence[Any], Occurrences], Told]] = {
    RedisType.STRING: Elements._wholes,  # noqa: SLF001  # the class's own table
    RedisType.JSON: Elements._wholes,  # noqa: SLF001
    RedisType.LIST: Elements._list,  # noqa: SLF001
    RedisType.SET: Elements._set,  # noqa: SLF001
    RedisType.ZSET: Elements._zset,  # noqa: SLF001
    RedisType.HASH: Elements._hash_rows,  # noqa: SLF001
    RedisType.STREAM: Elements._stream,  # noqa: SLF001
}


def shown_equal(identity: bytes) -> str:
    """Return what people call an element of a list, which has no name of its own."""
    return f"{identity[:-4].hex()}#{int.from_bytes(identity[-4:], 'little')}"


def _among_equals(value: bytes, seen: Occurrences) -> tuple[str, bytes]:
    digest = xxhash.xxh3_128_digest(value)
    place = seen.counts.get(digest, 0)
    seen.counts[digest] = place + 1
    return f"{digest.hex()}#{place}", digest + place.to_bytes(4, "little")


def _shown(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace")
