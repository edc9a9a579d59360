"""The places at which pages are followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from documents.halves import HALVES, REDIS_DATABASES
from documents.page import Page
from documents.place import Place, place
from segue.sandbox import Endpoint


@pytest.fixture(scope="module")
def redis_database(request: pytest.FixtureRequest) -> int:
    """The logical database of this half of the pages."""
    return REDIS_DATABASES[request.module.HALF]


@pytest.fixture(scope="module")
def copied(
    newest_neo4j: Endpoint,
    milvus_endpoint: Endpoint,
    agent_endpoints: Mapping[str, Endpoint],
    redis_database: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """Films that are in Milvus already, with a relay, for all pages that leave the mode as it is."""
    folder = tmp_path_factory.mktemp("copied")
    with place(folder, newest_neo4j, milvus_endpoint, agent_endpoints, redis_database) as one:
        one.copy()
        yield one


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Page:
    """The page of this test."""
    return HALVES[request.module.HALF][request.param]


@pytest.fixture
def beginning(
    request: pytest.FixtureRequest,
    page: Page,
    newest_neo4j: Endpoint,
    milvus_endpoint: Endpoint,
    agent_endpoints: Mapping[str, Endpoint],
    redis_database: int,
    tmp_path: Path,
) -> Iterator[Place]:
    """What the page of this test wants to find."""
    if page.beginning == "copied":
        yield request.getfixturevalue("copied").elsewhere(tmp_path)
        return
    with place(tmp_path, newest_neo4j, milvus_endpoint, agent_endpoints, redis_database) as one:
        if page.beginning == "fresh":
            (tmp_path / "segue.toml").unlink()
        elif page.beginning == "hybrid":
            one.copy()
            one.go_to_hybrid()
        yield one
