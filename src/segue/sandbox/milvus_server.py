"""Milvus standalone: the real server out of PyPI's `milvus` wheel, run without the wheel's own starter.

The starter gives a second instance ports that the embedded etcd does not listen on, unpacks 250 MB for each data folder
and shows no way to set a password, so the binary is unpacked once and gets a configuration written here.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import lzma
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segue.errors import FatalError
from segue.sandbox.downloads import installed, pip_packages
from segue.sandbox.endpoint import Endpoint
from segue.sandbox.processes import Command

_DEFAULT_PASSWORD = "Milvus"  # noqa: S105 - public; replaced at the first start
_TEMPLATE = "config.yaml.template"
_QUERY_SECONDS = 5.0


@dataclass(frozen=True)
class MilvusServer:
    """Milvus 2.3.5, the last version whose server is on PyPI."""

    service: str = "milvus"
    release: str = "2.3.5"
    username: str = "root"
    port_purposes: tuple[str, ...] = (
        "proxy",
        "metrics",
        "proxy_internal",
        "etcd",
        "etcd_peer",
        "root_coord",
        "query_coord",
        "query_node",
        "index_coord",
        "index_node",
        "data_coord",
        "data_node",
    )
    # Asked to stop, this version hangs for minutes. Its log brings back what was acknowledged, so it is not waited for.
    polite_signal: signal.Signals = signal.SIGINT
    stop_patience_seconds: float = 2
    start_patience_seconds: float = 300

    def version(self) -> str:
        """The pinned release."""
        return self.release

    def install(self) -> None:
        """Get the wheel and unpack its binaries."""
        self._program_folder()

    def new_home(self, root: Path) -> Path:
        """A folder under the sandbox's root."""
        home = root / self.service
        (home / "configs").mkdir(parents=True)
        return home

    def uri(self, port: int) -> str:
        """Loopback, although this version also listens on every other interface."""
        return f"http://127.0.0.1:{port}"

    def initialise(self, endpoint: Endpoint) -> None:
        """Nothing: its password can only be changed while it runs, see `query`."""

    def command(self, endpoint: Endpoint) -> Command:
        """Write the configuration for its ports; the bare binary."""
        program = self._program_folder()
        template = (program / _TEMPLATE).read_text(encoding="utf-8")
        configs = endpoint.home / "configs"
        (configs / "milvus.yaml").write_text(_configuration(template, endpoint), encoding="utf-8")
        (configs / "etcd.yaml").write_text(_etcd_configuration(endpoint), encoding="utf-8")
        shutil.copy(program / "glog.conf", configs)
        environment = {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(endpoint.ports["metrics"]),
            "MILVUS_RUN_DIR": str(endpoint.home / "run"),
            "LD_LIBRARY_PATH": str(program),
            "DYLD_LIBRARY_PATH": str(program),
        }
        return Command([str(program / "milvus"), "run", "standalone"], endpoint.home, environment)

    def query(self, endpoint: Endpoint) -> None:
        """List the collections with its password; a server that still has the default password gets its own first."""
        _require_healthy(endpoint)
        with _silent_client_log():
            if not endpoint.is_initialised:
                with contextlib.suppress(Exception):  # The password was changed just before an earlier start was killed.
                    self._replace_default_password(endpoint)
            with _client(endpoint, endpoint.password) as client:
                client.list_collections(timeout=_QUERY_SECONDS)

    def _replace_default_password(self, endpoint: Endpoint) -> None:
        with _client(endpoint, _DEFAULT_PASSWORD) as client:
            client.update_password(endpoint.username, _DEFAULT_PASSWORD, endpoint.password, timeout=_QUERY_SECONDS)

    def _program_folder(self) -> Path:
        return installed(f"milvus-{self.release}", self._unpack)

    def _unpack(self, folder: Path) -> None:
        wheel = folder / "wheel"
        wheel.mkdir()
        pip_packages(wheel, f"milvus=={self.release}")
        data = wheel / "milvus" / "data"
        for packed in (data / "bin").glob("*.lzma"):
            program = folder / packed.stem
            with lzma.open(packed) as source, program.open("wb") as target:
                shutil.copyfileobj(source, target)
            program.chmod(0o755)
        for name in (_TEMPLATE, "glog.conf"):
            shutil.copy(data / name, folder)
        shutil.rmtree(wheel)


def _configuration(template: str, endpoint: Endpoint) -> str:
    """The wheel's template with its `{{ name(type): default }}` filled in, and what a sandbox wants otherwise."""
    data = endpoint.home / "data"
    values: dict[str, object] = {f"{purpose}_port": port for purpose, port in endpoint.ports.items()}
    values |= {
        "authorization_enabled": "true",
        "etcd_data_dir": data / "etcd",
        "etcd_log_path": endpoint.log.with_name("milvus-etcd.log"),
        "etcd_log_level": "warn",
        "local_storage_dir": data,
        "rocksmq_data_dir": data / "rocksmq",
        "system_log_path": "",
    }
    filled = re.sub(
        r"\{\{\s*(\w+)(?:\(\w+\))?(?::\s*(.*?))?\s*\}\}",
        lambda match: str(values.get(match[1], match[2])),
        template,
    )
    configuration: dict[str, Any] = yaml.safe_load(filled)
    configuration["etcd"]["config"] = {"path": str(endpoint.home / "configs" / "etcd.yaml")}
    configuration["log"]["level"] = "warn"
    # Dropped collections and passed-on messages keep their disk for hours and days otherwise.
    configuration["dataCoord"]["gc"].update(interval=60, dropTolerance=60)
    # Uncompressed, since compaction would otherwise take up to a core of two, now and then.
    # Longer than `dataNode.segment.syncPeriod`, or a killed server loses what it had not yet written out.
    configuration["rocksmq"].update(retentionTimeInMinutes=30, retentionSizeInMB=1024)
    configuration["rocksmq"].update(compactionInterval=600, compressionTypes=[0] * 5)
    return yaml.safe_dump(configuration)


def _etcd_configuration(endpoint: Endpoint) -> str:
    """Without this file the embedded etcd takes ports 2379 and 2380, whatever `etcd.endpoints` says."""
    client, peer = (f"http://127.0.0.1:{endpoint.ports[purpose]}" for purpose in ("etcd", "etcd_peer"))
    configuration = {
        "name": "default",
        "data-dir": str(endpoint.home / "data" / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    return yaml.safe_dump(configuration)


def _require_healthy(endpoint: Endpoint) -> None:
    """Ask the health page first: the client waits long for a port on which nothing listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.ports["metrics"], timeout=_QUERY_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    if status != http.client.OK:
        message = f"Milvus's health page answers {status}"
        raise FatalError(message)


@contextlib.contextmanager
def _client(endpoint: Endpoint, password: str) -> Iterator[Any]:
    from pymilvus import MilvusClient  # noqa: PLC0415 - `down` and `env` need no client

    client = MilvusClient(uri=endpoint.uri, token=f"{endpoint.username}:{password}", timeout=_QUERY_SECONDS)
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def _silent_client_log() -> Iterator[None]:
    """The client logs a stack trace for every refused call before it raises; while a server starts that is no news."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("pymilvus")]
    was_disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, before in zip(loggers, was_disabled, strict=True):
            logger.disabled = before
