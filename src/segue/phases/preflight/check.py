"""What a check is, what it looks at, and what it finds. Knows no check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from segue.errors import SegueError
from segue.model import Layout, SourceSpec
from segue.phases.preflight.inventory import Inventory, read
from segue.pipelines.conditions import settled
from segue.ports import AgentServer, Census, Cluster, Machine, Rehearsed, Server, Sink, SinkServer, Source, SourceServer, Stage


class Store(StrEnum):
    """What a check may be about, besides a collection."""

    NEO4J = "neo4j"
    MILVUS = "milvus"
    REDIS = "redis"
    POSTGRES = "postgres"
    KUBERNETES = "kubernetes"
    MACHINE = "machine"


class Outcome(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"
    NOT_CONFIGURED = "not configured"


class Severity(StrEnum):
    """What it means when a check does not hold: nothing is begun, or the operator should know."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        outcome: Whether it holds.
        evidence: What was seen, in words and numbers.
        fix: What to do, where something is to be done.
        facts: The same for programs; plain JSON values.
    """

    outcome: Outcome
    evidence: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def ok(evidence: str, **facts: Any) -> Finding:
    """Return a finding with which nothing is wrong."""
    return Finding(Outcome.OK, evidence, facts=facts)


def warning(evidence: str, fix: str, **facts: Any) -> Finding:
    """Return a finding that the operator should know; it does not stop a migration."""
    return Finding(Outcome.WARNING, evidence, fix, facts)


def error(evidence: str, fix: str, **facts: Any) -> Finding:
    """Return a finding with which no migration should begin."""
    return Finding(Outcome.ERROR, evidence, fix, facts)


def refused(fault: SegueError) -> Finding:
    """Return an error as a finding."""
    return error(fault.message, fault.hint)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a preflight measures against; see `config.PreflightSettings`.

    Attributes:
        replication: Copies of each byte in the sink's object storage.
        disk_path: A path on the volume that holds the sink's data, None where this machine does not have it.
        disk_free_bytes: What is free there as stated by its operator, None where it is not.
        query_memory_bytes: What is free for collections in memory as stated, None where it is not.
        inventory_seconds: How long items are read for the inventory.
        probe_seconds: How long the rehearsal copies.
        batch_rows: Rows that a batch of the copy has at most.
    """

    replication: int = 3
    disk_path: str | None = None
    disk_free_bytes: int | None = None
    query_memory_bytes: int | None = None
    inventory_seconds: float = 20.0
    probe_seconds: float = 5.0
    batch_rows: int = 1_000


class Candidate:
    """A collection that is to be migrated, with what was found out about it. What a check has looked up, the next one has.

    Args:
        name: Its name.
        spec: Its source as configured.
        lay_out: From a spec with the properties' types as found to the layout.
        source: Where its items are.
        sink: Where its rows go; opened when it is asked for.
        stage: Where its copy is rehearsed; None where nothing may be changed.
        limits: What it is measured against.
    """

    def __init__(
        self,
        name: str,
        spec: SourceSpec,
        lay_out: Callable[[SourceSpec], Layout],
        source: Source,
        sink: Callable[[], Sink],
        stage: Stage | None,
        limits: Limits,
    ) -> None:
        self.name = name
        self.configured = spec
        self.source = source
        self.stage = stage
        self.limits = limits
        self._lay_out = lay_out
        self._sink = sink

    @cached_property
    def census(self) -> Census:
        """One pass over the label."""
        return self.source.census(self.configured)

    @cached_property
    def settled(self) -> tuple[SourceSpec, list[str]]:
        """The source as the data is, and what the operator should know about it."""
        return settled(self.configured, self.census)

    @property
    def spec(self) -> SourceSpec:
        """The source as the data is."""
        return self.settled[0]

    @cached_property
    def layout(self) -> Layout:
        """The collection as it will be."""
        return self._lay_out(self.spec)

    @property
    def sink(self) -> Sink:
        """Where its rows go."""
        return self._sink()

    @cached_property
    def inventory(self) -> Inventory:
        """What the items are like, as many as could be read in time."""
        return read(self.source, self.spec, self.layout, self.census, seconds=self.limits.inventory_seconds)

    @cached_property
    def rehearsed(self) -> Rehearsed:
        """The copy in miniature; only where there is a stage."""
        assert self.stage is not None  # noqa: S101  # asked by the check for a rehearsal only, which looks
        return self.stage.rehearse(self.limits.probe_seconds, round(PROBE_ITEMS_A_SECOND * self.limits.probe_seconds))


PROBE_ITEMS_A_SECOND = 1_600
"""Items that a rehearsal copies at most, for each second it may take; what is on its way then is copied too."""


@dataclass(frozen=True, slots=True)
class Room:
    """Everything that checks look at.

    Attributes:
        servers: The configured stores.
        source, sink: Two of them, with what only they are asked.
        machine: This machine.
        cluster: Where the application is deployed; None where the configuration names no cluster.
        candidates: The collections by name.
        state_path: Where the tool's own records are.
        agents: The configured stores of agent state, with what only they are asked.
        trying: Whether something may be tried and taken back.
    """

    servers: Mapping[Store, Server]
    source: SourceServer
    sink: SinkServer
    machine: Machine
    cluster: Cluster | None
    candidates: Mapping[str, Candidate]
    state_path: str
    agents: Mapping[Store, AgentServer] = field(default_factory=dict)
    trying: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at.

    Attributes:
        id: Its name.
        severity: What it means when it does not hold; a check of severity "error" may also only warn.
        what: What it looks at, in a sentence.
        fix: What to do when it does not hold.
        look: Looks. Given the room, and the name of the store or the collection.
        stores: Looked at once for each of these; empty for a check of each collection.
        needs: The checks without which it makes no sense: an id for the same store or collection, "id:store" for another one.
        is_about_connecting: Whether `--check-connectivity` has it.
        seconds: How long it may take.
    """

    id: str
    severity: Severity
    what: str
    fix: str
    look: Callable[[Room, str], Finding]
    stores: Sequence[Store] = ()
    needs: Sequence[str] = ()
    is_about_connecting: bool = False
    seconds: float = 30.0


def gib(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit, bytes_each in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_each:
            return f"{size / bytes_each:,.1f} {unit}"
    return f"{math.ceil(size)} B"
