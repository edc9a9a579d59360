"""Redis as a preflight asks it. Sends no command that writes; connects when it is first asked."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any

from segue.errors import PermissionMissing
from segue.ports import About, Refused, Transport
from segue.stores.addresses import is_local
from segue.stores.redis_connection import RedisAddress, RedisLink, clock_of

_KEY = "segue:preflight:no-such-key"

_COMMANDS = (
    ("INFO", "memory"),
    ("SCAN", "0", "COUNT", "1"),
    ("TYPE", _KEY),
    ("PTTL", _KEY),
    ("GET", _KEY),
    ("HGETALL", _KEY),
    ("HSCAN", _KEY, "0"),
    ("LRANGE", _KEY, "0", "1"),
    ("SSCAN", _KEY, "0"),
    ("ZSCAN", _KEY, "0"),
    ("XRANGE", _KEY, "-", "+"),
)
"""What a copy reads with, on a key that is not there."""

_GRANT = "ACL SETUSER name +@read +@connection +info +time +multi +exec +scan ~*"


class RedisPreflight:
    """The `AgentServer` over Redis.

    Args:
        address: Where it is.
        db: The logical database.
    """

    def __init__(self, address: RedisAddress, db: int) -> None:
        self._address = address
        self._db = db
        # One connection, whose answers come in the order of the questions.
        self._mutex = threading.RLock()

    @cached_property
    def _link(self) -> RedisLink:
        return RedisLink(self._address, self._db)

    def _ask(self, *command: str) -> Any:
        with self._mutex:
            return self._link.ask(*command)

    def _info(self, section: str) -> dict[str, str]:
        with self._mutex:
            return self._link.info(section)

    def connect(self) -> None:
        """See `Server`."""
        self._ask("TIME")

    def about(self) -> About:
        """See `Server`."""
        facts = self._info("server")
        return About(facts.get("redis_version", ""), facts.get("redis_mode", ""))

    def transport(self) -> Transport:
        """See `Server`."""
        tls = self._address.tls
        return Transport(f"redis://{self._address}", is_local(self._address.host), is_encrypted=tls, is_verified=tls)

    def seconds(self) -> float:
        """See `Server`."""
        return clock_of(self._ask("TIME")) / 1_000_000

    def refused(self, *, trying: bool) -> list[Refused]:
        """See `AgentServer`; only reads are needed."""
        del trying
        found = []
        for command in _COMMANDS:
            try:
                self._ask(*command)
            except PermissionMissing as refusal:
                found.append(Refused(command[0], refusal.message.partition(": ")[2], _GRANT))
        return found

    def dangers(self) -> list[str]:
        """See `AgentServer`."""
        policy = self._info("memory").get("maxmemory_policy", "noeviction")
        return [] if policy == "noeviction" else [f"maxmemory-policy is {policy}: keys may go before they are copied"]

    def held(self) -> str:
        """See `AgentServer`."""
        keys = int(self._ask("DBSIZE"))
        used = self._info("memory").get("used_memory_human", "?")
        return f"{keys:,} keys, {used}B"

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        if "_link" in self.__dict__:
            self._link.close()
