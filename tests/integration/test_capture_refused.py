"""A Neo4j whose triggers are off: one message that says what to set, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from acceptance.workplace import workplace
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


def test_triggers_that_are_off_are_said_with_what_to_set(
    milvus_endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, the settings by name and by file, no trace of a stack; and no copy takes changes for captured."""
    monkeypatch.setenv("SEGUE_SANDBOX_DIR", str(tmp_path / "sandbox"))
    monkeypatch.setattr(neo4j_server, "_APOC_CONF", "apoc.trigger.enabled=false\n")
    started = sandbox.up(("neo4j",))
    try:
        (neo4j,) = started.values()
        with workplace(tmp_path, neo4j, milvus_endpoint) as place:
            place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
            refused = place.segue("capture", "install")
            assert refused.code == 1
            for words in (
                "triggers cannot be used",
                "apoc.conf: apoc.trigger.enabled=true",
                "dbms.security.procedures.unrestricted",
            ):
                assert words in refused.err
            assert "Traceback" not in refused.err
            status = place.segue("capture", "status", "--format", "json")
            assert status.code == 0, status.err
            assert not status.data["collections"][0]["captured"]
    finally:
        sandbox.down()
