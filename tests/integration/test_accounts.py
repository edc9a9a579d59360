"""The accounts of docs/security.md: its own statements are run, with names that nobody else has, and are enough.

Neo4j Community has no roles, so its statements are not tried.
"""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from pymilvus import MilvusClient

import segue
from acceptance.agent_place import AgentPlace, agent_place
from acceptance.agent_state import MAPPINGS, fill
from acceptance.workplace import eventually
from segue.sandbox import Endpoint
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_preflight import MilvusPreflight

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
PASSWORDS = {"mover": "change-me", "shop": "change-me-too"}


def statements(kind: str) -> str:
    """Return the page's one block of a kind."""
    (block,) = re.findall(rf"^```{kind}[^\n]*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


@dataclass(frozen=True, slots=True)
class Accounts:
    """Both accounts in both stores of agent state.

    Attributes:
        place: Where commands are run.
        names: The page's names for accounts, and those they have here.
    """

    place: AgentPlace
    names: Mapping[str, str]

    def addresses(self, who: str) -> dict[str, str]:
        """Return the addresses with one account's credentials."""
        held = f"{self.names[who]}:{PASSWORDS[who]}"
        at_redis, at_postgres = self.place.redis_at, urlsplit(self.place.postgres_at.uri)
        return {
            "REDIS_URL": f"redis://{held}@{urlsplit(at_redis.uri).netloc}/{self.place.db}",
            "DATABASE_URL": f"postgresql://{held}@{at_postgres.netloc}{at_postgres.path}",
        }


@pytest.fixture
def accounts(tmp_path: Path, agent_endpoints: Mapping[str, Endpoint]) -> Iterator[Accounts]:
    """Accounts as the page makes them, on a schema and keys of this test's own."""
    with agent_place(tmp_path, agent_endpoints) as place:
        mark = uuid.uuid4().hex[:8]
        names = {who: f"{who}_{mark}" for who in PASSWORDS}
        granted = re.sub(r"\b(mover|shop)\b", lambda found: names[found[0]], statements("sql"))
        granted = granted.replace("CREATE SCHEMA agents;", "").replace("SCHEMA agents", f"SCHEMA {place.schema}")
        database = urlsplit(place.postgres_at.uri).path.strip("/")
        place.postgres.execute(granted.replace("DATABASE app", f"DATABASE {database}"))
        for line in re.findall(r"^\$ redis-cli (.*)", statements("console"), re.MULTILINE):
            command, verb, who, *rules = shlex.split(line)
            rules = [rule for rule in rules if rule not in {"~agent:*", "~q:*"}]
            keys = (f"~{place.prefix}*", f"~segue:agentdb:{place.schema}:*")
            place.redis.execute_command(command, verb, names[who], *keys, *rules)
        try:
            yield Accounts(place, names)
        finally:
            for name in names.values():
                place.redis.acl_deluser(name)
                place.postgres.execute(f"DROP OWNED BY {name} CASCADE")
                place.postgres.execute(f"DROP ROLE {name}")


def test_agents_are_moved_and_taken_back_under_the_accounts_of_the_page(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line as `mover`, the library as `shop`: through all modes and back, with a write in each."""
    place, mover = accounts.place, accounts.addresses("mover")
    place.configure(MAPPINGS)
    fill(place, agents=1, each=5, unfit=False)
    for name, value in accounts.addresses("shop").items():
        monkeypatch.setenv(name, value)

    def segue_does(*arguments: str) -> None:
        ended = place.segue(*arguments, **mover)
        assert ended.code == 0, ended.err

    segue_does("mode", "set", "dual_write", "--agentdb")
    with segue.connect_agents(place.folder / "segue.toml") as store:
        for verb in (
            ("migrate-agentdb",),
            ("mode", "set", "shadow", "--agentdb"),
            ("validate", "--agentdb", "--full"),
            ("mode", "set", "postgres", "--agentdb"),
            ("rollback", "--agentdb", "--replay", "--confirm"),
        ):
            store.put_q_values("a0", "s:1", {"left": float(len(verb))})
            segue_does(*verb)
        store.put_q_values("a0", "s:1", {"left": 99.0})
        assert store.q_value("a0", "s:1", "left") == 99.0
    with (
        psycopg.connect(accounts.addresses("shop")["DATABASE_URL"]) as shop,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        shop.execute(f"CREATE TABLE {place.schema}.more (n bigint)")
    with redis.Redis.from_url(mover["REDIS_URL"]) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.get("somebody-else's")


def test_milvus_takes_the_privileges_of_the_page(fresh_milvus: Endpoint) -> None:
    """`mover` lacks nothing that a migration asks for; `shop` may not write."""
    text = statements("python").replace('os.environ["MILVUS_URI"]', f'"{fresh_milvus.uri}"')
    text = text.replace('os.environ["MILVUS_TOKEN"]', f'"{fresh_milvus.username}:{fresh_milvus.password}"')
    names: dict[str, object] = {}
    exec(text, names)  # noqa: S102  # that is what the page is for
    assert isinstance(names["client"], MilvusClient)
    names["client"].close()
    reading = {"Search", "Query", "DescribeCollection", "GetLoadState"}
    missing: dict[str, Sequence[str]] = {}

    def may() -> bool:
        for name, password in (("mover", "Change-me-1"), ("shop", "Change-me-2")):
            with MilvusConnection(fresh_milvus.uri, token=f"{name}:{password}") as connection:
                missing[name] = MilvusPreflight(fresh_milvus.uri, lambda opened=connection: opened).missing()  # type: ignore[misc]
        return not missing["mover"] and not reading & set(missing["shop"])

    # Milvus tells its proxy of new privileges a little later, of each by itself.
    eventually(may)
    assert missing["mover"] == []
    assert {"Upsert", "Delete", "DropCollection", "CreateCollection"} <= set(missing["shop"])
    assert not reading & set(missing["shop"])
