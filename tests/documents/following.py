"""A page followed from its first block to its last, as its reader would, at a place of the sandbox.

Owns what each kind of block does; raises an AssertionError that names the page, the line, and what was different.
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from documents.expected import difference
from documents.page import ROOT, Block, Command, Page
from documents.place import Place, vector
from documents.shell import Shell
from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES, load

VARIABLES = {*PLAIN_VARIABLES, *SECRET_VARIABLES, *(f"{name}_FILE" for name in SECRET_VARIABLES), "REDIS_URL", "DATABASE_URL"}


class Reader:
    """Somebody who follows one page at one place."""

    def __init__(self, page: Page, place: Place) -> None:
        self._page, self._place = page, place
        self._shell = Shell(place.folder, place.environment)
        self._names: dict[str, Any] = {"__name__": "page", "v": vector(1)}

    def follow(self) -> None:
        """Go through all blocks, then end what still runs."""
        try:
            for block in self._page.blocks:
                if block.kind == "console" and not block.is_skipped:
                    self._type(block)
                elif block.kind == "python" and not block.is_skipped:
                    self._run(block)
                elif block.kind == "toml":
                    self._configure(block)
                elif block.kind in {"cypher", "sql"} and not block.is_skipped:
                    self._place.query(block.kind, block.text)
        finally:
            for value in self._names.values():
                if type(value).__module__.startswith("segue.") and hasattr(value, "close"):
                    assert not inspect.iscoroutinefunction(value.close), "a page closes what it opened to await"
                    value.close()
            faults = self._shell.close()
        assert not faults, "\n".join(faults)

    def _type(self, block: Block) -> None:
        commands = block.commands
        for command in commands:
            last = command is commands[-1]
            self._enter(
                command, int(block.attributes.get("exit", 0)) if last else 0, block.attributes.get("until") if last else None
            )

    def _enter(self, command: Command, code: int, until: str | None) -> None:
        where = f"{self._page.path}, line {command.line}: {command.text}"
        if command.is_given:
            names = {word.partition("=")[0] for word in command.text.split()[1:] if "=" in word}
            assert names <= VARIABLES, f"{where}: Segue reads no {names - VARIABLES}"
            return
        done = self._shell.run(command, self._place.into(command.foreground), until and self._place.into(until))
        printed = self._place.out_of(done.printed)
        for secret in self._place.secrets:
            assert secret not in printed, f"{where}: a secret was printed"
        assert done.code == code or until, f"{where}\nended with {done.code} instead of {code}:\n{printed}"
        if any(line.strip() for line in command.output):
            differs = difference(command.output, printed)
            assert differs is None, f"{where}\n{differs}"

    def _run(self, block: Block) -> None:
        text = "\n" * (block.line - 1) + self._place.into(block.text)
        exec(compile(text, ROOT / self._page.path, "exec"), self._names)  # noqa: S102  # that is what the page is for

    def _configure(self, block: Block) -> None:
        where = f"{self._page.path}, line {block.line}"
        path = self._place.folder / block.attributes.get("title", "segue.toml")
        text = self._place.into(block.text)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if "title" not in block.attributes:
            text = toml(merged(tomllib.loads(before), tomllib.loads(text)))
        path.write_text(text, encoding="utf-8")
        settings = load(path, environ=self._place.environment)
        assert settings, where
        if block.is_skipped:
            path.write_text(before, encoding="utf-8")


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return two tables as one: tables are merged, lists of tables grow, and the last word is the other's."""
    result = dict(one)
    for name, value in other.items():
        here = result.get(name)
        if isinstance(here, dict) and isinstance(value, dict):
            result[name] = merged(here, value)
        elif isinstance(here, list) and isinstance(value, dict):  # as in TOML: below the last table of the list
            result[name] = [*here[:-1], merged(here[-1], value)]
        elif isinstance(here, list) and isinstance(value, list) and all(isinstance(each, dict) for each in (*here, *value)):
            result[name] = [*here, *value]
        else:
            result[name] = value
    return result


def toml(table: Mapping[str, Any]) -> str:
    """Return a table as TOML, a line for each of its names."""
    return "".join(f"{json.dumps(name)} = {_inline(value)}\n" for name, value in table.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(each) for each in value) + "]"
    return json.dumps(value)


def enter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process stand where the page's commands run, with their environment."""
    monkeypatch.chdir(place.folder)
    for name in set(os.environ) - set(place.environment):
        monkeypatch.delenv(name)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
