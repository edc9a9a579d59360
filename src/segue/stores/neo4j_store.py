"""Neo4j as the source: the items of one label, counted, cut into ranges of keys, and read page by page.

Owns the form in which vectors travel: with Cypher 25 and driver 6 as FLOAT32 vectors (half the bytes, no Python floats),
elsewhere as lists that are packed once, record by record. Reads only. Knows no layout and no sink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

import numpy as np
from neo4j.exceptions import ClientError

from segue.errors import FatalError
from segue.model import Key, Page, Quarantined, Range, Reason, SourceSpec
from segue.ports import Census
from segue.stores.cypher import query, quoted
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_keys import CYPHER_TYPE, hint, key_bounds, of_type, plain
from segue.stores.neo4j_rows import Decoded, carried, guarded, is_vector, travelling


class _Form(Enum):
    """How a page is asked for, the cheapest first (client and server µs a row of 768, see docs/benchmarks.md).

    GATHERED: FLOAT32 vectors, one record a page. A vector that is no vector makes the whole query fail.
    GUARDED: the same, but the server looks at every element first, and returns what is no vector as it is.
    LISTED: lists of numbers, a record a row, so that each is packed while it is still in the cache.
    """

    GATHERED = 1
    GUARDED = 2
    LISTED = 3


class Neo4jSource:
    """The `Source` over Neo4j 5.26 and newer. Usable from several threads.

    Args:
        connection: Where to read.
    """

    def __init__(self, connection: Neo4jConnection) -> None:
        self._connection = connection
        self._vectors_travel: bool | None = None
        self._unsound: set[tuple[str, int]] = set()
        self._indexed: dict[tuple[str, str], bool] = {}

    def identity(self) -> str:
        """See `Source`: the database's own id, which a restore or a copy elsewhere changes."""
        return str(self._connection.rows("CALL db.info() YIELD id RETURN id")[0][0])

    def census(self, spec: SourceSpec) -> Census:
        """See `Source`. One pass over the label; the properties of every node are looked at, no vector is."""
        types = "".join(f", {_types_of(quoted(name))}" for name in spec.property_names)
        places = {"label": quoted(spec.label), "key": quoted(spec.key), "vector": quoted(spec.vector)}
        counted = self._connection.rows(query("census", types=types, **places), key=spec.key)
        total, embedded, strings, integers, seen = counted[0]
        indexed, unique = self._guards(spec)
        return Census(
            total,
            embedded,
            strings,
            integers,
            {name: frozenset(found) for name, found in zip(spec.property_names, seen, strict=True)},
            key_indexed=indexed,
            key_unique=unique,
        )

    def plan(self, spec: SourceSpec, items_per_range: int, census: Census) -> list[Range]:
        """See `Source`. Without an index over the key there is one range: every page reads the whole label then."""
        keyed = census.keyed(spec.key_type)
        ranges: list[Range] = []
        after: Key | None = None
        while census.key_indexed:
            found = self._boundary(spec, after, items_per_range)
            if found is None:
                break
            # More than asked for where nodes share the last key, or where that key may not bound a range.
            ranges.append(Range(len(ranges), after, found, self._count(spec, after, found)))
            after = found
        ranges.append(Range(len(ranges), after, None, self._count(spec, after, None)))
        if census.total > keyed:
            ranges.append(Range(len(ranges), None, None, census.total - keyed, keyed=False))
        return ranges

    def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
        """See `Source`."""
        if not range_.keyed:
            return self._unkeyed(spec, after, limit)
        low = range_.after if after is None else after
        within, values = _bounds(spec, low, range_.until, indexed=self._is_indexed(spec))
        decoded = self._read(spec, range_.number, within, limit, **values)
        exhausted = decoded.seen < limit
        last = decoded.last
        if not exhausted and not spec.key_unique and last is not None:
            # Other nodes may share the last key; a page never ends among them, so that a duplicate is always seen.
            decoded.drop(last)
            # An index seek for 5 finds 5.0 too, and says of both that they are the 5 it looked for: ask the node itself.
            key = quoted(spec.key)
            same = of_type(f"properties(n).{key}", spec.key_type, f"n.{key} = $key")
            ties = self._read(spec, range_.number, same, _ALL, key=last)
            decoded.extend(ties)
        return decoded.page(last, exhausted=exhausted)

    def _boundary(self, spec: SourceSpec, after: Key | None, items: int) -> Key | None:
        within, values = _bounds(spec, after, None)
        plainly, pattern = plain(spec.key_type)
        places = {"label": quoted(spec.label), "key": quoted(spec.key), "bounds": within, "plain": plainly}
        found = self._connection.rows(query("boundary", **places), items=items, **values, **pattern)
        return found[0][0] if found else None

    def _count(self, spec: SourceSpec, after: Key | None, until: Key | None) -> int:
        within, values = _bounds(spec, after, until)
        found: int = self._connection.rows(query("count", label=quoted(spec.label), bounds=within), **values)[0][0]
        return found

    def _is_indexed(self, spec: SourceSpec) -> bool:
        place = (spec.label, spec.key)
        if place not in self._indexed:
            self._guards(spec)
        return self._indexed[place]

    def _guards(self, spec: SourceSpec) -> tuple[bool, bool]:
        """Look whether an index over the key alone is there (one over several properties serves no range), and a constraint."""
        found = self._connection.rows(query("key_indexes"), label=spec.label)
        alone = [unique for properties, unique in found if properties == [spec.key]]
        self._indexed[spec.label, spec.key] = bool(alone)
        return bool(alone), any(alone)

    def missing(self, spec: SourceSpec, keys: Sequence[Key]) -> list[Key]:
        """See `Source`."""
        typed = of_type(f"n.{quoted(spec.key)}", spec.key_type)
        places = {"label": quoted(spec.label), "key": quoted(spec.key), "typed": f"WHERE {typed}" if typed else ""}
        return [row[0] for row in self._connection.rows(query("missing", **places), keys=list(keys))]

    def _unkeyed(self, spec: SourceSpec, after: Key | None, limit: int) -> Page:
        places = {"label": quoted(spec.label), "key": quoted(spec.key), "type": CYPHER_TYPE[spec.key_type]}
        found = self._connection.rows(query("unkeyed", **places), after=after or "", limit=limit)
        quarantined = [
            Quarantined(element_id, None, Reason.KEY_MISSING, f"no property {spec.key}")
            if value_type == "NULL"
            else Quarantined(element_id, None, Reason.KEY_TYPE, f"the key is a {value_type}, the others are {places['type']}")
            for element_id, value_type in found
        ]
        last = found[-1][0] if found else None
        empty = np.empty((0, spec.dimension), np.float32)
        return Page([], [], empty, [], quarantined, last, exhausted=len(found) < limit)

    def _read(self, spec: SourceSpec, number: int, within: str, limit: int, **values: Any) -> Decoded:
        """Read one page in the cheapest form that the server and the data allow."""
        forms, indexed = self._forms(spec, number), self._is_indexed(spec)
        while True:
            form = next(forms)
            decoded = Decoded(spec)
            asked = _page_query(spec, within, form, indexed=indexed)
            try:
                with self._connection.streamed(asked, limit=limit, **values) as result:
                    for record in result:
                        rows, last = record
                        decoded.add_all([rows] if form is _Form.LISTED else rows, last)
            except FatalError as fault:
                if form is _Form.LISTED or not isinstance(fault.__cause__, ClientError):
                    raise
                # Something in this page is no vector: from here on the server looks at the elements of this range.
                self._unsound.add((spec.label, number))
            else:
                return decoded

    def _forms(self, spec: SourceSpec, number: int) -> Iterator[_Form]:
        if self._vectors_travel is None:
            self._vectors_travel = self._ask_for_a_vector()
        if self._vectors_travel:
            if (spec.label, number) not in self._unsound:
                yield _Form.GATHERED
            yield _Form.GUARDED
        yield _Form.LISTED

    def _ask_for_a_vector(self) -> bool:
        try:
            found = self._connection.rows("CYPHER 25 RETURN vector([1.0], 1, FLOAT32)")[0][0]
        except FatalError:
            return False
        return is_vector(found)


_ALL = 2**31 - 1


def _types_of(name: str) -> str:
    """Return the expression that gathers a property's types; what is missing counts only where the key is there after that.

    A node that is deleted between its listing and its reading has no property any more, and would make each look optional.
    The key is asked for by a name that is not a literal, because the planner reads a literal one early and keeps it.
    """
    return f"collect(DISTINCT head([type IN [valueType(n.{name})] WHERE type <> 'NULL' OR n[$key] IS NOT NULL]))"


def _bounds(spec: SourceSpec, after: Key | None, until: Key | None, *, indexed: bool = False) -> tuple[str, dict[str, Any]]:
    return key_bounds(f"n.{quoted(spec.key)}", spec.key_type, after, until, indexed=indexed)


def _page_query(spec: SourceSpec, within: str, form: _Form, *, indexed: bool) -> str:
    if form is _Form.LISTED:
        vector = guarded(spec, looking_closely=False)
    else:
        vector = travelling(spec) if form is _Form.GATHERED else guarded(spec, looking_closely=True)
    return ("" if form is _Form.LISTED else "CYPHER 25\n") + query(
        "page",
        label=quoted(spec.label),
        key=quoted(spec.key),
        hint=hint(spec.label, spec.key) if indexed else "",
        bounds=within,
        gather="" if form is _Form.LISTED else "collect",
        last=f"n.{quoted(spec.key)} AS last ORDER BY last" if form is _Form.LISTED else f"max(n.{quoted(spec.key)}) AS last",
        element_id="null" if spec.key_unique else "elementId(n)",
        vector=vector,
        properties=carried(spec),
    )
