"""What an account may do in the cluster where the mode is written; asks, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segue.rollout.kubernetes_api import KubernetesApi


class ClusterPermissions:
    """The `Cluster` of a `[rollout]`.

    Args:
        api: The namespace.
        needed: (API group, resource, verb, object's name or empty for any).
    """

    def __init__(self, api: KubernetesApi, needed: Sequence[tuple[str, str, str, str]]) -> None:
        self._api = api
        self._needed = needed

    def missing(self) -> Mapping[str, str]:
        """See `Cluster`."""
        return {
            f"{verb} {resource} {name}".strip(): f"apiGroups: ['{group}'], resources: ['{resource}'], verbs: ['{verb}']"
            for group, resource, verb, name in self._needed
            if not self._api.may(group, resource, verb, name)
        }
