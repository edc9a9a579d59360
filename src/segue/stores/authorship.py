"""Who makes an entry of a journal, and which Segue."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import socket
from functools import cache


@cache
def version() -> str:
    """Return the version of this Segue."""
    return importlib.metadata.version("segue")


@cache
def author() -> str:
    """Return who runs this process, as user@host."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container may run under a number that no account has.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
