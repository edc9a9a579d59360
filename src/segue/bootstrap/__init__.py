"""Config → stores, state, jobs: everything a verb needs, opened and closed in one place. The only importer of adapters.

Database clients are imported when a verb opens them, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segue import __version__
from segue.bootstrap import journaling
from segue.config import CollectionSettings, Settings
from segue.engines.local_workers import LocalWorkers
from segue.errors import ConfigError, FatalError, RetryableError, SegueError, StateStoreFailed
from segue.migration import Terms
from segue.model import Budget, CarriedProperty, Counts, Depth, EventKind, FenceTimes, Layout, SourceSpec, StorageMode
from segue.phases.backfill import Backfill, Beside, Job, Outcome, Preview
from segue.phases.discover import Proposal, discover
from segue.phases.observe import observe
from segue.phases.reconcile import Job as ReconcileJob
from segue.phases.reconcile import Reconcile, Sides
from segue.phases.reconcile import Watch as ReconcileWatch
from segue.phases.relay import Relay, Timing, Watch, keep_equal
from segue.pipelines.conditions import as_laid_out
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import (
    BackfillState,
    Capture,
    Catalog,
    ControlNode,
    Marks,
    Meter,
    NoMeter,
    Progress,
    ReconcileState,
    Run,
    Sink,
    Source,
    total,
)
from segue.state import quarantine_file
from segue.state.sqlite_comparisons import SqliteComparisons
from segue.state.sqlite_state import SqliteState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from segue.stores.milvus_connection import MilvusConnection
    from segue.stores.neo4j_connection import Neo4jConnection
    from segue.telemetry.health import Health
    from segue.telemetry.metrics import Served

OBSERVE_SECONDS = 15.0
"""Between looks at how a collection stands: as often as Prometheus usually scrapes."""

OBSERVE_ENDS_SECONDS = 5.0
"""How long a relay that ends waits for a look that hangs."""

LAST_SCRAPE_SECONDS = 60.0
"""How long a copy's last figures are shown at most: as long as the slowest usual scrape interval."""

STORE_SECONDS = 2.0
"""Between tries to reach a store that a relay needs to begin."""

PROOF_SECONDS = 90.0
"""How long a trigger may take to show that it works; a new one is live after APOC's refresh, 60 s unless set."""


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
    with open_source(settings) as (source, _), _open_sink(settings) as sink:
        yield Stores(source, sink)


@contextmanager
def open_source(settings: Settings) -> Iterator[tuple[Source, Catalog]]:
    """Connect to Neo4j, and make sure that it answers.

    Raises:
        SegueError: It does not answer, refuses the credentials, or has no such database.
    """
    from segue.stores.neo4j_catalog import Neo4jCatalog  # noqa: PLC0415
    from segue.stores.neo4j_store import Neo4jSource  # noqa: PLC0415

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
        yield _capture(connection, collection)


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
    from segue.stores.neo4j_capture import TriggerCapture  # noqa: PLC0415
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415
    from segue.stores.neo4j_marks import prepare  # noqa: PLC0415

    with open_neo4j(settings) as connection:
        trigger = TriggerCapture(connection, collection.name, source_spec(collection))
        yield ModeControl(
            Neo4jControl(connection, collection.name),
            _marks(connection, collection),
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
    from segue.stores.neo4j_connection import Neo4jConnection  # noqa: PLC0415

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
    from segue.stores.milvus_connection import MilvusConnection  # noqa: PLC0415

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
def _open_sink(settings: Settings) -> Iterator[Sink]:
    from segue.stores.milvus_store import MilvusSink  # noqa: PLC0415

    with open_milvus(settings) as connection:
        yield MilvusSink(connection)


def proposals(settings: Settings, *, indexes: Sequence[str], key: str | None, preset: Preset) -> list[Proposal]:
    """Look into Neo4j and propose collections; see `discover`."""
    with open_source(settings) as (source, catalog):
        return discover(catalog, source, indexes=indexes, key=key, preset=preset)


def preview(
    settings: Settings, collection: CollectionSettings, progress: Progress, stop: threading.Event, *, no_writers: bool
) -> Preview:
    """Say what a copy of the collection would do; opens no state file.

    Raises:
        ConfigError: See `migrate`.
    """
    with open_stores(settings) as stores, open_neo4j(settings) as connection:
        if no_writers:
            _refuse_captured(collection, connection)
        return _backfill(settings, collection, stores, progress, stop).preview()


def prepare_collection(settings: Settings, collection: CollectionSettings, progress: Progress, stop: threading.Event) -> Layout:
    """Make a collection as a copy would, with its index, and copy nothing."""
    with open_stores(settings) as stores:
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
        open_stores(settings) as stores,
        open_neo4j(settings) as connection,
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
        backfill = _backfill(
            settings, collection, stores, journaling.Sampled(progress, journal, how), stop, beside, nobody_writes=stated
        )
        try:
            outcome = backfill.run(state, restart=restart)
        except SegueError as fault:
            journaling.copy_failed(journal, fault)
            # What fails in the wake of the cause must not stand in its place.
            with suppress(StateStoreFailed):
                _write_quarantine(settings, collection, state)
            raise
        journaling.copy_ended(journal, outcome)
        return outcome, _write_quarantine(settings, collection, state)


def relay(
    settings: Settings,
    collection: CollectionSettings,
    watch: Watch,
    stop: threading.Event,
    *,
    until_drained: bool,
    meter: Meter | None = None,
) -> None:
    """Relay one collection until asked to stop, or until it is drained.

    A store that does not answer is waited for, in the beginning as later.

    Raises:
        ConfigError: The collection is not there yet.
    """
    while not stop.is_set():
        try:
            _relay(settings, collection, watch, stop, until_drained=until_drained, meter=meter)
        except RetryableError as fault:
            watch.note(f"{fault}; trying again")
            if meter is not None:
                meter.relays(is_up=False)
            stop.wait(STORE_SECONDS)
        else:
            return


def _relay(
    settings: Settings,
    collection: CollectionSettings,
    watch: Watch,
    stop: threading.Event,
    *,
    until_drained: bool,
    meter: Meter | None,
) -> None:
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415

    with open_neo4j(settings) as connection, _open_sink(settings) as sink:
        names = sink.field_names(collection.name)
        if names is None:
            message = f"there is no collection {collection.name!r} in Milvus to relay to"
            raise ConfigError(message, hint="`segue migrate-embeddings` makes it; the marks wait until then.")
        spec = as_laid_out(source_spec(collection), names)
        layout = lay_out(collection)(spec)
        sink.find(layout)
        marks = _marks(connection, collection)
        times = settings.relay
        timing = Timing(
            request=settings.milvus.request_timeout_seconds,
            landing=times.landing_seconds,
            lease=times.lease_seconds,
            window=times.window_seconds,
            drain=times.drain_seconds,
        )
        journaling.recorder(connection, settings, collection, watch.note).record(
            EventKind.RELAY,
            "a relay drains the marks" if until_drained else "a relay runs",
            {"state": "began", "until_drained": until_drained},
        )
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        one = Relay(owner, marks, Codec(spec, layout), layout, sink, timing, time.monotonic, meter=meter)
        with _observing(Neo4jControl(connection, collection.name), sink, layout, meter):
            keep_equal(one, marks, timing, time.monotonic, stop, watch, until_drained=until_drained, meter=meter)


@contextmanager
def _observing(node: ControlNode, sink: Sink, layout: Layout, meter: Meter | None) -> Iterator[None]:
    """Tell a meter now and then how the collection stands; in a thread of its own, so that no store that hangs holds it up."""
    if meter is None or isinstance(meter, NoMeter):
        yield
        return
    ended = threading.Event()

    def keep_telling() -> None:
        while not ended.is_set():
            observe(node, sink, layout, meter)
            ended.wait(OBSERVE_SECONDS)

    thread = threading.Thread(target=keep_telling, name=f"observe-{layout.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(OBSERVE_ENDS_SECONDS)


@contextmanager
def open_reconcile(
    settings: Settings,
    collection: CollectionSettings,
    *,
    depth: Depth,
    sample_size: int,
    watch: ReconcileWatch,
    stop: threading.Event,
    keeps_records: bool,
) -> Iterator[tuple[Reconcile, ReconcileState]]:
    """Connect to both sides for comparing a collection, and open its records; without `keeps_records`, ones that do not last.

    Raises:
        ConfigError: The collection is not there yet.
    """
    from segue.stores.milvus_rows import MilvusRows  # noqa: PLC0415
    from segue.stores.milvus_store import MilvusSink  # noqa: PLC0415
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415
    from segue.stores.neo4j_journal import Neo4jJournal  # noqa: PLC0415
    from segue.stores.neo4j_side import Neo4jSide  # noqa: PLC0415
    from segue.stores.neo4j_store import Neo4jSource  # noqa: PLC0415

    with ExitStack() as opened:
        connection = opened.enter_context(open_neo4j(settings))
        milvus = opened.enter_context(open_milvus(settings))
        sink = MilvusSink(milvus)
        names = sink.field_names(collection.name)
        if names is None:
            message = f"there is no collection {collection.name!r} in Milvus to compare with"
            raise ConfigError(message, hint="`segue migrate-embeddings` makes it.")
        configured = source_spec(collection)
        spec = as_laid_out(configured, names)
        layout = lay_out(collection)(spec)
        sink.find(layout)
        job = ReconcileJob(
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
            marks=_marks(connection, collection),
            node=Neo4jControl(connection, collection.name),
            journal=Neo4jJournal(connection, collection.name),
        )
        folder = None if keeps_records else opened.enter_context(TemporaryDirectory(prefix="segue-"))
        state = opened.enter_context(SqliteComparisons(settings.state.path if folder is None else Path(folder) / "state.db"))
        workers = LocalWorkers(settings.backfill.workers)
        yield Reconcile(job, sides, workers, watch, clock=time.monotonic, wait=stop.wait, stop=stop), state


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


class Meters:
    """Gives each collection its meter; meters that count nothing where no metrics are served."""

    def __init__(self, registry: CollectorRegistry | None = None, served: Served | None = None) -> None:
        self._registry = registry
        self._served = served

    def __call__(self, collection: CollectionSettings) -> Meter:
        """Return the meter of a collection."""
        if self._registry is None:
            return NoMeter()
        from segue.telemetry.metrics import Metrics  # noqa: PLC0415

        return Metrics(collection.name, self._registry)

    def await_scrape(self, stop: threading.Event, note: Callable[[str], None]) -> None:
        """Go on serving until somebody has seen the last figures, for `LAST_SCRAPE_SECONDS` at most."""
        if self._served is None:
            return
        note(f"the last figures are shown until they are scraped, for {LAST_SCRAPE_SECONDS:.0f} s at most; Ctrl-C ends that")
        self._served.await_scrape(LAST_SCRAPE_SECONDS, stop)


@contextmanager
def metered(port: int | None, health: Health | None = None) -> Iterator[Meters]:
    """Give meters whose metrics are served at /metrics on a port; without a port, meters that count nothing.

    Args:
        port: Where to listen, on every address of this machine.
        health: What /healthz and /readyz beside it tell.

    Raises:
        ConfigError: The port is taken.
    """
    if port is None:
        yield Meters()
        return
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from segue.telemetry.metrics import serve  # noqa: PLC0415

    registry = CollectorRegistry()
    served = serve(port, registry, health=health)
    try:
        yield Meters(registry, served)
    finally:
        served.close()


def missing_speed() -> str | None:
    """Return a hint when the driver's native codec is not installed, which makes reading several times slower."""
    try:
        importlib.metadata.version("neo4j-rust-ext")
    except importlib.metadata.PackageNotFoundError:
        return "the Neo4j driver's native codec is missing, reading is many times slower: pip install 'segue[fast]'"
    return None


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


def _backfill(
    settings: Settings,
    collection: CollectionSettings,
    stores: Stores,
    progress: Progress,
    stop: threading.Event,
    beside: Beside | None = None,
    *,
    nobody_writes: Marks | None = None,
) -> Backfill:
    job = Job(
        collection=collection.name,
        spec=source_spec(collection),
        lay_out=lay_out(collection),
        batch_size=None if settings.backfill.batch_size == "auto" else settings.backfill.batch_size,
        items_per_range=settings.backfill.items_per_range,
        tool_version=__version__,
        patience_seconds=settings.backfill.patience_seconds,
        beside=beside,
        nobody_writes=nobody_writes,
    )
    workers = LocalWorkers(settings.backfill.workers)
    return Backfill(job, stores.source, stores.sink, workers, progress, stop)


def lay_out(collection: CollectionSettings) -> Callable[[SourceSpec], Layout]:
    """Return what lays a collection out, given its source with the properties' types as they are."""
    return partial(
        make_layout,
        name=collection.name,
        preset=Preset(collection.preset),
        m=collection.index.m,
        ef_construction=collection.index.ef_construction,
    )


def _beside(
    settings: Settings, collection: CollectionSettings, connection: Neo4jConnection, progress: Progress, stop: threading.Event
) -> Beside | None:
    token = _captured(collection, connection)
    if token is None:
        return None
    progress.note("changes are captured: writers may go on, `segue relay` carries them over")
    return Beside(token, _marks(connection, collection), settings.relay.landing_seconds, stop.wait)


def _captured(collection: CollectionSettings, connection: Neo4jConnection) -> str | None:
    """Return the token under which every change leaves a mark from now on, None where changes need not leave one.

    Raises:
        FatalError: They should, and do not yet, or not any more.
    """
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415

    capture = _capture(connection, collection)
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
    from segue.stores.neo4j_control import Neo4jControl  # noqa: PLC0415

    # A look, no proof: a dry run changes nothing, not even by a canary.
    if _capture(connection, collection).token() is not None or Neo4jControl(connection, collection.name).read().mode.marks:
        message = f"--no-writers states that nobody writes, but changes of {collection.name!r} are captured: writers may go on"
        end = f"segue capture remove, segue mode set {StorageMode.NEO4J_ONLY}"
        hint = f"Leave the flag out: the copy counts without it. Or end the capture first: {end}"
        raise ConfigError(message, hint=hint)


def _control(connection: Neo4jConnection, collection: CollectionSettings) -> Marks:
    """Return what writes to the control node, where no capture has prepared the database for that."""
    from segue.stores.neo4j_marks import prepare  # noqa: PLC0415

    prepare(connection)
    return _marks(connection, collection)


def _capture(connection: Neo4jConnection, collection: CollectionSettings) -> Capture:
    from segue.stores.neo4j_capture import TriggerCapture  # noqa: PLC0415

    return TriggerCapture(connection, collection.name, source_spec(collection))


def _marks(connection: Neo4jConnection, collection: CollectionSettings) -> Marks:
    from segue.stores.neo4j_marks import Neo4jMarks  # noqa: PLC0415

    return Neo4jMarks(connection, collection.name, source_spec(collection))


def _write_quarantine(settings: Settings, collection: CollectionSettings, state: BackfillState) -> Path:
    path = settings.state.path.with_name(f"quarantine-{collection.name}.jsonl")
    run = state.latest(collection.name)
    quarantine_file.write(path, state.quarantine(run) if run else [])
    return path
