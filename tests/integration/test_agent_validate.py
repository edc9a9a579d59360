"""`validate --agentdb`: every kind of difference is found and named, history is none, and a repair makes both sides equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from acceptance.agent_place import AgentPlace, agent_place
from acceptance.agent_state import MAPPINGS, AgentState, assert_equal, fill
from acceptance.workplace import Ended
from segue.sandbox import Endpoint


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own."""
    with agent_place(tmp_path, agent_endpoints) as found:
        found.configure(MAPPINGS)
        yield found


@pytest.fixture
def copied(place: AgentPlace) -> AgentState:
    """What was put in and copied."""
    state = fill(place, agents=2, each=20)
    assert place.migrate().code == 0
    return state


def validate(place: AgentPlace, *arguments: str) -> Ended:
    """Compare, and return the result."""
    return place.segue("validate", "--agentdb", "--format", "json", *arguments)


def test_equal_sides_are_clean(place: AgentPlace, copied: AgentState) -> None:
    """Everything that can go is compared value by value; both digests are equal; what cannot go is counted, not missed."""
    full = validate(place, "--full")
    assert full.code == 0, full.err
    (told,) = full.data["collections"]
    assert told["counts"] == dict.fromkeys(told["counts"], 0) | {"compared": copied.fit, "matched": copied.fit}
    assert (told["clean"], told["rate"], told["quarantined"]) == (True, 1.0, copied.unfit.total())
    assert told["digests"]["source"] == told["digests"]["sink"]
    sampled = validate(place, "--sample-size", "30")
    assert sampled.code == 0, sampled.err
    assert sampled.data["collections"][0]["keys"] == 30
    assert 0.09 < sampled.data["collections"][0]["bound"] < 0.1


def test_every_difference_is_found_and_repaired(place: AgentPlace, copied: AgentState) -> None:
    """Rows that are missing, or changed in any column behind the hash's back: found, named, and made equal by `--fix`."""
    place.postgres.execute("DELETE FROM rl_experiences WHERE agent_id = 'a0' AND action = '3'")
    ((gone,),) = place.rows("SELECT %s - count(*) FROM rl_experiences", copied.experiences.total())
    place.postgres.execute("UPDATE rl_q_values SET q_value = q_value + 1e-12 WHERE agent_id = 'a1' AND state = 'z7'")
    place.postgres.execute("UPDATE rl_experiences SET next_state = '{}' WHERE agent_id = 'a1' AND action = 'same'")
    place.postgres.execute("UPDATE rl_policies SET payload = '\\x00' WHERE agent_id = 'a0'")

    full = validate(place, "--full", "--threshold", "1")
    assert full.code == 4
    (told,) = full.data["collections"]
    assert (told["counts"]["missing"], told["counts"]["mismatched"]) == (gone, 1 + 3 + 1)
    columns = {(one["kind"], one["columns"]) for one in told["differences"] if one["way"] == "differs"}
    assert columns == {("q_values", "q_value"), ("experiences", "next_state"), ("policies", "payload")}
    dry = validate(place, "--full", "--fix", "--dry-run", "--threshold", "1")
    assert dry.data["collections"][0]["counts"] == told["counts"]

    fixed = validate(place, "--full", "--fix", "--threshold", "1")
    assert fixed.code == 0, fixed.err
    assert fixed.data["collections"][0]["counts"]["repaired"] == gone + 5
    assert_equal(place, copied)
    assert validate(place, "--full", "--threshold", "1").data["collections"][0]["clean"]


def test_what_redis_has_no_more_is_history_unless_it_is_to_be_mirrored(place: AgentPlace, copied: AgentState) -> None:
    """Deleted, trimmed: kept and counted by default; of a mapping that mirrors they are orphaned, and `--fix` deletes them."""
    place.redis.delete(place.key("q:a0:s:1"))
    place.redis.hdel(place.key("q:a0:s:2"), "left")
    place.redis.ltrim(place.key("exp:a0:list"), 4, -1)
    place.postgres.execute("INSERT INTO rl_q_values (agent_id, state, action, q_value) VALUES ('own', 's', 'a', 1)")
    full = validate(place, "--full", "--threshold", "1")
    assert full.code == 0, full.err
    assert full.data["collections"][0]["history"] == {"experiences": 4, "q_values": 3, "policies": 0, "metadata": 0}

    mirroring = MAPPINGS.replace(
        'key = "PREFIXq:{agent_id}:{state}"', 'key = "PREFIXq:{agent_id}:{state}"\ndeletions = "mirror"'
    )
    place.configure(mirroring)
    found = validate(place, "--full", "--threshold", "1")
    assert found.code == 4
    (told,) = found.data["collections"]
    assert told["counts"]["orphaned"] == 3
    assert told["history"]["q_values"] == 0
    assert validate(place, "--full", "--fix", "--threshold", "1").code == 0
    del copied.q_values["a0", "s:1", "left"], copied.q_values["a0", "s:1", "right"], copied.q_values["a0", "s:2", "left"]
    copied.q_values["own", "s", "a"] = 1.0
    assert_equal(place, copied)


def test_without_tables_the_way_to_them_is_shown(place: AgentPlace) -> None:
    """Before anything was copied there is nothing to compare with, and the command that copies is named."""
    ended = validate(place)
    assert ended.code == 2
    assert "segue migrate-agentdb" in ended.err
