"""Config → the comparison of a collection's two sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segue import __version__, bootstrap
from segue.config import CollectionSettings, Settings
from segue.engines.local_workers import LocalWorkers
from segue.errors import ConfigError
from segue.model import Depth
from segue.phases.reconcile import Job, Reconcile, Sides, Watch
from segue.pipelines.conditions import as_laid_out
from segue.ports import ReconcileState
from segue.state.sqlite_comparisons import SqliteComparisons


@contextmanager
def open_reconcile(
    settings: Settings,
    collection: CollectionSettings,
    *,
    depth: Depth,
    sample_size: int,
    watch: Watch,
    stop: threading.Event,
    keeps_records: bool,
) -> Iterator[tuple[Reconcile, ReconcileState]]:
    """Connect to both sides for comparing a collection, and open its records; without `keeps_records`, ones that do not last.

    Raises:
        ConfigError: The collection is not there yet.
    """
    from segue.stores.milvus_rows import MilvusRows
    from segue.stores.milvus_store import MilvusSink
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_journal import Neo4jJournal
    from segue.stores.neo4j_side import Neo4jSide
    from segue.stores.neo4j_store import Neo4jSource

    with ExitStack() as opened:
        connection = opened.enter_context(bootstrap.open_neo4j(settings))
        milvus = opened.enter_context(bootstrap.open_milvus(settings))
        sink = MilvusSink(milvus)
        names = sink.field_names(collection.name)
        if names is None:
            message = f"there is no collection {collection.name!r} in Milvus to compare with"
            raise ConfigError(message, hint="`segue migrate-embeddings` makes it.")
        configured = bootstrap.source_spec(collection)
        spec = as_laid_out(configured, names)
        layout = bootstrap.lay_out(collection)(spec)
        sink.find(layout)
        job = Job(
            collection=collection.name,
            configured=configured,
            spec=spec,
            layout=layout,
            depth=depth,
            sample_size=sample_size,
            items_per_range=settings.backfill.items_per_range,
            settle_seconds=settings.validation.settle_seconds,
            tool_version=__version__,
        )
        sides = Sides(
            source=Neo4jSide(connection, spec),
            counted=Neo4jSource(connection),
            sink=MilvusRows(milvus, layout),
            written=sink,
            marks=bootstrap.marks(connection, collection),
            node=Neo4jControl(connection, collection.name),
            journal=Neo4jJournal(connection, collection.name),
        )
        folder = None if keeps_records else opened.enter_context(TemporaryDirectory(prefix="segue-"))
        state = opened.enter_context(SqliteComparisons(settings.state.path if folder is None else Path(folder) / "state.db"))
        workers = LocalWorkers(settings.backfill.workers)
        yield Reconcile(job, sides, workers, watch, clock=time.monotonic, wait=stop.wait, stop=stop), state
