"""What agents' live traffic stands on: Redis with a gate and an outbox, PostgreSQL with the control row and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from segue.model import AgentControl, AgentGate, AgentKind, AgentMode, AgentRecord, AgentRow, AgentStoreName, RedisType
from segue.ports.agent_state import ReadPiece


class AgentWrite(NamedTuple):
    """One record on its way: the command that writes it to Redis, and the element that it is there.

    Attributes:
        kind: What it is.
        key: The Redis key.
        type: The key's type.
        command: The Redis command's name.
        arguments: What follows the key.
        element: A packed element, as `pipelines.agent_writes` unpacks it.
        replaces: Whether the key is removed first, in the same step.
        most: LIST: how many elements are kept at that end; 0 keeps all.
        lifetime_ms: In how many milliseconds the key expires; 0 leaves that as it is.
        window: LIST: how many elements, from that end, may be equal to this one; 0 is all.
        removed: 16 bytes, the natural key, where the record is removed; empty where it is written.
    """

    kind: AgentKind
    key: bytes
    type: RedisType
    command: str
    arguments: tuple[bytes, ...]
    element: bytes
    replaces: bool = False
    most: int = 0
    lifetime_ms: int = 0
    window: int = 0
    removed: bytes = b""


class Noted(NamedTuple):
    """What a store knows of a written element besides its content.

    Attributes:
        observed_at: When, in microseconds since 1970, by the clock of the store that was written first.
        expires_at: When the key expires, in the same way.
        equals: LIST: how many equal elements there were before it.
        stream_id: STREAM: its id.
        score: ZSET: its score, as Redis tells it.
    """

    observed_at: int
    expires_at: int | None = None
    equals: int = 0
    stream_id: bytes = b""
    score: bytes = b""


class OutboxEntry(NamedTuple):
    """One entry of Redis's outbox: a write that PostgreSQL must get.

    Attributes:
        id: Its place.
        db: The logical database.
        kind: What was written.
        key: The key.
        element: The packed element.
        noted: What Redis knew of it.
        removed: The natural key, where it was removed.
    """

    id: bytes
    db: int
    kind: AgentKind
    key: bytes
    element: bytes
    noted: Noted
    removed: bytes


class Gone(NamedTuple):
    """A row that is to go: nothing that was read at that time or before brings it back."""

    kind: AgentKind
    natural_key: bytes
    observed_at: int


class AgentRedis(Protocol):
    """Redis as agents write and read it. Usable from several threads."""

    @property
    def db(self) -> int:
        """The logical database."""
        ...

    def gate(self) -> AgentGate | None:
        """Return the gate, None where there is none."""
        ...

    def carry(self, gate: AgentGate, clock: int = 0) -> bool:
        """Set the gate, unless there is one of that epoch or a newer one; say whether it was set. Idempotent.

        Every write to come is observed later than `clock`, in microseconds since 1970.
        """
        ...

    def write(self, writes: Sequence[AgentWrite]) -> None:
        """Write, and leave the entries in the outbox that the gate's mode asks for, in one step of the server.

        Raises:
            GateClosed: The gate is closed, or there is none; nothing was written.
            RetryableError: Whether it is written is unknown; but not without its entries.
        """
        ...

    def replay(self, writes: Sequence[tuple[int, AgentWrite]]) -> None:
        """Write what only PostgreSQL has, in the order of the numbers; a number that was replayed before is passed over.

        Raises:
            GateClosed: The gate is open: others write.
        """
        ...

    def may_replay(self, writes: Sequence[AgentWrite]) -> None:
        """See to it that this account may set the gate and write these, and do neither.

        Raises:
            PermissionMissing: It may not.
        """
        ...

    def read(self, key: bytes, type_: RedisType, member: bytes | None = None) -> ReadPiece | None:
        """Return a key with all its elements, or with one field or member of them; None where there is nothing."""
        ...

    def sample(self, key: bytes, type_: RedisType, count: int) -> list[ReadPiece]:
        """Return elements drawn uniformly, none twice; fewer where there are fewer."""
        ...

    def outbox(self, count: int, wait_seconds: float = 0.0) -> list[OutboxEntry]:
        """Return the oldest entries; waits for the first one at most so long."""
        ...

    def settle(self, ids: Sequence[bytes], refused: Mapping[bytes, str]) -> None:
        """Take entries out of the outbox; those that are refused are kept aside with the reason. Idempotent."""
        ...

    def waiting(self) -> tuple[int, int, float]:
        """Return how many entries wait, how many are kept aside, and for how many seconds the oldest has waited."""
        ...


MakeRow = Callable[[AgentWrite, Noted], AgentRow]
"""What a write is as a row."""


class AgentPostgres(Protocol):
    """PostgreSQL as agents write and read it. Usable from several threads."""

    def control(self) -> AgentControl:
        """Return the control row; where there is none yet, what counts without one."""
        ...

    def clock(self) -> int:
        """Return PostgreSQL's time in microseconds since 1970."""
        ...

    def change(
        self,
        seen: AgentControl,
        mode: AgentMode,
        *,
        epoch: int,
        is_open: bool,
        reason: str,
        overridden: Sequence[str] = (),
    ) -> AgentControl | None:
        """Change the control row, unless it has another epoch than `seen`: then None. Waits for writes that are in hand.

        The journal gets an event in the same transaction, which names the gates that were let pass.
        """
        ...

    def put(self, writes: Sequence[AgentWrite], make: MakeRow, db: int) -> None:
        """Write in one transaction, with what a way back needs.

        Raises:
            GateClosed: PostgreSQL is not to be written first; nothing was written.
            RetryableError: Whether it is written is unknown.
        """
        ...

    def apply(self, rows: Sequence[AgentRow], gone: Sequence[Gone]) -> bool:
        """Apply a batch of the outbox in one transaction; false, and nothing done, while somebody else applies one.

        Raises:
            DataError: A row is refused; nothing was written.
        """
        ...

    def find(self, kind: AgentKind, conditions: Mapping[str, object]) -> list[AgentRecord]:
        """Return the records that have these values, the newest first; what has expired is left out."""
        ...

    def sample(self, kind: AgentKind, conditions: Mapping[str, object], count: int, newest: int) -> list[AgentRecord]:
        """Return records drawn uniformly, of the newest so many (0: of all), none twice."""
        ...

    def held(self, kind: AgentKind, natural_keys: Sequence[bytes]) -> Mapping[bytes, tuple[bytes | None, int]]:
        """Return content hash and time of observation of the rows there are."""
        ...

    def only_here(self, count: int) -> list[tuple[int, AgentWrite]]:
        """Return the oldest writes that Redis does not have, with their numbers."""
        ...

    def forget(self, up_to: int | None) -> None:
        """Forget the writes up to that number, or all: Redis has them, or shall never have them. Idempotent."""
        ...

    def waiting(self) -> int:
        """Return how many writes Redis does not have."""
        ...


class AgentMeter(Protocol):
    """Counts of agents' live traffic. Usable from several threads; must not raise."""

    def wrote(self, store: AgentStoreName, attempts: int, successes: int) -> None:
        """So many records were to be written to a store, and so many were."""
        ...

    def failed(self, store: AgentStoreName, operation: str, kind: str) -> None:
        """A store failed; the kind is the error's class."""
        ...

    def carried(self, records: int, refused: int) -> None:
        """So many entries of the outbox arrived in PostgreSQL; so many were refused."""
        ...

    def waiting(self, to_postgres: int, refused: int, oldest_seconds: float) -> None:
        """So much waits in the outbox."""
        ...

    def compared(self, equal: int, different: int) -> None:
        """A read was compared: so many rows were alike, so many were not."""
        ...

    def acts(self, control: AgentControl) -> None:
        """The instance acts by this control row."""
        ...


class KeyNotices(Protocol):
    """What Redis tells of changed keys: each at most once. One thread at a time."""

    def begin(self) -> Sequence[str]:
        """Listen, anew; return in words what Redis does not tell of, and what to set."""
        ...

    def take(self, seconds: float) -> Iterable[tuple[int, bytes]]:
        """Return logical databases and keys that were told of; waits for the first one at most so long.

        Raises:
            RetryableError: The connection is lost, and with it what was told meanwhile.
        """
        ...
