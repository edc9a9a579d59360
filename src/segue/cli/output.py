"""Results on stdout, in every format from one description: tables for people, JSON and YAML for programs, Markdown for both.

Owns the shape every verb's result has in common; knows no verb.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segue.errors import ConfigError, Interrupted, ModeRefused, NotConfirmed, SegueError

PAGE_WIDTH = 110
"""Columns of a table where there is no terminal to ask."""


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True)
class Listing:
    """A table within a result."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb has to say.

    Attributes:
        title: One line for people.
        facts: Label and value, in order, for people.
        listings: Tables, for people.
        notes: Sentences, for people.
        data: The same for programs: plain JSON values.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    data: Mapping[str, Any]
    listings: Sequence[Listing] = ()
    notes: Sequence[str] = field(default=())


def error_data(fault: SegueError) -> dict[str, Any]:
    """Return an error as programs read it."""
    return {"message": fault.message, "hint": fault.hint, "exit_code": fault.exit_code}


def verb_data(verb: str, results: Sequence[Result], began: float, failure: SegueError | None, **more: Any) -> dict[str, Any]:
    """Return what a verb says to programs: what all verbs have in common, what is its own, then each collection.

    Args:
        verb: Its name.
        results: Of the collections it came to.
        began: When it began, by `time.monotonic`.
        failure: What ended it; None when nothing did.
        more: What it says besides.
    """
    data: dict[str, Any] = {
        "verb": verb,
        "status": status_of(failure),
        "seconds": round(time.monotonic() - began, 3),
        **more,
        "collections": [dict(result.data) for result in results],
    }
    if failure is not None:
        data["error"] = error_data(failure)
    return data


def status_of(failure: SegueError | None) -> str:
    """Return how a verb ended, in the one word that programs read."""
    if failure is None:
        return "ok"
    if isinstance(failure, Interrupted):
        return "interrupted"
    return "refused" if isinstance(failure, (ModeRefused, NotConfirmed)) else "failed"


def publish(results: Sequence[Result], data: Mapping[str, Any], output_format: Format, output_file: Path | None) -> None:
    """Print results on stdout, or write them to a file.

    Args:
        results: For people, one after the other.
        data: For programs, as a whole.
        output_format: The form.
        output_file: None for stdout.

    Raises:
        ConfigError: The file cannot be written.
    """
    if output_file is None and output_format is Format.TABLE:
        console = Console(highlight=False)
        _draw(results, console if console.is_terminal else Console(width=PAGE_WIDTH, highlight=False))
        return
    write(_text(results, data, output_format), output_file)


def write(text: str, output_file: Path | None) -> None:
    """Write a result on stdout, or to a file.

    Raises:
        ConfigError: The file cannot be written.
    """
    if output_file is None:
        typer.echo(text, nl=False)
        return
    try:
        output_file.write_text(text, encoding="utf-8")
    except OSError as fault:
        msg = f"cannot write {output_file}: {fault.strerror}"
        raise ConfigError(msg, hint="Choose another --output-file.") from fault


def _text(results: Sequence[Result], data: Mapping[str, Any], output_format: Format) -> str:
    if output_format is Format.JSON:
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if output_format is Format.YAML:
        return str(yaml.safe_dump(json.loads(json.dumps(data)), sort_keys=False, allow_unicode=True))
    if output_format is Format.MARKDOWN:
        return "\n".join(_markdown(result) for result in results)
    page = StringIO()
    _draw(results, Console(file=page, width=PAGE_WIDTH, highlight=False))
    return page.getvalue()


def _draw(results: Sequence[Result], console: Console) -> None:
    for result in results:
        console.print(f"\n[bold]{escape(result.title)}[/bold]")
        facts = Table.grid(padding=(0, 2))
        for label, value in result.facts:
            facts.add_row(f"  {escape(label)}", escape(value))
        console.print(facts)
        for listing in result.listings:
            console.print(f"  [dim]{escape(listing.title)}[/dim]")
            table = Table(*listing.headings, box=None, padding=(0, 2))
            for row in listing.rows:
                table.add_row(*map(escape, row))
            console.print(table)
        for note in result.notes:
            console.print(f"  note: {note}", markup=False, soft_wrap=True)


def _markdown(result: Result) -> str:
    lines = [f"# {result.title}", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(label)} | {_cell(value)} |" for label, value in result.facts]
    for listing in result.listings:
        lines += ["", f"## {listing.title}", "", f"| {' | '.join(listing.headings)} |", "|---" * len(listing.headings) + "|"]
        lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in listing.rows]
    if result.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in result.notes)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
