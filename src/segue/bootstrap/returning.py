"""Config → what the way back and the clearing need.

Nothing is connected before it is asked, so that what is down fails alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segue import bootstrap
from segue.config import CollectionSettings, Settings
from segue.model import FenceTimes
from segue.phases.rollback import Room
from segue.ports import Physicals

RETRY_SECONDS = 5.0
"""How long Neo4j may stay away before the steps that do without it go on."""


@contextmanager
def open_rooms(settings: Settings, chosen: Sequence[CollectionSettings]) -> Iterator[list[Room]]:
    """Give what each collection's way back needs; a driver is made, nothing is connected yet."""
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415
    from segue.stores.neo4j_filters import condition  # noqa: PLC0415
    from segue.stores.neo4j_returning import Neo4jReadiness  # noqa: PLC0415
    from segue.stores.neo4j_search import Neo4jNearest  # noqa: PLC0415

    search = settings.search
    times = FenceTimes(search.visible_seconds, search.fence_seconds, search.slack_seconds)
    with bootstrap.open_neo4j(settings, most_connect_seconds=RETRY_SECONDS, retry_seconds=RETRY_SECONDS) as connection:
        yield [
            Room(
                one.name,
                Neo4jControl(connection, one.name),
                Neo4jReadiness(connection, bootstrap.source_spec(one)),
                Neo4jNearest(connection, bootstrap.source_spec(one), condition),
                physicals(settings, one),
                times,
            )
            for one in chosen
        ]


def physicals(settings: Settings, one: CollectionSettings) -> Callable[[], AbstractContextManager[Physicals]]:
    """Return what opens a collection's physical collections."""
    return partial(_open_physicals, settings, one.name)


@contextmanager
def _open_physicals(settings: Settings, name: str) -> Iterator[Physicals]:
    from segue.stores.milvus_collections import MilvusPhysicals  # noqa: PLC0415

    with bootstrap.open_milvus(settings) as connection:
        yield MilvusPhysicals(connection, name)


@dataclass(frozen=True, slots=True)
class ShellCommands:
    """The `ByHand` of a configuration. Passwords are left to the variables that cypher-shell and the script read."""

    settings: Settings
    config: Path

    def cypher(self, statement: str) -> str:
        """See `ByHand`."""
        neo4j = self.settings.neo4j
        return shlex.join(["cypher-shell", "-a", neo4j.uri, "-u", neo4j.username, "-d", neo4j.database, statement])

    def drop(self, names: Sequence[str], alias: str) -> str:
        """See `ByHand`."""
        milvus = self.settings.milvus
        drops = [f"c.drop_collection({json.dumps(name)})" for name in names]
        # A collection that readers open by its own name has no alias.
        takes_off = [] if alias in names else [f"c.drop_alias({json.dumps(alias)})"]
        from_environment = 'os.environ.get("MILVUS_TOKEN", "")'
        client = f"c = MilvusClient({json.dumps(milvus.uri)}, token={from_environment}, db_name={json.dumps(milvus.database)})"
        lines = ["import os", "from pymilvus import MilvusClient", client, *takes_off, *drops]
        return shlex.join(["python", "-c", "; ".join(lines)])

    def segue(self, *arguments: str) -> str:
        """See `ByHand`."""
        return shlex.join(["segue", *arguments, "--config", str(self.config)])
