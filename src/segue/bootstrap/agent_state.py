"""Agent state: config → Redis, PostgreSQL, mappings, jobs. Imports the extra `agentdb`'s clients when a verb needs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from segue.config import Settings
from segue.errors import ConfigError
from segue.model import AgentMapping
from segue.ports import AgentSink, AgentSource

if TYPE_CHECKING:
    from segue.pipelines.agent_state import AgentCodec
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


def require_extra() -> None:
    """Make sure that the clients are there.

    Raises:
        ConfigError: Segue was installed without them.
    """
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        message = f"agent state needs packages that are not installed: {', '.join(missing)}"
        raise ConfigError(message, hint="pip install 'segue[agentdb]'")


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
    from segue.pipelines.agent_state import AgentCodec  # noqa: PLC0415

    return [AgentCodec(mapping) for mapping in agent_mappings(settings)]


def redis_address(settings: Settings) -> RedisAddress:
    """Return where Redis is."""
    require_extra()
    from segue.stores.redis_connection import RedisAddress  # noqa: PLC0415

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
    from segue.stores.redis_store import RedisSource  # noqa: PLC0415

    redis = settings.redis
    return RedisSource(
        address,
        redis.chosen_databases,
        sentinel_master=redis.sentinel_master,
        sentinel_password=redis.sentinel_password.get_secret_value() if redis.sentinel_password else None,
        max_ops=redis.max_ops,
    )


def postgres(settings: Settings) -> Postgres:
    """Return where PostgreSQL is, for connections and pools of one's own."""
    require_extra()
    from segue.stores.postgres_store import Postgres  # noqa: PLC0415

    given = settings.postgres
    return Postgres(
        given.url,
        username=given.username,
        password=given.password.get_secret_value() if given.password else None,
        schema=given.schema_name,
        connect_timeout_seconds=given.connect_timeout_seconds,
        request_timeout_seconds=given.request_timeout_seconds,
    )


def agent_tables(settings: Settings) -> AgentTables:
    """Return the tables as they are written; connects when it is first used."""
    at = postgres(settings)
    from segue.stores.postgres_store import AgentTables  # noqa: PLC0415

    return AgentTables(at, monthly=settings.agentdb.partitions == "monthly")


@contextmanager
def open_agent_stores(settings: Settings) -> Iterator[AgentStores]:
    """Give both sides, and close them in the end."""
    with ExitStack() as opened:
        source, sink = redis_source(settings), agent_tables(settings)
        opened.callback(source.close)
        opened.callback(sink.close)
        yield AgentStores(source, sink)
