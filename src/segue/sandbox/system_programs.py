"""Programs of the operating system: found, or installed where that needs no question (root on Debian)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from segue.errors import FatalError
from segue.sandbox.processes import Command, locked, run_tool
from segue.sandbox.settings import downloads_root

_POLICY = Path("/usr/sbin/policy-rc.d")


def required(program: str, package: str, *, find: Callable[[str], str | None] = shutil.which) -> str:
    """The path of `program`, after installing Debian's `package` if that is missing and may be installed.

    Raises:
        FatalError: It is missing and only the user can install it; says the command.
    """
    if path := find(program):
        return path
    if not (os.geteuid() == 0 and shutil.which("apt-get")):
        message = f"the sandbox needs {program}, which is not installed"
        raise FatalError(message, hint=_how_to_install(package))
    with locked(downloads_root() / "apt.lock"):
        if not find(program):
            _apt_install(package)
    if path := find(program):
        return path
    message = f"{program} is still missing after apt-get install {package}"
    raise FatalError(message)


def _how_to_install(package: str) -> str:
    if shutil.which("brew"):
        brewed = {"redis-server": "redis", "openjdk-17-jre-headless": "openjdk"}.get(package, package)
        return f"Get it with: brew install {brewed}"
    return f"Get it with: sudo apt-get install -y {package}"


def _apt_install(package: str) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    _apt_update()
    arguments = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", package]
    with _no_daemons():
        run_tool(Command(arguments, Path("/"), environment), purpose=f"apt-get install {package}")


@functools.cache
def _apt_update() -> None:
    run_tool(Command(["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"], Path("/")), purpose="apt-get update")


@contextlib.contextmanager
def _no_daemons() -> Iterator[None]:
    """Debian starts a server when it installs one, unless this file forbids it; the sandbox starts its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
