"""The guide's troubleshooting quotes the product: each message it shows is one that the code can print, word for word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "migration-guide.md").read_text(encoding="utf-8")
TROUBLESHOOTING = GUIDE[GUIDE.index("\n## Troubleshooting\n") : GUIDE.index("\n## Tuning\n")]
QUOTED = re.findall(r"^\| `([^`]+)` \|", TROUBLESHOOTING, re.MULTILINE)

LEAST_WORDS = 2
"""Without names and numbers; a shorter quotation would be found anywhere."""


def _texts(tree: ast.AST) -> Iterator[str]:
    """Return every text of a module but its docstrings, with `…` where a value is put in."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)


@pytest.fixture(scope="module")
def printed() -> str:
    """Everything the code can print, a text a line."""
    modules = sorted((ROOT / "src" / "segue").rglob("*.py"))
    return "\n".join(text for module in modules for text in _texts(ast.parse(module.read_text(encoding="utf-8"))))


def test_there_are_quotations() -> None:
    """The tables are read as they are written: a row each, none passed over."""
    rows = [
        line for line in TROUBLESHOOTING.splitlines() if line.startswith("|") and not line.startswith(("| it says", "|---"))
    ]
    assert len(QUOTED) == len(rows) > 30


@pytest.mark.parametrize("message", QUOTED)
def test_each_message_is_printed_by_the_code(message: str, printed: str) -> None:
    """Word for word, and with `…` exactly where it puts a name or a number in."""
    assert len(re.findall(r"\w+", message)) >= LEAST_WORDS
    assert message in printed
