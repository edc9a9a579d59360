"""Config → one look at agent state, from any machine: each store is asked by itself, and what is away is said and passed over.

Only reads: makes no table, and nothing in Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from segue.bootstrap.agent_library import open_agent_sides
from segue.bootstrap.agent_state import postgres
from segue.bootstrap.asking import ask, tried
from segue.config import Settings
from segue.model import AgentBacklog, AgentMode
from segue.phases.agent_copy import COLLECTION
from segue.phases.agent_cutover import AgentFacts, look
from segue.seen import AgentsSeen
from segue.state.sqlite_look import newest_agent_copy

T = TypeVar("T")

CONNECT_SECONDS, REQUEST_SECONDS = 2.0, 5.0


def look_at_agents(settings: Settings) -> AgentsSeen:
    """Look at agent state; never raises for a store that is away."""
    unreachable: list[str] = []
    found: dict[str, Any] = {}
    copy = tried(lambda: newest_agent_copy(settings.state.path, COLLECTION), unreachable)
    with open_agent_sides(settings) as sides:
        journal = _journal(settings)
        asked: dict[str, Callable[[], Any]] = {"control": sides.postgres.control, "events": journal.events}
        ask(asked, found, unreachable)
        control = found.get("control")
        # Tables that are not there cannot be counted.
        is_made = control is not None and control.epoch > 0
        if is_made:
            ask({"rows": sides.postgres.counts, "only_here": sides.postgres.waiting}, found, unreachable)
        waiting = tried(sides.redis.waiting, unreachable)
        backlog = AgentBacklog(waiting[0], waiting[1], found.pop("only_here", None), waiting[2]) if waiting else None
        found.pop("only_here", None)
        if control is not None and backlog is not None:
            onward = next(iter(list(AgentMode)[control.mode.rank + 1 :]), None)
            copied = copy is not None and copy.copy.finished_at is not None
            facts = AgentFacts(copied, settings.agentdb.validated_within_seconds)
            gates = tried(lambda: look(sides.redis, control, onward, facts), unreachable) if onward else None
            found |= {"onward": onward, "gates": gates or ()}
    return AgentsSeen(datetime.now(UTC), backlog=backlog, copy=copy, unreachable=unreachable, **found)


def _journal(settings: Settings) -> Any:
    at = postgres(settings, CONNECT_SECONDS, REQUEST_SECONDS)
    from segue.stores.postgres_journal import PostgresJournal

    return PostgresJournal(at)
