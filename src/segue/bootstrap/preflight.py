"""Preflight: config → the stores, the machine and the cluster as checks ask them, and the stage for a rehearsal of the copy."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segue import __version__, bootstrap
from segue.bootstrap import agent_state, journaling
from segue.config import CollectionSettings, ConfigMapSettings, DeploymentSettings, Settings
from segue.engines.local_machine import LocalMachine
from segue.engines.local_workers import LocalWorkers
from segue.errors import Interrupted, SegueError
from segue.model import Counts, EventKind, Key, Layout, Preflighted, SourceSpec
from segue.phases.backfill import Backfill, Beside, Job
from segue.phases.preflight import CHECKS
from segue.phases.preflight.check import Candidate, Limits, Room, Store
from segue.phases.preflight.milvus_capacity import SCRATCH
from segue.phases.preflight.running import Looked, Verdict, run
from segue.pipelines.batch_size import LARGEST
from segue.ports import AgentServer, Cluster, IndexProgress, Machine, Marks, Rehearsed, Server, Sink, Stretch, total
from segue.state.sqlite_state import SqliteState

CONNECT_SECONDS = 5.0
"""How long a store may take to let a check in."""

POLL_SECONDS = 0.5
"""Between looks at an index that is built, as the copy itself looks."""

SMALL = 3_000
"""Items of the first, small index; Milvus builds none over a segment of fewer than 1,024 rows."""

SMALL_BATCH = 500

INDEX_SECONDS = 120.0

Watch = Callable[[Looked], None]


def preflight(
    settings: Settings,
    chosen: Sequence[CollectionSettings],
    *,
    dry_run: bool = False,
    only_connecting: bool = False,
    machine: Machine | None = None,
    told: Watch = lambda _: None,
) -> Verdict:
    """Make the checks, and note what they came to with each collection, unless nothing is to be changed or only some were made.

    Args:
        settings: The configuration.
        chosen: The collections.
        dry_run: Nothing is tried and nothing noted.
        only_connecting: Only whether the stores can be reached.
        machine: What is asked for free space and the time; None is this one.
        told: Hears of each check as it ends.
    """
    checks = [check for check in CHECKS if check.is_about_connecting] if only_connecting else CHECKS
    with _room(settings, chosen, machine or LocalMachine(), dry_run=dry_run) as room:
        verdict = Verdict(run(checks, room, told))
        if not dry_run and not only_connecting:
            for one in chosen:
                # What could not be noted leaves the gate closed, which says so; the checks have said why.
                with suppress(SegueError):
                    _note(settings, one, verdict)
        return verdict


def predicted(settings: Settings, collection: CollectionSettings) -> Mapping[str, Any] | None:
    """Return what the last preflight of a collection predicted; None where it predicted nothing, or nobody can be asked."""
    with bootstrap.open_neo4j(settings, most_connect_seconds=CONNECT_SECONDS, retry_seconds=CONNECT_SECONDS) as connection:
        return journaling.recorder(connection, settings, collection, lambda _: None).predicted()


def _note(settings: Settings, one: CollectionSettings, verdict: Verdict) -> None:
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_marks import prepare

    ready = verdict.is_ready(one.name)
    warnings = len(verdict.warnings(one.name))
    errors = [f"{each.subject}: {each.check.id}" for each in verdict.errors(one.name)]
    with bootstrap.open_neo4j(settings, most_connect_seconds=CONNECT_SECONDS, retry_seconds=CONNECT_SECONDS) as connection:
        if ready:
            # Without the constraint two at once could make two control nodes.
            prepare(connection)
        Neo4jControl(connection, one.name).preflighted(Preflighted(ready, warnings, 0.0))
        said = f"preflight {'passed' if ready else 'failed'} with {warnings} warnings"
        text = said if ready else f"{said}: {', '.join(errors)}"
        data = {
            "passed": ready,
            "warnings": warnings,
            "errors": errors,
            "prediction": dict(verdict.facts("prediction", one.name)) or None,
        }
        journaling.recorder(connection, settings, one, lambda _: None).record(EventKind.PREFLIGHT, text, data)


@contextmanager
def _room(settings: Settings, chosen: Sequence[CollectionSettings], machine: Machine, *, dry_run: bool) -> Iterator[Room]:
    from segue.stores.milvus_preflight import MilvusPreflight
    from segue.stores.milvus_store import MilvusSink
    from segue.stores.neo4j_preflight import Neo4jPreflight
    from segue.stores.neo4j_store import Neo4jSource

    with ExitStack() as opened:
        quick = {"most_connect_seconds": CONNECT_SECONDS, "retry_seconds": CONNECT_SECONDS}
        neo4j = opened.enter_context(bootstrap.open_neo4j(settings, **quick))
        milvus = _Once(lambda: opened.enter_context(bootstrap.open_milvus(settings)))
        source, sink = Neo4jPreflight(neo4j), MilvusPreflight(settings.milvus.uri, milvus)
        # An application's environment names its database whether or not agents' state is to move.
        unused = not settings.agentdb.mappings and agent_state.missing_packages()
        agents = {} if unused else agent_servers(settings, opened)
        servers: dict[Store, Server] = {Store.NEO4J: source, Store.MILVUS: sink, **agents}
        limits = _limits(settings)
        one_at_a_time = threading.Lock()
        candidates = {}
        for one in chosen:
            reader = Neo4jSource(neo4j)
            candidates[one.name] = Candidate(
                one.name,
                bootstrap.source_spec(one),
                bootstrap.lay_out(one),
                reader,
                lambda: MilvusSink(milvus()),
                None if dry_run else _Stage(settings, one, one_at_a_time),
                limits,
            )
        yield Room(
            servers,
            source,
            sink,
            machine,
            _cluster(settings),
            candidates,
            str(settings.state.path),
            agents=agents,
            trying=not dry_run,
        )


class _Once:
    """Opens something when it is first asked for; the same failure again after a failure."""

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._opened: Any = None

    def __call__(self) -> Any:
        with self._lock:
            if isinstance(self._opened, SegueError):
                raise self._opened
            if self._opened is None:
                try:
                    self._opened = self._opening()
                except SegueError as fault:
                    self._opened = fault
                    raise
            return self._opened


def _limits(settings: Settings) -> Limits:
    given = settings.preflight
    size = settings.backfill.batch_size
    return Limits(
        replication=given.replication,
        disk_path=None if given.disk_path is None else str(given.disk_path),
        disk_free_bytes=None if given.disk_free_gib is None else round(given.disk_free_gib * 2**30),
        query_memory_bytes=None if given.query_memory_gib is None else round(given.query_memory_gib * 2**30),
        inventory_seconds=given.inventory_seconds,
        probe_seconds=given.probe_seconds,
        # One that adapts keeps to a few MiB by itself.
        batch_rows=min(LARGEST, 100) if size == "auto" else size,
    )


def agent_servers(settings: Settings, opened: ExitStack) -> dict[Store, AgentServer]:
    """Return Redis and PostgreSQL, each where the configuration or the environment names it.

    Raises:
        ExtraMissing: One of them is named, and Segue was installed without their clients.
    """
    named = settings.model_fields_set
    found: dict[Store, AgentServer] = {}
    if "redis" in named:
        address = agent_state.redis_address(settings)
        from segue.stores.redis_preflight import RedisPreflight

        redis = RedisPreflight(replace(address, connect_timeout_seconds=CONNECT_SECONDS), settings.redis.chosen_databases[0])
        opened.callback(redis.close)
        found[Store.REDIS] = redis
    if "postgres" in named:
        at = agent_state.postgres(settings)
        from segue.stores.postgres_preflight import PostgresPreflight

        postgres = PostgresPreflight(at)
        opened.callback(postgres.close)
        found[Store.POSTGRES] = postgres
    return found


def _cluster(settings: Settings) -> Cluster | None:
    from segue.rollout.kubernetes_api import KubernetesApi
    from segue.rollout.permissions import ClusterPermissions

    place = settings.rollout
    if not isinstance(place, (ConfigMapSettings, DeploymentSettings)):
        return None
    api = KubernetesApi(place.namespace, context=place.context, request_timeout_seconds=place.request_timeout_seconds)
    group, resource = ("", "configmaps") if isinstance(place, ConfigMapSettings) else ("apps", "deployments")
    needed = [(group, resource, verb, place.name) for verb in ("get", "patch")]
    if isinstance(place, DeploymentSettings):
        needed.append(("", "pods", "list", ""))
    return ClusterPermissions(api, needed)


class _Stage:
    """Rehearses the copy of a collection: the real one, into a collection of a random name, stopped after a while.

    Beside writers the real copy looks for marks at each batch, so the rehearsal does too, and finds none under its name.
    """

    def __init__(self, settings: Settings, collection: CollectionSettings, one_at_a_time: threading.Lock) -> None:
        self._settings = settings
        self._collection = collection
        self._one_at_a_time = one_at_a_time

    def rehearse(self, seconds: float, items: int) -> Rehearsed:
        """See `Stage`: a small copy, whose index shows what each index takes whatever its size, then a longer one."""
        with self._one_at_a_time, bootstrap.open_stores(self._settings) as stores:
            # By one worker in small batches, so that little more is on its way when it stops.
            small = self._copied(stores, seconds, SMALL, workers=1, batch_size=SMALL_BATCH)
            if small.copied.items < SMALL or small.counts.source <= SMALL:
                return small.rehearsed([])
            backfill = self._settings.backfill
            size = None if backfill.batch_size == "auto" else backfill.batch_size
            full = self._copied(stores, seconds, items, workers=backfill.workers, batch_size=size)
            return full.rehearsed(small.indexings)

    def _copied(self, stores: bootstrap.Stores, seconds: float, items: int, *, workers: int, batch_size: int | None) -> _Play:
        from segue.stores.neo4j_marks import Neo4jMarks

        settings, name, stop = self._settings, f"{SCRATCH}{uuid.uuid4().hex[:12]}", threading.Event()
        spec = bootstrap.source_spec(self._collection)
        lay_out = partial(_under, name, bootstrap.lay_out(self._collection))
        play = _Play(stores.sink, stop, seconds, items)
        with ExitStack() as leaving:
            connection = leaving.enter_context(bootstrap.open_neo4j(settings))
            folder = leaving.enter_context(TemporaryDirectory(prefix="segue-"))
            state = leaving.enter_context(SqliteState(Path(folder) / "state.db"))
            leaving.callback(self._drop, name)
            marks: Any = _NoTrace(Neo4jMarks(connection, name, spec))
            job = Job(
                collection=name,
                spec=spec,
                lay_out=lay_out,
                batch_size=batch_size,
                items_per_range=settings.backfill.items_per_range,
                tool_version=__version__,
                patience_seconds=CONNECT_SECONDS,
                beside=Beside("rehearsal", marks, settings.relay.landing_seconds, lambda _: True),
            )
            Backfill(job, stores.source, play, LocalWorkers(workers), play, stop).run(state)
            latest = state.latest(name)
            play.counts = total(state.progress(latest)) if latest else Counts(0, 0, 0)
            play.finish()
        return play

    def _drop(self, name: str) -> None:
        from segue.stores.milvus_collections import MilvusPhysicals

        with bootstrap.open_milvus(self._settings) as connection:
            physicals = MilvusPhysicals(connection, name)
            for physical in physicals.found():
                physicals.drop(physical)


def _under(name: str, lay_out: Callable[[SourceSpec], Layout], spec: SourceSpec) -> Layout:
    return replace(lay_out(spec), name=name)


class _NoTrace:
    """Marks as a copy uses them, for a rehearsal: what would be written of a copy that is none is left out."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def remark(self, after: Key | None, until: Key | None) -> set[Key]:
        """See `Marks`."""
        return self._marks.remark(after, until)

    def copy_begins(self) -> None:
        """Note nothing."""

    def copy_ended(self, capture: str) -> None:
        """Note nothing."""


class _Play:
    """Watches a rehearsal, as its progress and as its sink, and asks it to stop when it has seen enough."""

    def __init__(self, sink: Sink, stop: threading.Event, seconds: float, items: int) -> None:
        self._sink = sink
        self._stop = stop
        self._seconds = seconds
        self._items = items
        self._made = self._began = time.monotonic()
        self._index_began: float | None = None
        self._index_ended: float | None = None
        self._loaded = 0.0
        self._layout: Layout | None = None
        self._lock = threading.Lock()
        self._seen: list[Stretch] = []
        self.counts = Counts(0, 0, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    # --- the sink, where it is timed

    def create(self, layout: Layout) -> str:
        """See `Sink`."""
        self._layout = layout
        return self._sink.create(layout)

    def index(self, layout: Layout) -> None:
        """See `Sink`."""
        self._index_began = time.monotonic()
        self._sink.index(layout)

    def index_progress(self, layout: Layout) -> IndexProgress:
        """See `Sink`."""
        progress = self._sink.index_progress(layout)
        if progress.done:
            self._index_ended = time.monotonic()
        return progress

    def load(self, layout: Layout) -> None:
        """See `Sink`."""
        began = time.monotonic()
        self._sink.load(layout)
        self._loaded = time.monotonic() - began

    # --- the progress

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        del counts, ranges, resumed
        self._began = time.monotonic()

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""
        del worker, range_number
        with self._lock:
            now, before = time.monotonic() - self._began, self.copied.items
            self._seen.append(Stretch(now, before + migrated + quarantined))
            if now > self._seconds or self.copied.items >= self._items:
                self._stop.set()

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""

    # --- what came of it

    @property
    def copied(self) -> Stretch:
        """What had been acknowledged last."""
        return self._seen[-1] if self._seen else Stretch(0.0, 0)

    @property
    def indexings(self) -> list[Stretch]:
        """How long the index took."""
        if self._index_began is None or self._index_ended is None:
            return []
        return [Stretch(self._index_ended - self._index_began + self._loaded, self.copied.items)]

    def finish(self) -> None:
        """Build the index and load, where the copy was stopped before.

        Raises:
            Interrupted: The index took too long.
        """
        layout = self._layout
        if layout is None or self._index_ended is not None:
            return
        self.index(layout)
        while not self.index_progress(layout).done:
            if time.monotonic() - (self._index_began or 0.0) > INDEX_SECONDS:
                message = f"the index over {self.copied.items:,} rows was not built within {INDEX_SECONDS:g} s"
                raise Interrupted(message, hint="Is Milvus very busy? Its log says more.")
            time.sleep(POLL_SECONDS)
        self.load(layout)

    def rehearsed(self, more: Sequence[Stretch]) -> Rehearsed:
        """Return it as a prediction takes it."""
        return Rehearsed(self._began - self._made, self.counts, list(self._seen), [*more, *self.indexings])
