"""The stores that the contract suites run on. A server is asked for only by the tests that run on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import pytest
from neo4j import Driver, GraphDatabase

from segue.sandbox import Endpoint
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.neo4j_connection import Neo4jConnection

from .graphs import Graph, MemoryGraph, Neo4jGraph
from .sinks import Filled, MemoryPlace, MilvusPlace, Opened, Place

NEO4J_LINES = [pytest.param(line, marks=pytest.mark.service) for line in ("neo4j-5.26", "neo4j-2026")]


@pytest.fixture(scope="session")
def neo4j_ways(request: pytest.FixtureRequest) -> Iterator[dict[str, tuple[Driver, Neo4jConnection]]]:
    """A driver that writes and the product's own connection, for each Neo4j that runs here."""
    endpoints: dict[str, Endpoint] = request.getfixturevalue("endpoints")
    with contextlib.ExitStack() as stack:
        ways = {}
        for line, at in endpoints.items():
            if line.startswith("neo4j"):
                driver = stack.enter_context(GraphDatabase.driver(at.uri, auth=(at.username, at.password)))
                open_connection = partial(Neo4jConnection, at.uri, username=at.username, password=at.password)
                ways[line] = (driver, stack.enter_context(open_connection(database="neo4j")))
        yield ways


@pytest.fixture(params=["memory", *NEO4J_LINES])
def graph(request: pytest.FixtureRequest) -> Iterator[Graph]:
    """An empty label in memory, and in each release line of Neo4j."""
    if request.param == "memory":
        yield MemoryGraph("Item")
    else:
        yield from _neo4j_graph(request)


@pytest.fixture(params=NEO4J_LINES)
def neo4j_graph(request: pytest.FixtureRequest) -> Iterator[Neo4jGraph]:
    """An empty label in each release line of Neo4j."""
    yield from _neo4j_graph(request)


def _neo4j_graph(request: pytest.FixtureRequest) -> Iterator[Neo4jGraph]:
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    graph = Neo4jGraph(request.getfixturevalue("scratch_label"), *ways[request.param])
    yield graph
    graph.clear()


@pytest.fixture(scope="session")
def sinks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Sinks by name; a collection takes seconds to load on a server, so the loaded ones are shared by all tests."""
    opened: dict[str, Filled] = {}

    def open_place(name: str) -> Filled:
        if name not in opened:
            opened[name] = Filled(_place(name, request, tmp_path_factory), {})
        return opened[name]

    yield open_place
    for filled in opened.values():
        filled.place.close()


def _place(name: str, request: pytest.FixtureRequest, folders: pytest.TempPathFactory) -> Place:
    if name == "memory":
        return MemoryPlace()
    if name == "milvus-lite":
        return MilvusPlace(MilvusConnection(str(folders.mktemp("lite") / "milvus.db")))
    at: Endpoint = request.getfixturevalue("milvus_endpoint")
    return MilvusPlace(MilvusConnection(at.uri, token=f"{at.username}:{at.password}"))


@pytest.fixture(params=["memory", "milvus-lite", pytest.param("milvus", marks=pytest.mark.service)])
def filled(request: pytest.FixtureRequest, sinks: Opened) -> Filled:
    """A sink in memory, in a Milvus Lite file and in a Milvus server, with loaded collections to write into."""
    return sinks(request.param)


@pytest.fixture
def place(filled: Filled) -> Place:
    """A sink in memory, in a Milvus Lite file and in a Milvus server."""
    return filled.place
