"""`segue migrate-agentdb --follow` as it is told: a line now and then, every refused element once, the result in the end."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import structlog

from segue.cli.output import Result
from segue.model import Quarantined
from segue.phases.agent_follow import FollowStanding
from segue.telemetry.logging import LogFormat

_MOST_REFUSED = 10_000
"""Refused elements that are remembered, not to be told of twice."""


class Watch:
    """See `phases.agent_follow.FollowWatch`."""

    def __init__(self, log_format: LogFormat) -> None:
        self._json = log_format is LogFormat.JSON
        self._refused: set[tuple[str, str]] = set()

    def standing(self, standing: FollowStanding) -> None:
        """See `FollowWatch`."""
        self._say("following", **_data(standing))

    def refused(self, row: Quarantined) -> None:
        """See `FollowWatch`."""
        name = (row.key, row.element_id) if isinstance(row.key, str) else (str(row.key), row.element_id)
        if name not in self._refused and len(self._refused) < _MOST_REFUSED:
            self._refused.add(name)
            self._say("quarantined", key=row.key, reason=row.reason.value, detail=row.detail)

    def note(self, text: str) -> None:
        """See `FollowWatch`."""
        self._say("note", text=text)

    def _say(self, event: str, **values: object) -> None:
        if self._json:
            structlog.get_logger().info(event, collection="agentdb", **values)
            return
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
        sys.stderr.write(f"agentdb: {event}: {told}\n")
        sys.stderr.flush()


def result(standing: FollowStanding) -> Result:
    """Return what following came to."""
    facts = [(name.replace("_", " "), f"{value:,}") for name, value in _data(standing).items()]
    return Result("agentdb: followed until asked to stop", facts, {"followed": _data(standing)})


def _data(standing: FollowStanding) -> dict[str, Any]:
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in asdict(standing).items()}
