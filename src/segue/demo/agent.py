"""An agent that learns: tabular Q-learning in a small grid world, its experiences, Q-values and policy in a store.

It reads the values it acts by from the store at every step and writes what it learned back at once, and holds besides what it
wrote, so that it notices a value that is not what it wrote last. Knows no mode and nothing of a migration: `PlainRedis` is
where it began, the library's `AgentStateStore` has the same words.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from segue import Experience

if TYPE_CHECKING:
    import redis

AGENT = "walker-1"

Cell = tuple[int, int]
"""Row and column."""

MAP = (
    "S.....",
    "......",
    "#.###.",
    "......",
    "G.....",
)
"""From S to G; the wall has a gap near both, and another far away."""

NEAR_GAP: Cell = (2, 1)
"""The gap that falls in."""

ACTIONS: Mapping[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}

STEP_REWARD, GOAL_REWARD = -1.0, 10.0

LEARNING_RATE = 0.7
DISCOUNT = 0.95
CURIOSITY = 0.1
"""The share of steps that are taken at random."""

MOST_STEPS = 150
"""After which an episode ends without having reached the goal."""

REPLAYED = 8
"""Experiences drawn from the store after each episode, to learn from once more."""


class World:
    """The grid. A step against a wall or the edge leads nowhere and costs as much."""

    def __init__(self) -> None:
        cells = {(row, column): mark for row, line in enumerate(MAP) for column, mark in enumerate(line)}
        self.start = next(cell for cell, mark in cells.items() if mark == "S")
        self.goal = next(cell for cell, mark in cells.items() if mark == "G")
        self._free = {cell for cell, mark in cells.items() if mark != "#"}

    def close(self, cell: Cell) -> None:
        """Make a wall of a cell. Idempotent."""
        self._free.discard(cell)

    def step(self, cell: Cell, action: str) -> tuple[Cell, float]:
        """Return where an action leads, and the reward."""
        down, right = ACTIONS[action]
        following = (cell[0] + down, cell[1] + right)
        following = following if following in self._free else cell
        return following, GOAL_REWARD if following == self.goal else STEP_REWARD

    def fewest_steps(self) -> int:
        """Return how many steps the shortest way has, found by looking at the map."""
        reached, steps = {self.start}, 0
        while self.goal not in reached:
            reached |= {self.step(cell, action)[0] for cell in reached for action in ACTIONS}
            steps += 1
        return steps


class Memory(Protocol):
    """Where an agent keeps its state: those of `segue.AgentStateStore`'s words that it uses."""

    def append(self, experiences: list[Experience], *, agent_id: str) -> None:
        """Append experiences."""
        ...

    def sample(self, count: int, *, agent_id: str) -> list[Experience]:
        """Return some of them, drawn at random."""
        ...

    def q_values(self, agent_id: str, state: str) -> dict[str, float]:
        """Return the value of each action that was ever learned in a state."""
        ...

    def put_q_values(self, agent_id: str, state: str, values: Mapping[str, float]) -> None:
        """Set values of actions in a state."""
        ...

    def save_policy(self, agent_id: str, policy: Any) -> None:
        """Keep a policy instead of the one before."""
        ...


class PlainRedis:
    """A memory as such agents have it: a list of JSON, a hash for each state, a JSON document.

    Args:
        client: A Redis client that returns text.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def append(self, experiences: list[Experience], *, agent_id: str) -> None:
        """See `Memory`."""
        self._client.rpush(f"agent:{agent_id}:experiences", *map(_as_json, experiences))

    def sample(self, count: int, *, agent_id: str) -> list[Experience]:
        """See `Memory`."""
        held: Any = self._client.lrange(f"agent:{agent_id}:experiences", 0, -1)
        return [_from_json(one) for one in random.sample(held, min(count, len(held)))]

    def q_values(self, agent_id: str, state: str) -> dict[str, float]:
        """See `Memory`."""
        held: Any = self._client.hgetall(f"agent:{agent_id}:q:{state}")
        return {action: float(value) for action, value in held.items()}

    def put_q_values(self, agent_id: str, state: str, values: Mapping[str, float]) -> None:
        """See `Memory`."""
        self._client.hset(f"agent:{agent_id}:q:{state}", mapping=dict(values))

    def save_policy(self, agent_id: str, policy: Any) -> None:
        """See `Memory`."""
        self._client.set(f"agent:{agent_id}:policy", json.dumps(policy))


class WrongValueError(Exception):
    """The store returned something else than what was written last."""


class Learner:
    """An agent in its world.

    Attributes:
        memory: Where its state is; may be exchanged between episodes.
        table: State and action to the value it wrote last.
        lived: Each experience it had, without its time, and how often.
        policy: What it saved last.

    Args:
        world: The world.
        memory: Where its state is.
        seed: Of its curiosity.
        pause: Called after every step.
    """

    def __init__(self, world: World, memory: Memory, seed: int, pause: Callable[[], object] = lambda: None) -> None:
        self.memory = memory
        self.table: dict[tuple[str, str], float] = {}
        self.lived: Counter[tuple[str, str, float, str, bool]] = Counter()
        self.policy: dict[str, str] = {}
        self._world = world
        self._chance = random.Random(seed)  # noqa: S311  # which way it strays is no secret
        self._pause = pause
        self._valid_from = datetime.min.replace(tzinfo=UTC)

    def forget_before(self, when: datetime) -> None:
        """Learn no more from experiences of before: the world was another one."""
        self._valid_from = when

    def episode(self) -> tuple[int, float]:
        """Walk from start to goal, learning at every step; return the number of steps and the sum of rewards."""
        cell, total, had = self._world.start, 0.0, list[Experience]()
        while cell != self._world.goal and len(had) < MOST_STEPS:
            values = self._read(name_of(cell))
            action = self._choose(values)
            following, reward = self._world.step(cell, action)
            done = following == self._world.goal
            now = datetime.now(UTC)
            had.append(Experience(list(cell), action, reward, next_state=list(following), done=done, timestamp=now))
            self._learn(had[-1], values)
            cell, total = following, total + reward
            self._pause()
        self.memory.append(had, agent_id=AGENT)
        self.lived.update(map(_without_time, had))
        for one in self.memory.sample(REPLAYED, agent_id=AGENT):
            if one.timestamp is None or one.timestamp >= self._valid_from:
                self._learn(one, self._read(name_of(one.state)))
        self.policy = {state: _best(self._values(state)) for state in sorted({state for state, _ in self.table})}
        self.memory.save_policy(AGENT, self.policy)
        return len(had), total

    def greedy_steps(self) -> int | None:
        """Return how many steps the policy it saved last takes to the goal, None where it leads nowhere."""
        cell, steps = self._world.start, 0
        while cell != self._world.goal:
            if steps == MOST_STEPS or name_of(cell) not in self.policy:
                return None
            cell, steps = self._world.step(cell, self.policy[name_of(cell)])[0], steps + 1
        return steps

    def _choose(self, values: Mapping[str, float]) -> str:
        if self._chance.random() < CURIOSITY:
            return self._chance.choice(list(ACTIONS))
        most = max(values.values())
        return self._chance.choice([action for action, value in values.items() if value == most])

    def _learn(self, one: Experience, values: Mapping[str, float]) -> None:
        state, before = name_of(one.state), values[one.action]
        ahead = 0.0 if one.done else max(self._read(name_of(one.next_state)).values())
        after = before + LEARNING_RATE * ((one.reward or 0.0) + DISCOUNT * ahead - before)
        self.memory.put_q_values(AGENT, state, {one.action: after})
        self.table[state, one.action] = after

    def _read(self, state: str) -> dict[str, float]:
        """Return the store's values of all actions, 0 of those never learned.

        Raises:
            WrongValueError: They are not what was written last.
        """
        values = self._values(state)
        found = dict.fromkeys(ACTIONS, 0.0) | self.memory.q_values(AGENT, state)
        if found != values:
            message = f"in state {state} the store has {found}, written was {values}"
            raise WrongValueError(message)
        return found

    def _values(self, state: str) -> dict[str, float]:
        return {action: self.table.get((state, action), 0.0) for action in ACTIONS}


def name_of(cell: Iterable[int]) -> str:
    """Return a cell's name, its row and column: `3,1`."""
    return ",".join(map(str, cell))


def _best(values: Mapping[str, float]) -> str:
    return max(values, key=lambda action: values[action])


def _without_time(one: Experience) -> tuple[str, str, float, str, bool]:
    return name_of(one.state), one.action, one.reward or 0.0, name_of(one.next_state), bool(one.done)


def _as_json(one: Experience) -> str:
    when = one.timestamp.timestamp() if one.timestamp else None
    members = {"state": one.state, "action": one.action, "reward": one.reward, "next_state": one.next_state}
    return json.dumps({**members, "done": one.done, "timestamp": when})


def _from_json(text: str) -> Experience:
    members = json.loads(text)
    return Experience(**{**members, "timestamp": datetime.fromtimestamp(members["timestamp"], UTC)})
