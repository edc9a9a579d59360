"""The control node in Neo4j: which properties it has, and what they mean.

Times are kept in milliseconds, moments in milliseconds of the server's clock (`timestamp()`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.model import Control, FenceTimes, StorageMode

CONTROL_FIELDS = """[
  c.mode, c.epoch, c.visible_ms, c.fence_ms, c.window_ms, coalesce(c.capture_token, c.library_token),
  c.copied, timestamp() - c.copied_at, c.reason
]"""
"""The fields of a control node `c` as one list, in the order in which `control_of` takes them."""


def control_of(row: Sequence[Any] | None) -> Control:
    """Return the control node from its fields; None is no node, and a node that only the capture has noted has no mode."""
    if row is None:
        return Control()
    mode, epoch, visible, fence, window, capture, copied, copied_ago, reason = row
    times = FenceTimes()
    if window is not None:
        times = FenceTimes(visible / 1000, fence / 1000, (window - visible - fence) / 1000)
    return Control(
        mode=StorageMode(mode or StorageMode.NEO4J_ONLY),
        epoch=epoch or 0,
        times=times,
        capture=capture,
        copied=copied,
        copied_seconds_ago=None if copied is None or copied_ago is None else copied_ago / 1000,
        reason=reason or "",
    )
