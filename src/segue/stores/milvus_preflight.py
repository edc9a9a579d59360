"""Milvus as a preflight asks it: version, clock, health, nodes, privileges. Changes nothing; connects when first asked."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from segue.errors import DataError, SegueError
from segue.ports import About, Health, Node, Transport
from segue.stores.addresses import transport
from segue.stores.milvus_client import LoadState, common_pb2, milvus_pb2
from segue.stores.milvus_connection import MilvusConnection

_LOGICAL_BITS = 18
"""A timestamp of Milvus is milliseconds since 1970 and a counter of so many bits."""

_PART = re.compile(r"[a-z]+")


class MilvusPreflight:
    """The `SinkServer` over a Milvus server or a Milvus Lite file.

    Args:
        uri: Its address.
        opened: Gives the connection, opened at the first call.
    """

    def __init__(self, uri: str, opened: Callable[[], MilvusConnection]) -> None:
        self._uri = uri
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

    def missing(self) -> list[str]:
        """See `SinkServer`.

        Each call names a collection that is not there: the server looks at the account first, then for the collection.
        """
        if self._opened().lite:
            return []
        nobody = f"segue_nobody_{uuid.uuid4().hex}"
        return [privilege for privilege, (method, request) in _calls(nobody).items() if self._denies(method, request)]

    def _denies(self, method: str, request: Any) -> bool:
        try:
            self._opened().ask(method, request)
        except SegueError as refusal:
            return "permission deny" in refusal.message.lower()
        return False


def _calls(name: str) -> dict[str, tuple[str, Any]]:
    """Return a call for each privilege, on a collection of that name."""
    return {
        "CreateCollection": ("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name=name)),
        "DropCollection": ("DropCollection", milvus_pb2.DropCollectionRequest(collection_name=name)),
        "DescribeCollection": ("DescribeCollection", milvus_pb2.DescribeCollectionRequest(collection_name=name)),
        "ShowCollections": ("ShowCollections", milvus_pb2.ShowCollectionsRequest()),
        "CreateAlias": ("CreateAlias", milvus_pb2.CreateAliasRequest(collection_name=name, alias=f"{name}_alias")),
        "DropAlias": ("DropAlias", milvus_pb2.DropAliasRequest(alias=f"{name}_alias")),
        "CreateIndex": ("CreateIndex", milvus_pb2.CreateIndexRequest(collection_name=name, field_name="vector")),
        "IndexDetail": ("DescribeIndex", milvus_pb2.DescribeIndexRequest(collection_name=name)),
        "Load": ("LoadCollection", milvus_pb2.LoadCollectionRequest(collection_name=name)),
        "GetLoadState": ("GetLoadState", milvus_pb2.GetLoadStateRequest(collection_name=name)),
        "Flush": ("Flush", milvus_pb2.FlushRequest(collection_names=[name])),
        "Upsert": ("Upsert", milvus_pb2.UpsertRequest(collection_name=name)),
        "Insert": ("Insert", milvus_pb2.InsertRequest(collection_name=name)),
        "Delete": ("Delete", milvus_pb2.DeleteRequest(collection_name=name, expr="id in []")),
        "Query": ("Query", milvus_pb2.QueryRequest(collection_name=name, expr="id in []")),
        "Search": ("Search", milvus_pb2.SearchRequest(collection_name=name, dsl_type=common_pb2.DslType.BoolExprV1)),
    }


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
