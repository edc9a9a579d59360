"""Segue moves a live service's vector search from Neo4j to Milvus. The library's public names, nothing else.

They are imported when they are asked for, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segue.bootstrap.agent_library import connect_agents, connect_agents_async
    from segue.bootstrap.library import connect, connect_async
    from segue.errors import InvalidInput, RetryableError, SegueError, UnknownKey
    from segue.model import AgentBacklog, AgentMode, Experience, Freshness, Hit, Item, Policy, StorageMode, StoreName
    from segue.ports import Backlog
    from segue.traffic.agent_store import AgentStateStore, AsyncAgentStateStore
    from segue.traffic.dual_write import AsyncDualWriteStore, DualWriteStore

__version__ = "0.1.0"

_HOMES = {
    "segue.bootstrap.agent_library": ("connect_agents", "connect_agents_async"),
    "segue.bootstrap.library": ("connect", "connect_async"),
    "segue.errors": ("InvalidInput", "RetryableError", "SegueError", "UnknownKey"),
    "segue.model": (
        "AgentBacklog",
        "AgentMode",
        "Experience",
        "Freshness",
        "Hit",
        "Item",
        "Policy",
        "StorageMode",
        "StoreName",
    ),
    "segue.ports": ("Backlog",),
    "segue.traffic.agent_store": ("AgentStateStore", "AsyncAgentStateStore"),
    "segue.traffic.dual_write": ("AsyncDualWriteStore", "DualWriteStore"),
}

_NEED_AGENTDB = ("segue.bootstrap.agent_library", "segue.traffic.agent_store")

__all__ = [
    "AgentBacklog",
    "AgentMode",
    "AgentStateStore",
    "AsyncAgentStateStore",
    "AsyncDualWriteStore",
    "Backlog",
    "DualWriteStore",
    "Experience",
    "Freshness",
    "Hit",
    "InvalidInput",
    "Item",
    "Policy",
    "RetryableError",
    "SegueError",
    "StorageMode",
    "StoreName",
    "UnknownKey",
    "__version__",
    "connect",
    "connect_agents",
    "connect_agents_async",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            if home in _NEED_AGENTDB:
                import_module("segue.bootstrap.agent_state").require_extra()
            return getattr(import_module(home), name)
    message = f"module 'segue' has no attribute {name!r}"
    raise AttributeError(message)
