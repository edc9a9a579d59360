"""PostgreSQL comes back from a backup while agents use the library: docs/operations.md says how both are made equal again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from acceptance.agent_place import AgentPlace
from acceptance.agent_room import Room, agent_room, experience
from segue.model import AgentMode
from segue.sandbox import Endpoint


@pytest.fixture
def room(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Keys and a schema of the test's own, and the library's environment."""
    with agent_room(tmp_path, agent_endpoints, monkeypatch) as found:
        yield found


class Backup:
    """Every row of the schema's tables, as a backup has them."""

    def __init__(self, place: AgentPlace) -> None:
        self._place = place
        found = place.rows("SELECT tablename FROM pg_tables WHERE schemaname = %s", place.schema)
        self._tables = sorted(name for (name,) in found)
        for table in self._tables:
            place.postgres.execute(f"CREATE TEMPORARY TABLE backup_{table} AS TABLE {place.schema}.{table}")

    def restore(self) -> None:
        """Put everything back as it was."""
        with self._place.postgres.transaction():
            for table in self._tables:
                whole = f"{self._place.schema}.{table}"
                self._place.postgres.execute(f"TRUNCATE {whole}")
                self._place.postgres.execute(f"INSERT INTO {whole} OVERRIDING SYSTEM VALUE TABLE backup_{table}")


def append(room: Room, *rewards: float) -> None:
    """Let an agent learn, and everything arrive."""
    with room.store() as store:
        for reward in rewards:
            store.append(experience(reward), agent_id="a")
        room.settled()


def run(room: Room, *command: str) -> None:
    """Run a command to its good end."""
    ended = room.place.segue(*command)
    assert ended.code == 0, ended.err


def standing(room: Room) -> tuple[str, str]:
    """Return the mode of the control row, and that of the gate."""
    gate = room.sides.redis.gate()
    assert gate is not None
    return room.sides.postgres.control().mode.value, gate.mode.value if gate.mode else "closed"


def assert_equal(room: Room, *rewards: float) -> None:
    """Both stores hold these, each once, and a comparison says so too."""
    assert room.rewards_in_redis("a") == room.rewards_in_postgres("a") == dict.fromkeys(rewards, 1)
    run(room, "validate", "--agentdb", "--full", "--threshold", "1")


def test_from_a_backup_of_the_same_mode(room: Room) -> None:
    """Agents go on in PostgreSQL with what it has; the way back takes all of that to Redis."""
    room.step_up("dual_write")
    append(room, 1)
    room.step_up("postgres")
    append(room, 2)
    backup = Backup(room.place)
    append(room, 3)
    backup.restore()
    assert standing(room) == ("postgres", "closed")
    append(room, 4)
    run(room, "rollback", "--agentdb", "--replay", "--confirm")
    assert_equal(room, 1, 2, 4)


def test_from_a_backup_of_before_postgresql_came_first(room: Room) -> None:
    """The gate is still closed; setting the mode that the row names opens it, and a copy fetches what only Redis has."""
    room.step_up("shadow")
    append(room, 1)
    backup = Backup(room.place)
    append(room, 2)
    room.change("postgres")
    append(room, 3)
    backup.restore()
    assert standing(room) == ("shadow", "closed")
    run(room, "mode", "set", "shadow", "--agentdb")
    assert standing(room) == ("shadow", "shadow")
    append(room, 4)
    run(room, "migrate-agentdb")
    assert_equal(room, 1, 2, 4)
    room.change("postgres")
    append(room, 5)
    run(room, "rollback", "--agentdb", "--replay", "--confirm")
    assert_equal(room, 1, 2, 4, 5)


def test_from_a_backup_of_before_the_way_back(room: Room) -> None:
    """The row names PostgreSQL, the gate is open: leaving what PostgreSQL noted then doubles nothing in Redis, which has it."""
    room.step_up("postgres")
    append(room, 1)
    backup = Backup(room.place)
    run(room, "rollback", "--agentdb", "--replay", "--confirm")
    append(room, 2)
    backup.restore()
    assert standing(room) == ("postgres", "redis_only")
    run(room, "rollback", "--agentdb", "--leave", "--confirm")
    assert standing(room) == ("redis_only", "redis_only")
    append(room, 3)
    run(room, "migrate-agentdb")
    assert_equal(room, 1, 2, 3)
    assert room.sides.postgres.control().mode is AgentMode.REDIS_ONLY
