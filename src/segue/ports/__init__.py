"""The interfaces between what Segue does and where it does it; they import only values.

A store, a state or a terminal implements these; a phase uses nothing else. One contract suite a port runs the same on the
memory implementation and on the real one (tests/contract).
"""

from __future__ import annotations

from segue.ports.agent_state import (
    AgentAdvance,
    AgentCopyState,
    AgentSink,
    AgentSource,
    KeyFacts,
    KindCounts,
    ReadPiece,
    RedisNode,
    ScanPage,
    UnknownKeys,
)
from segue.ports.catalog import (
    Catalog,
    PropertyFound,
    VectorIndexFound,
)
from segue.ports.copying import (
    Ack,
    BackfillState,
    Census,
    IndexProgress,
    Progress,
    RangeProgress,
    Run,
    Sink,
    Source,
    Workers,
)
from segue.ports.journal import Journal
from segue.ports.marking import (
    Backlog,
    Capture,
    Looked,
    Marks,
    Standing,
)
from segue.ports.reconciling import (
    Comparison,
    Counting,
    Listing,
    RangeCompared,
    Reading,
    ReconcileState,
    SinkSide,
    SourceSide,
    Stratum,
)
from segue.ports.returning import (
    ByHand,
    IndexState,
    Physical,
    Physicals,
    Readiness,
    Traces,
)
from segue.ports.rollout import Rollout, RolloutWatch
from segue.ports.serving import (
    Candidates,
    ControlNode,
    Fence,
    Meter,
    Nearest,
    NoMeter,
    Pending,
    Vector,
    Writes,
)

__all__ = [
    "Ack",
    "AgentAdvance",
    "AgentCopyState",
    "AgentSink",
    "AgentSource",
    "BackfillState",
    "Backlog",
    "ByHand",
    "Candidates",
    "Capture",
    "Catalog",
    "Census",
    "Comparison",
    "ControlNode",
    "Counting",
    "Fence",
    "IndexProgress",
    "IndexState",
    "Journal",
    "KeyFacts",
    "KindCounts",
    "Listing",
    "Looked",
    "Marks",
    "Meter",
    "Nearest",
    "NoMeter",
    "Pending",
    "Physical",
    "Physicals",
    "Progress",
    "PropertyFound",
    "RangeCompared",
    "RangeProgress",
    "ReadPiece",
    "Readiness",
    "Reading",
    "ReconcileState",
    "RedisNode",
    "Rollout",
    "RolloutWatch",
    "Run",
    "ScanPage",
    "Sink",
    "SinkSide",
    "Source",
    "SourceSide",
    "Standing",
    "Stratum",
    "Traces",
    "UnknownKeys",
    "Vector",
    "VectorIndexFound",
    "Workers",
    "Writes",
]
