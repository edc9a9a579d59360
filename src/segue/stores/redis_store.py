"""Redis as the source of agent state: its nodes, its keys page by page, their elements in pieces of bounded size.

Works alike on one server, behind a Sentinel and on a cluster; the server says which it is. Every value is read together with
the server's clock in one step, so that of two readings the later one is known (in a cluster, which has no transaction over
several slots, just after it). Sends no command that writes. Knows no mapping and no PostgreSQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from segue.errors import AuthenticationFailed, ConfigError, CursorLost, FatalError
from segue.model import RedisType
from segue.ports.agent_state import KeyFacts, ReadPiece, RedisNode, ScanPage
from segue.stores.redis_connection import OWN_KEYS, Command, Pace, RedisAddress, RedisLink, is_wrong_type

ELEMENTS_A_PIECE = 2_000
"""Elements of a large key that are read in one step."""

OVERLAP = 32
"""Elements of a list that are read again with the next piece, to see how far the list has moved meanwhile."""

_ATTEMPTS = 6
_TARGET_BYTES = 2 << 20
_MOST_KEYS = 500
"""Keys in one step of the server, so that nobody else waits for longer than a millisecond or two."""

_NAMES = {RedisType.JSON: "ReJSON-RL"}
_LENGTH = {
    RedisType.LIST: "LLEN",
    RedisType.HASH: "HLEN",
    RedisType.STREAM: "XLEN",
    RedisType.ZSET: "ZCARD",
    RedisType.SET: "SCARD",
}
_WHOLE: dict[RedisType, Callable[[bytes], Command]] = {
    RedisType.LIST: lambda key: ("LRANGE", key, 0, -1),
    RedisType.HASH: lambda key: ("HGETALL", key),
    RedisType.STREAM: lambda key: ("XRANGE", key, "-", "+"),
    RedisType.ZSET: lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    RedisType.SET: lambda key: ("SMEMBERS", key),
}
_SCANS = {RedisType.HASH: "HSCAN", RedisType.SET: "SSCAN", RedisType.ZSET: "ZSCAN"}


class RedisSource:
    """The `AgentSource` over Redis. One thread at a time.

    Args:
        address: A server, a cluster's node, or a Sentinel.
        databases: The logical databases to look at; a cluster has only 0.
        sentinel_master: Which of a Sentinel's; needed where there are several.
        sentinel_password: The Sentinels' own; they have none unless it is given.
        max_ops: How many keys and pieces a second at most.
    """

    def __init__(
        self,
        address: RedisAddress,
        databases: Sequence[int],
        *,
        sentinel_master: str | None = None,
        sentinel_password: str | None = None,
        max_ops: int | None = None,
    ) -> None:
        self._address = address
        self._databases = databases
        self._sentinel_master = sentinel_master
        self._sentinel_password = sentinel_password
        self._pace = Pace(max_ops)
        self._links: dict[tuple[str, int], RedisLink] = {}
        self._is_cluster = False
        self._has_expiries: dict[tuple[str, int], bool] = {}
        self._group = 64

    def close(self) -> None:
        """Close every connection. Idempotent."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    @property
    def ops(self) -> int:
        """See `AgentSource`."""
        return self._pace.spent

    def nodes(self) -> list[RedisNode]:
        """See `AgentSource`."""
        found = []
        for address, slots in self._servers():
            for db in (0,) if self._is_cluster else self._databases:
                link = self._link(address, db)
                held = link.info("keyspace").get(f"db{db}", "")
                numbers = dict(pair.split("=") for pair in held.split(",") if "=" in pair)
                self._has_expiries[str(address), db] = numbers.get("expires", "0") != "0"
                of_cluster = _own_slots(link, slots) if self._is_cluster else ("", "")
                found.append(RedisNode(str(address), db, link.run_id, int(numbers.get("keys", "0")), *of_cluster))
        return found

    def clock(self) -> int:
        """See `AgentSource`."""
        (address, _), *_ = self._servers()
        return self._link(address, 0 if self._is_cluster else self._databases[0]).one_by_one([])[0]

    def scan(self, node: RedisNode, cursor: str | None, count: int) -> ScanPage:
        """See `AgentSource`."""
        link = self._linked(node)
        self._pace.spend(1)
        following, keys = link.ask("SCAN", cursor or "0", "COUNT", count)
        users = [key for key in keys if not key.startswith(OWN_KEYS)]
        return ScanPage(users, None if following == b"0" else following.decode())

    def read(
        self, node: RedisNode, keys: Sequence[bytes], type_: RedisType, *, whole: bool = False, since_ms: int | None = None
    ) -> Iterator[ReadPiece]:
        """See `AgentSource`."""
        link = self._linked(node)
        if type_ in {RedisType.STRING, RedisType.JSON}:
            yield from self._values(link, keys, type_)
        elif whole:
            place = 0
            while place < len(keys):
                group = keys[place : place + self._group]
                place += len(group)
                yield from self._wholes(link, group, type_)
        else:
            yield from self._collections(link, keys, type_, since_ms)

    def sample(self, node: RedisNode, keys: Sequence[bytes]) -> list[KeyFacts]:
        """See `AgentSource`."""
        link = self._linked(node)
        self._pace.spend(len(keys) * 3)
        types = [one.decode() for one in link.call([("TYPE", key) for key in keys])]
        lives = link.call([("PTTL", key) for key in keys])
        sizes = link.call([("MEMORY", "USAGE", key, "SAMPLES", "3") for key in keys])
        facts = []
        for key, name, life, size in zip(keys, types, lives, sizes, strict=True):
            if name == "none":
                continue
            memory = size if isinstance(size, int) else None
            length, examples = self._examples(link, key, name)
            facts.append(KeyFacts(key, node.db, name, length, memory, life / 1000 if life >= 0 else None, examples))
        return facts

    # Values that are read as wholes.

    def _values(self, link: RedisLink, keys: Sequence[bytes], type_: RedisType) -> Iterator[ReadPiece]:
        place = 0
        while place < len(keys):
            group = keys[place : place + self._group]
            place += len(group)
            self._pace.spend(len(group))
            if type_ is RedisType.STRING and not self._is_cluster:
                commands: list[Command] = [("MGET", *group)]
            else:
                commands = [("GET", key) if type_ is RedisType.STRING else ("JSON.GET", key) for key in group]
            observed, replies, expiries = self._observe(link, commands, group)
            values = replies[0] if len(commands) == 1 and commands[0][0] == "MGET" else replies
            self._adapt(sum(len(one) for one in values if isinstance(one, bytes)), len(group))
            odd = []
            for key, value, expires in zip(group, values, expiries, strict=True):
                if isinstance(value, bytes):
                    yield ReadPiece(link.db, key, type_, (value,), observed, expires)
                else:
                    link.refuse(value)
                    odd.append(key)
            yield from self._of_other_types(link, odd, type_, observed)

    def _observe(
        self, link: RedisLink, commands: Sequence[Command], keys: Sequence[bytes]
    ) -> tuple[int, list[Any], list[int | None]]:
        """Run commands in one step with the server's clock, and with the keys' expiries where any key there has one."""
        asked: list[Command] = []
        if self._has_expiries.get((str(link.address), link.db), True):
            name = "PEXPIRETIME" if _version(link) >= 7 else "PTTL"  # noqa: PLR2004  # Redis 7 knows the moment itself
            asked = [(name, key) for key in keys]
        run = link.one_by_one if self._is_cluster else link.together
        observed, replies = run([*commands, *asked])
        for one in replies[len(commands) :]:
            link.refuse(one)
        expiries: list[int | None] = [None] * len(keys)
        if asked:
            start = 0 if asked[0][0] == "PEXPIRETIME" else observed
            expiries = [start + one * 1000 if isinstance(one, int) and one >= 0 else None for one in replies[len(commands) :]]
        return observed, replies[: len(commands)], expiries

    def _of_other_types(self, link: RedisLink, keys: Sequence[bytes], type_: RedisType, observed: int) -> Iterator[ReadPiece]:
        """Tell keys that are gone from those that are of another type."""
        if not keys:
            return
        for key, name in zip(keys, link.call([("TYPE", key) for key in keys]), strict=True):
            link.refuse(name)
            actual = name.decode()
            if actual not in {"none", _NAMES.get(type_, type_.value)}:
                yield ReadPiece(link.db, key, type_, (), observed, None, actual=actual)

    def _adapt(self, bytes_: int, keys: int) -> None:
        """Ask for so many keys at a time that an answer has about the target's size."""
        fitting = int(_TARGET_BYTES / max(bytes_ / keys, 1.0))
        self._group = max(1, min(_MOST_KEYS, fitting, self._group * 2))

    # Values that have elements.

    def _collections(  # noqa: C901  # one branch a fate of a key
        self, link: RedisLink, keys: Sequence[bytes], type_: RedisType, since_ms: int | None
    ) -> Iterator[ReadPiece]:
        lengths = link.call([(_LENGTH[type_], key) for key in keys])
        small: list[bytes] = []
        large: list[tuple[bytes, int]] = []
        odd, pending = [], 0
        for key, length in zip(keys, lengths, strict=True):
            link.refuse(length)
            if is_wrong_type(length):
                odd.append(key)
            elif length > ELEMENTS_A_PIECE or (type_ is RedisType.STREAM and since_ms is not None):
                large.append((key, length))
            elif length:
                if small and (pending + length > ELEMENTS_A_PIECE * 2 or len(small) == _MOST_KEYS):
                    yield from self._wholes(link, small, type_)
                    small, pending = [], 0
                small.append(key)
                pending += length
        if small:
            yield from self._wholes(link, small, type_)
        for key, length in large:
            if type_ is RedisType.LIST:
                yield from self._list(link, key, length)
            elif type_ is RedisType.STREAM:
                yield from self._stream(link, key, since_ms)
            else:
                yield from self._scanned(link, key, type_)
        if odd:
            observed, _ = link.one_by_one([])
            yield from self._of_other_types(link, odd, type_, observed)

    def _wholes(self, link: RedisLink, keys: Sequence[bytes], type_: RedisType) -> Iterator[ReadPiece]:
        self._pace.spend(len(keys))
        observed, replies, expiries = self._observe(link, [_WHOLE[type_](key) for key in keys], keys)
        if type_ is RedisType.HASH:
            self._adapt(sum(sum(map(len, reply)) for reply in replies if isinstance(reply, list)), len(keys))
        for key, reply, expires in zip(keys, replies, expiries, strict=True):
            if isinstance(reply, list):
                if reply:
                    yield ReadPiece(link.db, key, type_, _elements(type_, reply), observed, expires)
                continue
            link.refuse(reply)
            yield from self._of_other_types(link, [key], type_, observed)

    def _scanned(self, link: RedisLink, key: bytes, type_: RedisType) -> Iterator[ReadPiece]:
        cursor, begins = b"0", True
        while True:
            self._pace.spend(1)
            command: Command = (_SCANS[type_], key, cursor, "COUNT", ELEMENTS_A_PIECE)
            observed, (reply,), (expires,) = self._observe(link, [command], [key])
            link.refuse(reply)
            if is_wrong_type(reply):
                return
            cursor, flat = reply
            ends = cursor == b"0"
            yield ReadPiece(link.db, key, type_, _elements(type_, flat), observed, expires, begins=begins, ends=ends)
            if ends:
                return
            begins = False

    def _stream(self, link: RedisLink, key: bytes, since_ms: int | None) -> Iterator[ReadPiece]:
        start, begins = "-" if since_ms is None else f"{since_ms}-0", True
        while True:
            self._pace.spend(1)
            command: Command = ("XRANGE", key, start, "+", "COUNT", ELEMENTS_A_PIECE)
            observed, (reply,), (expires,) = self._observe(link, [command], [key])
            link.refuse(reply)
            if is_wrong_type(reply):
                return
            ends = len(reply) < ELEMENTS_A_PIECE
            if reply:
                yield ReadPiece(link.db, key, RedisType.STREAM, reply, observed, expires, begins=begins, ends=ends)
            if ends:
                return
            begins = False
            milliseconds, _, number = reply[-1][0].decode().partition("-")
            start = f"{milliseconds}-{int(number) + 1}"

    def _list(self, link: RedisLink, key: bytes, length: int) -> Iterator[ReadPiece]:
        """Read a list that may be pushed to and trimmed meanwhile; every element that stays is read, and none twice.

        Begins at one end and reads a few elements again with each piece. Pushes at that end move the list: the elements read
        again are found further on, and what follows them is new. If they are not found, elements were trimmed at that end, and
        the list is read anew from the other one, where new elements come in then.
        """
        for attempt in range(_ATTEMPTS):
            if (yield from self._list_from(link, key, from_left=attempt % 2 == 0)):
                return
        observed, _ = link.one_by_one([])
        actual = f"list of {length:,} that is pushed to and trimmed faster than it can be read"
        yield ReadPiece(link.db, key, RedisType.LIST, (), observed, None, actual=actual)

    def _list_from(self, link: RedisLink, key: bytes, *, from_left: bool) -> Generator[ReadPiece, None, bool]:
        before: list[bytes] = []
        tail: list[bytes] = []
        position, begins = 0, True
        while True:
            self._pace.spend(1)
            start = position - len(tail)
            stop = start + ELEMENTS_A_PIECE
            command: Command = ("LRANGE", key, start, stop - 1) if from_left else ("LRANGE", key, -stop, -start - 1)
            observed, (found,), (expires,) = self._observe(link, [command], [key])
            link.refuse(found)
            if is_wrong_type(found):
                return True
            if not from_left:
                found.reverse()
            ends = len(found) < ELEMENTS_A_PIECE
            moved = _find(tail, found)
            if moved is None:
                # What was read before may have been trimmed away, and all behind it with it: then nothing here is new.
                return _is_within(found, before) if found else not link.ask("EXISTS", key)
            new = found[moved + len(tail) :]
            yield ReadPiece(link.db, key, RedisType.LIST, new, observed, expires, begins=begins, ends=ends)
            if ends:
                return True
            begins = False
            position = start + len(found)
            before, tail = found, found[-OVERLAP:]

    def _examples(self, link: RedisLink, key: bytes, name: str) -> tuple[int, Sequence[object]]:
        asked: dict[str, tuple[Command, Command]] = {
            "string": (("STRLEN", key), ("GETRANGE", key, 0, 65_535)),
            "list": (("LLEN", key), ("LRANGE", key, 0, 2)),
            "hash": (("HLEN", key), ("HSCAN", key, 0, "COUNT", 10)),
            "stream": (("XLEN", key), ("XRANGE", key, "-", "+", "COUNT", 3)),
            "zset": (("ZCARD", key), ("ZRANGE", key, 0, 2, "WITHSCORES")),
            "set": (("SCARD", key), ("SSCAN", key, 0, "COUNT", 3)),
            "ReJSON-RL": (("JSON.OBJLEN", key), ("JSON.GET", key)),
        }
        if name not in asked:
            return 0, ()
        length, found = link.call(asked[name])
        if not isinstance(found, (bytes, list)):
            return 0, ()
        if isinstance(found, bytes):
            return length if isinstance(length, int) else 0, (found,)
        flat = found[1] if name in {"hash", "set"} else found
        type_ = RedisType(name)
        return length, _elements(type_, flat)

    # Where the servers are.

    def _servers(self) -> list[tuple[RedisAddress, str]]:
        link = self._first_link()
        mode = link.facts.get("redis_mode", "standalone")
        self._is_cluster = mode == "cluster"
        if mode == "sentinel":
            return [(self._watched(link), "")]
        if not self._is_cluster:
            return [(self._address, "")]
        if any(self._databases):
            message = f"Redis at {self._address} is a cluster, which has only the logical database 0"
            raise ConfigError(message, hint="Leave [redis] databases out.")
        served: dict[tuple[str, int], list[str]] = defaultdict(list)
        for first, last, primary, *_ in link.ask("CLUSTER", "SLOTS"):
            served[primary[0].decode() or self._address.host, primary[1]].append(f"{first}-{last}")
        return [(self._address.at(*at), ",".join(sorted(slots))) for at, slots in sorted(served.items())]

    def _first_link(self) -> RedisLink:
        try:
            return self._link(self._address, 0)
        except (AuthenticationFailed, FatalError) as refusal:
            # A Sentinel has credentials of its own, or none.
            plain = RedisAddress(
                self._address.host,
                self._address.port,
                self._address.tls,
                self._address.ca_file,
                None,
                self._sentinel_password,
                self._address.connect_timeout_seconds,
                self._address.request_timeout_seconds,
            )
            try:
                link = RedisLink(plain, 0)
            except FatalError:
                raise refusal from None
            if link.facts.get("redis_mode") != "sentinel":
                link.close()
                raise
            return link

    def _watched(self, link: RedisLink) -> RedisAddress:
        masters = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in link.ask("SENTINEL", "MASTERS")]
        by_name = {one[b"name"].decode(): (one[b"ip"].decode(), int(one[b"port"])) for one in masters}
        link.close()
        names = ", ".join(sorted(by_name))
        if self._sentinel_master is None and len(by_name) != 1:
            message = f"the Sentinel at {self._address} watches over {names or 'nothing'}"
            raise ConfigError(message, hint="Name one: [redis] sentinel_master.")
        name = self._sentinel_master or next(iter(by_name))
        if name not in by_name:
            message = f"the Sentinel at {self._address} watches over {names or 'nothing'}, not over {name!r}"
            raise ConfigError(message, hint="[redis] sentinel_master.")
        return self._address.at(*by_name[name])

    def _link(self, address: RedisAddress, db: int) -> RedisLink:
        place = (str(address), db)
        link = self._links.get(place)
        if link is None or not link.is_open:
            link = self._links[place] = RedisLink(address, db)
        return link

    def _linked(self, node: RedisNode) -> RedisLink:
        host, _, port = node.address.rpartition(":")
        link = self._link(self._address.at(host, int(port)), node.db)
        if link.run_id != node.run_id:
            message = f"Redis at {node.address} was restarted; what it said of its keys' order means nothing any more"
            raise CursorLost(message)
        return link


def _own_slots(link: RedisLink, served: str) -> tuple[str, str]:
    """Return a node's slots with the epoch of that, and those that it says are being moved; nobody else knows of these."""
    own = next(line for line in link.ask("CLUSTER", "NODES").decode().splitlines() if "myself" in line.split()[2])
    _, _, _, _, _, _, epoch, _, *slots = own.split()
    return f"{served} at epoch {epoch}", " ".join(one for one in slots if one.startswith("["))


def _elements(type_: RedisType, reply: list[Any]) -> Sequence[object]:
    if type_ is RedisType.HASH:
        return (reply,)
    return list(zip(reply[::2], reply[1::2], strict=True)) if type_ is RedisType.ZSET else reply


def _find(tail: Sequence[bytes], found: Sequence[bytes]) -> int | None:
    """Return where in what was found the elements read before are, nearest first."""
    if not tail:
        return 0
    for place in range(len(found) - len(tail) + 1):
        if found[place] == tail[0] and found[place : place + len(tail)] == tail:
            return place
    return None


def _is_within(found: Sequence[bytes], before: Sequence[bytes]) -> bool:
    """Say whether what was found is, in this order, among what was read before."""
    return _find(found, before) is not None


def _version(link: RedisLink) -> int:
    return int(link.facts.get("redis_version", "0").partition(".")[0] or 0)
