"""The Kubernetes manifests: valid by schema, and by a real API where there is one; safe, and in keeping with the CLI."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from segue.cli import app
from segue.config import load
from segue.model import StorageMode

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
BUILT = ("overlays/production", "overlays/production/backfill", "overlays/trial", "application", "monitoring")
FILES = sorted(path for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS: list[dict[str, Any]] = [one for path in FILES for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in OBJECTS if one["kind"] in {"Deployment", "Job"}}
OF_THE_OPERATOR = "monitoring.coreos.com/v1"

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on the PATH: nothing builds the overlays"
)
needs_cluster = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None,
    reason="KUBECONFIG is not set, or kubectl not on the PATH: no Kubernetes API to ask",
)


def found(kind: str, name: str) -> dict[str, Any]:
    """Return the one object of that kind and name."""
    (one,) = [one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run kubectl; what it says is the failure's reason."""
    ended = subprocess.run(("kubectl", *arguments), input=text, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def built(folder: str) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder."""
    text = kubectl("kustomize", "--load-restrictor", "LoadRestrictionsNone", str(K8S / folder))
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(K8S)))
def test_every_manifest_is_valid_by_schema(path: Path) -> None:
    """Strictly, so a misspelt field is a fault; kinds of the Prometheus Operator have no schema here."""
    for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if one["apiVersion"] != OF_THE_OPERATOR:
            kubernetes_validate.validate(one, "1.32", strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    """No root, no writable root file system, no capability, no API token, bounded memory, secrets as files only."""
    pod = PODS[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        settings = {one["name"]: one["value"] for one in container["env"]}
        assert settings["NEO4J_PASSWORD_FILE"] == "/var/run/segue/neo4j-password"
        assert settings["MILVUS_TOKEN_FILE"] == "/var/run/segue/milvus-token"
        assert not {"NEO4J_PASSWORD", "MILVUS_TOKEN"} & settings.keys()
        mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert volumes[mounted["/var/run/segue"]]["secret"]["secretName"] == "segue-stores"
    assert not [one for one in OBJECTS if one["kind"] == "Secret"]


@pytest.mark.parametrize("name", ["segue-relay", "segue-backfill"])
def test_arguments_are_those_of_the_command_line(name: str) -> None:
    """The verb is there, and has every option that is given."""
    verb, *rest = PODS[name]["spec"]["containers"][0]["args"]
    group: Any = typer.main.get_command(app)
    command = group.get_command(None, verb)
    context = command.make_context(verb, list(rest), resilient_parsing=True)
    assert context.params["metrics_port"] == 9464
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_probes_selectors_and_ports_fit_together() -> None:
    """Services, budget and network policy mean the pods they should; the probes ask what the metrics port answers."""
    for kind, name in (("Service", "segue-relay"), ("Service", "segue-backfill"), ("Service", "shop")):
        service = found(kind, name)["spec"]
        pod = PODS[name]
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {one["name"] for container in pod["spec"]["containers"] for one in container["ports"]}
        assert {one["targetPort"] for one in service["ports"]} <= ports
    budget = found("PodDisruptionBudget", "segue-relay")["spec"]
    assert budget["selector"]["matchLabels"].items() <= PODS["segue-relay"]["metadata"]["labels"].items()
    relay = PODS["segue-relay"]["spec"]["containers"][0]
    assert relay["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert relay["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    (names,) = found("NetworkPolicy", "segue")["spec"]["podSelector"]["matchExpressions"]
    assert set(names["values"]) == {PODS[name]["metadata"]["labels"]["app.kubernetes.io/name"] for name in PODS} - {"shop"}


def test_the_copy_is_one_pod_that_goes_on_where_another_was() -> None:
    """One index, its records on a volume; exit codes that no further try changes end the Job, an interruption costs no try."""
    job = found("Job", "segue-backfill")["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 1, 1)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    codes = {
        code: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert codes == {130: "Ignore", 2: "FailJob", 5: "FailJob"}
    container = job["template"]["spec"]["containers"][0]
    state = next(one["value"] for one in container["env"] if one["name"] == "SEGUE_STATE_PATH")
    volume = next(one["name"] for one in container["volumeMounts"] if state.startswith(one["mountPath"]))
    assert {"name": volume, "persistentVolumeClaim": {"claimName": "segue-state"}} in job["template"]["spec"]["volumes"]


def test_the_application_reads_the_mode_file() -> None:
    """The ConfigMap that the roll-out writes, mounted as a folder, which alone is refreshed; and it holds a mode."""
    container = PODS["shop"]["spec"]["containers"][0]
    file = Path(next(one["value"] for one in container["env"] if one["name"] == "STORAGE_MODE_FILE"))
    mount = next(one for one in container["volumeMounts"] if one["mountPath"] == str(file.parent))
    assert "subPath" not in mount
    volume = next(one for one in PODS["shop"]["spec"]["volumes"] if one["name"] == mount["name"])
    assert volume["configMap"] == {"name": "segue", "items": [{"key": "mode", "path": file.name}]}
    assert StorageMode(found("ConfigMap", "segue")["data"]["mode"]) is StorageMode.NEO4J_ONLY


def test_the_accounts_may_do_what_the_roll_out_needs_and_nothing_else() -> None:
    """The operator the one ConfigMap, the relay nothing at all."""
    (role,) = [one for one in OBJECTS if one["kind"] == "Role"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["segue"], "verbs": ["get", "patch"]}
    ]
    (binding,) = [one for one in OBJECTS if one["kind"] == "RoleBinding"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "segue-operator"}]
    assert not [one for one in OBJECTS if one["kind"].startswith("ClusterRole")]
    assert found("ServiceAccount", "segue-relay")["automountServiceAccountToken"] is False


@pytest.mark.parametrize("path", sorted(K8S.rglob("segue.toml")), ids=lambda path: path.parent.name)
def test_the_configuration_of_an_overlay_is_valid(path: Path) -> None:
    """And its roll-out writes the ConfigMap of the same overlay."""
    settings = load(path, environ={})
    overlay = yaml.safe_load((path.parent / "kustomization.yaml").read_text(encoding="utf-8"))
    assert settings.rollout is not None
    assert settings.rollout.kind == "configmap"
    assert (settings.rollout.namespace, settings.rollout.name) == (overlay["namespace"], "segue")


def test_the_prometheus_rule_holds_the_rules() -> None:
    """If not: python deploy/prometheus/prometheus_rule.py > deploy/k8s/monitoring/prometheus-rule.yaml."""
    made = runpy.run_path(str(ROOT / "deploy/prometheus/prometheus_rule.py"))["build"]()
    assert (K8S / "monitoring" / "prometheus-rule.yaml").read_text(encoding="utf-8") == made
    rules = yaml.safe_load((ROOT / "deploy/prometheus/segue-rules.yml").read_text(encoding="utf-8"))
    assert found("PrometheusRule", "segue")["spec"] == rules


@needs_kubectl
def test_the_service_monitor_means_relay_copy_and_application() -> None:
    """Each has a Service with its labels and a port of its name, once the overlays are built."""
    monitor = found("ServiceMonitor", "segue")["spec"]
    wanted: Mapping[str, str] = monitor["selector"]["matchLabels"]
    services = [one for folder in BUILT for one in built(folder) if one["kind"] == "Service"]
    meant = {one["metadata"]["name"] for one in services if wanted.items() <= one["metadata"]["labels"].items()}
    assert meant == {"segue-relay", "segue-backfill", "shop"}
    for one in services:
        assert monitor["endpoints"][0]["port"] in {port["name"] for port in one["spec"]["ports"]}


@needs_kubectl
@pytest.mark.parametrize("folder", BUILT)
def test_every_overlay_builds_into_valid_manifests(folder: str) -> None:
    """With a pinned image wherever the image is ours."""
    for one in built(folder):
        if one["apiVersion"] != OF_THE_OPERATOR:
            kubernetes_validate.validate(one, "1.32", strict=True)
        if one["kind"] in {"Deployment", "Job"} and folder != "application":
            assert one["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/segue:0.1.0"


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace of its own, deleted afterwards."""
    name = f"segue-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@needs_cluster
def test_a_real_api_takes_them_and_runs_them(namespace: str) -> None:
    """Checked strictly by the server, then applied: relays become available, the accounts may what they should."""
    for folder in (*BUILT, "milvus/external-service.yaml"):
        objects = built(folder) if not folder.endswith(".yaml") else [found("Service", "milvus-external")]
        ours = [one for one in objects if one["apiVersion"] != OF_THE_OPERATOR]
        for one in ours:
            one["metadata"]["namespace"] = namespace
        text = yaml.safe_dump_all(ours)
        kubectl("-n", namespace, "apply", "--dry-run=server", "--validate=strict", "-f", "-", text=text)
        if folder == "overlays/production":
            for one in ours:
                for subject in one.get("subjects", []):
                    subject["namespace"] = namespace
            kubectl("-n", namespace, "apply", "-f", "-", text=yaml.safe_dump_all(ours))
    kubectl("-n", namespace, "create", "secret", "generic", "segue-stores", "--from-literal=neo4j-password=x")
    kubectl("-n", namespace, "rollout", "status", "deployment/segue-relay", "--timeout=60s")
    operator, relay = (f"system:serviceaccount:{namespace}:{name}" for name in ("segue-operator", "segue-relay"))
    assert may(namespace, operator, "patch", "configmaps/segue")
    assert not may(namespace, operator, "patch", "configmaps/segue-config")
    assert not may(namespace, operator, "get", "secrets/segue-stores")
    assert not may(namespace, operator, "patch", "deployments/segue-relay")
    assert not may(namespace, relay, "get", "configmaps/segue")
    assert not may(namespace, relay, "get", "secrets/segue-stores")


def may(namespace: str, account: str, verb: str, what: str) -> bool:
    """Ask the server whether an account may do that; bindings take effect a moment after they are made."""
    command = ("kubectl", "-n", namespace, "auth", "can-i", verb, what, "--as", account)
    for _ in range(5):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if ended.stdout.strip() == "yes":
            return True
        time.sleep(0.2)
    return False
