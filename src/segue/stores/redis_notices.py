"""What Redis tells of changed keys: keyspace notifications, where the server has them on. Changes no server's configuration.

They come at most once, and are lost while a connection is: whoever takes them must look at everything now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from segue.errors import FatalError, PermissionMissing
from segue.ports import RedisNode
from segue.stores.redis_connection import RedisAddress, RedisLink

_MOST_AT_ONCE = 10_000
_EVENTS = {
    "l": "lists",
    "h": "hashes",
    "z": "zsets",
    "s": "sets",
    "t": "streams",
    "$": "strings",
    "g": "deletions and expiries",
}
HINT = "redis-cli CONFIG SET notify-keyspace-events KA, and the same in redis.conf or the parameter group"


class RedisNotices:
    """The `KeyNotices` over Redis, one connection for each server and logical database. One thread at a time.

    Args:
        address: A server with the customs of all of them.
        nodes: Finds where keys are.
        globs: Patterns of the mapped keys.
    """

    def __init__(self, address: RedisAddress, nodes: Callable[[], Sequence[RedisNode]], globs: Sequence[str]) -> None:
        self._address = address
        self._nodes = nodes
        self._globs = globs
        self._links: list[tuple[RedisLink, int]] = []

    def begin(self) -> list[str]:
        """See `KeyNotices`."""
        self.close()
        said = []
        for node in self._nodes():
            host, _, port = node.address.rpartition(":")
            link = RedisLink(self._address.at(host, int(port)), node.db)
            self._links.append((link, node.db))
            missing = self._missing(link)
            if missing:
                said.append(f"Redis at {node.address} {missing}; changes are found by the re-scan. To be quicker: {HINT}")
            for glob in self._globs:
                link.ask("PSUBSCRIBE", f"__keyspace@{node.db}__:{glob}")
        return list(dict.fromkeys(said))

    def take(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """See `KeyNotices`."""
        for number, (link, db) in enumerate(self._links):
            wait = seconds if number == 0 else 0.0
            for _ in range(_MOST_AT_ONCE):
                message = link.pushed(wait)
                if message is None:
                    break
                wait = 0.0
                if isinstance(message, list) and message[0] == b"pmessage":
                    yield db, message[2].partition(b"__:")[2]

    def close(self) -> None:
        """Close the connections. Idempotent."""
        for link, _ in self._links:
            link.close()
        self._links = []

    def _missing(self, link: RedisLink) -> str:
        """Return, in words, what is not told of; empty where everything is."""
        with suppress(FatalError, PermissionMissing):
            flags = link.ask("CONFIG", "GET", "notify-keyspace-events")[1].decode()
            if "K" not in flags:
                return "tells of no key that changes (notify-keyspace-events)"
            untold = [] if "A" in flags else [name for flag, name in _EVENTS.items() if flag not in flags]
            return f"does not tell of {', '.join(untold)} (notify-keyspace-events is {flags!r})" if untold else ""
        return "does not say whether it tells of keys that change (CONFIG GET is not allowed)"
