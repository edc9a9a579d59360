"""On what the benchmark ran: hardware, servers, clients, versions. A number without these is no number."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from contender import neo4j_of
from measuring import cores
from segue.sandbox import Endpoint

_PACKAGES = ("segue", "neo4j", "neo4j-rust-ext", "pymilvus", "grpcio", "protobuf", "numpy")


def describe(servers: Mapping[str, Endpoint]) -> dict[str, str]:
    """Return what identifies this machine's measurements, by name."""
    source, sink = neo4j_of(servers), servers["milvus"]
    facts = {
        "CPU": f"{_cpu_model()}, {cores()} cores, shared by client and servers",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Neo4j": f"{source.version} on Java {_java_version(source.pid)}",
        "Milvus": f"{sink.version} standalone",
        "Python": platform.python_version(),
    }
    return facts | {package: _version(package) for package in _PACKAGES}


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return found[1] if found else platform.processor() or "unknown CPU"


def _java_version(pid: int) -> str:
    said = subprocess.run([psutil.Process(pid).exe(), "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', said)
    return found[1] if found else "of unknown version"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
