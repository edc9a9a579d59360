"""Redis as agents write and read it: every write behind the gate, with its entry in the outbox, in one step of the server.

The gate and the outbox are keys of their own beside the application's. Needs one server (or a primary that a Sentinel names):
in a cluster no step spans a record and the outbox. Knows no mapping and no PostgreSQL.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

from segue.errors import ConfigError, FatalError, GateClosed, PermissionMissing, RetryableError
from segue.model import AgentGate, AgentKind, AgentMode, RedisType
from segue.ports import AgentWrite, Noted, OutboxEntry, ReadPiece
from segue.stores.redis_connection import OWN_KEYS, Command, RedisAddress, RedisLink

_CLOSED = "closed"
_IDLE_SECONDS = 5.0
"""After so long unused a connection is tried before it is used: a server or a firewall may have dropped it."""

_WRITES_AT_ONCE = 200
_PAGE = 2_000
_KEPT_ASIDE = 100_000
_MAY_HINT = "It needs +@write +@read +@stream +@scripting on gate, outbox and the mapped keys; nothing was changed."


class RedisAgents:
    """The `AgentRedis` over Redis. Usable from several threads.

    Args:
        locate: Finds the server to write to: asked at first, and again after a failure.
        db: The logical database.
        name: What tells this application's gate and outbox from others' in the same database.
    """

    def __init__(self, locate: Callable[[], RedisAddress], db: int, name: str) -> None:
        self._locate = locate
        self._db = db
        self._gate, self._outbox, self._refused = (
            f"{OWN_KEYS.decode()}{name}:{part}" for part in ("gate", "outbox", "refused")
        )
        self._mutex = threading.Lock()
        self._address: RedisAddress | None = None
        self._idle: list[tuple[RedisLink, float]] = []
        self._is_closed = False

    def close(self) -> None:
        """Close every connection that is not in use, and the others when they are given back. Idempotent."""
        self._is_closed = True
        self._drop()

    @property
    def db(self) -> int:
        """See `AgentRedis`."""
        return self._db

    def gate(self) -> AgentGate | None:
        """See `AgentRedis`."""
        with self._lent() as link:
            epoch, mode = link.ask("HMGET", self._gate, "epoch", "mode")
        return None if epoch is None else AgentGate(int(epoch), None if mode.decode() == _CLOSED else AgentMode(mode.decode()))

    def carry(self, gate: AgentGate, clock: int = 0) -> bool:
        """See `AgentRedis`."""
        with self._lent() as link:
            mode = _CLOSED if gate.mode is None else gate.mode.value
            return bool(self._run(link, "agentdb_carry", [self._gate], [gate.epoch, mode, clock]))

    def write(self, writes: Sequence[AgentWrite]) -> None:
        """See `AgentRedis`; a large number goes in several steps."""
        self._send([(0, write) for write in writes], replay=False)

    def replay(self, writes: Sequence[tuple[int, AgentWrite]]) -> None:
        """See `AgentRedis`."""
        self._send(writes, replay=True)

    def may_replay(self, writes: Sequence[AgentWrite]) -> None:
        """See `AgentRedis`; a Redis before 7 says only whether scripts may run on these keys."""
        asked: list[tuple[bytes | str, Command]] = [(self._gate, ("HSET", "epoch", "0"))]
        for write in writes:
            asked.append((write.key, (write.command, *write.arguments)))
            if write.replaces:
                asked.append((write.key, ("DEL",)))
            if write.most:
                asked.append((write.key, ("LTRIM", "0", "-1")))
            if write.lifetime_ms:
                asked.append((write.key, ("PEXPIRE", "1")))
        with self._lent() as link:
            for start in range(0, len(asked), _WRITES_AT_ONCE):
                part = asked[start : start + _WRITES_AT_ONCE]
                arguments = [one for _, (name, *rest) in part for one in (name, len(rest), *rest)]
                try:
                    denied = self._run(link, "agentdb_may", [key for key, _ in part], arguments)
                except PermissionMissing as refusal:
                    # A script may run only where all of its keys may be written.
                    raise PermissionMissing(refusal.message, hint=_MAY_HINT) from refusal
                if denied:
                    command, key = (one.decode(errors="backslashreplace") for one in denied)
                    message = f"Redis does not let this user say {command} of {key!r}"
                    raise PermissionMissing(message, hint=_MAY_HINT)

    def read(self, key: bytes, type_: RedisType, member: bytes | None = None) -> ReadPiece | None:
        """See `AgentRedis`; lists and streams are read with all their elements, so ask for those of bounded length."""
        with self._lent() as link:
            now, (reply,) = link.together([_whole(key, type_) if member is None else _single(key, type_, member)])
        if reply is None or reply == []:
            return None
        elements: Sequence[object]
        if type_ is RedisType.ZSET:
            elements = [(member, reply)] if member is not None else list(zip(reply[::2], reply[1::2], strict=True))
        elif type_ is RedisType.HASH:
            elements = [[member, reply] if member is not None else reply]
        elif type_ is RedisType.SET:
            elements = reply if member is None else [member] if reply else []
        else:
            elements = [reply] if isinstance(reply, bytes) else reply
        return ReadPiece(self._db, key, type_, elements, now) if elements else None

    def sample(self, key: bytes, type_: RedisType, count: int) -> list[ReadPiece]:
        """See `AgentRedis`; a stream is read from end to end, since Redis has no other way to its middle."""
        with self._lent() as link:
            if type_ is RedisType.STREAM:
                return self._pieces(key, type_, self._of_stream(link, key, count))
            if type_ is not RedisType.LIST:
                command = "SRANDMEMBER" if type_ is RedisType.SET else "ZRANDMEMBER"
                scores: Command = ("WITHSCORES",) if type_ is RedisType.ZSET else ()
                found = link.ask(command, key, count, *scores)
                both = list(zip(found[::2], found[1::2], strict=True)) if scores else found
                return self._pieces(key, type_, both)
            length = link.ask("LLEN", key)
            places = random.sample(range(length), min(count, length))
            _, drawn = link.together([("LINDEX", key, place) for place in places])
        # Trimmed between the two steps: there are fewer then.
        return self._pieces(key, type_, [one for one in drawn if one is not None])

    def outbox(self, count: int, wait_seconds: float = 0.0) -> list[OutboxEntry]:
        """See `AgentRedis`."""
        with self._lent() as link:
            wait: Command = ("BLOCK", max(1, round(1_000 * wait_seconds))) if wait_seconds else ()
            reply = link.ask("XREAD", "COUNT", count, *wait, "STREAMS", self._outbox, "0-0")
        return [self._entry(id_, flat) for id_, flat in reply[0][1]] if reply else []

    def settle(self, ids: Sequence[bytes], refused: Mapping[bytes, str]) -> None:
        """See `AgentRedis`."""
        commands: list[Command] = []
        with self._lent() as link:
            for id_, why in refused.items():
                for _, flat in link.ask("XRANGE", self._outbox, id_, id_):
                    commands.append(("XADD", self._refused, "MAXLEN", "~", _KEPT_ASIDE, "*", *flat, "why", why))
            gone = [*ids, *refused]
            commands += [("XDEL", self._outbox, *gone[at : at + _PAGE]) for at in range(0, len(gone), _PAGE)]
            link.together(commands)

    def waiting(self) -> tuple[int, int, float]:
        """See `AgentRedis`."""
        with self._lent() as link:
            now, (length, refused, first) = link.together(
                [("XLEN", self._outbox), ("XLEN", self._refused), ("XRANGE", self._outbox, "-", "+", "COUNT", 1)]
            )
        began = int(first[0][0].partition(b"-")[0]) * 1_000 if first else now
        return length, refused, max(0.0, (now - began) / 1e6)

    def clear(self) -> None:
        """Remove gate and outbox."""
        with self._lent() as link:
            link.ask("DEL", self._gate, self._outbox, self._refused)

    def _send(self, writes: Sequence[tuple[int, AgentWrite]], *, replay: bool) -> None:
        for start in range(0, len(writes), _WRITES_AT_ONCE):
            part = writes[start : start + _WRITES_AT_ONCE]
            arguments: list[bytes | str | int] = [int(replay)]
            for number, write in part:
                arguments += [number, write.kind.value, write.command, int(write.replaces), write.most, write.lifetime_ms]
                arguments += [write.window, write.removed, write.element, len(write.arguments), *write.arguments]
            keys: list[bytes | str] = [self._gate, self._outbox, *(write.key for _, write in part)]
            with self._lent() as link:
                status, epoch, mode = self._run(link, "agentdb_write", keys, arguments)
            if status != b"done":
                there = f"is {mode.decode()} at epoch {epoch.decode()}" if epoch else "is not there"
                message = f"the gate in Redis, {self._gate}, {there}: nothing was written"
                raise GateClosed(message)

    def _run(self, link: RedisLink, name: str, keys: Sequence[bytes | str], arguments: Sequence[bytes | str | int]) -> Any:
        text, digest = _script(name)
        rest: Command = (len(keys), *keys, *arguments)
        try:
            return link.ask("EVALSHA", digest, *rest)
        except FatalError as refusal:
            if "No matching script" not in refusal.message:
                raise
            return link.ask("EVAL", text, *rest)

    def _of_stream(self, link: RedisLink, key: bytes, count: int) -> list[object]:
        kept: list[object] = []
        seen, start = 0, "-"
        while True:
            page = link.ask("XRANGE", key, start, "+", "COUNT", _PAGE)
            for one in page:
                seen += 1
                if len(kept) < count:
                    kept.append(one)
                elif (place := random.randrange(seen)) < count:  # noqa: S311
                    kept[place] = one
            if len(page) < _PAGE:
                return kept
            start = "(" + page[-1][0].decode()

    def _pieces(self, key: bytes, type_: RedisType, elements: Sequence[object]) -> list[ReadPiece]:
        now = time.time_ns() // 1_000
        return [ReadPiece(self._db, key, type_, (one,), now) for one in elements]

    def _entry(self, id_: bytes, flat: Sequence[bytes]) -> OutboxEntry:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        expires = fields[b"expires"]
        noted = Noted(
            int(fields[b"at"]),
            int(expires) if expires else None,
            int(fields[b"equals"]),
            fields[b"stream"],
            fields[b"score"],
        )
        kind = AgentKind(fields[b"kind"].decode())
        return OutboxEntry(id_, self._db, kind, fields[b"key"], fields[b"element"], noted, fields[b"removed"])

    @contextmanager
    def _lent(self) -> Iterator[RedisLink]:
        """Lend a connection of one thread's own; after a failure everything is opened anew, where the primary is then."""
        link = self._take()
        try:
            yield link
        except RetryableError as fault:
            link.close()
            if not isinstance(fault, GateClosed):
                self._drop()
            raise
        except FatalError as refusal:
            if "read only replica" in refusal.message:
                # The primary that we knew is a replica now.
                link.close()
                self._drop()
                raise RetryableError(refusal.message, hint="Another server is the primary now.") from refusal
            raise
        finally:
            if link.is_open and not self._is_closed:
                with self._mutex:
                    self._idle.append((link, time.monotonic()))
            else:
                link.close()

    def _take(self) -> RedisLink:
        while True:
            with self._mutex:
                link, since = self._idle.pop() if self._idle else (None, 0.0)
            if link is None:
                return self._connect()
            if time.monotonic() - since < _IDLE_SECONDS:
                return link
            try:
                link.ask("PING")
            except RetryableError:
                continue
            return link

    def _connect(self) -> RedisLink:
        address = self._address
        if address is None:
            address = self._address = self._locate()
        try:
            return RedisLink(address, self._db)
        except RetryableError:
            self._drop()
            raise

    def _drop(self) -> None:
        with self._mutex:
            idle, self._idle, self._address = self._idle, [], None
        for link, _ in idle:
            link.close()


def primary_of(source_nodes: Callable[[], Sequence[Any]], address: RedisAddress) -> RedisAddress:
    """Return the server to write to.

    Raises:
        ConfigError: It is a cluster.
    """
    nodes = source_nodes()
    if any(node.slots for node in nodes):
        message = f"Redis at {address} is a cluster, where no step spans a record and the outbox"
        raise ConfigError(
            message, hint="The library needs one server, or a Sentinel; a cluster's keys can be copied all the same."
        )
    host, _, port = nodes[0].address.rpartition(":")
    return address.at(host, int(port))


def _whole(key: bytes, type_: RedisType) -> Command:
    return {
        RedisType.STRING: ("GET", key),
        RedisType.JSON: ("JSON.GET", key),
        RedisType.HASH: ("HGETALL", key),
        RedisType.LIST: ("LRANGE", key, 0, -1),
        RedisType.SET: ("SMEMBERS", key),
        RedisType.ZSET: ("ZRANGE", key, 0, -1, "WITHSCORES"),
        RedisType.STREAM: ("XRANGE", key, "-", "+"),
    }[type_]


def _single(key: bytes, type_: RedisType, member: bytes) -> Command:
    return {
        RedisType.HASH: ("HGET", key, member),
        RedisType.ZSET: ("ZSCORE", key, member),
        RedisType.SET: ("SISMEMBER", key, member),
    }[type_]


@cache
def _script(name: str) -> tuple[str, str]:
    text = resources.files("segue.stores").joinpath("queries", f"{name}.lua").read_text(encoding="utf-8")
    return text, hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis names scripts so
