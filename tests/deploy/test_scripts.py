"""The scripts as operators run them: on the sandbox, on a Prometheus that scraped a real run, on a cluster if there is one."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.shop import Shop, shop
from deploy.scraped_run import ScrapedRun, exposed, metrics_of
from segue.sandbox import Endpoint

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
OURS = ("deploy-milvus.sh", "monitor-latency.sh", "rollback.sh")
CHART = os.environ.get("SEGUE_MILVUS_CHART", "")

needs_chart = pytest.mark.skipif(
    shutil.which("helm") is None or not CHART,
    reason="helm is not on the PATH, or SEGUE_MILVUS_CHART names no .tgz of zilliztech's chart",
)
needs_cluster = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None,
    reason="KUBECONFIG is not set, or kubectl not on the PATH: no Kubernetes API to ask",
)


def run(script: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a script; keyword arguments change its environment."""
    environment = {**os.environ, **changes}
    return subprocess.run(
        (str(SCRIPTS / script), *arguments), env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_shellcheck_minds_nothing() -> None:
    """In any script, with all its checks that are on by default."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    files = [*SCRIPTS.glob("*.sh"), ROOT / ".ci" / "run"]
    checked = subprocess.run((shellcheck, *files), capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("script", OURS)
def test_each_explains_itself_and_refuses_what_it_does_not_know(script: str) -> None:
    """--help names every option that is parsed; an unknown one, or one without its value, is a usage error."""
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    assert "\nset -euo pipefail\n" in text
    shown = run(script, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert set(re.findall(r"(?<![\w-])--[a-z-]+(?= *[|)])", text)) <= set(re.findall(r"--[a-z-]+", shown.stdout))
    for wrong in (("--no-such",), (next(iter(re.findall(r"(--[a-z-]+) [A-Z]", shown.stdout))),)):
        refused = run(script, *wrong)
        assert refused.returncode == 2
        assert "--help" in refused.stderr


# --- monitor-latency.sh


def test_latencies_are_those_that_prometheus_has(scraped_run: ScrapedRun) -> None:
    """Of the collection asked for: both stores' quantiles, how many times faster, no errors; no colour in a file."""
    name = scraped_run.collection
    shown = run(
        "monitor-latency.sh",
        "1",
        "--count",
        "2",
        "--collection",
        name,
        "--window",
        "1h",
        "--prometheus",
        scraped_run.prometheus.uri,
    )
    assert shown.returncode == 0, shown.stderr
    _, first, second = shown.stdout.splitlines()
    assert first
    _, neo4j50, neo4j95, milvus50, milvus95, speed, _, _, errors, unit = second.split()
    assert 0 < float(neo4j50) <= float(neo4j95)
    assert 0 < float(milvus50) <= float(milvus95)
    assert float(speed.removesuffix("x")) == pytest.approx(float(neo4j95) / float(milvus95), rel=0.1, abs=0.02)
    assert (errors, unit) == ("0.00", "%")
    assert "\x1b" not in shown.stdout


def test_what_is_not_known_is_a_dash(scraped_run: ScrapedRun) -> None:
    """Not a zero, for a collection that nobody searches."""
    shown = run("monitor-latency.sh", "--count", "1", "--collection", "nobodys", "--prometheus", scraped_run.prometheus.uri)
    assert shown.stdout.splitlines()[1].split()[1:] == ["-"] * 7


def test_a_terminal_gets_colours_unless_it_wants_none(scraped_run: ScrapedRun) -> None:
    """NO_COLOR is heeded."""
    assert "\x1b[" in on_a_terminal(scraped_run, NO_COLOR="")
    assert "\x1b[" not in on_a_terminal(scraped_run, NO_COLOR="1")


def on_a_terminal(run: ScrapedRun, **changes: str) -> str:
    """Return what the script writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    command = (SCRIPTS / "monitor-latency.sh", "--count", "1", "--window", "1h", "--prometheus", run.prometheus.uri)
    subprocess.run(command, env={**os.environ, **changes}, stdout=theirs, timeout=60, check=True)
    os.close(theirs)
    written = os.read(ours, 10_000).decode()
    os.close(ours)
    return written


def test_its_queries_ask_for_metrics_that_exist() -> None:
    """As --dry-run prints them, without a Prometheus."""
    shown = run("monitor-latency.sh", "--dry-run", "--prometheus", "http://127.0.0.1:1")
    queries = shown.stdout.splitlines()
    assert len(queries) == 6
    for query in queries:
        assert metrics_of(query)
        assert metrics_of(query) <= exposed()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("often",), 2, "not a number of seconds"),
        (("--window", "soon"), 2, "not a time"),
        (("--collection", 'a"} or x'), 2, "not the name"),
        (("--prometheus", "http://127.0.0.1:1", "--count", "1"), 1, "does not answer"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments: tuple[str, ...], code: int, words: str) -> None:
    """One line, and an exit code that tells use from failure."""
    ended = run("monitor-latency.sh", *arguments)
    assert ended.returncode == code
    assert words in ended.stderr


# --- rollback.sh


@pytest.fixture
def copied(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Shop]:
    """Three items, copied, in `dual_write`."""
    with shop(tmp_path, newest_neo4j, milvus_endpoint, items=3) as one:
        yield one


def test_users_are_taken_back_only_when_it_is_confirmed(copied: Shop) -> None:
    """Shown with exit 5, or with 0 as a dry run; confirmed it is done and shown, and Milvus goes only by its name."""
    config, name = str(copied.configure()), copied.place.collection
    environment = copied.place.environment() | {"SEGUE": str(Path(sys.executable).with_name("segue"))}
    assert run("rollback.sh", "--config", config, **environment).returncode == 5
    assert run("rollback.sh", "--config", config, "--dry-run", **environment).returncode == 0
    assert copied.mode.value == "dual_write"

    done = run("rollback.sh", "--config", config, "--confirm", "--reason", "slow today", **environment)
    assert done.returncode == 0, done.stderr
    assert copied.mode.value == "neo4j_only"
    assert f"{name}: neo4j_only at epoch 2" in done.stdout
    assert copied.place.client.has_collection(name)

    wrong = run("rollback.sh", "--config", config, "--confirm", "--delete", "another", **environment)
    assert wrong.returncode == 2
    gone = run("rollback.sh", "--config", config, "--confirm", "--delete", name, **environment)
    assert gone.returncode == 0, gone.stderr
    assert not copied.place.client.has_collection(name)
    assert copied.place.token not in done.stdout + done.stderr + gone.stdout + gone.stderr


# --- deploy-milvus.sh


def credentials(folder: Path, **values: Any) -> str:
    """Write a file of passwords, and more values."""
    path = folder / "credentials.yaml"
    text = (ROOT / "deploy/helm/milvus-credentials.example.yaml").read_text(encoding="utf-8").replace("change-me", "secret")
    path.write_text(yaml.safe_dump(yaml.safe_load(text) | values), encoding="utf-8")
    return str(path)


def test_a_dry_run_prints_every_command_and_runs_none(tmp_path: Path) -> None:
    """Without helm, kubectl or segue anywhere; the chart's version is pinned."""
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "sed", "cat", "dirname", "grep", "env"):
        (bare / tool).symlink_to(shutil.which(tool) or tool)
    shown = run("deploy-milvus.sh", "--dry-run", "--credentials", credentials(tmp_path), PATH=str(bare))
    assert shown.returncode == 0, shown.stderr
    commands = [line for line in shown.stderr.splitlines() if line.startswith("+ ")]
    assert [line.split()[1].strip("'") for line in commands] == ["helm", "kubectl", "kubectl", "env"]
    assert "'--version' '5.0.28'" in commands[0]
    assert "'--schema-only'" in commands[-1]
    assert "secret-root" not in shown.stdout + shown.stderr


def test_the_passwords_of_the_example_are_refused() -> None:
    """And so is none at all: exit 2 before anything is run."""
    example = str(ROOT / "deploy/helm/milvus-credentials.example.yaml")
    assert "--credentials FILE is needed" in run("deploy-milvus.sh").stderr
    refused = run("deploy-milvus.sh", "--credentials", example)
    assert refused.returncode == 2
    assert "still holds a password of the example" in refused.stderr


@needs_chart
def test_the_chart_renders_what_was_asked_for(tmp_path: Path) -> None:
    """3 etcd, 4 MinIO, neither Pulsar nor Kafka, pinned images, passwords required, and 19530 alone for the world."""
    shown = run(
        "deploy-milvus.sh", "--render", "--chart", CHART, "--credentials", credentials(tmp_path), "--release", "vectors"
    )
    assert shown.returncode == 0, shown.stderr
    objects = [one for one in yaml.safe_load_all(shown.stdout) if one]
    sets = {one["metadata"]["name"]: one["spec"]["replicas"] for one in objects if one["kind"] == "StatefulSet"}
    assert sets == {"vectors-etcd": 3, "vectors-minio": 4}
    images = re.findall(r"image: *\"?([^\s\"]+)", shown.stdout)
    assert images
    assert all(re.search(r":[\w.-]*\d", image) for image in images)
    settings = yaml.safe_load(next(one["data"]["user.yaml"] for one in objects if "user.yaml" in one.get("data", {})))
    assert settings["mq"]["type"] == "woodpecker"
    assert settings["common"]["security"] == {"authorizationEnabled": True, "defaultRootPassword": "secret-root"}
    public = [one for one in objects if one["kind"] == "Service" and one["spec"].get("type", "ClusterIP") != "ClusterIP"]
    (external,) = public
    assert [port["port"] for port in external["spec"]["ports"]] == [19530]
    proxies = [
        one
        for one in objects
        if one["kind"] == "Deployment"
        and external["spec"]["selector"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert [one["metadata"]["name"] for one in proxies] == ["vectors-milvus-proxy"]
    ports = {port["name"] for port in proxies[0]["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert external["spec"]["ports"][0]["targetPort"] in ports


@needs_chart
@needs_cluster
def test_it_deploys_on_a_real_cluster(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> None:
    """Helm installs, the Service is there, and the collection with its index is made in the Milvus named; twice is fine."""
    namespace = f"segue-{uuid.uuid4().hex[:8]}"
    # The cluster of the tests has no volumes.
    none = {"persistence": {"enabled": False}}
    secret = yaml.safe_load(Path(credentials(tmp_path)).read_text(encoding="utf-8"))
    values = credentials(tmp_path, etcd=none, minio=secret["minio"] | none)
    with shop(tmp_path, newest_neo4j, milvus_endpoint, items=3, copied=False) as one:
        environment = one.place.environment() | {"SEGUE": str(Path(sys.executable).with_name("segue"))}
        arguments = ("--credentials", values, "--chart", CHART, "--namespace", namespace, "--timeout", "2m")
        arguments += ("--config", str(one.configure()), "--milvus-uri", milvus_endpoint.uri)
        try:
            for _ in range(2):
                done = run("deploy-milvus.sh", *arguments, **environment)
                assert done.returncode == 0, done.stderr
            command = ("kubectl", "-n", namespace, "get", "service/milvus-external", "-o", "jsonpath={.spec.ports[*].port}")
            assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "19530"
            client, name = one.place.client, one.place.collection
            (index,) = client.list_indexes(name)
            assert client.describe_index(name, index)["index_type"] == "HNSW"
            assert client.get_collection_stats(name)["row_count"] == 0
        finally:
            subprocess.run(("kubectl", "delete", "namespace", namespace, "--wait=false"), timeout=60, check=False)
