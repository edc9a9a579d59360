"""Environments that have the libraries to prove against, each over this one's packages and in the user's cache.

They need other versions of the drivers than each other, and more room than `make setup` should take. Made once, in under a
minute together; whoever has them already only starts them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import uuid
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_path

from acceptance.workplace import Workplace, eventually, workplace
from segue.sandbox import Endpoint

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"

LIBRARIES = {
    "langchain-0.4": ("langchain-neo4j==0.11.0", "langchain-milvus==0.4.0", "langchain-tests==1.1.9", "neo4j-graphrag==1.22.0"),
    # With a newer pymilvus it cannot connect (langchain-milvus #130).
    "langchain-0.3": ("langchain-milvus==0.3.3", "pymilvus==2.6.9"),
    "llama-index": (
        "llama-index-vector-stores-neo4jvector==0.7.0",
        "llama-index-vector-stores-milvus==1.2.0",
        "neo4j==5.28.8",
        "pymilvus==2.6.17",
    ),
}

TIMES = """
[search]
visible_seconds = 2
fence_seconds = 2
slack_seconds = 0.2
milvus_seconds = 5
"""
"""The read fence's, short, and time enough for a Milvus that is busy with other tests."""


def library_environment(name: str) -> Path:
    """Return the Python of an environment that has a library, made where it is missing."""
    under = sysconfig.get_paths()["purelib"]
    packages = LIBRARIES[name]
    digest = hashlib.sha256("\n".join((sys.version, under, *packages)).encode()).hexdigest()[:12]
    folder = user_cache_path("segue") / "frameworks" / f"{name}-{digest}"
    if not folder.exists():
        # Made aside, so that one that was interrupted is never taken for whole.
        making = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
        venv.create(making, with_pip=False, symlinks=True)
        (made,) = making.glob("lib/python*/site-packages")
        (made / "under.pth").write_text(f"{under}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", str(making / "bin/python"), "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)
        # Another one may have made it meanwhile.
        with contextlib.suppress(OSError):
            making.rename(folder)
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Library:
    """A library in an environment of its own."""

    python: Path

    def does(self, task: str, **job: Any) -> Any:
        """Run a task of `sides.py` to its end and return its answer."""
        ended = self.run(str(HERE / "sides.py"), task, stdin=json.dumps(job))
        assert ended.returncode == 0, ended.stderr[-4000:]
        return json.loads(ended.stdout.splitlines()[-1])

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run its Python."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("NEO4J_", "MILVUS_", "SEGUE_"))}
        own |= {"PYTHONPATH": str(SOURCE), **environment}
        command = [str(self.python), *arguments]
        return subprocess.run(command, input=stdin, env=own, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="session")
def langchain_04() -> Library:
    """langchain-neo4j, langchain-milvus 0.4 on pymilvus 3, neo4j-graphrag, LangChain's standard tests."""
    return Library(library_environment("langchain-0.4"))


@pytest.fixture(scope="session")
def langchain_03() -> Library:
    """langchain-milvus 0.3 on pymilvus 2.6."""
    return Library(library_environment("langchain-0.3"))


@pytest.fixture(scope="session")
def llama_index() -> Library:
    """LlamaIndex's two stores, on Neo4j's driver 5 and pymilvus 2.6."""
    return Library(library_environment("llama-index"))


@pytest.fixture(scope="module")
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A folder, a label and a collection for the module."""
    with workplace(tmp_path_factory.mktemp("frameworks"), newest_neo4j, milvus_endpoint) as one:
        yield one


@pytest.fixture(autouse=True)
def _servers_in_the_environment(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an application's own process has addresses and secrets from."""
    for name, value in place.environment().items():
        if name.startswith(("NEO4J_", "MILVUS_")):
            monkeypatch.setenv(name, value)


def neo4j_job(place: Workplace) -> dict[str, Any]:
    """Return what a library's Neo4j side is told."""
    neo4j = place.neo4j
    names = {"label": place.label, "index": place.collection}
    return {"uri": neo4j.uri, "username": neo4j.username, "password": neo4j.password, **names}


def milvus_job(place: Workplace) -> dict[str, Any]:
    """Return what a library's Milvus side is told."""
    return {"uri": place.milvus.uri, "token": place.token, "collection": place.collection}


def init(place: Workplace, preset: str, *arguments: str) -> dict[str, Any]:
    """Run `segue init`, put short times into the file, and return what it found."""
    ended = place.segue("init", "--no-input", "--format", "json", "--index", place.collection, "--preset", preset, *arguments)
    assert ended.code == 0, ended.err
    path = place.folder / "segue.toml"
    path.write_text(path.read_text(encoding="utf-8") + TIMES, encoding="utf-8")
    (told,) = ended.data["collections"]
    return dict(told)


def copy(place: Workplace) -> None:
    """Capture changes from here on, and copy what there is."""
    place.note_preflight()
    for arguments in (("mode", "set", "dual_write"), ("migrate-embeddings",)):
        ended = place.segue(*arguments)
        assert ended.code == 0, ended.err


def drain(place: Workplace) -> None:
    """Have everything carried over that is marked."""
    ended = place.segue("relay", "--until-drained")
    assert ended.code == 0, ended.err


def await_forgotten(place: Workplace, key: str) -> None:
    """Have a delete carried over, so that the tests that come after see a collection without it."""
    drain(place)
    eventually(lambda: not place.client.query(place.collection, ids=[key]))


def answered_by_milvus(place: Workplace) -> None:
    """Go from a copied collection in `dual_write` to `hybrid`, as an operator does who is in a hurry."""
    drain(place)
    for mode in ("shadow_milvus", "hybrid"):
        refused = []

        def changed(mode: str = mode, refused: list[str] = refused) -> bool:
            passed = ("--override", "validation", "--override", "shadow", "--reason", "a test of the frameworks")
            ended = place.segue("mode", "set", mode, *passed)
            refused.append(ended.err)
            return ended.code == 0

        # The rows of a copy are visible only some time after it.
        eventually(changed)
        assert mode_of(place) == mode, refused[-1]


def mode_of(place: Workplace) -> str:
    """Return what the control node says."""
    found = place.rows("MATCH (c:SegueControl {collection: $name}) RETURN c.mode", name=place.collection)
    return str(found[0][0])
