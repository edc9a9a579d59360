"""The real `segue`, run as a person would: each command is shown, then its own output; a refusal is heard and waited out.

Knows no store and nothing of what the commands do.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from segue.errors import FatalError, ModeRefused

AGAIN_SECONDS = 1.0
RELAY_END_SECONDS = 60.0
"""For the relay to finish what it has in hand; it drains for `[relay] drain_seconds` at most."""


class Shell:
    """Runs `segue` in one folder.

    Args:
        folder: Where segue.toml is.
        console: Where commands and their output are shown.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console

    def show(self, command: str) -> None:
        """Show a command as typed."""
        self._console.print(f"\n[bold green]$[/bold green] {command}", highlight=False, soft_wrap=True)

    def run(self, command: str) -> None:
        """Run `segue` with these words; its output goes where ours goes.

        Raises:
            FatalError: It failed; its own message says why.
        """
        self.show(f"segue {command}")
        done = subprocess.run(_words(command), cwd=self._folder, check=False)  # noqa: S603  # our own command
        if done.returncode:
            raise _failure(command, done.returncode)

    def run_briefly(self, command: str, lines: int) -> None:
        """Run `segue` and show the beginning of its output."""
        self.show(f"segue {command}")
        self._finish(command, self._capture(command), lines)

    def run_when_allowed(self, command: str, lines: int, seconds: float, *, hopeless: Callable[[], bool]) -> bool:
        """Run `segue` until it is not refused any more, and show the first refusal and the beginning of the output.

        Returns:
            Whether it was allowed; false when it is refused and that is hopeless.

        Raises:
            FatalError: It failed, or is still refused after that time.
        """
        self.show(f"segue {command}")
        deadline = time.monotonic() + seconds
        done = self._capture(command)
        if done.returncode == ModeRefused.exit_code:
            self._say(done.stderr)
            if not hopeless():
                self._console.print("  Refused, so far; the same command again, until it is not:", highlight=False)
            while done.returncode == ModeRefused.exit_code and time.monotonic() < deadline:
                if hopeless():
                    return False
                time.sleep(AGAIN_SECONDS)
                done = self._capture(command)
            self.show(f"segue {command}")
        self._finish(command, done, lines)
        return True

    @contextmanager
    def relay(self) -> Iterator[Relay]:
        """Run `segue relay` in the background; whatever happens, it has ended afterwards."""
        self.show("segue relay > relay.txt 2> relay.log &")
        output, log = self._folder / "relay.txt", self._folder / "relay.log"
        with output.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(_words("relay"), cwd=self._folder, stdout=out, stderr=err)  # noqa: S603  # our own
        try:
            yield Relay(process, output, log, self)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def print_output(self, text: str) -> None:
        """Show what a command printed."""
        self._say(text)

    def _capture(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  # our own command
            _words(command), cwd=self._folder, check=False, capture_output=True, text=True
        )

    def _finish(self, command: str, done: subprocess.CompletedProcess[str], lines: int) -> None:
        if done.returncode:
            self._say(done.stdout + done.stderr)
            raise _failure(command, done.returncode)
        shown = done.stdout.rstrip().splitlines()
        self._say("\n".join([*shown[: lines + 1], *(["  …"] if len(shown) > lines + 1 else [])]))

    def _say(self, text: str) -> None:
        self._console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)


class Relay:
    """`segue relay` in the background.

    Args:
        process: It.
        output: What it prints when it ends.
        log: What it says meanwhile.
        shell: Where its end is shown.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: Path, log: Path, shell: Shell) -> None:
        self._process = process
        self._output = output
        self._log = log
        self._shell = shell

    def end(self) -> None:
        """Ask it to end by SIGTERM, and show what it did.

        Raises:
            FatalError: It ended before, failed, or does not end.
        """
        self._shell.show(f"kill {self._process.pid}                # SIGTERM to the relay")
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(RELAY_END_SECONDS)
            except subprocess.TimeoutExpired:
                message = f"the relay did not end within {RELAY_END_SECONDS:g} s"
                raise FatalError(message, hint=self._last_words()) from None
            if self._process.returncode == 0:
                self._shell.print_output(self._output.read_text(encoding="utf-8"))
                return
        message = f"the relay ended with exit code {self._process.returncode}"
        raise FatalError(message, hint=self._last_words())

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-10:])


def _words(command: str) -> list[str]:
    return [sys.executable, "-m", "segue", *shlex.split(command)]


def _failure(command: str, exit_code: int) -> FatalError:
    message = f"`segue {command}` ended with exit code {exit_code}"
    return FatalError(message, hint="Its own message above says why; `segue sandbox down` gives a clean start.")
