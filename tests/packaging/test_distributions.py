"""The wheel and the sdist: built once, installed where nothing else is, on every Python that the project says it runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from segue import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one]
CONFIGURATION = """
neo4j.uri = "bolt://127.0.0.1:1"
milvus.uri = "http://127.0.0.1:1"
postgres.url = "postgresql://127.0.0.1:1/shop"

[[collections]]
name = "films"
source = {index = "films", label = "Film", key = "id", vector = "embedding", dimension = 8}
"""
PROGRAM = Path(__file__).parent / "installed.py"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program that must end well, with nothing of this environment but what installing takes; return what it printed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME"} or name.startswith(("PIP_", "UV_", "SSL_"))
    }
    ended = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=280, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(find_uv_bin(), "build", "--quiet", "--python", sys.executable, "--out-dir", folder, cwd=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def python(version: str) -> Path | None:
    """Return an interpreter of that version which runs: of pyenv, or on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for one in [*sorted(pyenv.glob(f"{version}.*/bin/python")), *([Path(on_path)] if on_path else [])]:
        # What pyenv puts on the path is there for versions that are not.
        asked = subprocess.run([one, "--version"], capture_output=True, text=True, check=False)
        if asked.stdout.startswith(f"Python {version}."):
            return one
    return None


def installed(version: str, wheel: Path, folder: Path) -> Path:
    """Return the programs of a new environment that holds the wheel, what it requires, and nothing else."""
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"there is no Python {version} on this machine")
    run(find_uv_bin(), "venv", "--quiet", "--python", interpreter, folder / "venv", cwd=folder)
    run(find_uv_bin(), "pip", "install", "--quiet", "--python", folder / "venv", wheel, cwd=folder)
    return folder / "venv" / "bin"


@pytest.mark.parametrize("version", PYTHONS)
def test_it_runs_where_nothing_else_is(version: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    """The command under both names, the library, its types and its data; and without an extra one clear error each time."""
    programs = installed(version, built[0], tmp_path)
    for name in ("segue", "migrate"):
        assert run(programs / name, "--version", cwd=tmp_path).startswith(f"segue {__version__}\nPython {version}.")
    assert "migrate-embeddings" in run(programs / "segue", "--help", cwd=tmp_path)

    (tmp_path / "segue.toml").write_text(CONFIGURATION, encoding="utf-8")
    seen: dict[str, Any] = json.loads(run(programs / "python", "-I", PROGRAM, cwd=tmp_path))

    assert Path(seen["package"]).is_relative_to(programs.parent)
    assert seen["missing_data"] == []
    for extra, refusals in seen["refusals"].items():
        for told in refusals:
            assert told["kinds"] == ["ConfigError", "ImportError"], told
            assert f"segue[{extra}]" in told["message"], told
            assert told["hint"] == f"pip install 'segue[{extra}]'", told
    assert set(seen["refusals"]) == set(PROJECT["optional-dependencies"]) - {"fast", "dev"}
    for told in seen["verbs"]:
        assert told["code"] == 2, told
        assert "pip install 'segue[agentdb]'" in told["said"], told
    # Neither file nor environment asks for agents' state to be moved: its clients need not be there.
    assert "neo4j" in seen["preflight"]
    assert "agentdb" not in seen["preflight"]


def test_completion_is_installed(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In the shell that asks for it; from then on the shell is told verbs that begin as typed."""
    programs = installed(f"{sys.version_info[0]}.{sys.version_info[1]}", built[0], tmp_path)
    path = f"{programs}:{os.environ['PATH']}"
    shown = run("bash", "-c", "segue --show-completion; true", cwd=tmp_path, PATH=path)
    assert "complete -o default -F _segue_completion segue" in shown
    commands = (
        "segue --install-completion >&2 && . .bashrc && complete -p segue"
        " && COMP_WORDS=(segue migrate-) COMP_CWORD=1 && _segue_completion segue && echo ${COMPREPLY[*]}"
    )
    told = run("bash", "-c", commands, cwd=tmp_path, HOME=str(tmp_path), PATH=path)
    assert told.splitlines() == ["complete -o default -F _segue_completion segue", "migrate-embeddings migrate-agentdb"]


def test_the_sdist_holds_what_it_takes_to_build_and_to_know(built: tuple[Path, Path]) -> None:
    """Licence, changes, documentation, tests; nothing that a build or a test left."""
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "pyproject.toml", "docs/library.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv/", "build/", ".git/")) or "__pycache__" in name]


def test_the_wheel_says_what_it_is(built: tuple[Path, Path]) -> None:
    """Licence, Pythons and extras are in its metadata; every extra brings something; it holds the package alone."""
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
        metadata = archive.read(f"segue-{__version__}.dist-info/METADATA").decode()
    assert f"segue-{__version__}.dist-info/licenses/LICENSE" in names
    assert {name.partition("/")[0] for name in names} == {"segue", f"segue-{__version__}.dist-info"}
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    for extra in PROJECT["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in metadata
        assert f"extra == '{extra}'" in metadata
