"""`segue --version`: whatever the stores do, it tells the versions, ends well and tells no secret."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from acceptance.agent_place import database_url, redis_url
from acceptance.workplace import workplace
from segue import __version__
from segue.bootstrap import versions as bootstrap_versions
from segue.sandbox import Endpoint

NOWHERE = "127.0.0.1:1"
SECRET = "not-to-be-seen"
CLEAN = {"PATH": os.environ["PATH"], "SEGUE_LOG_FORMAT": "text"}


def told(folder: Path, **environment: str) -> list[str]:
    """Return the lines of `segue --version` in a folder, with nothing configured but what is given."""
    command = [sys.executable, "-m", "segue", "--version"]
    ended = subprocess.run(
        command, cwd=folder, env={**CLEAN, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()


def test_without_a_configuration_only_what_is_installed(tmp_path: Path) -> None:
    """No store is named, so none is asked; a client that is not installed is left out."""
    segue, clients = told(tmp_path)
    assert segue == f"segue {__version__}"
    assert f", neo4j {importlib.metadata.version('neo4j')}," in clients
    assert f"pymilvus {importlib.metadata.version('pymilvus')}" in clients


def test_each_store_tells_its_version(
    newest_neo4j: Endpoint,
    milvus_endpoint: Endpoint,
    agent_endpoints: Mapping[str, Endpoint],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All four are named, one by the file and the others by the environment, and answer."""
    # As long as a busy machine may need.
    monkeypatch.setattr(bootstrap_versions, "STORE_SECONDS", 60.0)
    monkeypatch.setattr(bootstrap_versions, "ALL_SECONDS", 120.0)
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(f'[neo4j]\nuri = "{newest_neo4j.uri}"\n')
        redis, postgres = agent_endpoints["redis"], agent_endpoints["postgres"]
        addresses = {"REDIS_URL": redis_url(redis, 0), "DATABASE_URL": database_url(postgres)}
        for name, value in {**place.environment(), **addresses}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NEO4J_URI")
        lines = list(bootstrap_versions.versions(place.folder / "segue.toml"))
        for secret in (*place.secrets, redis.password, postgres.password):
            assert secret not in "".join(lines)
        stores = dict(line.split(": ", 1) for line in lines[2:])
        expected = {"neo4j": newest_neo4j.version, "milvus": "2.3.5", "redis": redis.version, "postgres": postgres.version}
        assert list(stores) == list(expected)
        assert all(stores[name].startswith(version) for name, version in expected.items()), stores


@pytest.mark.parametrize("store", ["neo4j", "milvus", "redis", "postgres"])
def test_a_store_that_is_down_is_said(store: str, tmp_path: Path) -> None:
    """Nothing listens there; the command ends well all the same."""
    environment = {
        "neo4j": {"NEO4J_URI": f"bolt://{NOWHERE}", "NEO4J_PASSWORD": SECRET},
        "milvus": {"MILVUS_URI": f"http://{NOWHERE}", "MILVUS_TOKEN": f"root:{SECRET}"},
        "redis": {"REDIS_URL": f"redis://:{SECRET}@{NOWHERE}/0"},
        "postgres": {"DATABASE_URL": f"postgresql://someone:{SECRET}@{NOWHERE}/shop"},
    }
    lines = told(tmp_path, **environment[store])
    assert len(lines) == 3
    assert lines[2].startswith(f"{store}: ")
    # The latter on a machine that is busy beyond that.
    assert "does not answer" in lines[2] or "no answer within" in lines[2]


def test_a_configuration_that_does_not_fit_is_said(tmp_path: Path) -> None:
    """The stores cannot be known then; what is installed is told."""
    lines = told(tmp_path, MILVUS_URI=f"http://root:{SECRET}@{NOWHERE}")
    assert lines[0] == f"segue {__version__}"
    assert lines[2].startswith("stores: not asked: ")


def test_milvus_in_a_file_is_not_opened(tmp_path: Path) -> None:
    """Opening it would make the file."""
    assert told(tmp_path, MILVUS_URI="./milvus.db")[2] == "milvus: Milvus Lite, in ./milvus.db"
    assert list(tmp_path.iterdir()) == []
