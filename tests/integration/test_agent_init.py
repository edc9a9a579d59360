"""`init --agentdb`: what public code keeps in Redis is recognised, and the proposal works as it is written."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from acceptance.agent_place import AgentPlace, agent_place
from segue.sandbox import Endpoint

EXPERIENCE = {"state": [1, 2], "action": 3, "reward": 0.5, "next_state": [2, 3], "done": False, "ts": 1_772_323_200.5}


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own."""
    with agent_place(tmp_path, agent_endpoints) as found:
        # A piece with digits is taken for one that changes, as the name of an agent.
        found.prefix = found.prefix.translate(str.maketrans("0123456789", "ghijklmnop"))
        yield found


def layouts(place: AgentPlace) -> None:
    """Put in the layouts of public code, under keys of this place."""
    redis, key = place.redis, place.key
    for agent in ("anna", "bert", "carl"):
        redis.rpush(key(f"agent:{agent}:experiences"), json.dumps(EXPERIENCE))
        redis.set(key(f"agent:{agent}:policy"), json.dumps({"w": [1]}), ex=600)
        redis.hset(key(f"agent:{agent}:state"), mapping={"status": "up"})
        redis.hset(key(f"q:{agent}:room1"), mapping={"left": "0.5"})
    redis.xadd(key("rl:feedback"), {"data": json.dumps({**EXPERIENCE, "agent": "dora", "episode": 4})})
    redis.set(key("rl:qtable"), json.dumps({"s1": {"l": 0.5}}))
    redis.set(key("bgai:buffer:1"), pickle.dumps(EXPERIENCE))
    redis.hset(
        key("bgai:experience:17"), mapping={"state": "[1]", "action": "2", "reward": "0.25", "done": "false", "surprise": "1"}
    )
    redis.set(key("session:17"), "somebody else's")


def test_the_layouts_of_public_code_are_recognised(place: AgentPlace) -> None:
    """Kind, pattern, encoding and columns of each; what is left behind, cannot go or is unknown is listed, not skipped."""
    layouts(place)
    ended = place.segue("init", "--agentdb", "--format", "json")
    assert ended.code == 0, ended.err
    shapes = {one["like"].partition(":")[2]: one for one in ended.data["agentdb"]["shapes"] if _is_own(place, one)}
    assert {look: (one["kind"], one["encoding"]) for look, one in shapes.items()} == {
        "agent:*:experiences": ("experiences", "json"),
        "agent:*:policy": ("policies", "json"),
        "agent:*:state": ("metadata", "raw"),
        "q:*:*": ("q_values", "number"),
        "rl:feedback": ("experiences", "json"),
        "rl:qtable": ("q_values", "json"),
        "bgai:buffer:*": (None, None),
        "bgai:experience:*": ("experiences", "json"),
        "session:*": (None, None),
    }
    assert shapes["agent:*:experiences"]["columns"]["timestamp"] == "json:/ts?"
    assert shapes["rl:feedback"]["columns"]["agent_id"] == "json:/agent"
    assert shapes["rl:feedback"]["remarks"] == ["not carried over: episode"]
    assert shapes["bgai:buffer:*"]["remarks"] == ["pickles, which are never loaded: write them in another encoding first"]
    assert shapes["agent:*:policy"]["expiring"] == 1
    text = (place.folder / "segue.toml").read_text()
    assert tomllib.loads(text)["agentdb"]["mappings"]
    assert "# NOT MAPPED: 1 keys like" in text


def test_the_proposal_works_as_it_is_written(place: AgentPlace) -> None:
    """What was proposed copies everything it was proposed for, in the names that the documents have."""
    layouts(place)
    place.configure("")
    assert place.segue("init", "--agentdb").code == 0
    ended = place.migrate()
    assert ended.code == 0, ended.err
    own = place.prefix + "%"
    query = "SELECT agent_id, reward FROM rl_experiences WHERE source_key LIKE %s ORDER BY agent_id, source_key"
    assert place.rows(query, own) == [*((agent, 0.5) for agent in ("anna", "bert", "carl")), ("default", 0.25), ("dora", 0.5)]
    query = "SELECT agent_id, state, action FROM rl_q_values WHERE source_key LIKE %s ORDER BY agent_id"
    assert place.rows(query, own) == [*((agent, "room1", "left") for agent in ("anna", "bert", "carl")), ("default", "s1", "l")]
    assert place.rows("SELECT count(*) FROM rl_policies WHERE source_key LIKE %s", own) == [(3,)]


def test_a_file_that_maps_already_is_left_alone(place: AgentPlace) -> None:
    """A dry run prints and writes nothing; a file that maps agent state already stays as it is."""
    layouts(place)
    place.configure("", "# kept\n")
    before = (place.folder / "segue.toml").read_text()
    assert "[[agentdb.mappings]]" in place.segue("init", "--agentdb", "--dry-run").out
    assert (place.folder / "segue.toml").read_text() == before
    assert place.segue("init", "--agentdb").code == 0
    written = (place.folder / "segue.toml").read_text()
    assert written.startswith(before.rstrip())
    refused = place.segue("init", "--agentdb")
    assert refused.code == 2
    assert "maps agent state already" in refused.err
    assert (place.folder / "segue.toml").read_text() == written


def _is_own(place: AgentPlace, shape: dict[str, Any]) -> bool:
    return all(example.startswith(place.prefix) for example in shape["examples"])
