"""Real servers for the tests: one sandbox per session, what runs already is used again and left running.

A test that uses them, directly or through another fixture, gets the marker `service` by itself.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis
import pytest
from neo4j import Driver, GraphDatabase
from pymilvus import MilvusClient

from segue import sandbox
from segue.sandbox import Endpoint

# A busy machine is no fault of the code.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

NEO4J_LINES = ("neo4j-5.26", "neo4j-2026")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs real servers: all of them go through `endpoints` or `agent_endpoints`."""
    for item in items:
        if not {"endpoints", "agent_endpoints"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def endpoints(pytestconfig: pytest.Config) -> Iterator[Mapping[str, Endpoint]]:
    """The sandbox's Neo4j (every line that a Java here can run) and Milvus, by service name."""
    yield from _running(pytestconfig, ("neo4j", "neo4j-5.26", "milvus"))


@pytest.fixture(scope="session")
def agent_endpoints(pytestconfig: pytest.Config) -> Iterator[Mapping[str, Endpoint]]:
    """The sandbox's Redis and PostgreSQL, by service name."""
    yield from _running(pytestconfig, ("redis", "postgres"))


def _running(pytestconfig: pytest.Config, services: tuple[str, ...]) -> Iterator[Mapping[str, Endpoint]]:
    before = sandbox.running()
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")

    def announce(line: str) -> None:
        if reporter is not None:
            reporter.write_line(f"sandbox: {line}")

    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        started = sandbox.up(services, announce=announce)
    yield started
    sandbox.down(services=[service for service in started if service not in before])


@pytest.fixture(scope="session", params=NEO4J_LINES)
def neo4j_endpoint(request: pytest.FixtureRequest, endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """Each release line of Neo4j in turn."""
    if request.param not in endpoints:
        pytest.skip(f"no Java on this machine runs {request.param}")
    return endpoints[request.param]


@pytest.fixture(scope="session")
def newest_neo4j(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """The newest Neo4j that runs here, for tests that need only one."""
    newest = sandbox.newest_neo4j(endpoints)
    assert newest is not None
    return newest


@pytest.fixture(scope="session")
def milvus_endpoint(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """The Milvus server."""
    return endpoints["milvus"]


@pytest.fixture(scope="session")
def _sandbox_drivers(endpoints: Mapping[str, Endpoint]) -> Iterator[list[Driver]]:
    with contextlib.ExitStack() as stack:
        neo4js = [endpoints[line] for line in NEO4J_LINES if line in endpoints]
        yield [stack.enter_context(GraphDatabase.driver(neo4j.uri, auth=(neo4j.username, neo4j.password))) for neo4j in neo4js]


@pytest.fixture(scope="session")
def _sandbox_milvus(milvus_endpoint: Endpoint) -> Iterator[MilvusClient]:
    token = f"{milvus_endpoint.username}:{milvus_endpoint.password}"
    with contextlib.closing(MilvusClient(uri=milvus_endpoint.uri, token=token)) as client:
        yield client


@pytest.fixture
def scratch_label(_sandbox_drivers: list[Driver]) -> Iterator[str]:
    """A label that no other test uses; all nodes, indexes and constraints of labels that begin with it are removed."""
    label = f"Scratch{uuid.uuid4().hex[:12]}"
    yield label
    for driver in _sandbox_drivers:
        _remove_labels(driver, label)


@pytest.fixture
def scratch_collection(_sandbox_milvus: MilvusClient) -> Iterator[str]:
    """A name that no other test uses; collections whose names begin with it are dropped with all their aliases."""
    prefix = f"scratch_{uuid.uuid4().hex[:12]}"
    yield prefix
    for collection in _sandbox_milvus.list_collections():
        if collection.startswith(prefix):
            for alias in _sandbox_milvus.describe_collection(collection)["aliases"]:
                _sandbox_milvus.drop_alias(alias)
            _sandbox_milvus.drop_collection(collection)


def _remove_labels(driver: Driver, prefix: str) -> None:
    with driver.session(database="neo4j") as session:

        def rows(query: str, **parameters: Any) -> list[dict[str, Any]]:
            return session.run(query, parameters).data()

        schema = "YIELD name, labelsOrTypes WHERE any(l IN labelsOrTypes WHERE l STARTS WITH $prefix) RETURN name"
        for kind, kinds in (
            ("CONSTRAINT", "CONSTRAINTS"),
            ("INDEX", "INDEXES"),
        ):  # A constraint takes its index along, and must go first.
            for row in rows(f"SHOW {kinds} {schema}", prefix=prefix):
                rows(f"DROP {kind} `{row['name']}` IF EXISTS")
        for row in rows("CALL db.labels() YIELD label WHERE label STARTS WITH $prefix RETURN label", prefix=prefix):
            rows(f"MATCH (n:`{row['label']}`) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS")
