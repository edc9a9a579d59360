"""One bash for a page, as its reader has one: what is exported, and what runs in the background, stays until the page's end.

Owns the processes it started and ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from documents.page import Command

SECONDS = 400.0
"""How long a command may take on a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended: its exit code, and what it printed on either stream."""

    code: int
    printed: str


class Shell:
    """A bash that is told one command after the other."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self._folder = folder
        self._said = folder / ".said.txt"
        self._background: dict[int, Command] = {}
        with self._said.open("wb") as said:
            self._bash = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
        # Each job has a process group of its own, so that `kill %1` and Ctrl-C reach the command and nobody else.
        # A bash that is no terminal's would end itself when Ctrl-C ended its command.
        self._tell("set -m; trap : INT")

    def run(self, command: Command, text: str, until: str | None = None) -> Done:
        """Run a command to its end; or until it has printed some words, when it gets Ctrl-C.

        Args:
            command: As the page has it.
            text: What is run in its place: the same with other names.
            until: The words.

        Raises:
            AssertionError: It did not end, or did not print the words, in time.
        """
        began = self._said.stat().st_size
        if command.is_background:
            return self._start(command, text)
        self._tell(f"{{ {text}\n}} </dev/null")
        self._tell(f"printf '\\n%s %s\\n' {self._mark} $?")
        if until is not None:
            self._wait(began, until, command)
            self._interrupt()
        printed = self._wait(began, self._mark, command)
        printed, _, code = printed.rpartition(self._mark)
        return Done(int(code), printed)

    def close(self) -> list[str]:
        """End what runs in the background by SIGTERM, then the bash; return what did not end well, in words."""
        faults = []
        for pid, command in self._background.items():
            began = self._said.stat().st_size
            self._tell(f"kill -TERM {pid} 2>/dev/null; wait {pid} 2>/dev/null; printf '\\n%s %s\\n' {self._mark} $?")
            code = self._wait(began, self._mark, command).rpartition(self._mark)[2]
            if int(code):
                said = (self._folder / f".background-{command.line}.txt").read_text(encoding="utf-8")
                faults.append(f"line {command.line}: {command.text} ended with {code.strip()}:\n{said}")
        self._kill()
        return faults

    def _start(self, command: Command, text: str) -> Done:
        began = self._said.stat().st_size
        streams = "" if ">" in text else f">.background-{command.line}.txt 2>&1"
        self._tell(f"{text} {streams} </dev/null &\necho; echo {self._mark} $!")
        pid = int(self._wait(began, self._mark, command).rpartition(self._mark)[2])
        self._background[pid] = command
        return Done(0, "")

    def _tell(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")
        self._bash.stdin.flush()

    def _wait(self, began: int, words: str, command: Command) -> str:
        deadline = time.monotonic() + SECONDS
        while True:
            with self._said.open("rb") as said:
                said.seek(began)
                printed = said.read().decode(errors="replace")
            if words in printed and (words != self._mark or printed.endswith("\n")):
                return printed
            if time.monotonic() > deadline or self._bash.poll() is not None:
                self._kill()
                message = f"line {command.line}: {command.text}: not at {words!r} after {SECONDS:g} s; it printed:\n{printed}"
                raise AssertionError(message)
            time.sleep(0.02)

    def _interrupt(self) -> None:
        children = psutil.Process(self._bash.pid).children()
        for child in children:
            if child.pid not in self._background:
                os.killpg(os.getpgid(child.pid), signal.SIGINT)

    def _kill(self) -> None:
        for child in psutil.Process(self._bash.pid).children(recursive=True) if self._bash.poll() is None else []:
            child.kill()
        self._bash.kill()
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        self._bash.wait()
