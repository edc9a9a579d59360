"""Looks at an installed Segue, in an environment that holds no extra; run by `test_distributions`. Prints JSON."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

import segue
from segue import cli
from segue.errors import ConfigError

DATA = (
    "py.typed",
    "demo/films.jsonl",
    "demo/films.npy",
    "state/migrations/001_backfill.sql",
    "stores/agentdb_migrations/versions/0001_tables.py",
    "stores/queries/agentdb_tables.sql",
    "stores/queries/agentdb_write.lua",
    "stores/queries/capture_trigger.cypher",
)


def segue_has(name: str) -> Callable[[], object]:
    """Return what asks Segue for one of its names."""
    return lambda: getattr(segue, name)


def made(module: str, name: str) -> Any:
    """Return what a module of Segue's has under a name."""
    return getattr(import_module(f"segue.{module}"), name)


REFUSED: Mapping[str, Sequence[Callable[[], object]]] = {
    "agentdb": (segue_has("connect_agents"), segue_has("connect_agents_async"), segue_has("AgentStateStore")),
    "k8s": (
        lambda: made("rollout.kubernetes_api", "KubernetesApi")("a", context=None, request_timeout_seconds=1.0).config_map("b"),
    ),
    "langchain": (lambda: import_module("segue.integrations.langchain"),),
    "lite": (lambda: made("stores.milvus_connection", "MilvusConnection")("./milvus.db"),),
    "llama-index": (lambda: import_module("segue.integrations.llama_index"),),
    "ray": (lambda: made("bootstrap.on_ray", "copiers")("local", *[None] * 5),),
}
"""What cannot be done without an extra."""

VERBS = (
    ("init", "--agentdb"),
    ("migrate-agentdb",),
    ("mode", "show", "--agentdb"),
    ("rollback", "--agentdb"),
    ("validate", "--agentdb"),
)


def refusal(attempt: Callable[[], object]) -> dict[str, Any]:
    """Return what an application is told."""
    try:
        attempt()
    except Exception as fault:  # noqa: BLE001  # any other kind is the finding
        kinds = [kind.__name__ for kind in (ConfigError, ImportError) if isinstance(fault, kind)]
        return {"kinds": kinds, "message": f"{type(fault).__name__}: {fault}", "hint": getattr(fault, "hint", "")}
    return {"kinds": [], "message": "nothing was raised", "hint": ""}


def verb(*arguments: str) -> dict[str, Any]:
    """Run a verb in this process; return its exit code and what it says."""
    sys.argv = ["segue", *arguments]
    said = io.StringIO()
    code: Any = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return {"code": code, "said": said.getvalue()}


def main() -> None:
    """Look, and print."""
    os.environ["SEGUE_LOG_FORMAT"] = "text"
    # What has a part without agents' state must be importable without its clients.
    import_module("segue.demo.tour")
    package = files("segue")
    seen = {
        "package": str(package),
        "missing_data": [name for name in DATA if not package.joinpath(name).is_file()],
        "refusals": {extra: [refusal(one) for one in attempts] for extra, attempts in REFUSED.items()},
        "verbs": [verb(*arguments) for arguments in VERBS],
        "preflight": verb("preflight", "--check-connectivity")["said"],
    }
    print(json.dumps(seen))  # noqa: T201


if __name__ == "__main__":
    main()
