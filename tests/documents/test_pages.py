"""What can be said of a page without a server: every block is of a kind, every command, link and name in it exists."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator

import pytest
import typer
import yaml

import segue
from documents.page import ROOT, Block, Page, paths, read
from segue.cli import app

PAGES = {str(page.path): page for page in map(read, paths())}
SCRIPTS = re.compile(r"(?<![\w./-])(?:scripts|deploy|docs|benchmarks|tests|src|\.ci)/[\w./-]*\w")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
COMMAND = typer.main.get_command(app)
SEPARATORS = {"&&", "||", ";", "|", "&"}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    """Each page in turn."""
    return PAGES[request.param]


def test_every_block_is_of_a_kind(page: Page) -> None:
    """What the convention does not know fails, so that nothing in a page is left unlooked at."""
    assert page.faults == []
    assert page.beginning in {"fresh", "films", "copied", "hybrid"}
    for block in page.blocks:
        if block.kind == "console":
            assert block.commands


def test_what_is_not_run_could_be(page: Page) -> None:
    """Skipped commands have verbs and options that exist; data parses; drawings hold no commands."""
    faults = [f"line {block.line}: {fault}" for block in page.blocks for fault in _faults(block)]
    assert faults == []


def test_every_command_in_the_text_exists(page: Page) -> None:
    """Inline code that begins with `segue ` names a verb and options that there are."""
    told = [(line, text) for line, text in page.inline if text.startswith(("segue ", "migrate "))]
    assert [f"line {line}: {text}: {fault}" for line, text in told if (fault := _unknown(text.split()))] == []


def test_every_link_leads_somewhere(page: Page) -> None:
    """Relative links lead to files of the repository, and to headings that are in them."""
    assert [f"line {line}: {address}" for line, address in page.links if not _leads_somewhere(page, address)] == []


def test_the_readmes_speeds_are_those_measured() -> None:
    """Every number of its table is in docs/benchmarks.md, where its command and its spread are."""
    speed = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Speed\n")[2].partition("\n## ")[0]
    table = [line for line in speed.splitlines() if line.startswith("|")][2:]
    measured = set(NUMBER.findall((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")))
    assert len(table) > 3
    assert set(NUMBER.findall("\n".join(table))) - measured == set()


@pytest.mark.parametrize(
    ("name", "store"), [("docs/library.md", segue.DualWriteStore), ("docs/agent-library.md", segue.AgentStateStore)]
)
def test_every_call_of_the_library_is_told(name: str, store: type) -> None:
    """A method or a property that its page does not name would be found by nobody."""
    told = {word for _, text in PAGES[name].inline for word in re.findall(r"\w+", text)}
    assert {call for call in vars(store) if not call.startswith("_")} - told == set()


def _faults(block: Block) -> Iterator[str]:
    if block.kind == "console":
        for command in block.commands:
            yield from _unknown_in(command.text)
    elif block.kind == "python":
        yield from _unknown_names(block.text)
    elif block.kind == "yaml":
        list(yaml.safe_load_all(block.text))
    elif block.kind == "json":
        try:
            json.loads(block.text)
        except ValueError:
            [json.loads(line) for line in block.text.splitlines()]
    elif block.kind == "text":
        commands = [line for line in block.text.splitlines() if re.match(r"\s*(\$ |segue |make |scripts/)", line)]
        yield from (f"a command in a drawing: {line}" for line in commands)


def _unknown_in(text: str) -> Iterator[str]:
    """Say what a command line names and is not there."""
    for path in SCRIPTS.findall(text):
        if not (ROOT / path).exists():
            yield f"there is no {path}"
    words: list[str] = []
    for word in (*_words(text), ";"):
        if word not in SEPARATORS:
            words.append(word)
            continue
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)
        if words and words[0].removeprefix(".venv/bin/") in {"segue", "migrate"} and (fault := _unknown(words)):
            yield fault
        if words and words[0] == "make" and len(words) > 1 and words[1] not in TARGETS:
            yield f"there is no target {words[1]}"
        if words and words[0].startswith("scripts/") and (ROOT / words[0]).exists():
            script = (ROOT / words[0]).read_text(encoding="utf-8")
            yield from (f"{words[0]} has no {word}" for word in words if word.startswith("--") and word not in script)
        words = []


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    lexer.wordchars += "…:,@%{}[]!^$+\\"
    return list(lexer)


def _unknown(words: list[str]) -> str | None:
    """Return what `segue …` names and is not there; a word in capitals stands for anything, `a|b` for either."""
    command = COMMAND
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"-h", "--help"}
    places = [command]
    for word in words[1:]:
        name = word.partition("=")[0].strip("[](),.…")
        if name.startswith("-") and name.strip("-"):
            if name not in options:
                return f"no option {name}"
        elif hasattr(places[0], "commands") and name and not name.isupper() and name not in {"debug", "info"}:
            known = {each: places[0].get_command(None, each) for each in places[0].list_commands(None)}
            if unknown := [each for each in name.split("|") if each not in known]:
                return f"no command {unknown[0]}"
            places = [known[each] for each in name.split("|")]
            options = {option for each in places for one in each.params for option in (*one.opts, *one.secondary_opts)}
            options |= {"-h", "--help"}
    return None


def _unknown_names(text: str) -> Iterator[str]:
    """Say what a program imports, or takes from `segue`, and is not there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            yield from (f"{node.module} has no {alias.name}" for alias in node.names if not hasattr(module, alias.name))
    yield from (
        f"segue has no {name}" for name in re.findall(r"(?<![\w.])segue\.([A-Za-z]\w*)\b(?!\.)", text) if not _there(name)
    )


def _there(name: str) -> bool:
    return hasattr(segue, name) or name == "toml" or importlib.util.find_spec(f"segue.{name}") is not None


def _leads_somewhere(page: Page, address: str) -> bool:
    if re.match(r"[a-z]+:", address):
        return True
    name, _, anchor = address.partition("#")
    target = (ROOT / page.path.parent / name).resolve() if name else ROOT / page.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or target.suffix != ".md" or anchor in read(target.relative_to(ROOT)).anchors
