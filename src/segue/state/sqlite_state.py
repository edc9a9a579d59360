"""The state in one SQLite file; a schema of its own with numbered migrations, one writing process at a time.

Owns durability: what `advance` was given is on the disk, whole, when it returns (write-ahead log, full sync). Never parses a
cursor; knows no store.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import IO, Any, Self

from segue.errors import StateStoreFailed
from segue.model import Key, Quarantined, Range, Reason
from segue.ports import RangeProgress, Run

_PROGRESS = """
SELECT r.number, r.after_key, r.until_key, r.planned, r.keyed, r.cursor, r.migrated, r.done,
       (SELECT count(*) FROM quarantine q WHERE q.run = r.run AND q.range = r.number)
FROM range r WHERE r.run = ? ORDER BY r.number
"""

_QUARANTINE = """
INSERT INTO quarantine (run, range, place, key, element_id, reason, detail) VALUES (
    ?1, ?2, (SELECT count(*) FROM quarantine WHERE run = ?1 AND range = ?2), ?3, ?4, ?5, ?6)
"""


class SqliteState:
    """Records of copies in a SQLite file. Usable from several threads of one process.

    Args:
        path: The file; created when missing. A file beside it, ending in `.lock`, keeps a second process out.

    Raises:
        StateStoreFailed: The file cannot be opened, belongs to a newer Segue, or another process works with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._lock = self._take_lock()
        with ExitStack() as opened:
            opened.callback(self._lock.close)
            with self._failures():
                self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
                opened.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._migrate()
            opened.pop_all()

    def __enter__(self) -> Self:
        """Return the state itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file and let others in. Idempotent."""
        self._connection.close()
        self._lock.close()

    def latest(self, collection: str) -> Run | None:
        """See `BackfillState`."""
        query = "SELECT number, target, seconds, finished_at, notes FROM run WHERE collection = ? ORDER BY number DESC LIMIT 1"
        found = self._rows(query, collection)
        if not found:
            return None
        number, target, seconds, finished_at, notes = found[0]
        return Run(number, target, seconds, finished_at is not None, tuple(json.loads(notes)))

    def conditions(self, run: Run) -> Mapping[str, object]:
        """See `BackfillState`."""
        found: dict[str, object] = json.loads(self._rows("SELECT conditions FROM run WHERE number = ?", run.number)[0][0])
        return found

    def begin(
        self,
        collection: str,
        conditions: Mapping[str, object],
        target: str,
        ranges: Sequence[Range],
        notes: Sequence[str],
    ) -> Run:
        """See `BackfillState`."""
        insert_run = "INSERT INTO run (collection, target, conditions, notes, begun_at) VALUES (?, ?, ?, ?, ?) RETURNING number"
        insert_range = "INSERT INTO range (run, number, after_key, until_key, planned, keyed) VALUES (?, ?, ?, ?, ?, ?)"
        with self._transaction() as connection:
            begun = (collection, target, json.dumps(conditions), json.dumps(list(notes)), _now())
            number: int = connection.execute(insert_run, begun).fetchone()[0]
            for one in ranges:
                bounds = (_pack(one.after), _pack(one.until))
                connection.execute(insert_range, (number, one.number, *bounds, one.planned, one.keyed))
        return Run(number, target, 0.0, finished=False, notes=tuple(notes))

    def progress(self, run: Run) -> list[RangeProgress]:
        """See `BackfillState`."""
        return [
            RangeProgress(
                Range(number, _unpack(after), _unpack(until), planned, keyed=bool(keyed)),
                _unpack(cursor),
                migrated,
                quarantined,
                bool(done),
            )
            for number, after, until, planned, keyed, cursor, migrated, done, quarantined in self._rows(_PROGRESS, run.number)
        ]

    def advance(
        self,
        run: Run,
        range_number: int,
        cursor: Key | None,
        migrated: int,
        quarantined: Sequence[Quarantined],
        *,
        done: bool,
        in_flight: bool = False,
    ) -> None:
        """See `BackfillState`."""
        forward = (
            "UPDATE range SET cursor = coalesce(?, cursor), migrated = migrated + ?, done = ?, "
            "in_flight = ? WHERE run = ? AND number = ?"
        )
        with self._transaction() as connection:
            for row in quarantined:
                values = (_pack(row.key), row.element_id, row.reason.value, row.detail)
                connection.execute(_QUARANTINE, (run.number, range_number, *values))
            connection.execute(forward, (_pack(cursor), migrated, done, in_flight, run.number, range_number))

    def sending(self, run: Run, range_number: int) -> None:
        """See `BackfillState`."""
        with self._transaction() as connection:
            connection.execute("UPDATE range SET in_flight = 1 WHERE run = ? AND number = ?", (run.number, range_number))

    def in_flight(self, run: Run) -> bool:
        """See `BackfillState`."""
        return bool(self._rows("SELECT max(in_flight) FROM range WHERE run = ?", run.number)[0][0])

    def spent(self, run: Run, seconds: float) -> None:
        """See `BackfillState`."""
        with self._transaction() as connection:
            connection.execute("UPDATE run SET seconds = seconds + ? WHERE number = ?", (seconds, run.number))

    def finish(self, run: Run) -> None:
        """See `BackfillState`."""
        with self._transaction() as connection:
            connection.execute("UPDATE run SET finished_at = ? WHERE number = ?", (_now(), run.number))

    def quarantine(self, run: Run, limit: int | None = None) -> list[Quarantined]:
        """See `BackfillState`."""
        query = "SELECT element_id, key, reason, detail FROM quarantine WHERE run = ? ORDER BY range, place LIMIT ?"
        found = self._rows(query, run.number, -1 if limit is None else limit)
        return [Quarantined(element_id, _unpack(key), Reason(reason), detail) for element_id, key, reason, detail in found]

    def reasons(self, run: Run) -> Mapping[str, int]:
        """See `BackfillState`."""
        query = "SELECT reason, count(*) FROM quarantine WHERE run = ? GROUP BY reason ORDER BY count(*) DESC, reason"
        return dict(self._rows(query, run.number))

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._mutex, self._failures():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._mutex, self._failures():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _migrate(self) -> None:
        scripts = sorted(resources.files("segue.state").joinpath("migrations").iterdir(), key=lambda script: script.name)
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(scripts):
            message = f"{self._path} was written by a newer Segue (schema {version}, this one knows {len(scripts)})"
            raise StateStoreFailed(message, hint="Use that version, or another state file: SEGUE_STATE_PATH.")
        for number, script in enumerate(scripts[version:], start=version + 1):
            text = script.read_text(encoding="utf-8")
            self._connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")

    def _take_lock(self) -> IO[str]:
        path = self._path.with_name(self._path.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("a+", encoding="utf-8")
        except OSError as fault:
            msg = f"cannot write the state beside {self._path}: {fault.strerror}"
            raise StateStoreFailed(msg, hint=_ELSEWHERE) from fault
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            message = f"another segue works with {self._path} (process {owner})"
            raise StateStoreFailed(message, hint="Wait for it, stop it, or use another state file: SEGUE_STATE_PATH.") from None
        # The text only names the owner; a disk too full for it will speak up again at the first record.
        with suppress(OSError):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        return lock

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as fault:
            message = f"the state file {self._path} cannot be used: {fault}"
            raise StateStoreFailed(message, hint=_ELSEWHERE) from fault


_ELSEWHERE = (
    "Nothing acknowledged is lost. Free some space or mend the path, then run the same command again;\n"
    "or put the state elsewhere: SEGUE_STATE_PATH or [state] path."
)


def _pack(key: Key | None) -> str | None:
    return None if key is None else json.dumps(key)


def _unpack(text: str | None) -> Key | None:
    if text is None:
        return None
    key: Key = json.loads(text)
    return key


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
