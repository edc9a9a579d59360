"""The twelve panels of a migration: what each is called, asks and means. Grafana's dashboard and the report show the same ones.

Owns titles, expressions, units and the words for values; the metrics are those of `segue.telemetry.metrics`. Knows neither
Grafana nor how a panel is drawn, and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from segue.model import StorageMode

CHOSEN = 'collection=~"$collection"'
RATE = "[$__rate_interval]"


class Shape(StrEnum):
    """How a panel's values are shown."""

    SHARE = "share"  # one number between 0 and 1: how full
    NUMBERS = "numbers"  # the last value of each
    STEPS = "steps"  # values that have names, over time
    CURVES = "curves"  # values over time, from zero


@dataclass(frozen=True, slots=True)
class Query:
    """What a panel asks a Prometheus.

    Attributes:
        expression: PromQL with the variables `$collection`, `$__rate_interval` and `$__range`, as Grafana has them.
        legend: What a series is called, with its labels as `{{label}}`.
        unit: Of the values, where it is not the panel's.
        words: Values that have names.
    """

    expression: str
    legend: str
    unit: str = ""
    words: Mapping[int, str] = field(default_factory=dict)

    def concrete(self, collection: str, rate_seconds: float, range_seconds: float) -> str:
        """Return the expression about one collection, with windows for rates and for all that is shown."""
        pattern = re.escape(collection).replace("\\", "\\\\")
        filled = self.expression.replace("$__rate_interval", f"{rate_seconds:.0f}s")
        return filled.replace("$__range", f"{range_seconds:.0f}s").replace("$collection", pattern)

    def name(self, labels: Mapping[str, str]) -> str:
        """Return what a series is called where its collection is known; empty where nothing else tells it from others."""
        text = re.sub(r"\{\{(\w+)\}\}", lambda found: "" if found[1] == "collection" else labels.get(found[1], ""), self.legend)
        return text.strip()


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Attributes:
        title: Its heading.
        meaning: What is seen, in a sentence.
        unit: Of its values, in Grafana's words: percentunit, short, ms, cps (a second), bytes, s, none.
        shape: How they are shown.
        queries: What it asks.
        absent: What it says without a value.
    """

    title: str
    meaning: str
    unit: str
    shape: Shape
    queries: Sequence[Query]
    absent: str = "no data"


@dataclass(frozen=True, slots=True)
class Curve:
    """One series that a panel's query had: its name, and each value with its moment in seconds since 1970."""

    name: str
    query: Query
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What a Prometheus answered to every panel's queries about one collection.

    Attributes:
        begin, end: The window, in seconds since 1970.
        step: Seconds from one value to the next.
        panels: Each panel with its series; none where there was no data.
        faults: A sentence for what could not be asked.
    """

    begin: float
    end: float
    step: float
    panels: Sequence[tuple[Panel, Sequence[Curve]]]
    faults: Sequence[str]


def _quantile(share: float, metric: str) -> str:
    """Return a quantile of a histogram, a collection a series."""
    return f"histogram_quantile({share}, sum by (collection, le) (rate({metric}_bucket{{{CHOSEN}}}{RATE})))"


def _last(metric: str) -> str:
    """Return the last value within what is shown, of a process that may have ended."""
    return f"last_over_time({metric}{{{CHOSEN}}}[$__range])"


def _by_store(metric: str) -> str:
    return f"sum by (collection, store) (rate({metric}{{{CHOSEN}}}{RATE}))"


_DONE = f"{_last('migration_migrated_items')} + {_last('migration_quarantined_items')}"
_ATTEMPTS, _SUCCESSES = _by_store("dual_write_attempts_total"), _by_store("dual_write_success_total")

PANELS = (
    Panel(
        "Migration progress",
        "Share of the items that are copied or, where they cannot be, set aside. Holds after the copy has ended.",
        "percentunit",
        Shape.SHARE,
        [Query(f"max by (collection) (({_DONE}) / ({_last('migration_total_items')} > 0))", "{{collection}}")],
    ),
    Panel(
        "ETA",
        "Until everything is copied, at the present pace; the index is built after that.",
        "s",
        Shape.NUMBERS,
        [Query(f"max by (collection) (migration_eta_seconds{{{CHOSEN}}})", "{{collection}}")],
        absent="no copy runs",
    ),
    Panel(
        "Validation",
        "The last comparison of both sides: keys that are equal, whether nothing differs, how long ago it began.",
        "percentunit",
        Shape.NUMBERS,
        [
            Query(f"min by (collection) (migration_validation_success_ratio{{{CHOSEN}}})", "{{collection}} equal"),
            Query(
                f"min by (collection) (migration_validation_clean{{{CHOSEN}}})",
                "{{collection}} clean",
                unit="none",
                words={0: "differs", 1: "clean"},
            ),
            Query(f"max by (collection) (migration_validation_age_seconds{{{CHOSEN}}})", "{{collection}} age", unit="s"),
        ],
        absent="never compared",
    ),
    Panel(
        "Storage mode",
        "The control node's mode, an instance's own where it has one, and the one that searches follow.",
        "none",
        Shape.STEPS,
        [
            Query(
                f"max by (collection, scope) (segue_storage_mode{{{CHOSEN}}})",
                "{{collection}} {{scope}}",
                words={mode.rank: mode.value for mode in StorageMode},
            )
        ],
    ),
    Panel(
        "Items migrated over time",
        "Items copied, items there are to copy, and items set aside because they cannot be copied as they are.",
        "short",
        Shape.CURVES,
        [
            Query(f"max by (collection) (migration_migrated_items{{{CHOSEN}}})", "{{collection}} migrated"),
            Query(f"max by (collection) (migration_total_items{{{CHOSEN}}})", "{{collection}} total"),
            Query(f"max by (collection) (migration_quarantined_items{{{CHOSEN}}})", "{{collection}} quarantined"),
        ],
    ),
    Panel(
        "Throughput",
        "Items a second that the copy migrates and the relays make equal, and searches a second.",
        "cps",
        Shape.CURVES,
        [
            Query(
                f"sum by (collection) (clamp_min(deriv(migration_migrated_items{{{CHOSEN}}}{RATE}), 0))",
                "{{collection}} copied",
            ),
            Query(
                f'sum by (collection) (rate(dual_write_success_total{{{CHOSEN},store="milvus"}}{RATE}))',
                "{{collection}} relayed",
            ),
            Query(f"sum by (collection) (rate(segue_searches_total{{{CHOSEN}}}{RATE}))", "{{collection}} searches"),
        ],
    ),
    Panel(
        "Search latency: Neo4j and Milvus",
        "Milliseconds within which each store answers half of its searches, and 95 % of them. Both have the same buckets.",
        "ms",
        Shape.CURVES,
        [
            Query(_quantile(0.95, "neo4j_search_latency_ms"), "{{collection}} Neo4j p95"),
            Query(_quantile(0.95, "milvus_search_latency_ms"), "{{collection}} Milvus p95"),
            Query(_quantile(0.5, "neo4j_search_latency_ms"), "{{collection}} Neo4j p50"),
            Query(_quantile(0.5, "milvus_search_latency_ms"), "{{collection}} Milvus p50"),
        ],
    ),
    Panel(
        "Neo4j latency percentiles",
        "Milliseconds within which Neo4j answers that share of its searches, for users and for comparisons.",
        "ms",
        Shape.CURVES,
        [
            Query(_quantile(share, "neo4j_search_latency_ms"), f"{{{{collection}}}} p{round(100 * share)}")
            for share in (0.5, 0.9, 0.95, 0.99)
        ],
    ),
    Panel(
        "Dual-write success rate",
        "Share of the items that a store acknowledged at once; what Milvus did not is tried again until it does.",
        "percentunit",
        Shape.CURVES,
        [Query(f"{_SUCCESSES} / ({_ATTEMPTS} > 0)", "{{collection}} {{store}}")],
    ),
    Panel(
        "Error rate",
        "Failures of each store a second, and searches a second that Neo4j answered in Milvus's place.",
        "cps",
        Shape.CURVES,
        [
            # A store that never failed has no series of failures.
            Query(f"{_by_store('segue_store_errors_total')} or 0 * {_ATTEMPTS}", "{{collection}} {{store}} failures"),
            Query(f"sum by (collection) (rate(segue_search_fallbacks_total{{{CHOSEN}}}{RATE}))", "{{collection}} fallbacks"),
        ],
    ),
    Panel(
        "Milvus collection stats",
        "Rows, rows in the vector index (replaced and deleted ones too, until Milvus compacts them), and marks by their state.",
        "short",
        Shape.CURVES,
        [
            Query(f"max by (collection) (segue_milvus_rows{{{CHOSEN}}})", "{{collection}} rows"),
            Query(f"max by (collection) (segue_milvus_indexed_rows{{{CHOSEN}}})", "{{collection}} indexed"),
            Query(f"max by (collection, state) (dual_write_backlog{{{CHOSEN}}})", "{{collection}} {{state}} marks"),
        ],
    ),
    Panel(
        "Memory",
        "Resident memory of each process that Segue works in: copies, relays, instances of the application.",
        "bytes",
        Shape.CURVES,
        [Query(f"max by (job, instance) (segue_process_memory_bytes{{{CHOSEN}}})", "{{job}} {{instance}}")],
    ),
)
