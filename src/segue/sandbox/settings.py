"""Where the sandbox keeps things and how large they are, with the environment variables that change it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

from segue.errors import ConfigError

_CACHE = Path(platformdirs.user_cache_dir("segue"))


def sandbox_root() -> Path:
    """The folder of records, data and logs: `SEGUE_SANDBOX_DIR`, else `sandbox` in the user's cache folder."""
    return Path(os.environ.get("SEGUE_SANDBOX_DIR") or _CACHE / "sandbox").absolute()


def downloads_root() -> Path:
    """The folder of jars and binaries, shared by all sandboxes: `SEGUE_DOWNLOADS_DIR`, else in the user's cache."""
    return Path(os.environ.get("SEGUE_DOWNLOADS_DIR") or _CACHE / "downloads").absolute()


def neo4j_heap() -> str:
    """Heap of each Neo4j, as Java writes it (`1g`, `800m`): `SEGUE_SANDBOX_NEO4J_HEAP`."""
    return _size("SEGUE_SANDBOX_NEO4J_HEAP", "1g")


def neo4j_page_cache() -> str:
    """Page cache of each Neo4j, as Java writes it: `SEGUE_SANDBOX_NEO4J_PAGECACHE`."""
    return _size("SEGUE_SANDBOX_NEO4J_PAGECACHE", "512m")


def java_home() -> Path | None:
    """What `JAVA_HOME` names, if it is set."""
    value = os.environ.get("JAVA_HOME")
    return Path(value) if value else None


def _size(name: str, default: str) -> str:
    value = os.environ.get(name) or default
    if not re.fullmatch(r"[1-9][0-9]*[kmgKMG]", value):
        message = f"{name} is {value!r}, not a size"
        raise ConfigError(message, hint="Write a number and a unit, such as 800m or 2g.")
    return value
