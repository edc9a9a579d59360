"""Config → a store for an application: `segue.connect`. Opens what the traffic stands on, and what runs beside it.

Neo4j must answer when a store is opened; Milvus need not, ever. Beside the application's own threads there is one that looks at
the storage mode once a second, one for shadow reads, and, where it is asked for, a relay.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry

from segue import bootstrap
from segue.bootstrap import relaying
from segue.breaker import Breaker
from segue.config import CollectionSettings, Settings, load, located
from segue.errors import ConfigError, NotConnected, SegueError, StoreUnavailable
from segue.model import Filter, Freshness, SourceSpec, StorageMode
from segue.phases.relay import Step
from segue.pipelines.conditions import as_laid_out
from segue.ports import Backlog, Candidates, ControlNode, Meter, Pending, Vector
from segue.telemetry.metrics import Metrics
from segue.traffic.dual_write import AsyncDualWriteStore, DualWriteStore, Parts
from segue.traffic.modes import ModeFollower, OwnMode
from segue.traffic.search import Limits, Search
from segue.traffic.shadow_read import ErrorBudget, ShadowReads

LOOK_SECONDS = 0.5
"""Between looks at the storage mode; a change must take effect within a second."""

CONNECT_SECONDS = 2.0
"""How long a connection to Neo4j may take to open while a user waits."""

PROBE_SECONDS = 5.0
"""Between tries to search a Milvus that failed, at most; each costs one user the time that Milvus is given."""

REOPEN_SECONDS = 15.0
"""How old a connection to a Milvus that fails may become before it is opened anew."""

RETRY_SECONDS = 2.0
"""Between tries to open Milvus, and to begin a relay."""

FIRST_OPENING_SECONDS = 2.0
"""How long `connect` waits for Milvus, so that the first search finds it; longer, and Neo4j answers meanwhile."""

_log = logging.getLogger("segue")


def connect(
    config: str | Path | None = None,
    *,
    collection: str | None = None,
    freshness: Freshness | str = Freshness.STRICT,
    relay: bool = False,
    registry: CollectorRegistry | None = None,
) -> DualWriteStore:
    """Open the vectors of one collection for an application.

    Args:
        config: The configuration file; None is what SEGUE_CONFIG names, or segue.toml. Addresses, secrets and this instance's
            own mode (STORAGE_MODE, STORAGE_MODE_FILE) come from the environment where it has them.
        collection: Which of the file's collections; None where there is only one.
        freshness: What a search promises unless it is told otherwise; see `DualWriteStore.search`.
        relay: Carry changes over from this process too; any number of relays share the work.
        registry: Where the metrics go; None is prometheus_client's own.

    Raises:
        ConfigError: The configuration does not fit.
        SegueError: Neo4j does not answer, or refuses the credentials. A Milvus that is away is no error.
    """
    path = located(config)
    settings = load(path)
    chosen = settings.chosen(collection)
    if len(chosen) > 1:
        message = f"{path} has several collections"
        raise ConfigError(message, hint=f"Say which: connect(…, collection=NAME), one of {', '.join(o.name for o in chosen)}.")
    with ExitStack() as opened:
        parts = _open(settings, chosen[0], Freshness(freshness), registry, opened, relay=relay)
        closing = opened.pop_all()
    return DualWriteStore(parts(closing.close))


async def connect_async(
    config: str | Path | None = None,
    *,
    collection: str | None = None,
    freshness: Freshness | str = Freshness.STRICT,
    relay: bool = False,
    registry: CollectorRegistry | None = None,
) -> AsyncDualWriteStore:
    """Open the vectors of one collection for an application on asyncio; see `connect`."""
    import asyncio  # only where it is used

    opening = partial(connect, config, collection=collection, freshness=freshness, relay=relay, registry=registry)
    return AsyncDualWriteStore(await asyncio.to_thread(opening))


def _open(
    settings: Settings,
    one: CollectionSettings,
    freshness: Freshness,
    registry: CollectorRegistry | None,
    opened: ExitStack,
    *,
    relay: bool,
) -> Callable[[Callable[[], None]], Parts]:
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_filters import condition
    from segue.stores.neo4j_lookup import Neo4jLookup
    from segue.stores.neo4j_search import Neo4jFence, Neo4jNearest
    from segue.stores.neo4j_writes import Neo4jWrites

    spec = bootstrap.source_spec(one)
    limits = _limits(settings)
    meter = Metrics(one.name, registry or REGISTRY)
    connection = opened.enter_context(bootstrap.open_neo4j(settings, most_connect_seconds=CONNECT_SECONDS))
    connection.rows("RETURN 1")

    control = Neo4jControl(connection, one.name)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    budget = ErrorBudget(bootstrap.budget(settings))
    follower = ModeFollower(control, _own_mode(settings), name, socket.gethostname(), meter, observed=budget.observed)
    follower.look()
    budget.follow(follower.view.control.epoch)
    opened.callback(follower.leave)

    nearest = Neo4jNearest(connection, spec, condition, oversample=settings.search.oversample)
    lookup = Neo4jLookup(connection, spec, condition)
    shadow = ShadowReads(spec, nearest, lookup, meter, rate=settings.search.shadow_rate, budget=budget)
    opened.callback(shadow.close)
    milvus = _LateMilvus(settings, one, spec)
    opened.callback(milvus.close)
    breaker = Breaker(time.monotonic, last_pause=PROBE_SECONDS)
    fence = Neo4jFence(connection, one.name, spec, seconds=limits.neo4j_seconds)
    search = Search(spec, nearest, milvus, fence, follower, breaker, shadow, budget, meter, time.monotonic, limits)
    beat = _Heartbeat(follower, control, milvus, breaker, budget, meter)
    opened.callback(beat.close)
    if relay:
        opened.callback(_RelayThread(settings, one, meter).close)
    key_bytes = bootstrap.lay_out(one)(spec).primary.size
    writes = Neo4jWrites(connection, one.name, spec)
    return partial(Parts, spec, key_bytes, writes, search, lookup, limits.neo4j_seconds, follower, meter, freshness)


def _limits(settings: Settings) -> Limits:
    search = settings.search
    return Limits(
        milvus_seconds=search.milvus_seconds,
        neo4j_seconds=search.neo4j_seconds,
        margin=search.margin,
        most_open=search.most_open,
        most_dirty=search.most_dirty,
        bounded_seconds=search.bounded_seconds,
    )


def _own_mode(settings: Settings) -> OwnMode:
    own = settings.application
    return OwnMode(own.storage_mode, file=own.storage_mode_file)


class _LateMilvus:
    """`Candidates` over a Milvus that may not be there yet, or not any more; no search ever waits for its opening."""

    def __init__(self, settings: Settings, one: CollectionSettings, spec: SourceSpec) -> None:
        self._settings = settings
        self._one = one
        self._spec = spec
        self._opened: tuple[Candidates, ExitStack] | None = None
        self._opened_at = 0.0
        self._opening: threading.Thread | None = None

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> Pending:
        """See `Candidates`."""
        opened = self._opened
        if opened is None:
            message = f"Milvus at {self._settings.milvus.uri} is not connected yet"
            raise NotConnected(message)
        return opened[0].search(vector, k, conditions, seconds)

    def begin_to_open(self) -> threading.Thread | None:
        """Connect in a thread of its own, which is returned, unless it is connected or on the way."""
        if self._opened is not None or (self._opening is not None and self._opening.is_alive()):
            return None
        self._opening = threading.Thread(target=self._open, name="segue-milvus", daemon=True)
        self._opening.start()
        return self._opening

    def reopen(self) -> None:
        """Close a connection that has been open for a while: what it was opened on may be a collection that is no more."""
        if self._opened is not None and time.monotonic() - self._opened_at > REOPEN_SECONDS:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()

    def _open(self) -> None:
        from segue.stores.milvus_filters import expression
        from segue.stores.milvus_search import MilvusCandidates
        from segue.stores.milvus_store import MilvusSink

        try:
            with ExitStack() as opening:
                connection = opening.enter_context(bootstrap.open_milvus(self._settings))
                names = MilvusSink(connection).field_names(self._one.name)
                if names is None:
                    message = f"Milvus at {connection.uri} has no collection {self._one.name!r}"
                    raise StoreUnavailable(message)
                spec = as_laid_out(self._spec, names)
                layout = bootstrap.lay_out(self._one)(spec)
                candidates = MilvusCandidates(connection, layout, spec, expression, ef=self._settings.search.ef)
                self._opened, self._opened_at = (candidates, opening.pop_all()), time.monotonic()
        except SegueError as fault:
            _log.warning("%s; Neo4j answers until it does", fault)


class _Heartbeat:
    """A thread that follows the mode, keeps Milvus open where the mode wants it, and steps back when the budget is burnt."""

    def __init__(
        self,
        follower: ModeFollower,
        control: ControlNode,
        milvus: _LateMilvus,
        breaker: Breaker,
        budget: ErrorBudget,
        meter: Meter,
    ) -> None:
        self._follower = follower
        self._control = control
        self._milvus = milvus
        self._breaker = breaker
        self._budget = budget
        self._meter = meter
        self._try_at = 0.0
        self._stop = threading.Event()
        opening = self._keep_open() if follower.view.reads.reads_milvus else None
        if opening is not None:
            opening.join(FIRST_OPENING_SECONDS)
        self._thread = threading.Thread(target=self._run, name="segue-mode", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._beat()
            except Exception:  # noqa: BLE001  # an instance that stopped following the mode would hold every change up
                _log.exception("following the storage mode failed; trying again")

    def _beat(self) -> None:
        self._follower.look()
        view = self._follower.view
        self._budget.follow(view.control.epoch)
        self._meter.breaker(is_open=self._breaker.is_open)
        if view.reads.reads_milvus and time.monotonic() >= self._try_at:
            self._keep_open()
        if view.control.mode is StorageMode.SHADOW_MILVUS and (reason := self._budget.burnt()):
            self._step_back(view.control.epoch, reason)

    def _keep_open(self) -> threading.Thread | None:
        self._try_at = time.monotonic() + RETRY_SECONDS
        if self._breaker.is_open:
            self._milvus.reopen()
        return self._milvus.begin_to_open()

    def _step_back(self, epoch: int, reason: str) -> None:
        """Take the whole fleet back to Neo4j's answers; whoever comes second finds another epoch and does nothing."""
        view = self._follower.view
        words = f"stepped back by itself: {reason}"
        try:
            changed = self._control.change(epoch, StorageMode.DUAL_WRITE, times=view.control.times, reason=words)
        except SegueError as fault:
            _log.warning("the error budget is burnt (%s), but the mode cannot be changed: %s", reason, fault)
            return
        if changed is not None:
            _log.error("mode %s → %s: %s", view.control.mode, changed.mode, words)
            self._follower.saw(changed)


class _RelayThread:
    """A relay inside the application; a store that is away is tried again for as long as it takes."""

    def __init__(self, settings: Settings, one: CollectionSettings, meter: Meter) -> None:
        self._settings = settings
        self._one = one
        self._meter = meter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="segue-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the step in hand, hand the work over, end the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                relaying.relay(self._settings, self._one, self, self._stop, until_drained=False, meter=self._meter)
            except SegueError as fault:
                _log.warning("relay: %s; trying again", fault)
            except Exception:  # noqa: BLE001  # the marks wait, and nobody else may be there to take them
                _log.exception("relay: failed; trying again")
            self._stop.wait(RETRY_SECONDS)

    def step(self, step: Step) -> None:
        """See `phases.relay.Watch`."""
        for row in step.quarantined:
            _log.warning("relay: %r cannot go to Milvus: %s: %s", row.key, row.reason.value, row.detail)

    def backlog(self, backlog: Backlog) -> None:
        """See `phases.relay.Watch`; the meter has it."""

    def note(self, text: str) -> None:
        """See `phases.relay.Watch`."""
        _log.info("relay: %s", text)
