"""Metrics read back over HTTP: from the processes that serve them at /metrics, or from the Prometheus that scraped those.

Owns both wire formats and what a failed look is called. What the numbers mean is the readers' business. Asks, and changes
nothing.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

from prometheus_client.parser import text_string_to_metric_families

from segue.errors import SegueError, StoreUnavailable
from segue.model import Course, Sample

TIMEOUT_SECONDS = 3.0

MOST_BYTES = 32 << 20
"""More than that is no page of metrics."""

OURS = "(migration|dual_write|segue)_.+|(neo4j|milvus)_search_latency_ms_.+"
"""Names of metrics that are Segue's; Prometheus knows others."""

GROWING = ".+_(total|bucket|sum|count)"
"""Names of counters and histograms: of these a window's growth counts, over restarts of processes too."""


def scrape(urls: Sequence[str]) -> tuple[list[Sample], list[str]]:
    """Read each process's page of metrics.

    Returns:
        The samples, and a sentence for each process that cannot be read.
    """
    samples: list[Sample] = []
    faults: list[str] = []
    for url in urls:
        try:
            samples += _parsed(url, _fetched(url).decode(errors="replace"))
        except SegueError as fault:
            faults.append(fault.message)
    return samples, faults


def ask_prometheus(url: str, since_seconds: float | None) -> tuple[list[Sample], list[str]]:
    """Ask a Prometheus for all of Segue's metrics.

    Args:
        url: Its address, without /api.
        since_seconds: Of counters and histograms, return the growth over this window, up to now; None for their values.

    Returns:
        The samples, and a sentence when it cannot be asked.
    """
    try:
        if since_seconds is None:
            return _queried(url, f'{{__name__=~"{OURS}"}}'), []
        window = f"[{max(60, round(since_seconds))}s]"
        # `increase` drops the name, so each is put back as a label; and of a gauge it makes no sense.
        names = _names(url)
        grown = [Sample(name, one.labels, one.value) for name in names for one in _queried(url, f"increase({name}{window})")]
        return [*grown, *_queried(url, f'{{__name__=~"{OURS}", __name__!~"{GROWING}"}}')], []
    except SegueError as fault:
        return [], [fault.message]


def ask_course(url: str, expression: str, begin: float, end: float, step: float) -> list[Course]:
    """Ask a Prometheus for what an expression was over time.

    Args:
        url: Its address, without /api.
        expression: PromQL.
        begin: The first moment, in seconds since 1970.
        end: The last one.
        step: Seconds from one value to the next.

    Raises:
        StoreUnavailable: It cannot be asked, or refuses the expression.
    """
    window = {"query": expression, "start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    with _as_prometheus(url):
        answer = json.loads(_fetched(f"{url.rstrip('/')}/api/v1/query_range?{urlencode(window)}"))
        return [
            Course(one["metric"], [(at, value) for at, text in one["values"] if not math.isnan(value := float(text))])
            for one in answer["data"]["result"]
        ]


def scrape_seconds(url: str) -> float:
    """Ask a Prometheus how often it scrapes whatever it scrapes least often; 15 s where it does not say.

    Raises:
        StoreUnavailable: It cannot be asked.
    """
    with _as_prometheus(url):
        found = json.loads(_fetched(f"{url.rstrip('/')}/api/v1/targets?state=active"))
        told = [one.get("scrapeInterval", "") for one in found["data"]["activeTargets"]]
    return max((_seconds(one) for one in told if one), default=15.0)


def _seconds(duration: str) -> float:
    """Return a duration in Prometheus's words, 1m30s, in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h|d)", duration))


def place(url: str) -> str:
    """Return an address as it may be shown: without credentials and without a query, which may hold some."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _names(url: str) -> list[str]:
    found = _queried(url, f'count by (__name__) ({{__name__=~"{OURS}", __name__=~"{GROWING}"}})')
    return sorted({one.name for one in found})


def _queried(url: str, query: str) -> list[Sample]:
    with _as_prometheus(url):
        found: dict[str, Any] = json.loads(_fetched(f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"))
        samples = []
        for one in found["data"]["result"]:
            labels = dict(one["metric"])
            samples.append(Sample(labels.pop("__name__", ""), labels, float(one["value"][1])))
    return samples


@contextmanager
def _as_prometheus(url: str) -> Iterator[None]:
    """Say so where an answer is none of Prometheus's."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError) as fault:
        message = f"{place(url)} does not answer as Prometheus does"
        raise StoreUnavailable(message, hint="Give Prometheus's own address: http://HOST:9090") from fault


def _parsed(url: str, text: str) -> list[Sample]:
    try:
        return [
            Sample(one.name, one.labels, one.value) for family in text_string_to_metric_families(text) for one in family.samples
        ]
    except (ValueError, KeyError, IndexError) as fault:
        message = f"{place(url)} serves no metrics in Prometheus's text format"
        raise StoreUnavailable(message) from fault


def _fetched(url: str) -> bytes:
    where = place(url)
    try:
        # Only what the operator named is opened, and `config` lets nothing but http and https through.
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            text: bytes = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as fault:
        reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None) or type(fault).__name__
        message = f"{where} cannot be read: {reason}"
        raise StoreUnavailable(message, hint="Does the process run, with --metrics-port?") from fault
    return text
