"""Config → a store for an application's agents: `segue.connect_agents`. Opens both sides, and what runs beside them.

Only the store that is written first must answer. Beside the application's own threads there is one that looks at the mode twice
a second, one that carries Redis's outbox over, and one for shadow reads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry

from segue.agent_outbox import OutboxDrain
from segue.bootstrap.agent_state import (
    agent_codecs,
    open_agent_stores,
    recorded_agent_state,
    redis_address,
    redis_source,
    require_extra,
)
from segue.bootstrap.agent_state import postgres as postgres_at
from segue.config import Settings, load, located
from segue.errors import SegueError
from segue.phases.agent_cutover import AgentFacts, AgentWatch, Handover
from segue.pipelines.agent_writes import AgentLayout
from segue.ports import AgentMeter
from segue.telemetry.metrics import AgentMetrics
from segue.traffic.agent_follower import AgentFollower
from segue.traffic.agent_shadow import AgentShadow
from segue.traffic.agent_store import AgentParts, AgentStateStore, AsyncAgentStateStore

if TYPE_CHECKING:
    from segue.phases.agent_follow import FollowStanding, FollowWatch
    from segue.stores.postgres_agents import PostgresAgents
    from segue.stores.redis_agents import RedisAgents
    from segue.stores.redis_connection import RedisAddress

LOOK_SECONDS = 0.5
"""Between looks at the mode; a change must take effect within a second."""

CONNECT_SECONDS = 2.0
"""How long a connection may take to open while an agent waits."""

REQUEST_SECONDS = 10.0
"""How long a store may take for one call of an agent."""

OUTBOX_SECONDS = 0.5
"""How long one look into an empty outbox waits."""

RETRY_SECONDS = 1.0
"""Between tries to carry over, while a store is away or somebody else is at it."""

_log = logging.getLogger("segue")


def connect_agents(
    config: str | Path | None = None, *, drain: bool = True, registry: CollectorRegistry | None = None
) -> AgentStateStore:
    """Open the agents' state for an application.

    Args:
        config: The configuration file; None is what SEGUE_CONFIG names, or segue.toml. Addresses and secrets come from the
            environment where it has them.
        drain: Carry Redis's outbox over from this process too; any number of processes may, one at a time does.
        registry: Where the metrics go; None is prometheus_client's own.

    Raises:
        ConfigError: The configuration does not fit, Redis is a cluster, or the extra `agentdb` is not installed.
        SegueError: Neither side answers and says what the mode is, or one refuses the credentials.
    """
    settings = load(located(config))
    with ExitStack() as opened:
        parts = _open(settings, AgentMetrics(registry or REGISTRY), opened, drain=drain)
        closing = opened.pop_all()
    return AgentStateStore(parts(closing.close))


async def connect_agents_async(
    config: str | Path | None = None, *, drain: bool = True, registry: CollectorRegistry | None = None
) -> AsyncAgentStateStore:
    """Open the agents' state for an application on asyncio; see `connect_agents`."""
    import asyncio  # only where it is used

    return AsyncAgentStateStore(await asyncio.to_thread(partial(connect_agents, config, drain=drain, registry=registry)))


@dataclass(frozen=True, slots=True)
class AgentSides:
    """Both sides as agents use them."""

    layouts: Sequence[AgentLayout]
    redis: RedisAgents
    postgres: PostgresAgents


@contextmanager
def open_agent_sides(settings: Settings) -> Iterator[AgentSides]:
    """Give both sides, connected when they are first used, and close them in the end."""
    require_extra()
    from segue.stores.postgres_agents import PostgresAgents
    from segue.stores.redis_agents import RedisAgents

    at = postgres_at(settings, CONNECT_SECONDS, REQUEST_SECONDS)
    redis = RedisAgents(partial(_primary, settings), settings.redis.chosen_databases[0], settings.postgres.schema_name)
    postgres = PostgresAgents(at, monthly=settings.agentdb.partitions == "monthly")
    with ExitStack() as opened:
        opened.callback(redis.close)
        opened.callback(postgres.close)
        yield AgentSides(agent_layouts(settings), redis, postgres)


def agent_layouts(settings: Settings) -> list[AgentLayout]:
    """Return the mappings as the library writes and reads them."""
    return [
        AgentLayout(codec, pushes_left=one.push == "left", most=one.most)
        for codec, one in zip(agent_codecs(settings), settings.agentdb.mappings, strict=True)
    ]


def _primary(settings: Settings) -> RedisAddress:
    """Find the server to write to: the one that is configured, or the one that a Sentinel names."""
    from dataclasses import replace

    from segue.stores.redis_agents import primary_of

    source = redis_source(settings)
    try:
        found = primary_of(source.nodes, redis_address(settings))
    finally:
        source.close()
    return replace(
        found,
        connect_timeout_seconds=min(CONNECT_SECONDS, found.connect_timeout_seconds),
        request_timeout_seconds=min(REQUEST_SECONDS, found.request_timeout_seconds),
    )


def _open(
    settings: Settings, meter: AgentMeter, opened: ExitStack, *, drain: bool
) -> Callable[[Callable[[], None]], AgentParts]:
    sides = opened.enter_context(open_agent_sides(settings))
    follower = AgentFollower(sides.redis, sides.postgres, meter)
    follower.look()
    shadow = AgentShadow(sides.redis, sides.postgres, meter, rate=settings.agentdb.shadow_rate)
    opened.callback(shadow.close)
    opened.callback(_AgentThread("segue-agent-mode", follower.look, LOOK_SECONDS).close)
    if drain:
        work = _Drain(sides, meter)
        opened.callback(_AgentThread("segue-agent-outbox", work.step, 0.0).close)
    return partial(AgentParts, sides.layouts, sides.redis, sides.postgres, follower, shadow, meter)


class _Drain:
    """The outbox, carried over for ever."""

    def __init__(self, sides: AgentSides, meter: AgentMeter) -> None:
        self._drain = OutboxDrain(sides.layouts, sides.redis, sides.postgres, meter)
        self._redis = sides.redis
        self._meter = meter

    def step(self) -> float:
        """Carry a batch over; return how long to pause before the next one."""
        try:
            done = self._drain.step(OUTBOX_SECONDS)
        finally:
            self._meter.waiting(*self._redis.waiting())
        return RETRY_SECONDS if done is None else 0.0


class _AgentThread:
    """A thread that does one thing again and again; what fails is logged once until it succeeds."""

    def __init__(self, name: str, step: Callable[[], float | None], pause: float) -> None:
        self._step = step
        self._pause = pause
        self._failed = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish what is in hand; end the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause: float | None = self._pause
        while not self._stop.wait(self._pause if pause is None else pause):
            try:
                pause, self._failed = self._step(), ""
            except SegueError as fault:
                pause = RETRY_SECONDS
                if self._failed != type(fault).__name__:
                    _log.warning("%s; trying again", fault)
                self._failed = type(fault).__name__
            except Exception:  # noqa: BLE001  # the entries wait, and nobody else may be there to take them
                pause = RETRY_SECONDS
                _log.exception("%s failed; trying again", self._thread.name)


@contextmanager
def open_handover(
    settings: Settings, watch: AgentWatch, wait: Callable[[float], bool], *, seconds: float
) -> Iterator[tuple[Handover, AgentFacts]]:
    """Give what a change of the mode needs, the tables made; `wait` and `seconds` as `Handover` has them."""
    with open_agent_sides(settings) as sides:
        if sides.postgres.control().epoch == 0:
            sides.postgres.prepare()
        drain = OutboxDrain(sides.layouts, sides.redis, sides.postgres, AgentMetrics(CollectorRegistry()))
        recorded = recorded_agent_state(settings)
        copied = recorded is not None and recorded[0].finished
        facts = AgentFacts(copied, settings.agentdb.validated_within_seconds)
        yield Handover(sides.redis, sides.postgres, drain, watch, wait, seconds), facts


def record_comparison(settings: Settings, *, clean: bool, detail: str, data: Mapping[str, Any]) -> None:
    """Record on the control row what a comparison of both sides came to: the gate before `postgres` asks for it."""
    with open_agent_sides(settings) as sides:
        if sides.postgres.control().epoch:
            sides.postgres.validated(clean=clean, detail=detail, data=data)


def follow_agents(settings: Settings, rescan_seconds: float, watch: FollowWatch, stop: threading.Event) -> FollowStanding:
    """Keep PostgreSQL up to date with Redis until asked to stop; the tables are there."""
    from segue.phases.agent_follow import AgentFollow, FollowJob
    from segue.stores.redis_notices import RedisNotices

    codecs = agent_codecs(settings)
    with open_agent_stores(settings) as stores, ExitStack() as opened:
        globs = list(dict.fromkeys(codec.pattern.glob for codec in codecs))
        listening = redis_source(settings)
        opened.callback(listening.close)
        notices = RedisNotices(redis_address(settings), listening.nodes, globs)
        opened.callback(notices.close)
        job = FollowJob(codecs, settings.agentdb.ignore, rescan_seconds)
        return AgentFollow(job, stores.source, stores.sink, notices, watch, stop).run()
