"""What every contender gets and gives: a task, the servers, and a collection of its own that is checked and dropped.

All are treated alike: the collection is made before the clock starts, has no index and is not loaded; after the clock has
stopped it is flushed, its rows are counted, and it is dropped.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import neo4j
from pymilvus import CollectionSchema, MilvusClient

from segue import sandbox
from segue.sandbox import Endpoint, newest_neo4j

PREFIX = "segue_benchmark_"
"""Every collection of the benchmark bears it, so that what a killed run left behind is found."""

DATABASE = "neo4j"


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do.

    Attributes:
        contender: Which contender to run.
        items: How many items Neo4j holds, all of which are to go.
        dimension: Of their vectors.
        workers: Segue's workers.
        batch_size: Rows a batch; None for each contender's own default.
    """

    contender: str
    items: int
    dimension: int
    workers: int
    batch_size: int | None


SERVICES = ("neo4j", "milvus")

Work = Callable[[], int]
"""The timed part; returns how many rows went."""

Contender = Callable[[Task, Mapping[str, Endpoint]], AbstractContextManager[Work]]
"""Makes ready what is not timed, gives the timed part, and clears up."""


@contextmanager
def sandboxed(announce: Callable[[str], None]) -> Iterator[Mapping[str, Endpoint]]:
    """Give the sandbox's servers; those that ran before stay, those started here are ended."""
    before = sandbox.running()
    servers = sandbox.up(SERVICES, announce=announce)
    try:
        yield servers
    finally:
        sandbox.down(services=[name for name in servers if name not in before])


def neo4j_of(servers: Mapping[str, Endpoint]) -> Endpoint:
    """Return the Neo4j that is measured.

    Raises:
        SystemExit: None runs.
    """
    found = newest_neo4j(servers)
    if found is None:
        message = "no Neo4j of the sandbox runs"
        raise SystemExit(message)
    return found


def token_of(milvus: Endpoint) -> str:
    """Return the token its client sends."""
    return f"{milvus.username}:{milvus.password}"


def new_name() -> str:
    """Return a collection name that nobody has used."""
    return PREFIX + uuid.uuid4().hex[:12]


@contextmanager
def opened(servers: Mapping[str, Endpoint]) -> Iterator[tuple[neo4j.Driver, MilvusClient]]:
    """Open both clients with their ordinary options, connected."""
    source, sink = neo4j_of(servers), servers["milvus"]
    client = MilvusClient(sink.uri, token=token_of(sink))
    try:
        auth = (source.username, source.password)
        with neo4j.GraphDatabase.driver(source.uri, auth=auth, notifications_min_severity="OFF") as driver:
            driver.verify_connectivity()
            yield driver, client
    finally:
        client.close()


@contextmanager
def collection(client: MilvusClient, schema: CollectionSchema, items: int) -> Iterator[str]:
    """Make a collection, and give its name; afterwards count its rows and drop it.

    Raises:
        SystemExit: It does not hold `items` rows in the end.
    """
    name = new_name()
    client.create_collection(name, schema=schema)
    try:
        yield name
        require_rows(client, name, items)
    finally:
        client.drop_collection(name)


def require_rows(client: MilvusClient, name: str, items: int) -> None:
    """Count a collection's rows as stored.

    Raises:
        SystemExit: There are more or fewer than `items`.
    """
    client.flush(name)
    stored = int(client.get_collection_stats(name)["row_count"])
    if stored != items:
        message = f"{stored:,} rows are in Milvus, {items:,} should be"
        raise SystemExit(message)
