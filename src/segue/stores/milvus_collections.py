"""The physical collections behind an alias in Milvus: what there is, and how it goes.

Takes away nothing but what leads to one migrated collection, or what Segue made for it. Decides nothing.
"""

from __future__ import annotations

import re
from typing import Any

from segue.errors import FatalError
from segue.ports import Physical
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_store import MADE_BY


class MilvusPhysicals:
    """The `Physicals` of one collection.

    Args:
        connection: Where they are.
        name: What readers open: an alias, or a collection itself.
    """

    def __init__(self, connection: MilvusConnection, name: str) -> None:
        self._connection = connection
        self._client = connection.client
        self._seconds = connection.timeout_seconds
        self._name = name

    def found(self) -> list[Physical]:
        """See `Physicals`."""
        with self._connection.translated():
            found = {}
            if self._client.has_collection(self._name, timeout=self._seconds):
                current = self._describe(self._name)
                found[current["collection_name"]] = _physical(current, is_current=True)
            for name in self._client.list_collections(timeout=self._seconds):
                if name not in found and re.fullmatch(rf"{re.escape(self._name)}_v\d+", name):
                    described = self._describe(name)
                    if described["description"] == MADE_BY:
                        found[name] = _physical(described, is_current=False)
        return [found[name] for name in sorted(found)]

    def drop(self, physical: Physical) -> None:
        """See `Physicals`."""
        others = [alias for alias in physical.aliases if alias != self._name]
        if others:
            message = f"the alias {others[0]!r} leads to the collection {physical.name!r} too, and is none of Segue's"
            raise FatalError(message, hint="Drop that alias, if nobody reads by it; then the same command again.")
        with self._connection.translated():
            if not self._client.has_collection(physical.name, timeout=self._seconds):
                return
            if physical.is_current and physical.name != self._name:
                self._client.drop_alias(self._name, timeout=self._seconds)
            self._client.drop_collection(physical.name, timeout=self._seconds)

    def _describe(self, name: str) -> dict[str, Any]:
        described: dict[str, Any] = self._client.describe_collection(name, timeout=self._seconds)
        return described


def _physical(described: dict[str, Any], *, is_current: bool) -> Physical:
    return Physical(described["collection_name"], tuple(described.get("aliases") or ()), is_current)
