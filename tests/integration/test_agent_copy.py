"""`migrate-agentdb` as users run it, on real servers: complete, exact, repeatable, and clear when it cannot."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from acceptance.agent_place import AgentPlace, agent_place, redis_url
from acceptance.agent_state import MAPPINGS, assert_equal, fill, quarantine_file
from segue.bootstrap.agent_state import agent_codecs, open_agent_stores
from segue.config import load
from segue.model import AgentKind
from segue.phases.agent_copy import AgentCopy, AgentJob
from segue.sandbox import Endpoint
from segue.state.sqlite_agent_copies import SqliteAgentCopies


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own, and a configuration for every sort of key."""
    with agent_place(tmp_path, agent_endpoints) as found:
        found.configure(MAPPINGS)
        yield found


def test_everything_that_is_mapped_arrives_exactly(place: AgentPlace) -> None:
    """Every type and encoding, equal in every column; what cannot go is quarantined with its reason; again adds no row."""
    state = fill(place)
    place.redis.set(place.key("session:12345"), "somebody else's")
    first = place.migrate()

    assert first.code == 0, first.err
    assert first.data["counts"] == state.counts
    assert first.data["reasons"] == state.unfit
    assert quarantine_file(place) == state.unfit
    assert_equal(place, state)
    assert [one for one in first.data["unknown"] if one["example"].startswith(place.prefix)] == [
        {"like": "*:session:*", "keys": 1, "example": place.key("session:12345")}
    ]
    ids = place.rows("SELECT id, natural_key, xmin FROM rl_experiences ORDER BY id")

    again = place.migrate()
    assert again.code == 0, again.err
    assert again.data["counts"] == state.counts
    assert sum(kind["written"] for kind in again.data["kinds"].values()) == 0
    assert place.rows("SELECT id, natural_key, xmin FROM rl_experiences ORDER BY id") == ids


def test_what_changed_is_copied_and_what_is_gone_stays(place: AgentPlace) -> None:
    """A second copy carries changed values over and adds what is new; what was trimmed, deleted or expired stays as history."""
    state = fill(place, agents=2, each=10, unfit=False)
    assert place.migrate().code == 0
    place.redis.hset(place.key("q:a0:s:3"), mapping={"left": 99, "down": 4})
    place.redis.hset(place.key("agent:a1:state"), "status", "away")
    place.redis.set(place.key("policy:a0:v1"), b"new", px=3_600_000)
    place.redis.ltrim(place.key("exp:a0:list"), 5, -1)
    place.redis.rpush(place.key("exp:a0:list"), json.dumps({"state": 2, "action": "new", "reward": 3}))
    place.redis.delete(place.key("q:a1:s:0"))
    state.q_values["a0", "s:3", "left"] = 99.0
    state.q_values["a0", "s:3", "down"] = 4.0
    state.metadata["a1"]["status"] = "away"
    state.policies["a0", "v1"] = b"new"
    state.experiences["a0", "2", "new", 3.0, "null", None, None] += 1

    again = place.migrate()
    assert again.code == 0, again.err
    assert {kind: one["written"] for kind, one in again.data["kinds"].items()} == {
        "experiences": 1,
        "q_values": 2,
        "policies": 1,
        "metadata": 1,
    }
    assert_equal(place, state)
    ((expires,),) = place.rows("SELECT extract(epoch FROM expires_at) * 1000 FROM rl_policies WHERE agent_id = 'a0'")
    assert expires == place.redis.pexpiretime(place.key("policy:a0:v1"))


def test_history_is_left_out_on_request(place: AgentPlace) -> None:
    """`--skip-history` leaves every experience out, `--since` the older ones; both say how many."""
    state = fill(place, agents=1, each=20, unfit=False)
    skipped = place.migrate("--skip-history")
    assert skipped.code == 0, skipped.err
    assert place.count("experiences") == 0
    assert place.count("q_values") == len(state.q_values)
    assert skipped.data["kinds"]["experiences"]["skipped"] == 1 + 20 + 1 + 20

    late = place.migrate("--since", "2026-03-01T00:00:10Z")
    assert late.code == 0, late.err
    kept = {row: number for row, number in state.experiences.items() if row[-1] is None or row[-1].second >= 10}
    assert place.count("experiences") == sum(kept.values())
    assert place.migrate().code == 0
    assert_equal(place, state)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(place: AgentPlace) -> None:
    """Keys by mapping, what would be quarantined, unknown keys; no table, no file, not a key touched."""
    fill(place, agents=2, each=5)
    before = sorted((key, place.redis.dump(key)) for key in place.redis.scan_iter(f"{place.prefix}*"))
    dry = place.migrate("--dry-run")

    assert dry.code == 0, dry.err
    by_key = {one["key"].removeprefix(place.prefix): one for one in dry.data["mappings"]}
    assert by_key["q:{agent_id}:{state}"]["keys"] == 2 * 5 + 1
    assert by_key["exp:{agent_id}:list"]["reasons"]["pickle"] == 2
    assert by_key["agent:{agent_id}:state"]["sampled_rows"] == 2
    assert place.rows("SELECT count(*) FROM pg_tables WHERE schemaname = %s", place.schema) == [(0,)]
    assert [file.name for file in place.folder.iterdir()] == ["segue.toml"]
    assert sorted((key, place.redis.dump(key)) for key in place.redis.scan_iter(f"{place.prefix}*")) == before


def test_several_logical_databases(place: AgentPlace) -> None:
    """Equal keys of two databases are rows of their own."""
    other = 1 + place.db % 14
    with place.redis.__class__.from_url(redis_url(place.redis_at, other), protocol=2) as client:
        for redis in (place.redis, client):
            redis.hset(place.key("q:a:s"), mapping={"left": 1})
        try:
            place.configure(MAPPINGS, f"[redis]\ndatabases = [{place.db}, {other}]\n")
            ended = place.migrate()
        finally:
            client.delete(place.key("q:a:s"))
    assert ended.code == 0, ended.err
    assert place.rows("SELECT source_db FROM rl_q_values ORDER BY 1") == [(one,) for one in sorted((place.db, other))]


def test_reading_is_held_back_on_request(place: AgentPlace) -> None:
    """With `--max-ops` no more keys and pieces are read a second, and the pace is shown."""
    fill(place, agents=1, each=50, unfit=False)
    ended = place.migrate("--max-ops", "150")
    assert ended.code == 0, ended.err
    assert ended.data["redis_ops"] > 150
    assert ended.data["redis_ops_per_second"] <= 165


@pytest.mark.parametrize(("changes", "code", "said"), [
    ({"REDIS_URL": "redis://:wrong@{redis}/0"}, 1, "refuses the credentials of the default user"),
    ({"REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "does not answer"),
    ({"REDIS_URL": "redis://default:{redis_password}@{redis}/999"}, 1, "has no logical database 999"),
    ({"DATABASE_URL": "postgresql://segue:wrong@{postgres}/postgres"}, 1, "refuses the credentials of user 'segue'"),
    ({"DATABASE_URL": "postgresql://segue:{postgres_password}@{postgres}/nowhere"}, 1, 'database "nowhere" does not exist'),
    ({"DATABASE_URL": "mysql://x/y"}, 2, "an address of PostgreSQL is"),
])  # fmt: skip
def test_a_server_that_cannot_be_used_is_one_clear_message(
    place: AgentPlace, changes: dict[str, str], code: int, said: str
) -> None:
    """Wrong address, password or database: one message that says which server and what to set, and no stack trace."""
    places = {
        "redis": place.redis_at.uri.removeprefix("redis://").partition("/")[0],
        "redis_password": place.redis_at.password,
        "postgres": place.postgres_at.uri.removeprefix("postgresql://").partition("/")[0],
        "postgres_password": place.postgres_at.password,
    }
    place.configure(MAPPINGS, "[backfill]\npatience_seconds = 1\n")
    ended = place.migrate(**{name: value.format(**places) for name, value in changes.items()})
    assert ended.code == code
    assert said in ended.err
    assert said in ended.data["error"]["message"]
    assert "Traceback" not in ended.err
    assert "wrong" not in ended.err.replace("wrong user", "")


def test_a_role_that_may_not_write(place: AgentPlace) -> None:
    """A read-only role is told so, with what it needs; nothing is half-written and Redis is not scanned for nothing."""
    role = f"reader_{place.schema}"
    fill(place, agents=1, each=2, unfit=False)
    place.postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    place.postgres.execute(f"GRANT USAGE ON SCHEMA {place.schema} TO {role}")
    host = place.postgres_at.uri.removeprefix("postgresql://").partition("/")[0]
    try:
        ended = place.migrate(DATABASE_URL=f"postgresql://{role}:reader@{host}/postgres")
    finally:
        place.postgres.execute(f"DROP OWNED BY {role}")
        place.postgres.execute(f"DROP ROLE {role}")
    assert ended.code == 1
    assert f"permission denied for schema {place.schema}" in ended.err
    assert "Grant the role what it needs" in ended.err
    assert place.rows("SELECT count(*) FROM pg_tables WHERE schemaname = %s", place.schema) == [(0,)]


def test_tables_of_others_are_refused_with_what_differs(place: AgentPlace) -> None:
    """A table of that name with other columns is left alone and shown column by column."""
    place.postgres.execute("CREATE TABLE rl_q_values (agent_id TEXT, value REAL)")
    ended = place.migrate()
    assert ended.code == 1
    assert "rl_q_values.agent_id: is text, character varying(100) is needed" in ended.err
    assert "rl_q_values.q_value: missing, double precision is needed" in ended.err


def test_a_wrong_mapping_is_refused_before_anything_is_asked(place: AgentPlace) -> None:
    """What a mapping cannot mean is said with its place in the file; no server is asked."""
    place.configure(MAPPINGS.replace("PREFIXq:{agent_id}:{state}", "PREFIXq:{agent_id}{state}"))
    ended = place.migrate(REDIS_URL="redis://127.0.0.1:1/0")
    assert ended.code == 2
    assert "agentdb.mappings.4" in ended.err
    assert "two parts need something between them" in ended.err


def test_a_pattern_that_fits_nothing_is_told(place: AgentPlace) -> None:
    """A pattern with a typing error takes no key: the dry run says so, and the keys are listed as unknown."""
    fill(place, agents=1, each=3, unfit=False)
    place.configure(MAPPINGS.replace("PREFIXq:{agent_id}", "PREFIXQ:{agent_id}"))
    dry = place.migrate("--dry-run")
    assert f"no key fits '{place.prefix}Q:{{agent_id}}:{{state}}'" in dry.data["notes"]
    assert [one["keys"] for one in dry.data["unknown"] if one["example"].startswith(place.key("q:a0:s:"))] == [3]


def test_without_mappings_the_way_to_them_is_shown(place: AgentPlace) -> None:
    """A configuration that maps nothing is refused with the command that proposes mappings."""
    place.configure("")
    ended = place.migrate()
    assert ended.code == 2
    assert "segue init --agentdb" in ended.err


def test_another_mapping_does_not_go_on_with_a_checkpoint(place: AgentPlace) -> None:
    """A copy that was interrupted goes on under its own mapping only; otherwise what changed is said, and `--restart` goes."""
    state = fill(place, agents=3, each=60, unfit=False)
    running = place.start("migrate-agentdb", "--max-ops", "100")
    running.await_words("planned")
    running.process.kill()
    running.ended()
    place.configure(MAPPINGS.replace('"json:/next_state?"', '"json:/following?"'))
    refused = place.migrate()
    assert refused.code == 5
    assert "mappings.0.columns.next_state: 'json:/next_state?' then, 'json:/following?' now" in refused.err
    place.configure(MAPPINGS)
    assert place.migrate("--restart").code == 0
    assert_equal(place, state)


@pytest.mark.parametrize(("keys_per_page", "rows_per_batch"), [(7, 25), (3, 1_000), (500, 10)])
def test_the_account_is_right_however_pages_and_batches_fall(
    place: AgentPlace, keys_per_page: int, rows_per_batch: int
) -> None:
    """Large keys that go in several batches, small pages that go together: every row is written, and counted once."""
    state = fill(place, agents=2, each=15)
    settings = load(place.folder / "segue.toml", environ=place.environment())
    job = AgentJob(agent_codecs(settings), [], (), rows_per_batch, "test", keys_per_page)
    with open_agent_stores(settings) as stores, SqliteAgentCopies(place.folder / "own.db") as records:
        outcome = AgentCopy(job, stores.source, stores.sink, Unwatched(), threading.Event()).run(records)
    assert outcome.counts.as_dict() == state.counts
    assert outcome.kinds[AgentKind.EXPERIENCES].written == state.experiences.total()
    assert_equal(place, state)


class Unwatched:
    """Watches a copy and says nothing."""

    def planned(self, *_: object, **__: object) -> None:
        """See `Progress`."""

    batch = working = indexing = note = planned
