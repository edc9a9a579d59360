"""`segue validate`: compare both sides, say what differs, and repair it where asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from segue.bootstrap import searching
from segue.bootstrap.comparing import open_reconcile
from segue.cli import options, recall, validate_agentdb
from segue.cli.interruption import Stop, stoppable
from segue.cli.output import Format, Listing, Result, publish, verb_data
from segue.config import CollectionSettings, Settings, load
from segue.errors import ConfigError, Interrupted, SegueError, ValidationMismatch
from segue.model import Depth, Kind
from segue.phases import search_check
from segue.phases.reconcile import Outcome, Plan
from segue.telemetry.logging import LogFormat, configure

SAMPLE_SIZE = 1_000
QUERIES = 100
HITS = 10
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
    search: searching.Wish | None
    reload: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of one collection."""

    result: Result
    outcome: Outcome
    searches: search_check.Outcome | None


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
    search: Annotated[
        bool, typer.Option("--search", help="Ask both sides for what is nearest, too, and judge both by exact scores.")
    ] = False,
    queries: Annotated[
        int | None, typer.Option("--queries", min=0, help=f"Items to draw and search for. Default: {QUERIES}.")
    ] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, max=1_000, help=f"Hits wanted of a search. Default: {HITS}.")] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", help="Search under this filter of the application's too, as JSON; may be given several times."
        ),
    ] = None,
    query_vectors: Annotated[
        Path | None, typer.Option("--query-vectors", help="Search for these vectors as well: a file, a JSON array a line.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Load the collection anew before; not while searches are answered from it.")
    ] = False,
    least_recall: Annotated[
        float | None,
        typer.Option(
            "--least-recall",
            min=0.0,
            max=1.0,
            help="The share Milvus must find, or exit code 4. Default: validate.least_recall.",
        ),
    ] = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Compare Neo4j with Milvus: a sample with a stated bound, everything, or everything but the vectors.

    Safe beside writers: a key that is being changed counts as in motion, never as a difference. The verdict is noted on the
    control node. Exit code 4 when fewer keys are equal than --threshold says, after what --fix repaired; with --search also
    when Milvus finds less of what is truly nearest than --least-recall says.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    results: list[Result] = []
    failure: SegueError | None = None
    with stoppable() as stop:
        try:
            given = {
                "--queries": queries,
                "--k": k,
                "--filter": filters,
                "--query-vectors": query_vectors,
                "--reload": reload or None,
                "--least-recall": least_recall,
            }
            _check_search(search, dry_run, [name for name, value in given.items() if value is not None])
            if queries == 0 and query_vectors is None:
                message = "--queries 0 leaves nothing to search for"
                raise ConfigError(message, hint="Give vectors of your own: --query-vectors FILE")
            searches = searching.Wish(
                QUERIES if queries is None else queries, k or HITS, filters or (), query_vectors, least_recall
            )
            depth = _depth(sample_size, full, quick)
            wish = Wish(
                depth,
                sample_size or SAMPLE_SIZE,
                fix,
                delete_orphans,
                dry_run,
                threshold,
                searches if search else None,
                reload,
            )
            settings = load(config)
            if agentdb:
                result, failure = _of_agents(settings, wish, stop)
                results.append(result)
            mismatches = []
            for one in () if agentdb else settings.chosen(collection):
                compared = _validated(settings, one, wish, log_format, stop)
                results.append(compared.result)
                if not compared.outcome.complete:
                    message = "interrupted; the ranges that were compared are recorded"
                    raise Interrupted(message, hint="The same command goes on.")
                mismatches += _mismatches(one.name, compared, threshold)
            if mismatches:
                hint = "`segue validate --fix` makes keys equal, `--delete-orphans` the rest; recall grows with [search] ef."
                raise ValidationMismatch("; ".join(mismatches), hint=hint)
        except SegueError as fault:
            failure = fault
    totals = {name: sum(result.data["counts"][name] for result in results) for name in COUNTS}
    publish(results, verb_data("validate", results, began, failure, counts=totals), output_format, output_file)
    if failure is not None:
        raise failure


def _of_agents(settings: Settings, wish: Wish, stop: Stop) -> tuple[Result, SegueError | None]:
    if wish.depth is Depth.QUICK or wish.delete_orphans or wish.search is not None:
        message = "--quick, --delete-orphans and --search are not for agent state"
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


def _check_search(search: bool, dry_run: bool, given: Sequence[str]) -> None:
    if given and not search:
        message = f"{given[0]} says how searches are checked, but they are not"
        raise ConfigError(message, hint=f"Add --search, or leave {given[0]} out.")
    if "--reload" in given and dry_run:
        message = "--reload loads the collection anew, and --dry-run changes nothing"
        raise ConfigError(message, hint="Leave one of them out.")


def _mismatches(name: str, compared: Compared, threshold: float) -> list[str]:
    """Say in what a collection falls short."""
    outcome, searches = compared.outcome, compared.searches
    found = []
    if outcome.rate < threshold:
        rate = f"{outcome.rate:.4%} of {outcome.tally.compared:,} keys are equal, {threshold:.2%} are wanted"
        found.append(f"{name}: {rate}")
    if searches is not None and not searches.enough:
        found.append(f"{name}: {recall.shortfall(searches)}")
    return found


def _validated(settings: Settings, one: CollectionSettings, wish: Wish, log_format: LogFormat, stop: Stop) -> Compared:
    began = time.monotonic()
    watch = Watch(one.name, log_format)
    searches = None
    with ExitStack() as opened:
        # First, so that what does not fit is said before everything is compared.
        check = (
            None
            if wish.search is None
            else opened.enter_context(searching.open_search_check(settings, one, wish.search, watch, stop))
        )
        if check is not None and wish.reload:
            check.reload()
        comparing = open_reconcile(
            settings,
            one,
            depth=wish.depth,
            sample_size=wish.sample_size,
            watch=watch,
            stop=stop,
            keeps_records=wish.depth is not Depth.SAMPLE and not wish.dry_run,
        )
        reconcile, state = opened.enter_context(comparing)
        outcome = reconcile.run(state)
        plan = None
        if outcome.complete and (wish.fix or wish.delete_orphans):
            plan = reconcile.plan(outcome, fix=wish.fix, delete_orphans=wish.delete_orphans)
            if not wish.dry_run:
                repaired, notes = reconcile.repair(plan)
                outcome = replace(outcome, repaired=repaired, notes=[*outcome.notes, *notes])
        if outcome.complete and not wish.dry_run:
            reconcile.record(outcome, threshold=wish.threshold)
        if check is not None and outcome.complete:
            searches = check.run(just_written=bool(outcome.repaired))
            if not wish.dry_run:
                check.record(searches)
    return Compared(_result(one, wish, outcome, plan, searches, time.monotonic() - began), outcome, searches)


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


def _result(
    one: CollectionSettings,
    wish: Wish,
    outcome: Outcome,
    plan: Plan | None,
    searches: search_check.Outcome | None,
    seconds: float,
) -> Result:
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
    is_enough = outcome.rate >= wish.threshold and (searches is None or searches.enough)
    if searches is not None:
        facts[-1:-1] = recall.facts(searches)
        listings += recall.listings(searches)
        notes += searches.notes
    data: dict[str, Any] = {
        "name": one.name,
        "status": "interrupted" if not outcome.complete else "ok" if is_enough else "failed",
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
        "searches": searches and recall.data(searches),
        "notes": notes,
    }
    return Result(title=f"{one.name}: {state}", facts=facts, listings=listings, notes=notes, data=data)
