"""The steps of `segue demo` that are about an agent's state: it goes from Redis to PostgreSQL while the agent learns.

Owns the thread in which the agent lives and the proof at the end, which is read by plain clients. Where Redis or PostgreSQL
cannot be had, it says so and takes no step.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table

import segue
from segue import AgentMode, sandbox
from segue.bootstrap.agent_state import require_extra
from segue.demo.agent import AGENT, NEAR_GAP, Learner, Memory, PlainRedis, World, name_of
from segue.demo.commands import Shell
from segue.errors import ConfigError, FatalError

if TYPE_CHECKING:
    import psycopg
    import redis

    from segue import AgentStateStore

SCHEMA = "segue_demo"
"""Of its own in PostgreSQL, so that what an earlier tour left can be dropped whole."""

FOR_THE_AGENT = f"""
# For the tour: where the agent's state goes.
[postgres]
schema = "{SCHEMA}"
"""

SEED = 6

STEP_PAUSE_SECONDS = 0.003
"""Between steps, so that one agent does not keep the machine busy."""

PLAIN_EPISODES = 20
"""Before the application's one line changes."""

EPISODES = 10
"""For which a mode is looked at, at least, before the next one."""

CHANGED = "postgres, gap closed"
"""The stage in which the world is another one."""

CHANGED_EPISODES = 20
"""For which it learns in it, at least."""

FEW = 5
"""Episodes that are averaged at the beginning and at the end of a mode."""

PATIENCE_SECONDS = 120.0
"""For anything that a step waits for; a slow machine takes longer than two quick cores, by far not as long as this."""

LOOK_SECONDS = 0.05

LINES = 2
"""Lines shown of what a mode change prints."""

VERDICT_LINES = 11
"""Lines shown of what a validation prints."""

FURTHER = (
    ("segue mode show --agentdb", "where the agent's state is; only PostgreSQL has what it learned last"),
    ("segue rollback --agentdb --replay --confirm", "which this writes to Redis, and agents are on Redis again"),
)
"""What to try afterwards, and why."""


def take(folder: Path, console: Console) -> Sequence[tuple[str, str]]:
    """Give this part of the tour, in the folder of the other one and with its segue.toml.

    Returns:
        What to try next; empty where this part had to be left out.

    Raises:
        SegueError: A command failed, a call of the agent failed, or its state is not equal.
    """
    console.rule("[bold]10  An agent that learns, its state in Redis")
    try:
        require_extra()
        endpoints = sandbox.up(["redis", "postgres"], announce=lambda line: console.print(f"  {line}", markup=False))
    except (ConfigError, FatalError) as fault:
        text = f"  The agent's part of the tour is left out: {fault.message}\n  {fault.hint}".rstrip()
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return ()
    # After the check, since both belong to the extra `agentdb`.
    import psycopg  # noqa: PLC0415
    import redis  # noqa: PLC0415

    os.environ.update(sandbox.exports(endpoints))
    with (
        redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as client,
        psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database,
    ):
        _forget(client, database)
        AgentTour(client, database, folder, console).take()
    return FURTHER


@dataclass(frozen=True, slots=True)
class Episode:
    """One walk from start to goal.

    Attributes:
        stage: Where the agent's state was when it began, as the tour calls it.
        steps: How many it took.
        reward: Their sum.
    """

    stage: str
    steps: int
    reward: float


class Life:
    """An agent that learns in a thread of its own until its end; a context manager. Its first failed call ends it.

    Args:
        world: The world.
        memory: Where its state is in the beginning.
    """

    def __init__(self, world: World, memory: Memory) -> None:
        self._closed = threading.Event()
        self.learner = Learner(world, memory, SEED, lambda: self._closed.wait(STEP_PAUSE_SECONDS))
        self.episodes: list[Episode] = []
        self.fault: Exception | None = None
        self._stage: Callable[[], str] = lambda: "redis-py"
        self._is_enough: Callable[[], bool] = lambda: False
        self._between = threading.Lock()
        self._thread = threading.Thread(target=self._live, name=AGENT)

    def __enter__(self) -> Self:
        """Let it begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end its episode."""
        self._closed.set()
        self._thread.join()

    def between(self, change: Callable[[], None], stage: Callable[[], str]) -> None:
        """Change something between two episodes; from then on they are counted under another stage."""
        with self._between:
            change()
            self._stage = stage

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until something is so.

        Raises:
            FatalError: It is not in time, or a call of the agent failed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not seen():
            self.require_sound()
            if time.monotonic() > deadline:
                message = f"within {PATIENCE_SECONDS:g} s no {what}"
                raise FatalError(message, hint="application.log in the demo's folder says more.")
            time.sleep(LOOK_SECONDS)
        self.require_sound()

    def end_when(self, is_enough: Callable[[], bool], what: str) -> None:
        """Let it live until, after an episode, something is so.

        Raises:
            FatalError: It is not in time, or a call of the agent failed.
        """
        self._is_enough = is_enough
        self.until(lambda: not self._thread.is_alive(), what)

    def require_sound(self) -> None:
        """Let the tour go on only while none of the agent's calls has failed.

        Raises:
            FatalError: One has.
        """
        if self.fault is not None:
            message = f"a call of the agent failed: {type(self.fault).__name__}: {self.fault}"
            raise FatalError(message, hint="application.log in the demo's folder says more.") from self.fault

    def within(self, stage: str) -> list[Episode]:
        """Return the episodes of a stage."""
        return [one for one in list(self.episodes) if one.stage == stage]

    def _live(self) -> None:
        while not self._closed.is_set():
            with self._between:
                stage = self._stage()
                try:
                    steps, reward = self.learner.episode()
                except Exception as fault:  # noqa: BLE001  # whatever it is, a call of the agent failed
                    self.fault = fault
                    return
            self.episodes.append(Episode(stage, steps, reward))
            if self._is_enough():
                return
            # Lets who waits for the end of an episode have the lock.
            self._closed.wait(STEP_PAUSE_SECONDS)


class AgentTour:
    """The steps, in order.

    Args:
        client: A plain Redis client that returns text.
        database: A plain connection to PostgreSQL that commits every statement.
        folder: Where the commands run.
        console: Where the tour is told.
    """

    def __init__(self, client: redis.Redis, database: psycopg.Connection[Any], folder: Path, console: Console) -> None:
        self._client = client
        self._database = database
        self._folder = folder
        self._console = console
        self._shell = Shell(folder, console)
        self._world = World()

    def take(self) -> None:
        """Let the agent live from before the first command until after the last."""
        with Life(self._world, PlainRedis(self._client)) as life:
            self._begin(life)
            with segue.connect_agents(self._folder / "segue.toml") as store:
                self._move(life, store)
                self._go_on(life)
        self._proof(life)

    def _begin(self, life: Life) -> None:
        self._say(
            "A grid world, and an agent that looks for the way through it by Q-learning. It keeps its experiences in a list,",
            "what each action is worth in a hash for each cell, and its policy in a JSON document, by plain redis-py. It reads",
            "the values it acts by from there at every step, and writes what it learned back at once.",
        )
        life.until(lambda: len(life.within("redis-py")) >= PLAIN_EPISODES, "episodes")
        first, last = (statistics.mean(one.steps for one in some) for some in _ends(life.within("redis-py")))
        self._say(
            f"Its first {FEW} walks took {first:.0f} steps each, the last {FEW} took {last:.0f}; "
            f"the shortest way has {self._world.fewest_steps()}. It goes on all along."
        )
        path = self._folder / "segue.toml"
        path.write_text(path.read_text(encoding="utf-8") + FOR_THE_AGENT, encoding="utf-8")
        self._shell.run("init --agentdb")

    def _move(self, life: Life, store: AgentStateStore) -> None:
        self._say(
            "",
            "The agent's one new line, which stays as it is through everything that follows:",
            f'    memory = segue.connect_agents("{self._folder / "segue.toml"}")',
        )
        self._console.rule("[bold]11  While it learns, its state goes to PostgreSQL")
        life.between(lambda: setattr(life.learner, "memory", store), lambda: store.mode.value)
        self._lived(life, AgentMode.REDIS_ONLY)
        self._set(life, AgentMode.DUAL_WRITE)
        self._shell.run("migrate-agentdb")
        self._set(life, AgentMode.SHADOW)
        self._shell.run_briefly("validate --agentdb --full", VERDICT_LINES)
        self._set(life, AgentMode.POSTGRES)

    def _go_on(self, life: Life) -> None:
        self._console.rule("[bold]12  It goes on learning from PostgreSQL")
        before = self._world.fewest_steps()

        def change() -> None:
            self._world.close(NEAR_GAP)
            life.learner.forget_before(datetime.now(UTC))

        life.between(change, lambda: CHANGED)
        after = self._world.fewest_steps()
        self._say(
            f"The gap it always takes falls in. The shortest way had {before} steps, now it has {after}, elsewhere, and",
            "what it knows is wrong. Only what it reads from PostgreSQL and writes there can help it now:",
        )
        life.end_when(
            lambda: len(life.within(CHANGED)) >= CHANGED_EPISODES and life.learner.greedy_steps() == after,
            f"policy that takes {after} steps",
        )

    def _proof(self, life: Life) -> None:
        self._report(life)
        self._say(
            f"Its policy takes {life.learner.greedy_steps()} steps, the fewest there are. Calls of the agent that failed: 0."
        )
        learner = life.learner
        table = self._rows("SELECT state, action, q_value FROM {} WHERE agent_id = %s", "rl_q_values")
        held = {(state, action): value for state, action, value in table}
        rows = self._rows("SELECT state, action, reward, next_state, done FROM {} WHERE agent_id = %s", "rl_experiences")
        lived = Counter((name_of(state), action, reward, name_of(there), done) for state, action, reward, there, done in rows)
        policies = [policy for (policy,) in self._rows("SELECT policy FROM {} WHERE agent_id = %s", "rl_policies")]
        unequal = [
            name
            for name, theirs, ours in (
                ("Q-values", (len(table), held), (len(learner.table), learner.table)),
                ("experiences", lived, learner.lived),
                ("policies", policies, [learner.policy]),
            )
            if theirs != ours
        ]
        if unequal:
            message = f"PostgreSQL and the agent differ in {', '.join(unequal)}"
            raise FatalError(message, hint="None was expected. application.log in the demo's folder says more.")
        before = self._client.llen(f"agent:{AGENT}:experiences")
        self._say(
            "",
            "Read from PostgreSQL by its plain client and compared with what the agent itself holds:",
            f"{len(held)} Q-values, each equal to the last bit; {lived.total():,} experiences, each as often as it was lived;",
            f"the policy, equal. Redis was left with the {before:,} experiences of before PostgreSQL was first.",
        )

    def _set(self, life: Life, mode: AgentMode) -> None:
        self._shell.run_briefly(f"mode set {mode} --agentdb", LINES)
        self._lived(life, mode)

    def _lived(self, life: Life, mode: AgentMode) -> None:
        life.until(lambda: len(life.within(mode.value)) >= EPISODES, f"episodes in {mode}")

    def _rows(self, query: str, table: str) -> list[tuple[Any, ...]]:
        return list(self._database.execute(query.format(f"{SCHEMA}.{table}"), (AGENT,)))

    def _report(self, life: Life) -> None:
        table = Table("walks", "number", "steps, first", "last", "reward, first", "last", box=None, padding=(0, 2))
        for column in table.columns[1:]:
            column.justify = "right"
        for stage in dict.fromkeys(one.stage for one in life.episodes):
            first, last = _ends(life.within(stage))
            steps = [f"{statistics.mean(one.steps for one in some):.1f}" for some in (first, last)]
            rewards = [f"{statistics.mean(one.reward for one in some):.1f}" for some in (first, last)]
            table.add_row(f"in {stage}", f"{len(life.within(stage)):,}", *steps, *rewards)
        self._console.print()
        self._console.print(table)
        self._say(f"(First and last: the mean of {FEW} walks.)")

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(f"  {line}" if line else "", markup=False, highlight=False, soft_wrap=True)


def _ends(episodes: Sequence[Episode]) -> tuple[Sequence[Episode], Sequence[Episode]]:
    return episodes[:FEW], episodes[-FEW:]


def _forget(client: redis.Redis, database: psycopg.Connection[Any]) -> None:
    """Take out what an earlier tour left: the agent would know its way, and its mode would be this one's."""
    for pattern in (f"agent:{AGENT}:*", f"segue:agentdb:{SCHEMA}:*"):
        for key in list(client.scan_iter(pattern)):
            client.delete(key)
    database.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    database.execute(f"CREATE SCHEMA {SCHEMA}")
