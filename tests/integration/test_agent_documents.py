"""Agent state kept as RedisJSON documents, in a Redis that has the module: proposed, copied, followed, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import redis

from acceptance.agent_place import AgentPlace, agent_place
from acceptance.agent_room import eventually
from acceptance.redis_servers import PASSWORD, plain, redisjson, servers
from segue.sandbox import Endpoint

MAPPING = """
[[agentdb.mappings]]
kind = "experiences"
key = "exp:{agent_id}"
type = "json"
encoding = "json"
each = "/*"
columns = { agent_id = "part:agent_id", state = "json:/s", action = "json:/a", reward = "json:/r" }

[[agentdb.mappings]]
kind = "q_values"
key = "q:{agent_id}"
type = "json"
encoding = "json"
each = "/{state}/{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "value" }

[[agentdb.mappings]]
kind = "policies"
key = "policy:{agent_id}"
type = "json"
encoding = "json"
columns = { agent_id = "part:agent_id", policy = "value" }
"""
POLICY = {"w": [1, 2.5, -1e-7], "name": "é\u2028", "layers": {"n": None, "on": True}}


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """A schema of the test's own; Redis is the test's."""
    folder = tmp_path / "work"
    folder.mkdir()
    with agent_place(folder, agent_endpoints) as found:
        found.configure(MAPPING)
        yield found


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[redis.Redis]:
    """A Redis with the module, told of what changes."""
    with redisjson(tmp_path) as port:
        client = redis.Redis(port=port, password=PASSWORD, protocol=2)
        yield client
        client.close()


def fill(client: redis.Redis) -> None:
    """Put in three agents; of a fourth one everything is a plain string, which no JSON command reads."""
    for agent in ("anna", "bert", "dora"):
        client.json().set(f"exp:{agent}", "$", [{"s": [n], "a": n % 3, "r": n / 4} for n in range(5)])
        client.json().set(f"q:{agent}", "$", {"room": {"left": 0.5, "right": -1}})
        client.json().set(f"policy:{agent}", "$", POLICY)
    client.expire("policy:bert", 3_600)
    client.set("policy:carl", json.dumps(POLICY))


def address(client: redis.Redis) -> str:
    """Return the address of the server."""
    return f"redis://:{PASSWORD}@127.0.0.1:{client.get_connection_kwargs()['port']}/0"


def test_documents_are_copied_as_they_are(place: AgentPlace, documents: redis.Redis) -> None:
    """Each document is read whole, with its expiry; a key of another type is quarantined; both sides are found equal."""
    fill(documents)
    for _ in range(2):
        ended = place.migrate(REDIS_URL=address(documents))
        assert ended.code == 0, ended.err
        assert ended.data["counts"] == {"source": 25, "migrated": 24, "quarantined": 1, "pending": 0}
        assert ended.data["reasons"] == {"redis_type": 1}
    assert place.rows("SELECT policy, count(*), count(expires_at) FROM rl_policies GROUP BY 1") == [(POLICY, 3, 1)]
    assert place.rows("SELECT count(*), sum(reward) FROM rl_experiences WHERE state = '[3]'") == [(3, 2.25)]
    assert place.rows("SELECT DISTINCT state, action, q_value FROM rl_q_values ORDER BY 2") == [
        ("room", "left", 0.5),
        ("room", "right", -1.0),
    ]
    documents.delete("policy:carl")
    full = place.segue("validate", "--agentdb", "--full", "--threshold", "1", REDIS_URL=address(documents))
    assert full.code == 0, full.err
    documents.json().set("policy:anna", "$.w[0]", 9)
    full = place.segue("validate", "--agentdb", "--full", "--threshold", "1", REDIS_URL=address(documents))
    assert full.code == 4, full.err


def test_documents_are_followed(place: AgentPlace, documents: redis.Redis) -> None:
    """What changes inside of a document is told of, and arrives long before the next re-scan."""
    fill(documents)
    documents.delete("policy:carl")
    following = place.start(
        "migrate-agentdb", "--follow", "--rescan-secs", "600", "--format", "json", REDIS_URL=address(documents)
    )
    following.await_words("following")
    eventually(lambda: len(documents.client_list(_type="pubsub")) > 0)
    documents.json().set("policy:anna", "$.w[0]", 9)
    documents.json().numincrby("q:bert", "$.room.left", 2)
    documents.json().arrappend("exp:anna", "$", {"s": 0, "a": "new", "r": 1})
    eventually(
        lambda: (
            place.rows("SELECT policy->'w'->0 FROM rl_policies WHERE agent_id = 'anna'") == [(9,)]
            and place.rows("SELECT q_value FROM rl_q_values WHERE agent_id = 'bert' AND action = 'left'") == [(2.5,)]
            and place.rows("SELECT count(*) FROM rl_experiences WHERE action = 'new'") == [(1,)]
        )
    )
    following.process.terminate()
    assert following.ended(60).code == 0


def test_documents_are_proposed(place: AgentPlace, documents: redis.Redis) -> None:
    """The keyspace is looked through, documents are recognised by what is in them, and the proposal works as written."""
    fill(documents)
    documents.delete("policy:carl")
    place.configure("")
    proposed = place.segue("init", "--agentdb", "--format", "json", REDIS_URL=address(documents))
    assert proposed.code == 0, proposed.err
    shapes = {one["like"]: (one["kind"], one["types"], one["encoding"]) for one in proposed.data["agentdb"]["shapes"]}
    assert shapes["policy:*"] == ("policies", ["ReJSON-RL"], "json")
    assert shapes["q:*"] == ("q_values", ["ReJSON-RL"], "json")
    ended = place.migrate(REDIS_URL=address(documents))
    assert ended.code == 0, ended.err
    assert place.rows("SELECT policy, count(*) FROM rl_policies GROUP BY 1") == [(POLICY, 3)]


def test_a_redis_without_the_module_says_so(place: AgentPlace, tmp_path: Path) -> None:
    """Documents are declared, and the server does not know the command: one clear message."""
    with servers(tmp_path, plain()) as (port,):
        with redis.Redis(port=port, password=PASSWORD, protocol=2) as client:
            client.set("policy:carl", "{}")
        ended = place.migrate(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0")
    assert ended.code == 1
    assert "JSON.GET" in ended.err
    assert "Traceback" not in ended.err
