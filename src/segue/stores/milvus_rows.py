"""Milvus's rows as the reconcile reads them, always at the Strong level: by keys and by ranges of keys.

A query shows one row a key, however many there are; only `count(*)` counts every copy (Milvus 2.3.5: its insert looks at no
primary key). Copies are taken out after the limit: a page may be shorter than its limit, so that only an empty one ends a
range, and rows asked for by their keys may be left out for others' copies, so that they are asked for again. Vectors go from
the answer's bytes into float32 arrays; no element is ever a Python object. Knows no source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import orjson

from segue.errors import DataError
from segue.model import FieldType, Key, Layout, Rows, Vectors
from segue.pipelines.layouts import DYNAMIC, HASH_FIELD, VERSION_FIELD
from segue.ports import Counting, Listing, Reading
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_wire import query_request

PAGE_KEYS = 16_384
"""Keys a page: the most Milvus lets offset and limit come to."""

_COUNT = "count(*)"


class MilvusRows:
    """The `SinkSide` over one collection of a Milvus server or a Milvus Lite file. Usable from several threads.

    Args:
        connection: Where to read.
        layout: The loaded collection.
    """

    def __init__(self, connection: MilvusConnection, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout
        self._key = layout.primary.name
        self._vector = layout.vector.name
        own = [field.name for field in layout.fields if not field.primary and field.name != VERSION_FIELD]
        self._whole = [*own, DYNAMIC] if layout.dynamic else own

    def rows(self, keys: Sequence[Key], *, whole: bool) -> Reading:
        """See `SinkSide`. In a Lite file it returns when it has read."""
        fields = [self._key, *(self._whole if whole else [HASH_FIELD])]
        return _Page(self, keys, fields, self.under(keys, fields), self.under(keys, [_COUNT]))

    def under(self, keys: Sequence[Key], fields: Sequence[str]) -> _Asked | _Read:
        """Ask for fields of the rows under keys, or for their number."""
        return self._ask(f"{self._key} in {_listed(keys)}", fields)

    def complete(self, rows: Rows, keys: Sequence[Key], fields: Sequence[str]) -> tuple[Rows, Mapping[Key, int]]:
        """Return rows with those added that Milvus left out for others' copies, and the keys that have copies.

        Of a segment it gives as many rows as keys were asked for, the lowest keys first: each copy leaves another row out.
        """
        while left := list(set(keys).difference(rows.keys)):
            more = self.under(left, fields).result()
            if not more:
                break
            rows = _joined(rows, more)
        return rows, self._copies(rows.keys)

    def keys(self, after: Key | None, until: Key | None) -> list[Key]:
        """See `SinkSide`."""
        chosen = self._within(after, until)
        first, count = self._ask(chosen, [self._key], limit=PAGE_KEYS), self._ask(chosen, [_COUNT])
        found = page = first.result().keys
        if count.counted() == len(found):
            return found
        while page:
            page = self._ask(self._within(page[-1], until), [self._key], limit=PAGE_KEYS).result().keys
            found = found + page
        return found

    def own(self, after: Key | None, limit: int) -> list[Key]:
        """Return keys of rows that Segue wrote, the next behind a key in order: in a dynamic layout others may write, too."""
        chosen = self._within(after, None)
        if self._layout.dynamic:
            chosen = f"{chosen} and exists {HASH_FIELD}"
        return self._ask(chosen, [self._key], limit=limit).result().keys

    def behind(self, places: Sequence[Key | None], limit: int) -> Listing:
        """See `SinkSide`."""
        return _Keys([self._ask(self._within(place, None), [self._key], limit=limit) for place in places])

    def count(self) -> Counting:
        """See `SinkSide`."""
        return _Number(self._ask(self._within(None, None), [_COUNT]))

    def _copies(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        """Find, of keys that each have a row, those with several.

        Halves whatever has more rows than keys until single keys are left; all counts of a round at once.
        """
        parts = [keys]
        several: dict[Key, int] = {}
        while parts:
            asked = [(part, self.under(part, [_COUNT])) for part in parts]
            counted = [(part, one.counted()) for part, one in asked]
            too_many = [(part, rows) for part, rows in counted if rows > len(part) or (rows > 1 and len(part) == 1)]
            several |= {part[0]: rows for part, rows in too_many if len(part) == 1}
            halves = [(part[: len(part) // 2], part[len(part) // 2 :]) for part, _ in too_many if len(part) > 1]
            parts = [half for pair in halves for half in pair]
        return several

    def _within(self, after: Key | None, until: Key | None) -> str:
        # An expression of our own: pymilvus does not escape quotes in keys.
        parts = [] if after is None else [f"{self._key} > {_quoted(after)}"]
        parts += [] if until is None else [f"{self._key} <= {_quoted(until)}"]
        if not parts:
            # Milvus cannot read the lowest integer there is.
            text = self._layout.primary.type is FieldType.VARCHAR
            parts = [f'{self._key} >= ""' if text else f"{self._key} <= {2**63 - 1}"]
        return " and ".join(parts)

    def _under(self, keys: Sequence[Key], fields: Sequence[str]) -> _Asked | _Read:
        return self._ask(f"{self._key} in {_listed(keys)}", fields)

    def _ask(self, chosen: str, fields: Sequence[str], limit: int | None = None) -> _Asked | _Read:
        if self._connection.lite:
            return self._read(chosen, fields, limit)
        request = query_request(self._connection.database, self._layout, chosen, fields=fields, limit=limit)
        return _Asked(self._connection, self._connection.send_query(request), self._layout)

    def _read(self, chosen: str, fields: Sequence[str], limit: int | None) -> _Read:
        named = ["*" if field == DYNAMIC else field for field in fields]
        with self._connection.translated():
            found = self._connection.client.query(
                self._layout.name,
                filter=chosen,
                output_fields=named,
                consistency_level="Strong",
                timeout=self._connection.timeout_seconds,
            )
        if limit is not None:
            # Asked for a few rows, Lite gives those written first.
            found = sorted(found, key=lambda row: row[self._key])[:limit]
        return _Read(found, self._layout, fields)


class _Page:
    """Rows on their way, and beside them how many there are."""

    def __init__(
        self, sides: MilvusRows, keys: Sequence[Key], fields: Sequence[str], asked: _Asked | _Read, count: _Asked | _Read
    ) -> None:
        self._sides = sides
        self._keys = keys
        self._fields = fields
        self._asked = asked
        self._count = count

    def result(self) -> tuple[Rows, Mapping[Key, int]]:
        """See `Reading`."""
        rows = self._rows(self._asked, self._keys)
        if self._count.counted() <= len(rows):
            return rows, {}
        return self._sides.complete(rows, self._keys, self._fields)

    def _rows(self, asked: _Asked | _Read, keys: Sequence[Key]) -> Rows:
        """Wait for rows; those that are too large for one answer are asked for by halves."""
        try:
            return asked.result()
        except DataError:
            if len(keys) == 1:
                raise
            halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
            first, second = (self._rows(self._sides.under(half, self._fields), half) for half in halves)
            return _joined(first, second) if second else first


class _Keys:
    """Keys on their way."""

    def __init__(self, asked: Sequence[_Asked | _Read]) -> None:
        self._asked = asked

    def result(self) -> list[Key]:
        """See `Listing`."""
        return [key for one in self._asked for key in one.result().keys]


class _Number:
    """A number on its way."""

    def __init__(self, asked: _Asked | _Read) -> None:
        self._asked = asked

    def result(self) -> int:
        """See `Counting`."""
        return self._asked.counted()


class _Asked:
    """A query on its way through the channel."""

    def __init__(self, connection: MilvusConnection, future: grpc.Future[Any], layout: Layout) -> None:
        self._connection = connection
        self._future = future
        self._layout = layout

    def result(self) -> Rows:
        """Return the rows that came."""
        columns = dict(self._columns())
        keys = _scalars(columns.pop(self._layout.primary.name, None))
        vectors = _vectors(columns.pop(self._layout.vector.name, None), len(keys))
        return Rows(keys, vectors, {name: _scalars(column) for name, column in columns.items()})

    def counted(self) -> int:
        """Return what `count(*)` came to."""
        return int(_scalars(dict(self._columns())[_COUNT])[0])

    def _columns(self) -> Iterator[tuple[str, Any]]:
        with self._connection.translated():
            answer = self._future.result()
        # Old servers fill `error_code`, newer ones `code`; either may be the only one.
        code = answer.status.code or answer.status.error_code
        if code:
            raise self._connection.refusal(code, answer.status.reason)
        for column in answer.fields_data:
            yield (DYNAMIC if column.is_dynamic else column.field_name), column


class _Read:
    """Rows of a Lite file, as its client gives them."""

    def __init__(self, found: Sequence[Mapping[str, Any]], layout: Layout, fields: Sequence[str]) -> None:
        self._found = found
        self._layout = layout
        self._fields = fields

    def result(self) -> Rows:
        """Return the rows that were read."""
        layout = self._layout
        keys = [row[layout.primary.name] for row in self._found]
        vectors = [row[layout.vector.name] for row in self._found if layout.vector.name in row]
        matrix = np.array(vectors, "<f4").reshape(len(keys), -1) if keys else np.empty((0, 0), "<f4")
        own = {field.name for field in layout.fields}
        columns: dict[str, Sequence[Any]] = {}
        for field in self._fields:
            if field == DYNAMIC or field not in own:
                # The client gives dynamic keys among the fields.
                columns[DYNAMIC] = [_dumped({n: v for n, v in row.items() if n not in own}) for row in self._found]
            elif field not in (layout.primary.name, layout.vector.name):
                values = [row[field] for row in self._found]
                columns[field] = [_dumped(value) for value in values] if field == layout.json_field else values
        return Rows(keys, matrix, columns if keys else {})

    def counted(self) -> int:
        """Return what `count(*)` came to."""
        return int(self._found[0][_COUNT])


def _joined(some: Rows, more: Rows) -> Rows:
    columns = {name: [*values, *more.columns[name]] for name, values in some.columns.items()} if some else more.columns
    vectors = np.concatenate([some.vectors, more.vectors]) if some else more.vectors
    return Rows([*some.keys, *more.keys], vectors, columns)


def _vectors(column: Any, rows: int) -> Vectors:
    if column is None:
        return np.empty((rows, 0), "<f4")
    # The packed floats lie at the end of the message, behind a tag and their length.
    raw = column.vectors.float_vector.SerializeToString()
    size = rows * column.vectors.dim
    return np.frombuffer(raw, "<f4", size, offset=len(raw) - 4 * size).reshape(rows, column.vectors.dim)


def _scalars(column: Any) -> list[Any]:
    if column is None:
        return []
    kind = column.scalars.WhichOneof("data")
    return list(getattr(column.scalars, kind).data) if kind else []


def _dumped(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _listed(keys: Sequence[Key]) -> str:
    return orjson.dumps(list(keys)).decode()


def _quoted(key: Key) -> str:
    return orjson.dumps(key).decode()
