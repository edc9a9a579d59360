"""What a page finds before its first block: films in Neo4j, agents' state in Redis, an empty PostgreSQL, a `segue.toml`.

Owns the four beginnings of the convention, and takes everything away again. The names that a page uses, `films` and `Film`, are
replaced by names as long that nobody else has, and put back in what is printed.
"""

from __future__ import annotations

import json
import re
import secrets
import string
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psycopg
import redis

from acceptance.agent_place import database_url, redis_url
from acceptance.shop import Shop
from acceptance.workplace import Workplace, workplace
from documents.page import ROOT
from segue.config import CollectionSettings, Settings, load
from segue.sandbox import Endpoint

FILMS, DIMENSION, GENRES = 200, 8, ("Drama", "Comedy", "Horror", "Western")

CONFIGURATION = """\
[relay]
drain_seconds = 2
[search]
visible_seconds = 2
slack_seconds = 0.2
shadow_rate = 1
least_shadow_reads = 20
milvus_seconds = 5
[validate]
settle_seconds = 15
[preflight]
inventory_seconds = 2
probe_seconds = 1
[[collections]]
name = "films"
[collections.source]
index = "films"
label = "Film"
key = "id"
vector = "embedding"
dimension = 8
[collections.source.properties]
title = "string"
year = "integer"
genres = "json"

[[agentdb.mappings]]
kind = "experiences"
key = "agent:{agent_id}:experiences"
type = "list"
encoding = "json"
most = 10_000
[agentdb.mappings.columns]
agent_id = "part:agent_id"
state = "json:/state"
action = "json:/action"
reward = "json:/reward"
next_state = "json:/next_state?"
done = "json:/done?"
timestamp = "json:/timestamp?"

[[agentdb.mappings]]
kind = "q_values"
key = "q:{agent_id}:{state}"
type = "hash"
encoding = "number"
rows = "field"
member = "{action}"
columns = { agent_id = "part:agent_id", state = "part:state", action = "part:action", q_value = "value" }

[[agentdb.mappings]]
kind = "policies"
key = "agent:{agent_id}:policy:{version}"
type = "string"
encoding = "raw"
columns = { agent_id = "part:agent_id", version = "part:version", payload = "value" }

[[agentdb.mappings]]
kind = "metadata"
key = "agent:{agent_id}:meta"
type = "hash"
encoding = "raw"
columns = { agent_id = "part:agent_id", value = "value" }
"""


class Place:
    """A folder and what is in the stores.

    Attributes:
        folder: In which commands run; the repository's scripts and what it deploys are there.
        environment: Of commands and of Python blocks.
    """

    def __init__(self, films: Workplace, database: str, redis_at: Endpoint, redis_database: int, postgres_at: Endpoint) -> None:
        self._films = films
        self._redis_at, self._postgres_at = redis_at, postgres_at
        self.folder = films.folder
        at = database_url(postgres_at)
        self.environment = films.environment(
            {
                "PATH": f"{Path(sys.executable).parent}:{films.environment()['PATH']}",
                "REDIS_URL": redis_url(redis_at, redis_database),
                "DATABASE_URL": at[: at.rindex("/") + 1] + database,
            }
        )

    def elsewhere(self, folder: Path) -> Place:
        """Return the same stores seen from another folder, which gets this one's configuration."""
        other = Place.__new__(Place)
        other.__dict__.update(self.__dict__)
        other._films = self._films.elsewhere(folder)
        other.folder = folder
        other.furnish()
        return other

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no command may print."""
        return (*self._films.secrets, self._redis_at.password, self._postgres_at.password)

    def into(self, text: str) -> str:
        """Return a page's text with this place's names."""
        text = re.sub(r"(?<![A-Za-z0-9/])films(?![A-Za-z0-9])", self._films.collection, text)
        return re.sub(r"(?<![A-Za-z0-9/])Film(?![A-Za-z0-9])", self._films.label, text)

    def out_of(self, text: str) -> str:
        """Return what was printed with the page's names."""
        return text.replace(self._films.collection, "films").replace(self._films.label, "Film")

    def configure(self) -> None:
        """Write segue.toml."""
        self._films.configure(self.into(CONFIGURATION))

    def furnish(self) -> None:
        """Put what pages name of the repository into the folder, and segue.toml."""
        for name in ("scripts", "deploy", "docs"):
            (self.folder / name).symlink_to(ROOT / name)
        self.configure()

    def fill(self) -> None:
        """Create the films, their constraint and their vector index, and agents' state."""
        name, rows = self._films.collection, self._films.rows
        rows(f"CREATE CONSTRAINT `{name}_id` FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        rows(
            f"CREATE VECTOR INDEX `{name}` FOR (n:LABEL) ON n.embedding "
            f"OPTIONS {{indexConfig: {{`vector.dimensions`: {DIMENSION}, `vector.similarity_function`: 'cosine'}}}}"
        )
        films = [
            {
                "id": f"m-{number}",
                "embedding": vector(number),
                "title": f"Film {number}",
                "year": 1960 + number % 60,
                "genres": [GENRES[number % 4]],
            }
            for number in range(1, FILMS + 1)
        ]
        rows("UNWIND $films AS film CREATE (n:LABEL) SET n = film", films=films)
        rows("CALL db.awaitIndexes(60)")
        self.clear_agents()
        with redis.Redis.from_url(self.environment["REDIS_URL"], protocol=2) as agents:
            for agent in ("a-1", "a-2"):
                for turn in range(50):
                    lived = {"state": {"x": turn}, "action": "left", "reward": turn / 4, "timestamp": 1_760_000_000 + turn}
                    agents.rpush(f"agent:{agent}:experiences", json.dumps(lived))
                agents.hset(f"q:{agent}:s1", mapping={"left": 0.25, "right": -1.0})
                agents.hset(f"agent:{agent}:meta", mapping={"status": "idle"})

    def copy(self) -> None:
        """Copy the films, and start a relay that runs until the place is taken away."""
        _Shop(self._films, environment=self.environment).copy()
        self._films.start("relay")

    def go_to_hybrid(self) -> None:
        """Let Milvus answer."""
        _Shop(self._films, environment=self.environment).reach("hybrid")

    def query(self, kind: str, text: str) -> None:
        """Run a page's Cypher on Neo4j, or its SQL on PostgreSQL; statements end with a semicolon at the end of a line."""
        statements = [one for one in re.split(r";\s*$", self.into(text), flags=re.MULTILINE) if one.strip()]
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as postgres:
            for statement in statements:
                self._films.rows(statement) if kind == "cypher" else postgres.execute(statement)

    def clear_agents(self) -> None:
        """Take all agents' state out of Redis."""
        with redis.Redis.from_url(self.environment["REDIS_URL"], protocol=2) as agents:
            agents.flushdb()


@dataclass
class _Shop(Shop):
    """What other tests do with a collection, by this place's configuration."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> tuple[Settings, CollectionSettings]:
        settings = load(self.place.folder / "segue.toml", environ=self.environment)
        return settings, settings.chosen(None)[0]


@contextmanager
def place(
    folder: Path, neo4j: Endpoint, milvus: Endpoint, agents: Mapping[str, Endpoint], redis_database: int
) -> Iterator[Place]:
    """Give a place whose stores are filled."""
    with ExitStack() as stack:
        films = stack.enter_context(workplace(folder, neo4j, milvus))
        films.collection, films.label = f"f{_letters(4)}", f"F{_letters(3)}"
        database = stack.enter_context(_database(agents["postgres"]))
        one = Place(films, database, agents["redis"], redis_database, agents["postgres"])
        stack.callback(one.clear_agents)
        one.furnish()
        one.fill()
        yield one


def vector(number: int) -> list[float]:
    """Return a vector like no other number's."""
    values: list[float] = np.random.default_rng(number).normal(size=DIMENSION).tolist()
    return values


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(count))


@contextmanager
def _database(postgres: Endpoint) -> Iterator[str]:
    name = f"p{_letters(7)}"  # as long as the usual one, so that tables are as wide
    with psycopg.connect(database_url(postgres), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
