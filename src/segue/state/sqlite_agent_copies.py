"""The records of copies of agent state, in the same SQLite file as those of embeddings. Knows no store."""

from __future__ import annotations

import json
from collections.abc import Mapping

from segue.model import AgentKind
from segue.ports import AgentAdvance, KindCounts, Run, UnknownKeys
from segue.state.sqlite_state import SqliteState

_QUARANTINE = """
INSERT INTO quarantine (run, range, place, key, element_id, reason, detail)
SELECT ?1, ?2, (SELECT count(*) FROM quarantine WHERE run = ?1 AND range = ?2), ?3, ?4, ?5, ?6
WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE run = ?1 AND key = ?3 AND element_id = ?4)
"""

_KIND = """
INSERT INTO agent_copied (run, range, kind, keys, migrated, written, skipped) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET keys = keys + excluded.keys, migrated = migrated + excluded.migrated,
    written = written + excluded.written, skipped = skipped + excluded.skipped
"""

_UNKNOWN = """
INSERT INTO agent_unknown (run, range, shape, keys, example) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET keys = keys + excluded.keys
"""

AGENT_KINDS = """
SELECT kind, sum(keys), sum(migrated), sum(written), sum(skipped) FROM agent_copied
WHERE run = ? GROUP BY kind ORDER BY kind
"""
"""What a run came to, by kind."""

AGENT_UNKNOWN = (
    "SELECT shape, sum(keys), min(example) FROM agent_unknown WHERE run = ? GROUP BY shape ORDER BY sum(keys) DESC, shape"
)
"""The keys of a run that no mapping takes, the most numerous first."""


class SqliteAgentCopies(SqliteState):
    """The `AgentCopyState` in a SQLite file; see `SqliteState` for the file, its lock and what can fail."""

    def record(self, run: Run, range_number: int, advance: AgentAdvance) -> None:
        """See `AgentCopyState`."""
        forward = (
            "UPDATE range SET cursor = coalesce(?, cursor), migrated = migrated + ?, done = ? WHERE run = ? AND number = ?"
        )
        migrated = sum(counts.migrated for counts in advance.kinds.values())
        cursor = None if advance.cursor is None else json.dumps(advance.cursor)
        with self._transaction() as connection:
            for row in advance.quarantined:
                values = (json.dumps(row.key), row.element_id, row.reason.value, row.detail)
                connection.execute(_QUARANTINE, (run.number, range_number, *values))
            for kind, counts in advance.kinds.items():
                numbers = (counts.keys, counts.migrated, counts.written, counts.skipped)
                connection.execute(_KIND, (run.number, range_number, kind.value, *numbers))
            for shape, unknown in advance.unknown.items():
                connection.execute(_UNKNOWN, (run.number, range_number, shape, unknown.keys, unknown.example))
            connection.execute(forward, (cursor, migrated, advance.done, run.number, range_number))

    def kinds(self, run: Run) -> Mapping[AgentKind, KindCounts]:
        """See `AgentCopyState`."""
        return {AgentKind(kind): KindCounts(*numbers) for kind, *numbers in self._rows(AGENT_KINDS, run.number)}

    def unknown(self, run: Run) -> Mapping[str, UnknownKeys]:
        """See `AgentCopyState`."""
        return {shape: UnknownKeys(keys, example) for shape, keys, example in self._rows(AGENT_UNKNOWN, run.number)}
