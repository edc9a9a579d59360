"""Every page that has something to run, followed on the sandbox's servers from its first block to its last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from documents.following import Reader, enter
from documents.page import paths, read
from documents.place import Place, place
from segue.sandbox import Endpoint

pytestmark = pytest.mark.timeout(1_200)

PAGES = {str(page.path): page for page in map(read, paths()) if page.is_run}


@pytest.fixture(scope="module")
def copied(
    newest_neo4j: Endpoint,
    milvus_endpoint: Endpoint,
    agent_endpoints: Mapping[str, Endpoint],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """Films that are in Milvus already, with a relay, for all pages that leave the mode as it is."""
    with place(tmp_path_factory.mktemp("copied"), newest_neo4j, milvus_endpoint, agent_endpoints) as one:
        one.copy()
        yield one


@pytest.fixture
def beginning(
    request: pytest.FixtureRequest,
    newest_neo4j: Endpoint,
    milvus_endpoint: Endpoint,
    agent_endpoints: Mapping[str, Endpoint],
    tmp_path: Path,
) -> Iterator[Place]:
    """What the page of this test wants to find."""
    wanted = PAGES[request.node.callspec.params["name"]].beginning
    if wanted == "copied":
        yield request.getfixturevalue("copied").elsewhere(tmp_path)
        return
    with place(tmp_path, newest_neo4j, milvus_endpoint, agent_endpoints) as one:
        if wanted == "fresh":
            (tmp_path / "segue.toml").unlink()
        elif wanted == "hybrid":
            one.copy()
            one.go_to_hybrid()
        yield one


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_followed(name: str, beginning: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands end as it says and print what it shows, its Python runs, its configuration is valid."""
    enter(beginning, monkeypatch)
    Reader(PAGES[name], beginning).follow()
