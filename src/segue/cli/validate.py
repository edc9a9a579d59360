"""`segue validate`: compare both sides, say what differs, and repair it where asked."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import Annotated, Any

import structlog
import typer

from segue import bootstrap
from segue.cli import options, validate_agentdb
from segue.cli.interruption import Stop, stoppable
from segue.cli.output import Format, Listing, Result, error_data, publish
from segue.config import CollectionSettings, Settings, load
from segue.errors import ConfigError, Interrupted, ModeRefused, SegueError, ValidationMismatch
from segue.model import Depth, Kind
from segue.phases.reconcile import Outcome, Plan
from segue.telemetry.logging import LogFormat, configure

SAMPLE_SIZE = 1_000
COUNTS = ("compared", "matched", "mismatched", "missing", "orphaned", "repaired")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command is asked for."""

    depth: Depth
    sample_size: int
    fix: bool
    delete_orphans: bool
    dry_run: bool
    threshold: float


def validate(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    sample_size: Annotated[
        int | None, typer.Option("--sample-size", min=1, help=f"Items to draw from all of them. Default: {SAMPLE_SIZE}.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Compare every vector and every field; resumable.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Compare every key and the row's own hash; reads no vector.")] = False,
    agentdb: Annotated[
        bool, typer.Option("--agentdb", help="Compare agent state in Redis with PostgreSQL instead, keys instead of items.")
    ] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Make rows equal that are missing or differ.")] = False,
    delete_orphans: Annotated[bool, typer.Option("--delete-orphans", help="Delete rows that have no item.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be repaired; change nothing anywhere.")] = False,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="The share of equal keys below which the exit code is 4.")
    ] = 0.99,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.TEXT,
    no_input: options.NoInput = False,
) -> None:
    """Compare Neo4j with Milvus: a sample with a stated bound, everything, or everything but the vectors.

    Safe beside writers: a key that is being changed counts as in motion, never as a difference. The verdict is noted on the
    control node. Exit code 4 when fewer keys are equal than --threshold says, after what --fix repaired.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    results: list[Result] = []
    failure: SegueError | None = None
    with stoppable() as stop:
        try:
            wish = Wish(_depth(sample_size, full, quick), sample_size or SAMPLE_SIZE, fix, delete_orphans, dry_run, threshold)
            settings = load(config)
            if agentdb:
                result, failure = _of_agents(settings, wish, stop)
                results.append(result)
            mismatches = []
            for one in () if agentdb else settings.chosen(collection):
                result, outcome = _validated(settings, one, wish, log_format, stop)
                results.append(result)
                if not outcome.complete:
                    message = "interrupted; the ranges that were compared are recorded"
                    raise Interrupted(message, hint="The same command goes on.")
                if outcome.rate < threshold:
                    mismatches.append(f"{one.name}: {outcome.rate:.4%} of {outcome.tally.compared:,} keys are equal")
            if mismatches:
                message = f"{'; '.join(mismatches)}; {threshold:.2%} are wanted"
                raise ValidationMismatch(message, hint="`segue validate --fix` makes them equal, `--delete-orphans` the rest.")
        except SegueError as fault:
            failure = fault
    publish(results, _data(results, began, failure), output_format, output_file)
    if failure is not None:
        raise failure


def _of_agents(settings: Settings, wish: Wish, stop: Stop) -> tuple[Result, SegueError | None]:
    if wish.depth is Depth.QUICK or wish.delete_orphans:
        message = "--quick and --delete-orphans are not for agent state"
        hint = 'Compare it with --full or --sample-size; rows go where a mapping says deletions = "mirror", with --fix.'
        raise ConfigError(message, hint=hint)
    sample_keys = None if wish.depth is Depth.FULL else wish.sample_size
    return validate_agentdb.validated(
        settings, sample_keys=sample_keys, fix=wish.fix, dry_run=wish.dry_run, threshold=wish.threshold, stop=stop
    )


def _depth(sample_size: int | None, full: bool, quick: bool) -> Depth:
    if (sample_size is not None) + full + quick > 1:
        message = "--sample-size, --full and --quick exclude each other"
        raise ConfigError(message, hint="Choose one; none means a sample of 1000.")
    return Depth.FULL if full else Depth.QUICK if quick else Depth.SAMPLE


def _validated(
    settings: Settings, one: CollectionSettings, wish: Wish, log_format: LogFormat, stop: Stop
) -> tuple[Result, Outcome]:
    began = time.monotonic()
    watch = Watch(one.name, log_format)
    with bootstrap.open_reconcile(
        settings,
        one,
        depth=wish.depth,
        sample_size=wish.sample_size,
        watch=watch,
        stop=stop,
        keeps_records=wish.depth is not Depth.SAMPLE and not wish.dry_run,
    ) as (reconcile, state):
        outcome = reconcile.run(state)
        plan = None
        if outcome.complete and (wish.fix or wish.delete_orphans):
            plan = reconcile.plan(outcome, fix=wish.fix, delete_orphans=wish.delete_orphans)
            if not wish.dry_run:
                repaired, notes = reconcile.repair(plan)
                outcome = replace(outcome, repaired=repaired, notes=[*outcome.notes, *notes])
        if outcome.complete and not wish.dry_run:
            reconcile.record(outcome)
    return _result(one, wish, outcome, plan, time.monotonic() - began), outcome


class Watch:
    """How a comparison goes, told on stderr."""

    def __init__(self, name: str, log_format: LogFormat) -> None:
        self._name = name
        self._json = log_format is LogFormat.JSON

    def range_done(self, compared: int, ranges_left: int) -> None:
        """See `phases.reconcile.Watch`."""
        self._say("compared", keys=compared, ranges_left=ranges_left)

    def note(self, text: str) -> None:
        """See `phases.reconcile.Watch`."""
        self._say("note", text=text)

    def _say(self, event: str, **facts: object) -> None:
        if self._json:
            structlog.get_logger().info(event, collection=self._name, **facts)
            return
        told = ", ".join(str(value) if name == "text" else f"{name} {value}" for name, value in facts.items())
        sys.stderr.write(f"{self._name}: {event}: {told}\n")
        sys.stderr.flush()


SEEN = {
    Depth.SAMPLE: "every vector and field of the keys drawn; rows without an item only beside some of them",
    Depth.FULL: "every vector and field of both sides, and how many rows each key has",
    Depth.QUICK: "every key, and the hash each row carries; not whether a row's vector and fields still fit its own hash",
}


def _result(one: CollectionSettings, wish: Wish, outcome: Outcome, plan: Plan | None, seconds: float) -> Result:
    tally = outcome.tally
    verdict = "clean" if outcome.clean else "differs"
    state = verdict if outcome.complete else "interrupted"
    counts = dict(
        zip(
            COUNTS,
            (
                tally.compared,
                tally.matched,
                tally.mismatched,
                tally.missing,
                tally.orphaned,
                len(outcome.repaired),
            ),
            strict=True,
        )
    )
    source, sink = f"{tally.source_digest:016x}", f"{tally.sink_digest:016x}"
    facts = [
        ("seen", f"{wish.depth}: {SEEN[wish.depth]}"),
        ("both sides", f"{outcome.items:,} items, {outcome.rows:,} rows"),
        ("sample size" if wish.depth is Depth.SAMPLE else "compared", f"{tally.compared:,} keys"),
        ("matches", f"{tally.matched:,}"),
        ("mismatches", f"{tally.mismatched:,}" + (f", {tally.duplicates:,} with several rows" if tally.duplicates else "")),
        ("missing", f"{tally.missing:,}"),
        ("orphaned", f"{tally.orphaned:,}"),
        ("quarantined", f"{tally.quarantined:,}"),
        ("in motion", f"{len(outcome.moving):,}"),
        ("success rate", f"{outcome.rate:.4%}"),
        ("max vector difference", f"{tally.distance:.3g} euclidean, {tally.cosine:.3g} cosine"),
        ("digests", f"{source} Neo4j, {sink} Milvus: {'equal' if source == sink else 'not equal'}"),
        ("seconds", f"{seconds:.1f}"),
    ]
    if outcome.bound is not None:
        facts.insert(-1, ("bound", f"with 95 % confidence at most {outcome.bound:.3%} of all items differ"))
    if outcome.repaired:
        facts.insert(7, ("repaired", f"{len(outcome.repaired):,}"))
    notes = list(outcome.notes)
    if plan is not None and wish.dry_run:
        way = "marked for the relay" if plan.remarked else "directly"
        notes.append(f"dry run: {len(plan.copied):,} rows would be made equal, {len(plan.deleted):,} deleted, {way}")
    listings = []
    if outcome.shown:
        rows = [(str(each.key), each.kind.value, each.field, each.source, each.sink) for each in outcome.shown]
        listings.append(Listing("differences, the first of them", ("key", "kind", "field", "Neo4j", "Milvus"), rows))
    data: dict[str, Any] = {
        "name": one.name,
        "status": "interrupted" if not outcome.complete else "ok" if outcome.rate >= wish.threshold else "failed",
        "seconds": round(seconds, 3),
        "counts": counts,
        "mode": wish.depth.value,
        "clean": outcome.clean,
        "rate": outcome.rate,
        "bound": outcome.bound,
        "items": outcome.items,
        "rows": outcome.rows,
        "duplicates": tally.duplicates,
        "quarantined": tally.quarantined,
        "in_motion": len(outcome.moving),
        "max_distance": tally.distance,
        "max_cosine_difference": tally.cosine,
        "digests": {"source": source, "sink": sink},
        "differences": [
            {"key": each.key, "kind": each.kind.value, "field": each.field, "source": each.source, "sink": each.sink}
            for each in outcome.shown
        ],
        "kinds": {kind.value: sum(each is kind for each in outcome.differing.values()) for kind in Kind},
        "plan": None
        if plan is None
        else {
            "by": "mark" if plan.remarked else "copy",
            "equal": len(plan.copied),
            "delete": len(plan.deleted),
            "dry_run": wish.dry_run,
        },
        "notes": notes,
    }
    return Result(title=f"{one.name}: {state}", facts=facts, listings=listings, notes=notes, data=data)


def _data(results: list[Result], began: float, failure: SegueError | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "verb": "validate",
        "status": _status(failure) if failure else "ok",
        "seconds": round(time.monotonic() - began, 3),
        "counts": {name: sum(result.data["counts"][name] for result in results) for name in COUNTS},
        "collections": [dict(result.data) for result in results],
    }
    if failure is not None:
        data["error"] = error_data(failure)
    return data


def _status(failure: SegueError) -> str:
    if isinstance(failure, Interrupted):
        return "interrupted"
    return "refused" if isinstance(failure, ModeRefused) else "failed"
