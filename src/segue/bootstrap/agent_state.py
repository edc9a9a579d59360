"""Agent state: config → Redis, PostgreSQL, mappings, jobs. Imports the extra `agentdb`'s clients when a verb needs them."""

from __future__ import annotations

import gc
import importlib.util
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from segue import __version__
from segue.bootstrap import journaling
from segue.config import Settings
from segue.errors import ConfigError, ExtraMissing, SegueError, StateStoreFailed
from segue.model import AgentMapping, Counts, EventKind
from segue.ports import AgentSink, AgentSource, Progress, Run, total
from segue.state import quarantine_file
from segue.state.sqlite_agent_copies import SqliteAgentCopies

if TYPE_CHECKING:
    from segue.phases.agent_copy import AgentCopy, AgentOutcome, AgentPreview
    from segue.phases.agent_discover import KeyspaceFound
    from segue.phases.agent_reconcile import AgentReconcile
    from segue.pipelines.agent_codec import AgentCodec
    from segue.stores.postgres_store import AgentTables, Postgres
    from segue.stores.redis_connection import RedisAddress
    from segue.stores.redis_store import RedisSource

_EXTRA = ("alembic", "hiredis", "msgspec", "psycopg", "redis")
_REDIS_PORT = 6379


@dataclass(frozen=True, slots=True)
class AgentStores:
    """Both sides, connected when they are first used."""

    source: AgentSource
    sink: AgentSink


def missing_packages() -> list[str]:
    """Return which of the clients are not installed."""
    return [name for name in _EXTRA if importlib.util.find_spec(name) is None]


def require_extra() -> None:
    """Make sure that the clients are there.

    Raises:
        ExtraMissing: Segue was installed without them.
    """
    if missing := missing_packages():
        raise ExtraMissing.of(what="agent state", extra="agentdb", missing=missing)


def agent_mappings(settings: Settings) -> list[AgentMapping]:
    """Return the mappings as configured.

    Raises:
        ConfigError: There are none.
    """
    if not settings.agentdb.mappings:
        message = "the configuration maps no Redis keys"
        raise ConfigError(message, hint="`segue init --agentdb` looks into Redis and proposes [[agentdb.mappings]].")
    return [one.as_mapping() for one in settings.agentdb.mappings]


def agent_codecs(settings: Settings) -> list[AgentCodec]:
    """Return a codec for each mapping, in the order in which they count."""
    require_extra()
    from segue.pipelines.agent_codec import AgentCodec

    return [AgentCodec(mapping) for mapping in agent_mappings(settings)]


def redis_address(settings: Settings) -> RedisAddress:
    """Return where Redis is."""
    require_extra()
    from segue.stores.redis_connection import RedisAddress

    redis, address = settings.redis, urlsplit(settings.redis.url)
    return RedisAddress(
        host=address.hostname or "localhost",
        port=address.port or _REDIS_PORT,
        tls=address.scheme == "rediss",
        ca_file=redis.ca_file,
        username=redis.username,
        password=redis.password.get_secret_value() if redis.password else None,
        connect_timeout_seconds=redis.connect_timeout_seconds,
        request_timeout_seconds=redis.request_timeout_seconds,
    )


def redis_source(settings: Settings) -> RedisSource:
    """Return Redis as it is read; connects when it is first used."""
    address = redis_address(settings)
    from segue.stores.redis_store import RedisSource

    redis = settings.redis
    return RedisSource(
        address,
        redis.chosen_databases,
        sentinel_master=redis.sentinel_master,
        sentinel_password=redis.sentinel_password.get_secret_value() if redis.sentinel_password else None,
        max_ops=redis.max_ops,
    )


def postgres(settings: Settings, most_connect_seconds: float = math.inf, most_request_seconds: float = math.inf) -> Postgres:
    """Return where PostgreSQL is, for connections and pools of one's own; whoever is in a hurry says so."""
    require_extra()
    from segue.stores.postgres_store import Postgres

    given = settings.postgres
    return Postgres(
        given.url,
        username=given.username,
        password=given.password.get_secret_value() if given.password else None,
        schema=given.schema_name,
        connect_timeout_seconds=min(most_connect_seconds, given.connect_timeout_seconds),
        request_timeout_seconds=min(most_request_seconds, given.request_timeout_seconds),
    )


def agent_tables(settings: Settings) -> AgentTables:
    """Return the tables as they are written; connects when it is first used."""
    at = postgres(settings)
    from segue.stores.postgres_store import AgentTables

    return AgentTables(at, monthly=settings.agentdb.partitions == "monthly")


@contextmanager
def open_agent_stores(settings: Settings) -> Iterator[AgentStores]:
    """Give both sides, and close them in the end."""
    with ExitStack() as opened:
        source, sink = redis_source(settings), agent_tables(settings)
        opened.callback(source.close)
        opened.callback(sink.close)
        yield AgentStores(source, sink)


@dataclass(frozen=True, slots=True)
class AgentWish:
    """What a command is asked for.

    Attributes:
        skip_history: Leave experiences out.
        since: Leave out experiences older than that, in microseconds since 1970.
        restart: Copy everything again instead of resuming.
    """

    skip_history: bool = False
    since: int | None = None
    restart: bool = False


def keyspace(settings: Settings) -> KeyspaceFound:
    """Look into Redis and propose mappings; see `discover_agent_state`."""
    require_extra()
    from segue.phases.agent_discover import discover_agent_state

    source = redis_source(settings)
    with ExitStack() as opened:
        opened.callback(source.close)
        return discover_agent_state(source)


def preview_agent_state(settings: Settings, wish: AgentWish, progress: Progress, stop: threading.Event) -> AgentPreview:
    """Say what a copy would do; opens no state file."""
    with open_agent_stores(settings) as stores:
        return _agent_copy(settings, stores, wish, progress, stop).preview()


def migrate_agent_state(
    settings: Settings, wish: AgentWish, progress: Progress, stop: threading.Event
) -> tuple[AgentOutcome, Path]:
    """Copy the agent state that is mapped; return what came of it and where its quarantine is written."""
    with few_collections(), open_agent_stores(settings) as stores, SqliteAgentCopies(settings.state.path) as state:
        copy = _agent_copy(settings, stores, wish, progress, stop)
        recorder = agent_recorder(settings, progress.note)
        try:
            outcome = copy.run(state, restart=wish.restart)
        except SegueError as fault:
            journaling.copy_failed(recorder, fault)
            # What fails in the wake of the cause must not stand in its place.
            with suppress(StateStoreFailed):
                _write_agent_quarantine(settings, state)
            raise
        _record_copy(recorder, outcome)
        return outcome, _write_agent_quarantine(settings, state)


def agent_recorder(settings: Settings, note: Callable[[str], None]) -> journaling.Recorder:
    """Return what adds to the journal of agent state; never raises."""
    at = postgres(settings, most_connect_seconds=5.0, most_request_seconds=5.0)
    from segue.stores.postgres_journal import PostgresJournal

    return journaling.Recorder(PostgresJournal(at), settings, note)


def _record_copy(recorder: journaling.Recorder, outcome: AgentOutcome) -> None:
    counts, state = outcome.counts, "complete" if outcome.complete else "interrupted"
    text = f"copy {state}: {counts.migrated:,} of {counts.source:,} rows migrated, {counts.quarantined:,} quarantined"
    data = {
        "state": state,
        **counts.as_dict(),
        "kinds": {kind.value: asdict(one) for kind, one in outcome.kinds.items()},
        "reasons": dict(outcome.reasons),
        "seconds": round(outcome.seconds, 3),
    }
    recorder.record(EventKind.COPY, text, data)


@contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for garbage in circles less often: a batch is many small objects, none of them in a circle.

    At its usual pace the collector takes a quarter of a copy's processor time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def recorded_agent_state(settings: Settings) -> tuple[Run, Counts] | None:
    """Return the newest run with its account, None where none is recorded or the records cannot be read."""
    from segue.phases.agent_copy import COLLECTION

    if not settings.state.path.exists():
        return None
    try:
        with SqliteAgentCopies(settings.state.path) as state:
            run = state.latest(COLLECTION)
            return (run, total(state.progress(run))) if run else None
    except StateStoreFailed:
        return None


@contextmanager
def open_agent_reconcile(settings: Settings, *, sample_keys: int | None, stop: threading.Event) -> Iterator[AgentReconcile]:
    """Connect to both sides for comparing them; `sample_keys` None means everything.

    Raises:
        ConfigError: The tables are not there yet.
    """
    require_extra()
    from segue.phases.agent_reconcile import AgentComparisonJob, AgentReconcile
    from segue.stores.postgres_comparison import AgentComparison

    agentdb = settings.agentdb
    job = AgentComparisonJob(
        codecs=agent_codecs(settings),
        mirrored=[one.deletions == "mirror" for one in agentdb.mappings],
        ignore=agentdb.ignore,
        sample_keys=sample_keys,
    )
    source, sink = redis_source(settings), AgentComparison(postgres(settings), monthly=agentdb.partitions == "monthly")
    with ExitStack() as opened:
        opened.callback(source.close)
        opened.callback(sink.close)
        if not sink.is_there():
            message = f"schema {settings.postgres.schema_name!r} in PostgreSQL has no tables of agent state to compare with"
            raise ConfigError(message, hint="`segue migrate-agentdb` makes them.")
        yield AgentReconcile(job, source, sink, stop)


def _agent_copy(
    settings: Settings, stores: AgentStores, wish: AgentWish, progress: Progress, stop: threading.Event
) -> AgentCopy:
    from segue.phases.agent_copy import KEYS_A_PAGE, AgentCopy, AgentJob

    agentdb, most = settings.agentdb, settings.redis.max_ops
    job = AgentJob(
        codecs=agent_codecs(settings),
        described=[one.model_dump(mode="json", exclude={"deletions", "push", "most"}) for one in agentdb.mappings],
        ignore=agentdb.ignore,
        rows_per_batch=agentdb.rows_per_batch,
        # A page takes about a second where reading is held back.
        keys_per_page=KEYS_A_PAGE if most is None else min(KEYS_A_PAGE, max(10, most)),
        tool_version=__version__,
        skip_history=wish.skip_history,
        since=wish.since,
        patience_seconds=settings.backfill.patience_seconds,
    )
    return AgentCopy(job, stores.source, stores.sink, progress, stop)


def _write_agent_quarantine(settings: Settings, state: SqliteAgentCopies) -> Path:
    from segue.phases.agent_copy import COLLECTION

    path = settings.state.path.with_name(f"quarantine-{COLLECTION}.jsonl")
    run = state.latest(COLLECTION)
    quarantine_file.write(path, state.quarantine(run) if run else [])
    return path
