"""What a way back and a clearing stand on: whether the source answers by itself, and what was made in both stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.model import Key
from segue.ports.serving import Vector


@dataclass(frozen=True, slots=True)
class IndexState:
    """The source's vector index at one moment.

    Attributes:
        state: ONLINE, POPULATING or FAILED; None when there is no such index.
        percent: How much of it is built.
        items: Nodes under the label.
    """

    state: str | None
    percent: float
    items: int

    @property
    def serves(self) -> bool:
        """Whether searches find everything through it."""
        return self.state == "ONLINE" and self.percent >= 100.0  # noqa: PLR2004  # percent


class Readiness(Protocol):
    """Whether the source can answer users by itself. Reads only, and costs the same however many items there are."""

    def look(self) -> IndexState:
        """Return the vector index and the number of items.

        Raises:
            SegueError: The source does not answer.
        """
        ...

    def sample(self) -> tuple[Key, Vector] | None:
        """Return an item that a search must find; None when there is none.

        Raises:
            SegueError: The source does not answer.
        """
        ...

    def statement(self) -> str:
        """Return the statement that makes the vector index: as it is, or as configured when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Physical:
    """A collection of the sink, under its own name.

    Attributes:
        name: Its name.
        aliases: What leads to it.
        is_current: Whether it is what readers of the migrated collection open.
    """

    name: str
    aliases: tuple[str, ...]
    is_current: bool


class Physicals(Protocol):
    """The physical collections of one migrated collection.

    Raises (every method):
        SegueError: The sink does not answer, or refuses.
    """

    def found(self) -> list[Physical]:
        """Return the one that readers open, whoever made it, and the others that Segue made for it, by name."""
        ...

    def drop(self, physical: Physical) -> None:
        """Take the collection's own alias off, then the collection away. Idempotent.

        Raises:
            FatalError: Somebody else's alias leads to it too.
        """
        ...


class Traces(Protocol):
    """What the protocol keeps in the source for one collection. Each method is safe to run again.

    Raises (every method):
        RetryableError: Whether it took effect is unknown; doing it again is harmless.
    """

    def found(self) -> Mapping[str, int]:
        """Return how many nodes there are of each kind: marks, leases, instances, control nodes."""
        ...

    def remove(self, kind: str, epoch: int) -> int:
        """Remove the nodes of a kind; return how many went.

        Raises:
            ModeRefused: The mode is not `neo4j_only`, or of another epoch, by now; whoever changed it needs them.
        """
        ...

    def drop_index(self) -> bool:
        """Drop the source's vector index; say whether there was one."""
        ...


class ByHand(Protocol):
    """Commands for an operator's shell, for what a verb could not do. They hold no secret."""

    def cypher(self, statement: str) -> str:
        """Return the command that runs a statement in the source."""
        ...

    def drop(self, names: Sequence[str], alias: str) -> str:
        """Return the command that drops collections of the sink, the alias first."""
        ...

    def segue(self, *arguments: str) -> str:
        """Return a command of Segue's own, under the same configuration."""
        ...
