"""What comes from Maven Central and PyPI, kept in the downloads folder; installed once, whole or not at all."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from segue.sandbox.processes import Command, locked, run_tool
from segue.sandbox.settings import downloads_root

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>segue.sandbox</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
)


def installed(name: str, fill: Callable[[Path], None]) -> Path:
    """The download of that name; when it is not there yet, `fill` puts it into an empty folder, which is then renamed.

    Safe against a kill at any moment and against other processes that want the same.
    """
    target = downloads_root() / name
    if target.is_dir():
        return target
    with locked(downloads_root() / f"{name}.lock"):
        if not target.is_dir():
            draft = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".draft", dir=downloads_root()))
            try:
                fill(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


def maven_jars(folder: Path, coordinates: Iterable[str], *, mvn: str, java_home: Path | None) -> None:
    """Resolve `group:artifact:version` coordinates, with all they need at runtime, into `folder`.

    Maven runs on the Java of `java_home`, or on the one it finds itself.
    """
    parts = [coordinate.split(":") for coordinate in coordinates]
    dependencies = "".join(_DEPENDENCY.format(group=g, artifact=a, version=v) for g, a, v in parts)
    with tempfile.TemporaryDirectory(prefix="segue-maven-") as project:
        Path(project, "pom.xml").write_text(_POM.format(dependencies=dependencies), encoding="utf-8")
        arguments = [mvn, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        environment = {"JAVA_HOME": str(java_home)} if java_home else {}
        run_tool(
            Command([*arguments, f"-DoutputDirectory={folder}"], Path(project), environment),
            purpose=f"downloading {', '.join(coordinates)} from Maven Central",
            hint="Check that this machine reaches Maven Central (a proxy belongs into ~/.m2/settings.xml).",
        )


def pip_packages(folder: Path, *requirements: str) -> None:
    """Install packages from PyPI into `folder` and nowhere else, without what they depend on."""
    arguments = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    run_tool(
        Command([*arguments, "--root-user-action=ignore", *requirements], folder),
        purpose=f"installing {', '.join(requirements)} from PyPI",
        hint="Check that this Python has pip and reaches PyPI.",
    )
