"""The machine that Segue runs on: its disks and its clock."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from segue.errors import FatalError


class LocalMachine:
    """The `Machine` of this process."""

    def free_bytes(self, path: str) -> int:
        """See `Machine`."""
        try:
            return shutil.disk_usage(_nearest(path)).free
        except OSError as fault:
            message = f"the volume of {path} cannot be looked at: {fault.strerror}"
            raise FatalError(message) from fault

    def may_write(self, path: str) -> bool:
        """See `Machine`."""
        place = Path(path)
        return os.access(place, os.W_OK) if place.exists() else os.access(_nearest(path), os.W_OK | os.X_OK)

    def seconds(self) -> float:
        """See `Machine`."""
        return time.time()


def _nearest(path: str) -> Path:
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return place
