"""`segue migrate-agentdb`: copy agent state from Redis to PostgreSQL; resumes by itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.bootstrap import agent_state as bootstrap
from segue.cli import options
from segue.cli.interruption import stoppable
from segue.cli.output import Format, Listing, Result, error_data, publish
from segue.cli.progress import shown
from segue.config import Settings, load
from segue.errors import ConfigError, Interrupted, RetryableError, SegueError, UnsafeResume
from segue.ports import UnknownKeys
from segue.telemetry.logging import LogFormat, configure

if TYPE_CHECKING:
    from segue.phases.agent_copy import AgentOutcome, AgentPreview

VERB = "migrate-agentdb"
NAMES = ("source", "migrated", "quarantined", "pending")
MOST_SHOWN = 20


def migrate_agentdb(
    config: options.Config = options.CONFIG_PATH,
    skip_history: Annotated[
        bool, typer.Option("--skip-history", help="Leave experiences out: only Q-values, policies and metadata.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="Leave out experiences older than this time, in ISO 8601 (UTC unless said).")
    ] = None,
    max_ops: Annotated[
        int | None,
        typer.Option(
            "--max-ops", min=1, help="Keys and pieces of large keys read from Redis a second, at most. Default: redis.max_ops."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Rows written in one transaction. Default: agentdb.rows_per_batch."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Copy everything again instead of resuming; doubles no row.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Then keep PostgreSQL up to date, until SIGTERM or Ctrl-C.", show_default=False)
    ] = False,
    rescan_secs: Annotated[
        float, typer.Option("--rescan-secs", min=0.0, help="With --follow: from one reading of every key to the next.")
    ] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing anywhere.")] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Copy experiences, Q-values, policies and metadata of agents from Redis to PostgreSQL, as the configuration maps them.

    Redis is only read. Run it again after an interruption and it goes on behind the last rows PostgreSQL acknowledged; run it
    again later and it copies what has changed. What cannot go is in quarantine-agentdb.jsonl beside the state file.
    """
    del no_input
    configure(log_format)
    bootstrap.require_extra()
    if follow and (skip_history or since or dry_run):
        message = "--follow keeps everything up to date; --skip-history, --since and --dry-run do not go with it"
        raise ConfigError(message, hint="Leave them out, or --follow.")
    results: list[Result] = []
    failure: SegueError | None = None
    has_followed = False
    with stoppable() as stop:
        settings: Settings | None = None
        try:
            settings = load(config, {("redis", "max_ops"): max_ops, ("agentdb", "rows_per_batch"): batch_size})
            wish = bootstrap.AgentWish(skip_history, _moment(since), restart)
            with shown("agentdb", log_format) as progress:
                if dry_run:
                    results.append(_preview_result(bootstrap.preview_agent_state(settings, wish, progress, stop)))
                else:
                    results.append(_outcome_result(*bootstrap.migrate_agent_state(settings, wish, progress, stop)))
            if follow and not stop.is_set():
                results.append(_followed(settings, rescan_secs, log_format, stop))
                has_followed = True
        except SegueError as fault:
            failure = None if stop.requested and isinstance(fault, RetryableError) else fault
            results += [] if dry_run or settings is None else _left_off(settings)
    publish(results, _data(results, failure, stopped=stop.requested and not has_followed), output_format, output_file)
    if failure is not None:
        raise failure
    if stop.requested and not dry_run and not has_followed:
        message = "interrupted; everything acknowledged is recorded"
        raise Interrupted(message, hint=f"The same command resumes: segue {VERB}")


def _followed(settings: Settings, rescan_secs: float, log_format: LogFormat, stop: threading.Event) -> Result:
    from segue.bootstrap.agent_library import follow_agents  # noqa: PLC0415  # needs the extra
    from segue.cli import agent_following  # noqa: PLC0415

    return agent_following.result(follow_agents(settings, rescan_secs, agent_following.Watch(log_format), stop))


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"--since {text!r} is no time in ISO 8601"
        raise ConfigError(message, hint="For example 2026-11-01 or 2026-11-01T12:00:00+01:00.") from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _data(results: list[Result], failure: SegueError | None, *, stopped: bool) -> dict[str, Any]:
    status = _status(failure) if failure else "interrupted" if stopped else "ok"
    data: dict[str, Any] = {"verb": VERB, "status": status, "seconds": 0.0, "counts": dict.fromkeys(NAMES, 0)}
    for result in results:
        data |= result.data
    data["status"] = status
    if failure is not None:
        data["error"] = error_data(failure)
    return data


def _status(failure: SegueError) -> str:
    return "refused" if failure.exit_code == UnsafeResume.exit_code else "failed"


def _left_off(settings: Settings) -> list[Result]:
    """Say how far a copy had come that could not go on: what its records hold, if there are any."""
    found = bootstrap.recorded_agent_state(settings)
    if found is None:
        return []
    run, counts = found
    facts = [(name, f"{number:,}") for name, number in counts.as_dict().items()]
    return [Result("agentdb: not complete", facts, {"seconds": round(run.seconds, 3), "counts": counts.as_dict()})]


def _outcome_result(outcome: AgentOutcome, quarantine: Path) -> Result:
    counts, seconds = outcome.counts, max(outcome.seconds, 0.001)
    rate = outcome.ops / seconds
    facts = [
        ("rows", ", ".join(f"{number:,} {name}" for name, number in counts.as_dict().items())),
        ("written", f"{sum(one.written for one in outcome.kinds.values()):,} new or changed, the others were there already"),
        ("read from Redis", f"{outcome.ops:,} keys and pieces, {rate:,.0f} a second"),
        ("seconds", f"{outcome.seconds:.1f}"),
    ]
    listings = []
    if outcome.kinds:
        rows = [
            (kind.value, *(f"{n:,}" for n in (one.keys, one.migrated, one.written, one.skipped, outcome.tables.get(kind, 0))))
            for kind, one in outcome.kinds.items()
        ]
        listings.append(Listing("by kind", ("kind", "keys", "migrated", "written", "skipped", "in the table"), rows))
    if outcome.reasons:
        facts.append(("quarantine", str(quarantine)))
        told = [(reason, f"{number:,}") for reason, number in outcome.reasons.items()]
        listings.append(Listing("quarantined", ("reason", "rows"), told))
    listings += _unknown(outcome.unknown)
    data = {
        "seconds": round(outcome.seconds, 3),
        "counts": counts.as_dict(),
        "complete": outcome.complete,
        "kinds": {
            kind.value: {"keys": one.keys, "migrated": one.migrated, "written": one.written, "skipped": one.skipped}
            for kind, one in outcome.kinds.items()
        },
        "tables": {kind.value: number for kind, number in outcome.tables.items()},
        "reasons": dict(outcome.reasons),
        "quarantine_file": str(quarantine) if outcome.reasons else None,
        "unknown": _unknown_data(outcome.unknown),
        "redis_ops": outcome.ops,
        "redis_ops_per_second": round(rate, 1),
        "notes": list(outcome.notes),
    }
    title = f"agentdb: {'complete' if outcome.complete else 'interrupted'}"
    return Result(title, facts, data, listings, outcome.notes)


def _preview_result(preview: AgentPreview) -> Result:
    keys = sum(node.keys for node in preview.nodes)
    facts = [
        ("Redis", ", ".join(f"{node.address}/{node.db}" for node in preview.nodes)),
        ("keys", f"{keys:,}, {preview.scanned:,} looked at"),
        ("tables", "do not fit" if preview.unfit else "there or to be made"),
    ]
    rows = [
        (one.kind.value, one.key, f"{one.keys:,}", f"{one.rows:,} of {one.read:,} keys", f"{sum(one.reasons.values()):,}")
        for one in preview.mappings
    ]
    listings = [Listing("mappings", ("kind", "key", "keys", "rows sampled", "would be quarantined"), rows)]
    if preview.examples:
        told = [(one.key, one.reason.value, one.detail) for one in preview.examples]
        listings.append(
            Listing("examples of what cannot go", ("key", "reason", "detail"), [tuple(map(str, row)) for row in told])
        )
    listings += _unknown(preview.unknown)
    notes = [f"in the way: {fault}" for fault in preview.unfit]
    if not preview.complete:
        notes.append(f"only {preview.scanned:,} keys were looked at")
    notes += [f"no key fits {one.key!r}" for one in preview.mappings if not one.keys]
    data = {
        "dry_run": True,
        "counts": {"source": keys, "migrated": 0, "quarantined": 0, "pending": keys},
        "scanned": preview.scanned,
        "mappings": [
            {
                "kind": one.kind.value,
                "key": one.key,
                "keys": one.keys,
                "sampled_keys": one.read,
                "sampled_rows": one.rows,
                "reasons": dict(one.reasons),
            }
            for one in preview.mappings
        ],
        "unknown": _unknown_data(preview.unknown),
        "tables_unfit": list(preview.unfit),
        "notes": notes,
    }
    return Result("agentdb: dry run, nothing was changed", facts, data, listings, notes)


def _unknown(found: Mapping[str, UnknownKeys]) -> list[Listing]:
    if not found:
        return []
    most = sorted(found.items(), key=lambda one: -one[1].keys)[:MOST_SHOWN]
    rows = [(shape, f"{one.keys:,}", one.example) for shape, one in most]
    return [Listing("keys that no mapping takes", ("like", "keys", "example"), rows)]


def _unknown_data(found: Mapping[str, UnknownKeys]) -> list[dict[str, object]]:
    return [{"like": shape, "keys": one.keys, "example": one.example} for shape, one in found.items()]
