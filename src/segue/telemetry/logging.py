"""Structured logs on stderr: JSON lines, or text for people. Only the command line configures logging; a library never does.

Every line of JSON carries `run`, which names this one run of a command: the journal has it too. What is logged is chosen by
those who log; no setting that holds a secret can be turned into text by accident (`config` keeps it in a `SecretStr`).
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from enum import StrEnum

import structlog


class LogFormat(StrEnum):
    """How a log line is written; `auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"

    @property
    def resolved(self) -> LogFormat:
        """What it comes to where stderr leads now."""
        if self is not LogFormat.AUTO:
            return self
        return LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON


class LogLevel(StrEnum):
    """What is logged at least; `debug` adds a line for every batch."""

    DEBUG = "debug"
    INFO = "info"


RUN = uuid.uuid4().hex[:12]
"""Names this run of a command. A variable of the module, since threads do not inherit a context."""

_chosen: dict[str, object] = {"level": LogLevel.INFO, "format": LogFormat.TEXT}


def choose_level(level: LogLevel) -> None:
    """Set what is logged at least; counts from the next `configure` on."""
    _chosen["level"] = level


def logs_batches() -> bool:
    """Say whether every batch is logged."""
    return _chosen["level"] is LogLevel.DEBUG


def is_json() -> bool:
    """Say whether what is written on stderr is JSON; text before `configure` was called."""
    return _chosen["format"] is LogFormat.JSON


def configure(log_format: LogFormat) -> None:
    """Send Segue's own events, and warnings of the libraries below, to stderr in one form."""
    _chosen["format"] = log_format.resolved
    last = structlog.processors.JSONRenderer() if is_json() else structlog.dev.ConsoleRenderer(colors=False)
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_run,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, last],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if logs_batches() else logging.INFO),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=before))
    # gRPC's own core writes to stderr by itself, past every handler; what fails there is raised as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)


def _with_run(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    event["run"] = RUN
    return event
