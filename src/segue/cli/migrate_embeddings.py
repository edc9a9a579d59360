"""`segue migrate-embeddings`: copy the configured collections from Neo4j to Milvus; resumes by itself."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from segue.bootstrap import copying, journaling, preflight
from segue.bootstrap.metering import Meters, metered
from segue.cli import options
from segue.cli.interruption import stoppable
from segue.cli.output import Format, Listing, Result, error_data, publish
from segue.cli.progress import Metered, shown
from segue.config import CollectionSettings, Settings, load
from segue.errors import Interrupted, RetryableError, SegueError, UnsafeResume
from segue.model import Field, Layout
from segue.phases.backfill import Outcome, Preview
from segue.telemetry.logging import LogFormat, configure

VERB = "migrate-embeddings"


def migrate_embeddings(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Ranges copied at the same time. Default: backfill.workers.")
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option("--batch-size", help="Rows a batch; 'auto' adapts between 100 and 5000. Default: backfill.batch_size."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Copy on a Ray cluster: ray://HOST:10001, 'auto' for this machine's, 'local' for one made here.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Copy everything again instead of resuming; doubles no row.")
    ] = False,
    no_writers: Annotated[
        bool,
        typer.Option(
            "--no-writers", help="State that nobody writes until the mode is dual_write: a copy without capture counts then."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing anywhere.")] = False,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Make the collection and its index; copy nothing yet.")
    ] = False,
    metrics_port: options.MetricsPort = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Copy embeddings and the carried properties from Neo4j to Milvus, in parallel, resumable at any moment.

    Run it again after an interruption and it goes on behind the last rows Milvus acknowledged. Rows that cannot go are
    quarantined with their reason, in quarantine-COLLECTION.jsonl beside the state file; the rest goes through.
    """
    del no_input
    configure(log_format)
    overrides = {("backfill", "workers"): workers, ("backfill", "batch_size"): batch_size, ("backfill", "ray"): ray}
    try:
        settings = load(config, overrides)
        chosen = settings.chosen(collection)
    except SegueError as fault:
        publish([], _data([], fault, stopped=False), output_format, output_file)
        raise
    results: list[Result] = []
    failure: SegueError | None = None
    with metered(metrics_port) as meters, stoppable() as stop:
        work = _previewed(no_writers) if dry_run else _prepared if schema_only else _migrated(restart, no_writers, meters)
        for one in chosen:
            try:
                results.append(work(settings, one, log_format, stop))
            except SegueError as fault:
                failure = fault
                results += [] if dry_run or schema_only else _left_off(settings, one, _status(fault))
                break
            if stop.is_set():
                break
        interrupted = stop.requested
        if interrupted and isinstance(failure, RetryableError):
            failure = None
        publish(results, _data(results, failure, stopped=interrupted), output_format, output_file)
        if failure is None and not interrupted and not dry_run and not schema_only:
            meters.await_scrape(stop, _note)
    if failure is not None:
        raise failure
    if interrupted and not dry_run:
        message = "interrupted; everything acknowledged is recorded"
        raise Interrupted(message, hint=f"The same command resumes: segue {VERB}")


def _note(text: str) -> None:
    sys.stderr.write(f"metrics: {text}\n")


Work = Callable[[Settings, CollectionSettings, LogFormat, threading.Event], Result]


def _migrated(restart: bool, no_writers: bool, meters: Meters) -> Work:
    def work(settings: Settings, one: CollectionSettings, log_format: LogFormat, stop: threading.Event) -> Result:
        with shown(one.name, log_format) as display:
            progress = Metered(display, meters(one))
            if hint := copying.missing_speed():
                progress.note(hint)
            outcome, quarantine = copying.migrate(settings, one, progress, stop, restart=restart, no_writers=no_writers)
            predicted = preflight.predicted(settings, one) if outcome.complete and outcome.ran else None
        return _outcome_result(one, outcome, quarantine, predicted)

    return work


def _prepared(settings: Settings, one: CollectionSettings, log_format: LogFormat, stop: threading.Event) -> Result:
    began = time.monotonic()
    with shown(one.name, log_format) as progress:
        layout = copying.prepare_collection(settings, one, progress, stop)
    facts = [
        ("index", f"{layout.index.kind} {layout.index.metric} {_params(layout)}".rstrip()),
        ("fields", ", ".join(field.name for field in layout.fields)),
    ]
    data = {
        "name": one.name,
        "status": "ok",
        "seconds": round(time.monotonic() - began, 3),
        "counts": dict.fromkeys(("source", "migrated", "quarantined", "pending"), 0),
        "schema_only": True,
        "index": {"kind": layout.index.kind, "metric": layout.index.metric, "params": dict(layout.index.params)},
    }
    return Result(title=f"{one.name}: the collection is there, nothing is copied", facts=facts, data=data)


def _previewed(no_writers: bool) -> Work:
    def work(settings: Settings, one: CollectionSettings, log_format: LogFormat, stop: threading.Event) -> Result:
        with shown(one.name, log_format) as progress:
            return _preview_result(one, copying.preview(settings, one, progress, stop, no_writers=no_writers))

    return work


def _data(results: list[Result], failure: SegueError | None, *, stopped: bool) -> dict[str, Any]:
    status = _status(failure) if failure else "interrupted" if stopped else "ok"
    names = ("source", "migrated", "quarantined", "pending")
    data: dict[str, Any] = {
        "verb": VERB,
        "status": status,
        "seconds": round(sum(result.data["seconds"] for result in results), 3),
        "counts": {name: sum(result.data["counts"][name] for result in results) for name in names},
        "collections": [dict(result.data) for result in results],
    }
    if failure is not None:
        data["error"] = error_data(failure)
    return data


def _status(failure: SegueError) -> str:
    return "refused" if failure.exit_code == UnsafeResume.exit_code else "failed"


def _left_off(settings: Settings, one: CollectionSettings, status: str) -> list[Result]:
    """Say how far a copy had come that could not go on: what its records hold, if there are any."""
    found = copying.recorded(settings, one)
    if found is None:
        return []
    run, counts = found
    data = {"name": one.name, "status": status, "seconds": round(run.seconds, 3), "counts": counts.as_dict()}
    facts = [(name, f"{number:,}") for name, number in counts.as_dict().items()]
    return [Result(title=f"{one.name}: {status}", facts=facts, data=data)]


def _outcome_result(one: CollectionSettings, outcome: Outcome, quarantine: Path, predicted: Mapping[str, Any] | None) -> Result:
    counts = outcome.counts
    rate = outcome.migrated_now / outcome.copy_seconds if outcome.migrated_now and outcome.copy_seconds > 0 else 0.0
    state = "complete" if outcome.complete else "interrupted"
    done_before = outcome.complete and not outcome.ran
    facts = [
        ("source", f"{counts.source:,} items"),
        ("migrated", f"{counts.migrated:,}"),
        ("quarantined", f"{counts.quarantined:,}" + (f", see {quarantine}" if counts.quarantined else "")),
        ("pending", f"{counts.pending:,}"),
        ("rate", f"{rate:,.0f} rows/s over {outcome.copy_seconds:.1f} s of copying" if rate else "nothing was left to copy"),
        ("working time", f"{outcome.run.seconds:.1f} s, index included"),
    ]
    if predicted:
        off = outcome.run.seconds / predicted["seconds"] - 1
        facts.append(("predicted", f"{journaling.span(predicted)}; it took {off:+.0%}"))
    if outcome.target_rows is not None:
        facts.append(("Milvus counts", f"{outcome.target_rows:,} rows in {outcome.run.target.split('#')[0]}"))
    notes = list(outcome.notes)
    if done_before:
        notes.append("this copy was complete before; --restart copies everything again")
    reasons = [(reason, f"{rows:,}") for reason, rows in outcome.reasons.items()]
    return Result(
        title=f"{one.name}: {state}",
        facts=facts,
        listings=[Listing("quarantined", ("reason", "rows"), reasons)] if reasons else [],
        notes=notes,
        data={
            "name": one.name,
            "status": "ok" if outcome.complete else "interrupted",
            "seconds": round(outcome.run.seconds, 3),
            "counts": counts.as_dict(),
            "reasons": dict(outcome.reasons),
            "quarantine_file": str(quarantine) if counts.quarantined else None,
            "target": outcome.run.target,
            "target_rows": outcome.target_rows,
            "static": outcome.static,
            "migrated_now": outcome.migrated_now,
            "copy_seconds": round(outcome.copy_seconds, 3),
            "predicted": predicted,
            "rows_per_second": round(rate, 1),
            "notes": notes,
        },
    )


def _preview_result(one: CollectionSettings, preview: Preview) -> Result:
    census, layout = preview.census, preview.layout
    vectors = census.embedded * layout.vector.size * 4
    facts = [
        ("source", f"{census.total:,} items, {census.embedded:,} with a vector"),
        ("plan", f"{preview.ranges} ranges"),
        ("vectors", _bytes(vectors)),
        ("collection", f"{layout.name}: {'exists' if preview.exists else 'would be created'}"),
        ("index", f"{layout.index.kind} {layout.index.metric} {_params(layout)}".rstrip()),
        ("would be quarantined", f"{sum(preview.reasons.values()):,} of {preview.sampled:,} sampled"),
    ]
    rows = [(field.name, _type(field), field.source or "Segue's own") for field in layout.fields]
    listings = [Listing("fields", ("field", "type", "from"), rows)]
    if preview.examples:
        examples = [(str(row.key), row.reason.value, row.detail) for row in preview.examples]
        listings.append(Listing("examples of what cannot go", ("key", "reason", "detail"), examples))
    counts = {"source": census.total, "migrated": 0, "quarantined": 0, "pending": census.total}
    return Result(
        title=f"{one.name}: dry run, nothing was changed",
        facts=facts,
        listings=listings,
        notes=preview.notes,
        data={
            "name": one.name,
            "status": "ok",
            "dry_run": True,
            "seconds": 0.0,
            "counts": counts,
            "embedded": census.embedded,
            "ranges": preview.ranges,
            "vector_bytes": vectors,
            "collection_exists": preview.exists,
            "fields": [{"name": name, "type": kind, "source": source} for name, kind, source in rows],
            "index": {"kind": layout.index.kind, "metric": layout.index.metric, "params": dict(layout.index.params)},
            "sampled": preview.sampled,
            "reasons": dict(preview.reasons),
            "notes": list(preview.notes),
        },
    )


def _params(layout: Layout) -> str:
    return ", ".join(f"{name}={value}" for name, value in layout.index.params.items())


def _type(field: Field) -> str:
    size = f"({field.size})" if field.size else ""
    return f"{field.type.value}{size}{' primary' if field.primary else ''}"


def _bytes(number: int) -> str:
    amount, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):  # noqa: B007  # the last one stays
        if amount < 1024:  # noqa: PLR2004  # units of 1,024
            break
        amount /= 1024
    return f"{amount:,.1f} {unit}"
