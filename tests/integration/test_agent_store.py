"""The library of agent state on a real Redis and PostgreSQL: every mode, the changes between them, both sides afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

import segue
from acceptance.agent_place import agent_place
from acceptance.agent_room import Room, agent_room, eventually, experience
from acceptance.agent_state import MAPPINGS
from segue.bootstrap.agent_library import open_handover
from segue.cli import app
from segue.config import load
from segue.errors import GateClosed, ModeRefused, SegueError
from segue.model import AgentGate, AgentMode
from segue.phases.agent_cutover import change_mode
from segue.sandbox import Endpoint


@pytest.fixture
def room(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Keys and a schema of the test's own, and the library's environment."""
    with agent_room(tmp_path, agent_endpoints, monkeypatch) as found:
        yield found


def test_what_is_pending_before_postgresql_has_its_tables(
    agent_endpoints: Mapping[str, Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is, on either side, and asking is no error: in `redis_only` nothing was ever made there."""
    with agent_place(tmp_path, agent_endpoints) as place:
        place.configure(MAPPINGS)
        for name in ("REDIS_URL", "DATABASE_URL"):
            monkeypatch.setenv(name, place.environment()[name])
        with segue.connect_agents(place.folder / "segue.toml", registry=CollectorRegistry()) as store:
            assert store.pending() == segue.AgentBacklog(to_postgres=0, refused=0, to_redis=0, oldest_seconds=0.0)


def test_redis_only_keeps_the_applications_own_form(room: Room) -> None:
    """What is written are the keys that the mappings say, readable by old code, and nothing goes to PostgreSQL."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with room.store() as store:
        store.append(experience(0.5, next_state={"n": 1}, done=False, timestamp=at), agent_id="a")
        store.put_q_values("a", "s", {"left": 1.5, "right": 2})
        store.save_policy("a", payload=b"\x00\xff", version="v1", lifetime=60)
        store.put_metadata("a", {"status": "busy"})
        (held,) = room.place.redis.lrange(room.place.key("exp:a:list"), 0, -1)  # type: ignore[misc]
        assert json.loads(held) == {
            "state": [0.5],
            "action": "left",
            "reward": 0.5,
            "next_state": {"n": 1},
            "done": False,
            "ts": at.timestamp(),
        }
        assert room.q_in_redis("s") == {"left": 1.5, "right": 2}
        assert room.place.redis.get(room.place.key("policy:a:v1")) == b"\x00\xff"
        assert 50_000 < room.place.redis.pttl(room.place.key("policy:a:v1")) <= 60_000  # type: ignore[operator]
        assert room.place.redis.hgetall(room.place.key("agent:a:state")) == {b"status": b"busy"}
        assert store.mode == "redis_only"
        assert store.pending().to_postgres == 0
    assert room.place.count("experiences") == 0


@pytest.mark.parametrize("mode", ["redis_only", "dual_write", "shadow", "postgres"])
def test_every_mode_gives_back_what_was_written(room: Room, mode: str) -> None:
    """The same calls give the same answers in every mode, deleted values included."""
    room.step_up(mode)
    at = datetime(2026, 3, 1, 1, 2, 3, 250_000, tzinfo=UTC)
    with room.store() as store:
        given = [experience(n / 4, next_state={"é": n}, done=n == 3, timestamp=at) for n in range(4)]
        store.append(given, agent_id="a")
        store.append(experience(9.0), agent_id="other")
        store.put_q_values("a", "s", {"left": 1, "right": 2})
        store.put_q_values("a", "s", {"left": 3})
        store.delete_q_value("a", "s", "right")
        store.save_policy("a", payload=b"old", version="v1")
        store.save_policy("a", payload=b"\x00new", version="v1")
        store.save_policy("a", payload=b"gone", version="v2")
        store.delete_policy("a", version="v2")
        store.put_metadata("a", {"status": "busy", "room": "x"})
        store.put_metadata("a", {"status": "free"})

        drawn = store.sample(3, agent_id="a")
        assert len({one.reward for one in drawn}) == 3
        assert sorted(store.sample(10, agent_id="a"), key=lambda one: one.reward or 0) == [
            segue.Experience([n / 4], "left", n / 4, {"é": n}, n == 3, at, "a") for n in range(4)
        ]
        assert store.q_values("a", "s") == {"left": 3.0}
        assert (store.q_value("a", "s", "left"), store.q_value("a", "s", "right", 0.5)) == (3.0, 0.5)
        assert store.q_values("a", "unknown") == {}
        policy = store.load_policy("a", version="v1")
        assert policy is not None
        assert (policy.agent_id, policy.version, policy.payload) == ("a", "v1", b"\x00new")
        assert store.load_policy("a", version="v2") is None
        assert store.metadata("a") == {"status": "free"}
        assert store.metadata("nobody") is None
        store.delete_metadata("a")
        assert store.metadata("a") is None


def test_arguments_that_do_not_fit_write_nothing(room: Room) -> None:
    """A missing column, a pickle, bytes for JSON, no agent: each is an error, and both stores stay as they are."""
    room.step_up("dual_write")
    with room.store(drain=False) as store:
        for wrong in (
            lambda: store.append(experience(1.0)),
            lambda: store.append([experience(1.0), segue.Experience(state=float("nan"), action="x", reward=1)], agent_id="a"),
            lambda: store.append(segue.Experience(state=1, action="x" * 101, reward=1), agent_id="a"),
            lambda: store.save_policy("a", payload=b"\x80\x04K\x01.", version="v"),
            lambda: store.save_policy("a", payload=b"x"),
            lambda: store.put_metadata("a", ["no object"]),
            lambda: store.put_q_values("a", "s", {"left": 1, "": 2}),
            lambda: store.sample(1),
            lambda: store.sample(0, agent_id="a"),
        ):
            with pytest.raises(segue.InvalidInput):
                wrong()
        assert store.pending().to_postgres == 0
    assert not list(room.place.redis.scan_iter(f"{room.place.prefix}*"))


def test_dual_write_is_what_a_copy_would_have_made(room: Room) -> None:
    """Rows that came through the outbox have the names and contents of a copy: a copy writes nothing, equals included."""
    room.step_up("dual_write")
    same = experience(1.0, timestamp=datetime(2026, 3, 1, tzinfo=UTC))
    with room.store() as store:
        store.append([same, same, experience(2.0), same], agent_id="a")
        store.append(same, agent_id="a")
        store.put_q_values("a", "s", {"left": 0.1, "right": -2})
        store.save_policy("a", payload=b"x", version="v1")
        store.put_metadata("a", {"b": "2", "a": "1"})
        room.settled()
    assert room.rewards_in_postgres("a") == {1.0: 4, 2.0: 1}
    copied = room.place.migrate()
    assert copied.code == 0, copied.err
    assert sum(kind["written"] for kind in copied.data["kinds"].values()) == 0
    assert copied.data["counts"]["migrated"] == 5 + 2 + 1 + 1


def test_what_was_deleted_is_not_brought_back_by_a_copy(room: Room) -> None:
    """A row that was read before its deletion and written after it stays away; one written later than that comes."""
    room.step_up("dual_write")
    with room.store() as store:
        store.put_q_values("a", "s", {"left": 1, "right": 2})
        room.settled()
        layout = next(one for one in room.sides.layouts if one.mapping.key.endswith("q:{agent_id}:{state}"))
        piece = room.sides.redis.read(room.place.key("q:a:s").encode(), layout.mapping.type)
        assert piece is not None
        late = layout.rows(piece)
        store.delete_q_value("a", "s", "left")
        room.settled()
        room.sides.postgres.write(late)
        assert room.q_in_postgres("s") == {"right": 2}
        store.put_q_values("a", "s", {"left": 3})
        room.settled()
        assert room.q_in_postgres("s") == {"left": 3, "right": 2}


_WRITER = """
    import sys, segue
    store = segue.connect_agents("segue.toml", drain=False)
    n = 0
    while True:
        store.append(segue.Experience(state=n, action="x", reward=n), agent_id="a")
        print(n, flush=True)
        n += 1
"""


def test_a_kill_between_the_two_writes_loses_nothing(room: Room) -> None:
    """Writers are killed with -9 at any instruction: whatever Redis has, PostgreSQL gets, each exactly once."""
    room.step_up("dual_write")
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WRITER)],
            cwd=room.place.folder,
            env=room.place.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        with writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(150)]
            os.kill(writer.pid, signal.SIGKILL)
            told += writer.stdout.readlines()
    held = room.rewards_in_redis("a")
    assert room.place.count("experiences") == 0
    with room.store():
        room.settled()
    assert room.rewards_in_postgres("a") == held
    assert held.total() >= 300


def test_a_kill_between_postgres_and_the_outbox_doubles_nothing(room: Room) -> None:
    """Entries that PostgreSQL has and that were not settled are applied again: the rows stay as they are."""
    room.step_up("dual_write")
    same = experience(1.0, timestamp=datetime(2026, 3, 1, tzinfo=UTC))
    with room.store(drain=False) as store:
        store.append([same, same], agent_id="a")
        store.put_q_values("a", "s", {"left": 1})
        store.put_q_values("a", "s", {"left": 2})
    entries = room.sides.redis.outbox(100)
    with room.store():
        room.settled()
    before = room.place.rows(
        "SELECT id, natural_key, xmin FROM rl_experiences UNION ALL SELECT id, natural_key, xmin FROM rl_q_values"
    )
    outbox = next(iter(room.place.redis.scan_iter(f"segue:agentdb:{room.place.schema}:outbox")))
    for one in entries:
        fields = {"kind": one.kind, "key": one.key, "element": one.element, "at": one.noted.observed_at, "expires": ""}
        room.place.redis.xadd(outbox, {**fields, "equals": one.noted.equals, "stream": "", "score": "", "removed": ""})
    with room.store():
        room.settled()
    assert (
        room.place.rows(
            "SELECT id, natural_key, xmin FROM rl_experiences UNION ALL SELECT id, natural_key, xmin FROM rl_q_values"
        )
        == before
    )
    assert room.q_in_postgres("s") == {"left": 2}


def test_entries_that_postgres_refuses_are_kept_aside(room: Room) -> None:
    """One bad entry among good ones: the good ones arrive, the bad one is kept with the reason and counted."""
    room.step_up("dual_write")
    with room.store(drain=False) as store:
        store.append(experience(1.0), agent_id="a")
        outbox = f"segue:agentdb:{room.place.schema}:outbox"
        ((_, entry),) = room.place.redis.xrange(outbox)  # type: ignore[misc]
        room.place.redis.xadd(outbox, {**entry, b"element": b"\xc4\x03not"})
        store.append(experience(2.0), agent_id="a")
    with room.store() as store:
        room.settled()
        assert store.pending().refused == 1
    assert room.rewards_in_postgres("a") == {1.0: 1, 2.0: 1}
    ((_, kept),) = room.place.redis.xrange(f"segue:agentdb:{room.place.schema}:refused")  # type: ignore[misc]
    assert b"no JSON" in kept[b"why"]


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> Iterator[None]:
    """Let an address lead nowhere."""
    with monkeypatch.context() as patched:
        patched.setenv(name, value)
        yield


def test_without_postgres_agents_go_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened and used while PostgreSQL is away: the gate in Redis says the mode, writes take no longer, and arrive later."""
    room.step_up("dual_write")
    with away(monkeypatch, "DATABASE_URL", "postgresql://nobody:no@127.0.0.1:9/none"), room.store() as store:
        assert store.mode == "dual_write"
        began = time.monotonic()
        for n in range(100):
            store.append(experience(float(n)), agent_id="a")
        assert time.monotonic() - began < 2.0
        assert store.pending().to_postgres == 100
        assert store.pending().to_redis is None
    with room.store():
        room.settled()
    assert room.rewards_in_postgres("a") == {float(n): 1 for n in range(100)}


def test_without_redis_agents_go_on_in_postgres(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened and used while Redis is away: PostgreSQL alone serves, and what it got is replayed on the way back."""
    room.step_up("postgres")
    with away(monkeypatch, "REDIS_URL", f"redis://127.0.0.1:9/{room.place.db}"), room.store(drain=False) as store:
        began = time.monotonic()
        for n in range(30):
            store.append(experience(float(n)), agent_id="a")
        store.put_q_values("a", "s", {"left": 1})
        assert len(store.sample(50, agent_id="a")) == 30
        assert time.monotonic() - began < 5.0
    changed = room.change("redis_only")
    assert changed.replayed == 31
    assert room.rewards_in_redis("a") == {float(n): 1 for n in range(30)}
    assert room.q_in_redis("s") == {"left": 1}


def test_modes_change_beneath_writers_and_both_sides_agree(room: Room) -> None:
    """Forward to postgres, back with a replay, and forward again, with writers running: each write is on both sides, once."""
    room.step_up("dual_write")
    stop, faults = threading.Event(), []
    written: list[list[float]] = [[], [], []]

    def write(place: int, store: segue.AgentStateStore) -> None:
        n = 0
        try:
            while not stop.is_set():
                n += 1
                reward = float(place * 1_000_000 + n)
                store.append(experience(reward), agent_id="a")
                store.put_q_values("a", f"s{place}", {"left": reward, "right": -reward})
                written[place].append(reward)
                # A drain need not keep up with writers that never pause.
                time.sleep(0.002)
        except BaseException as fault:
            faults.append(fault)
            raise

    stores = [room.store() for _ in written]
    threads = [threading.Thread(target=write, args=(place, store)) for place, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    try:
        for mode in ("shadow", "postgres", "shadow", "postgres", "dual_write"):
            time.sleep(0.4)
            counts = [len(one) for one in written]
            # The gate before a change is open when the drain has nearly caught up.
            eventually(lambda: room.sides.redis.waiting()[0] < 300)
            assert room.change(mode).control.mode == mode
            eventually(lambda counts=counts: all(len(one) > before for one, before in zip(written, counts, strict=True)))  # type: ignore[misc]
        time.sleep(0.4)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        room.settled()
        for store in stores:
            store.close()
    assert not faults
    expected = Counter(reward for one in written for reward in one)
    assert room.rewards_in_redis("a") == expected
    assert room.rewards_in_postgres("a") == expected
    for place, one in enumerate(written):
        assert room.q_in_redis(f"s{place}") == room.q_in_postgres(f"s{place}") == {"left": one[-1], "right": -one[-1]}
    copied = room.place.migrate()
    assert copied.code == 0, copied.err
    assert sum(kind["written"] for kind in copied.data["kinds"].values()) == 0


def test_nothing_from_redis_goes_over_what_postgres_has_first(room: Room) -> None:
    """In `postgres` a copy and a repair are refused, with exit code 5, and a row that is newer there stays as it is."""
    room.step_up("dual_write")
    with room.store() as store:
        store.put_q_values("a", "s", {"left": 1})
        room.settled()
        room.step_up("postgres")
        store.put_q_values("a", "s", {"left": 2})
    copied = room.place.migrate()
    assert (copied.code, "PostgreSQL first" in copied.err) == (5, True), copied.err
    assert room.q_in_postgres("s") == {"left": 2}
    room.change("shadow")
    assert room.place.migrate().code == 0
    assert room.q_in_postgres("s") == room.q_in_redis("s") == {"left": 2}


def test_an_instance_that_missed_the_change_cannot_write_to_redis(room: Room) -> None:
    """The gate bars whoever still believes in Redis, also when he cannot ask PostgreSQL; nothing of his is written."""
    room.step_up("dual_write")
    with room.store(drain=False) as store:
        layout = room.sides.layouts[0]
        store.append(experience(1.0), agent_id="a")
        room.step_up("postgres")
        held = room.rewards_in_redis("a")
        with pytest.raises(GateClosed):
            room.sides.redis.write([_write(room, 2.0)])
        assert room.rewards_in_redis("a") == held
        store.append(experience(3.0), agent_id="a")
        assert room.rewards_in_postgres("a") == {1.0: 1, 3.0: 1}
    room.change("shadow")
    with pytest.raises(GateClosed):
        room.sides.postgres.put([_write(room, 4.0)], lambda write, noted: layout.row(write.key, write.element, 0, noted), 0)
    assert room.rewards_in_postgres("a") == room.rewards_in_redis("a") == {1.0: 1, 3.0: 1}


def _write(room: Room, reward: float) -> Any:
    from segue.model import AgentKind, AgentRecord  # noqa: PLC0415

    values = {"agent_id": "a", "state": [reward], "action": "left", "reward": reward}
    return room.sides.layouts[0].write(AgentRecord(AgentKind.EXPERIENCES, values), room.place.db)


def test_a_change_whose_author_died_is_called_off(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate closed, its author killed: instances open it again, their writers lose nothing, and he cannot go on later."""
    monkeypatch.setattr("segue.traffic.agent_follower.STALL_SECONDS", 1.0)
    room.step_up("dual_write")
    seen = room.sides.postgres.control()
    with room.store() as store:
        room.sides.redis.carry(AgentGate(seen.epoch + 1, None))
        store.append(experience(1.0), agent_id="a")
        room.settled()
    late = room.sides.postgres.change(seen, AgentMode.POSTGRES, epoch=seen.epoch + 1, is_open=True, reason="late")
    assert late is None
    assert room.sides.postgres.control().mode == "dual_write"
    assert room.rewards_in_redis("a") == room.rewards_in_postgres("a") == {1.0: 1}


def test_a_way_back_that_was_killed_is_completed(room: Room) -> None:
    """Killed behind the control row, and killed behind a replay: the same command completes it, nothing is written twice."""
    room.step_up("postgres")
    with room.store() as store:
        store.append([experience(float(n)) for n in range(5)], agent_id="a")
    control = room.sides.postgres.control()
    assert room.sides.postgres.change(control, AgentMode.SHADOW, epoch=control.epoch + 1, is_open=False, reason="killed")
    room.sides.redis.replay(room.sides.postgres.only_here(3))
    assert room.rewards_in_redis("a").total() == 3
    changed = room.change("shadow")
    assert changed.control.open
    assert room.rewards_in_redis("a") == {float(n): 1 for n in range(5)}
    with room.store() as store:
        store.append(experience(9.0), agent_id="a")
        room.settled()
    assert room.rewards_in_postgres("a")[9.0] == 1


@pytest.mark.parametrize("denied", ["keys", "gate", "command"])
def test_a_way_back_by_an_account_that_may_not_write_changes_nothing(room: Room, denied: str) -> None:
    """It is refused before anything is closed, and says what is missing: agents go on in PostgreSQL meanwhile."""
    room.step_up("postgres")
    own, gate = f"{room.place.prefix}*", "segue:*"
    rights = {
        "keys": [f"~{gate}", f"%R~{own}", "+@all"],
        "gate": [f"~{own}", f"%R~{gate}", "+@all"],
        "command": [f"~{own}", f"~{gate}", "+@all", "-rpush"],
    }[denied]
    user, secret = f"u{room.place.prefix[1:-1]}", "not-a-secret"
    room.place.redis.execute_command("ACL", "SETUSER", user, "on", f">{secret}", *rights, "-@admin")
    address = room.place.environment()["REDIS_URL"].rpartition("@")[2]
    with room.store() as store:
        store.append(experience(1.0), agent_id="a")
        command = ("rollback", "--agentdb", "--replay", "--confirm", "--reason", "a test")
        ended = room.place.segue(*command, REDIS_URL=f"redis://{user}:{secret}@{address}")
        room.place.redis.execute_command("ACL", "DELUSER", user)
        assert ended.code == 1, ended.err
        assert ("say RPUSH of" if denied == "command" else "no permissions to access one of the keys") in ended.err
        assert "nothing was changed" in ended.err
        assert "Traceback" not in ended.err
        control = room.sides.postgres.control()
        assert (control.mode, control.open) == (AgentMode.POSTGRES, True)
        store.append(experience(2.0), agent_id="a")
    assert room.change("redis_only").replayed == 2
    assert room.rewards_in_redis("a") == room.rewards_in_postgres("a") == {1.0: 1, 2.0: 1}


def test_a_way_back_without_replay_leaves_redis_alone(room: Room) -> None:
    """On request Redis stays as it was, and what it lacks is counted; later writes prevail on both sides."""
    room.step_up("dual_write")
    with room.store() as store:
        store.put_q_values("a", "s", {"left": 1})
        room.settled()
        room.step_up("postgres")
        store.put_q_values("a", "s", {"left": 2})
        changed = room.change("redis_only", replay=False)
        assert (changed.left, changed.replayed) == (1, 0)
        assert room.q_in_redis("s") == {"left": 1}
        room.change("dual_write")
        store.put_q_values("a", "s", {"left": 3})
        room.settled()
    assert room.q_in_redis("s") == room.q_in_postgres("s") == {"left": 3}


def test_shadow_reads_count_what_differs(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """What both hold alike is counted as equal, a row changed behind the library's back as different; the answer is Redis's."""
    monkeypatch.setattr("segue.traffic.agent_shadow.GRACE_SECONDS", 0.1)
    room.place.configure(MAPPINGS, "[agentdb]\nshadow_rate = 1.0\n")
    room.step_up("shadow")
    registry = CollectorRegistry()

    def counted(outcome: str) -> float:
        return registry.get_sample_value("segue_agent_shadow_rows_total", {"collection": "agentdb", "outcome": outcome}) or 0

    with segue.connect_agents(room.config, registry=registry) as store:
        store.put_q_values("a", "s", {"left": 1, "right": 2})
        room.settled()
        assert store.q_values("a", "s") == {"left": 1, "right": 2}
        eventually(lambda: counted("equal") == 2)
        room.place.redis.hset(room.place.key("q:a:s"), "left", "7")
        assert store.q_values("a", "s") == {"left": 7, "right": 2}
        eventually(lambda: counted("different") == 1)


def test_gates_are_closed_until_they_hold(room: Room) -> None:
    """Without a copy no shadow, without a clean comparison of this epoch no postgres, no mode is skipped."""
    with open_handover(load(room.config), room, lambda _: False, seconds=1) as (hand, facts):
        with pytest.raises(ModeRefused, match="next mode is dual_write"):
            change_mode(hand, AgentMode.POSTGRES, facts)
        change_mode(hand, AgentMode.DUAL_WRITE, facts)
        with pytest.raises(ModeRefused, match="gate copy is closed"):
            change_mode(hand, AgentMode.SHADOW, facts)
    assert room.place.migrate().code == 0
    assert (room.place.folder / "segue-state.db").exists()
    (room.place.folder / "segue-state.db").rename(room.place.folder / "state.db")
    with open_handover(load(room.config), room, lambda _: False, seconds=1) as (hand, facts):
        assert change_mode(hand, AgentMode.SHADOW, facts).control.mode == "shadow"
        with pytest.raises(ModeRefused, match="validation is closed: both sides were never compared"):
            change_mode(hand, AgentMode.POSTGRES, facts)
        room.sides.postgres.validated(clean=True, detail="")
        assert change_mode(hand, AgentMode.POSTGRES, facts).control.mode == "postgres"


def test_lists_are_trimmed_and_their_history_stays(room: Room) -> None:
    """`most` and `push`: Redis keeps so many at that end, PostgreSQL keeps all, and samples of both draw from the newest."""
    room.place.configure(MAPPINGS.replace('type = "list"', 'type = "list"\npush = "left"\nmost = 10', 1))
    room.step_up("dual_write")
    with room.store() as store:
        store.append([experience(float(n)) for n in range(30)], agent_id="a")
        room.settled()
        assert room.rewards_in_redis("a") == {float(n): 1 for n in range(20, 30)}
        assert room.place.count("experiences") == 30
        assert {one.reward for one in store.sample(50, agent_id="a")} == {float(n) for n in range(20, 30)}
        room.step_up("postgres")
        assert {one.reward for one in store.sample(50, agent_id="a")} == {float(n) for n in range(20, 30)}


def test_asyncio(room: Room) -> None:
    """The same words, awaited."""

    async def use() -> None:
        async with await segue.connect_agents_async(room.config, registry=CollectorRegistry()) as store:
            await store.append(experience(1.0), agent_id="a")
            await store.put_q_values("a", "s", {"left": 1})
            assert await store.q_values("a", "s") == {"left": 1}
            assert [one.reward for one in await store.sample(5, agent_id="a")] == [1.0]
            assert (await store.pending()).to_postgres == 0
            assert store.mode == "redis_only"

    asyncio.run(use())


def test_the_command_line_goes_forward_and_back(room: Room) -> None:
    """`mode show|set --agentdb`, `rollback --agentdb`: closed gates, overrides, nothing without --confirm, replay."""

    def ran(*arguments: str) -> tuple[int, Any]:
        ended = CliRunner().invoke(app, [*arguments, "--config", str(room.config), "--format", "json"])
        code = ended.exception.exit_code if isinstance(ended.exception, SegueError) else ended.exit_code
        return code, json.loads(ended.stdout) if ended.stdout else {}

    def mode(*arguments: str) -> tuple[int, Any]:
        return ran("mode", *arguments, "--agentdb")

    assert mode("show")[1]["next"]["mode"] == "dual_write"
    assert mode("set", "dual_write")[1]["before"] == "redis_only"
    code, refused = mode("set", "shadow")
    assert (code, refused["status"]) == (5, "refused")
    assert [gate["name"] for gate in refused["next"]["gates"] if not gate["holds"]] == ["copy"]
    assert mode("set", "hybrid")[0] == 2
    assert ran("mode", "set", "postgres")[0] == 2
    assert mode("set", "shadow", "--override", "copy")[0] == 5, "an override needs a reason"
    assert mode("set", "shadow", "--dry-run")[1]["mode"] == "dual_write"
    assert mode("set", "shadow", "--override", "copy", "--reason", "a test")[0] == 0
    assert (
        mode("set", "postgres", "--override", "copy", "--override", "validation", "--reason", "a test")[1]["mode"] == "postgres"
    )
    with room.store() as store:
        store.append(experience(1.0), agent_id="a")

    def rollback(*arguments: str) -> tuple[int, Any]:
        return ran("rollback", "--agentdb", *arguments)

    assert rollback("--confirm")[0] == 5, "replay or leave must be said"
    assert rollback("--replay")[0] == 5, "nothing is done without --confirm"
    assert rollback("--confirm", "--replay", "--leave")[0] == 2
    assert rollback("--dry-run")[1]["only_in_postgres"] == 1
    assert not room.rewards_in_redis("a")
    code, back = rollback("--confirm", "--replay")
    assert (code, back["mode"], back["replayed"]) == (0, "redis_only", 1)
    assert room.rewards_in_redis("a") == {1.0: 1}
    assert rollback("--confirm")[0] == 0


STREAM = """
[[agentdb.mappings]]
kind = "experiences"
key = "PREFIXexp:all"
type = "stream"
encoding = "json"
document = "data"
columns = { agent_id = "json:/agent", state = "json:/state", action = "json:/action", reward = "json:/reward", timestamp = "stream-time" }

[[agentdb.mappings]]
kind = "q_values"
key = "PREFIXqz:{agent_id}"
type = "zset"
encoding = "raw"
member = "{state}|{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "score" }
"""  # noqa: E501  # as a user writes it


def test_streams_and_zsets_go_both_ways(room: Room) -> None:
    """One stream for all agents, Q-values as scores: through the outbox and back by a replay, the rows are those of a copy."""
    room.place.configure(STREAM)
    room.step_up("dual_write")
    with room.store() as store:
        store.append([experience(float(n), agent_id="a") for n in range(3)])
        store.put_q_values("a", "s", {"left": 1.5, "right": -2e30})
        room.settled()
        room.step_up("postgres")
        store.append([experience(float(n), agent_id="b") for n in range(3, 6)])
        store.append(experience(6.0, agent_id="c"))
        store.put_q_values("a", "s", {"left": 2.25})
        assert {one.reward for one in store.sample(10)} == {float(n) for n in range(7)}
        room.change("shadow")
        assert store.q_values("a", "s") == {"left": 2.25, "right": -2e30}
        eventually(lambda: store.mode == "shadow")
        assert {one.reward for one in store.sample(10)} == {float(n) for n in range(7)}
        assert store.q_value("a", "s", "left") == 2.25
    held: list[Any] = room.place.redis.xrange(room.place.key("exp:all"))  # type: ignore[assignment]
    assert [json.loads(fields[b"data"])["reward"] for _, fields in held] == [float(n) for n in range(7)]
    copied = room.place.migrate()
    assert copied.code == 0, copied.err
    assert room.place.count("experiences") == 7
    assert room.place.count("q_values") == 2


def test_the_way_back_without_postgresql(room: Room) -> None:
    """While PostgreSQL is away the command says what Redis lets through; with an empty one in its place Redis is opened."""
    away = "postgresql://u:p@127.0.0.1:1/none"
    room.step_up("dual_write")
    waiting = room.place.segue("rollback", "--agentdb", "--confirm", DATABASE_URL=away)
    assert waiting.code == 1
    assert "agents write Redis first" in waiting.out
    assert "Nothing is held up" in waiting.err
    room.change("shadow")
    room.change("postgres")
    barred = room.place.segue("rollback", "--agentdb", "--leave", "--confirm", DATABASE_URL=away)
    assert barred.code == 1
    assert "PostgreSQL is written first" in barred.out
    assert "Bring PostgreSQL back first" in barred.err
    gate = room.sides.redis.gate()
    assert gate is not None
    assert gate.mode is None

    room.place.postgres.execute(f"DROP SCHEMA {room.place.schema} CASCADE")
    room.place.postgres.execute(f"CREATE SCHEMA {room.place.schema}")
    opened = room.place.segue("mode", "set", "redis_only", "--agentdb")
    assert opened.code == 0, opened.err
    with room.store() as store:
        store.put_q_values("a", "s", {"left": 1.0})
    assert room.q_in_redis("s") == {"left": 1.0}


def test_what_was_removed_is_forgotten_in_time(room: Room) -> None:
    """Removals that nobody can bring back any more are not remembered for ever; later ones are."""
    room.place.postgres.execute(
        "INSERT INTO segue_agentdb_gone VALUES (gen_random_uuid(), now() - interval '8 days'), "
        "(gen_random_uuid(), now() - interval '6 days')"
    )
    room.step_up("dual_write")
    with room.store() as store:
        store.put_q_values("a", "s", {"left": 1.0})
        store.delete_q_value("a", "s", "left")
        room.settled()
    assert room.place.rows(
        "SELECT count(*), count(*) FILTER (WHERE observed_at < now() - interval '7 days') FROM segue_agentdb_gone"
    ) == [(2, 0)]
