"""Every metric of Segue, declared once: names, units, labels. `docs/metrics.md` is made from here, by scripts/references.py.

Inside an application the metrics join its own registry; the relay serves one of its own. Knows values and the port `Meter`, and
nothing of who measures. No label holds a key or anything else without a small bound.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from segue.errors import ConfigError
from segue.model import (
    AgentControl,
    AgentMode,
    AgentStoreName,
    Control,
    Fallback,
    Instance,
    Reason,
    StorageMode,
    StoreName,
    Validated,
)
from segue.ports import Backlog

LATENCY_MS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 2_000, 5_000, 10_000)
"""One set of bounds for whoever answers, or their quantiles could not be compared."""

LAG_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800)
OVERLAPS = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
SCORE_ERRORS = (1e-6, 1e-5, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 1)

MODES_IN_WORDS = ", ".join(f"{mode.rank} {mode}" for mode in StorageMode)

_M = TypeVar("_M", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as its readers know it.

    Attributes:
        name: As exposed, without a histogram's suffixes.
        kind: gauge, counter or histogram.
        labels: Besides `collection`, which every metric has.
        meaning: One sentence, with the unit.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Declared:
    """The metrics, one object each. A collector, so that a registry takes all of them or none."""

    def __init__(self) -> None:
        self._metrics: list[MetricWrapperBase] = []
        self._collections: frozenset[str] = frozenset()
        self._process = psutil.Process()
        self.described: list[Described] = []

        self.migrated_items = self._gauge(
            "migration_migrated_items", "Items copied so far; goes back when a copy is started over."
        )
        self.total_items = self._gauge("migration_total_items", "Items there are to copy.")
        self.quarantined_items = self._gauge(
            "migration_quarantined_items", "Items the copy has set aside so far, because they cannot be migrated as they are."
        )
        self.eta = self._gauge(
            "migration_eta_seconds", "Seconds until everything is copied, at the pace of the last 15 s; 0 when it is."
        )
        self.validation_clean = self._gauge(
            "migration_validation_clean",
            "1 when the last comparison of both sides found everything equal, or made it so, else 0.",
        )
        self.validation_ratio = self._gauge(
            "migration_validation_success_ratio", "Share (0 to 1) of the keys compared last that are equal."
        )
        self.validation_age = self._gauge(
            "migration_validation_age_seconds", "Seconds since the last comparison of both sides began."
        )

        self.neo4j_search_latency = self._histogram(
            "neo4j_search_latency_ms",
            "Milliseconds Neo4j took for a search, for a user or for a comparison.",
            LATENCY_MS,
            "mode",
        )
        self.milvus_search_latency = self._histogram(
            "milvus_search_latency_ms", "Milliseconds Milvus took for a search.", LATENCY_MS, "mode"
        )
        self.search_latency = self._histogram(
            "segue_search_latency_ms",
            "Milliseconds a user waited for hits; the store is the one that answered.",
            LATENCY_MS,
            "mode",
            "store",
        )
        self.searches = self._counter(
            "segue_searches_total", "Searches answered; the store is the one that answered.", "mode", "store"
        )
        self.fallbacks = self._counter(
            "segue_search_fallbacks_total", "Searches that Neo4j answered although Milvus should have.", "reason"
        )
        self.breaker_open = self._gauge("segue_breaker_open", "1 while Milvus is not asked because it failed, else 0.")
        self.store_errors = self._counter(
            "segue_store_errors_total",
            "Failures of a store; the kind is the error's class, or `late`.",
            "store",
            "operation",
            "kind",
        )

        self.write_attempts = self._counter("dual_write_attempts_total", "Items that were to be written to a store.", "store")
        self.write_successes = self._counter("dual_write_success_total", "Items that were written to a store.", "store")
        self.backlog = self._gauge(
            "dual_write_backlog",
            "Marks: open (readers must look), dirty (Milvus is out of date), tainted (a late request may still land).",
            "state",
        )
        self.oldest_mark = self._gauge("dual_write_oldest_mark_seconds", "Seconds the oldest dirty mark has waited.")
        self.lag = self._histogram(
            "dual_write_lag_seconds", "Seconds from the mark of a change to Milvus's acknowledgement of it.", LAG_SECONDS
        )

        self.quarantined = self._counter(
            "dual_write_quarantined_total", "Changed items that cannot go to Milvus, which holds no row of them.", "reason"
        )

        self.relay_up = self._gauge(
            "segue_relay_up", "1 while this relay carries changes over, 0 while it waits for a store that does not answer."
        )
        self.milvus_rows = self._gauge("segue_milvus_rows", "Rows in Milvus's collection, counted by Milvus.")
        self.milvus_indexed_rows = self._gauge(
            "segue_milvus_indexed_rows",
            "Rows in its vector index as Milvus counts them: those replaced or deleted too, until they are compacted.",
        )

        self.fence_open_marks = self._gauge("segue_fence_open_marks", "Open marks at the last read of the fence.")
        self.fence_overlaid = self._counter(
            "segue_fence_overlaid_items_total", "Items that stood in for rows of Milvus, because their marks were open."
        )
        self.fence_latency = self._histogram(
            "segue_fence_latency_ms", "Milliseconds Neo4j took to read the open marks.", LATENCY_MS
        )

        self.shadow_overlap = self._histogram(
            "segue_shadow_overlap",
            "Share (0 to 1) of the nearest items known to either that Milvus found, per shadow read.",
            OVERLAPS,
        )
        self.shadow_score_error = self._histogram(
            "segue_shadow_score_error",
            "Largest difference of a hit's score from Neo4j's (its scale, 0 to 1), per shadow read.",
            SCORE_ERRORS,
        )
        self.shadow_skipped = self._counter(
            "segue_shadow_skipped_total", "Shadow reads not made, because too many were waiting."
        )

        self.storage_mode = self._gauge(
            "segue_storage_mode",
            "Storage mode of the control node (control), of this instance alone (own; absent when it has none), "
            f"and the one reads follow (reads): {MODES_IN_WORDS}.",
            "scope",
        )
        self.epoch = self._gauge("segue_epoch", "Epoch this instance acts in; grows by one with every mode change.")
        self.instances = self._gauge(
            "segue_instances",
            "Registered instances of the application as a relay sees them: current (act in the newest epoch), behind (do not).",
            "state",
        )
        self.memory = self._gauge(
            "segue_process_memory_bytes",
            "Resident memory of this process, in bytes; the same under each collection it works for.",
        )

        self.agent_writes = self._counter(
            "segue_agent_write_attempts_total", "Records of agents that were to be written to a store.", "store"
        )
        self.agent_successes = self._counter(
            "segue_agent_write_success_total", "Records of agents that were written to a store.", "store"
        )
        self.agent_errors = self._counter(
            "segue_agent_store_errors_total",
            "Failures of Redis or PostgreSQL under agents; the kind is the error's class.",
            "store",
            "operation",
            "kind",
        )
        self.agent_carried = self._counter(
            "segue_agent_outbox_carried_total",
            "Entries of Redis's outbox that are done with: carried to PostgreSQL, or refused and kept aside.",
            "outcome",
        )
        self.agent_outbox = self._gauge(
            "segue_agent_outbox_entries", "Entries in Redis: waiting for PostgreSQL, or refused.", "state"
        )
        self.agent_oldest = self._gauge(
            "segue_agent_outbox_oldest_seconds", "Seconds the oldest entry of Redis's outbox has waited."
        )
        self.agent_compared = self._counter(
            "segue_agent_shadow_rows_total", "Rows of shadow reads that PostgreSQL held alike, or did not.", "outcome"
        )
        self.agent_mode = self._gauge(
            "segue_agent_mode",
            f"Mode of agent state: {', '.join(f'{mode.rank} {mode.value}' for mode in AgentMode)}.",
        )
        self.agent_epoch = self._gauge("segue_agent_epoch", "Epoch of agent state this instance acts in.")

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its values, for a registry."""
        used = self._process.memory_info().rss
        for collection in self._collections:
            self.memory.labels(collection).set(used)
        for metric in self._metrics:
            yield from metric.collect()

    def describe(self) -> Iterator[Metric]:
        """Yield every metric without values; by this a registry sees a clash of names."""
        for metric in self._metrics:
            yield from metric.describe()

    def begin_at_zero(self, collection: str) -> None:
        """Expose the known counters and histograms of a collection before anything is counted, so that rates have a start.

        A gauge appears when it is told something: nothing known is not zero.
        """
        self._collections |= {collection}
        for mode in StorageMode:
            self.neo4j_search_latency.labels(collection, mode)
            for store in StoreName if mode.reads_milvus else (StoreName.NEO4J,):
                self.search_latency.labels(collection, mode, store)
                self.searches.labels(collection, mode, store)
            if mode.reads_milvus:
                self.milvus_search_latency.labels(collection, mode)
        for store in StoreName:
            self.write_attempts.labels(collection, store)
            self.write_successes.labels(collection, store)
        for fallback in Fallback:
            self.fallbacks.labels(collection, fallback)
        for reason in Reason:
            self.quarantined.labels(collection, reason)
        for alone in (self.lag, self.fence_latency, self.shadow_overlap, self.shadow_score_error):
            alone.labels(collection)
        for counted in (self.fence_overlaid, self.shadow_skipped):
            counted.labels(collection)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        # Where an application runs in several processes, the newest value of a live one stands for all.
        gauge = Gauge(name, meaning, ("collection", *labels), registry=None, multiprocess_mode="livemostrecent")
        return self._add(gauge, Described(name, "gauge", labels, meaning))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        counter = Counter(name, meaning, ("collection", *labels), registry=None)
        return self._add(counter, Described(name, "counter", labels, meaning))

    def _histogram(self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(name, meaning, ("collection", *labels), registry=None, buckets=bounds)
        return self._add(histogram, Described(name, "histogram", labels, meaning))

    def _add(self, metric: _M, described: Described) -> _M:
        self._metrics.append(metric)
        self.described.append(described)
        return metric


_declared: WeakKeyDictionary[CollectorRegistry, Declared] = WeakKeyDictionary()
_declaring = threading.Lock()


def declare(registry: CollectorRegistry) -> Declared:
    """Return the registry's metrics, registered at the first call.

    Raises:
        ConfigError: The application has a metric of one of these names there.
    """
    with _declaring:
        declared = _declared.get(registry)
        if declared is None:
            declared = Declared()
            try:
                registry.register(declared)
            except ValueError as fault:
                message = f"Segue's metrics cannot join the registry: {fault}"
                raise ConfigError(message, hint="Give Segue a registry of its own, or rename the other metric.") from fault
            _declared[registry] = declared
        return declared


class Metrics:
    """The port `Meter` of one collection. Usable from several threads; any number may share a registry.

    Raises:
        ConfigError: The registry holds a metric of the same name that is not Segue's.
    """

    def __init__(self, collection: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._collection = collection
        self._on = declare(registry)
        self._on.begin_at_zero(collection)
        self._has_own = self._has_verdict = False

    def asked(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """See `ports.Meter`."""
        latency = self._on.milvus_search_latency if store is StoreName.MILVUS else self._on.neo4j_search_latency
        latency.labels(self._collection, mode).observe(1_000 * seconds)

    def searched(self, store: StoreName, mode: StorageMode, seconds: float) -> None:
        """See `ports.Meter`."""
        self._on.search_latency.labels(self._collection, mode, store).observe(1_000 * seconds)
        self._on.searches.labels(self._collection, mode, store).inc()

    def fell_back(self, reason: Fallback) -> None:
        """See `ports.Meter`; `reason` is one of few."""
        self._on.fallbacks.labels(self._collection, reason).inc()

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        """See `ports.Meter`."""
        self._on.store_errors.labels(self._collection, store, operation, kind).inc()

    def wrote(self, store: StoreName, attempts: int, successes: int) -> None:
        """See `ports.Meter`."""
        self._on.write_attempts.labels(self._collection, store).inc(attempts)
        self._on.write_successes.labels(self._collection, store).inc(successes)

    def fenced(self, open_marks: int, overlaid: int, seconds: float) -> None:
        """See `ports.Meter`."""
        self._on.fence_open_marks.labels(self._collection).set(open_marks)
        self._on.fence_overlaid.labels(self._collection).inc(overlaid)
        self._on.fence_latency.labels(self._collection).observe(1_000 * seconds)

    def compared(self, overlap: float, score_error: float) -> None:
        """See `ports.Meter`."""
        self._on.shadow_overlap.labels(self._collection).observe(overlap)
        self._on.shadow_score_error.labels(self._collection).observe(score_error)

    def shadow_skipped(self) -> None:
        """See `ports.Meter`."""
        self._on.shadow_skipped.labels(self._collection).inc()

    def lagged(self, seconds: float) -> None:
        """See `ports.Meter`."""
        self._on.lag.labels(self._collection).observe(seconds)

    def quarantined(self, reason: Reason) -> None:
        """See `ports.Meter`."""
        self._on.quarantined.labels(self._collection, reason).inc()

    def backlog(self, backlog: Backlog) -> None:
        """See `ports.Meter`."""
        self._on.backlog.labels(self._collection, "open").set(backlog.open)
        self._on.backlog.labels(self._collection, "dirty").set(backlog.dirty)
        self._on.backlog.labels(self._collection, "tainted").set(backlog.tainted)
        self._on.oldest_mark.labels(self._collection).set(backlog.oldest_seconds)

    def acts(self, control: Control, own: StorageMode | None, reads: StorageMode) -> None:
        """See `ports.Meter`."""
        mode = self._on.storage_mode
        mode.labels(self._collection, "control").set(control.mode.rank)
        mode.labels(self._collection, "reads").set(reads.rank)
        if own is not None:
            mode.labels(self._collection, "own").set(own.rank)
        elif self._has_own:
            # Another instance on this registry may have removed it; older clients mind.
            with suppress(KeyError):
                mode.remove(self._collection, "own")
        self._has_own = own is not None
        self._on.epoch.labels(self._collection).set(control.epoch)
        self._compared_last(control.validated)

    def stands(self, control: Control, instances: Sequence[Instance]) -> None:
        """See `ports.Meter`."""
        self._on.storage_mode.labels(self._collection, "control").set(control.mode.rank)
        behind = sum(instance.epoch < control.epoch for instance in instances)
        self._on.instances.labels(self._collection, "current").set(len(instances) - behind)
        self._on.instances.labels(self._collection, "behind").set(behind)
        self._compared_last(control.validated)

    def stored(self, rows: int, indexed: int) -> None:
        """See `ports.Meter`."""
        self._on.milvus_rows.labels(self._collection).set(rows)
        self._on.milvus_indexed_rows.labels(self._collection).set(indexed)

    def relays(self, is_up: bool) -> None:
        """See `ports.Meter`."""
        self._on.relay_up.labels(self._collection).set(is_up)

    def breaker(self, is_open: bool) -> None:
        """See `ports.Meter`."""
        self._on.breaker_open.labels(self._collection).set(is_open)

    def copied(self, migrated: int, quarantined: int, source: int, seconds_left: float | None) -> None:
        """See `ports.Meter`."""
        self._on.migrated_items.labels(self._collection).set(migrated)
        self._on.quarantined_items.labels(self._collection).set(quarantined)
        self._on.total_items.labels(self._collection).set(source)
        if seconds_left is not None:
            self._on.eta.labels(self._collection).set(seconds_left)

    def _compared_last(self, verdict: Validated | None) -> None:
        gauges = (self._on.validation_clean, self._on.validation_ratio, self._on.validation_age)
        if verdict is not None:
            for gauge, value in zip(gauges, (verdict.clean, verdict.rate, verdict.seconds_ago), strict=True):
                gauge.labels(self._collection).set(value)
        elif self._has_verdict:
            for gauge in gauges:
                with suppress(KeyError):
                    gauge.remove(self._collection)
        self._has_verdict = verdict is not None


class AgentMetrics:
    """The port `AgentMeter`; `collection` is `agentdb`. Usable from several threads; any number may share a registry.

    Raises:
        ConfigError: The registry holds a metric of the same name that is not Segue's.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._on = declare(registry)
        for store in AgentStoreName:
            self._on.agent_writes.labels(_AGENTS, store)
            self._on.agent_successes.labels(_AGENTS, store)
        for outcome in ("carried", "refused"):
            self._on.agent_carried.labels(_AGENTS, outcome)
        for outcome in ("equal", "different"):
            self._on.agent_compared.labels(_AGENTS, outcome)

    def wrote(self, store: AgentStoreName, attempts: int, successes: int) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_writes.labels(_AGENTS, store).inc(attempts)
        self._on.agent_successes.labels(_AGENTS, store).inc(successes)

    def failed(self, store: AgentStoreName, operation: str, kind: str) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_errors.labels(_AGENTS, store, operation, kind).inc()

    def carried(self, records: int, refused: int) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_carried.labels(_AGENTS, "carried").inc(records)
        self._on.agent_carried.labels(_AGENTS, "refused").inc(refused)

    def waiting(self, to_postgres: int, refused: int, oldest_seconds: float) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_outbox.labels(_AGENTS, "waiting").set(to_postgres)
        self._on.agent_outbox.labels(_AGENTS, "refused").set(refused)
        self._on.agent_oldest.labels(_AGENTS).set(oldest_seconds)

    def compared(self, equal: int, different: int) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_compared.labels(_AGENTS, "equal").inc(equal)
        self._on.agent_compared.labels(_AGENTS, "different").inc(different)

    def acts(self, control: AgentControl) -> None:
        """See `ports.AgentMeter`."""
        self._on.agent_mode.labels(_AGENTS).set(control.mode.rank)
        self._on.agent_epoch.labels(_AGENTS).set(control.epoch)


_AGENTS = "agentdb"
