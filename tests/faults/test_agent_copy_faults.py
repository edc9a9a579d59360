"""Whatever is killed, restarted or written meanwhile: the same command again ends with everything there exactly once.

The moments come from `random`, which pytest-randomly seeds before each test with the seed in the session's header.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis

from acceptance.agent_place import AgentPlace, agent_place, redis_url
from acceptance.agent_state import MAPPINGS, assert_equal, fill, found, quarantine_file
from segue import sandbox
from segue.sandbox import Endpoint

SMALL = "[agentdb]\nrows_per_batch = 60\n"
WINDOW = 5_000
KILLS = 7


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own, copied in small batches."""
    with agent_place(tmp_path, agent_endpoints) as made:
        made.configure(MAPPINGS, SMALL)
        yield made


@pytest.fixture
def own_place(tmp_path: Path) -> Iterator[tuple[AgentPlace, Path]]:
    """Servers of the test's own, which it may kill."""
    root = tmp_path / "servers"
    endpoints = sandbox.up(("redis", "postgres"), root=root)
    folder = tmp_path / "work"
    folder.mkdir()
    try:
        with agent_place(folder, endpoints) as made:
            made.configure(MAPPINGS, SMALL)
            yield made, root
    finally:
        sandbox.down(root)


def test_a_copy_killed_again_and_again_ends_exact(place: AgentPlace) -> None:
    """Kill -9 at random moments of the whole run, the same command again each time: complete, exact, every unfit row once."""
    state = fill(place, agents=3, each=90)
    recorded = []
    for _ in range(KILLS):
        running = place.start("migrate-agentdb", "--max-ops", "500")
        if random.random() < 0.8:
            running.await_words("agentdb: ")
        time.sleep(random.uniform(0, 1.0))
        running.signal(signal.SIGKILL)
        assert running.ended().code in (0, -signal.SIGKILL)
        recorded.append(_experiences(place))
    ended = place.migrate()

    assert ended.code == 0, ended.err
    assert recorded == sorted(recorded)
    assert ended.data["counts"] == state.counts
    assert quarantine_file(place) == state.unfit
    assert_equal(place, state)


def test_an_interrupted_copy_says_so_and_goes_on(place: AgentPlace) -> None:
    """SIGTERM: what is in hand is recorded, exit code 130 with the account; the same command goes on where it was."""
    state = fill(place, agents=3, each=90)
    running = place.start("migrate-agentdb", "--max-ops", "300", "--format", "json")
    running.await_words("planned")
    time.sleep(0.7)
    running.signal(signal.SIGTERM)
    ended = running.ended()
    assert ended.code == 130, ended.err
    counts = ended.data["counts"]
    assert counts["source"] == counts["migrated"] + counts["quarantined"] + counts["pending"]
    again = place.migrate()
    assert again.code == 0, again.err
    assert again.data["counts"] == state.counts
    assert_equal(place, state)


def test_two_copies_at_once(place: AgentPlace) -> None:
    """Two copies with records of their own: both succeed, and every row is there once."""
    state = fill(place, agents=3, each=90)
    both = [place.start("migrate-agentdb", SEGUE_STATE_PATH=f"state-{n}.db") for n in range(2)]
    for one in both:
        ended = one.ended()
        assert ended.code == 0, ended.err
    assert_equal(place, state)
    refused = place.start("migrate-agentdb", "--max-ops", "20", "--restart")
    refused.await_words("planned")
    second = place.migrate()
    assert second.code == 1
    assert "another segue works with" in second.err
    refused.signal(signal.SIGKILL)


def test_an_application_that_writes_all_along(place: AgentPlace) -> None:
    """Pushed, trimmed, changed and expired while it is copied: a last copy makes what is there exact, nothing twice."""
    writer = _Writer(place)
    writer.fill()
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        for _ in range(3):
            assert place.migrate("--max-ops", "400").code == 0
    finally:
        writer.stop.set()
        thread.join()
    ended = place.migrate()
    assert ended.code == 0, ended.err

    there = found(place)
    experiences: Counter[str] = Counter(row[2] for row in there.experiences.elements())
    assert max(experiences.values()) == 1
    assert experiences.keys() <= writer.pushed
    held = {json.loads(one)["action"] for one in place.redis.lrange(place.key("exp:w:list"), 0, -1)}
    assert held <= experiences.keys()
    assert len(held) == WINDOW
    for state, values in writer.values.items():
        for action, value in values.items():
            assert there.q_values["w", state, action] == value
    full = place.segue("validate", "--agentdb", "--full", "--threshold", "1")
    assert full.code == 0, full.out + full.err


def test_both_servers_killed_in_the_middle(own_place: tuple[AgentPlace, Path]) -> None:
    """Redis, then PostgreSQL killed and started again: the copy waits for each, begins again where it must, and ends exact."""
    place, root = own_place
    state = fill(place, agents=3, each=120)
    # Redis brings its log to the disk once a second.
    time.sleep(1.2)
    running = place.start("migrate-agentdb", "--max-ops", "350", "--format", "json")
    running.await_words("planned")
    time.sleep(0.5)
    # PostgreSQL's own "immediate": no goodbye and no checkpoint, but all of its processes go, so that it can start again.
    for service, number in (("redis", signal.SIGKILL), ("postgres", signal.SIGQUIT)):
        os.kill(sandbox.running(root)[service].pid, number)
        time.sleep(0.5)
        sandbox.up((service,), root=root)
        time.sleep(0.5)
    ended = running.ended(90)
    assert ended.code == 0, ended.err
    assert "reading from the beginning" in ended.err
    place.reconnect()
    assert ended.data["counts"] == state.counts
    assert quarantine_file(place) == state.unfit
    assert_equal(place, state)


class _Writer:
    """An application that goes on: a bounded replay buffer, Q-values that change, keys that come, go and expire."""

    def __init__(self, place: AgentPlace) -> None:
        self.place = place
        self.stop = threading.Event()
        self.pushed: set[str] = set()
        self.values: dict[str, dict[str, float]] = {}
        self._numbers = itertools.count()
        self._redis = redis.Redis.from_url(redis_url(place.redis_at, place.db), protocol=2)

    def fill(self) -> None:
        """Begin with a full buffer."""
        self._push(WINDOW)
        for number in range(60):
            self._learn(f"s{number}")

    def run(self) -> None:
        """Go on until asked to stop."""
        chance = random.Random(7)
        with self._redis:
            while not self.stop.is_set():
                self._push(chance.randrange(1, 40))
                self._learn(f"s{chance.randrange(200)}")
                gone = f"gone:{chance.randrange(50)}"
                self._redis.hset(self.place.key(f"q:w:{gone}"), mapping={"left": chance.random()})
                self._redis.pexpire(self.place.key(f"q:w:{gone}"), chance.randrange(1, 400))
                self.stop.wait(0.002)
            # What expires within the last copy would differ between its two looks.
            for key in self._redis.scan_iter(f"{self.place.prefix}q:w:gone:*", count=5_000):
                self._redis.delete(key)

    def _push(self, number: int) -> None:
        actions = [f"n{next(self._numbers)}" for _ in range(number)]
        self.pushed.update(actions)
        key = self.place.key("exp:w:list")
        with self._redis.pipeline() as together:
            together.rpush(key, *[json.dumps({"state": 1, "action": action, "reward": 1}) for action in actions])
            together.ltrim(key, -WINDOW, -1)
            together.execute()

    def _learn(self, state: str) -> None:
        value = random.random()
        self._redis.hset(self.place.key(f"q:w:{state}"), mapping={"left": value, "right": -value})
        self.values[state] = {"left": value, "right": -value}


def _experiences(place: AgentPlace) -> int:
    ((there,),) = place.rows("SELECT to_regclass(%s) IS NOT NULL", f"{place.schema}.rl_experiences")
    return place.count("experiences") if there else 0
