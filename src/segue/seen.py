"""What can be seen of a collection at one moment, from outside and by whoever looks; what cannot be reached is said.

A value that `monitor` and `report` both stand on. Knows no store: the looking is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from segue.migration import GateSeen
from segue.model import AgentBacklog, AgentControl, AgentKind, AgentMode, Control, Event, Instance, Samples, StorageMode
from segue.ports import AgentCopySeen, Backlog, CopySeen, IndexState


@dataclass(frozen=True, slots=True)
class SinkSeen:
    """The collection in Milvus.

    Attributes:
        physical: Its own name, behind the alias; None when there is no collection.
        rows: How many rows Milvus counts; None when it is not loaded.
    """

    physical: str | None
    rows: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at one collection. None stands for what could not be reached; nothing is guessed.

    Attributes:
        collection: Its name.
        at: When, by this machine's clock.
        control, instances, backlog, index, events, relays: As Neo4j has them; `relays` are the live ones, by name.
        onward, gates: The next mode, and what stands before it.
        sink: As Milvus has it.
        copy: The newest copy, as the state file has it; None too where this machine has no such file.
        samples: What processes count, as far as they were asked.
        unreachable: A sentence for each thing that could not be reached.
    """

    collection: str
    at: datetime
    control: Control | None = None
    instances: Sequence[Instance] | None = None
    backlog: Backlog | None = None
    index: IndexState | None = None
    events: Sequence[Event] | None = None
    relays: Sequence[str] | None = None
    onward: StorageMode | None = None
    gates: Sequence[GateSeen] = ()
    sink: SinkSeen | None = None
    copy: CopySeen | None = None
    samples: Samples = field(default_factory=Samples)
    unreachable: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AgentsSeen:
    """One look at agent state. None stands for what could not be reached; nothing is guessed.

    Attributes:
        at: When, by this machine's clock.
        control, events: As PostgreSQL has them.
        rows: Rows that each table holds now.
        backlog: What waits on either side to be carried over to the other.
        onward, gates: The next mode, and what stands before it.
        copy: The newest copy, as the state file has it; None too where this machine has no such file.
        unreachable: A sentence for each thing that could not be reached.
    """

    at: datetime
    control: AgentControl | None = None
    events: Sequence[Event] | None = None
    rows: Mapping[AgentKind, int] | None = None
    backlog: AgentBacklog | None = None
    onward: AgentMode | None = None
    gates: Sequence[GateSeen] = ()
    copy: AgentCopySeen | None = None
    unreachable: Sequence[str] = ()
