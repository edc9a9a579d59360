"""`segue sandbox up|down|env`: parse, call, print."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from segue import sandbox
from segue.errors import FatalError, Interrupted

app = typer.Typer(
    name="sandbox",
    help="Throwaway real servers on loopback: Neo4j, Milvus, Redis, PostgreSQL, Prometheus.",
    no_args_is_help=True,
)


class EnvFormat(StrEnum):
    """How `env` prints."""

    shell = "shell"
    json = "json"


@app.command()
def up(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...",
            help=f"Any of {', '.join(sandbox.SERVICES)}. Default: {' '.join(sandbox.DEFAULT)}.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the servers, or use again what runs; installs what is missing."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with console.status("starting the sandbox"):
            endpoints = sandbox.up(services or sandbox.DEFAULT, announce=lambda line: console.print(line, markup=False))
    except KeyboardInterrupt as exc:
        message = "the start of the sandbox was interrupted; what was not ready yet has been ended"
        raise Interrupted(message, hint="segue sandbox down ends the others.") from exc
    console.print(f"{len(endpoints)} ready. To use them in this shell:", markup=False)
    console.print('  eval "$(segue sandbox env)"', markup=False)


@app.command()
def down() -> None:
    """End every server of the sandbox and remove its data; downloads and logs stay."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with console.status("stopping the sandbox"):
        ended = sandbox.down()
    console.print(f"ended: {', '.join(ended)}" if ended else "nothing was running", markup=False)


@app.command()
def env(
    output_format: Annotated[EnvFormat, typer.Option("--format", help="How to print them.")] = EnvFormat.shell,
) -> None:
    """Print the environment by which clients find the running servers; it holds their passwords."""
    exports = sandbox.exports(sandbox.running())
    if not exports:
        message = "no server of the sandbox is running"
        raise FatalError(message, hint="Start them with: segue sandbox up")
    if output_format is EnvFormat.json:
        typer.echo(json.dumps(exports, indent=2))
        return
    for name, value in exports.items():
        quoted = value.replace("'", "'\\''")
        typer.echo(f"export {name}='{quoted}'")
