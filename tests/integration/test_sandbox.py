"""The sandbox keeps its promises: passwords, reuse, restart, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import neo4j
import psutil
import pymilvus
import pytest

from segue import sandbox
from segue.errors import ConfigError, FatalError
from segue.sandbox import Endpoint, lifecycle, processes

pytestmark = pytest.mark.service

CHEAP = ("redis", "postgres")


@pytest.fixture(scope="module")
def own_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sandbox root apart from everybody's, for tests that kill servers."""
    root = tmp_path_factory.mktemp("sandbox")
    yield root
    sandbox.down(root)


@pytest.fixture
def own_sandbox(own_root: Path) -> dict[str, Endpoint]:
    """Redis and PostgreSQL running under a root of their own."""
    return sandbox.up(CHEAP, root=own_root)


def test_up_twice_uses_the_same_processes(own_sandbox: dict[str, Endpoint], own_root: Path) -> None:
    """A second `up` returns the very processes, ports and passwords of the first."""
    assert sandbox.up(CHEAP, root=own_root) == own_sandbox


def test_two_processes_that_call_up_at_once_share_one_sandbox(tmp_path: Path) -> None:
    """Concurrent `up` calls end with one server, which both report."""
    code = (
        "import sys, pathlib; from segue import sandbox; "
        "print(sandbox.up(['redis'], root=pathlib.Path(sys.argv[1]))['redis'].pid)"
    )
    try:
        rivals = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)]
        pids = {rival.communicate(timeout=60)[0] for rival in rivals}

        assert len(pids) == 1
        assert pids == {f"{sandbox.running(tmp_path)['redis'].pid}\n".encode()}
    finally:
        sandbox.down(tmp_path)


def test_a_killed_server_is_started_again_with_its_data(own_sandbox: dict[str, Endpoint], own_root: Path) -> None:
    """After kill -9 the record is stale; `up` starts the server anew, and what was written is there."""
    _psql(own_sandbox["postgres"], "create table if not exists kept (id int); insert into kept values (7)")
    for endpoint in own_sandbox.values():
        _kill(endpoint)

    assert sandbox.running(own_root) == {}
    again = sandbox.up(CHEAP, root=own_root)
    assert {service: e.pid for service, e in again.items()} != {service: e.pid for service, e in own_sandbox.items()}
    assert again["postgres"].password == own_sandbox["postgres"].password
    assert "7" in _psql(again["postgres"], "select id from kept")


def test_down_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    """After `down` no server and no child of one runs; data and records are gone, logs stay; twice is fine."""
    started = sandbox.up(CHEAP, root=tmp_path)
    families = [psutil.Process(e.pid) for e in started.values()]
    families += [child for process in families for child in process.children(recursive=True)]

    assert sorted(sandbox.down(tmp_path)) == sorted(CHEAP)
    assert [process for process in families if process.is_running()] == []
    assert not any(endpoint.home.exists() for endpoint in started.values())
    assert all(endpoint.log.exists() for endpoint in started.values())
    assert list(tmp_path.glob("*.json")) == []
    assert sandbox.down(tmp_path) == []


def test_down_spares_a_process_that_took_over_the_pid(tmp_path: Path) -> None:
    """A record whose pid now belongs to another process (another start time) is forgotten, the process untouched."""
    started = sandbox.up(["redis"], root=tmp_path)["redis"]
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            record = tmp_path / "redis.json"
            fields = json.loads(record.read_text())
            record.write_text(json.dumps(fields | {"pid": stranger.pid, "started": fields["started"] - 60}))

            assert sandbox.running(tmp_path) == {}
            assert sandbox.down(tmp_path) == []
            assert stranger.poll() is None
        finally:
            stranger.kill()
            processes.end(started.pid, started.started, polite_signal=signal.SIGTERM, patience_seconds=5)


def test_a_server_that_does_not_start_is_one_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    """A server that dies at its start gives an error that names the log and shows its last lines, and nothing runs."""
    started = sandbox.up(["redis"], root=tmp_path)["redis"]
    _kill(started)
    for file in (started.home / "appendonlydir").iterdir():
        file.write_text("spoilt")

    with pytest.raises(FatalError) as raised:
        sandbox.up(["redis"], root=tmp_path)
    assert str(started.log) in raised.value.hint
    assert "AOF" in raised.value.hint
    assert started.password not in raised.value.message + raised.value.hint
    assert sandbox.running(tmp_path) == {}
    sandbox.down(tmp_path)


def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies because somebody listens where it wanted to is started again on other ports, by itself."""
    said: list[str] = []
    try:
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            taken = stranger.getsockname()[1]
            offered = [taken]
            choose = lifecycle.free_ports

            def choose_the_taken_one_first(*purposes: str) -> dict[str, int]:
                ports = choose(*purposes)
                return ports | {purposes[-1]: offered.pop()} if offered else ports

            monkeypatch.setattr(lifecycle, "free_ports", choose_the_taken_one_first)
            started = sandbox.up(["redis"], root=tmp_path, announce=said.append)
        assert not offered
        assert taken not in started["redis"].ports.values()
        assert sandbox.running(tmp_path) == started
        assert any("taken" in line for line in said)
    finally:
        sandbox.down(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "# Warning: Could not create server TCP listening socket 127.0.0.1:1: bind: Address already in use",
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
        "ERROR Failed to start Neo4j on 127.0.0.1:1: Address 127.0.0.1:1 is already in use, cannot bind to it.",
        'err="listen tcp 127.0.0.1:1: bind: address already in use"',
    ],
    ids=["redis", "postgres", "neo4j", "prometheus"],
)
def test_each_server_says_that_a_port_is_taken_in_its_own_words(tmp_path: Path, line: str) -> None:
    """As they said it when it was; what stands in the log of an earlier start does not count."""
    log = tmp_path / "server.log"
    log.write_text(line)
    assert processes.names_a_taken_port(log, 0)
    assert not processes.names_a_taken_port(log, len(line))


def test_an_unknown_service_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """A name that is no service is a usage error that lists the services."""
    with pytest.raises(ConfigError) as raised:
        sandbox.up(["mongo"], root=tmp_path)
    assert "postgres" in raised.value.hint


def test_no_password_is_shown_by_repr_or_ps_and_records_are_private(
    own_sandbox: dict[str, Endpoint], endpoints: Mapping[str, Endpoint], own_root: Path
) -> None:
    """Passwords stand neither in `repr` nor in any process's arguments, and only the owner may read the records."""
    for endpoint in [*own_sandbox.values(), *endpoints.values()]:
        assert endpoint.password not in repr(endpoint)
        assert endpoint.password not in " ".join(psutil.Process(endpoint.pid).cmdline())
    assert {record.stat().st_mode & 0o777 for record in own_root.glob("*.json")} == {0o600}


def test_wrong_passwords_are_refused_by_redis_and_postgres(own_sandbox: dict[str, Endpoint]) -> None:
    """Passwords are really on: none, or a wrong one, is refused."""
    redis, postgres = own_sandbox["redis"], own_sandbox["postgres"]
    ping = ["redis-cli", "-p", str(redis.ports["redis"]), "ping"]
    without = subprocess.run(ping, capture_output=True, text=True, check=False)
    wrong = subprocess.run(ping, capture_output=True, text=True, check=False, env={**os.environ, "REDISCLI_AUTH": "wrong"})

    assert "NOAUTH" in without.stdout
    assert "PONG" not in wrong.stdout
    with pytest.raises(subprocess.CalledProcessError):
        _psql(postgres, "select 1", password="wrong")


def test_exports_let_plain_clients_connect(own_sandbox: dict[str, Endpoint], endpoints: Mapping[str, Endpoint]) -> None:
    """The exported environment alone is enough for each server's own client."""
    names = sandbox.exports({**endpoints, **own_sandbox})

    with neo4j.GraphDatabase.driver(names["NEO4J_URI"], auth=(names["NEO4J_USERNAME"], names["NEO4J_PASSWORD"])) as driver:
        driver.verify_connectivity()
    client = pymilvus.MilvusClient(uri=names["MILVUS_URI"], token=names["MILVUS_TOKEN"])
    client.list_collections()
    client.close()
    redis = subprocess.run(["redis-cli", "-u", names["REDIS_URL"], "ping"], capture_output=True, text=True, check=True)
    assert redis.stdout.strip() == "PONG"
    subprocess.run(["psql", "-w", "-c", "select 1", names["DATABASE_URL"]], capture_output=True, check=True)


def test_neo4j_refuses_a_wrong_password(neo4j_endpoint: Endpoint) -> None:
    """Authentication is on in both release lines."""
    with (
        neo4j.GraphDatabase.driver(neo4j_endpoint.uri, auth=("neo4j", "wrong-password")) as driver,
        pytest.raises(neo4j.exceptions.AuthError),
    ):
        driver.verify_connectivity()


@pytest.mark.parametrize("token", ["root:Milvus", "root:wrong", ""])
def test_milvus_refuses_the_default_password_and_others(milvus_endpoint: Endpoint, token: str) -> None:
    """Authorization is on and the well-known default password has been replaced."""
    with pytest.raises(pymilvus.MilvusException):
        pymilvus.MilvusClient(uri=milvus_endpoint.uri, token=token, timeout=3).list_collections()


def test_apoc_triggers_fire_in_the_writers_transaction(neo4j_endpoint: Endpoint, scratch_label: str) -> None:
    """APOC is there with triggers on: one installed on the system database marks a plain CREATE within seconds."""
    statement = f"UNWIND $createdNodes AS n WITH n WHERE n:`{scratch_label}` MERGE (:`{scratch_label}Mark` {{key: n.key}})"
    install = "CALL apoc.trigger.install('neo4j', $name, $statement, {phase: 'before'})"
    auth = (neo4j_endpoint.username, neo4j_endpoint.password)
    with neo4j.GraphDatabase.driver(neo4j_endpoint.uri, auth=auth) as driver:
        driver.execute_query(install, name=scratch_label, statement=statement, database_="system")
        try:
            marks = 0
            for attempt in range(100):
                driver.execute_query(f"CREATE (:`{scratch_label}` {{key: $key}})", key=attempt, database_="neo4j")
                query = f"MATCH (m:`{scratch_label}Mark` {{key: $key}}) RETURN count(m) AS marks"
                marks = driver.execute_query(query, key=attempt, database_="neo4j").records[0]["marks"]
                if marks:
                    break
                time.sleep(0.1)
            assert marks == 1
        finally:
            driver.execute_query("CALL apoc.trigger.drop('neo4j', $name)", name=scratch_label, database_="system")


def _psql(postgres: Endpoint, statement: str, password: str | None = None) -> str:
    environment = {**os.environ, "PGPASSWORD": password or postgres.password, "PGUSER": postgres.username}
    command = ["psql", "-w", "-q", "-c", statement, postgres.uri]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def _kill(endpoint: Endpoint) -> None:
    process = psutil.Process(endpoint.pid)
    process.kill()
    process.wait(10)
