"""Segue, and each half of it alone: the source read and thrown away, the sink fed from memory.

The halves are the ceilings: no copy through these classes can be faster than either.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from contender import DATABASE, Task, Work, neo4j_of, new_name, require_rows, token_of
from items import Items, between, key, spec
from segue.engines.local_workers import LocalWorkers
from segue.model import Counts, Key, Layout, Page, Rows, SourceSpec
from segue.phases.backfill import Backfill, Job
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import Ack, IndexProgress, RangeProgress
from segue.sandbox import Endpoint
from segue.state.sqlite_state import SqliteState
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_store import MilvusSink
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_store import Neo4jSource

BATCH = 2_000
"""Rows a batch of the halves: where Segue's own size settles at 768 dimensions."""

IN_FLIGHT = 3
ITEMS_PER_RANGE = 10_000
POOL = 4
"""Different batches of vectors the sink is fed from, so that memory does not grow with the items."""


class _CopyOnly(MilvusSink):
    """Milvus without the steps after the copy: they cost 20 times the copy, whoever copies."""

    def index(self, layout: Layout) -> None:
        """Leave out the index."""

    def index_progress(self, layout: Layout) -> IndexProgress:  # noqa: ARG002  # the port's shape
        """Say that it is done."""
        return IndexProgress(0, 0, done=True)

    def load(self, layout: Layout) -> None:
        """Leave the collection unloaded."""

    def count(self, layout: Layout) -> int:  # noqa: ARG002  # the port's shape
        """Leave counting to the benchmark: here it needs a loaded collection."""
        return 0


class _Silence:
    """Nobody watches."""

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""


@contextmanager
def segue(task: Task, servers: Mapping[str, Endpoint]) -> Iterator[Work]:
    """Run the whole backfill as the command does, with its state on disk: census, plan, copy; without the index."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        source = stack.enter_context(_source(servers))
        sink, layout = stack.enter_context(_sink(servers, task))
        state = stack.enter_context(SqliteState(Path(folder) / "state.db"))
        lay_out = partial(_layout, layout.name)
        job = Job(layout.name, spec(task.dimension), lay_out, task.batch_size, ITEMS_PER_RANGE, "benchmark")
        backfill = Backfill(job, source, sink, LocalWorkers(task.workers), _Silence(), threading.Event())
        yield lambda: backfill.run(state).counts.migrated


@contextmanager
def read_only(task: Task, servers: Mapping[str, Endpoint]) -> Iterator[Work]:
    """Scan every range with Segue's workers and throw the rows away."""
    with _source(servers) as source:
        items = spec(task.dimension)

        def work() -> int:
            read: list[int] = []

            def scan(_worker: int, todo: RangeProgress) -> None:
                read.append(_scanned(source, items, todo, task.batch_size or BATCH))

            ranges = source.plan(items, ITEMS_PER_RANGE, source.census(items))
            waiting = [RangeProgress(one, None, 0, 0, done=False) for one in ranges]
            LocalWorkers(task.workers).run(scan, waiting, threading.Event())
            return sum(read)

        yield work


@contextmanager
def write_only(task: Task, servers: Mapping[str, Endpoint]) -> Iterator[Work]:
    """Upsert encoded rows from memory, a few batches in flight."""
    with _sink(servers, task) as (sink, layout):
        batches = list(_prepared(task, layout))

        def work() -> int:
            flying: deque[Ack] = deque()
            for rows in batches:
                flying.append(sink.upsert(layout, rows))
                if len(flying) == IN_FLIGHT:
                    flying.popleft().result()
            for ack in flying:
                ack.result()
            return sum(map(len, batches))

        yield work


def _layout(name: str, items: SourceSpec) -> Layout:
    return make_layout(items, name=name, preset=Preset.SEGUE, m=16, ef_construction=200)


@contextmanager
def _source(servers: Mapping[str, Endpoint]) -> Iterator[Neo4jSource]:
    server = neo4j_of(servers)
    with Neo4jConnection(server.uri, username=server.username, password=server.password, database=DATABASE) as connection:
        source = Neo4jSource(connection)
        source.identity()
        yield source


@contextmanager
def _sink(servers: Mapping[str, Endpoint], task: Task) -> Iterator[tuple[MilvusSink, Layout]]:
    """Give the sink with a collection of Segue's layout, which is checked and dropped afterwards."""
    server = servers["milvus"]
    layout = _layout(new_name(), spec(task.dimension))
    with MilvusConnection(server.uri, token=token_of(server)) as connection:
        sink = _CopyOnly(connection)
        physical = sink.create(layout).rpartition("#")[0]
        try:
            yield sink, layout
            require_rows(connection.client, physical, task.items)
        finally:
            connection.client.drop_alias(layout.name)
            connection.client.drop_collection(physical)


def _scanned(source: Neo4jSource, items: SourceSpec, todo: RangeProgress, limit: int) -> int:
    read, cursor, exhausted = 0, None, False
    while not exhausted:
        page = source.scan(items, todo.range, cursor, limit)
        read, cursor, exhausted = read + len(page.keys), page.last, page.exhausted
    return read


def _prepared(task: Task, layout: Layout) -> Iterator[Rows]:
    """Yield all rows in batches: keys of their own, everything else from a small pool."""
    size = min(task.batch_size or BATCH, task.items)
    codec = Codec(spec(task.dimension), layout)
    pool = [_encoded(codec, between(size * place, size * (place + 1), task.dimension)) for place in range(POOL)]
    for start in range(0, task.items, size):
        like = pool[start // size % POOL].part(0, min(size, task.items - start))
        keys: list[Key] = [key(number) for number in range(start, start + len(like))]
        yield Rows(keys, like.vectors, like.columns)


def _encoded(codec: Codec, items: Items) -> Rows:
    page = Page(items.keys, [], items.vectors, list(items.properties), [], items.keys[-1], exhausted=False)
    return codec.encode(page).rows
