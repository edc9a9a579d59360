"""What both drop-in vector stores share: the store they stand on, and the names that their framework may not give a property.

Knows no framework.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from segue.bootstrap.library import connect
from segue.errors import ConfigError
from segue.traffic.dual_write import DualWriteStore

BATCH = 1_000
"""How many items a transaction writes; Neo4j holds a transaction in memory until it is committed."""


class Opened:
    """What stands on a store that it closes when it is closed itself, unless that was given to it. A context manager."""

    _store: DualWriteStore
    _owned: bool

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the store underneath, unless it was given. Idempotent."""
        if self._owned:
            self._store.close()


def opened(store: DualWriteStore | None, config: str | Path | None, collection: str | None, *, text: str) -> DualWriteStore:
    """Return a store whose collection carries the texts: the one given, or the one that the configuration speaks of.

    Raises:
        ConfigError: There is nothing that holds the texts, or both a store and a configuration are given.
        SegueError: See `segue.connect`.
    """
    if store is not None and (config is not None or collection is not None):
        message = "both an open store and a configuration are given"
        raise ConfigError(message, hint="Give store=…, or the configuration's path and collection=….")
    one = store if store is not None else connect(config, collection=collection)
    if text in one.spec.property_names:
        return one
    if store is None:
        one.close()
    carried = ", ".join(one.spec.property_names) or "none"
    message = f"the collection carries no property {text!r} for the texts; carried are: {carried}"
    raise ConfigError(message, hint=f'Add {text} = "string" under [collections.source.properties], or name another: text=….')
