"""A folder in which a test moves agent state as users do: keys and a schema of its own on a real Redis and a real PostgreSQL.

Owns the prefix of its keys, the logical database, the schema and the files, and removes what it made. Reads the stores
with their plain drivers only, so that nothing of the product vouches for itself.
"""

from __future__ import annotations

import os
import random
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

from acceptance.workplace import LONG, Ended, Started
from segue.sandbox import Endpoint

_OWN_VARIABLES = (
    "NEO4J_",
    "MILVUS_",
    "SEGUE_",
    "REDIS_",
    "DATABASE_",
    "PG",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
    "TERM",
    "TTY_",
)

TABLES = {
    "experiences": "rl_experiences",
    "q_values": "rl_q_values",
    "policies": "rl_policies",
    "metadata": "rl_agent_metadata",
}


class AgentPlace:
    """One folder, one prefix, one logical database, one schema.

    Attributes:
        prefix: What this place's keys begin with; unlike any other test's.
        db: The logical database.
        schema: The schema; unlike any other test's.
        redis, postgres: Plain clients of the same servers; the latter commits every statement.
    """

    def __init__(self, folder: Path, redis_at: Endpoint, postgres_at: Endpoint) -> None:
        mark = uuid.uuid4().hex[:10]
        self.folder = folder
        self.prefix, self.schema = f"t{mark}:", f"scratch_{mark}"
        self.db = random.randint(1, 14)  # 15 is the benchmark's
        self.redis_at, self.postgres_at = redis_at, postgres_at
        self.redis = redis.Redis.from_url(redis_url(redis_at, self.db), protocol=2)
        self._started: list[Started] = []
        self.postgres = psycopg.connect(database_url(postgres_at), autocommit=True)
        self.postgres.execute(f"CREATE SCHEMA {self.schema}")
        self._set_up()

    def reconnect(self) -> None:
        """Connect anew, after PostgreSQL was killed."""
        self.postgres.close()
        self.postgres = psycopg.connect(database_url(self.postgres_at), autocommit=True)
        self._set_up()

    def _set_up(self) -> None:
        self.postgres.execute(f"SET search_path TO {self.schema}")
        self.postgres.execute("SET TIME ZONE 'UTC'")

    def environment(self, changes: Mapping[str, str | None] = {}) -> dict[str, str]:
        """Return this process's environment with the servers' addresses in it; None takes a name out."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
        own = {
            "REDIS_URL": redis_url(self.redis_at, self.db),
            "DATABASE_URL": database_url(self.postgres_at),
            "SEGUE_LOG_FORMAT": "text",
        }
        return {name: value for name, value in {**inherited, **own, **changes}.items() if value is not None}

    def start(self, *arguments: str, **changes: str | None) -> Started:
        """Start a command in the folder; keyword arguments change its environment."""
        started = Started(arguments, self.folder, self.environment(changes), subprocess.DEVNULL)
        self._started.append(started)
        return started

    def segue(self, *arguments: str, seconds: float = LONG, **changes: str | None) -> Ended:
        """Run a command in the folder to its end; whatever it says, it tells no secret."""
        ended = self.start(*arguments, **changes).ended(seconds)
        for secret in (self.redis_at.password, self.postgres_at.password):
            assert secret not in ended.out + ended.err, "a secret was printed"
        return ended

    def migrate(self, *arguments: str, seconds: float = LONG, **changes: str | None) -> Ended:
        """Run `migrate-agentdb --format json` and check the account in its result, if it gives one."""
        ended = self.segue("migrate-agentdb", "--format", "json", *arguments, seconds=seconds, **changes)
        if ended.out and "counts" in ended.data:
            counts = ended.data["counts"]
            assert counts["source"] == counts["migrated"] + counts["quarantined"] + counts["pending"]
        return ended

    def configure(self, mappings: str, settings: str = "") -> None:
        """Write segue.toml; `PREFIX` in the mappings stands for the prefix."""
        text = f'[postgres]\nschema = "{self.schema}"\n{settings}\n{mappings.replace("PREFIX", self.prefix)}'
        (self.folder / "segue.toml").write_text(text, encoding="utf-8")

    def key(self, name: str) -> str:
        """Return a key of this place."""
        return self.prefix + name

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a query on PostgreSQL, in the place's schema."""
        return self.postgres.execute(query, values).fetchall()

    def count(self, kind: str) -> int:
        """Return the number of rows of a kind."""
        return int(self.rows(f"SELECT count(*) FROM {TABLES[kind]}")[0][0])

    def clean(self) -> None:
        """End what still runs; remove keys and schema."""
        for started in self._started:
            started.process.kill()
            started.process.wait()
        keys = list(self.redis.scan_iter(f"{self.prefix}*", count=5_000))
        for start in range(0, len(keys), 5_000):
            self.redis.unlink(*keys[start : start + 5_000])
        self.postgres.execute(f"DROP SCHEMA {self.schema} CASCADE")


@contextmanager
def agent_place(folder: Path, endpoints: Mapping[str, Endpoint]) -> Iterator[AgentPlace]:
    """Give a place to work in, and clean up after it."""
    with ExitStack() as stack:
        place = AgentPlace(folder, endpoints["redis"], endpoints["postgres"])
        stack.callback(place.redis.close)
        stack.callback(lambda: place.postgres.close())  # noqa: PLW0108  # the one it has then
        stack.callback(place.clean)
        yield place


def redis_url(at: Endpoint, db: int) -> str:
    """Return the address as users have it, with the password."""
    return f"redis://{at.username}:{at.password}@{urlsplit(at.uri).netloc}/{db}"


def database_url(at: Endpoint) -> str:
    """Return the address as users have it, with user and password."""
    parts = urlsplit(at.uri)
    return f"postgresql://{at.username}:{at.password}@{parts.netloc}{parts.path}"
