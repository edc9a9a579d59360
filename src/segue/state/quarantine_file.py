"""The quarantine as a file people and scripts read: JSON lines, one row each, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from segue.errors import StateStoreFailed
from segue.model import Quarantined


def write(path: Path, rows: Sequence[Quarantined]) -> None:
    """Write one JSON object a row: `key` (null where the node has none), `reason`, `detail`, and `element_id` where known.

    Without rows an earlier file is emptied rather than left to mislead; none is made.

    Raises:
        StateStoreFailed: The file cannot be written.
    """
    if not rows and not path.exists():
        return
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(_members(row), ensure_ascii=False) + "\n")
        draft.replace(path)
    except OSError as fault:
        with suppress(OSError):
            draft.unlink()
        message = f"cannot write the quarantine to {path}: {fault.strerror}"
        raise StateStoreFailed(message, hint="The rows are also in the state file; free some space and run again.") from fault


def _members(row: Quarantined) -> dict[str, object]:
    members: dict[str, object] = {"key": row.key, "reason": row.reason.value, "detail": row.detail}
    return members | ({"element_id": row.element_id} if row.element_id else {})
