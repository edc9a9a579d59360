"""A look at the state file beside whoever works with it: read-only, without its lock, and without making one.

For watching and reporting. Writes nothing, not even a schema; what an older or newer Segue wrote is said, not mended.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segue.errors import StateStoreFailed
from segue.model import AgentKind, Counts, Quarantined, Reason
from segue.ports import AgentCopySeen, CopySeen, KindCounts, UnknownKeys
from segue.state.sqlite_agent_copies import AGENT_KINDS, AGENT_UNKNOWN

EXAMPLES = 20
"""Quarantined rows shown; the file beside the state has all of them."""

_NEWEST = """
SELECT number, target, conditions, notes, begun_at, finished_at, seconds
FROM run WHERE collection = ? ORDER BY number DESC LIMIT 1
"""

_RANGES = """
SELECT r.planned, r.migrated, r.done, r.in_flight,
       (SELECT count(*) FROM quarantine q WHERE q.run = r.run AND q.range = r.number)
FROM range r WHERE r.run = ?
"""


def newest_copy(path: Path, collection: str) -> CopySeen | None:
    """Return the newest run of a collection; None where none is recorded, or there is no state file here.

    Raises:
        StateStoreFailed: The file cannot be read.
    """
    with _opened(path) as connection:
        found = connection.execute(_NEWEST, (collection,)).fetchall() if connection else []
        return _seen(path, connection, found[0]) if connection and found else None


def newest_agent_copy(path: Path, collection: str) -> AgentCopySeen | None:
    """Return the newest copy of agent state; as `newest_copy`."""
    with _opened(path) as connection:
        found = connection.execute(_NEWEST, (collection,)).fetchall() if connection else []
        if connection is None or not found:
            return None
        copy = _seen(path, connection, found[0])
        kinds = {AgentKind(kind): KindCounts(*counts) for kind, *counts in connection.execute(AGENT_KINDS, (copy.number,))}
        unknown = {
            shape: UnknownKeys(keys, example) for shape, keys, example in connection.execute(AGENT_UNKNOWN, (copy.number,))
        }
        return AgentCopySeen(copy, kinds, unknown)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection | None]:
    if not path.exists():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            yield connection
    except (sqlite3.Error, OSError, ValueError) as fault:
        message = f"the state file {path} cannot be read: {fault}"
        raise StateStoreFailed(message, hint="Is it Segue's, and of this version? [state] path or SEGUE_STATE_PATH.") from fault


def _seen(path: Path, connection: sqlite3.Connection, newest: Any) -> CopySeen:
    number, target, conditions, notes, begun_at, finished_at, seconds = newest
    ranges = connection.execute(_RANGES, (number,)).fetchall()
    source = sum(migrated + left if done else max(planned, migrated + left) for planned, migrated, done, _, left in ranges)
    reasons = "SELECT reason, count(*) FROM quarantine WHERE run = ? GROUP BY reason ORDER BY count(*) DESC, reason"
    rows = "SELECT element_id, key, reason, detail FROM quarantine WHERE run = ? ORDER BY range, place LIMIT ?"
    return CopySeen(
        number=number,
        target=target.split("#")[0],
        begun_at=datetime.fromisoformat(begun_at),
        finished_at=datetime.fromisoformat(finished_at) if finished_at else None,
        seconds=seconds,
        touched_seconds_ago=_touched_seconds_ago(path),
        counts=Counts(source, sum(one[1] for one in ranges), sum(one[4] for one in ranges)),
        reasons=dict(connection.execute(reasons, (number,)).fetchall()),
        examples=[
            Quarantined(element_id, json.loads(key) if key is not None else None, Reason(reason), detail)
            for element_id, key, reason, detail in connection.execute(rows, (number, EXAMPLES)).fetchall()
        ],
        ranges=len(ranges),
        ranges_done=sum(bool(one[2]) for one in ranges),
        ranges_in_flight=sum(bool(one[3]) for one in ranges),
        notes=tuple(json.loads(notes)),
        tool_version=_version(json.loads(conditions)),
    )


def _touched_seconds_ago(path: Path) -> float:
    files = (path, path.with_name(path.name + "-wal"))
    newest = max(file.stat().st_mtime for file in files if file.exists())
    return max(0.0, datetime.now(UTC).timestamp() - newest)


def _version(conditions: Mapping[str, Any]) -> str:
    return str(conditions.get("tool", {}).get("version", "unknown"))
