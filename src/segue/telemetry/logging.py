"""Structured logs on stderr: JSON lines, or text for people. Only the command line configures logging; a library never does."""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum

import structlog


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


def configure(log_format: LogFormat) -> None:
    """Send Segue's own events, and warnings of the libraries below, to stderr in one form."""
    last = structlog.processors.JSONRenderer() if log_format is LogFormat.JSON else structlog.dev.ConsoleRenderer(colors=False)
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, last],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=before))
    # gRPC's own core writes to stderr by itself, past every handler; what fails there is raised as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)
