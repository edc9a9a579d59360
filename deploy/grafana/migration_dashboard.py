"""Makes `migration-dashboard.json`: the twelve panels of a migration, for Grafana 10 and newer.

    python deploy/grafana/migration_dashboard.py > deploy/grafana/migration-dashboard.json

Owns how Grafana shows it; what is shown and asked is in `segue.telemetry.panels`, which the report draws too. Needs the
development tools (`grafana-foundation-sdk`), the JSON needs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, gauge, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

from segue.model import StorageMode
from segue.telemetry.panels import PANELS, Panel, Shape

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
MODE_COLOURS = {
    StorageMode.NEO4J_ONLY: "blue",
    StorageMode.DUAL_WRITE: "yellow",
    StorageMode.SHADOW_MILVUS: "orange",
    StorageMode.HYBRID: "green",
}
SIZES = ((7, 6), (7, 6), (7, 6), (7, 6), (8, 12), (8, 12), (8, 12), (8, 12), (8, 8), (8, 8), (8, 8), (7, 24))
"""Height and span of each panel, on a grid of 24 columns."""


def steps(*bounds: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return colours from a value on; the first has no bound."""
    made = [model.Threshold(value=value, color=colour) for value, colour in bounds]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def named(words: Mapping[int, str], colours: Sequence[str]) -> model.ValueMap:
    """Return the words for values, each with its colour."""
    texts = {
        str(value): model.ValueMappingResult(text=word, color=colour)
        for (value, word), colour in zip(words.items(), colours, strict=True)
    }
    return model.ValueMap(options=texts)


def share(_: Panel) -> gauge.Panel:
    """Return how full something is."""
    return gauge.Panel().min(0).max(1).thresholds(steps((None, "red"), (0.5, "yellow"), (0.999, "green")))


def numbers(panel: Panel) -> stat.Panel:
    """Return the last value of each query; a share is green when it is whole, words have colours of their own."""
    made = stat.Panel().no_value(panel.absent)
    if panel.unit != "percentunit":
        return made.thresholds(steps((None, "green")))
    made.decimals(2).thresholds(steps((None, "red"), (0.99, "yellow"), (1, "green")))
    for number, query in enumerate(panel.queries):
        if not query.unit:
            continue
        values = [model.DynamicConfigValue("unit", query.unit), model.DynamicConfigValue("decimals", 0)]
        if query.words:
            values.append(model.DynamicConfigValue("mappings", [named(query.words, ("red", "green"))]))
        else:
            values.append(model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "text"}))
        made.override_by_query(reference(number), values)
    return made


def timeline(panel: Panel) -> statetimeline.Panel:
    """Return the modes over time."""
    return statetimeline.Panel().mappings([named(panel.queries[0].words, list(MODE_COLOURS.values()))])


def curves(panel: Panel) -> timeseries.Panel:
    """Return lines over time, from zero, a query a line or several; a share has an upper end, and is green near it."""
    legend = common.VizLegendOptions().display_mode(common_model.LegendDisplayMode.LIST).show_legend(show_legend=True)
    made = (
        timeseries.Panel()
        .min(0)
        .fill_opacity(10)
        .legend(legend.placement(common_model.LegendPlacement.BOTTOM).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING))
    )
    return made.max(1).thresholds(steps((None, "red"), (0.99, "green"))) if panel.unit == "percentunit" else made


BY_SHAPE = {Shape.SHARE: share, Shape.NUMBERS: numbers, Shape.STEPS: timeline, Shape.CURVES: curves}


def reference(number: int) -> str:
    """Return the name of a panel's query."""
    return chr(ord("A") + number)


def made(panel: Panel) -> Any:
    """Return a panel for Grafana, without its place."""
    shown: Any = BY_SHAPE[panel.shape](panel)
    shown.title(panel.title).description(panel.meaning).unit(panel.unit).datasource(DATASOURCE)
    for number, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().datasource(DATASOURCE).expr(query.expression).legend_format(query.legend)
        asked.ref_id(reference(number))
        # A number is the present one, not the course of time.
        is_number = panel.shape in {Shape.SHARE, Shape.NUMBERS}
        shown.with_target(asked.instant().format("time_series") if is_number else asked.range())
    return shown


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
    whole = (
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
    for number, (panel, (height, span)) in enumerate(zip(PANELS, SIZES, strict=True), start=1):
        whole.with_panel(made(panel).height(height).span(span).id(number))
    built = whole.build()
    for variable in built.templating.list_val or []:
        # The SDK gives every variable what only those of intervals have.
        variable.auto = variable.auto_count = variable.auto_min = None
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


if __name__ == "__main__":
    sys.stdout.write(build())
