"""The dashboard: twelve panels, Grafana's linter rules, and data in every panel from a Prometheus that scraped a real run."""

from __future__ import annotations

import json
import re
import runpy
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from deploy.scraped_run import ScrapedRun, exposed, metrics_of

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "migration-dashboard.json").read_text(encoding="utf-8"))
TITLES = {
    "Migration progress",
    "Items migrated over time",
    "Search latency: Neo4j and Milvus",
    "Dual-write success rate",
    "Error rate",
    "Storage mode",
    "Validation",
    "Memory",
    "Throughput",
    "ETA",
    "Milvus collection stats",
    "Neo4j latency percentiles",
}
QUERIES = [(panel["title"], target["refId"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


def figures(page: str) -> dict[str, ET.Element]:
    """Return the charts of the report's dashboard, by the panel's title."""
    found = re.findall(r"<figure><figcaption>(.*?)<small>.*?</figcaption>(<svg.*?</svg>)</figure>", page, re.DOTALL)
    titles, drawn = zip(*found, strict=True)
    return dict(zip(map(unescape, titles), map(ET.fromstring, drawn), strict=True))


def concrete(expression: str, collection: str = ".+") -> str:
    """Return an expression with Grafana's variables replaced."""
    return expression.replace("$__rate_interval", "10s").replace("$__range", "10m").replace("$collection", collection)


def test_the_file_is_what_the_code_makes() -> None:
    """If not: python deploy/grafana/migration_dashboard.py > deploy/grafana/migration-dashboard.json."""
    made = runpy.run_path(str(GRAFANA / "migration_dashboard.py"))["build"]()
    assert (GRAFANA / "migration-dashboard.json").read_text(encoding="utf-8") == made


def test_it_has_the_twelve_panels_of_the_first_version() -> None:
    """Each once, apart from each other on the grid of 24 columns."""
    panels = DASHBOARD["panels"]
    assert len(panels) == 12
    assert {panel["title"] for panel in panels} == TITLES
    assert len({panel["id"] for panel in panels}) == 12
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_it_keeps_the_rules_of_grafanas_linter() -> None:
    """Whoever imports it chooses data source and collection; every panel says what it shows, and in which unit."""
    datasource, collection = DASHBOARD["templating"]["list"]
    assert (datasource["name"], datasource["type"], datasource["query"]) == ("datasource", "datasource", "prometheus")
    assert (collection["name"], collection["allValue"], collection["multi"], collection["refresh"]) == (
        "collection",
        ".+",
        True,
        2,
    )
    assert metrics_of("dual_write_attempts_total") <= exposed()
    assert collection["query"] == "label_values(dual_write_attempts_total, collection)"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert collection["datasource"] == chosen
    assert "__inputs" not in DASHBOARD
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == chosen
        assert panel["targets"]
        assert all(target["datasource"] == chosen for target in panel["targets"])


@pytest.mark.parametrize(("title", "reference", "expression"), QUERIES)
def test_every_query_asks_for_metrics_that_exist(title: str, reference: str, expression: str) -> None:
    """It parses, names what Segue exposes, of the chosen collections, and counters only as a rate over Grafana's interval."""
    del title, reference
    names = metrics_of(concrete(expression))
    assert names
    assert names <= exposed()
    assert expression.count('collection=~"$collection"') == sum(expression.count(f"{name}{{") for name in names)
    for name in names:
        if name.endswith(("_total", "_bucket", "_sum", "_count")):
            assert expression.count(f"rate({name}{{") == expression.count(name)
    assert "[5m]" not in expression


def test_every_query_has_data_of_a_real_run(scraped_run: ScrapedRun) -> None:
    """Of the run's own collection, as Prometheus has it."""
    empty = [
        (title, reference)
        for title, reference, expression in QUERIES
        if not scraped_run.values(concrete(expression, scraped_run.collection))
    ]
    assert not empty


def test_what_the_panels_show_is_true(scraped_run: ScrapedRun) -> None:
    """200 items copied and in Milvus, nothing left to copy, the mode that was reached, a clean comparison of everything."""
    shown = {
        (title, reference): scraped_run.values(concrete(expression, scraped_run.collection))
        for title, reference, expression in QUERIES
    }
    assert shown["Migration progress", "A"][-1] == 1
    assert shown["Items migrated over time", "A"][-1] == 200
    assert shown["ETA", "A"][-1] == 0
    assert set(shown["Milvus collection stats", "A"][-1:]) == {200}
    assert max(shown["Storage mode", "A"]) == 2
    assert shown["Validation", "A"][-1] == shown["Validation", "B"][-1] == 1
    assert 0 < shown["Validation", "C"][-1] < 600
    assert shown["Dual-write success rate", "A"][-1] == 1
    assert max(shown["Memory", "A"]) > 20e6


def test_the_report_shows_every_panel_with_data(scraped_run: ScrapedRun) -> None:
    """The same twelve, in the same order, each drawn from what its own queries had over the migration's time."""
    drawn = figures(scraped_run.page)
    assert list(drawn) == [panel["title"] for panel in DASHBOARD["panels"]]
    for title, chart in drawn.items():
        assert not chart.findall("*[@class='absent']"), title
        shapes = chart.findall("path") + [one for one in chart.findall("rect") if "good" in str(one.get("class"))]
        assert shapes, title
        _, _, width, height = map(float, str(chart.get("viewBox")).split())
        for path in chart.findall("path"):
            numbers = [float(number) for number in re.findall(r"[\d.]+", str(path.get("d")))]
            assert max(numbers) <= max(width, height), title
    words = {title: [text.text for text in chart.findall("text")] for title, chart in drawn.items()}
    assert words["Migration progress"] == ["100%"]
    assert {"clean", "100%"} <= set(words["Validation"])
    assert "migrated 200" in words["Items migrated over time"]
    assert {"control shadow_milvus", "reads shadow_milvus"} <= set(words["Storage mode"])
    assert "rows 200" in words["Milvus collection stats"]


def test_the_documentation_shows_all_twelve() -> None:
    """A picture of each, small, and of nothing else."""
    docs = GRAFANA.parents[1] / "docs"
    shown = re.findall(r"!\[([^\]]+)\]\((pictures/[^)]+)\)", docs.joinpath("dashboard.md").read_text(encoding="utf-8"))
    assert [title for title, _ in shown] == [panel["title"] for panel in DASHBOARD["panels"]]
    assert {docs / file for _, file in shown} == set(docs.joinpath("pictures").glob("*.svg"))
    for _, file in shown:
        picture = docs / file
        assert picture.stat().st_size < 60_000
