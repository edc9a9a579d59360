"""What a copy of agent state is told, and what it tells: its job, what it would do, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.model import AgentKind, Counts, Quarantined
from segue.pipelines.agent_codec import AgentCodec
from segue.ports import KindCounts, RedisNode, Run, UnknownKeys

COLLECTION = "agentdb"
"""The name that copies of agent state are recorded under."""

KEYS_A_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class AgentJob:
    """What to copy, and how.

    Attributes:
        codecs: One a mapping, in the order in which they count.
        described: The mappings as configured, as plain JSON values: what a checkpoint is bound to.
        ignore: Globs of keys that are somebody else's.
        rows_per_batch: Rows that are written in one transaction, about.
        keys_per_page: Keys asked for at once.
        tool_version: A checkpoint of another version is not continued.
        skip_history: Leave experiences out.
        since: Leave out experiences older than that, in microseconds since 1970.
        patience_seconds: How long a store may fail to answer before the copy stops, resumable.
    """

    codecs: Sequence[AgentCodec]
    described: Sequence[Mapping[str, object]]
    ignore: Sequence[str]
    rows_per_batch: int
    tool_version: str
    keys_per_page: int = KEYS_A_PAGE
    skip_history: bool = False
    since: int | None = None
    patience_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """What a run came to.

    Attributes:
        complete: Every node is done; false when stopped on request.
        counts: The account, in rows; what is pending is an estimate by keys.
        kinds: The counts by kind.
        unknown: Keys that no mapping takes, by shape.
        reasons: Quarantined rows by reason.
        tables: Rows that each table holds now, those of before included; none while the copy is not complete.
        seconds: This command's time.
        ops: Keys and pieces that this command read from Redis.
        notes: What the operator should know.
        run: The record.
    """

    complete: bool
    counts: Counts
    kinds: Mapping[AgentKind, KindCounts]
    unknown: Mapping[str, UnknownKeys]
    reasons: Mapping[str, int]
    tables: Mapping[AgentKind, int]
    seconds: float
    ops: int
    notes: Sequence[str]
    run: Run


@dataclass(frozen=True, slots=True)
class MappingPreview:
    """What one mapping would do.

    Attributes:
        key: Its pattern.
        kind: What its keys become.
        keys: Keys that fit it.
        rows: Rows of those that were read.
        read: Keys that were read.
        reasons: Of their elements, how many would be quarantined, by reason.
    """

    key: str
    kind: AgentKind
    keys: int
    rows: int
    read: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AgentPreview:
    """What a run would do, found without changing anything.

    Attributes:
        nodes: Where keys are.
        scanned: Keys that were looked at.
        complete: Whether these are all.
        mappings: What each mapping would do.
        unknown: Keys that no mapping takes, by shape.
        examples: Some of what would be quarantined.
        unfit: How existing tables differ from what they must be.
    """

    nodes: Sequence[RedisNode]
    scanned: int
    complete: bool
    mappings: Sequence[MappingPreview]
    unknown: Mapping[str, UnknownKeys]
    examples: Sequence[Quarantined]
    unfit: Sequence[str]
