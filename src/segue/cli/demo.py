"""`segue demo`: a tour on real servers with real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where segue.toml and the state go.")] = Path("segue-demo"),
) -> None:
    """Start real servers; move 579 films from Neo4j to Milvus under a reader and two editors, with Milvus killed halfway.

    Then an agent's state from Redis to PostgreSQL, while the agent learns.
    """
    from segue.demo import tour  # noqa: PLC0415  # imports both database clients

    console = Console()
    tour.take(folder, console if console.is_terminal else Console(width=110))
