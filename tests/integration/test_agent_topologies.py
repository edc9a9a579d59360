"""Agent state from a cluster, from behind a Sentinel, over TLS and as a user who may only read: by the same command."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from acceptance.agent_place import AgentPlace, agent_place
from acceptance.redis_servers import PASSWORD, plain, servers
from acceptance.workplace import eventually
from segue.sandbox import Endpoint

MAPPING = """
[[agentdb.mappings]]
kind = "experiences"
key = "exp:{agent_id}"
type = "list"
encoding = "json"
columns = { agent_id = "part:agent_id", state = "json:/state", action = "json:/action", reward = "json:/reward" }

[[agentdb.mappings]]
kind = "policies"
key = "policy:{agent_id}"
type = "string"
encoding = "json"
columns = { agent_id = "part:agent_id", policy = "value" }
"""
EXPERIENCE = json.dumps({"state": 1, "action": "a", "reward": 1})


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """A schema of the test's own; Redis is the test's."""
    folder = tmp_path / "work"
    folder.mkdir()
    with agent_place(folder, agent_endpoints) as found:
        found.configure(MAPPING)
        yield found


def fill(client: redis.Redis | RedisCluster, keys: int) -> None:
    """Put in so many agents."""
    for number in range(keys):
        client.rpush(f"exp:{{{number}}}", EXPERIENCE)
        client.set(f"policy:{number}", json.dumps({"n": number}), ex=3_600)


@contextmanager
def cluster(folder: Path) -> Iterator[list[int]]:
    """Start a cluster of three primaries; yield their ports."""
    with servers(folder, *[plain("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")] * 3) as ports:
        _cli("create", *[f"127.0.0.1:{port}" for port in ports], "--cluster-yes")
        _cluster(ports[0]).close()
        yield ports


def test_a_cluster(place: AgentPlace, tmp_path: Path) -> None:
    """Every primary is scanned, whichever node the address leads to, with expiries; a comparison finds both sides equal."""
    with cluster(tmp_path) as ports:
        client = _cluster(ports[0])
        fill(client, 200)
        address = f"redis://:{PASSWORD}@127.0.0.1:{ports[1]}/0"
        ended = place.migrate(REDIS_URL=address)
        assert ended.code == 0, ended.err
        assert ended.data["counts"]["migrated"] == 400
        assert place.rows("SELECT count(DISTINCT agent_id), count(expires_at) FROM rl_policies") == [(200, 200)]
        full = place.segue("validate", "--agentdb", "--full", "--threshold", "1", REDIS_URL=address)
        assert full.code == 0, full.err
        shown = place.segue("mode", "set", "dual_write", "--agentdb", REDIS_URL=address)
        assert shown.code == 2
        assert "no step spans a record and the outbox" in shown.err
        refused = place.migrate(REDIS_URL=f"{address[:-1]}3")
        assert refused.code in {1, 2}
        assert "logical database" in refused.err
        client.close()


def test_a_cluster_that_moves_slots_meanwhile(place: AgentPlace, tmp_path: Path) -> None:
    """Slots moved in the middle of a copy: it reads from the beginning when they have come to rest, and misses no key."""
    with cluster(tmp_path) as ports:
        client = _cluster(ports[0])
        fill(client, 300)
        address = f"redis://:{PASSWORD}@127.0.0.1:{ports[1]}/0"
        running = place.start("migrate-agentdb", "--max-ops", "150", "--format", "json", REDIS_URL=address)
        running.await_words("planned")
        names = [client.get_node(host="127.0.0.1", port=port) for port in ports]
        ids = [client.cluster_myid(target_node=name).decode() for name in names]
        # From the last one, which is scanned last, to the first one, which is scanned already.
        moved = ["--cluster-from", ids[2], "--cluster-to", ids[0], "--cluster-slots", "2000"]
        _cli("reshard", f"127.0.0.1:{ports[0]}", *moved, "--cluster-yes")
        ended = running.ended(90)
        assert ended.code == 0, ended.err
        assert "reading from the beginning" in ended.err
        assert ended.data["counts"]["migrated"] == 600
        assert place.rows("SELECT count(*), count(DISTINCT agent_id) FROM rl_experiences") == [(300, 300)]
        full = place.segue("validate", "--agentdb", "--full", "--threshold", "1", REDIS_URL=address)
        assert full.code == 0, full.err
        client.close()


def test_a_cluster_whose_slots_are_on_their_way(place: AgentPlace, tmp_path: Path) -> None:
    """A key of a slot that is being moved may be on either side: no copy is called complete before that has ended."""
    with cluster(tmp_path) as ports:
        client = _cluster(ports[0])
        fill(client, 20)
        slot = client.keyslot("exp:{7}")
        owner = client.get_node_from_key("exp:{7}")
        other = next(one for one in client.get_primaries() if one.name != owner.name)
        own_id, other_id = (client.cluster_myid(target_node=one).decode() for one in (owner, other))
        for at, state, of in ((other, "IMPORTING", own_id), (owner, "MIGRATING", other_id)):
            client.execute_command("CLUSTER SETSLOT", slot, state, of, target_nodes=at)
        client.execute_command("MIGRATE", "127.0.0.1", other.port, "exp:{7}", 0, 5_000, "AUTH", PASSWORD, target_nodes=owner)
        address = f"redis://:{PASSWORD}@127.0.0.1:{ports[1]}/0"
        place.configure(MAPPING, "[backfill]\npatience_seconds = 1\n")
        refused = place.migrate(REDIS_URL=address)
        assert refused.code == 1
        assert "the cluster is moving slots" in refused.err
        assert f"[{slot}->-{other_id}]" in refused.err
        for at in (other, owner):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", other_id, target_nodes=at)
        ended = place.migrate(REDIS_URL=address)
        assert ended.code == 0, ended.err
        assert ended.data["counts"]["migrated"] == 40
        client.close()


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_failover_meanwhile(place: AgentPlace, tmp_path: Path, is_killed: bool) -> None:
    """A Sentinel's primary is killed, or hands over, in the middle of a copy: it goes on at the new one, and ends equal."""
    with servers(tmp_path, plain(), plain()) as (first, second):
        with redis.Redis(port=second, password=PASSWORD, protocol=2) as replica:
            replica.execute_command("REPLICAOF", "127.0.0.1", first)
            eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        conf = tmp_path / "sentinel.conf"
        lines = [f"monitor agents 127.0.0.1 {first} 1", f"auth-pass agents {PASSWORD}", "down-after-milliseconds agents 1000"]
        conf.write_text("".join(f"sentinel {line}\n" for line in lines))
        with servers(tmp_path, [str(conf), "--sentinel", "--port", "PORT", "--bind", "127.0.0.1"]) as (sentinel,):
            with redis.Redis(port=first, password=PASSWORD, protocol=2) as client:
                fill(client, 300)
                assert client.wait(1, 20_000) == 1
            watcher = redis.Redis(port=sentinel, protocol=2)
            eventually(lambda: watcher.sentinel_slaves("agents"))
            address = f"redis://:{PASSWORD}@127.0.0.1:{sentinel}/0"
            running = place.start("migrate-agentdb", "--max-ops", "150", "--format", "json", REDIS_URL=address)
            running.await_words("planned")
            if is_killed:
                with redis.Redis(port=first, password=PASSWORD, protocol=2) as client:
                    client.shutdown(nosave=True)
            else:
                eventually(lambda: _handed_over(watcher))
            ended = running.ended(90)
            assert ended.code == 0, ended.err
            assert "reading from the beginning" in ended.err
            assert watcher.sentinel_get_master_addr_by_name("agents")[1] == second
            watcher.close()
            assert ended.data["counts"]["migrated"] == 600
            assert place.rows("SELECT count(*), count(DISTINCT agent_id) FROM rl_experiences") == [(300, 300)]
            full = place.segue("validate", "--agentdb", "--full", "--threshold", "1", REDIS_URL=address)
            assert full.code == 0, full.err


def test_behind_a_sentinel(place: AgentPlace, tmp_path: Path) -> None:
    """The address of a Sentinel leads to the server it watches over; a name it does not know is refused with those it does."""
    with servers(tmp_path, plain()) as (port,):
        conf = tmp_path / "sentinel.conf"
        conf.write_text(f"sentinel monitor agents 127.0.0.1 {port} 1\nsentinel auth-pass agents {PASSWORD}\n")
        with servers(tmp_path, [str(conf), "--sentinel", "--port", "PORT", "--bind", "127.0.0.1"]) as (sentinel,):
            with redis.Redis(port=port, password=PASSWORD, protocol=2) as client:
                fill(client, 20)
            ended = place.migrate(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{sentinel}/0")
            assert ended.code == 0, ended.err
            assert ended.data["counts"]["migrated"] == 40
            place.configure(MAPPING, '[redis]\nsentinel_master = "others"\n')
            refused = place.migrate(REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{sentinel}/0")
            assert refused.code == 2
            assert "watches over agents, not over 'others'" in refused.err


def test_over_tls_as_a_user_who_may_only_read(place: AgentPlace, tmp_path: Path) -> None:
    """With the authority trusted and the documented permissions it works; without either, what is missing is said."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    tls = ["--tls-port", "PORT", "--port", "0", "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--tls-auth-clients", "no"]
    tls += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    with servers(tmp_path, tls) as (port,):
        with redis.Redis(port=port, password=PASSWORD, ssl=True, ssl_ca_certs=str(certificate), protocol=2) as client:
            fill(client, 20)
            allowed = ["+@read", "+@connection", "+info", "+time", "+multi", "+exec", "+scan"]
            client.execute_command("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", *allowed)
            client.execute_command("ACL", "SETUSER", "blind", "on", f">{PASSWORD}", "~*", "+@connection", "+info")
        address = f"rediss://reader:{PASSWORD}@127.0.0.1:{port}/0"
        place.configure(MAPPING, f'[redis]\nca_file = "{certificate}"\n[backfill]\npatience_seconds = 1\n')
        ended = place.migrate(REDIS_URL=address)
        assert ended.code == 0, ended.err
        assert ended.data["counts"]["migrated"] == 40
        blind = place.migrate(REDIS_URL=address.replace("reader", "blind"))
        assert blind.code == 1
        assert "The user needs: +@read" in blind.err
        plainly = place.migrate(REDIS_URL=address.replace("rediss", "redis"))
        assert "rediss:// needs TLS" in plainly.err
        place.configure(MAPPING, "[backfill]\npatience_seconds = 1\n")
        untrusted = place.migrate(REDIS_URL=address)
        assert untrusted.code == 1
        assert "TLS does not match" in untrusted.err


def _cli(*command: str) -> None:
    made = ["redis-cli", "--no-auth-warning", "-a", PASSWORD, "--cluster", *command]
    subprocess.run(made, check=True, capture_output=True)


def _handed_over(watcher: redis.Redis) -> bool:
    try:
        watcher.execute_command("SENTINEL", "FAILOVER", "agents")
    except redis.ResponseError as refusal:
        # The replica is not known well enough yet; or it is at work.
        return "INPROG" in str(refusal)
    return True


def _cluster(port: int) -> RedisCluster:
    deadline = time.monotonic() + 120
    while True:
        try:
            client = RedisCluster(host="127.0.0.1", port=port, password=PASSWORD)
            client.set("ready", 1)
            client.delete("ready")
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return client
