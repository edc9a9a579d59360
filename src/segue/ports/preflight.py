"""What a preflight asks: servers about themselves, the machine about its room, a cluster about permissions.

Looking changes nothing. Only `SourceServer.refused` and a rehearsal of the copy try something, which they take back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.model import Counts, SourceSpec
from segue.ports.catalog import VectorIndexFound


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of itself.

    Attributes:
        version: As it writes it, without a leading "v".
        edition: What else tells it apart, in its words; empty for nothing.
    """

    version: str
    edition: str = ""


@dataclass(frozen=True, slots=True)
class Transport:
    """How a server is reached.

    Attributes:
        address: Its address, without credentials.
        is_local: It is on this machine, so that nobody can listen in.
        is_encrypted: TLS is spoken.
        is_verified: The server's certificate is checked.
    """

    address: str
    is_local: bool
    is_encrypted: bool
    is_verified: bool


class Server(Protocol):
    """One of the stores, before anything is asked of it. Usable from several threads.

    Raises (every method):
        SegueError: It does not answer, or refuses.
    """

    def connect(self) -> None:
        """Make sure that it answers and takes the credentials. Idempotent.

        Raises:
            AuthenticationFailed: It answers, and refuses the credentials.
        """
        ...

    def about(self) -> About:
        """Return its version."""
        ...

    def transport(self) -> Transport:
        """Return how it is reached; asks nothing."""
        ...

    def seconds(self) -> float:
        """Return the time by its own clock, in seconds since 1970."""
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that a migration does, and that the account may not do.

    Attributes:
        what: What it is, in words.
        why: What the server said.
        grant: What would allow it, in the server's language.
    """

    what: str
    why: str
    grant: str


@dataclass(frozen=True, slots=True)
class Triggers:
    """Whether capture by trigger is possible.

    Attributes:
        apoc: APOC's version, None where it is not installed.
        enabled: Triggers may be installed.
        installed: Names of the triggers that are installed in the database.
        why: What the server said where they cannot be used; empty otherwise.
    """

    apoc: str | None
    enabled: bool
    installed: Sequence[str] = ()
    why: str = ""


class SourceServer(Server, Protocol):
    """The server that items are read from."""

    def refused(self, label: str, *, trying: bool) -> list[Refused]:
        """Return what the account may not do of what a migration does with nodes of a label, marks and constraints.

        Args:
            label: The items'.
            trying: Writes are tried, in transactions that are rolled back; otherwise only reads are.
        """
        ...

    def missing(self, procedures: Collection[str]) -> list[str]:
        """Return those of some procedures that are not there, or that the account may not call."""
        ...

    def triggers(self) -> Triggers:
        """Return whether capture by trigger is possible."""
        ...

    def vector_indexes(self) -> list[VectorIndexFound]:
        """Return every vector index, by name."""
        ...

    def duplicates(self, spec: SourceSpec, limit: int) -> list[tuple[object, int]]:
        """Return keys that several nodes have, and how many, at most `limit` of them; reads every key."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """How the sink says it is.

    Attributes:
        is_healthy: In its own words.
        reasons: Why not; also what it refuses at the moment, such as writes while its disk is full.
    """

    is_healthy: bool
    reasons: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One part of the sink, as it describes the machine it is on; zeros where it says nothing.

    Attributes:
        role: "querynode" and the like.
        cores: How many processors it has.
        memory_bytes, memory_used_bytes: Its memory, and how much of it is taken.
        cpu_percent: How busy it is.
    """

    role: str
    cores: int = 0
    memory_bytes: int = 0
    memory_used_bytes: int = 0
    cpu_percent: float = 0.0


class SinkServer(Server, Protocol):
    """The server that rows are written to."""

    def health(self) -> Health | None:
        """Return how it says it is; None where it cannot say."""
        ...

    def nodes(self) -> list[Node]:
        """Return what it says of its parts; empty where it cannot say, or the account may not ask."""
        ...

    def collections(self) -> list[str]:
        """Return the names of the collections."""
        ...

    def load_state(self, name: str) -> str | None:
        """Return "loaded", "loading" or "not loaded" for a collection or an alias; None where there is none."""
        ...

    def missing(self) -> list[str]:
        """Return the privileges, in its own words, that the account lacks for what a migration does; changes nothing."""
        ...


class AgentServer(Server, Protocol):
    """A server that agent state is read from or written to."""

    def refused(self, *, trying: bool) -> list[Refused]:
        """Return what the account may not do of what a copy of agent state does.

        Writes are tried only when `trying`, and taken back.
        """
        ...

    def dangers(self) -> list[str]:
        """Return what the server is set to that may lose records or cannot hold them, in words; empty for nothing."""
        ...

    def held(self) -> str:
        """Return how much it holds, in words."""
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a rehearsal: so many items were acknowledged so long after the first range was begun."""

    seconds: float
    items: int


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A copy in miniature, made as the real one is, into a collection that is gone again.

    Attributes:
        planning_seconds: From the beginning until the first range was begun: counting, cutting, making the collection.
        counts: The account of all of it: the source as planned, what was migrated and quarantined.
        acknowledged: What had been migrated or quarantined when, in order.
        indexings: How long sealing, the index and loading took over how many rows, each time.
    """

    planning_seconds: float
    counts: Counts
    acknowledged: Sequence[Stretch]
    indexings: Sequence[Stretch]


class Stage(Protocol):
    """Where a copy is rehearsed."""

    def rehearse(self, seconds: float, items: int) -> Rehearsed:
        """Copy for so long, or so many items, with the workers and the batch size of the real copy; leave nothing behind.

        Raises:
            SegueError: It cannot be done; what was made is gone, or the message names it.
        """
        ...


class Machine(Protocol):
    """The machine that the copy runs on."""

    def free_bytes(self, path: str) -> int:
        """Return how much room is left on the volume of a path, or of the nearest folder above it that there is.

        Raises:
            SegueError: It cannot be asked.
        """
        ...

    def may_write(self, path: str) -> bool:
        """Return whether a file may be made or changed there; makes nothing."""
        ...

    def seconds(self) -> float:
        """Return the time by this machine's clock, in seconds since 1970."""
        ...


class Cluster(Protocol):
    """Where the application is deployed."""

    def missing(self) -> Mapping[str, str]:
        """Return what the account may not do of what carrying the mode there needs, each with the rule that allows it.

        Raises:
            SegueError: It cannot be asked.
        """
        ...
