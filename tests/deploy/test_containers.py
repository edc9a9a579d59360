"""What is built and composed elsewhere, checked by linter, schema and the servers' own tools: no container runs here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segue import sandbox
from segue.sandbox.system_programs import required

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def ran(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a development tool at the root of the project."""
    command = (str(Path(sys.executable).with_name(tool)), *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_hadolint_minds_nothing() -> None:
    """With all its rules; and the image is built in stages, from one pinned base, and is no root's."""
    checked = ran("hadolint", "Dockerfile")
    assert checked.returncode == 0, checked.stdout
    assert re.search(r"^ARG BASE=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.count("\nFROM ${BASE}") == 2
    assert "\nUSER 10001:10001\n" in DOCKERFILE


def test_everything_that_is_copied_reaches_the_builder() -> None:
    """Each exists, and the ignore file, which keeps everything else out, lets it through."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_compose_is_valid_by_its_schema() -> None:
    """The one of the Compose Specification."""
    checked = ran("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_has_the_services_of_the_sandbox() -> None:
    """All of them, one line of Neo4j; pinned, on loopback only, and no password has a default."""
    assert {name for name in sandbox.SERVICES if "-" not in name} <= SERVICES.keys()
    for service in SERVICES.values():
        assert "build" in service or re.search(r":v?\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    secrets = re.findall(r"\$\{(\w+)([^}]*)\}", (ROOT / "compose.yaml").read_text(encoding="utf-8").split("\nvolumes:")[0])
    references = [(name, rest) for name, rest in secrets if not rest.startswith("#")]
    assert references
    assert all(rest.startswith(":?") for _, rest in references)


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_file_exists(name: str) -> None:
    """But for the configuration, which is the user's."""
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("./") and source != "./segue.toml":
            assert (ROOT / source).is_file(), source


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """By its own tool, with the rules that compose mounts beside it."""
    text = (ROOT / "deploy/compose/prometheus.yml").read_text(encoding="utf-8")
    configuration = tmp_path / "prometheus.yml"
    rules = ROOT / "deploy/prometheus/segue-rules.yml"
    configuration.write_text(text.replace("/etc/prometheus/segue-rules.yml", str(rules)), encoding="utf-8")
    command = (required("promtool", "prometheus"), "check", "config", str(configuration))
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
