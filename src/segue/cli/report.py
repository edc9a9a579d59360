"""`segue report`: the whole migration, for people, for programs, and as one page with charts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from segue import __version__
from segue.bootstrap import looking
from segue.cli import options
from segue.cli.output import Format, Listing, Result, publish, write
from segue.cli.report_page import page
from segue.config import Settings, digest, load, shown
from segue.model import Event, EventKind
from segue.phases.report import CollectionReport, Copying, Measured, assemble, moment
from segue.telemetry.logging import LogFormat, configure

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

    From the journal in Neo4j, the control node, the state file of this machine, and what processes count where they are
    named. Changes nothing; what cannot be reached is said in its place, and the rest is written.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    settings = load(config, options.watched(metrics_url, prometheus_url))
    chosen = settings.chosen(collection)
    samples, faults = looking.counted(settings)
    seen = [looking.look_at(settings, one, samples, faults) for one in chosen]
    if settings.monitor.prometheus_url is not None:
        # Over the whole migration, since processes may have begun anew in between.
        begins = min((one.events[0].at for one in seen if one.events), default=None)
        if begins is not None:
            samples, faults = looking.counted(settings, time.time() - begins)
            seen = [looking.with_samples(one, samples) for one in seen]
    reports = [assemble(one) for one in seen]
    form = output_format
    if form is ReportFormat.AUTO:
        form = _BY_ENDING.get(output_file.suffix.lower() if output_file else "", ReportFormat.TABLE)
    data = _data(settings, config, reports, began)
    if form is ReportFormat.HTML:
        write(page(data, reports), output_file)
        return
    publish([_head(data), *(_result(one) for one in reports)], data, Format(form.value), output_file)


def _head(data: dict[str, Any]) -> Result:
    facts = [
        ("made", data["made_at"]),
        ("by", f"segue {data['version']}"),
        ("configuration", f"{data['config']['file']}, digest {data['config']['digest']}"),
        ("collections", ", ".join(one["name"] for one in data["collections"])),
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
        Listing(
            "What was proven",
            ("what", "shown", "by"),
            [(one.what, {True: "yes", False: "no", None: "not yet"}[one.holds], one.evidence) for one in report.proofs],
        ),
        Listing("What is left", ("what",), [(one,) for one in report.left] or [("nothing",)]),
        Listing(
            "Modes",
            ("mode", "epoch", "from", "until", "why"),
            [
                (one.mode.value, str(one.epoch), clock(one.start), "now" if one.is_present else clock(one.end), one.reason)
                for one in report.stretches
            ],
        ),
        Listing(
            "Overridden gates",
            ("gate", "before", "when", "by", "why"),
            [(one.gate, one.mode.value, clock(one.at), one.by, one.reason) for one in report.overrides]
            or [("none", "", "", "", "")],
        ),
        Listing(
            "Copies",
            ("from", "until", "came to", "rows/s", "segue", "configuration"),
            [
                (
                    clock(one.start),
                    clock(one.end) if one.end else "",
                    one.text,
                    f"{rate:,.0f}" if (rate := rate_of(one)) else "",
                    one.version,
                    str(one.data.get("config", "")),
                )
                for one in report.copies
            ],
        ),
        Listing("Quarantined", ("reason", "items"), [(reason, f"{number:,}") for reason, number in report.reasons.items()]),
        Listing(
            "Search latencies in ms",
            ("store", "searches", "mean", "p50", "p95", "p99"),
            [(one.store.value, f"{one.count:,}", *map(_ms, (one.mean, one.p50, one.p95, one.p99))) for one in report.measured],
        ),
        Listing(
            "What was done",
            ("when", "what", "by", "segue"),
            [(clock(moment(one)), one.text, one.by, one.version) for one in report.events],
        ),
    ]
    return [one for one in listings if one.rows]


def _data(settings: Settings, config: Path, reports: list[CollectionReport], began: float) -> dict[str, Any]:
    counts = [one.counts.as_dict() for one in reports if one.counts is not None]
    return {
        "verb": "report",
        "status": "ok",
        "seconds": round(time.monotonic() - began, 3),
        "counts": {name: sum(one[name] for one in counts) for name in COUNTS}
        if len(counts) == len(reports)
        else dict.fromkeys(COUNTS),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "config": {"file": str(config), "digest": digest(settings), "settings": shown(settings)},
        "collections": [_collection(one) for one in reports],
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
        "modes": [
            {
                "mode": one.mode.value,
                "epoch": one.epoch,
                "from": one.start.isoformat(),
                "until": None if one.is_present else one.end.isoformat(),
                "seconds": round((one.end - one.start).total_seconds(), 3),
                "reason": one.reason,
            }
            for one in report.stretches
        ],
        "overrides": [
            {"gate": one.gate, "mode": one.mode.value, "at": one.at.isoformat(), "by": one.by, "reason": one.reason}
            for one in report.overrides
        ],
        "copies": [_copy(one) for one in report.copies],
        "validations": [_event(one) for one in report.of(EventKind.VALIDATION)],
        "preflights": [_event(one) for one in report.of(EventKind.PREFLIGHT)],
        "latencies_ms": {one.store.value: _latency(one) for one in report.measured},
        "speed_up": report.speed_up and round(report.speed_up, 3),
        "writes": {store: {"successes": went, "attempts": tried} for store, (went, tried) in report.writes.items()},
        "shadow_reads": {"count": report.shadow_reads, "overlap": report.shadow_overlap},
        "proofs": [{"what": one.what, "holds": one.holds, "evidence": one.evidence} for one in report.proofs],
        "left": list(report.left),
        "events": [_event(one) for one in report.events],
        "unreachable": list(seen.unreachable),
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


def _event(event: Event) -> dict[str, Any]:
    return {
        "at": moment(event).isoformat(),
        "kind": event.kind.value,
        "text": event.text,
        "by": event.by,
        "version": event.version,
        "data": dict(event.data),
    }


def _latency(measured: Measured) -> dict[str, Any]:
    return {
        "count": measured.count,
        "mean": measured.mean,
        "p50": measured.p50,
        "p95": measured.p95,
        "p99": measured.p99,
    }


def clock(at: datetime) -> str:
    """Return a moment as tables show it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
