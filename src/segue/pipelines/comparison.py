"""Items and rows side by side: which keys are equal, and in what the others differ. Pure; reads and mends nothing.

What a row must be is what the one codec makes of its item. Vectors must be equal bit for bit, fields in value and type, JSON
member by member. The token that a row was written under is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import xxhash

from segue.model import DIGESTS, Difference, Encoded, Key, Kind, Layout, Quarantined, Rows, Tally
from segue.pipelines.layouts import HASH_FIELD, VERSION_FIELD

SHOWN_CHARACTERS = 60
"""How much of a value a report shows."""

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Found:
    """In what a key differs.

    Attributes:
        kind: As what it counts.
        differences: Each thing in which it differs, at least one.
        distance: Euclidean, between the vectors.
        cosine: How far their cosine is from 1.
    """

    kind: Kind
    differences: Sequence[Difference]
    distance: float = 0.0
    cosine: float = 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """What one look at both sides showed.

    Attributes:
        source, sink: A digest of what each side has, by key; keys that it does not have are missing.
        unfit: Keys whose items cannot go.
        copies: Keys with several rows.
        differing: The keys that differ; all others are equal, or are rightly on neither side.
    """

    source: Mapping[Key, int]
    sink: Mapping[Key, int]
    unfit: Mapping[Key, Quarantined]
    copies: Mapping[Key, int]
    differing: Mapping[Key, Found]

    def state(self, key: Key) -> tuple[object, ...]:
        """Return what two looks are told apart by."""
        return self.source.get(key), self.sink.get(key), key in self.unfit, self.copies.get(key, 1)

    def tally(self, keys: Sequence[Key]) -> Tally:
        """Return the sums over some keys, those that differ counted as what they differ in."""
        found = [self.differing[key] for key in keys if key in self.differing]
        kinds = [one.kind for one in found]
        differing = len(found)
        missing, orphaned = kinds.count(Kind.MISSING), kinds.count(Kind.ORPHANED)
        return Tally(
            matched=sum(key in self.source and key not in self.differing for key in keys),
            mismatched=differing - missing - orphaned,
            missing=missing,
            orphaned=orphaned,
            duplicates=sum(key in self.copies for key in keys),
            quarantined=sum(key in self.unfit and key not in self.differing for key in keys),
            source_digest=sum(self.source.get(key, 0) for key in keys) % DIGESTS,
            sink_digest=sum(self.sink.get(key, 0) * self.copies.get(key, 1) for key in keys) % DIGESTS,
            distance=max((one.distance for one in found), default=0.0),
            cosine=max((one.cosine for one in found), default=0.0),
        )


class Comparer:
    """Compares rows of one layout. Holds no state; usable from several threads.

    Args:
        layout: The collection's layout.
        whole: Whether rows come with all their fields; otherwise with the hash of their content only.
    """

    def __init__(self, layout: Layout, *, whole: bool) -> None:
        self._vector = layout.vector.name
        self._json = layout.json_field
        self._dynamic = layout.dynamic
        self._whole = whole
        self._typed = sorted(
            field.name
            for field in layout.fields
            if field.source is not None and not field.primary and field.name != self._vector
        )

    def compare(self, encoded: Encoded, rows: Rows, copies: Mapping[Key, int]) -> Compared:
        """Compare items with the rows under their keys.

        Args:
            encoded: The items there are, encoded.
            rows: The rows there are, in any order.
            copies: Keys that are known to have several rows.
        """
        ours, theirs = self._side(encoded.rows), self._side(rows)
        unfit = {row.key: row for row in encoded.quarantined if row.key is not None}
        differing: dict[Key, Found] = {}
        for key, place in ours.places.items():
            if key not in theirs.places:
                differing[key] = _whole_row(key, Kind.MISSING, "an item", "no row")
            elif ours.digests[place] != theirs.digests[theirs.places[key]] or key in copies:
                differences, distance, cosine = self._in_detail(key, ours, place, theirs, theirs.places[key])
                several = key in copies
                if several:
                    differences.append(Difference(key, Kind.DUPLICATE, "", "an item", f"{copies[key]} rows"))
                differing[key] = Found(Kind.DUPLICATE if several else Kind.STALE, differences, distance, cosine)
        for key in theirs.places.keys() - ours.places.keys():
            if key in unfit:
                differing[key] = _whole_row(key, Kind.UNFIT, f"cannot go: {unfit[key].reason.value}", "a row")
            else:
                differing[key] = _whole_row(key, Kind.ORPHANED, "no item", f"{copies.get(key, 'a')} row")
        return Compared(ours.by_key(), theirs.by_key(), unfit, copies, differing)

    def _side(self, rows: Rows) -> _Side:
        """Digest rows: their bits, in a form in which equal content is equal."""
        if not rows.keys:
            return _Side(rows, {}, [], [], [])
        bodies = [_members(body) for body in rows.columns[self._json]] if self._whole or self._dynamic else []
        hashes = [body.pop(HASH_FIELD, None) for body in bodies] if self._dynamic else rows.columns[HASH_FIELD]
        typed = [rows.columns[name] for name in self._typed] if self._whole else []
        packed = [_packed(body, dynamic=self._dynamic) for body in bodies] if self._whole else [b""] * len(rows)
        stride = rows.vectors.shape[1] * rows.vectors.itemsize if self._whole else 0
        raw = np.ascontiguousarray(rows.vectors).reshape(-1).view(np.uint8).data
        digests = []
        for row, key in enumerate(rows.keys):
            head = repr((key, hashes[row], *[column[row] for column in typed], packed[row])).encode()
            # 128 bits of every bit there is, so that equal digests are equal rows.
            digests.append(xxhash.xxh3_128_intdigest(b"".join((head, raw[row * stride : (row + 1) * stride]))))
        places = {key: row for row, key in enumerate(rows.keys)}
        return _Side(rows, places, digests, hashes, bodies)

    def _in_detail(self, key: Key, ours: _Side, here: int, theirs: _Side, there: int) -> tuple[list[Difference], float, float]:
        found: list[Difference] = []
        distance = cosine = 0.0

        def differ(field: str, source: object, sink: object) -> None:
            found.append(Difference(key, Kind.STALE, field, _shortened(source), _shortened(sink)))

        if self._whole:
            mine, other = ours.rows.vectors[here], theirs.rows.vectors[there]
            places = np.flatnonzero(mine.view(np.uint32) != other.view(np.uint32))
            if places.size:
                distance, cosine = _apart(mine, other)
                first = int(places[0])
                said = f"{places.size} of {mine.size} elements; [{first}]"
                differ(self._vector, f"{said} {mine[first]!r}", f"{said} {other[first]!r}")
            for name in self._typed:
                source, sink = ours.rows.columns[name][here], theirs.rows.columns[name][there]
                if repr(source) != repr(sink):
                    differ(name, source, sink)
            for member, source, sink in _members_apart(ours.bodies[here], theirs.bodies[there]):
                differ(member if self._dynamic else f"{self._json}.{member}", source, sink)
        if ours.hashes[here] != theirs.hashes[there]:
            differ(HASH_FIELD, ours.hashes[here], theirs.hashes[there])
        return found, distance, cosine


@dataclass(frozen=True, slots=True)
class _Side:
    rows: Rows
    places: Mapping[Key, int]
    digests: Sequence[int]
    hashes: Sequence[Any]
    bodies: Sequence[dict[str, Any]]

    def by_key(self) -> dict[Key, int]:
        return {key: self.digests[place] for key, place in self.places.items()}


def _whole_row(key: Key, kind: Kind, source: str, sink: str) -> Found:
    return Found(kind, [Difference(key, kind, "", source, sink)])


def _members(body: bytes) -> dict[str, Any]:
    members: dict[str, Any] = orjson.loads(body)
    return members


def _packed(members: dict[str, Any], *, dynamic: bool) -> bytes:
    if dynamic:
        members.pop(VERSION_FIELD, None)
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)


def _members_apart(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name, _ABSENT), theirs.get(name, _ABSENT)
        # Compared as they are written, since 1, 1.0 and true are equal in Python.
        if (mine is _ABSENT) != (other is _ABSENT) or (mine is not _ABSENT and _written(mine) != _written(other)):
            yield name, mine, other


def _written(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _apart(mine: Any, other: Any) -> tuple[float, float]:
    """Return the euclidean distance of two vectors, and how far their cosine is from 1; in double precision."""
    first, second = mine.astype(np.float64), other.astype(np.float64)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(first @ second) / norms if norms else 0.0
    return float(np.linalg.norm(first - second)), max(0.0, 1.0 - cosine)


def _shortened(value: object) -> str:
    if value is _ABSENT or value is None:
        return "nothing"
    text = value if isinstance(value, str) and " elements; [" in value else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
