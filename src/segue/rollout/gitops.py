"""Who else looks after an object of Kubernetes and takes changes back: Argo CD and Flux, by the marks they leave on it."""

from __future__ import annotations

from typing import Any

_MARKS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


def owner(found: dict[str, Any]) -> str | None:
    """Return who keeps an object as a repository says, None when nobody is known to."""
    metadata = found["metadata"]
    marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return next((by for mark, by in _MARKS.items() if mark in marks), None)
