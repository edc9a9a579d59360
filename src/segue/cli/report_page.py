"""The report as one HTML file: no script, nothing loaded from elsewhere, light or dark as its reader prefers.

Owns the page; the charts are drawn in `charts`. What is shown is what `phases/report.py` put together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from segue.chronicle import moment, of_kind
from segue.cli import agent_report, page_parts
from segue.cli.charts import Bar, Series, Span, bars, grouped, lines
from segue.cli.page_parts import block, bullets, overridden, phases, proofs, table, told, unreachable, validated
from segue.cli.panel_charts import chart
from segue.cli.recorded import clock
from segue.model import EventKind, StoreName
from segue.phases.agent_report import AgentReport
from segue.phases.report import CollectionReport, Copying, is_comparison
from segue.telemetry.panels import Dashboard

_OUTCOMES = {
    "matched": "good",
    "repaired": "good",
    "mismatched": "bad",
    "missing": "bad",
    "orphaned": "bad",
    "in_motion": "none",
}
"""What a comparison counts, and how it is drawn."""


def page(
    data: Mapping[str, Any],
    reports: Sequence[CollectionReport],
    dashboards: Mapping[str, Dashboard | None],
    agents: AgentReport | None,
) -> str:
    """Return the whole file.

    Args:
        data: The report for programs: when it was made, by what, and the configuration.
        reports: The collections.
        dashboards: What a Prometheus showed of each, by name.
        agents: Agent state; None where none is configured.
    """
    head = (
        f"<p class=meta>Made {escape(data['made_at'])} by segue {escape(data['version'])}, configuration "
        f"{escape(data['config']['file'])}, digest <code>{escape(data['config']['digest'])}</code>. Times are UTC.</p>"
    )
    body = "".join(_section(report, dashboards[report.seen.collection]) for report in reports)
    if agents is not None:
        body += agent_report.section(agents)
    settings = json.dumps(data["config"]["settings"], indent=2, ensure_ascii=False)
    config = (
        "<section><h2>Configuration</h2><details><summary>every setting, secrets left out</summary>"
        f"<pre>{escape(settings)}</pre></details></section>"
    )
    names = [report.seen.collection for report in reports] + ["agent state"] * (agents is not None)
    title = f"Migration report: {', '.join(names)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>{head}\n{body}\n{config}"
        "</main></body></html>\n"
    )


def _section(report: CollectionReport, dashboard: Dashboard | None) -> str:
    parts = [
        f"<h2>{escape(report.seen.collection)}</h2><p class=verdict>{escape(report.verdict)}.</p>",
        unreachable(report.seen.unreachable),
        _cards(report),
        block("What was proven", proofs(report.proofs)),
        block("What is left", bullets(report.left or ["nothing"])),
        block("Phases", _phases(report)),
        block("Overridden gates", overridden(report.overrides)),
        block("Progress", _progress(report.copies)),
        block("Search latency", _latencies(report)),
        block("Validation", _validations(report)),
        block("Quarantine by reason", _quarantine(report)),
        block("Dashboard", _dashboard(dashboard)) if dashboard else "",
        block("What was done", told(report.events)),
    ]
    return f"<section>{''.join(parts)}</section>\n"


def _cards(report: CollectionReport) -> str:
    control, counts = report.seen.control, report.counts
    cards = [("mode", control.mode.value if control else "not known", f"epoch {control.epoch}" if control else "")]
    if counts is not None:
        left = f"{counts.quarantined:,} quarantined, {counts.pending:,} pending"
        cards.append(("migrated", f"{counts.migrated:,} of {counts.source:,}", left))
    if report.seen.sink and report.seen.sink.rows is not None:
        cards.append(("rows in Milvus", f"{report.seen.sink.rows:,}", report.seen.sink.physical or ""))
    if report.speed_up:
        cards.append(("speed-up", f"{report.speed_up:.1f} times", "Neo4j's median to Milvus's"))
    for store, (went, tried) in report.writes.items():
        cards.append((f"writes to {store}", f"{went / tried:.2%}", f"{went:,} of {tried:,}"))
    if report.shadow_reads:
        cards.append(("shadow reads", f"{report.shadow_overlap or 0:.1%}", f"overlap of {report.shadow_reads:,}"))
    return page_parts.cards(cards)


def _phases(report: CollectionReport) -> str:
    now = report.seen.at
    copies = [
        Span(
            "copy",
            f"copy: {one.text}",
            one.start,
            one.end or min(now, one.points[-1][0] if one.points else now),
            f"copy-{_word(one)}",
        )
        for one in report.copies
    ]
    checks = [validated(one) for one in of_kind(report.events, EventKind.VALIDATION)]
    return phases(report.stretches, report.overrides, [("copies", copies), ("validations", checks)])


def _progress(copies: Sequence[Copying]) -> str:
    if not copies:
        return "<p>No copy is recorded.</p>"
    points = [point for copying in copies for point in copying.points]
    drawn = ""
    if points:
        migrated = Series("migrated", "line-1", [(at, float(done)) for at, done, _, _ in points])
        quarantined = Series("quarantined", "line-2", [(at, float(left)) for at, _, left, _ in points])
        drawn = lines("items copied over time", [migrated, quarantined], "items", float(points[-1][3]))
    rows = [
        (
            clock(one.start),
            clock(one.end) if one.end else "not ended",
            one.text,
            str(one.data.get("workers", "")),
            f"{one.data['migrated_now'] / one.data['copy_seconds']:,.0f}" if one.data.get("migrated_now") else "",
            one.by,
            one.version,
            str(one.data.get("config", "")),
        )
        for one in copies
    ]
    return drawn + table(("from", "until", "came to", "workers", "rows/s", "by", "segue", "configuration"), rows)


def _latencies(report: CollectionReport) -> str:
    if not report.measured:
        return "<p>Nobody was asked who counts searches: --metrics-url, --prometheus-url or [monitor] in the configuration.</p>"
    groups = []
    for name in ("p50", "p95", "p99"):
        row = [
            Bar(one.store.value, value, f"{value:,.1f} ms", _style(one.store))
            for one in report.measured
            if (value := getattr(one, name)) is not None
        ]
        groups.append((f"{name}: {name[1:]} % of searches are not slower", row))
    legend = [(one.store.value, _style(one.store)) for one in report.measured]
    rows = [
        (
            one.store.value,
            f"{one.count:,}",
            *("" if value is None else f"{value:,.1f}" for value in (one.mean, one.p50, one.p95, one.p99)),
        )
        for one in report.measured
    ]
    faster = f"<p>Milvus's median is {report.speed_up:.1f} times shorter.</p>" if report.speed_up else ""
    return (
        grouped("search latencies of both stores", groups, legend)
        + faster
        + table(("store", "searches", "mean ms", "p50 ms", "p95 ms", "p99 ms"), rows)
    )


def _validations(report: CollectionReport) -> str:
    events = of_kind(report.events, EventKind.VALIDATION)
    if not events:
        return "<p>Both sides were never compared.</p>"
    compared, found = [], []
    for event in events:
        when = clock(moment(event))
        if is_comparison(event):
            for name, style in _OUTCOMES.items():
                if number := event.data.get(name):
                    compared.append(Bar(f"{when} {name}", float(number), f"{number:,}", style))
        for one in event.data.get("asked", ()):
            for store in StoreName:
                mean = one[store.value]["mean"]
                found.append((f"{when} {one['filter']}".strip(), Bar(store.value, mean, f"{mean:.2%}", _style(store))))
    listed = table(("when", "came to", "by", "segue"), [(clock(moment(one)), one.text, one.by, one.version) for one in events])
    recalls = [
        (heading, [bar for name, bar in found if name == heading]) for heading in dict.fromkeys(name for name, _ in found)
    ]
    drawn = bars("keys by what came of comparing them", compared)
    if recalls:
        drawn += "<p>Of what is truly nearest, each store found:</p>" + grouped("recall of both stores", recalls)
    return drawn + listed


def _quarantine(report: CollectionReport) -> str:
    if not report.reasons:
        return "<p>none</p>"
    rows = [Bar(reason, float(number), f"{number:,}", "bad") for reason, number in report.reasons.items()]
    drawn = bars("quarantined items by reason", rows)
    examples = report.seen.copy.examples if report.seen.copy else ()
    listed = table(
        ("key", "reason", "detail"),
        [("" if one.key is None else str(one.key), one.reason.value, one.detail) for one in examples],
    )
    return drawn + (f"<details><summary>the first of them</summary>{listed}</details>" if examples else "")


def _dashboard(dashboard: Dashboard) -> str:
    """Draw what the panels of Grafana's dashboard show, each with what it means."""
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (dashboard.begin, dashboard.end))
    window = f"<p>As Prometheus has it, from {clock(begin)} to {clock(end)}, a value every {dashboard.step:g} s.</p>"
    faults = f'<div class="warning">{bullets(dashboard.faults)}</div>' if dashboard.faults else ""
    drawn = "".join(
        f"<figure><figcaption>{escape(panel.title)}<small>{escape(panel.meaning)}</small></figcaption>"
        f"{chart(dashboard, panel, curves)}</figure>"
        for panel, curves in dashboard.panels
    )
    return f"{window}{faults}<div class=panels>{drawn}</div>"


def _word(copying: Copying) -> str:
    return "good" if copying.state == "complete" else "bad" if copying.state == "failed" else "none"


def _style(store: StoreName) -> str:
    return f"store-{store}"


CHART_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#57606a;--grid:#d8dee4;--card:#f6f8fa;
--neo4j:#0969da;--milvus:#bc4c00;--good:#1a7f37;--bad:#cf222e;--none:#8c959f;
--m0:#8c959f;--m1:#0969da;--m2:#8250df;--m3:#1a7f37;--c3:#1a7f37;--c4:#8250df;--c5:#bf3989;--c6:#1b7c83;--c7:#9a6700}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--soft:#9198a1;--grid:#30363d;--card:#161b22;
--neo4j:#58a6ff;--milvus:#f0883e;--good:#3fb950;--bad:#f85149;--none:#6e7681;
--m0:#6e7681;--m1:#388bfd;--m2:#a371f7;--m3:#2ea043;--c3:#3fb950;--c4:#a371f7;--c5:#f778ba;--c6:#39c5cf;--c7:#d29922}}
svg{display:block;width:100%;max-width:900px;height:auto;margin:6px 0 12px;font:12px system-ui,sans-serif}
svg text{fill:var(--ink)}svg .tick{fill:var(--soft)}svg .end{text-anchor:end}svg .middle{text-anchor:middle}
svg .heading{fill:var(--soft);font-weight:600}svg .on-bar{fill:#fff;font-weight:600}
svg .grid{stroke:var(--grid);stroke-width:1}svg .axis{stroke:var(--soft)}
svg .ceiling{stroke:var(--soft);stroke-dasharray:5 4}
svg .line-1{fill:var(--neo4j);stroke:var(--neo4j)}svg .line-2{fill:var(--milvus);stroke:var(--milvus)}
svg .line-3{fill:var(--c3);stroke:var(--c3)}svg .line-4{fill:var(--c4);stroke:var(--c4)}
svg .line-5{fill:var(--c5);stroke:var(--c5)}svg .line-6{fill:var(--c6);stroke:var(--c6)}
svg .line-7{fill:var(--c7);stroke:var(--c7)}svg .line-8{fill:var(--soft);stroke:var(--soft)}
svg .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}svg rect.bar,svg .dot{stroke:none}
svg .number{font-size:20px;font-weight:600}svg .empty{fill:var(--grid)}svg .absent{fill:var(--soft);font-size:15px}
svg .store-neo4j{fill:var(--neo4j)}svg .store-milvus{fill:var(--milvus)}
svg .good,svg .copy-good{fill:var(--good)}svg .bad,svg .copy-bad{fill:var(--bad)}svg .none,svg .copy-none{fill:var(--none)}
svg .mode-0{fill:var(--m0)}svg .mode-1{fill:var(--m1)}
svg .mode-2{fill:var(--m2)}svg .mode-3{fill:var(--m3)}
svg path.moment{fill:var(--bad)}svg line.moment{stroke:var(--bad);stroke-dasharray:3 3}
"""
"""Of the charts alone, in the colours of light and dark."""

_STYLE = (
    CHART_STYLE
    + """body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:24px}h2{margin-top:40px;border-bottom:1px solid var(--grid)}h3{margin:28px 0 8px}
.meta,small{color:var(--soft)}.verdict{font-size:17px}
.warning{border-left:4px solid var(--bad);padding:2px 14px;background:var(--card)}
.cards{display:flex;flex-wrap:wrap;gap:12px}.card{background:var(--card);padding:10px 16px;border-radius:8px;min-width:130px}
.card h4{margin:0;font-weight:400;color:var(--soft);font-size:13px}.card b{display:block;font-size:20px}
table{border-collapse:collapse;font-size:13px;width:100%}th,td{text-align:left;padding:5px 10px 5px 0;vertical-align:top}
th{color:var(--soft);font-weight:600}tr{border-bottom:1px solid var(--grid)}.scroll{overflow-x:auto}
td.good{color:var(--good)}td.bad{color:var(--bad)}td.none{color:var(--soft)}
pre{background:var(--card);padding:12px;overflow:auto;font-size:12px}code{font-size:13px}summary{cursor:pointer}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:4px 28px}
figure{margin:10px 0 0}figcaption{font-weight:600;font-size:14px}figcaption small{display:block;font-weight:400}
"""
)
