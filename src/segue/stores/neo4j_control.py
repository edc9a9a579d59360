"""The control node in Neo4j: which properties it has, and what they mean.

Times are kept in milliseconds, moments in milliseconds of the server's clock (`timestamp()`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.errors import FatalError
from segue.model import Control, FenceTimes, StorageMode

CONTROL_FIELDS = (
    "c.mode, c.epoch, c.visible_ms, c.fence_ms, c.window_ms, c.capture_token, c.library_token, c.copied, "
    "timestamp() - c.copied_at, c.reason"
)
"""What `control_of` reads, of a node `c` that may be null."""


def control_of(row: Sequence[Any]) -> Control:
    """Return the control node that a row of `CONTROL_FIELDS` shows.

    Raises:
        FatalError: Its mode is none.
    """
    mode, epoch, visible, fence, window, trigger, library, copied, copied_ago, reason = row
    try:
        storage_mode = StorageMode(mode or StorageMode.NEO4J_ONLY)
    except ValueError:
        known = ", ".join(StorageMode)
        message = f"a :SegueControl node says mode {mode!r}, which is none of {known}"
        raise FatalError(
            message, hint="Somebody changed it by hand: set the property `mode` right, then `segue mode set`."
        ) from None
    return Control(
        mode=storage_mode,
        epoch=epoch or 0,
        times=FenceTimes() if window is None else FenceTimes(visible / 1000, fence / 1000, (window - visible - fence) / 1000),
        capture=trigger or library,
        copied=copied,
        copied_seconds_ago=None if copied is None or copied_ago is None else copied_ago / 1000,
        reason=reason or "",
    )
