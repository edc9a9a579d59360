"""`segue cleanup`: take away what a migration leaves behind, when nobody needs it any more."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from segue.bootstrap import journaling, returning
from segue.cli import options
from segue.cli.output import Format, Listing, Result, publish, verb_data
from segue.cli.steps import Watch, incomplete, step_data, unconfirmed
from segue.config import load
from segue.errors import ModeRefused, SegueError
from segue.model import EventKind
from segue.phases.cleanup import clean_up
from segue.telemetry.logging import LogFormat, configure


def cleanup(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Do it. Without, only what would be done is shown.")] = False,
    drop_neo4j_index: Annotated[
        bool, typer.Option("--drop-neo4j-index", help="In hybrid: drop Neo4j's vector index too. Then Milvus answers alone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing; exit 0.")] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Take away what is of no further use, after a migration that has arrived or one that was taken back.

    In neo4j_only: the trigger, marks, leases, registrations and the control node; stop the relays first. In hybrid these are in
    use and stay. In both: old collections in Milvus that readers do not open any more. Exit code 5 without --confirm, or when
    something is in use.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    settings = load(config)
    watch = Watch(log_format)
    failure: SegueError | None = None
    is_done = confirm and not dry_run
    chosen = settings.chosen(collection)
    with returning.open_clearing(settings, chosen) as rooms:
        try:
            clean_up(rooms, time.monotonic, watch, drops_index=drop_neo4j_index, is_confirmed=is_done)
            failure = incomplete(watch.steps) if is_done or dry_run else unconfirmed()
        except ModeRefused as refusal:
            failure = refusal
    results = []
    for one in chosen if is_done and watch.steps else ():
        steps = [step_data(step) for step in watch.steps if step.collection in {None, one.name}]
        text = f"cleanup: {sum(step['status'] == 'done' for step in steps)} of {len(steps)} steps took something away"
        journaling.record(settings, one, EventKind.CLEANUP, text, {"steps": steps}, watch.note)
    for one in chosen:
        mine = [step for step in watch.steps if step.collection == one.name]
        rows = [(step.name, step.status.value, f"{step.seconds:.2f}", step.detail) for step in mine]
        title = f"{one.name}: {'cleared' if is_done and failure is None else 'what a cleanup would take away'}"
        listings = [Listing("steps", ("step", "is", "seconds", "detail"), rows)] if rows else []
        results.append(Result(title=title, facts=[], data={"name": one.name}, listings=listings))
    data = verb_data("cleanup", results, began, failure) | {"steps": [step_data(step) for step in watch.steps]}
    publish(results, data, output_format, output_file)
    if failure is not None:
        raise failure
