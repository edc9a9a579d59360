"""`segue preflight` on real servers: what it finds when something is wrong, when it says ready, and that it leaves nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from pymilvus import DataType, MilvusClient

from acceptance.agent_place import database_url, redis_url
from acceptance.items import Loaded, configuration, load
from acceptance.workplace import Ended, Workplace, eventually, workplace
from segue.bootstrap.preflight import preflight as run_preflight
from segue.config import load as load_settings
from segue.engines.local_machine import LocalMachine
from segue.phases.preflight.check import Finding, Outcome
from segue.phases.preflight.milvus_privileges import NEEDED
from segue.ports import Machine
from segue.sandbox import Endpoint

NOWHERE = "127.0.0.1:1"
FAST = "[preflight]\nprobe_seconds = 1.0\n"


@pytest.fixture(scope="module")
def loaded(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workplace, Loaded]]:
    """Items that can all go, and a configuration; nothing else is there."""
    with workplace(tmp_path_factory.mktemp("preflight"), newest_neo4j, milvus_endpoint) as place:
        items = load(place, 4_200, dimension=16)
        place.rows("CALL db.awaitIndexes(60)")
        place.configure(configuration(place, items, extra=FAST))
        yield place, items


@pytest.fixture
def bare(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A place where a test puts what it wants."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        yield place


def preflight(place: Workplace, *arguments: str, **changes: str | None) -> Ended:
    """Run `segue preflight` with JSON on stdout; the stores of agent state are left out unless named."""
    return place.segue("preflight", "--format", "json", *arguments, **{"REDIS_URL": None, "DATABASE_URL": None, **changes})


def looked(
    place: Workplace, machine: Machine | None = None, *, dry_run: bool = True, **changes: str | None
) -> dict[str, Finding]:
    """Make the checks in this process; return what those of the collection and of the stores found, by id and "id of store"."""
    environ = place.environment({"REDIS_URL": None, "DATABASE_URL": None, **changes})
    settings = load_settings(place.folder / "segue.toml", {}, environ)
    verdict = run_preflight(settings, settings.collections, dry_run=dry_run, machine=machine)
    stores = {f"{one.check.id} of {one.subject}": one.finding for one in verdict.looked if one.check.stores}
    return {**stores, **{one.check.id: one.finding for one in verdict.looked if not one.check.stores}}


def found(ended: Ended) -> Mapping[tuple[str, str], Any]:
    """Return what each check found, by its id and what it was about."""
    return {(one["id"], one["subject"]): one for one in ended.data["checks"]}


def scratch(client: MilvusClient) -> list[str]:
    """Return the collections in which copies are rehearsed now."""
    return [name for name in client.list_collections() if name.startswith("segue_preflight_")]


@contextmanager
def watched(client: MilvusClient) -> Iterator[set[str]]:
    """Collect the collections in which copies are rehearsed meanwhile, and were not before."""
    before, seen, stop = set(scratch(client)), set[str](), threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            seen.update(set(scratch(client)) - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


def test_everything_in_order_is_ready_and_predicts(loaded: tuple[Workplace, Loaded]) -> None:
    """Exit 0; the collections of the rehearsal are gone; the gate is open; prediction and reality are reported."""
    place, items = loaded
    name = place.collection
    recorded = "MATCH (e:SegueEvent {collection: $name, kind: 'preflight'}) RETURN count(e)"
    ((before,),) = place.rows(recorded, name=name)
    with watched(place.client) as rehearsed:
        ended = preflight(place)
    assert ended.code == 0, ended.err + ended.out
    seen = found(ended)
    assert ended.data["ready"]
    assert not [one for one in seen.values() if one["outcome"] in ("error", "skipped")]
    assert (seen["items", name]["facts"]["items"], seen["items", name]["facts"]["embedded"]) == (items.fit, items.fit)
    assert seen["vectors", name]["facts"]["read"] == items.fit
    prediction = seen["prediction", name]["facts"]
    assert 0 <= prediction["low"] <= prediction["seconds"] <= prediction["high"]
    assert prediction["rehearsed"] >= 1_000
    assert rehearsed
    # Among those seen may be one of a rehearsal beside this one, which goes soon.
    eventually(lambda: not rehearsed & set(scratch(place.client)))
    assert not rehearsed & set(scratch(place.client))
    assert not [one for one in place.client.list_collections() if one.startswith(name)]

    assert place.segue("mode", "set", "dual_write", "--dry-run").code == 0
    assert place.rows(recorded, name=name) == [[before + 1]]
    copied = place.migrate("--no-writers")
    assert copied.code == 0, copied.err
    (one,) = copied.data["collections"]
    assert one["predicted"] == prediction
    assert one["seconds"] > 0
    report = place.segue("report", "--format", "json")
    assert f"; predicted {prediction['seconds']:.1f} s (" in report.out


def test_a_dry_run_changes_nothing(bare: Workplace) -> None:
    """No rehearsal, no note, no constraint of ours that was not there; it says that the prediction is left out."""
    items = load(bare, 50)
    bare.configure(configuration(bare, items))
    constraints = bare.rows("SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name")
    ended = preflight(bare, "--dry-run")
    assert ended.code == 0, ended.err
    seen = found(ended)
    assert seen["rehearsal", bare.collection]["outcome"] == "skipped"
    assert "left out by --dry-run" in seen["rehearsal", bare.collection]["evidence"]
    assert seen["prediction", bare.collection]["outcome"] == "skipped"
    assert bare.rows("MATCH (n:SegueControl|SegueEvent {collection: $name}) RETURN n", name=bare.collection) == []
    mine = [one for one in constraints if bare.collection in one[0]]
    after = bare.rows("SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name")
    assert [one for one in after if bare.collection in one[0]] == mine


def test_only_connectivity(loaded: tuple[Workplace, Loaded]) -> None:
    """`--check-connectivity` makes four checks of each store and looks at no item."""
    place, _ = loaded
    ended = preflight(place, "--check-connectivity")
    assert ended.code == 0, ended.err
    assert {check for check, _ in found(ended)} == {"connection", "authentication", "version", "tls"}
    assert found(ended)["connection", "redis"]["outcome"] == "not configured"


def test_a_stopped_store_fails_its_own_checks(loaded: tuple[Workplace, Loaded]) -> None:
    """What needs it is skipped, what does not is looked at all the same; no stack trace, exit 3."""
    place, _ = loaded
    ended = preflight(place, MILVUS_URI=f"http://{NOWHERE}")
    seen = found(ended)
    assert ended.code == 3
    assert "Traceback" not in ended.err
    assert seen["connection", "milvus"]["outcome"] == "error"
    assert "nothing listens there" in seen["connection", "milvus"]["evidence"]
    assert {seen[name, "milvus"]["outcome"] for name in ("authentication", "version", "milvus-health")} == {"skipped"}
    assert seen["vectors", place.collection]["outcome"] == "ok"
    assert seen["rehearsal", place.collection]["outcome"] == "skipped"

    other = looked(place, NEO4J_URI=f"bolt://{NOWHERE}")
    assert other["connection of neo4j"].outcome is Outcome.ERROR
    assert other["milvus-health of milvus"].outcome in (Outcome.OK, Outcome.WARNING)
    assert other["items"].outcome is Outcome.SKIPPED


def test_wrong_passwords_are_told_from_stores_that_are_down(loaded: tuple[Workplace, Loaded]) -> None:
    """Each store answers, and refuses; the variable to set is named, the password is not."""
    place, _ = loaded
    wrong = f"wrong-{uuid.uuid4().hex}"
    ended = preflight(place, "--check-connectivity", NEO4J_PASSWORD=wrong, MILVUS_TOKEN=f"root:{wrong}")
    seen = found(ended)
    assert ended.code == 3
    assert wrong not in ended.out + ended.err
    for store, variable in (("neo4j", "NEO4J_PASSWORD"), ("milvus", "MILVUS_TOKEN")):
        assert seen["connection", store]["outcome"] == "ok"
        assert seen["authentication", store]["outcome"] == "error"
        assert variable in seen["authentication", store]["fix"]
        assert seen["version", store]["outcome"] == "skipped"


@contextmanager
def user(client: MilvusClient, role: str | None) -> Iterator[str]:
    """Give the token of a new user, with a role or none but `public`."""
    name = f"pf{uuid.uuid4().hex[:8]}"
    client.create_user(name, "Pass-word-1")
    try:
        if role:
            client.grant_role(name, role)
        yield f"{name}:Pass-word-1"
    finally:
        client.drop_user(name)


def test_a_role_with_too_few_privileges(loaded: tuple[Workplace, Loaded], fresh_milvus: Endpoint) -> None:
    """What a user without roles lacks in Milvus is listed by name, and nothing is rehearsed; an administrator lacks nothing."""
    place, _ = loaded
    uri = fresh_milvus.uri
    client = MilvusClient(uri, token=f"{fresh_milvus.username}:{fresh_milvus.password}")
    with user(client, None) as token:
        few = looked(place, dry_run=False, MILVUS_URI=uri, MILVUS_TOKEN=token)
    assert few["milvus-privileges of milvus"].outcome is Outcome.ERROR
    missing = few["milvus-privileges of milvus"].facts["missing"]
    assert {"CreateCollection", "Upsert", "Load", "Search"} <= set(missing) <= set(NEEDED)
    assert not {"ShowCollections", "DescribeCollection"} & set(missing), "which `public` has"
    assert few["rehearsal"].outcome is Outcome.SKIPPED
    with user(client, "admin") as token:
        # A role that was just granted counts some time later.
        found: list[Outcome] = []

        def is_enough() -> bool:
            found.append(looked(place, MILVUS_URI=uri, MILVUS_TOKEN=token)["milvus-privileges of milvus"].outcome)
            return found[-1] is Outcome.OK

        eventually(is_enough)
    client.close()
    assert found[-1] is Outcome.OK


def test_items_that_cannot_go_are_counted_by_reason(bare: Workplace) -> None:
    """Mixed dimensions, NaN, zero norm, duplicated keys, too-long texts: each with its number; and the constraint to make."""
    items = load(bare, 400, unfit=3)
    bare.rows(f"DROP CONSTRAINT `{bare.collection}_key`")
    twin = bare.rows("MATCH (n:LABEL) WHERE n.id = 'k-000001' RETURN properties(n)")[0][0]
    bare.rows("CREATE (n:LABEL) SET n = $twin", twin=twin)
    bare.configure(configuration(bare, items, extra=FAST))
    seen = looked(bare)
    expected: dict[str, int] = {}
    for (_, reason), count in items.unfit.items():
        expected[reason.value] = expected.get(reason.value, 0) + count
    reasons = seen["quarantine"].facts["reasons"]
    assert reasons == {**expected, "key_duplicate": expected.get("key_duplicate", 0) + 2}
    assert seen["quarantine"].outcome is Outcome.WARNING
    assert seen["vectors"].outcome is Outcome.WARNING
    assert "of other dimensions" in seen["vectors"].evidence
    assert seen["key"].outcome is Outcome.WARNING
    assert ["k-000001", 2] in seen["key"].facts["shared"]
    assert f"CREATE CONSTRAINT FOR (n:`{bare.label}`) REQUIRE n.`id` IS UNIQUE" in seen["key"].fix
    assert seen["items"].facts["without_embedding"] > 0
    assert seen["texts"].outcome is Outcome.WARNING


def test_a_wrong_dimension_in_the_configuration_is_an_error(bare: Workplace) -> None:
    """The index says otherwise, so nothing of the collection is read; an unknown index lists those there are."""
    items = load(bare, 20)
    text = configuration(bare, items)
    bare.configure(text.replace(f"dimension = {items.dimension}", "dimension = 17"))
    seen = looked(bare)
    assert seen["vector-index"].outcome is Outcome.ERROR
    assert "dimension 16, configured 17" in seen["vector-index"].evidence
    assert seen["items"].outcome is Outcome.SKIPPED
    bare.configure(text.replace(f'index = "{bare.collection}"', 'index = "none"'))
    assert bare.collection in looked(bare)["vector-index"].evidence


def test_a_collection_of_another_layout_is_in_the_way(bare: Workplace) -> None:
    """The differences are listed, nothing is rehearsed, and the collection stays as it is."""
    items = load(bare, 20)
    bare.configure(configuration(bare, items, extra=FAST))
    schema = bare.client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    bare.client.create_collection(bare.collection, schema=schema)
    ended = preflight(bare)
    seen = found(ended)
    assert ended.code == 3
    assert seen["target", bare.collection]["outcome"] == "error"
    for difference in ("vector has 8 dimensions, should have 16", "auto_id", "id is INT64, should be VARCHAR"):
        assert difference in seen["target", bare.collection]["evidence"]
    assert seen["rehearsal", bare.collection]["outcome"] == "skipped"
    assert bare.rows("MATCH (n:SegueControl {collection: $name}) RETURN n", name=bare.collection) == []
    assert bare.client.has_collection(bare.collection)


class SmallMachine(LocalMachine):
    """This machine with less room on its disks, and with a clock that is wrong."""

    def free_bytes(self, path: str) -> int:
        return 1_000_000

    def seconds(self) -> float:
        return super().seconds() + 3_600


def test_too_little_room_and_a_wrong_clock(loaded: tuple[Workplace, Loaded]) -> None:
    """A full disk is an error with what is needed and what there is; clocks an hour apart are a warning."""
    place, _ = loaded
    seen = looked(place, SmallMachine())
    assert seen["disk"].outcome is Outcome.ERROR
    assert "976.6 KiB are free on the volume of /" in seen["disk"].evidence
    assert seen["state-file of machine"].outcome is Outcome.ERROR
    assert seen["clock of neo4j"].outcome is Outcome.WARNING
    assert seen["clock of neo4j"].facts["seconds"] == pytest.approx(-3_600, abs=5)


def test_memory_is_compared_with_what_is_stated(bare: Workplace) -> None:
    """What [preflight] says of memory and disk stands above what can be seen."""
    items = load(bare, 200)
    bare.configure(configuration(bare, items, extra="[preflight]\nquery_memory_gib = 0\ndisk_free_gib = 0\n"))
    seen = looked(bare)
    assert seen["memory"].outcome is Outcome.ERROR
    assert "as [preflight] query_memory_gib says" in seen["memory"].evidence
    assert seen["disk"].outcome is Outcome.ERROR


def test_triggers_and_clocks_of_each_line(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> None:
    """Either line of Neo4j is a supported version with triggers on, and what is tried leaves no constraint behind."""
    with workplace(tmp_path, neo4j_endpoint, milvus_endpoint) as place:
        items = load(place, 30)
        place.configure(configuration(place, items))
        seen = looked(place)
        for check in ("version", "neo4j-privileges", "neo4j-procedures", "triggers", "clock"):
            assert seen[f"{check} of neo4j"].outcome is Outcome.OK, seen[f"{check} of neo4j"]
        assert seen["triggers of neo4j"].facts["enabled"]


def test_the_stores_of_agent_state(loaded: tuple[Workplace, Loaded], agent_endpoints: Mapping[str, Endpoint]) -> None:
    """Where they are named they are looked at: fit, with a wrong password, with a user who may not, and not there at all."""
    place, _ = loaded
    at_redis, at_postgres = agent_endpoints["redis"], agent_endpoints["postgres"]
    urls = {"REDIS_URL": redis_url(at_redis, 0), "DATABASE_URL": database_url(at_postgres)}
    fit = looked(place, **urls)
    for store in ("redis", "postgres"):
        for check in ("connection", "authentication", "version", "clock", "agent-privileges"):
            assert fit[f"{check} of {store}"].outcome is Outcome.OK, fit[f"{check} of {store}"]

    name = f"pf{uuid.uuid4().hex[:8]}"
    with redis.Redis.from_url(urls["REDIS_URL"]) as client, psycopg.connect(urls["DATABASE_URL"], autocommit=True) as server:
        client.acl_setuser(
            name, enabled=True, passwords=["+secret"], keys="*", commands=["+info", "+time", "+dbsize", "+select"]
        )
        server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
        server.execute(f"CREATE SCHEMA {name}")
        try:
            few = {
                "REDIS_URL": urls["REDIS_URL"].replace(f"{at_redis.username}:{at_redis.password}", f"{name}:secret"),
                "DATABASE_URL": urls["DATABASE_URL"].replace(
                    f"{at_postgres.username}:{at_postgres.password}", f"{name}:secret"
                ),
            }
            refused = looked(place, **few)
        finally:
            client.acl_deluser(name)
            server.execute(f"DROP SCHEMA {name}")
            server.execute(f"DROP ROLE {name}")
    assert refused["agent-privileges of redis"].outcome is Outcome.ERROR
    assert "LRANGE" in refused["agent-privileges of redis"].evidence
    assert refused["agent-privileges of postgres"].outcome is Outcome.ERROR
    assert "create tables" in refused["agent-privileges of postgres"].evidence

    wrong = looked(
        place,
        **{
            key: url.replace(":" + at.password, ":wrong")
            for (key, url), at in zip(urls.items(), (at_redis, at_postgres), strict=True)
        },
    )
    assert wrong["authentication of redis"].outcome is Outcome.ERROR
    assert wrong["connection of redis"].outcome is Outcome.OK
    away = looked(place, REDIS_URL=f"redis://{NOWHERE}/0", DATABASE_URL=f"postgresql://{NOWHERE}/postgres")
    assert {away[f"connection of {store}"].outcome for store in ("redis", "postgres")} == {Outcome.ERROR}
    assert away["items"].outcome is Outcome.OK


def test_the_formats_say_the_same(loaded: tuple[Workplace, Loaded]) -> None:
    """A line a store for people, the same verdict in Markdown, in a file too."""
    place, _ = loaded
    plain = place.segue("preflight", "--check-connectivity", REDIS_URL=None, DATABASE_URL=None)
    assert plain.out.lstrip().startswith("READY FOR MIGRATION")
    for store in ("neo4j", "milvus", "redis", "postgres"):
        assert f"\n  {store} " in plain.out
    paper = ("--format", "markdown", "--output-file", "p.md")
    assert place.segue("preflight", "--check-connectivity", *paper, REDIS_URL=None, DATABASE_URL=None).code == 0
    assert (place.folder / "p.md").read_text(encoding="utf-8").startswith("# READY FOR MIGRATION")
