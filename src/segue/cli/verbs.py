"""The verbs by name. Each is imported when it is asked for: importing all of them takes as long again as a verb itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

VERBS: Mapping[str, str] = {
    "init": "init",
    "preflight": "preflight",
    "migrate-embeddings": "migrate_embeddings",
    "migrate-agentdb": "migrate_agentdb",
    "capture": "app",
    "mode": "app",
    "relay": "relay",
    "rollback": "rollback",
    "cleanup": "cleanup",
    "validate": "validate",
    "monitor": "monitor",
    "report": "report",
    "sandbox": "app",
    "demo": "demo",
}
"""What the module of the same name has for each verb, in the order of `--help`: a function, or `app` with verbs of its own."""


class Verbs(TyperGroup):
    """The group of all verbs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs' names; imports nothing."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb, or None for a name that is none."""
        # Of such a name the nearest ones are proposed, from among all.
        for name in [cmd_name] if cmd_name in VERBS else VERBS:
            if name not in self.commands:
                self.commands[name] = _command(name)
        return super().get_command(ctx, cmd_name)


def _command(name: str) -> Any:
    module = importlib.import_module(f"segue.cli.{name.replace('-', '_')}")
    found = getattr(module, VERBS[name])
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
