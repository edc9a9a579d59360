"""The mode in an env file: the variable's line is replaced, all others stay as they are.

Takes effect when the application is started again, which is not done here.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

from segue.errors import FatalError
from segue.model import StorageMode
from segue.ports import RolloutWatch


class EnvFileRollout:
    """A `Rollout` into an env file.

    Args:
        path: The file; it must exist.
        variable: The variable's name.
    """

    def __init__(self, path: Path, variable: str) -> None:
        self._path = path
        self._variable = variable
        self._line = re.compile(rf"^(?P<head>[ \t]*(?:export[ \t]+)?{re.escape(variable)}=)(?P<value>[^\r\n]*)", re.MULTILINE)
        self._before: str | None = None

    def plan(self, mode: StorageMode) -> list[str]:
        """See `Rollout`."""
        now = self._values(self._read())
        if self._is_there(now, mode):
            return [f"{self._path} says {self._variable}={mode} already"]
        return [f"{self._path}: {self._variable}={now[-1] if now else '(not set)'} → {mode}"]

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        """See `Rollout`."""
        text = self._read()
        if self._is_there(self._values(text), mode):
            self._before = None
            return False
        self._write(self._with(text, mode))
        self._before = text
        watch.note(f"{self._path}: {self._variable}={mode}; the application reads it when it is started again")
        return True

    def undo(self, watch: RolloutWatch) -> None:
        """See `Rollout`."""
        if self._before is not None:
            self._write(self._before)
            self._before = None
            watch.note(f"{self._path} is as it was before")

    def by_hand(self, mode: StorageMode) -> list[str]:
        """See `Rollout`."""
        change = f"s/^\\(export \\)\\?{self._variable}=.*/\\1{self._variable}={mode}/"
        return [shlex.join(["sed", "-i", change, str(self._path)])]

    def _read(self) -> str:
        try:
            # Bytes, since a text file's reader would change its line ends.
            return self._path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as fault:
            why = getattr(fault, "strerror", None) or "it is not UTF-8 text"
            message = f"the env file {self._path} cannot be read: {why}"
            raise FatalError(message, hint="Set [rollout] path to the file that the application is started with.") from fault

    def _values(self, text: str) -> list[str]:
        return [found["value"].strip().strip("'\"") for found in self._line.finditer(text)]

    def _is_there(self, values: list[str], mode: StorageMode) -> bool:
        return bool(values) and set(values) == {mode.value}

    def _with(self, text: str, mode: StorageMode) -> str:
        if self._line.search(text):
            return self._line.sub(rf"\g<head>{mode.value}", text)
        end = "\r\n" if "\r\n" in text else "\n"
        return f"{text}{end if text and not text.endswith(end) else ''}{self._variable}={mode.value}{end}"

    def _write(self, text: str) -> None:
        """Replace the file at once, with its mode and owner; through a link, what it leads to."""
        path = self._path.resolve()
        spare: str | None = None
        try:
            status = path.stat()
            descriptor, spare = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
                file.flush()
                os.fsync(file.fileno())
            Path(spare).replace(path)
        except OSError as fault:
            if spare is not None:
                Path(spare).unlink(missing_ok=True)
            message = f"the env file {self._path} cannot be replaced: {fault.strerror}; it is as it was"
            raise FatalError(message, hint="The file's owner, or root, can do it.") from fault
