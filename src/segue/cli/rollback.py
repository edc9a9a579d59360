"""`segue rollback`: users on Neo4j again, by one command, from any mode and any state."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from segue.bootstrap import copying, journaling, returning
from segue.bootstrap.agent_state import require_extra
from segue.cli import options
from segue.cli.interruption import stoppable
from segue.cli.output import Format, Listing, Result, publish, verb_data
from segue.cli.steps import Watch, incomplete, step_data, unconfirmed
from segue.config import CollectionSettings, Settings, load
from segue.errors import ConfigError, Interrupted, SegueError
from segue.model import EventKind, StorageMode
from segue.phases.rollback import Clock, Returned, Wish, preview, roll_back
from segue.ports import Physical
from segue.steps import Step
from segue.telemetry.logging import LogFormat, configure

MayDelete = Callable[[str, Sequence[Physical]], bool]
COUNTS = ("source", "migrated", "quarantined", "pending")


def rollback(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="With --delete-milvus: the collections to delete, instead of being asked."),
    ] = None,
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    agentdb: Annotated[bool, typer.Option("--agentdb", help="Take agents back to Redis instead.", show_default=False)] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="With --agentdb: write to Redis what only PostgreSQL has.", show_default=False)
    ] = False,
    leave: Annotated[
        bool, typer.Option("--leave", help="With --agentdb: leave that in PostgreSQL, Redis as it is.", show_default=False)
    ] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Do it. Without, only what would be done is shown.")] = False,
    preserve_milvus: Annotated[
        bool, typer.Option("--preserve-milvus/--delete-milvus", help="Keep Milvus's collections, or delete them at the end.")
    ] = True,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded beside the mode.")] = "rolled back",
    wait_secs: Annotated[float, typer.Option("--wait-secs", min=0.0, help="How long everybody may take to act by it.")] = 20.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing; exit 0.")] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask.")] = False,
) -> None:
    """Take users back to Neo4j, from any mode, with Milvus, the relay or the state file down too. Nothing is copied.

    The mode becomes neo4j_only, every instance acts by it, the deployed mode follows, Neo4j's index is proven by a search. Run
    it again whenever it did not end well: every step looks at how things are. Exit code 1 says what is left to do by hand;
    5, without --confirm, that nothing was changed.
    """
    configure(log_format)
    began = time.monotonic()
    if (replay or leave) and (not agentdb or (replay and leave)):
        message = "--replay and --leave go with --agentdb, one of them"
        raise ConfigError(message)
    if agentdb:
        require_extra()
        from segue.cli import agent_mode  # noqa: PLC0415  # needs the extra

        output = agent_mode.AgentOutput("rollback", output_format, output_file, log_format)
        agent_mode.roll_back(
            config,
            output,
            wait_secs=wait_secs,
            reason=reason,
            confirm=confirm,
            dry_run=dry_run,
            replay=replay,
            leave=leave,
        )
        return
    settings = load(config)
    chosen = settings.chosen(collection)
    may_delete = None if preserve_milvus or not confirm else _permission(chosen, names or [], asks=not no_input)
    if names and preserve_milvus:
        message = f"{names[0]!r} is given, but nothing is to be deleted"
        raise ConfigError(message, hint="One collection alone: --collection NAME. To delete: --delete-milvus NAME.")
    watch = Watch(log_format)
    failure: SegueError | None = None
    returned: list[Returned] = []
    with stoppable() as stop, returning.open_rooms(settings, chosen, stop.wait) as (rooms, deployment):
        clock = Clock(time.monotonic, stop.wait)
        by_hand = returning.ShellCommands(settings, config)
        try:
            if confirm and not dry_run:
                wish = Wish(reason, may_delete, wait_secs)
                returned, _ = roll_back(rooms, deployment, wish, by_hand, clock, watch)
                failure = incomplete(watch.steps)
            else:
                returned, _ = preview(rooms, deployment, by_hand, clock, watch, deletes=not preserve_milvus)
                failure = None if dry_run else unconfirmed()
        except Interrupted as fault:
            failure = fault
    if confirm and not dry_run:
        _record(settings, chosen, returned, watch)
    results = _results(settings, chosen, returned, watch.steps, is_done=confirm and not dry_run)
    counts = _total([result.data["counts"] for result in results])
    data = verb_data("rollback", results, began, failure, counts=counts) | {"steps": [step_data(step) for step in watch.steps]}
    publish(results, data, output_format, output_file)
    if failure is not None:
        raise failure


def _permission(chosen: Sequence[CollectionSettings], names: Sequence[str], *, asks: bool) -> MayDelete:
    """Return who says whether a collection may go: the names given, else whoever sits at the terminal.

    Raises:
        ConfigError: Names are given that are not these collections', or none, and nobody can be asked.
    """
    wanted = [one.name for one in chosen]
    if names:
        if sorted(names) != sorted(wanted):
            message = f"--delete-milvus names {', '.join(sorted(names))}; what is rolled back is {', '.join(sorted(wanted))}"
            raise ConfigError(message, hint="Give exactly these names, or choose one collection: --collection NAME.")
        return lambda name, _: name in names
    if not (asks and sys.stdin.isatty()):
        message = "deleting needs the collection's name, and there is nobody to ask"
        raise ConfigError(message, hint=f"segue rollback --delete-milvus {' '.join(wanted)}")
    return _asked


def _asked(name: str, found: Sequence[Physical]) -> bool:
    sys.stderr.write(f"\nTo delete {', '.join(one.name for one in found)} from Milvus, type {name}; anything else keeps it: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == name


def _record(settings: Settings, chosen: Sequence[CollectionSettings], returned: Sequence[Returned], watch: Watch) -> None:
    for one, back in zip(chosen, returned, strict=False):
        if back.control is None:
            # Neo4j is away, and was waited for long enough.
            continue
        mine = [step_data(step) for step in watch.steps if step.collection in {None, one.name}]
        data = {
            "before": back.before and back.before.value,
            "reads_on_neo4j_seconds": back.reads_seconds,
            "late": len(back.late),
            "steps": mine,
        }
        journaling.record(settings, one, EventKind.ROLLBACK, f"rollback: {_reads(back)}", data, watch.note)


def _results(
    settings: Settings,
    chosen: Sequence[CollectionSettings],
    returned: Sequence[Returned],
    steps: Sequence[Step],
    *,
    is_done: bool,
) -> list[Result]:
    results = []
    for one, back in zip(chosen, returned, strict=False):
        mode = back.control.mode.value if back.control else "unknown"
        found = copying.recorded(settings, one)
        facts = [
            ("mode", f"{mode}{f' at epoch {back.control.epoch}' if back.control else ''}"),
            ("before", str(back.before or "unknown")),
            ("items", "not counted" if back.items is None else f"{back.items:,} nodes under :{one.source.label} in Neo4j"),
        ]
        if is_done:
            facts.append(("reads", _reads(back)))
        mine = [step for step in steps if step.collection in {None, one.name}]
        rows = [(step.name, step.status.value, f"{step.seconds:.2f}", step.detail) for step in mine]
        data = {
            "name": one.name,
            "before": back.before and back.before.value,
            "mode": back.control and back.control.mode.value,
            "epoch": back.control and back.control.epoch,
            "reads_on_neo4j_seconds": None if back.reads_seconds is None else round(back.reads_seconds, 3),
            "late": [{"name": each.name, "host": each.host, "epoch": each.epoch} for each in back.late],
            "items": back.items,
            # Of the last copy; nothing when there is none, or its records cannot be read.
            "counts": found[1].as_dict() if found else dict.fromkeys(COUNTS),
        }
        title = f"{one.name}: {_reads(back)}" if is_done else f"{one.name}: what a rollback would do"
        listing = Listing("steps", ("step", "is", "seconds", "detail"), rows)
        notes = [f"{step.name}, by hand: {command}" for step in mine for command in step.by_hand]
        results.append(Result(title=title, facts=facts, data=data, listings=[listing], notes=notes))
    return results


def _reads(back: Returned) -> str:
    if back.reads_seconds is not None and back.before is StorageMode.NEO4J_ONLY:
        return "users are on the old path, and were before"
    if back.reads_seconds is not None:
        return f"users were on the old path again after {back.reads_seconds:.1f} s"
    if back.late:
        return f"all but {len(back.late):,} instances are on the old path"
    return "it is not known that users are on the old path again"


def _total(counts: Sequence[dict[str, int | None]]) -> dict[str, int | None]:
    total: dict[str, int | None] = {}
    for name in COUNTS:
        values = [one[name] for one in counts]
        known = [value for value in values if value is not None]
        total[name] = sum(known) if len(known) == len(values) else None
    return total
