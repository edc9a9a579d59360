"""The records of comparisons, in the same SQLite file as those of copies. Knows no store and gives no verdict."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from segue.model import Difference, Key, Kind, Range, Tally
from segue.ports import Comparison, RangeCompared
from segue.state.sqlite_state import SqliteState


class SqliteComparisons(SqliteState):
    """The `ReconcileState` in a SQLite file; see `SqliteState` for the file, its lock and what can fail."""

    def latest_comparison(self, collection: str) -> Comparison | None:
        """See `ReconcileState`."""
        query = "SELECT number, begun_at, finished_at FROM comparison WHERE collection = ? ORDER BY number DESC LIMIT 1"
        found = self._rows(query, collection)
        if not found:
            return None
        number, begun_at, finished_at = found[0]
        age = (datetime.now(UTC) - datetime.fromisoformat(begun_at)).total_seconds()
        return Comparison(number, max(0.0, age), finished_at is not None)

    def comparison_conditions(self, comparison: Comparison) -> Mapping[str, object]:
        """See `ReconcileState`."""
        found = self._rows("SELECT conditions FROM comparison WHERE number = ?", comparison.number)
        conditions: dict[str, object] = json.loads(found[0][0])
        return conditions

    def begin_comparison(self, collection: str, conditions: Mapping[str, object], ranges: Sequence[Range]) -> Comparison:
        """See `ReconcileState`."""
        insert = "INSERT INTO comparison (collection, conditions, begun_at) VALUES (?, ?, ?) RETURNING number"
        insert_range = "INSERT INTO compared_range (comparison, number, after_key, until_key, planned) VALUES (?, ?, ?, ?, ?)"
        with self._transaction() as connection:
            connection.execute("DELETE FROM comparison WHERE collection = ?", (collection,))
            begun = (collection, json.dumps(conditions), _now())
            number: int = connection.execute(insert, begun).fetchone()[0]
            for one in ranges:
                values = (number, one.number, _pack(one.after), _pack(one.until), one.planned)
                connection.execute(insert_range, values)
        return Comparison(number, 0.0, finished=False)

    def to_compare(self, comparison: Comparison) -> list[Range]:
        """See `ReconcileState`."""
        query = (
            "SELECT number, after_key, until_key, planned FROM compared_range "
            "WHERE comparison = ? AND tally IS NULL ORDER BY number"
        )
        return [
            Range(number, _unpack(after), _unpack(until), planned)
            for number, after, until, planned in self._rows(query, comparison.number)
        ]

    def compared(self, comparison: Comparison, range_number: int, found: RangeCompared) -> None:
        """See `ReconcileState`."""
        insert = "INSERT INTO differing_key (comparison, range, place, key, kind, shown) VALUES (?, ?, ?, ?, ?, ?)"
        done = "UPDATE compared_range SET tally = ? WHERE comparison = ? AND number = ?"
        shown = defaultdict(list)
        for one in found.shown:
            shown[one.key].append([one.kind.value, one.field, one.source, one.sink])
        keys: list[tuple[Key, str | None]] = [(key, kind.value) for key, kind in found.differing.items()]
        keys += [(key, None) for key in found.moving]
        with self._transaction() as connection:
            for place, (key, kind) in enumerate(keys):
                values = (comparison.number, range_number, place, _pack(key), kind, json.dumps(shown.get(key, [])))
                connection.execute(insert, values)
            connection.execute(done, (_packed(found.tally), comparison.number, range_number))

    def found(self, comparison: Comparison) -> RangeCompared:
        """See `ReconcileState`."""
        tallies = "SELECT tally FROM compared_range WHERE comparison = ? AND tally IS NOT NULL"
        query = "SELECT key, kind, shown FROM differing_key WHERE comparison = ? ORDER BY range, place"
        tally = sum((_tally(row[0]) for row in self._rows(tallies, comparison.number)), Tally())
        differing: dict[Key, Kind] = {}
        shown: list[Difference] = []
        moving: list[Key] = []
        for packed, kind, said in self._rows(query, comparison.number):
            key: Key = json.loads(packed)
            if kind is None:
                moving.append(key)
            else:
                differing[key] = Kind(kind)
            shown += [Difference(key, Kind(one), *rest) for one, *rest in json.loads(said)]
        return RangeCompared(tally, differing, shown, moving)

    def finish_comparison(self, comparison: Comparison) -> None:
        """See `ReconcileState`."""
        with self._transaction() as connection:
            connection.execute("UPDATE comparison SET finished_at = ? WHERE number = ?", (_now(), comparison.number))


def _packed(tally: Tally) -> str:
    return json.dumps(asdict(tally))


def _tally(packed: str) -> Tally:
    return Tally(**json.loads(packed))


def _pack(key: Key | None) -> str | None:
    return None if key is None else json.dumps(key)


def _unpack(text: str | None) -> Key | None:
    if text is None:
        return None
    key: Key = json.loads(text)
    return key


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
