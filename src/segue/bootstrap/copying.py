"""Config → a copy of a collection: what it would do, making its collection, the copy itself, and the record of the last one."""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from segue import __version__, bootstrap
from segue.bootstrap import journaling, on_ray
from segue.config import CollectionSettings, Settings
from segue.engines.local_workers import LocalWorkers
from segue.errors import ConfigError, FatalError, SegueError, StateStoreFailed
from segue.model import Counts, Layout, SourceSpec, StorageMode
from segue.phases.backfill import Backfill, Beside, Job, Outcome, Preview
from segue.ports import BackfillState, Copier, Marks, Progress, Run, total
from segue.state import quarantine_file
from segue.state.sqlite_state import SqliteState

if TYPE_CHECKING:
    from segue.stores.neo4j_connection import Neo4jConnection

PROOF_SECONDS = 90.0
"""How long a trigger may take to show that it works; a new one is live after APOC's refresh, 60 s unless set."""


def preview(
    settings: Settings, collection: CollectionSettings, progress: Progress, stop: threading.Event, *, no_writers: bool
) -> Preview:
    """Say what a copy of the collection would do; opens no state file.

    Raises:
        ConfigError: See `migrate`.
    """
    with bootstrap.open_stores(settings) as stores, bootstrap.open_neo4j(settings) as connection:
        if no_writers:
            _refuse_captured(collection, connection)
        return _backfill(settings, collection, stores, progress, stop).preview()


def prepare_collection(settings: Settings, collection: CollectionSettings, progress: Progress, stop: threading.Event) -> Layout:
    """Make a collection as a copy would, with its index, and copy nothing."""
    with bootstrap.open_stores(settings) as stores:
        return _backfill(settings, collection, stores, progress, stop).prepare()


def migrate(
    settings: Settings,
    collection: CollectionSettings,
    progress: Progress,
    stop: threading.Event,
    *,
    restart: bool,
    no_writers: bool,
) -> tuple[Outcome, Path]:
    """Copy a collection; return what came of it and where its quarantine is written.

    Where changes are captured (`segue capture install`), the copy is made beside writers; otherwise it is static. `no_writers`
    states that nobody writes until changes are captured, and is recorded with the copy.

    Raises:
        ConfigError: `no_writers`, although changes are captured.
    """
    with (
        bootstrap.open_stores(settings) as stores,
        bootstrap.open_neo4j(settings) as connection,
        journaling.open_recorder(settings, collection, progress.note) as journal,
        SqliteState(settings.state.path) as state,
    ):
        if no_writers:
            _refuse_captured(collection, connection)
        beside = _beside(settings, collection, connection, progress, stop)
        stated = _control(connection, collection) if no_writers else None
        how = {
            "workers": settings.backfill.workers,
            "batch_size": settings.backfill.batch_size,
            "restart": restart,
            "capture": beside.capture if beside else "stated: nobody writes" if no_writers else None,
        }
        try:
            with ExitStack() as opened:
                backfill = _backfill(
                    settings,
                    collection,
                    stores,
                    journaling.Sampled(progress, journal, how),
                    stop,
                    beside,
                    nobody_writes=stated,
                    elsewhere=_elsewhere(opened, settings, collection, beside, stop),
                )
                outcome = backfill.run(state, restart=restart)
        except SegueError as fault:
            journaling.copy_failed(journal, fault)
            # What fails in the wake of the cause must not stand in its place.
            with suppress(StateStoreFailed):
                _write_quarantine(settings, collection, state)
            raise
        journaling.copy_ended(journal, outcome)
        return outcome, _write_quarantine(settings, collection, state)


def recorded(settings: Settings, collection: CollectionSettings) -> tuple[Run, Counts] | None:
    """Return the newest run of a collection with its account, None where none is recorded or the records cannot be read."""
    if not settings.state.path.exists():
        return None
    try:
        with SqliteState(settings.state.path) as state:
            run = state.latest(collection.name)
            return (run, total(state.progress(run))) if run else None
    except StateStoreFailed:
        return None


def missing_speed() -> str | None:
    """Return a hint when the driver's native codec is not installed, which makes reading several times slower."""
    try:
        importlib.metadata.version("neo4j-rust-ext")
    except importlib.metadata.PackageNotFoundError:
        return "the Neo4j driver's native codec is missing, reading is many times slower: pip install 'segue[fast]'"
    return None


def _backfill(
    settings: Settings,
    collection: CollectionSettings,
    stores: bootstrap.Stores,
    progress: Progress,
    stop: threading.Event,
    beside: Beside | None = None,
    *,
    nobody_writes: Marks | None = None,
    elsewhere: Callable[[SourceSpec, Layout], Copier] | None = None,
) -> Backfill:
    job = Job(
        collection=collection.name,
        spec=bootstrap.source_spec(collection),
        lay_out=bootstrap.lay_out(collection),
        batch_size=settings.backfill.fixed_batch_size,
        items_per_range=settings.backfill.items_per_range,
        tool_version=__version__,
        patience_seconds=settings.backfill.patience_seconds,
        beside=beside,
        nobody_writes=nobody_writes,
    )
    workers = LocalWorkers(settings.backfill.workers)
    return Backfill(job, stores.source, stores.sink, workers, progress, stop, elsewhere=elsewhere)


def _elsewhere(
    opened: ExitStack, settings: Settings, collection: CollectionSettings, beside: Beside | None, stop: threading.Event
) -> Callable[[SourceSpec, Layout], Copier] | None:
    address = settings.backfill.ray
    if address is None:
        return None
    return on_ray.copiers(address, opened, settings, collection, beside.capture if beside else None, stop)


def _beside(
    settings: Settings, collection: CollectionSettings, connection: Neo4jConnection, progress: Progress, stop: threading.Event
) -> Beside | None:
    token = _captured(collection, connection)
    if token is None:
        return None
    progress.note("changes are captured: writers may go on, `segue relay` carries them over")
    return Beside(token, bootstrap.marks(connection, collection), settings.relay.landing_seconds, stop.wait)


def _captured(collection: CollectionSettings, connection: Neo4jConnection) -> str | None:
    """Return the token under which every change leaves a mark from now on, None where changes need not leave one.

    Raises:
        FatalError: They should, and do not yet, or not any more.
    """
    from segue.stores.neo4j_control import Neo4jControl

    capture = bootstrap.capture(connection, collection)
    token = capture.token()
    if token is not None:
        if not capture.prove(PROOF_SECONDS):
            message = f"the trigger that captures changes of {collection.name!r} is installed, but marks nothing"
            raise FatalError(message, hint="`segue capture status` says more; `segue capture remove` gives it up.")
        return token
    control = Neo4jControl(connection, collection.name).read()
    if control.mode.marks and control.capture is None:
        message = (
            f"the mode of {collection.name!r} is {control.mode}, but its barrier is not reached: some changes leave no mark"
        )
        raise FatalError(
            message, hint=f"`segue mode set {control.mode} --collection {collection.name}` goes on waiting for it."
        )
    return control.capture


def _refuse_captured(collection: CollectionSettings, connection: Neo4jConnection) -> None:
    from segue.stores.neo4j_control import Neo4jControl

    # A look, no proof: a dry run changes nothing, not even by a canary.
    if (
        bootstrap.capture(connection, collection).token() is not None
        or Neo4jControl(connection, collection.name).read().mode.marks
    ):
        message = f"--no-writers states that nobody writes, but changes of {collection.name!r} are captured: writers may go on"
        end = f"segue capture remove, segue mode set {StorageMode.NEO4J_ONLY}"
        hint = f"Leave the flag out: the copy counts without it. Or end the capture first: {end}"
        raise ConfigError(message, hint=hint)


def _control(connection: Neo4jConnection, collection: CollectionSettings) -> Marks:
    """Return what writes to the control node, where no capture has prepared the database for that."""
    from segue.stores.neo4j_marks import prepare

    prepare(connection)
    return bootstrap.marks(connection, collection)


def _write_quarantine(settings: Settings, collection: CollectionSettings, state: BackfillState) -> Path:
    path = settings.state.path.with_name(f"quarantine-{collection.name}.jsonl")
    run = state.latest(collection.name)
    quarantine_file.write(path, state.quarantine(run) if run else [])
    return path
