"""How a collection stands, told to whoever counts: mode, instances, what Milvus holds. Knows ports only, decides nothing."""

from __future__ import annotations

from segue.errors import RetryableError, SegueError
from segue.model import Layout, StoreName
from segue.ports import ControlNode, Meter, Sink

OPERATION = "observe"


def observe(node: ControlNode, sink: Sink, layout: Layout, meter: Meter) -> None:
    """Tell how the collection stands now; what a store does not say is counted as failed and told at the next look.

    Costs Neo4j two small reads, Milvus a count at the Strong level.
    """
    try:
        meter.stands(node.read(), node.instances())
    except SegueError as fault:
        meter.failed(StoreName.NEO4J, OPERATION, type(fault).__name__)
    try:
        meter.stored(sink.count(layout), sink.index_progress(layout).indexed)
    except RetryableError as fault:
        meter.failed(StoreName.MILVUS, OPERATION, type(fault).__name__)
    except SegueError:
        # Not loaded yet: a copy is under way, and no failure.
        return
