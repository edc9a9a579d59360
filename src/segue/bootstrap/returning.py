"""Config → what the way back and the clearing need.

Nothing is connected before it is asked, so that what is down fails alone.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segue import bootstrap
from segue.config import CollectionSettings, ConfigMapSettings, EnvFileSettings, Settings
from segue.phases import cleanup
from segue.phases.rollback import Deployment, Room
from segue.ports import ControlNode, Physicals, Rollout

RETRY_SECONDS = 5.0
"""How long Neo4j may stay away before the steps that do without it go on."""


@contextmanager
def open_rooms(
    settings: Settings, chosen: Sequence[CollectionSettings], wait: Callable[[float], bool]
) -> Iterator[tuple[list[Room], Deployment | None]]:
    """Give what each collection's way back needs, and where their mode is deployed; nothing is connected yet.

    Args:
        settings: All of them.
        chosen: The collections to take back.
        wait: See `open_rollout`.
    """
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_filters import condition
    from segue.stores.neo4j_returning import Neo4jReadiness
    from segue.stores.neo4j_search import Neo4jNearest

    times = bootstrap.terms(settings).times
    with bootstrap.open_neo4j(settings, most_connect_seconds=RETRY_SECONDS, retry_seconds=RETRY_SECONDS) as connection:
        rollout = open_rollout(settings, wait)
        others = [Neo4jControl(connection, one.name) for one in settings.collections if one not in chosen]
        rooms = [
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
        yield rooms, Deployment(rollout, others) if rollout is not None else None


@contextmanager
def open_clearing(settings: Settings, chosen: Sequence[CollectionSettings]) -> Iterator[list[cleanup.Room]]:
    """Connect to Neo4j for clearing collections up; Milvus is connected when it is asked.

    Raises:
        SegueError: Neo4j does not answer, or refuses the credentials.
    """
    from segue.stores.neo4j_capture import TriggerCapture
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_marks import Neo4jMarks
    from segue.stores.neo4j_returning import Neo4jReadiness, Neo4jTraces

    with bootstrap.open_neo4j(settings) as connection:
        rooms = []
        for one in chosen:
            spec = bootstrap.source_spec(one)
            trigger = TriggerCapture(connection, one.name, spec)
            rooms.append(
                cleanup.Room(
                    one.name,
                    Neo4jControl(connection, one.name),
                    Neo4jMarks(connection, one.name, spec),
                    Neo4jTraces(connection, one.name, spec),
                    trigger if trigger.is_noted() else None,
                    Neo4jReadiness(connection, spec),
                    physicals(settings, one),
                )
            )
        yield rooms


def physicals(settings: Settings, one: CollectionSettings) -> Callable[[], AbstractContextManager[Physicals]]:
    """Return what opens a collection's physical collections."""
    return partial(_open_physicals, settings, one.name)


@contextmanager
def _open_physicals(settings: Settings, name: str) -> Iterator[Physicals]:
    from segue.stores.milvus_collections import MilvusPhysicals

    with bootstrap.open_milvus(settings) as connection:
        yield MilvusPhysicals(connection, name)


def open_rollout(settings: Settings, wait: Callable[[float], bool]) -> Rollout | None:
    """Return where the mode is deployed, None where the configuration names no such place; nothing is connected yet.

    Args:
        settings: With a `[rollout]`, or without.
        wait: Waits so many seconds, or less; true when asked to stop.
    """
    from segue.rollout.config_map import ConfigMapRollout
    from segue.rollout.deployment import DeploymentRollout
    from segue.rollout.env_file import EnvFileRollout
    from segue.rollout.kubernetes_api import KubernetesApi

    place = settings.rollout
    if place is None:
        return None
    if isinstance(place, EnvFileSettings):
        return EnvFileRollout(place.path, place.variable)
    api = KubernetesApi(place.namespace, context=place.context, request_timeout_seconds=place.request_timeout_seconds)
    if isinstance(place, ConfigMapSettings):
        return ConfigMapRollout(api, place.name, place.key)
    return DeploymentRollout(
        api,
        place.name,
        container=place.container,
        variable=place.variable,
        timeout_seconds=place.timeout_seconds,
        wait=wait,
        clock=time.monotonic,
    )


@contextmanager
def open_controls(settings: Settings) -> Iterator[list[ControlNode]]:
    """Connect to Neo4j for the control nodes of every collection: those that share a deployment."""
    from segue.stores.neo4j_control import Neo4jControl

    with bootstrap.open_neo4j(settings) as connection:
        yield [Neo4jControl(connection, one.name) for one in settings.collections]


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
