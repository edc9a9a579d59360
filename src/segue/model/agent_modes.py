"""The values of agents' live traffic: its four modes, who may be written at a moment, and records as applications hold them.

Knows no store. What a mode means for a write and for a read is said here once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class AgentMode(StrEnum):
    """Where agent state lives for an application, in the order of the migration."""

    REDIS_ONLY = "redis_only"
    DUAL_WRITE = "dual_write"
    SHADOW = "shadow"
    POSTGRES = "postgres"

    @property
    def rank(self) -> int:
        """Its place in the order, from 0."""
        return list(AgentMode).index(self)

    @property
    def notes(self) -> bool:
        """Whether a write to Redis leaves an entry in the outbox."""
        return self in {AgentMode.DUAL_WRITE, AgentMode.SHADOW}

    @property
    def is_postgres(self) -> bool:
        """Whether PostgreSQL is written first, and answers."""
        return self is AgentMode.POSTGRES


class AgentStoreName(StrEnum):
    """Who was written, or answered."""

    REDIS = "redis"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class AgentValidated:
    """What the last comparison of both sides came to.

    Attributes:
        clean: Whether nothing differed that may not.
        epoch: The epoch it was made in.
        seconds_ago: How old it is.
        detail: In words.
    """

    clean: bool
    epoch: int
    seconds_ago: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AgentControl:
    """The control row in PostgreSQL: what decides.

    Attributes:
        mode: The mode.
        epoch: Grows with every change; 0 where there is no row yet.
        open: Whether writes are let through. While a way back to Redis is not complete, they are not.
        reason: Why it was changed last.
        validated: The last comparison.
    """

    mode: AgentMode = AgentMode.REDIS_ONLY
    epoch: int = 0
    open: bool = True
    reason: str = ""
    validated: AgentValidated | None = None


@dataclass(frozen=True, slots=True)
class AgentGate:
    """What Redis itself knows of the mode, checked in the same step as every write of the library.

    Attributes:
        epoch: As of the control row.
        mode: The mode; None while the gate is closed, and no write of the library to Redis succeeds.
    """

    epoch: int
    mode: AgentMode | None


@dataclass(frozen=True, slots=True)
class Experience:
    """One experience of an agent.

    Attributes:
        state, next_state: Whatever JSON can hold.
        action: As text; numbers come back as text, since that is what PostgreSQL's column is.
        reward: The reward.
        done: Whether the episode ended with it.
        timestamp: When, with a time zone; where the mapping has a place for it, the library fills it in.
        agent_id: Whose; needed only where the call does not say so.
    """

    state: Any = None
    action: Any = None
    reward: float | None = None
    next_state: Any = None
    done: bool | None = None
    timestamp: datetime | None = None
    agent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of an agent: a JSON value, or bytes, whichever the mapping holds."""

    agent_id: str
    policy: Any = None
    payload: bytes | None = None
    version: str | None = None
    timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class AgentBacklog:
    """What waits to be carried over.

    Attributes:
        to_postgres: Entries in Redis's outbox.
        refused: Entries that PostgreSQL, or the mapping, refused; they wait for somebody to look.
        to_redis: Writes that only PostgreSQL has.
        oldest_seconds: How long the oldest entry of Redis's outbox has waited.
    """

    to_postgres: int
    refused: int
    to_redis: int | None
    oldest_seconds: float
