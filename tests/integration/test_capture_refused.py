"""A Neo4j whose triggers are off, or that has no APOC: one message that says what to set, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acceptance.workplace import Workplace, workplace
from segue import sandbox
from segue.sandbox import Endpoint, neo4j_server

CONFIGURATION = """\
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
"""

SETTINGS = ("apoc.conf: apoc.trigger.enabled=true", "dbms.security.procedures.unrestricted")


def test_triggers_that_are_off_are_said_with_what_to_set(
    milvus_endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, the settings by name and by file, no trace of a stack; and no copy takes changes for captured."""
    monkeypatch.setattr(neo4j_server, "_APOC_CONF", "apoc.trigger.enabled=false\n")
    with _on_a_neo4j_of_its_own(milvus_endpoint, tmp_path, monkeypatch) as place:
        _assert_refused(place)
        found = _preflight(place)
        assert found["outcome"] == "warning"
        assert "but triggers cannot be used" in found["evidence"]
        assert (found["facts"]["enabled"], found["facts"]["installed"]) == (False, [])
        assert found["facts"]["apoc"]


def test_a_server_without_apoc_is_said_with_what_to_set(
    milvus_endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where there is no APOC at all, which a preflight tells from triggers that are off."""
    (tmp_path / "plugins").mkdir()
    monkeypatch.setattr(neo4j_server.Neo4jServer, "_plugins", lambda _: tmp_path / "plugins")
    with _on_a_neo4j_of_its_own(milvus_endpoint, tmp_path, monkeypatch) as place:
        _assert_refused(place)
        found = _preflight(place)
        assert found["outcome"] == "warning"
        assert found["evidence"] == "APOC is not installed: only the library can capture changes"
        assert found["facts"] == {"apoc": None, "enabled": False, "installed": []}


@contextmanager
def _on_a_neo4j_of_its_own(milvus: Endpoint, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.setenv("SEGUE_SANDBOX_DIR", str(folder / "sandbox"))
    try:
        (neo4j,) = sandbox.up(("neo4j",)).values()
        with workplace(folder, neo4j, milvus) as place:
            place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
            yield place
    finally:
        sandbox.down()


def _assert_refused(place: Workplace) -> None:
    refused = place.segue("capture", "install")
    assert refused.code == 1
    for words in ("triggers cannot be used", *SETTINGS):
        assert words in refused.err
    assert "Traceback" not in refused.err
    status = place.segue("capture", "status", "--format", "json")
    assert status.code == 0, status.err
    assert not status.data["collections"][0]["captured"]


def _preflight(place: Workplace) -> dict[str, Any]:
    """Return what the check of triggers found; the agents' stores are left out."""
    ended = place.segue("preflight", "--dry-run", "--format", "json", REDIS_URL=None, DATABASE_URL=None)
    (found,) = [dict(one) for one in ended.data["checks"] if one["id"] == "triggers"]
    for words in SETTINGS:
        assert words in found["fix"]
    return found
