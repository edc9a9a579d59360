"""The mode in a Deployment's environment: pods are replaced, and the roll-out is waited for.

A roll-out that does not finish is undone to the former value; the old pods have gone on serving meanwhile.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from segue.errors import ConfigError, FatalError, Interrupted, RetryableError
from segue.model import StorageMode
from segue.ports import RolloutWatch
from segue.rollout.gitops import owner
from segue.rollout.kubernetes_api import KubernetesApi

POLL_SECONDS = 1.0
TRIES = 3
"""How often a change is tried anew when an answer does not come."""

NAMED = 5
"""How many pods that are not ready are named."""


class DeploymentRollout:
    """A `Rollout` into the environment of a Deployment's container, as `kubectl set env` does.

    Args:
        api: Its namespace.
        name: Its name.
        container: The container's name; None is the only one.
        variable: The variable's name.
        timeout_seconds: How long a roll-out may take, beside the Deployment's own progress deadline.
        wait: Waits so many seconds, or less; true when asked to stop.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        api: KubernetesApi,
        name: str,
        *,
        container: str | None,
        variable: str,
        timeout_seconds: float,
        wait: Callable[[float], bool],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._name = name
        self._container = container
        self._variable = variable
        self._seconds = timeout_seconds
        self._wait = wait
        self._clock = clock
        self._before: tuple[dict[str, Any] | None] | None = None

    def plan(self, mode: StorageMode) -> list[str]:
        """See `Rollout`. The API itself is asked whether it would take the change."""
        found = self._api.deployment(self._name)
        now = self._entry(found)
        if now is not None and now.get("value") == mode:
            return [f"{self._what} has {self._variable}={mode} already"]
        self._api.patch_deployment(self._name, self._patch(found, _set(now, mode)), dry_run=True)
        pods = (found.get("spec") or {}).get("replicas", 1)
        change = f"{self._variable}={_shown(now)} → {mode}"
        return [f"{self._what}: {change}, {pods} pods are replaced; the API would take it", *_warning(found)]

    def apply(self, mode: StorageMode, watch: RolloutWatch) -> bool:
        """See `Rollout`. Written already, the roll-out is waited for all the same.

        Raises:
            FatalError: The roll-out did not finish; it is undone, or the message says that it could not be.
        """
        found, self._before = self._set(mode)
        if self._before is not None:
            for line in _warning(found):
                watch.note(line)
        if (found["spec"]).get("paused"):
            message = f"{self._what} is paused: {self._variable}={mode} is written, but no pod is replaced"
            raise FatalError(message, hint=shlex.join(self._api.kubectl("rollout", "resume", f"deployment/{self._name}")))
        try:
            self._await(watch)
        except FatalError as stuck:
            raise self._taken_back(stuck, mode, watch) from stuck
        return self._before is not None

    def undo(self, watch: RolloutWatch) -> None:
        """See `Rollout`."""
        if self._before is None:
            return
        self._restore()
        self._await(watch)
        self._before = None

    def by_hand(self, mode: StorageMode) -> list[str]:
        """See `Rollout`."""
        container = ["-c", self._container] if self._container else []
        target = f"deployment/{self._name}"
        return [
            shlex.join(self._api.kubectl("set", "env", target, *container, f"{self._variable}={mode}")),
            shlex.join(self._api.kubectl("rollout", "status", target)),
        ]

    @property
    def _what(self) -> str:
        return f"Deployment {self._api.namespace}/{self._name}"

    def _set(self, mode: StorageMode) -> tuple[dict[str, Any], tuple[dict[str, Any] | None] | None]:
        """Write the mode; return the Deployment and the entry there was, None when the mode was there already.

        An answer that did not come is looked for by reading again.
        """
        before: tuple[dict[str, Any] | None] | None = None
        for left in reversed(range(TRIES)):
            try:
                found = self._api.deployment(self._name)
                now = self._entry(found)
                if now is not None and now.get("value") == mode:
                    break
                before = (now,)
                found = self._api.patch_deployment(self._name, self._patch(found, _set(now, mode)))
                break
            except RetryableError:
                if not left:
                    raise
                self._pause()
        return found, before

    def _restore(self) -> None:
        assert self._before is not None  # noqa: S101  # both callers have looked
        before = self._before[0]
        now = self._api.deployment(self._name)
        entry = {"name": self._variable, "$patch": "delete"} if before is None else {"value": None, "valueFrom": None, **before}
        self._api.patch_deployment(self._name, self._patch(now, entry))

    def _taken_back(self, stuck: FatalError, mode: StorageMode, watch: RolloutWatch) -> FatalError:
        """Undo a roll-out that did not finish, and return the error that says so."""
        if self._before is None:
            return FatalError(f"{stuck.message}; it was begun by somebody else, and is left as it is", hint=stuck.hint)
        former = _shown(self._before[0])
        try:
            self.undo(watch)
        except (FatalError, RetryableError) as fault:
            hint = shlex.join(self._api.kubectl("rollout", "undo", f"deployment/{self._name}"))
            return FatalError(f"{stuck.message}; undoing it failed: {fault.message}", hint=hint)
        return FatalError(f"{stuck.message}; undone: {self._variable} is {former} again, not {mode}", hint=stuck.hint)

    def _await(self, watch: RolloutWatch) -> None:
        """Wait until every pod is of the newest template and available, and no older one is left."""
        until = self._clock() + self._seconds
        told = ""
        while True:
            try:
                found = self._api.deployment(self._name)
            except RetryableError as fault:
                if self._clock() >= until:
                    raise
                watch.note(f"{fault.message}; trying again")
                self._pause()
                continue
            state, is_done, is_stuck = _progress(found)
            if state != told:
                watch.note(f"{self._what}: {state}")
                told = state
            if is_done:
                return
            if is_stuck or self._clock() >= until:
                why = "exceeded its progress deadline" if is_stuck else f"did not finish within {self._seconds:g} s"
                message = f"{self._what}: the roll-out {why}: {state}{self._unready(found)}"
                raise FatalError(message, hint=shlex.join(self._api.kubectl("rollout", "status", f"deployment/{self._name}")))
            self._pause()

    def _pause(self) -> None:
        if self._wait(POLL_SECONDS):
            message = f"interrupted; the roll-out of {self._what} goes on"
            raise Interrupted(message, hint="The same command goes on waiting.")

    def _unready(self, found: dict[str, Any]) -> str:
        """Return, in words, the pods that are not ready and why; nothing when they may not be listed."""
        try:
            pods = self._api.pods((found["spec"]["selector"]).get("matchLabels") or {})
        except (FatalError, RetryableError):
            return ""
        reasons = [(pod["metadata"]["name"], _why_unready(pod)) for pod in pods]
        told = [f"{name} ({why})" for name, why in reasons if why]
        return f"; not ready: {', '.join(told[:NAMED])}" if told else ""

    def _chosen(self, found: dict[str, Any]) -> dict[str, Any]:
        containers: list[dict[str, Any]] = found["spec"]["template"]["spec"]["containers"]
        chosen = [one for one in containers if self._container in (None, one["name"])]
        if len(chosen) != 1:
            names = ", ".join(one["name"] for one in containers)
            message = f"{self._what} has the containers {names}; which of them reads {self._variable}?"
            raise ConfigError(message, hint='Say it in segue.toml: [rollout] container = "NAME"')
        return chosen[0]

    def _entry(self, found: dict[str, Any]) -> dict[str, Any] | None:
        environment = self._chosen(found).get("env") or []
        return next((entry for entry in environment if entry["name"] == self._variable), None)

    def _patch(self, found: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        container = {"name": self._chosen(found)["name"], "env": [{"name": self._variable, **entry}]}
        return {"spec": {"template": {"spec": {"containers": [container]}}}}


def _set(now: dict[str, Any] | None, mode: StorageMode) -> dict[str, Any]:
    # A value beside a reference to one is refused, and a merge would leave the reference.
    gone = {"valueFrom": None} if now is not None and "valueFrom" in now else {}
    return {"value": mode.value, **gone}


def _shown(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "(not set)"
    return str(entry.get("value", "(from elsewhere)"))


def _progress(found: dict[str, Any]) -> tuple[str, bool, bool]:
    """Return how far a roll-out is, in words, whether it is done, and whether it is given up."""
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return "not begun yet", False, False
    replicas, updated, available = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
    state = f"{updated} of {wanted} pods updated, {available} available, {max(0, replicas - updated)} old ones left"
    is_stuck = any(
        one["type"] == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded"
        for one in status.get("conditions") or []
    )
    return state, updated >= wanted and replicas == updated and available >= updated, is_stuck


def _why_unready(pod: dict[str, Any]) -> str:
    status = pod.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    if conditions.get("Ready", {}).get("status") == "True" or pod["metadata"].get("deletionTimestamp"):
        return ""
    waiting = [one.get("state", {}).get("waiting", {}).get("reason") for one in status.get("containerStatuses") or []]
    unscheduled = conditions.get("PodScheduled", {})
    named = [reason for reason in waiting if reason]
    return named[0] if named else str(unscheduled.get("reason") or status.get("phase", "unknown"))


def _warning(found: dict[str, Any]) -> list[str]:
    by = owner(found)
    return [f"it is managed by {by}, which may take the change back: change it there too"] if by else []
