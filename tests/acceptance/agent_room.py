"""Agent state in service, for tests of the library: tables made, changes of the mode, both sides to look at and to harm."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import segue
from acceptance.agent_place import AgentPlace, agent_place
from acceptance.agent_state import MAPPINGS
from acceptance.workplace import LONG
from segue.bootstrap.agent_library import AgentSides, open_agent_sides, open_handover
from segue.config import load
from segue.model import AgentMode
from segue.phases.agent_cutover import AgentChanged, change_mode
from segue.sandbox import Endpoint


class Room:
    """A place whose tables are made, with the library's own sides for looking and for faults."""

    def __init__(self, place: AgentPlace, sides: AgentSides) -> None:
        self.place = place
        self.sides = sides
        self.config = place.folder / "segue.toml"
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """See `phases.agent_cutover.AgentWatch`."""
        self.notes.append(text)

    def store(self, **how: Any) -> segue.AgentStateStore:
        """Open the library."""
        return segue.connect_agents(self.config, registry=CollectorRegistry(), **how)

    def change(self, mode: str, **how: Any) -> AgentChanged:
        """Change the mode; the gates are another test's."""
        with open_handover(load(self.config), self, lambda seconds: bool(time.sleep(seconds)), seconds=10) as (hand, facts):
            after = hand.postgres.control().mode.rank
            gates = (
                []
                if AgentMode(mode).rank <= after
                else {"dual_write": [], "shadow": ["copy"], "postgres": ["copy", "validation"]}[mode]
            )
            return change_mode(hand, AgentMode(mode), facts, overrides=gates, reason="a test", **how)

    def step_up(self, mode: str) -> None:
        """Go forward to a mode, one after the other."""
        for one in AgentMode:
            self.change(one.value)
            if one.value == mode:
                return

    def settled(self) -> None:
        """Wait until the outbox is empty."""
        eventually(lambda: self.sides.redis.waiting()[0] == 0)

    def rewards_in_redis(self, agent: str) -> Counter[float]:
        """Return the rewards of an agent's experiences."""
        held: list[bytes] = self.place.redis.lrange(self.place.key(f"exp:{agent}:list"), 0, -1)  # type: ignore[assignment]
        return Counter(json.loads(one)["reward"] for one in held)

    def rewards_in_postgres(self, agent: str) -> Counter[float]:
        """Return the same of PostgreSQL."""
        return Counter(one for (one,) in self.place.rows("SELECT reward FROM rl_experiences WHERE agent_id = %s", agent))

    def q_in_redis(self, state: str) -> dict[str, float]:
        """Return the Q-values of agent a in a state."""
        held: dict[bytes, bytes] = self.place.redis.hgetall(self.place.key(f"q:a:{state}"))  # type: ignore[assignment]
        return {name.decode(): float(value) for name, value in held.items()}

    def q_in_postgres(self, state: str) -> dict[str, float]:
        """Return the same of PostgreSQL."""
        return dict(self.place.rows("SELECT action, q_value FROM rl_q_values WHERE agent_id = 'a' AND state = %s", state))


@contextmanager
def agent_room(folder: Path, endpoints: Mapping[str, Endpoint], monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Give keys and a schema of the test's own, and the library's environment."""
    with agent_place(folder, endpoints) as place:
        place.configure(MAPPINGS)
        for name, value in place.environment().items():
            if name in {"REDIS_URL", "DATABASE_URL"}:
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("SEGUE_STATE_PATH", str(folder / "state.db"))
        with open_agent_sides(load(place.folder / "segue.toml")) as sides:
            sides.postgres.prepare()
            yield Room(place, sides)
            sides.redis.clear()


def eventually(holds: Callable[[], bool], seconds: float = LONG) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.05)


def experience(reward: float, **more: Any) -> segue.Experience:
    """Return an experience that its reward tells from others."""
    return segue.Experience(state=[reward], action="left", reward=reward, **more)
