"""Milvus as a preflight asks it: version, clock, health, nodes, roles. Reads only; connects when it is first asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson
from pymilvus.client.types import LoadState
from pymilvus.grpc_gen import milvus_pb2

from segue.errors import DataError, SegueError
from segue.ports import About, Health, Node, Transport
from segue.stores.addresses import transport
from segue.stores.milvus_connection import MilvusConnection

_LOGICAL_BITS = 18
"""A timestamp of Milvus is milliseconds since 1970 and a counter of so many bits."""

_EVERYTHING = ("admin",)
_PART = re.compile(r"[a-z]+")


class MilvusPreflight:
    """The `SinkServer` over a Milvus server or a Milvus Lite file.

    Args:
        uri: Its address.
        user: Who connects; empty for nobody, or for who shows an API key.
        opened: Gives the connection, opened at the first call.
    """

    def __init__(self, uri: str, *, user: str, opened: Callable[[], MilvusConnection]) -> None:
        self._uri = uri
        self._user = user
        self._opened = opened

    def connect(self) -> None:
        """See `Server`."""
        self._opened()

    def about(self) -> About:
        """See `Server`."""
        connection = self._opened()
        if connection.lite:
            return About("2.3.5", "(Milvus Lite, taken for a server that it is a stand-in for)")
        with connection.translated():
            return About(connection.client.get_server_version(timeout=connection.timeout_seconds).removeprefix("v"))

    def transport(self) -> Transport:
        """See `Server`."""
        encrypted = urlsplit(self._uri).scheme == "https"
        return transport(self._uri, encrypted=encrypted, verified=encrypted)

    def seconds(self) -> float:
        """See `Server`."""
        answer = self._opened().ask("AllocTimestamp", milvus_pb2.AllocTimestampRequest())
        return float(answer.timestamp >> _LOGICAL_BITS) / 1000

    def health(self) -> Health | None:
        """See `SinkServer`."""
        if self._opened().lite:
            return None
        answer = self._opened().ask("CheckHealth", milvus_pb2.CheckHealthRequest())
        states = [milvus_pb2.QuotaState.Name(state) for state in answer.quota_states if state]
        return Health(answer.isHealthy, [*answer.reasons, *states])

    def nodes(self) -> list[Node]:
        """See `SinkServer`."""
        if self._opened().lite:
            return []
        request = milvus_pb2.GetMetricsRequest(request='{"metric_type": "system_info"}')
        try:
            answer = self._opened().ask("GetMetrics", request)
        except DataError:
            return []
        return [_node(one["infos"]) for one in orjson.loads(answer.response or "{}").get("nodes_info") or []]

    def collections(self) -> list[str]:
        """See `SinkServer`."""
        connection = self._opened()
        with connection.translated():
            names: list[str] = connection.client.list_collections(timeout=connection.timeout_seconds)
            return names

    def load_state(self, name: str) -> str | None:
        """See `SinkServer`."""
        connection = self._opened()
        with connection.translated():
            if not connection.client.has_collection(name, timeout=connection.timeout_seconds):
                return None
            state = connection.client.get_load_state(name, timeout=connection.timeout_seconds)["state"]
        return {LoadState.Loaded: "loaded", LoadState.Loading: "loading"}.get(state, "not loaded")

    def privileges(self, collection: str) -> frozenset[str] | None:
        """See `SinkServer`."""
        if not self._user or self._user == "root" or self._opened().lite:
            return None
        client, seconds = self._opened().client, self._opened().timeout_seconds
        held: set[str] = set()
        try:
            with self._opened().translated():
                roles = list(client.describe_user(self._user, timeout=seconds).get("roles") or [])
                if any(role in _EVERYTHING for role in roles):
                    return None
                for role in {*roles, "public"}:
                    # A role that nothing was granted to is an error in some versions.
                    with suppress(SegueError):
                        held |= _granted(client.describe_role(role, timeout=seconds), collection)
        except DataError:
            return None
        return frozenset(held) if "*" not in held and "All" not in held else None


def _granted(described: dict[str, Any], collection: str) -> set[str]:
    return {one["privilege"] for one in described.get("privileges") or [] if one["object_name"] in ("*", collection)}


def _node(infos: dict[str, Any]) -> Node:
    hardware = infos.get("hardware_infos") or {}
    role = _PART.match(str(infos.get("name", "")))
    return Node(
        role[0] if role else "",
        cores=int(hardware.get("cpu_core_count", 0)),
        memory_bytes=int(hardware.get("memory", 0)),
        memory_used_bytes=int(hardware.get("memory_usage", 0)),
        cpu_percent=float(hardware.get("cpu_core_usage", 0.0)),
    )
