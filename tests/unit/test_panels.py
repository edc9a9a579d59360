"""The dashboard's panels where no Grafana is: what is asked, what series are called, and how they are drawn."""

from __future__ import annotations

import re

import pytest

from segue.cli.panel_charts import chart, said
from segue.telemetry.panels import PANELS, Curve, Dashboard, Panel, Query, Shape

BY_TITLE = {panel.title: panel for panel in PANELS}
RATIO = Panel("Ratio", "How much.", "percentunit", Shape.CURVES, [Query("up", "{{job}}")])


def drawn(panel: Panel, *points: tuple[float, float]) -> str:
    """Return a panel with one series over a window of 100 s, a value a second."""
    curves = [Curve("one", panel.queries[0], points)] if points else []
    return chart(Dashboard(1_000.0, 1_100.0, 1.0, [(panel, curves)], []), panel, curves)


def test_a_query_is_about_one_collection_and_its_windows() -> None:
    """Whatever is special in a name is taken literally, by PromQL's own rules for text."""
    query = Query(
        'rate(a{collection=~"$collection"}[$__rate_interval]) + last_over_time(b[$__range])', "{{collection}} {{store}}"
    )
    asked = query.concrete("films.v2", rate_seconds=4, range_seconds=600)
    assert asked == 'rate(a{collection=~"films\\\\.v2"}[4s]) + last_over_time(b[600s])'
    assert query.name({"collection": "films", "store": "milvus"}) == "milvus"
    assert not Query("up", "{{collection}}").name({"collection": "films"})


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_says_so_without_data(panel: Panel) -> None:
    """It is drawn all the same."""
    assert panel.absent in drawn(panel)


def test_a_line_has_a_gap_where_there_was_no_value() -> None:
    """Nobody reads a value there that nobody had."""
    lines = re.findall(r'<path class="line line-1" d="([^"]+)"', drawn(RATIO, (1_000, 1), (1_001, 0.5), (1_050, 1), (1_051, 1)))
    assert [path.count("L") for path in lines] == [1, 1]


def test_a_share_stays_within_its_axis() -> None:
    """A quotient of two rates may come out above 1; the line does not leave the picture for it."""
    (path,) = re.findall(r'<path class="line line-1" d="([^"]+)"', drawn(RATIO, (1_000, 1), (1_001, 1.4), (1_002, 1)))
    assert len(set(re.findall(r"[ML][\d.]+ ([\d.]+)", path))) == 1


def test_a_mode_is_a_step_with_a_word() -> None:
    """It changes at once, and the axis has the modes' names."""
    picture = drawn(BY_TITLE["Storage mode"], (1_000, 0), (1_001, 1), (1_002, 3))
    (path,) = re.findall(r'<path class="line line-1" d="([^"]+)"', picture)
    assert re.fullmatch(r"M[\d.]+ [\d.]+(H[\d.]+V[\d.]+){2}", path)
    assert [word for word in ("neo4j_only", "dual_write", "shadow_milvus", "hybrid") if f">{word}<" not in picture] == []
    assert "one hybrid" in picture


def test_what_is_not_whole_is_not_called_so() -> None:
    """A share below 1 is never rounded up to 100 %."""
    query = RATIO.queries[0]
    assert [said(value, RATIO, query) for value in (0, 0.5, 0.999_99, 1)] == ["0%", "50%", "99.99%", "100%"]


def test_a_number_tells_until_when_it_was_known() -> None:
    """A copy that has ended tells no time left any more."""
    eta = BY_TITLE["ETA"]
    assert "until 00:16:50" in drawn(eta, (1_000, 30), (1_010, 2))
    assert "until" not in drawn(eta, (1_000, 30), (1_099, 2))
