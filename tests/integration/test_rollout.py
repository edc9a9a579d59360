"""The mode in a real cluster, the one that KUBECONFIG leads to; and in an env file. Through the CLI, on real Neo4j."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.workplace import Ended, Workplace, eventually, workplace
from segue.sandbox import Endpoint

CONFIGURATION = """\
[[collections]]
name = "{collection}"
[collections.source]
index = "{collection}"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
"""

needs_cluster = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG is not set: no Kubernetes API to ask")

ROLE_MANIFEST = Path(__file__).parents[2] / "docs" / "rollout.md"


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A collection whose Neo4j answers searches."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        settings = "{indexConfig: {`vector.dimensions`: 2, `vector.similarity_function`: 'cosine'}}"
        place.rows(f"CREATE VECTOR INDEX {place.collection} FOR (n:LABEL) ON (n.embedding) OPTIONS {settings}")
        place.rows("CREATE (:LABEL {id: 'a', embedding: [1.0, 0.0]})")
        place.rows("CALL db.awaitIndex($name, 60)", name=place.collection)
        place.note_preflight()
        yield place


def configure(place: Workplace, rollout: str) -> None:
    """Write segue.toml with a `[rollout]`."""
    place.configure(f"[rollout]\n{rollout}\n{CONFIGURATION.format(collection=place.collection, label=place.label)}")


def go(place: Workplace, mode: str, **changes: str | None) -> None:
    """Change the mode, and roll it out."""
    ended = place.segue("mode", "set", mode, **changes)
    assert ended.code == 0, ended.err


def rollback(place: Workplace, *arguments: str, **changes: str | None) -> Ended:
    """Run `segue rollback --confirm` with JSON on stdout."""
    return place.segue("rollback", "--confirm", "--format", "json", *arguments, **changes)


def step(ended: Ended, name: str) -> dict[str, Any]:
    """Return what became of a step."""
    (found,) = [one for one in ended.data["steps"] if one["name"] == name]
    return dict(found)


def control(place: Workplace) -> str:
    """Return the control node's mode."""
    mode: str = place.rows("MATCH (c:SegueControl {collection: $name}) RETURN c.mode", name=place.collection)[0][0]
    return mode


# --- an env file


def test_an_env_file_follows_the_mode(place: Workplace) -> None:
    """`mode set` and `rollback` both write it; a dry run and an unconfirmed rollback only say so."""
    file = place.folder / ".env"
    file.write_text("A=1\nSTORAGE_MODE=neo4j_only\n", encoding="utf-8")
    configure(place, 'kind = "env-file"\npath = ".env"')
    dry = place.segue("mode", "set", "dual_write", "--dry-run")
    assert "STORAGE_MODE=neo4j_only → dual_write" in dry.err
    assert "neo4j_only" in file.read_text(encoding="utf-8")
    go(place, "dual_write")
    assert file.read_text(encoding="utf-8") == "A=1\nSTORAGE_MODE=dual_write\n"

    shown = place.segue("rollback", "--format", "json")
    assert (shown.code, step(shown, "rollout")["status"]) == (5, "planned")
    assert file.read_text(encoding="utf-8") == "A=1\nSTORAGE_MODE=dual_write\n"
    assert step(rollback(place), "rollout")["status"] == "done"
    assert file.read_text(encoding="utf-8") == "A=1\nSTORAGE_MODE=neo4j_only\n"
    assert step(rollback(place), "rollout")["status"] == "already"


def test_a_rollout_that_fails_leaves_the_control_node(place: Workplace) -> None:
    """The mode is changed, it says what is left with the command, exit 1; a rollback goes on with everything else."""
    configure(place, 'kind = "env-file"\npath = "nowhere/.env"')
    ended = place.segue("mode", "set", "dual_write")
    assert ended.code == 1
    assert "the mode is changed, but dual_write is not deployed" in ended.err
    assert "sed -i" in ended.err
    assert control(place) == "dual_write"
    back = rollback(place)
    assert (back.code, step(back, "rollout")["status"], step(back, "canary")["status"]) == (1, "failed", "done")
    assert control(place) == "neo4j_only"


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ('kind = "docker"', "env-file"),
        ('kind = "env-file"', "path"),
        ('kind = "configmap"\nnamespace = "Shop"\nname = "a b"', "rollout.configmap.namespace"),
        ('kind = "deployment"\nnamespace = "shop"\nname = "shop"\nvariable = "A-B"', "rollout.deployment.variable"),
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused(place: Workplace, rollout: str, words: str) -> None:
    """Every fault is named before anything is done."""
    configure(place, rollout)
    ended = place.segue("rollback", "--confirm")
    assert ended.code == 2
    assert words in ended.err


def test_with_kubernetes_down_users_are_back_all_the_same(place: Workplace, tmp_path: Path) -> None:
    """Nobody answers at the API's address: the step fails with the kubectl command, the others are done, in seconds."""
    configure(place, 'kind = "configmap"\nnamespace = "shop"\nname = "segue"')
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "gone", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "gone"}}
    users = [{"name": "gone", "user": {}}]
    text = {"clusters": [cluster], "contexts": [context], "current-context": "gone", "users": users}
    kubeconfig.write_text(json.dumps(text), encoding="utf-8")
    assert place.segue("mode", "set", "dual_write", KUBECONFIG=str(kubeconfig)).code == 1
    ended = rollback(place, KUBECONFIG=str(kubeconfig))
    assert ended.code == 1
    failed = step(ended, "rollout")
    assert failed["by_hand"] == ['kubectl -n shop patch configmap segue --type merge -p \'{"data": {"mode": "neo4j_only"}}\'']
    assert failed["seconds"] < 10
    assert ended.data["collections"][0]["reads_on_neo4j_seconds"] is not None
    assert control(place) == "neo4j_only"


# --- a cluster


class Cluster:
    """A namespace of its own in the cluster, driven by the plain API as its operators do."""

    def __init__(self) -> None:
        from kubernetes import client, config  # noqa: PLC0415

        config.load_kube_config(os.environ["KUBECONFIG"])
        self.core, self.apps, self.rbac = client.CoreV1Api(), client.AppsV1Api(), client.RbacAuthorizationV1Api()
        self.namespace = f"segue-{uuid.uuid4().hex[:8]}"
        self.core.create_namespace({"metadata": {"name": self.namespace}})

    def config_map(self, **data: str) -> None:
        self.core.create_namespaced_config_map(self.namespace, {"metadata": {"name": "segue"}, "data": data})

    def mode(self) -> str | None:
        found = self.core.read_namespaced_config_map("segue", self.namespace)
        return dict(found.data or {}).get("mode")

    def deployment(self, **template: Any) -> None:
        labels = {"app": "shop"}
        container = {
            "name": "shop",
            "image": "example.invalid/shop:1",
            "env": [{"name": "STORAGE_MODE", "value": "neo4j_only"}],
        }
        spec = {
            "replicas": 2,
            "progressDeadlineSeconds": 5,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], **template}},
        }
        self.apps.create_namespaced_deployment(self.namespace, {"metadata": {"name": "shop"}, "spec": spec})
        eventually(lambda: self.available() == 2)
        assert self.available() == 2

    def available(self) -> int:
        return self.apps.read_namespaced_deployment("shop", self.namespace).status.available_replicas or 0

    def variable(self) -> str:
        container = self.apps.read_namespaced_deployment("shop", self.namespace).spec.template.spec.containers[0]
        return str(container.env[0].value)

    def pods_with(self, mode: str) -> int:
        pods = self.core.list_namespaced_pod(self.namespace, label_selector="app=shop").items
        return sum(pod.spec.containers[0].env[0].value == mode and not pod.metadata.deletion_timestamp for pod in pods)

    def close(self) -> None:
        self.core.delete_namespace(self.namespace)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A namespace, deleted afterwards."""
    pytest.importorskip("kubernetes")
    cluster = Cluster()
    yield cluster
    cluster.close()


@needs_cluster
def test_a_config_map_follows_the_mode(place: Workplace, cluster: Cluster) -> None:
    """Forward and back; other keys stay, a plan is the server's own dry run, twice changes nothing."""
    cluster.config_map(mode="neo4j_only", other="kept")
    configure(place, f'kind = "configmap"\nnamespace = "{cluster.namespace}"\nname = "segue"')
    go(place, "dual_write")
    assert cluster.mode() == "dual_write"
    shown = place.segue("rollback", "--format", "json")
    assert "dual_write → neo4j_only; the API would take it" in step(shown, "rollout")["detail"]
    assert cluster.mode() == "dual_write"
    ended = rollback(place)
    assert ended.code == 0, ended.err
    assert cluster.mode() == "neo4j_only"
    assert cluster.core.read_namespaced_config_map("segue", cluster.namespace).data["other"] == "kept"
    assert step(rollback(place), "rollout")["status"] == "already"


@needs_cluster
def test_a_config_map_that_others_change_all_the_time(place: Workplace, cluster: Cluster) -> None:
    """Two operators and a busy third: nobody's key is lost, and the mode is there in the end."""
    cluster.config_map(mode="dual_write")
    configure(place, f'kind = "configmap"\nnamespace = "{cluster.namespace}"\nname = "segue"')
    both = [place.start("rollback", "--confirm", "--format", "json") for _ in range(2)]
    written = 0
    while any(one.process.poll() is None for one in both):
        body = {"data": {f"other-{written}": "x"}}
        cluster.core.patch_namespaced_config_map("segue", cluster.namespace, body)
        written += 1
        time.sleep(0.05)
    assert [one.ended().code for one in both] == [0, 0]
    assert cluster.mode() == "neo4j_only"
    assert len(cluster.core.read_namespaced_config_map("segue", cluster.namespace).data) == written + 1


@needs_cluster
def test_a_config_map_that_may_not_be_changed(place: Workplace, cluster: Cluster) -> None:
    """Immutable, or missing: the API's own words, exit 1, and users are back all the same."""
    configure(place, f'kind = "configmap"\nnamespace = "{cluster.namespace}"\nname = "segue"')
    missing = rollback(place)
    assert missing.code == 1
    assert f"ConfigMap segue in namespace {cluster.namespace} is not there" in missing.err
    body = {"metadata": {"name": "segue"}, "data": {"mode": "hybrid"}, "immutable": True}
    cluster.core.create_namespaced_config_map(cluster.namespace, body)
    immutable = rollback(place)
    assert immutable.code == 1
    assert "field is immutable when `immutable` is set" in immutable.err
    assert step(immutable, "canary")["status"] == "done"


@needs_cluster
def test_a_deployment_follows_the_mode(place: Workplace, cluster: Cluster) -> None:
    """Pods are replaced by such with the new value, and it waits until no old one is left; twice changes nothing."""
    cluster.deployment()
    configure(place, f'kind = "deployment"\nnamespace = "{cluster.namespace}"\nname = "shop"')
    go(place, "dual_write")
    assert (cluster.variable(), cluster.pods_with("dual_write"), cluster.available()) == ("dual_write", 2, 2)
    ended = rollback(place)
    assert ended.code == 0, ended.err
    assert "2 of 2 pods updated, 2 available, 0 old ones left" in ended.err
    assert (cluster.variable(), cluster.pods_with("neo4j_only"), cluster.pods_with("dual_write")) == ("neo4j_only", 2, 0)
    assert step(rollback(place), "rollout")["status"] == "already"


@needs_cluster
def test_a_roll_out_that_gets_stuck_is_undone(place: Workplace, cluster: Cluster) -> None:
    """No node takes the new pods: past the progress deadline the former value is back, the old pods never went away."""
    cluster.deployment(affinity={})
    configure(place, f'kind = "deployment"\nnamespace = "{cluster.namespace}"\nname = "shop"')
    stop_scheduling(cluster)
    try:
        ended = place.segue("mode", "set", "dual_write")
        assert ended.code == 1
        assert "exceeded its progress deadline" in ended.err
        assert "undone: STORAGE_MODE is neo4j_only again, not dual_write" in ended.err
        assert (cluster.variable(), control(place)) == ("neo4j_only", "dual_write")
        assert cluster.available() >= 1
    finally:
        stop_scheduling(cluster, is_over=True)


def stop_scheduling(cluster: Cluster, *, is_over: bool = False) -> None:
    """Let the namespace take no further pods; those there stay."""
    if is_over:
        with contextlib.suppress(Exception):
            cluster.core.delete_namespaced_resource_quota("none", cluster.namespace)
        return
    body = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.core.create_namespaced_resource_quota(cluster.namespace, body)


@needs_cluster
def test_the_role_of_the_documentation_is_enough_and_not_more(place: Workplace, cluster: Cluster) -> None:
    """An account with just that Role, by its real token, changes the two objects, lists its pods, and nothing else."""
    cluster.config_map(mode="hybrid")
    cluster.deployment()
    manifest = ROLE_MANIFEST.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    manifest = manifest.replace("namespace: shop", f"namespace: {cluster.namespace}")
    kubeconfig = account(cluster, manifest, place.folder)

    for rollout in ('kind = "configmap"\nname = "segue"', 'kind = "deployment"\nname = "shop"'):
        configure(place, f'namespace = "{cluster.namespace}"\n{rollout}')
        assert permissions(place, kubeconfig)["outcome"] == "ok"
        ended = rollback(place, KUBECONFIG=kubeconfig)
        assert ended.code == 0, ended.err
    assert (cluster.mode(), cluster.variable()) == ("neo4j_only", "neo4j_only")

    body = {"metadata": {"name": "other"}, "data": {"mode": "hybrid"}}
    cluster.core.create_namespaced_config_map(cluster.namespace, body)
    configure(place, f'kind = "configmap"\nnamespace = "{cluster.namespace}"\nname = "other"')
    lacking = permissions(place, kubeconfig)
    assert lacking["outcome"] == "error"
    assert "get configmaps other, patch configmaps other" in lacking["evidence"]
    refused = rollback(place, KUBECONFIG=kubeconfig)
    assert refused.code == 1
    assert 'configmaps "other" is forbidden' in refused.err


def permissions(place: Workplace, kubeconfig: str) -> dict[str, Any]:
    """Return what preflight finds of the account's permissions."""
    ended = place.segue("preflight", "--format", "json", KUBECONFIG=kubeconfig)
    (found,) = (one for one in ended.data["checks"] if one["id"] == "kubernetes-permissions")
    return dict(found)


def account(cluster: Cluster, manifest: str, folder: Path) -> str:
    """Apply the manifest and return a kubeconfig of its account."""
    import yaml  # noqa: PLC0415

    for one in yaml.safe_load_all(manifest):
        if one["kind"] == "ServiceAccount":
            cluster.core.create_namespaced_service_account(cluster.namespace, one)
        elif one["kind"] == "Role":
            cluster.rbac.create_namespaced_role(cluster.namespace, one)
        else:
            cluster.rbac.create_namespaced_role_binding(cluster.namespace, one)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, "audiences": None},
    }
    token = cluster.core.create_namespaced_service_account_token("segue", cluster.namespace, request).status.token
    admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text(encoding="utf-8"))
    admin["users"] = [{"name": "segue", "user": {"token": token}}]
    admin["contexts"][0]["context"]["user"] = "segue"
    path = folder / "account"
    path.write_text(yaml.safe_dump(admin), encoding="utf-8")
    return str(path)
