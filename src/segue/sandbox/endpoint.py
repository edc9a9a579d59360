"""What is known of one running server, its record on disk, and the environment that points at it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

NEO4J_LINES = ("neo4j-2026", "neo4j-5.26")


@dataclass(frozen=True)
class Endpoint:
    """One server of the sandbox: how to reach it and which process it is.

    Args:
        service: `neo4j-5.26`, `neo4j-2026`, `milvus`, `redis`, `postgres` or `prometheus`.
        version: The server's own version.
        uri: Address without credentials.
        username: The user that `password` belongs to.
        password: Random, of this instance only; not shown by `repr`.
        pid: The server's process, leader of its own process group; 0 before it was started.
        started: That process's start in seconds after boot; with `pid` it names one process and no other.
        home: Its data and configuration, removed by `down`.
        log: What it printed, kept by `down`.
        ports: Every port it listens on, by purpose (`http`, `metrics`, …).
        is_initialised: It answered once with its own password, so that its data is worth starting again with.
    """

    service: str
    version: str
    uri: str
    username: str
    password: str = field(repr=False)
    pid: int
    started: float
    home: Path
    log: Path
    ports: Mapping[str, int]
    is_initialised: bool = False


def exports(endpoints: Mapping[str, Endpoint]) -> dict[str, str]:
    """The environment by which clients find these servers; of two Neo4j lines it names the newer."""
    names: dict[str, str] = {}
    if neo4j := newest_neo4j(endpoints):
        names |= {"NEO4J_URI": neo4j.uri, "NEO4J_USERNAME": neo4j.username, "NEO4J_PASSWORD": neo4j.password}
    if milvus := endpoints.get("milvus"):
        names |= {"MILVUS_URI": milvus.uri, "MILVUS_TOKEN": f"{milvus.username}:{milvus.password}"}
    if redis := endpoints.get("redis"):
        names["REDIS_URL"] = _with_credentials(redis)
    if postgres := endpoints.get("postgres"):
        names["DATABASE_URL"] = _with_credentials(postgres)
    if prometheus := endpoints.get("prometheus"):
        names["PROMETHEUS_URL"] = prometheus.uri
    return names


def newest_neo4j(endpoints: Mapping[str, Endpoint]) -> Endpoint | None:
    """The newest Neo4j among them, None without any."""
    return next((endpoints[line] for line in NEO4J_LINES if line in endpoints), None)


def _with_credentials(endpoint: Endpoint) -> str:
    scheme, rest = endpoint.uri.split("://", 1)
    return f"{scheme}://{endpoint.username}:{endpoint.password}@{rest}"


def save(endpoint: Endpoint, root: Path) -> None:
    """Write its record, readable by the owner alone; replaces the one before as a whole."""
    fields = {**asdict(endpoint), "home": str(endpoint.home), "log": str(endpoint.log)}
    target = _record_path(root, endpoint.service)
    draft = target.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(fields, file)
    draft.replace(target)


def load(root: Path, service: str) -> Endpoint | None:
    """Read its record; None when there is none, or none that this version can read."""
    try:
        fields = json.loads(_record_path(root, service).read_text(encoding="utf-8"))
        return Endpoint(**{**fields, "home": Path(fields["home"]), "log": Path(fields["log"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def forget(root: Path, service: str) -> None:
    """Remove its record; nothing happens without one."""
    _record_path(root, service).unlink(missing_ok=True)


def _record_path(root: Path, service: str) -> Path:
    return root / f"{service}.json"
