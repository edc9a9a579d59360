"""ConfigMap and Deployment against a server that replays what a real API (1.32) answered: `kubernetes_answers.json`.

`tests/integration/test_rollout.py` asks a real one.
"""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from segue.errors import AuthenticationFailed, ConfigError, FatalError, Interrupted, SegueError, StoreTimeout, StoreUnavailable
from segue.model import StorageMode
from segue.rollout.config_map import TRIES, ConfigMapRollout
from segue.rollout.deployment import DeploymentRollout
from segue.rollout.kubernetes_api import KubernetesApi

pytest.importorskip("kubernetes")

ONLY, DUAL, SHADOW, HYBRID = StorageMode
RECORDED = json.loads(Path(__file__).with_name("kubernetes_answers.json").read_text(encoding="utf-8"))
SILENCE = {"status": 0, "body": None}


def answer(name: str) -> dict[str, Any]:
    """Return a recorded answer, to be changed."""
    found: dict[str, Any] = copy.deepcopy(RECORDED[name])
    return found


def with_mode(name: str, value: str) -> dict[str, Any]:
    """Return a Deployment's answer with another value in its environment."""
    changed = answer(name)
    changed["body"]["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "STORAGE_MODE", "value": value}]
    return changed


class Server:
    """Answers requests in the order given, the last of a method for ever; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, Any]] = []
        self.answers: dict[str, list[dict[str, Any]]] = {"GET": [], "PATCH": []}
        self.pods: dict[str, Any] = answer("pods_stuck")
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.reply(self)

            def do_PATCH(self) -> None:
                server.reply(self)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]
        self._silent = threading.Event()
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def reply(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        self.asked.append((request.command, request.path, request.headers.get("Content-Type", ""), body))
        if "/pods" in request.path:
            chosen = self.pods
        else:
            queue = self.answers[request.command]
            chosen = queue.pop(0) if len(queue) > 1 else queue[0]
        if chosen is SILENCE:
            self._silent.wait(5)
            return
        data = json.dumps(chosen["body"]).encode()
        request.send_response(chosen["status"])
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    @property
    def patches(self) -> list[Any]:
        return [body for method, path, _, body in self.asked if method == "PATCH" and "dryRun" not in path]

    def close(self) -> None:
        self._silent.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An API server of recorded answers, which KUBECONFIG leads to."""
    server = Server()
    point_to(server.port, tmp_path, monkeypatch)
    yield server
    server.close()


def point_to(port: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a kubeconfig for a port."""
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "here", "user": {"token": "a-secret-token"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig"))


class Said:
    """A watch that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Clock:
    """Time that passes while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stops_at = float("inf")

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.now >= self.stops_at


def config_map(seconds: float = 5.0) -> ConfigMapRollout:
    """Return a rollout into the recorded ConfigMap."""
    return ConfigMapRollout(KubernetesApi("shop", context=None, request_timeout_seconds=seconds), "segue", "mode")


def deployment(clock: Clock | None = None, *, container: str | None = None) -> DeploymentRollout:
    """Return a rollout into the recorded Deployment."""
    clock = clock or Clock()
    api = KubernetesApi("shop", context=None, request_timeout_seconds=5.0)
    return DeploymentRollout(
        api,
        "shop",
        container=container,
        variable="STORAGE_MODE",
        timeout_seconds=60.0,
        wait=clock.wait,
        clock=lambda: clock.now,
    )


# --- ConfigMap


def test_a_config_map_is_patched_with_its_version(server: Server) -> None:
    """One merge of one key, with the version read; again it is there already; undone, the former value is written."""
    server.answers["GET"] = [answer("config_map"), answer("config_map_patched")]
    server.answers["PATCH"] = [answer("config_map_patched")]
    rollout, said = config_map(), Said()
    assert rollout.apply(ONLY, said)
    version = RECORDED["config_map"]["body"]["metadata"]["resourceVersion"]
    assert server.patches == [{"metadata": {"resourceVersion": version}, "data": {"mode": "neo4j_only"}}]
    (kind,) = {kind for method, _, kind, _ in server.asked if method == "PATCH"}
    assert kind == "application/merge-patch+json"
    rollout.undo(said)
    assert server.patches[1]["data"] == {"mode": "hybrid"}
    assert not config_map().apply(ONLY, said)
    assert "within about a minute" in said.notes[0]


def test_a_plan_asks_the_api_without_changing_anything(server: Server) -> None:
    """The dry run is the server's own, and says what is there now."""
    server.answers = {"GET": [answer("config_map")], "PATCH": [answer("config_map_patched")]}
    assert config_map().plan(ONLY) == ["ConfigMap shop/segue, key mode: hybrid → neo4j_only; the API would take it"]
    assert server.patches == []
    assert "dryRun=All" in server.asked[-1][1]


def test_a_conflict_is_read_again(server: Server) -> None:
    """Somebody else changed it meanwhile: read, tried anew, a few times; then it is said."""
    server.answers["GET"] = [answer("config_map")]
    server.answers["PATCH"] = [answer("config_map_conflict"), answer("config_map_patched")]
    assert config_map().apply(ONLY, Said())
    assert len(server.patches) == 2

    server.answers["PATCH"] = [answer("config_map_conflict")]
    with pytest.raises(SegueError, match="changed by somebody else meanwhile"):
        config_map().apply(ONLY, Said())
    assert len(server.patches) == 2 + TRIES


def test_an_answer_that_does_not_come_may_have_been_a_success(server: Server) -> None:
    """The patch took effect although nobody said so: it is found by reading, and can be undone."""
    server.answers["GET"] = [answer("config_map"), answer("config_map_patched")]
    server.answers["PATCH"] = [SILENCE, answer("config_map")]
    rollout, said = config_map(seconds=0.3), Said()
    assert rollout.apply(ONLY, said)
    assert "gave no answer within 0.3 s" in said.notes[0]
    rollout.undo(said)
    assert server.patches[-1]["data"] == {"mode": "hybrid"}


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("config_map_forbidden", FatalError, "cannot get resource"),
        ("config_map_missing", FatalError, "ConfigMap segue in namespace shop is not there"),
        ("unauthorized", AuthenticationFailed, "refuses the credentials"),
    ],
)
def test_a_refusal_is_one_plain_message(server: Server, name: str, error: type[SegueError], words: str) -> None:
    """What the API says, where, what to do next, and no secret; it is not asked again."""
    server.answers["GET"] = [answer(name)]
    with pytest.raises(error, match=words) as refusal:
        config_map().apply(ONLY, Said())
    assert len(server.asked) == 1
    assert "a-secret-token" not in refusal.value.message + refusal.value.hint
    if name == "config_map_forbidden":
        assert "docs/rollout.md" in refusal.value.hint


def test_an_api_that_is_silent_or_away_ends_in_time(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer costs the deadline a few times, nobody there costs nothing; and 503 is tried again."""
    server.answers["GET"] = [SILENCE]
    began = time.monotonic()
    with pytest.raises(StoreTimeout, match=r"gave no answer within 0.2 s"):
        config_map(seconds=0.2).apply(ONLY, Said())
    assert time.monotonic() - began < 3
    assert len(server.asked) == TRIES

    busy = {"status": 503, "body": {"kind": "Status", "message": "etcd is electing"}}
    server.answers = {"GET": [busy, answer("config_map")], "PATCH": [answer("config_map_patched")]}
    assert config_map().apply(ONLY, Said())

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        point_to(unused.getsockname()[1], tmp_path, monkeypatch)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            config_map().apply(ONLY, Said())


def test_no_cluster_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig and no pod's account: a configuration error, said before anything is tried."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no Kubernetes cluster is configured"):
        config_map().plan(ONLY)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is optional; whoever configures a cluster without it is told."""
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(ConfigError) as missing:
        config_map().plan(ONLY)
    assert missing.value.hint == "pip install 'segue[k8s]'"


def test_who_else_looks_after_it_is_named(server: Server) -> None:
    """Argo CD and Flux take changes back: said in the plan and when it is done."""
    managed = answer("config_map")
    managed["body"]["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "shop:/ConfigMap:shop/segue"}
    server.answers = {"GET": [managed], "PATCH": [answer("config_map_patched")]}
    assert "managed by Argo CD" in config_map().plan(ONLY)[1]
    said = Said()
    config_map().apply(ONLY, said)
    assert "managed by Argo CD" in said.notes[0]


# --- Deployment


def test_a_deployment_is_patched_and_waited_for(server: Server) -> None:
    """One variable of one container, by strategic merge; done only when no old pod is left; every state is told once."""
    rolling = with_mode("deployment_rolling", "neo4j_only")
    server.answers["GET"] = [answer("deployment"), rolling, rolling, with_mode("deployment_done", "neo4j_only")]
    server.answers["PATCH"] = [answer("deployment_patched")]
    said = Said()
    assert deployment().apply(ONLY, said)
    (patch,) = server.patches
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "STORAGE_MODE", "value": "neo4j_only"}]
    assert {kind for method, _, kind, _ in server.asked if method == "PATCH"} == {"application/strategic-merge-patch+json"}
    assert len(said.notes) == 2
    assert said.notes[1].endswith("2 of 2 pods updated, 2 available, 0 old ones left")


def test_a_roll_out_that_gets_stuck_is_undone(server: Server) -> None:
    """Past the progress deadline: the former value is written, the pods that are not ready are named, and it says so."""
    stuck = with_mode("deployment_stuck", "neo4j_only")
    server.answers["GET"] = [answer("deployment"), stuck, stuck, answer("deployment_done")]
    server.answers["PATCH"] = [answer("deployment_patched")]
    with pytest.raises(FatalError) as failure:
        deployment().apply(ONLY, Said())
    message = failure.value.message
    assert "exceeded its progress deadline" in message
    assert "(Unschedulable)" in message
    assert "undone: STORAGE_MODE is hybrid again, not neo4j_only" in message
    values = [one["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] for one in server.patches]
    assert values == ["neo4j_only", "hybrid"]


def test_an_undo_that_fails_is_said_too(server: Server) -> None:
    """Both faults in one message, and the command that undoes it."""
    stuck = with_mode("deployment_stuck", "neo4j_only")
    server.answers["GET"] = [answer("deployment"), stuck]
    server.answers["PATCH"] = [answer("deployment_patched"), answer("deployment_invalid")]
    with pytest.raises(FatalError, match=r"progress deadline.*undoing it failed: .*is invalid") as failure:
        deployment().apply(ONLY, Said())
    assert failure.value.hint == "kubectl -n shop rollout undo deployment/shop"


def test_a_roll_out_that_never_finishes_ends_by_the_clock(server: Server) -> None:
    """Without a verdict of Kubernetes, after the configured time; pods that may not be listed keep nothing back."""
    server.pods = answer("config_map_forbidden")
    rolling = with_mode("deployment_rolling", "neo4j_only")
    server.answers["GET"] = [answer("deployment"), *[rolling] * 62, answer("deployment_done")]
    server.answers["PATCH"] = [answer("deployment_patched")]
    with pytest.raises(FatalError, match=r"did not finish within 60 s: 1 of 2 pods updated.*undone"):
        deployment().apply(ONLY, Said())


def test_what_was_not_set_is_taken_out_again(server: Server) -> None:
    """Undone, a variable that was not there is gone, and one that came from elsewhere comes from there again."""
    bare = answer("deployment")
    del bare["body"]["spec"]["template"]["spec"]["containers"][0]["env"]
    done = with_mode("deployment_done", "neo4j_only")
    server.answers = {"GET": [bare, done], "PATCH": [answer("deployment_patched")]}
    rollout = deployment()
    assert rollout.apply(ONLY, Said())
    rollout.undo(Said())
    assert _env(server.patches[1]) == [{"name": "STORAGE_MODE", "$patch": "delete"}]

    reference = {"configMapKeyRef": {"name": "segue", "key": "mode"}}
    bare["body"]["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "STORAGE_MODE", "valueFrom": reference}]
    server.answers["GET"] = [bare, done]
    rollout = deployment()
    assert rollout.apply(ONLY, Said())
    assert _env(server.patches[2]) == [{"name": "STORAGE_MODE", "value": "neo4j_only", "valueFrom": None}]
    rollout.undo(Said())
    assert _env(server.patches[3]) == [{"name": "STORAGE_MODE", "value": None, "valueFrom": reference}]


def test_written_already_it_is_waited_for_and_never_undone(server: Server) -> None:
    """Somebody else's roll-out: nothing is patched, whether it finishes or not."""
    done = with_mode("deployment_done", "neo4j_only")
    server.answers["GET"] = [with_mode("deployment_rolling", "neo4j_only"), done]
    assert not deployment().apply(ONLY, Said())
    server.answers["GET"] = [with_mode("deployment_stuck", "neo4j_only")]
    with pytest.raises(FatalError, match="begun by somebody else"):
        deployment().apply(ONLY, Said())
    assert server.patches == []


def test_several_containers_need_a_name(server: Server) -> None:
    """Which of them reads the variable cannot be guessed; named, only that one is changed."""
    two = answer("deployment")
    containers = two["body"]["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "proxy", "image": "p"})
    server.answers = {"GET": [two, with_mode("deployment_done", "neo4j_only")], "PATCH": [answer("deployment_patched")]}
    with pytest.raises(ConfigError, match=r"containers .*proxy"):
        deployment().apply(ONLY, Said())
    server.answers["GET"] = [two, with_mode("deployment_done", "neo4j_only")]
    assert deployment(container="proxy").apply(ONLY, Said())
    assert server.patches[0]["spec"]["template"]["spec"]["containers"][0]["name"] == "proxy"
    assert deployment(container="proxy").by_hand(ONLY)[0] == (
        "kubectl -n shop set env deployment/shop -c proxy STORAGE_MODE=neo4j_only"
    )


def test_a_paused_deployment_and_one_asked_to_stop_are_left_alone(server: Server) -> None:
    """Written, but not waited for without end: the command that resumes is given; interrupted, the roll-out goes on."""
    paused = answer("deployment_patched")
    paused["body"]["spec"]["paused"] = True
    server.answers = {"GET": [answer("deployment")], "PATCH": [paused]}
    with pytest.raises(FatalError, match="is paused") as failure:
        deployment().apply(ONLY, Said())
    assert failure.value.hint == "kubectl -n shop rollout resume deployment/shop"

    clock = Clock()
    clock.stops_at = 2.0
    server.answers = {
        "GET": [answer("deployment"), with_mode("deployment_rolling", "neo4j_only")],
        "PATCH": [answer("deployment_patched")],
    }
    with pytest.raises(Interrupted, match="the roll-out of Deployment shop/shop goes on"):
        deployment(clock).apply(ONLY, Said())
    assert len(server.patches) == 2


def test_a_deployments_plan_changes_nothing(server: Server) -> None:
    """What is there, what would come, how many pods are replaced; and a refusal is the API's own."""
    server.answers = {"GET": [answer("deployment")], "PATCH": [answer("deployment_patched")]}
    expected = "Deployment shop/shop: STORAGE_MODE=hybrid → neo4j_only, 2 pods are replaced; the API would take it"
    assert deployment().plan(ONLY) == [expected]
    server.answers["PATCH"] = [answer("deployment_invalid")]
    with pytest.raises(FatalError, match="may not be specified when `value` is not empty"):
        deployment().plan(ONLY)
    assert server.patches == []


def _env(patch: Any) -> Any:
    return patch["spec"]["template"]["spec"]["containers"][0]["env"]
