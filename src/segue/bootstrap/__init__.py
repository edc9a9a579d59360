"""Config → stores, connected: what every verb opens and closes. Beside it a module for each thing a verb does with them.

Nothing else imports adapters. Database clients are imported when a verb opens them, so that `--help` answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from segue.config import CollectionSettings, Settings
from segue.migration import Terms
from segue.model import Budget, CarriedProperty, FenceTimes, Layout, SourceSpec
from segue.phases.discover import Proposal, discover
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import Capture, Catalog, ControlNode, Marks, Sink, Source

if TYPE_CHECKING:
    from segue.stores.milvus_connection import MilvusConnection
    from segue.stores.neo4j_connection import Neo4jConnection


@dataclass(frozen=True, slots=True)
class Stores:
    """Both sides, connected."""

    source: Source
    sink: Sink


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Connect to both sides.

    Raises:
        SegueError: One of them does not answer, refuses the credentials, or is no such server.
    """
    with open_source(settings) as (source, _), open_sink(settings) as sink:
        yield Stores(source, sink)


@contextmanager
def open_source(settings: Settings) -> Iterator[tuple[Source, Catalog]]:
    """Connect to Neo4j, and make sure that it answers.

    Raises:
        SegueError: It does not answer, refuses the credentials, or has no such database.
    """
    from segue.stores.neo4j_catalog import Neo4jCatalog
    from segue.stores.neo4j_store import Neo4jSource

    with open_neo4j(settings) as connection:
        source = Neo4jSource(connection)
        source.identity()
        yield source, Neo4jCatalog(connection)


@contextmanager
def open_capture(settings: Settings, collection: CollectionSettings) -> Iterator[Capture]:
    """Connect to Neo4j for capture by trigger.

    Raises:
        SegueError: It does not answer, or refuses the credentials.
    """
    with open_neo4j(settings) as connection:
        yield capture(connection, collection)


@dataclass(frozen=True, slots=True)
class ModeControl:
    """What deciding about a collection's mode needs, connected.

    Attributes:
        node: The control node.
        marks: For the backlog.
        capture: The trigger, where one is noted as capturing.
        terms: What is configured about changes.
        prepare: Makes the constraints that a change relies on. Idempotent.
    """

    node: ControlNode
    marks: Marks
    capture: Capture | None
    terms: Terms
    prepare: Callable[[], None]


@contextmanager
def open_mode_control(settings: Settings, collection: CollectionSettings) -> Iterator[ModeControl]:
    """Connect to Neo4j for looking at a collection's mode, or changing it.

    Raises:
        SegueError: It does not answer, or refuses the credentials.
    """
    from segue.stores.neo4j_capture import TriggerCapture
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_marks import prepare

    with open_neo4j(settings) as connection:
        trigger = TriggerCapture(connection, collection.name, source_spec(collection))
        yield ModeControl(
            Neo4jControl(connection, collection.name),
            marks(connection, collection),
            trigger if trigger.is_noted() else None,
            terms(settings),
            partial(prepare, connection),
        )


def terms(settings: Settings) -> Terms:
    """Return what is configured about changes of the mode."""
    search = settings.search
    return Terms(
        times=FenceTimes(search.visible_seconds, search.fence_seconds, search.slack_seconds),
        preflight_within=settings.preflight.max_age_seconds,
        validated_within=settings.validation.max_age_seconds,
        budget=budget(settings),
    )


def budget(settings: Settings) -> Budget:
    """Return what may go wrong while Milvus answers users."""
    search = settings.search
    return Budget(search.least_shadow_reads, search.least_overlap, search.most_failed)


@contextmanager
def open_neo4j(
    settings: Settings, *, most_connect_seconds: float = math.inf, retry_seconds: float = 30.0
) -> Iterator[Neo4jConnection]:
    """Open a driver on Neo4j, which connects at its first query.

    Args:
        settings: Where it is.
        most_connect_seconds: How long a connection may take to open, whatever is configured; no other deadline ends that.
        retry_seconds: How long a write is tried anew while Neo4j does not answer.
    """
    from segue.stores.neo4j_connection import Neo4jConnection

    neo4j = settings.neo4j
    password = neo4j.password.get_secret_value() if neo4j.password else ""
    connection = Neo4jConnection(
        neo4j.uri,
        username=neo4j.username,
        password=password,
        database=neo4j.database,
        connect_timeout_seconds=min(neo4j.connect_timeout_seconds, most_connect_seconds),
        request_timeout_seconds=neo4j.request_timeout_seconds,
        retry_seconds=retry_seconds,
    )
    with connection:
        yield connection


@contextmanager
def open_milvus(settings: Settings) -> Iterator[MilvusConnection]:
    """Connect to Milvus.

    Raises:
        SegueError: It does not answer, refuses the token, or has no such database.
    """
    from segue.stores.milvus_connection import MilvusConnection

    milvus = settings.milvus
    token = milvus.token.get_secret_value() if milvus.token else ""
    connection = MilvusConnection(
        milvus.uri,
        token=token,
        database=milvus.database,
        ca_file=milvus.ca_file,
        timeout_seconds=milvus.request_timeout_seconds,
    )
    with connection:
        yield connection


@contextmanager
def open_sink(settings: Settings) -> Iterator[Sink]:
    """Connect to Milvus for writing rows. Raises as `open_milvus` does."""
    from segue.stores.milvus_store import MilvusSink

    with open_milvus(settings) as connection:
        yield MilvusSink(connection)


def proposals(settings: Settings, *, indexes: Sequence[str], key: str | None, preset: Preset) -> list[Proposal]:
    """Look into Neo4j and propose collections; see `discover`."""
    with open_source(settings) as (source, catalog):
        return discover(catalog, source, indexes=indexes, key=key, preset=preset)


def source_spec(collection: CollectionSettings) -> SourceSpec:
    """Return the source of a collection as configured."""
    source = collection.source
    return SourceSpec(
        index=source.index,
        label=source.label,
        key=source.key,
        key_type=source.key_type,
        vector=source.vector,
        dimension=source.dimension,
        metric=source.metric,
        properties=tuple(CarriedProperty(name, kind) for name, kind in source.properties.items()),
    )


def lay_out(collection: CollectionSettings) -> Callable[[SourceSpec], Layout]:
    """Return what lays a collection out, given its source with the properties' types as they are."""
    return partial(
        make_layout,
        name=collection.name,
        preset=Preset(collection.preset),
        m=collection.index.m,
        ef_construction=collection.index.ef_construction,
    )


def capture(connection: Neo4jConnection, collection: CollectionSettings) -> Capture:
    """Return the capture by trigger of a collection."""
    from segue.stores.neo4j_capture import TriggerCapture

    return TriggerCapture(connection, collection.name, source_spec(collection))


def marks(connection: Neo4jConnection, collection: CollectionSettings) -> Marks:
    """Return the marks of a collection."""
    from segue.stores.neo4j_marks import Neo4jMarks

    return Neo4jMarks(connection, collection.name, source_spec(collection))
