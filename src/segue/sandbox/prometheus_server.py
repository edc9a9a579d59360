"""Prometheus, the operating system's, without a password: it listens on loopback only, and metrics hold no secret."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.errors import FatalError
from segue.sandbox.endpoint import Endpoint
from segue.sandbox.processes import Command, run_tool
from segue.sandbox.system_programs import required

_PACKAGE = "prometheus"
_CONF = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{home}/rules/*.yml"]
scrape_configs:
  - job_name: segue
    file_sd_configs:
      - {{files: ["{home}/targets/*.json"], refresh_interval: 1s}}
"""


@dataclass(frozen=True)
class PrometheusServer:
    """Prometheus that scrapes every second whatever `scrape` names to it, and evaluates the rules of `evaluate`."""

    service: str = "prometheus"
    username: str = ""
    port_purposes: tuple[str, ...] = ("http",)
    polite_signal: signal.Signals = signal.SIGTERM
    stop_patience_seconds: float = 10
    start_patience_seconds: float = 30

    def version(self) -> str:
        """Whatever the system has."""
        command = Command([required("prometheus", _PACKAGE), "--version"], Path(os.sep))
        match = re.search(r"version (\S+)", run_tool(command, purpose="asking Prometheus for its version"))
        return match[1] if match else "unknown"

    def install(self) -> None:
        """Find or install the server and `promtool`, which comes with it."""
        required("prometheus", _PACKAGE)
        required("promtool", _PACKAGE)

    def new_home(self, root: Path) -> Path:
        """A folder under the sandbox's root."""
        home = root / self.service
        home.mkdir(parents=True)
        return home

    def uri(self, port: int) -> str:
        """Its API and its pages, on loopback."""
        return f"http://127.0.0.1:{port}"

    def initialise(self, endpoint: Endpoint) -> None:
        """Write the configuration, which scrapes nothing yet."""
        for folder in ("targets", "rules"):
            (endpoint.home / folder).mkdir()
        (endpoint.home / "prometheus.yml").write_text(_CONF.format(home=endpoint.home), encoding="utf-8")

    def command(self, endpoint: Endpoint) -> Command:
        """The server itself, with the request by which it reads its rules again."""
        arguments = [required("prometheus", _PACKAGE), f"--config.file={endpoint.home / 'prometheus.yml'}"]
        arguments += [f"--storage.tsdb.path={endpoint.home / 'data'}", "--storage.tsdb.retention.time=1d"]
        arguments += [f"--web.listen-address=127.0.0.1:{endpoint.ports['http']}", "--web.enable-lifecycle"]
        return Command(arguments, endpoint.home)

    def query(self, endpoint: Endpoint) -> None:
        """Ask whether it is ready."""
        _call(f"{endpoint.uri}/-/ready")


def scrape(endpoint: Endpoint, targets: Mapping[str, str]) -> None:
    """Let it scrape these addresses (`127.0.0.1:9464` → the job's name) and no others; takes effect within a second or two.

    Raises:
        FatalError: There is no such server any more.
    """
    groups = [{"targets": [address], "labels": {"job": job}} for address, job in targets.items()]
    _replace(endpoint.home / "targets" / "sandbox.json", json.dumps(groups))


def evaluate(endpoint: Endpoint, rules: str) -> None:
    """Let it evaluate the rules of this file's text and no others.

    Raises:
        FatalError: It refuses them.
    """
    _replace(endpoint.home / "rules" / "sandbox.yml", rules)
    try:
        _call(f"{endpoint.uri}/-/reload", method="POST")
    except OSError as fault:
        message = f"Prometheus does not take the rules: {fault}"
        raise FatalError(message, hint=f"`promtool check rules FILE` and its log, {endpoint.log}, say why.") from fault


def _call(url: str, method: str = "GET") -> None:
    request = urllib.request.Request(url, method=method)  # noqa: S310  # our own loopback address
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    except urllib.error.HTTPError as refusal:
        # It holds the connection.
        refusal.close()
        raise


def _replace(path: Path, text: str) -> None:
    if not path.parent.is_dir():
        message = f"there is no Prometheus of the sandbox at {path.parent.parent}"
        raise FatalError(message, hint="Start one with: segue sandbox up prometheus")
    draft = path.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
