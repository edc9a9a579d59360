"""A Markdown page as the tests see it: its blocks of code, its inline code, its links, its headings.

Owns the convention's syntax (docs/contributing.md, "Documents that are run"); runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

KINDS: Mapping[str, frozenset[str]] = {
    "console": frozenset({"exit", "until", "skip"}),
    "python": frozenset({"skip"}),
    "toml": frozenset({"title", "skip"}),
    "cypher": frozenset({"skip"}),
    "sql": frozenset({"skip"}),
    "yaml": frozenset({"title"}),
    "json": frozenset({"title"}),
    "text": frozenset({"title"}),
}
"""Every kind of block, and the attributes it may have."""

_INFO = re.compile(r'(?P<kind>[\w-]+)(?P<attributes>(?: +\w+="[^"]*")*) *')
_HIDDEN = re.compile(r"<!-- (?P<info>(?:console|python|toml|cypher|sql)\b[^\n]*)\n(?P<text>.*?)-->\s*", re.DOTALL)
_BEGINNING = re.compile(r"<!-- sandbox: (\w+) -->\s*")
_BACKGROUND = re.compile(r"&\s*(#.*)?$")
ELLIPSES = ("…", "...")


class BadBlock(AssertionError):
    """A block that is none of the convention's."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block.

    Attributes:
        line: Its line in the page, from 1.
        text: What is typed, without the prompt; several lines where it goes on behind a backslash.
        output: The lines shown below it.
    """

    line: int
    text: str
    output: Sequence[str]

    @property
    def is_background(self) -> bool:
        """Whether it ends in `&`."""
        return _BACKGROUND.search(self.text) is not None and not self.text.rstrip().endswith("&&")

    @property
    def foreground(self) -> str:
        """Its text without a closing `&`."""
        return _BACKGROUND.sub("", self.text).rstrip() if self.is_background else self.text

    @property
    def is_given(self) -> bool:
        """Whether it is an `export` with values left out, which the test has."""
        return self.text.startswith("export ") and "…" in self.text


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        kind: One of `KINDS`.
        attributes: By name.
        text: What is in it.
        line: The line of its first line of text in the page, from 1.
    """

    kind: str
    attributes: Mapping[str, str]
    text: str
    line: int

    @property
    def is_skipped(self) -> bool:
        """Whether it says that it cannot be run."""
        return "skip" in self.attributes

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block."""
        found: list[tuple[int, list[str], list[str]]] = []
        continues = False
        for number, line in enumerate(self.text.splitlines(), self.line):
            if continues:
                found[-1][1].append(line)
            elif line.startswith("$ "):
                found.append((number, [line.removeprefix("$ ")], []))
            elif found:
                found[-1][2].append(line)
            elif line.strip():
                message = f"line {number}: output before the first command"
                raise BadBlock(message)
            continues = bool(found) and line.endswith("\\") and not found[-1][2]
        if not found:
            message = f"line {self.line}: a console block without a command (a line that begins with `$ `)"
            raise BadBlock(message)
        return [Command(number, "\n".join(text), output) for number, text, output in found]


@dataclass(slots=True)
class Page:
    """A page.

    Attributes:
        path: Relative to the repository.
        blocks: In order, those in comments too.
        faults: Blocks that are none of the convention's, in words.
        inline: Line and text of every piece of inline code.
        links: Line and address of every link and image.
        anchors: What a link may name behind `#`.
        beginning: What the page wants to find in the sandbox.
    """

    path: Path
    blocks: list[Block] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    inline: list[tuple[int, str]] = field(default_factory=list)
    links: list[tuple[int, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    beginning: str = "films"

    @property
    def is_run(self) -> bool:
        """Whether there is anything in it to run."""
        return any(block.kind in {"console", "python", "cypher", "sql"} and not block.is_skipped for block in self.blocks)


def paths() -> list[Path]:
    """Return every page of the repository, relative to it; the changelog tells of the past and is none."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(
        path for path in found if not any(part.startswith(".") for part in path.parts) and path.name != "CHANGELOG.md"
    )


def read(path: Path) -> Page:
    """Read a page of the repository."""
    return parse((ROOT / path).read_text(encoding="utf-8"), path)


def parse(text: str, path: Path = Path("page.md")) -> Page:
    """Read a page's text."""
    page = Page(path)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    heading = False
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            _add(page, token.info.strip(), token.content, line + 1)
        elif token.type == "code_block":
            page.faults.append(f"line {line}: an indented block; fence it, and say what it is")
        elif token.type == "html_block":
            _read_comments(page, token, line)
        elif token.type == "inline":
            _read_inline(page, token, line)
            if heading:
                page.anchors.add(_anchor(token.content))
        heading = token.type == "heading_open"
    return page


def _add(page: Page, info: str, text: str, line: int) -> None:
    parts = _INFO.fullmatch(info)
    kind = parts["kind"] if parts else info
    if parts is None or kind not in KINDS:
        page.faults.append(f"line {line - 1}: a block of the kind {info!r}; there are {', '.join(KINDS)}")
        return
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', parts["attributes"]))
    for name, value in attributes.items():
        if name not in KINDS[kind] or not value.strip():
            page.faults.append(f"line {line - 1}: {kind} has no {name}={value!r}; there is {', '.join(sorted(KINDS[kind]))}")
    page.blocks.append(Block(kind, attributes, text, line))


def _read_comments(page: Page, token: Token, line: int) -> None:
    if beginning := _BEGINNING.fullmatch(token.content):
        page.beginning = beginning[1]
    elif hidden := _HIDDEN.fullmatch(token.content):
        _add(page, hidden["info"].strip(), hidden["text"], line + 1)
    for address in re.findall(r'(?:src|srcset|href)="([^"]+)"', token.content):
        page.links.append((line, address))


def _read_inline(page: Page, token: Token, line: int) -> None:
    for child in _walk(token.children or []):
        if child.type == "code_inline":
            page.inline.append((line, child.content))
        elif child.type == "link_open":
            page.links.append((line, str(child.attrs["href"])))
        elif child.type == "image":
            page.links.append((line, str(child.attrs["src"])))


def _walk(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or [])


def _anchor(heading: str) -> str:
    """Return a heading's name as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
