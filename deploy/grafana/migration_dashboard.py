"""Makes `migration-dashboard.json`: the twelve panels of a migration, for Grafana 10 and newer.

    python deploy/grafana/migration_dashboard.py > deploy/grafana/migration-dashboard.json

Owns what is shown and asked; the names and meanings of the metrics are those of `segue.telemetry.metrics`. Needs the
development tools (`grafana-foundation-sdk`), the JSON needs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, gauge, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

from segue.model import StorageMode

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
CHOSEN = 'collection=~"$collection"'
RATE = "[$__rate_interval]"
MODE_COLOURS = {
    StorageMode.NEO4J_ONLY: "blue",
    StorageMode.DUAL_WRITE: "yellow",
    StorageMode.SHADOW_MILVUS: "orange",
    StorageMode.HYBRID: "green",
}


def asked(expression: str, legend: str, reference: str = "A", *, once: bool = False) -> prometheus.Dataquery:
    """Return a query; `once` asks for the present value, not for the course of time."""
    query = prometheus.Dataquery().datasource(DATASOURCE).expr(expression).legend_format(legend).ref_id(reference)
    return query.instant().format("time_series") if once else query.range()


def steps(*bounds: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return colours from a value on; the first has no bound."""
    made = [model.Threshold(value=value, color=colour) for value, colour in bounds]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def curves(title: str, meaning: str, unit: str, queries: Sequence[tuple[str, str]]) -> timeseries.Panel:
    """Return lines over time, from zero, a query a line or several."""
    legend = common.VizLegendOptions().display_mode(common_model.LegendDisplayMode.LIST).show_legend(show_legend=True)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .unit(unit)
        .min(0)
        .datasource(DATASOURCE)
        .fill_opacity(10)
        .legend(legend.placement(common_model.LegendPlacement.BOTTOM).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING))
    )
    for number, (expression, named) in enumerate(queries):
        panel.with_target(asked(expression, named, chr(ord("A") + number)))
    return panel


def quantile(share: float, metric: str) -> str:
    """Return a quantile of a histogram, a collection a series."""
    return f"histogram_quantile({share}, sum by (collection, le) (rate({metric}_bucket{{{CHOSEN}}}{RATE})))"


def last(metric: str) -> str:
    """Return the last value within what is shown, of a process that may have ended."""
    return f"last_over_time({metric}{{{CHOSEN}}}[$__range])"


def panels() -> list[Any]:
    """Return the twelve, in order, without their places."""
    done = f"{last('migration_migrated_items')} + {last('migration_quarantined_items')}"
    progress = (
        gauge.Panel()
        .title("Migration progress")
        .description("Share of the items that are copied or, where they cannot be, set aside. Holds after the copy has ended.")
        .unit("percentunit")
        .min(0)
        .max(1)
        .datasource(DATASOURCE)
        .thresholds(steps((None, "red"), (0.5, "yellow"), (0.999, "green")))
        .with_target(
            asked(f"max by (collection) (({done}) / ({last('migration_total_items')} > 0))", "{{collection}}", once=True)
        )
    )
    migrated = curves(
        "Items migrated over time",
        "Items copied, items there are to copy, and items set aside because they cannot be copied as they are.",
        "short",
        [
            (f"max by (collection) (migration_migrated_items{{{CHOSEN}}})", "{{collection}} migrated"),
            (f"max by (collection) (migration_total_items{{{CHOSEN}}})", "{{collection}} total"),
            (f"max by (collection) (migration_quarantined_items{{{CHOSEN}}})", "{{collection}} quarantined"),
        ],
    )
    latency = curves(
        "Search latency: Neo4j and Milvus",
        "Milliseconds within which each store answers half of its searches, and 95 % of them. Both have the same buckets.",
        "ms",
        [
            (quantile(0.95, "neo4j_search_latency_ms"), "{{collection}} Neo4j p95"),
            (quantile(0.95, "milvus_search_latency_ms"), "{{collection}} Milvus p95"),
            (quantile(0.5, "neo4j_search_latency_ms"), "{{collection}} Neo4j p50"),
            (quantile(0.5, "milvus_search_latency_ms"), "{{collection}} Milvus p50"),
        ],
    )
    by_store = "sum by (collection, store) (rate({metric}{{{chosen}}}{window}))"
    attempts = by_store.format(metric="dual_write_attempts_total", chosen=CHOSEN, window=RATE)
    successes = by_store.format(metric="dual_write_success_total", chosen=CHOSEN, window=RATE)
    success = (
        curves(
            "Dual-write success rate",
            "Share of the items that a store acknowledged at once; what Milvus did not is tried again until it does.",
            "percentunit",
            [(f"{successes} / ({attempts} > 0)", "{{collection}} {{store}}")],
        )
        .max(1)
        .thresholds(steps((None, "red"), (0.99, "green")))
    )
    errors = by_store.format(metric="segue_store_errors_total", chosen=CHOSEN, window=RATE)
    fallbacks = f"sum by (collection) (rate(segue_search_fallbacks_total{{{CHOSEN}}}{RATE}))"
    error_rate = curves(
        "Error rate",
        "Failures of each store a second, and searches a second that Neo4j answered in Milvus's place.",
        "cps",
        [
            # A store that never failed has no series of failures.
            (f"{errors} or 0 * {attempts}", "{{collection}} {{store}} failures"),
            (fallbacks, "{{collection}} fallbacks"),
        ],
    )
    words = {str(mode.rank): model.ValueMappingResult(text=str(mode), color=MODE_COLOURS[mode]) for mode in StorageMode}
    mode = (
        statetimeline.Panel()
        .title("Storage mode")
        .description("The control node's mode, an instance's own where it has one, and the one that searches follow.")
        .unit("none")
        .datasource(DATASOURCE)
        .mappings([model.ValueMap(options=words)])
        .with_target(asked(f"max by (collection, scope) (segue_storage_mode{{{CHOSEN}}})", "{{collection}} {{scope}}"))
    )
    validation = (
        stat.Panel()
        .title("Validation")
        .description("The last comparison of both sides: keys that are equal, whether nothing differs, how long ago it began.")
        .unit("percentunit")
        .decimals(2)
        .datasource(DATASOURCE)
        .no_value("never compared")
        .thresholds(steps((None, "red"), (0.99, "yellow"), (1, "green")))
        .with_target(
            asked(f"min by (collection) (migration_validation_success_ratio{{{CHOSEN}}})", "{{collection}} equal", once=True)
        )
        .with_target(
            asked(f"min by (collection) (migration_validation_clean{{{CHOSEN}}})", "{{collection}} clean", "B", once=True)
        )
        .with_target(
            asked(f"max by (collection) (migration_validation_age_seconds{{{CHOSEN}}})", "{{collection}} age", "C", once=True)
        )
        .override_by_query(
            "B",
            [
                model.DynamicConfigValue("unit", "none"),
                model.DynamicConfigValue("decimals", 0),
                model.DynamicConfigValue(
                    "mappings",
                    [
                        model.ValueMap(
                            options={
                                "0": model.ValueMappingResult(text="differs", color="red"),
                                "1": model.ValueMappingResult(text="clean", color="green"),
                            }
                        )
                    ],
                ),
            ],
        )
        .override_by_query(
            "C",
            [
                model.DynamicConfigValue("unit", "s"),
                model.DynamicConfigValue("decimals", 0),
                model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "text"}),
            ],
        )
    )
    memory = curves(
        "Memory",
        "Resident memory of each process that Segue works in: copies, relays, instances of the application.",
        "bytes",
        [(f"max by (job, instance) (segue_process_memory_bytes{{{CHOSEN}}})", "{{job}} {{instance}}")],
    )
    relayed = f'sum by (collection) (rate(dual_write_success_total{{{CHOSEN},store="milvus"}}{RATE}))'
    throughput = curves(
        "Throughput",
        "Items a second that the copy migrates and the relays make equal, and searches a second.",
        "cps",
        [
            (f"sum by (collection) (clamp_min(deriv(migration_migrated_items{{{CHOSEN}}}{RATE}), 0))", "{{collection}} copied"),
            (relayed, "{{collection}} relayed"),
            (f"sum by (collection) (rate(segue_searches_total{{{CHOSEN}}}{RATE}))", "{{collection}} searches"),
        ],
    )
    eta = (
        stat.Panel()
        .title("ETA")
        .description("Until everything is copied, at the present pace; the index is built after that.")
        .unit("s")
        .datasource(DATASOURCE)
        .no_value("no copy runs")
        .thresholds(steps((None, "green")))
        .with_target(asked(f"max by (collection) (migration_eta_seconds{{{CHOSEN}}})", "{{collection}}", once=True))
    )
    collection = curves(
        "Milvus collection stats",
        "Rows, rows in the vector index (replaced and deleted ones too, until Milvus compacts them), and marks by their state.",
        "short",
        [
            (f"max by (collection) (segue_milvus_rows{{{CHOSEN}}})", "{{collection}} rows"),
            (f"max by (collection) (segue_milvus_indexed_rows{{{CHOSEN}}})", "{{collection}} indexed"),
            (f"max by (collection, state) (dual_write_backlog{{{CHOSEN}}})", "{{collection}} {{state}} marks"),
        ],
    )
    percentiles = curves(
        "Neo4j latency percentiles",
        "Milliseconds within which Neo4j answers that share of its searches, for users and for comparisons.",
        "ms",
        [
            (quantile(share, "neo4j_search_latency_ms"), f"{{{{collection}}}} p{round(100 * share)}")
            for share in (0.5, 0.9, 0.95, 0.99)
        ],
    )
    return [
        progress.height(7).span(6),
        eta.height(7).span(6),
        validation.height(7).span(6),
        mode.height(7).span(6),
        migrated.height(8).span(12),
        throughput.height(8).span(12),
        latency.height(8).span(12),
        percentiles.height(8).span(12),
        success.height(8).span(8),
        error_rate.height(8).span(8),
        collection.height(8).span(8),
        memory.height(7).span(24),
    ]


def build() -> str:
    """Return the dashboard as JSON, the same at every run."""
    datasource = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    collections = (
        dashboard.QueryVariable("collection")
        .label("Collection")
        .datasource(DATASOURCE)
        # Every process of Segue exposes it for each of its collections, from its beginning.
        .query("label_values(dual_write_attempts_total, collection)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(model.VariableOption(text="All", value="$__all"))
    )
    made = (
        dashboard.Dashboard("Segue: migration from Neo4j to Milvus")
        .uid("segue-migration")
        .description("A migration of vectors from Neo4j to Milvus by Segue; what the alerts mean: docs/operations.md.")
        .tags(["segue", "neo4j", "milvus"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(datasource)
        .with_variable(collections)
    )
    for number, panel in enumerate(panels(), start=1):
        made.with_panel(panel.id(number))
    built = made.build()
    for variable in built.templating.list_val or []:
        # The SDK gives every variable what only those of intervals have.
        variable.auto = variable.auto_count = variable.auto_min = None
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


if __name__ == "__main__":
    sys.stdout.write(build())
