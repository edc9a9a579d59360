"""`segue preflight`: is everything there that a migration needs, and how long will it take?"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import structlog
import typer

from segue.bootstrap import preflight as bootstrap
from segue.cli import options
from segue.cli.output import Format, Listing, Result, error_data, publish
from segue.config import load
from segue.errors import PreflightFailed, SegueError
from segue.phases.preflight.check import Outcome, Store
from segue.phases.preflight.running import Looked, Verdict
from segue.telemetry.logging import LogFormat, configure

READY, NOT_READY = "READY FOR MIGRATION", "NOT READY FOR MIGRATION"


def preflight(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    check_connectivity: Annotated[
        bool,
        typer.Option("--check-connectivity", help="Only whether the stores answer, take the credentials, and which they are."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try nothing and note nothing: no rehearsal, so no prediction either.")
    ] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Check the stores, the data, the room and the permissions; rehearse the copy; say how long it will take.

    The verdict is noted with each collection, and opens the way to dual_write. Exit code 3 when something is missing.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    results: list[Result] = []
    failure: SegueError | None = None
    verdict: Verdict | None = None
    try:
        settings = load(config)
        verdict = bootstrap.preflight(
            settings,
            settings.chosen(collection),
            dry_run=dry_run,
            only_connecting=check_connectivity,
            told=_told(log_format),
        )
        results.append(_result(verdict, time.monotonic() - began))
        if errors := verdict.errors():
            message = (
                f"{len(errors)} checks found what stands in the way: {', '.join(dict.fromkeys(one.check.id for one in errors))}"
            )
            raise PreflightFailed(message, hint="What to do stands beside each; then the same command again.")
    except SegueError as fault:
        failure = fault
    publish(results, _data(verdict, began, failure), output_format, output_file)
    if failure is not None:
        raise failure


def _told(log_format: LogFormat) -> bootstrap.Watch:
    """Return what says on stderr how far it has come, where somebody waits for it."""

    def told(looked: Looked) -> None:
        if looked.finding.outcome is Outcome.NOT_CONFIGURED:
            return
        if log_format is LogFormat.JSON:
            structlog.get_logger().info(
                "checked", check=looked.check.id, subject=looked.subject, outcome=looked.finding.outcome.value
            )
        elif sys.stderr.isatty():
            sys.stderr.write(f"{looked.subject}: {looked.check.id}: {looked.finding.outcome}\n")

    return told


def _result(verdict: Verdict, seconds: float) -> Result:
    subjects = list(dict.fromkeys(one.subject for one in verdict.looked))
    shown = [one for one in verdict.looked if one.finding.outcome is not Outcome.NOT_CONFIGURED]
    rows = [(one.subject, one.check.id, one.finding.outcome.value, one.finding.evidence) for one in shown]
    todo = [(one.subject, one.check.id, _todo(one)) for one in shown if _todo(one)]
    facts = [(subject, _line(verdict, subject)) for subject in subjects]
    facts.append(("seconds", f"{seconds:.1f}"))
    listings = [Listing("checks", ("of", "check", "is", "because"), rows)]
    if todo:
        listings.append(Listing("what to do", ("of", "check", "what to do"), todo))
    return Result(title=READY if verdict.is_ready() else NOT_READY, facts=facts, listings=listings, data=_facts(verdict))


def _line(verdict: Verdict, subject: str) -> str:
    """Return the line of a store or a collection."""
    worst = verdict.worst(subject)
    telling = ("version", "connection") if subject in set(Store) else ("prediction", "items")
    seen = {one.check.id: one.finding for one in verdict.looked if one.subject == subject}
    said = next((seen[name].evidence for name in telling if name in seen and seen[name].outcome is not Outcome.SKIPPED), "")
    trouble = [name for name, finding in seen.items() if finding.outcome is worst and worst is not Outcome.OK]
    if worst is Outcome.NOT_CONFIGURED:
        return worst.value
    return f"{worst}: {', '.join(trouble)}; {said}" if trouble else f"{worst}: {said}"


def _todo(one: Looked) -> str:
    needy = one.finding.outcome in (Outcome.ERROR, Outcome.WARNING)
    return (one.finding.fix or one.check.fix) if needy else ""


def _facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "ready": verdict.is_ready(),
        "checks": [
            {
                "id": one.check.id,
                "subject": one.subject,
                "severity": one.check.severity.value,
                "outcome": one.finding.outcome.value,
                "evidence": one.finding.evidence,
                "fix": _todo(one),
                "seconds": round(one.seconds, 3),
                "facts": dict(one.finding.facts),
            }
            for one in verdict.looked
        ],
    }


def _data(verdict: Verdict | None, began: float, failure: SegueError | None) -> dict[str, Any]:
    looked = verdict.looked if verdict else []
    data: dict[str, Any] = {
        "verb": "preflight",
        "status": "failed" if failure else "ok",
        "seconds": round(time.monotonic() - began, 3),
        "counts": {outcome.value: sum(one.finding.outcome is outcome for one in looked) for outcome in Outcome},
        **(_facts(verdict) if verdict else {}),
    }
    if failure is not None:
        data["error"] = error_data(failure)
    return data
