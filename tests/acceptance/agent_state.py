"""Agent state as an application keeps it in Redis: every kind and type, what cannot go, and an exact comparison afterwards.

The expectation is worked out here with plain Python from what was put in, by none of the product's code.
"""

from __future__ import annotations

import json
import pickle
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from acceptance.agent_place import AgentPlace

MAPPINGS = """
[[agentdb.mappings]]
kind = "experiences"
key = "PREFIXexp:{agent_id}:list"
type = "list"
encoding = "json"
[agentdb.mappings.columns]
agent_id = "part:agent_id"
state = "json:/state"
action = "json:/action"
reward = "json:/reward"
next_state = "json:/next_state?"
done = "json:/done?"
timestamp = "json:/ts?"

[[agentdb.mappings]]
kind = "experiences"
key = "PREFIXexp:{agent_id}:one:{n}"
type = "string"
encoding = "msgpack"
[agentdb.mappings.columns]
agent_id = "part:agent_id"
state = "json:/state"
action = "json:/action"
reward = "json:/reward"
timestamp = "json:/ts?"

[[agentdb.mappings]]
kind = "experiences"
key = "PREFIXexp:{agent_id}:stream"
type = "stream"
encoding = "json"
document = "data"
[agentdb.mappings.columns]
agent_id = "part:agent_id"
state = "json:/state"
action = "json:/action"
reward = "json:/reward"
timestamp = "stream-time"

[[agentdb.mappings]]
kind = "experiences"
key = "PREFIXexp:{agent_id}:hash:{n}"
type = "hash"
encoding = "json"
[agentdb.mappings.columns]
agent_id = "part:agent_id"
state = "field:state"
action = "field:action"
reward = "field:reward"
timestamp = "field:ts?"

[[agentdb.mappings]]
kind = "q_values"
key = "PREFIXq:{agent_id}:{state}"
type = "hash"
encoding = "number"
rows = "field"
member = "{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "value" }

[[agentdb.mappings]]
kind = "q_values"
key = "PREFIXqz:{agent_id}"
type = "zset"
encoding = "raw"
member = "{state}|{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "score" }

[[agentdb.mappings]]
kind = "q_values"
key = "PREFIXqtable:{agent_id}"
type = "string"
encoding = "json"
each = "/{state}/{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "value" }

[[agentdb.mappings]]
kind = "policies"
key = "PREFIXpolicy:{agent_id}:{version}"
type = "string"
encoding = "raw"
columns = { agent_id = "part:agent_id", version = "part:version", payload = "value" }

[[agentdb.mappings]]
kind = "metadata"
key = "PREFIXagent:{agent_id}:state"
type = "hash"
encoding = "raw"
columns = { agent_id = "part:agent_id", value = "value" }
"""

BASE = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(slots=True)
class AgentState:
    """What was put into Redis, as it must be found in PostgreSQL.

    Attributes:
        experiences: (agent, state, action, reward, next_state, done, time) with how many equal ones there are.
        q_values: (agent, state, action) to the value.
        policies: (agent, version) to the bytes.
        metadata: Agent to the fields.
        unfit: Reason to how many rows.
    """

    experiences: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    q_values: dict[tuple[str, str, str], float] = field(default_factory=dict)
    policies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    unfit: Counter[str] = field(default_factory=Counter)

    @property
    def fit(self) -> int:
        """How many rows can go."""
        return self.experiences.total() + len(self.q_values) + len(self.policies) + len(self.metadata)

    @property
    def counts(self) -> dict[str, int]:
        """The account of a complete copy."""
        unfit = self.unfit.total()
        return {"source": self.fit + unfit, "migrated": self.fit, "quarantined": unfit, "pending": 0}


def fill(place: AgentPlace, agents: int = 3, each: int = 40, *, unfit: bool = True) -> AgentState:
    """Put in so many agents, each with so many records of every sort; return what must come of it."""
    state = AgentState()
    with place.redis.pipeline(transaction=False) as pipe:
        for number in range(agents):
            _agent(place, pipe, state, f"a{number}", each)
        if unfit:
            _unfit(place, pipe, state)
        pipe.execute()
    return state


def _agent(place: AgentPlace, pipe: Any, state: AgentState, agent: str, each: int) -> None:
    for n in range(each):
        at = BASE + timedelta(seconds=n, milliseconds=250)
        document = {"state": [n, agent], "action": n % 5, "reward": n / 8, "ts": at.timestamp()}
        more = {"next_state": {"n": n + 1, "é": "ü"}, "done": n % 7 == 0}
        pipe.rpush(place.key(f"exp:{agent}:list"), json.dumps(document | more))
        state.experiences[_experience(agent, document | more, at)] += 1
        pipe.set(place.key(f"exp:{agent}:one:{n}"), msgspec.msgpack.encode(document))
        state.experiences[_experience(agent, document, at)] += 1
        milliseconds = int(at.timestamp() * 1000)
        pipe.xadd(place.key(f"exp:{agent}:stream"), {"data": json.dumps(document)}, id=f"{milliseconds}-{n}")
        state.experiences[_experience(agent, document, at)] += 1
        fields = {"state": json.dumps(document["state"]), "action": n % 5, "reward": n / 8, "ts": at.isoformat()}
        pipe.hset(place.key(f"exp:{agent}:hash:{n}"), mapping=fields)
        state.experiences[_experience(agent, document, at)] += 1
        pipe.hset(place.key(f"q:{agent}:s:{n}"), mapping={"left": n / 3, "right": -n})
        state.q_values[agent, f"s:{n}", "left"] = n / 3
        state.q_values[agent, f"s:{n}", "right"] = float(-n)
        pipe.zadd(place.key(f"qz:{agent}"), {f"z{n}|up": n * 1.5})
        state.q_values[agent, f"z{n}", "up"] = n * 1.5
    pipe.rpush(place.key(f"exp:{agent}:list"), *[json.dumps({"state": 1, "action": "same", "reward": 0})] * 3)
    state.experiences[agent, "1", "same", 0.0, "null", None, None] += 3
    pipe.set(place.key(f"qtable:{agent}"), json.dumps({"t": {"x": 0.5, "y": 1}}))
    state.q_values |= {(agent, "t", "x"): 0.5, (agent, "t", "y"): 1.0}
    pipe.set(place.key(f"policy:{agent}:v1"), bytes(range(256)))
    state.policies[agent, "v1"] = bytes(range(256))
    pipe.hset(place.key(f"agent:{agent}:state"), mapping={"status": "up", "beats": 7})
    state.metadata[agent] = {"status": "up", "beats": "7"}


def _unfit(place: AgentPlace, pipe: Any, state: AgentState) -> None:
    """Put in one of every malformed record, beside one that is fine."""
    good = {"state": 1, "action": "a", "reward": 1}
    broken: list[tuple[str, bytes]] = [
        ("pickle", pickle.dumps(good)),
        ("pickle", zlib.compress(pickle.dumps(good))),
        ("not_decodable", b"{"),
        ("not_decodable", b"\xff\x00"),
        ("value_not_finite", b'{"state": NaN, "action": 1, "reward": 1}'),
        ("nul_character", b'{"state": "\\u0000", "action": 1, "reward": 1}'),
        ("value_too_large", json.dumps({**good, "action": "x" * 101}).encode()),
        ("value_missing", b'{"state": 1, "action": 1}'),
        ("value_type", json.dumps({**good, "reward": "much"}).encode()),
        ("refused_by_sink", b'{"state": 1e200000, "action": 1, "reward": 1}'),
    ]
    pipe.rpush(place.key("exp:bad:list"), *[value for _, value in broken], json.dumps(good))
    state.unfit.update(reason for reason, _ in broken)
    state.experiences["bad", "1", "a", 1.0, "null", None, None] += 1
    pipe.set(place.key("exp:bad:one:1"), msgspec.msgpack.encode(good)[:-3])
    pipe.hset(place.key("q:bad:s"), mapping={"left": "x", "right": 2})
    state.q_values["bad", "s", "right"] = 2.0
    pipe.zadd(place.key("qz:bad"), {"no action": 1})
    pipe.set(place.key("agent:bad:state"), "a string, no hash")
    pipe.set(place.key("policy:bad:v1"), pickle.dumps(good))
    pipe.rpush(place.key("exp:bad:list").encode().replace(b"bad", b"\xff"), json.dumps(good))
    state.unfit.update(["not_decodable", "value_type", "key_type", "redis_type", "pickle", "key_type"])


def _experience(agent: str, document: Mapping[str, Any], at: datetime | None) -> tuple[Any, ...]:
    packed = json.dumps(document["state"]), json.dumps(document.get("next_state"), sort_keys=True)
    return agent, packed[0], str(document["action"]), float(document["reward"]), packed[1], document.get("done"), at


def found(place: AgentPlace) -> AgentState:
    """Return what is in PostgreSQL."""
    state = AgentState()
    query = 'SELECT agent_id, state, action, reward, next_state, done, "timestamp" FROM rl_experiences'
    for agent, held, action, reward, following, done, at in place.rows(query):
        row = (agent, json.dumps(held), action, reward, json.dumps(following, sort_keys=True), done, at)
        state.experiences[row] += 1
    values = place.rows("SELECT agent_id, state, action, q_value FROM rl_q_values")
    state.q_values = {(agent, held, action): value for agent, held, action, value in values}
    assert len(state.q_values) == len(values)
    state.policies = {
        (agent, version): payload
        for agent, version, payload in place.rows("SELECT agent_id, version, payload FROM rl_policies")
    }
    state.metadata = dict(place.rows("SELECT agent_id, value FROM rl_agent_metadata"))
    return state


def assert_equal(place: AgentPlace, expected: AgentState) -> None:
    """Every record is there exactly as often as it must be, with every column, and nothing else is."""
    there = found(place)
    assert there.experiences == expected.experiences
    assert there.q_values == expected.q_values
    assert there.policies == expected.policies
    assert there.metadata == expected.metadata


def quarantine_file(place: AgentPlace) -> Counter[str]:
    """Return how many rows the quarantine file has for each reason; each names its key."""
    path = place.folder / "quarantine-agentdb.jsonl"
    if not path.exists():
        return Counter()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(row["key"].startswith(place.prefix) and row["detail"] for row in rows)
    return Counter(row["reason"] for row in rows)
