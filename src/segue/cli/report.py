"""`segue report`: the whole migration, for people, for programs, and as one page with charts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from segue import __version__
from segue.bootstrap import looking
from segue.chronicle import of_kind
from segue.cli import agent_report, options, recorded
from segue.cli.output import Format, Listing, Result, publish, write
from segue.cli.report_page import page
from segue.config import Settings, digest, load, shown
from segue.model import EventKind
from segue.phases.agent_report import AgentReport
from segue.phases.agent_report import assemble as assemble_agents
from segue.phases.report import CollectionReport, Copying, Measured, assemble
from segue.telemetry.logging import LogFormat, configure
from segue.telemetry.panels import Dashboard

COUNTS = ("source", "migrated", "quarantined", "pending")


class ReportFormat(StrEnum):
    """How a report is printed; `auto` goes by the file's ending, and is a table elsewhere."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"
    HTML = "html"


_BY_ENDING = {
    ".json": ReportFormat.JSON,
    ".yaml": ReportFormat.YAML,
    ".yml": ReportFormat.YAML,
    ".md": ReportFormat.MARKDOWN,
    ".html": ReportFormat.HTML,
    ".htm": ReportFormat.HTML,
}


def report(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    metrics_url: options.MetricsUrl = None,
    prometheus_url: options.PrometheusUrl = None,
    output_format: Annotated[
        ReportFormat,
        typer.Option("--format", help="How it is written; auto goes by the ending of --output-file, and is a table elsewhere."),
    ] = ReportFormat.AUTO,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Write down the whole migration: what was done, when, by which configuration and version, what was proven, what is left.

    From the journals in Neo4j and PostgreSQL, the control node and row, the state file of this machine, and what processes
    count where they are named. Changes nothing; what cannot be reached is said in its place, and the rest is written.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    settings = load(config, options.watched(metrics_url, prometheus_url))
    has_agents = bool(settings.agentdb.mappings) and collection is None
    chosen = () if has_agents and not settings.collections else settings.chosen(collection)
    samples, faults = looking.counted(settings)
    seen = [looking.look_at(settings, one, samples, faults) for one in chosen]
    if settings.monitor.prometheus_url is not None:
        # Over the whole migration, since processes may have begun anew in between.
        begins = min((one.events[0].at for one in seen if one.events), default=None)
        if begins is not None:
            samples, faults = looking.counted(settings, time.time() - begins)
            seen = [looking.with_samples(one, samples) for one in seen]
    reports = [assemble(one) for one in seen]
    agents = _agents(settings) if has_agents else None
    form = output_format
    if form is ReportFormat.AUTO:
        form = _BY_ENDING.get(output_file.suffix.lower() if output_file else "", ReportFormat.TABLE)
    # Tables have no place for it.
    shows = form in {ReportFormat.HTML, ReportFormat.JSON, ReportFormat.YAML}
    dashboards = {one.seen.collection: _dashboard(settings, one) if shows else None for one in reports}
    data = _data(settings, config, reports, dashboards, agents, began)
    if form is ReportFormat.HTML:
        write(page(data, reports, dashboards, agents), output_file)
        return
    results = [_head(data), *(_result(one) for one in reports)]
    if agents is not None:
        results.append(agent_report.result(agents))
    publish(results, data, Format(form.value), output_file)


def _agents(settings: Settings) -> AgentReport:
    from segue.bootstrap.looking_agents import look_at_agents  # noqa: PLC0415  # needs the extra

    return assemble_agents(look_at_agents(settings))


def _dashboard(settings: Settings, report: CollectionReport) -> Dashboard | None:
    """Ask for the dashboard over the whole migration; None before it has begun, or where no Prometheus is named."""
    if not report.events:
        return None
    return looking.dashboard(settings, report.seen.collection, report.events[0].at, report.seen.at.timestamp())


def _head(data: dict[str, Any]) -> Result:
    facts = [
        ("made", data["made_at"]),
        ("by", f"segue {data['version']}"),
        ("configuration", f"{data['config']['file']}, digest {data['config']['digest']}"),
        ("collections", ", ".join(one["name"] for one in data["collections"]) or "none"),
    ]
    return Result(title="Migration report", facts=facts, data={})


def _result(report: CollectionReport) -> Result:
    counts, control = report.counts, report.seen.control
    account = (
        "nothing is recorded"
        if counts is None
        else ", ".join(f"{number:,} {name}" for name, number in counts.as_dict().items())
    )
    facts = [
        ("verdict", report.verdict),
        ("mode", f"{control.mode} at epoch {control.epoch}" if control else "not known"),
        ("items", account),
        ("in Neo4j", f"{report.seen.index.items:,} nodes" if report.seen.index else "not known"),
        ("in Milvus", _in_milvus(report)),
        ("speed-up", f"Milvus's median is {report.speed_up:.1f} times shorter" if report.speed_up else "not measured"),
    ]
    for store, (went, tried) in report.writes.items():
        facts.append((f"writes to {store}", f"{went:,} of {tried:,} ({went / tried:.2%})"))
    return Result(
        title=f"{report.seen.collection}", facts=facts, data={}, listings=_listings(report), notes=report.seen.unreachable
    )


def _in_milvus(report: CollectionReport) -> str:
    sink = report.seen.sink
    if sink is None:
        return "not known"
    if sink.physical is None:
        return "there is no collection"
    return f"{sink.physical}, {'not loaded' if sink.rows is None else f'{sink.rows:,} rows'}"


def _listings(report: CollectionReport) -> list[Listing]:
    listings = [
        recorded.proven(report.proofs),
        recorded.remaining(report.left),
        recorded.modes(report.stretches),
        recorded.overridden(report.overrides),
        Listing(
            "Copies",
            ("from", "until", "came to", "rows/s", "segue", "configuration"),
            [
                (
                    recorded.clock(one.start),
                    recorded.clock(one.end) if one.end else "",
                    one.text,
                    f"{rate:,.0f}" if (rate := rate_of(one)) else "",
                    one.version,
                    str(one.data.get("config", "")),
                )
                for one in report.copies
            ],
        ),
        recorded.quarantined(report.reasons, "items"),
        Listing(
            "Search latencies in ms",
            ("store", "searches", "mean", "p50", "p95", "p99"),
            [(one.store.value, f"{one.count:,}", *map(_ms, (one.mean, one.p50, one.p95, one.p99))) for one in report.measured],
        ),
        recorded.done(report.events),
    ]
    return [one for one in listings if one.rows]


def _data(
    settings: Settings,
    config: Path,
    reports: list[CollectionReport],
    dashboards: Mapping[str, Dashboard | None],
    agents: AgentReport | None,
    began: float,
) -> dict[str, Any]:
    parts = [one.counts for one in reports] + ([agents.counts] if agents else [])
    counts = [one.as_dict() for one in parts if one is not None]
    return {
        "verb": "report",
        "status": "ok",
        "seconds": round(time.monotonic() - began, 3),
        "counts": {name: sum(one[name] for one in counts) for name in COUNTS}
        if len(counts) == len(parts)
        else dict.fromkeys(COUNTS),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "config": {"file": str(config), "digest": digest(settings), "settings": shown(settings)},
        "collections": [{**_collection(one), "dashboard": _dashboard_data(dashboards[one.seen.collection])} for one in reports],
        "agentdb": agents and agent_report.data(agents),
    }


def _collection(report: CollectionReport) -> dict[str, Any]:
    seen = report.seen
    control = seen.control
    return {
        "name": seen.collection,
        "verdict": report.verdict,
        "mode": control and control.mode.value,
        "epoch": control and control.epoch,
        "counts": report.counts.as_dict() if report.counts else dict.fromkeys(COUNTS),
        "reasons": dict(report.reasons),
        "quarantined": [
            {"key": row.key, "reason": row.reason.value, "detail": row.detail}
            for row in (seen.copy.examples if seen.copy else ())
        ],
        "items": seen.index and seen.index.items,
        "rows": seen.sink and seen.sink.rows,
        "target": seen.sink and seen.sink.physical,
        "copies": [_copy(one) for one in report.copies],
        "validations": [recorded.event_data(one) for one in of_kind(report.events, EventKind.VALIDATION)],
        "preflights": [recorded.event_data(one) for one in of_kind(report.events, EventKind.PREFLIGHT)],
        "latencies_ms": {one.store.value: _latency(one) for one in report.measured},
        "speed_up": report.speed_up and round(report.speed_up, 3),
        "writes": {store: {"successes": went, "attempts": tried} for store, (went, tried) in report.writes.items()},
        "shadow_reads": {"count": report.shadow_reads, "overlap": report.shadow_overlap},
        "proofs": [{"what": one.what, "holds": one.holds, "evidence": one.evidence} for one in report.proofs],
        "left": list(report.left),
        **recorded.history(report.stretches, report.overrides, report.events),
        "unreachable": list(seen.unreachable),
    }


def _dashboard_data(dashboard: Dashboard | None) -> dict[str, Any] | None:
    if dashboard is None:
        return None
    return {
        "begin": round(dashboard.begin, 3),
        "end": round(dashboard.end, 3),
        "step_seconds": dashboard.step,
        "faults": list(dashboard.faults),
        "panels": [
            {
                "title": panel.title,
                "unit": panel.unit,
                "series": [
                    {"name": one.name, "points": [[round(at, 3), float(f"{value:.6g}")] for at, value in one.points]}
                    for one in curves
                ],
            }
            for panel, curves in dashboard.panels
        ],
    }


def _copy(copying: Copying) -> dict[str, Any]:
    return {
        "state": copying.state,
        "from": copying.start.isoformat(),
        "until": copying.end and copying.end.isoformat(),
        "text": copying.text,
        "rows_per_second": rate_of(copying),
        "run": copying.run,
        "by": copying.by,
        "version": copying.version,
        "config": copying.data.get("config"),
        "progress": [
            {"at": at.isoformat(), "migrated": migrated, "quarantined": quarantined, "source": source}
            for at, migrated, quarantined, source in copying.points
        ],
    }


def rate_of(copying: Copying) -> float | None:
    """Return the rows a second of a copy, the index left out; None where it did not end."""
    seconds, rows = copying.data.get("copy_seconds"), copying.data.get("migrated_now")
    return round(rows / seconds, 1) if rows and seconds else None


def _latency(measured: Measured) -> dict[str, Any]:
    return {
        "count": measured.count,
        "mean": measured.mean,
        "p50": measured.p50,
        "p95": measured.p95,
        "p99": measured.p99,
    }


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
