"""The demo's agent learns, does so alike from the same seed, and notices what must not be; its tour says what is missing."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segue import Experience, sandbox
from segue.demo import agent_tour
from segue.demo.agent import NEAR_GAP, Learner, World, WrongValueError
from segue.errors import FatalError


class Held:
    """A memory in this process; it can be told to lose what is written."""

    def __init__(self) -> None:
        self.loses = False
        self.experiences: list[Experience] = []
        self.values: dict[str, dict[str, float]] = {}
        self.policy: Any = None
        self._chance = random.Random(1)

    def append(self, experiences: list[Experience], *, agent_id: str) -> None:
        del agent_id
        self.experiences += experiences

    def sample(self, count: int, *, agent_id: str) -> list[Experience]:
        del agent_id
        return self._chance.sample(self.experiences, min(count, len(self.experiences)))

    def q_values(self, agent_id: str, state: str) -> dict[str, float]:
        del agent_id
        return dict(self.values.get(state, {}))

    def put_q_values(self, agent_id: str, state: str, values: Mapping[str, float]) -> None:
        del agent_id
        if not self.loses:
            self.values.setdefault(state, {}).update(values)

    def save_policy(self, agent_id: str, policy: Any) -> None:
        del agent_id
        self.policy = policy


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_shortest_way_and_the_next_one_when_that_is_closed(seed: int) -> None:
    """After some episodes its policy takes the fewest steps there are, and again after the near gap fell in."""
    world, memory = World(), Held()
    learner = Learner(world, memory, seed)
    early = [learner.episode()[0] for _ in range(10)]
    late = [learner.episode()[0] for _ in range(60)][-10:]
    assert sum(late) < sum(early)
    assert learner.greedy_steps() == world.fewest_steps() == 6
    world.close(NEAR_GAP)
    learner.forget_before(datetime.now(UTC))
    assert learner.greedy_steps() is None
    for _ in range(80):
        learner.episode()
    assert learner.greedy_steps() == world.fewest_steps() == 14


def test_it_learns_the_same_from_the_same_seed() -> None:
    """Two agents of one seed have equal tables, experiences and policies; one of another seed has not."""
    first, second, other = (Learner(World(), Held(), seed) for seed in (7, 7, 8))
    for learner in (first, second, other):
        for _ in range(20):
            learner.episode()
    assert (first.table, first.lived, first.policy) == (second.table, second.lived, second.policy)
    assert first.table != other.table


def test_what_it_says_it_holds_is_what_it_wrote() -> None:
    """Table, experiences and policy are what the memory has, each value exactly."""
    memory = Held()
    learner = Learner(World(), memory, seed=3)
    for _ in range(10):
        learner.episode()
    assert learner.table == {(state, action): one for state, held in memory.values.items() for action, one in held.items()}
    assert learner.lived.total() == len(memory.experiences)
    assert learner.policy == memory.policy


def test_it_notices_a_store_that_loses_a_value() -> None:
    """A value that is not what it wrote last ends its episode."""
    memory = Held()
    learner = Learner(World(), memory, seed=3)
    learner.episode()
    memory.loses = True
    with pytest.raises(WrongValueError, match="written was"):
        learner.episode()


def test_a_failed_call_of_the_agent_ends_the_tour() -> None:
    """What goes wrong in the agent's thread is said to whoever waits for it."""
    memory = Held()
    with agent_tour.Life(World(), memory) as life:
        life.until(lambda: len(life.within("redis-py")) >= 2, "episodes")
        memory.loses = True
        with pytest.raises(FatalError, match="a call of the agent failed: WrongValue"):
            life.until(lambda: False, "end")


def test_an_agent_lives_until_it_is_good_enough() -> None:
    """It ends behind the episode after which that is so, and episodes are counted where they began."""
    world = World()
    with agent_tour.Life(world, Held()) as life:
        life.until(lambda: len(life.within("redis-py")) >= 2, "episodes")
        life.between(lambda: None, lambda: "elsewhere")
        life.end_when(lambda: life.learner.greedy_steps() == world.fewest_steps(), "policy")
        assert life.learner.greedy_steps() == world.fewest_steps()
    assert {one.stage for one in life.episodes} == {"redis-py", "elsewhere"}
    assert sum(one.steps for one in life.episodes) == life.learner.lived.total()


def test_without_its_servers_its_part_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Redis or PostgreSQL is not installed and cannot be, the tour says so with the way to get it, and goes on."""

    def up(*_: object, **__: object) -> None:
        message = "the sandbox needs redis-server, which is not installed"
        raise FatalError(message, hint="Get it with: brew install redis")

    monkeypatch.setattr(sandbox, "up", up)
    told = io.StringIO()
    assert not agent_tour.take(tmp_path, Console(file=told, width=110))
    assert "left out: the sandbox needs redis-server" in told.getvalue()
    assert "brew install redis" in told.getvalue()
