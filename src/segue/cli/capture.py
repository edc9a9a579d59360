"""`segue capture install|status|remove`: a trigger in Neo4j that marks what any client changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import structlog
import typer

from segue import bootstrap
from segue.bootstrap import journaling
from segue.cli import options
from segue.cli.output import Format, Result, publish
from segue.config import CollectionSettings, load
from segue.errors import FatalError
from segue.model import EventKind
from segue.ports import Capture
from segue.telemetry.logging import LogFormat, configure

app = typer.Typer(
    name="capture",
    help="Capture of changes by a trigger in Neo4j: any client, in any language, unchanged.",
    no_args_is_help=True,
)

STATUS_SECONDS = 5.0
"""How long a trigger that is live may take to mark a canary."""

WaitSeconds = Annotated[float, typer.Option("--wait-secs", help="How long the trigger may take to become live.")]


@app.command()
def install(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    wait_secs: WaitSeconds = 90.0,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
) -> None:
    """Install the trigger and prove it with a canary write; from then on every change is marked.

    Copy with `segue migrate-embeddings` afterwards, and let `segue relay` carry the changes over. Needs APOC core with
    triggers enabled, and a user who may install them.
    """

    def work(one: CollectionSettings, capture: Capture) -> Result:
        capture.install()
        if not capture.prove(wait_secs):
            message = f"the trigger of {one.name!r} is installed but marked no canary within {wait_secs:g} s"
            hint = "A new trigger is live after apoc.trigger.refresh (60 s unless set); or an old transaction is still open."
            raise FatalError(message, hint=hint)
        return _result(one, "changes are captured", captured=True)

    configure(log_format)
    _publish(_each(config, collection, work, "installed"), output_format, output_file)


@app.command()
def status(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
) -> None:
    """Say whether changes are captured; a canary write proves it."""

    def work(one: CollectionSettings, capture: Capture) -> Result:
        if capture.token() is None:
            return _result(one, "changes are not captured", captured=False)
        if capture.works(STATUS_SECONDS):
            return _result(one, "changes are captured, a canary proves it", captured=True)
        return _result(one, "the trigger is installed, but marks nothing", captured=False)

    configure(log_format)
    _publish(_each(config, collection, work), output_format, output_file)


@app.command()
def remove(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
) -> None:
    """Take the trigger out. Marks stay; what changes from now on reaches Milvus only by a new copy."""

    def work(one: CollectionSettings, capture: Capture) -> Result:
        capture.remove()
        return _result(one, "changes are not captured any more", captured=False)

    configure(log_format)
    _publish(_each(config, collection, work, "removed"), output_format, output_file)


def _each(
    config: Path, collection: str | None, work: Callable[[CollectionSettings, Capture], Result], done: str = ""
) -> list[Result]:
    """Work on each collection; `done` is what the journal is told of it."""
    settings = load(config)
    results = []
    for one in settings.chosen(collection):
        with bootstrap.open_capture(settings, one) as capture:
            was_there = capture.token() is not None
            results.append(work(one, capture))
        # A second `install` or `remove` does nothing.
        if done and was_there is (done == "removed"):
            text = f"capture by trigger {done} on :{one.source.label}"
            journaling.record(settings, one, EventKind.CAPTURE, text, {"state": done}, _note)
    return results


def _note(text: str) -> None:
    structlog.get_logger().warning("note", text=text)


def _result(one: CollectionSettings, state: str, *, captured: bool) -> Result:
    facts = [("trigger", state), ("on", f":{one.source.label}, key {one.source.key}")]
    return Result(title=f"{one.name}: {state}", facts=facts, data={"name": one.name, "captured": captured, "state": state})


def _publish(results: list[Result], output_format: Format, output_file: Path | None) -> None:
    data = {"verb": "capture", "status": "ok", "collections": [dict(result.data) for result in results]}
    publish(results, data, output_format, output_file)
