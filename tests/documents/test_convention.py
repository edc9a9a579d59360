"""The tester of pages itself: a page that lies fails, in each of the ways in which one may."""

from __future__ import annotations

from pathlib import Path

import pytest

from documents.expected import difference
from documents.following import merged, toml
from documents.page import BadBlock, parse
from documents.shell import Shell

FENCE = "```"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("rate  708 rows/s over 0.8 s of copying", "rate   14,334 rows/s over 1 min 3 s of copying"),
        ("epoch 2\n…\nclean", "epoch 3\none\ntwo\n\nclean"),
        ("…\nclean\n...", "clean"),
        ("run 9d5f9f2e4e8d of films", "run 12ab34cd56ef of films"),
        ("───── done at 2026-11-24", "──────────── done at 2026-11-30"),
        ("predicted 8.7 s (6.3 to 11.1); it took -23%", "predicted 12 s (9 to 14); it took +4%"),
        ("error: … differs", "error: 'a' of 7 differs"),
        ("peak 383 MiB", "peak 1.2 GiB"),
    ],
)
def test_what_is_alike(shown: str, printed: str) -> None:
    """Numbers, durations, sizes, ids, rules and widths may differ, and what an ellipsis stands for."""
    assert difference(shown.splitlines(), printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("films: clean", "films: 3 keys differ"),
        ("migrated 567", "quarantined 567"),
        ("one\ntwo", "one"),
        ("one", "one\ntwo"),
        ("one\n…\nthree", "one\ntwo"),
        ("0.8 s", "0.8 rows"),
        ("decided", "defaced"),
        ("epoch 3, open", "epoch 3 open"),
        ("neo4j_only", "neo5j_only"),
    ],
)
def test_what_is_a_lie(shown: str, printed: str) -> None:
    """Another word, a line too few, a line too many."""
    assert difference(shown.splitlines(), printed) is not None


def test_every_other_kind_is_a_fault() -> None:
    """A kind that is unknown, none at all, an attribute that is unknown or empty, an indented block."""
    page = parse(
        f'{FENCE}bash\nls\n{FENCE}\n\n{FENCE}\nls\n{FENCE}\n\n{FENCE}console skip=""\n$ ls\n{FENCE}\n\n'
        f'{FENCE}yaml run="yes"\na: 1\n{FENCE}\n\ntext\n\n    indented\n'
    )
    assert len(page.faults) == 5


def test_what_a_console_block_says() -> None:
    """Commands with their output, continued ones, ones in the background; output without a command is refused."""
    page = parse(f'{FENCE}console exit="5"\n$ one \\\n    --more\nsaid\n$ two &   # a comment\n$ three && four\n{FENCE}\n')
    (block,) = page.blocks
    one, two, three = block.commands
    assert (one.text, list(one.output), one.line) == ("one \\\n    --more", ["said"], 2)
    assert (two.is_background, two.foreground) == (True, "two")
    assert not three.is_background
    assert block.attributes == {"exit": "5"}
    with pytest.raises(BadBlock):
        _ = parse(f"{FENCE}console\nsaid\n{FENCE}\n").blocks[0].commands


def test_comments_hold_blocks_and_the_beginning() -> None:
    """What a reader does not see is read, in its place among the others."""
    page = parse(
        f"<!-- sandbox: hybrid -->\n\n{FENCE}python\na = 1\n{FENCE}\n\n<!-- python\nassert a\n\nassert a\n-->\n\n<!-- or -->\n"
    )
    assert page.beginning == "hybrid"
    assert [(block.kind, block.line) for block in page.blocks] == [("python", 4), ("python", 8)]
    assert page.blocks[1].text == "assert a\n\nassert a\n"


def test_one_bash_for_a_page(tmp_path: Path) -> None:
    """What is exported stays; exit codes and both streams are seen; what runs on gets Ctrl-C, what runs behind SIGTERM."""
    text = "export NAME=there\necho $NAME; ls nowhere\nsleep 99 &\nsh -c 'echo begun; exec sleep 99'\ncat".splitlines()
    block = parse(f"{FENCE}console\n" + "\n".join(f"$ {line}" for line in text) + f"\n{FENCE}\n").blocks[0]
    export, both, behind, until, reads = block.commands
    shell = Shell(tmp_path, {"PATH": "/usr/bin:/bin"})
    assert shell.run(export, export.text).code == 0
    done = shell.run(both, both.text)
    assert done.code != 0
    assert done.printed.startswith("there\n")
    assert "nowhere" in done.printed
    shell.run(behind, behind.foreground)
    assert shell.run(until, until.text, "begun").code == 130
    assert shell.run(reads, reads.text).code == 0
    (fault,) = shell.close()
    assert "sleep 99 & ended with 143" in fault


def test_tables_are_merged_as_toml_says() -> None:
    """The later word wins, lists of tables grow, and what stands below a list belongs to its last table."""
    there = {"a": {"b": 1, "c": 2}, "l": [{"n": 1}]}
    grown = merged(there, {"a": {"b": 3}, "l": [{"n": 2}]})
    assert grown == {"a": {"b": 3, "c": 2}, "l": [{"n": 1}, {"n": 2}]}
    assert merged(there, {"l": {"f": [{"y": 1}]}})["l"] == [{"n": 1, "f": [{"y": 1}]}]
    assert toml({"a": {"b": [1, "x"], "c": True}}) == '"a" = {"b" = [1, "x"], "c" = true}\n'
