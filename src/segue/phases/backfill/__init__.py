"""The copy of what already exists: plan, copy range by range, build the index. Begin reading at `Backfill.run` in `run`.

A batch's way is one loop, in `RangeCopier.copy`: source.scan → codec.encode → sink.upsert → state.advance. The cursor moves
only behind rows that the sink has acknowledged, so whatever is killed is done again from there, and upserts make that
harmless. Other machines may copy ranges; the records stay here, and are written at the same two moments.
Knows ports only: no store, no terminal, no file.
"""

from segue.phases.backfill.job import Beside, Job, Outcome, Preview
from segue.phases.backfill.ranges import IN_FLIGHT, RangeCopier
from segue.phases.backfill.run import STATED_COPY, STATIC_COPY, Backfill

__all__ = ["IN_FLIGHT", "STATED_COPY", "STATIC_COPY", "Backfill", "Beside", "Job", "Outcome", "Preview", "RangeCopier"]
