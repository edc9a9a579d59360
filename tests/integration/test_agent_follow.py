"""`migrate-agentdb --follow` on a real Redis and PostgreSQL: told of, not told of, streams, and an end when it is asked to."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from acceptance.agent_place import AgentPlace, agent_place
from acceptance.agent_room import eventually
from acceptance.agent_state import MAPPINGS, assert_equal, fill
from segue.sandbox import Endpoint

FLAGS = "notify-keyspace-events"


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own, every sort of key, and the server's own setting of notifications afterwards."""
    with agent_place(tmp_path, agent_endpoints) as found:
        found.configure(MAPPINGS)
        before: dict[Any, Any] = found.redis.config_get(FLAGS)  # type: ignore[assignment]
        yield found
        found.redis.config_set(FLAGS, next(iter(before.values())))


def subscribed(place: AgentPlace) -> list[Any]:
    """Return the connections that listen to this place's keys."""
    clients: list[Any] = place.redis.client_list(_type="pubsub")  # type: ignore[assignment]
    return [one for one in clients if int(one["db"]) == place.db and int(one["psub"]) >= MAPPINGS.count("[[")]


def ended(started: Any) -> Any:
    """Ask a command to end; it does, with exit code 0."""
    started.process.send_signal(signal.SIGTERM)
    found = started.ended(60)
    assert found.code == 0, found.err
    return found


@pytest.mark.parametrize("told", [True, False])
def test_postgres_follows_redis(place: AgentPlace, told: bool) -> None:
    """Adds and changes arrive, told of or found by the re-scan; what was trimmed, deleted or has expired stays as history."""
    place.redis.config_set(FLAGS, "KA" if told else "")
    state = fill(place, agents=2, each=5, unfit=False)
    # What is not told of must not wait for long; what is told of must not need the re-scan.
    following = place.start("migrate-agentdb", "--follow", "--rescan-secs", "600" if told else "0.5", "--format", "json")
    eventually(lambda: bool(place.rows("SELECT to_regclass('rl_policies') IS NOT NULL")[0][0]) and place.count("policies") > 0)
    eventually(lambda: place.count("metadata") == len(state.metadata))
    eventually(lambda: bool(subscribed(place)))

    place.redis.hset(place.key("q:a0:s:3"), mapping={"left": 99, "down": 4})
    place.redis.hset(place.key("agent:a1:state"), "status", "away")
    place.redis.set(place.key("policy:a0:v1"), b"new", px=600_000)
    place.redis.rpush(place.key("exp:a0:list"), json.dumps({"state": 2, "action": "new", "reward": 3}))
    place.redis.xadd(place.key("exp:a1:stream"), {"data": json.dumps({"state": 1, "action": "streamed", "reward": 7})})
    state.q_values["a0", "s:3", "left"] = 99.0
    state.q_values["a0", "s:3", "down"] = 4.0

    def has_arrived() -> bool:
        found = Counter(
            action for (action,) in place.rows("SELECT action FROM rl_experiences WHERE action IN ('new', 'streamed')")
        )
        status = place.rows("SELECT value->>'status' FROM rl_agent_metadata WHERE agent_id = 'a1'")
        left = place.rows(
            "SELECT q_value FROM rl_q_values WHERE agent_id = 'a0' AND state = 's:3' AND action IN ('left', 'down')"
        )
        expires = place.rows("SELECT 1 FROM rl_policies WHERE payload = 'new' AND expires_at IS NOT NULL")
        return (
            found == {"new": 1, "streamed": 1} and status == [("away",)] and sorted(left) == [(4.0,), (99.0,)] and bool(expires)
        )

    eventually(has_arrived)
    rows = place.count("experiences")
    place.redis.ltrim(place.key("exp:a0:list"), 4, -1)
    place.redis.delete(place.key("q:a1:s:0"))
    place.redis.pexpire(place.key("exp:a1:stream"), 1)
    place.redis.rpush(place.key("exp:a0:list"), json.dumps({"state": 2, "action": "last", "reward": 3}))
    eventually(lambda: place.rows("SELECT count(*) FROM rl_experiences WHERE action = 'last'") == [(1,)])
    found = ended(following)
    assert place.count("experiences") == rows + 1, "what Redis has no more is history"
    assert place.rows("SELECT count(*) FROM rl_q_values WHERE agent_id = 'a1' AND state = 's:0'") != [(0,)]
    followed = found.data["followed"]
    assert followed["read"] > 0 if told else (followed["passes"] > 0 and not followed["read"])
    assert (FLAGS in found.err) is not told


def test_what_a_lost_connection_did_not_tell_of_is_found(place: AgentPlace) -> None:
    """The subscription is cut while keys change: everything is read again at once, long before the next re-scan is due."""
    place.redis.config_set(FLAGS, "KA")
    state = fill(place, agents=1, each=5, unfit=False)
    following = place.start("migrate-agentdb", "--follow", "--rescan-secs", "600", "--format", "json")
    eventually(lambda: bool(subscribed(place)))
    with place.redis.pipeline() as pipe:
        for one in subscribed(place):
            pipe.execute_command("CLIENT", "KILL", "ID", one["id"])
        pipe.hset(place.key("q:a0:s:0"), "left", "77")
        pipe.execute()
    state.q_values["a0", "s:0", "left"] = 77.0
    eventually(lambda: place.rows("SELECT q_value FROM rl_q_values WHERE state = 's:0' AND action = 'left'") == [(77.0,)])
    ended(following)
    assert_equal(place, state)
