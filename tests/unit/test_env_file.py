"""The mode in an env file: one line is replaced, at once, and everything else stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segue.errors import FatalError
from segue.model import StorageMode
from segue.rollout.env_file import EnvFileRollout

ONLY, DUAL, SHADOW, HYBRID = StorageMode


class Said:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def applied(file: Path, mode: StorageMode = ONLY) -> bool:
    """Write a mode into a file."""
    return EnvFileRollout(file, "STORAGE_MODE").apply(mode, Said())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("STORAGE_MODE=hybrid\n", "STORAGE_MODE=neo4j_only\n"),
        ("A=1\nSTORAGE_MODE=hybrid\nB=2\n", "A=1\nSTORAGE_MODE=neo4j_only\nB=2\n"),
        ("export STORAGE_MODE='hybrid'\n", "export STORAGE_MODE=neo4j_only\n"),
        ("# STORAGE_MODE=hybrid\nA_STORAGE_MODE=x", "# STORAGE_MODE=hybrid\nA_STORAGE_MODE=x\nSTORAGE_MODE=neo4j_only\n"),
        ("A=1\r\nSTORAGE_MODE=hybrid\r\nB=ü\r\n", "A=1\r\nSTORAGE_MODE=neo4j_only\r\nB=ü\r\n"),
        ("STORAGE_MODE=hybrid\nSTORAGE_MODE=dual_write\n", "STORAGE_MODE=neo4j_only\nSTORAGE_MODE=neo4j_only\n"),
        ("", "STORAGE_MODE=neo4j_only\n"),
    ],
)  # fmt: skip
def test_only_the_line_is_replaced(tmp_path: Path, before: str, after: str) -> None:
    """Other lines, comments, line ends and variables of a longer name stay; again it changes nothing; undone, all is back."""
    file = tmp_path / ".env"
    file.write_bytes(before.encode())
    rollout = EnvFileRollout(file, "STORAGE_MODE")
    assert rollout.plan(ONLY)[0].endswith("→ neo4j_only")
    assert file.read_bytes().decode() == before
    with file.open("rb") as reader:
        assert rollout.apply(ONLY, Said())
        # Whoever has it open goes on reading the old one: it was replaced, not written over.
        assert reader.read().decode() == before
    assert file.read_bytes().decode() == after
    assert rollout.plan(ONLY) == [f"{file} says STORAGE_MODE=neo4j_only already"]
    rollout.undo(Said())
    assert file.read_bytes().decode() == before
    assert applied(file)
    assert not applied(file)
    assert list(tmp_path.iterdir()) == [file]


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    """A file that only its owner reads is not opened to others, nor made somebody else's; a link goes on being one."""
    file, link = tmp_path / "real.env", tmp_path / ".env"
    file.write_text("STORAGE_MODE=hybrid\n", encoding="utf-8")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12, 34)
    before = file.stat()
    link.symlink_to(file.name)
    assert applied(link)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == "STORAGE_MODE=neo4j_only\n"


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, a folder, not text, or on a disk that takes nothing: one error with the path, and the file as it was."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing", tmp_path, binary):
        with pytest.raises(FatalError, match=rf"{path.name}.* cannot be read"):
            applied(path)
    file = tmp_path / ".env"
    file.write_text("STORAGE_MODE=hybrid\n", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FatalError, match=r"No space left on device; it is as it was"):
        applied(file)
    assert file.read_text(encoding="utf-8") == "STORAGE_MODE=hybrid\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == [".env", "binary"]


def test_the_command_by_hand_does_the_same(tmp_path: Path) -> None:
    """What is printed for an operator makes the file what `apply` makes it."""
    import subprocess  # noqa: PLC0415  # only here

    file = tmp_path / "my .env"
    file.write_text("A=1\nexport STORAGE_MODE=hybrid\nSTORAGE_MODE=dual_write\n", encoding="utf-8")
    (command,) = EnvFileRollout(file, "STORAGE_MODE").by_hand(ONLY)
    subprocess.run(command, shell=True, check=True)  # noqa: S602  # as an operator does
    assert file.read_text(encoding="utf-8") == "A=1\nexport STORAGE_MODE=neo4j_only\nSTORAGE_MODE=neo4j_only\n"
