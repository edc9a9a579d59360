"""The interfaces between what Segue does and where it does it; they import only values.

A store, a state or a terminal implements these; a phase uses nothing else. One contract suite a port runs the same on the
memory implementation and on the real one (tests/contract).
"""

from __future__ import annotations

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
    Lookup,
    Meter,
    Nearest,
    NoMeter,
    Pending,
    Vector,
    Writes,
)

__all__ = [
    "Ack",
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
    "Listing",
    "Looked",
    "Lookup",
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
    "Readiness",
    "Reading",
    "ReconcileState",
    "Rollout",
    "RolloutWatch",
    "Run",
    "Sink",
    "SinkSide",
    "Source",
    "SourceSide",
    "Standing",
    "Stratum",
    "Traces",
    "Vector",
    "VectorIndexFound",
    "Workers",
    "Writes",
]
