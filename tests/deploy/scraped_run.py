"""What a Prometheus saw of a migration, asked by its API; and which metrics an expression asks for."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import promql_parser

from segue.sandbox import Endpoint
from segue.telemetry.metrics import Declared


@dataclass(frozen=True)
class ScrapedRun:
    """A migration that went well, as Prometheus saw it; its processes have ended.

    Attributes:
        collection: Its collection's name.
        began: When it began, in seconds since 1970.
        page: The report as HTML, made while everything was at work.
        rules: What Prometheus said of its rules while everything was at work.
    """

    prometheus: Endpoint
    collection: str
    began: float
    page: str = ""
    rules: list[dict[str, Any]] = field(default_factory=list)

    def asked(self, path: str, **parameters: str) -> Any:
        """Return the data of an API call; its own words when it refuses."""
        url = f"{self.prometheus.uri}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310  # our own loopback address
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                message = f"{parameters}: {refusal.read().decode()}"
            raise AssertionError(message) from None

    def values(self, expression: str) -> list[float]:
        """Return every number that an expression had since the run began, all series together."""
        window = {"start": f"{self.began:.3f}", "end": f"{time.time():.3f}", "step": "1"}
        series = self.asked("query_range", query=expression, **window)["result"]
        numbers = [float(value) for one in series for _, value in one["values"]]
        return [number for number in numbers if not math.isnan(number)]


def metrics_of(expression: str) -> set[str]:
    """Return the names of the series that an expression asks for; raises ValueError where it is none."""
    found: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(str(node.name))
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def exposed() -> set[str]:
    """Return every name under which Segue exposes samples."""
    names = set()
    for one in Declared().described:
        names |= {f"{one.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")} if one.kind == "histogram" else {one.name}
    return names
