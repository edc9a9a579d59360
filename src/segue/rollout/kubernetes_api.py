"""The one place that opens a Kubernetes client and puts its errors into Segue's words.

Objects are plain dictionaries as the API has them. Every call has a deadline, and the client's own retries are off, so that an
outcome is known when it is reported. Knows no mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from segue.errors import (
    AuthenticationFailed,
    ConfigError,
    ExtraMissing,
    FatalError,
    RetryableError,
    StoreTimeout,
    StoreUnavailable,
)

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

_BUSY = 429
_SERVER = 500


class KubernetesApi:
    """ConfigMaps, Deployments and pods of one namespace; connects at the first call.

    Args:
        namespace: Where they are.
        context: A context of the kubeconfig; None is its current one, or the pod's own account inside a cluster.
        request_timeout_seconds: How long a call may take.
    """

    def __init__(self, namespace: str, *, context: str | None, request_timeout_seconds: float) -> None:
        self.namespace = namespace
        self.context = context
        self._seconds = request_timeout_seconds

    def config_map(self, name: str) -> Object:
        """Return a ConfigMap.

        Raises (every method):
            RetryableError: No answer; whether a patch took effect is unknown.
            FatalError: There is none, or the account may not do this.
            ConfigError: There is no client, or no cluster is configured.
        """
        return self._call(f"ConfigMap {name}", "read_namespaced_config_map", name)

    def patch_config_map(self, name: str, body: Object, *, dry_run: bool = False) -> Object:
        """Merge into a ConfigMap.

        Raises:
            RetryableError: Also when `metadata.resourceVersion` is given and not its any more: it is to be read again.
        """
        return self._patch(f"ConfigMap {name}", "patch_namespaced_config_map", name, body, MERGE, dry_run=dry_run)

    def deployment(self, name: str) -> Object:
        """Return a Deployment."""
        return self._call(f"Deployment {name}", "read_namespaced_deployment", name)

    def patch_deployment(self, name: str, body: Object, *, dry_run: bool = False) -> Object:
        """Merge into a Deployment, lists by their names."""
        return self._patch(f"Deployment {name}", "patch_namespaced_deployment", name, body, STRATEGIC, dry_run=dry_run)

    def pods(self, labels: Mapping[str, str]) -> list[Object]:
        """Return the pods that have all these labels."""
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        items: list[Object] = self._call("pods", "list_namespaced_pod", label_selector=selector)["items"]
        return items

    def may(self, group: str, resource: str, verb: str, name: str) -> bool:
        """Return whether the account may do something in this namespace; any account may ask that of itself."""
        attributes = {"namespace": self.namespace, "group": group, "resource": resource, "verb": verb, "name": name}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        review = self._call("permissions", "create_self_subject_access_review", body=body)
        return bool(review["status"].get("allowed"))

    def kubectl(self, *arguments: str) -> list[str]:
        """Return a kubectl command for this namespace, as words."""
        context = ["--context", self.context] if self.context else []
        return ["kubectl", *context, "-n", self.namespace, *arguments]

    def _patch(self, what: str, method: str, name: str, body: Object, kind: str, *, dry_run: bool) -> Object:
        options = {"dry_run": "All"} if dry_run else {}
        return self._call(what, method, name, body=body, field_manager="segue", _content_type=kind, **options)

    def _call(self, what: str, method: str, *arguments: str, **options: Any) -> Object:
        client = self._client
        with self._translated(what):
            call = getattr(client[1] if "deployment" in method else client[2] if "review" in method else client[0], method)
            options |= {"namespace": self.namespace} if "namespaced" in method else {}
            # The raw answer: the client's models differ from version to version, what the API says does not.
            answer = call(*arguments, _request_timeout=self._seconds, _preload_content=False, **options)
            # Without preloading older clients leave errors to their caller.
            if answer.status >= 400:  # noqa: PLR2004  # HTTP's
                raise self._refused(what, answer.status, answer.data)
            found: Object = json.loads(answer.data)
            return found

    @cached_property
    def _client(self) -> tuple[Any, Any, Any]:
        """The core, the apps and the authorization API."""
        try:
            from kubernetes import client, config  # noqa: PLC0415
            from kubernetes.config.config_exception import ConfigException  # noqa: PLC0415
        except ImportError as fault:
            raise ExtraMissing.of(what="a roll-out to Kubernetes", extra="k8s", missing=["kubernetes"]) from fault
        configuration = client.Configuration()
        try:
            config.load_kube_config(context=self.context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as fault:
            # Not `load_config`, which says on stdout which of the two it takes.
            try:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            except ConfigException:
                message = f"no Kubernetes cluster is configured: {_first_line(fault)}"
                hint = "Set KUBECONFIG, or [rollout] context; inside a cluster, give the pod an account."
                raise ConfigError(message, hint=hint) from fault
        configuration.retries = False
        opened = client.ApiClient(configuration)
        return client.CoreV1Api(opened), client.AppsV1Api(opened), client.AuthorizationV1Api(opened)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError, NewConnectionError  # noqa: PLC0415
        from urllib3.exceptions import TimeoutError as HttpTimeout  # noqa: PLC0415

        where = self._where(what)
        try:
            yield
        except ApiException as fault:
            raise self._refused(what, fault.status or 0, fault.body) from fault
        except HttpTimeout as fault:
            # A refused connection is one of these timeouts to urllib3.
            if isinstance(fault, NewConnectionError):
                message = f"{where}: the Kubernetes API does not answer: {_first_line(fault)}"
                raise StoreUnavailable(message) from fault
            message = f"{where}: the Kubernetes API gave no answer within {self._seconds:g} s"
            raise StoreTimeout(message) from fault
        except (HTTPError, OSError) as fault:
            message = f"{where}: the Kubernetes API does not answer: {_first_line(fault)}"
            raise StoreUnavailable(message) from fault

    def _refused(self, what: str, status: int, body: Any) -> Exception:
        where, said = self._where(what), _said(body)
        if status == 409:  # noqa: PLR2004  # HTTP's Conflict
            return RetryableError(f"{where} was changed by somebody else meanwhile")
        if status == 401:  # noqa: PLR2004  # HTTP's Unauthorized
            return AuthenticationFailed(f"{where}: the Kubernetes API refuses the credentials")
        if status == 403:  # noqa: PLR2004  # HTTP's Forbidden
            return FatalError(f"{where}: {said}", hint="docs/rollout.md has the Role that this account needs.")
        if status == 404:  # noqa: PLR2004  # HTTP's Not Found
            return FatalError(f"{where} is not there", hint="Is [rollout] right, and the context?")
        if status == _BUSY or status >= _SERVER:
            return StoreUnavailable(f"{where}: the Kubernetes API is not able to answer now: {said} ({status})")
        return FatalError(f"{where}: the Kubernetes API refuses: {said} ({status})")

    def _where(self, what: str) -> str:
        return f"{what} in namespace {self.namespace}"


def _said(body: Any) -> str:
    """Return what a Status object says; of anything else the first line."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip().splitlines()[0] if text.strip() else "no reason given"


def _first_line(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0]
