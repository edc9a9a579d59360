"""The command line: one module a verb (parse, call, print, exit code), and what they share. No logic of migrating.

A `SegueError` becomes one plain message on stderr and the exit code of its class; a stack trace is a defect of ours.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import structlog
import typer
from rich.console import Console

from segue.cli.verbs import Verbs
from segue.errors import SegueError
from segue.telemetry.logging import LogLevel, choose_level, is_json

app = typer.Typer(
    name="segue",
    cls=Verbs,
    help="Move a live service's vector search from Neo4j to Milvus, and its agent state from Redis to PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from segue.bootstrap.versions import versions  # noqa: PLC0415  # see cli.verbs
        from segue.config import located  # noqa: PLC0415  # likewise

        for line in versions(located()):
            typer.echo(line)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of Segue, of the clients, and of the stores that are configured and answer; then exit.",
        ),
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", envvar="SEGUE_LOG_LEVEL", help="debug adds a message for every batch.")
    ] = LogLevel.INFO,
) -> None:
    del version
    choose_level(log_level)


def main() -> None:
    """Run the command line and exit with its code."""
    # Where gRPC runs, its handlers abort one of a hundred processes that are forked to become another program (grpcio 1.85), as
    # Ray starts its own. Nothing here uses gRPC in a fork.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        app()
    except SegueError as fault:
        complain(fault)
        sys.exit(fault.exit_code)


def complain(fault: SegueError) -> None:
    """Print an error as people read it: what is wrong, then what to do; as a log line where stderr is JSON."""
    if is_json():
        structlog.get_logger().error("failed", text=fault.message, hint=fault.hint, exit_code=fault.exit_code)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[red]error:[/red] ", end="")
    console.print(fault.message, markup=False)
    for line in fault.hint.splitlines():
        console.print(f"  {line}", markup=False)
