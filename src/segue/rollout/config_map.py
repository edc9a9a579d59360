"""The mode in a ConfigMap whose key is mounted as a file, which instances open anew twice a second.

No pod is restarted; the kubelet brings the change to the file within about a minute.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from segue.errors import RetryableError
from segue.model import StorageMode
from segue.ports import RolloutWatch
from segue.rollout.gitops import owner
from segue.rollout.kubernetes_api import KubernetesApi

TRIES = 3
"""How often the ConfigMap is read again when somebody else changes it, or an answer does not come."""


class ConfigMapRollout:
    """A `Rollout` into one key of a ConfigMap.

    Args:
        api: Its namespace.
        name: Its name.
        key: The key that is mounted.
    """

    def __init__(self, api: KubernetesApi, name: str, key: str) -> None:
        self._api = api
        self._name = name
        self._key = key
        self._before: tuple[str | None] | None = None

    def plan(self, mode: StorageMode) -> list[str]:
        """See `Rollout`. The API itself is asked whether it would take the change."""
        found = self._api.config_map(self._name)
        now = self._value(found)
        if now is not None and now.strip() == mode:
            return [f"{self._what} says {mode} already"]
        self._api.patch_config_map(self._name, _patch(found, {self._key: mode.value}), dry_run=True)
        return [f"{self._what}: {now or '(not set)'} → {mode}; the API would take it", *_warning(found)]

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        """See `Rollout`."""
        self._before = self._write(mode.value, watch)
        if self._before is not None:
            watch.note(f"{self._what}: {mode}; the kubelet brings it to the mounted file within about a minute")
        return self._before is not None

    def undo(self, watch: RolloutWatch) -> None:
        """See `Rollout`."""
        if self._before is not None:
            self._write(self._before[0], watch)
            self._before = None
            watch.note(f"{self._what} is as it was before")

    def by_hand(self, mode: StorageMode) -> list[str]:
        """See `Rollout`."""
        body = json.dumps({"data": {self._key: mode.value}})
        return [shlex.join(self._api.kubectl("patch", "configmap", self._name, "--type", "merge", "-p", body))]

    @property
    def _what(self) -> str:
        return f"ConfigMap {self._api.namespace}/{self._name}, key {self._key}"

    def _value(self, found: dict[str, Any]) -> str | None:
        value: str | None = (found.get("data") or {}).get(self._key)
        return value

    def _write(self, value: str | None, watch: RolloutWatch) -> tuple[str | None] | None:
        """Write a value over whatever is there; return that, None when the value was there already.

        Whatever fails for now, the ConfigMap is read again: an answer that did not come may have been a success.
        """
        before: tuple[str | None] | None = None
        for left in reversed(range(TRIES)):
            try:
                found = self._api.config_map(self._name)
                now = self._value(found)
                if now == value or (now is not None and now.strip() == value):
                    break
                before = (now,)
                self._api.patch_config_map(self._name, _patch(found, {self._key: value}))
                for line in _warning(found):
                    watch.note(line)
                break
            except RetryableError as fault:
                if not left:
                    raise
                watch.note(f"{fault.message}; reading it again")
        return before


def _patch(found: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    # With the version that was read, so that nobody's change in between is overwritten unseen.
    return {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "data": data}


def _warning(found: dict[str, Any]) -> list[str]:
    by = owner(found)
    return [f"it is managed by {by}, which may take the change back: change it there too"] if by else []
