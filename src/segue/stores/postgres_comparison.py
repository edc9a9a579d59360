"""The tables of agent state as they are compared with Redis: rows against rows, value by value, by PostgreSQL itself.

Rows go the way of a batch into a temporary table and are joined there, so that what is compared is what columns hold, not what
this process believes they do. Changes nothing but by `delete`. Knows no Redis and no mapping.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from segue.model import TABLES, AgentKind, AgentRow, AgentTable
from segue.pipelines.agent_values import moment
from segue.ports import AgentCompared, AgentDifference, UnseenRow
from segue.stores.postgres_store import AgentTables, staged_table
from segue.stores.sql import sql

_UNSEEN_A_PAGE = 5_000
_NIL = uuid.UUID(int=0)


class AgentComparison(AgentTables):
    """The `AgentComparer` over PostgreSQL. One thread at a time, one connection for its whole life."""

    def compare(self, rows: Sequence[AgentRow], *, remember: bool) -> AgentCompared:
        """See `AgentComparer`."""
        by_kind: dict[AgentKind, list[AgentRow]] = defaultdict(list)
        for row in rows:
            by_kind[row.kind].append(row)
        compared, source, sink = 0, 0, 0
        differences: list[AgentDifference] = []
        with self._session() as connection:
            for kind, chosen in by_kind.items():
                table = TABLES[kind]
                self._stage(connection, kind, chosen)
                if remember:
                    connection.execute(sql("agentdb_seen", seen=_seen(table)))
                    chosen_keys = f"SELECT DISTINCT natural_key FROM {staged_table(table)}"
                    connection.execute(f"INSERT INTO {_seen(table)} {chosen_keys} ON CONFLICT DO NOTHING")
                found = connection.execute(self._comparison(kind)).fetchone()
                assert found is not None  # noqa: S101  # an aggregate has a row
                number, of_source, of_sink, odd = found
                compared, source, sink = compared + number, source + int(of_source), sink + int(of_sink)
                differences += [
                    AgentDifference(kind, bytes.fromhex(natural_key), key, missing, tuple(fields))
                    for natural_key, key, missing, fields in odd
                ]
            connection.commit()
        return AgentCompared(compared, differences, source, sink)

    def unseen(self, kind: AgentKind, dbs: Sequence[int]) -> Iterator[list[UnseenRow]]:
        """See `AgentComparer`."""
        table, after = TABLES[kind], _NIL
        while True:
            with self._session() as connection:
                connection.execute(sql("agentdb_seen", seen=_seen(table)))
                query = sql("agentdb_unseen", table=table.name, seen=_seen(table))
                found = connection.execute(query, (list(dbs), after, _UNSEEN_A_PAGE)).fetchall()
                connection.commit()
            if not found:
                return
            yield [UnseenRow(kind, natural_key.bytes, db, key) for natural_key, db, key in found]
            after = found[-1][0]

    def delete(self, kind: AgentKind, natural_keys: Sequence[bytes], looked_at: int) -> int:
        """See `AgentComparer`."""
        query = f"DELETE FROM {TABLES[kind].name} WHERE natural_key = ANY(%s) AND observed_at <= %s"
        at: datetime = moment(looked_at)
        with self._session() as connection:
            self._refuse_stale(connection)
            gone: int = connection.execute(query, ([uuid.UUID(bytes=one) for one in natural_keys], at)).rowcount
            connection.commit()
        return gone

    def _comparison(self, kind: AgentKind) -> str:
        table = TABLES[kind]
        # The content hash speaks of the mapping too: a row of an older one is not what it should be.
        names = [*(column.name for column in table.columns), "content_hash", "source_db", "source_key"]
        fields = ", ".join(f'CASE WHEN w."{name}" IS DISTINCT FROM h."{name}" THEN \'{name}\' END' for name in names)
        split = self._monthly and kind is AgentKind.EXPERIENCES
        return sql(
            "agentdb_compare",
            table=table.name,
            staged=staged_table(table),
            fields=fields,
            and_time='AND h."timestamp" IS NOT DISTINCT FROM w."timestamp"' if split else "",
            wanted_digest=_digest("wanted_hash"),
            held_digest=_digest("held_hash"),
        )


def _digest(column: str) -> str:
    return f"('x' || left(replace({column}::text, '-', ''), 15))::bit(60)::bigint"


def _seen(table: AgentTable) -> str:
    return f"seen_{table.name}"
