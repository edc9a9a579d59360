"""`segue report` about agent state, on a real Redis and PostgreSQL: what was done, what it came to, what is left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.agent_place import TABLES, AgentPlace, agent_place
from acceptance.agent_state import MAPPINGS, AgentState, fill
from segue.sandbox import Endpoint

REASON = "a drill before the night"


@dataclass(frozen=True, slots=True)
class Migrated:
    """Agent state on its way, in `shadow`, with some that cannot go and some keys that nobody maps.

    Attributes:
        before: The report that was made before anything else.
    """

    place: AgentPlace
    state: AgentState
    before: dict[str, Any]


@pytest.fixture(scope="module")
def migrated(agent_endpoints: Mapping[str, Endpoint], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    """A copy, then two changes of the mode, one over a gate, and a comparison."""
    with agent_place(tmp_path_factory.mktemp("agents"), agent_endpoints) as place:
        place.configure(MAPPINGS)
        state = fill(place, agents=1, each=5)
        place.redis.set(place.key("stranger:1"), "of somebody else")
        before = report(place)
        assert place.rows("SELECT count(*) FROM pg_tables WHERE schemaname = %s", place.schema) == [(0,)]
        assert place.migrate().code == 0
        assert place.segue("validate", "--agentdb", "--full").code == 0
        for mode in ("dual_write", "shadow", "postgres"):
            # The comparison was made two epochs ago, so the last gate is closed.
            more = ("--override", "validation") if mode == "postgres" else ()
            ended = place.segue("mode", "set", mode, "--agentdb", "--reason", REASON, *more)
            assert ended.code == 0, ended.err
        yield Migrated(place, state, before)


def report(place: AgentPlace, *arguments: str, **changes: str | None) -> dict[str, Any]:
    """Make a report for programs; return its part about agent state."""
    ended = place.segue("report", "--format", "json", *arguments, **changes)
    assert ended.code == 0, ended.err
    part: dict[str, Any] = ended.data["agentdb"]
    return part


def test_before_anything_was_done_it_says_so(migrated: Migrated) -> None:
    """A configuration of agent state alone is enough; nothing is made, and nothing is guessed."""
    found = migrated.before
    assert (found["mode"], found["epoch"], found["tables"]) == ("redis_only", 0, None)
    assert found["counts"] == dict.fromkeys(("source", "migrated", "quarantined", "pending"))
    assert "segue migrate-agentdb" in found["left"][0]
    assert found["events"] == found["unreachable"] == []


def test_it_says_what_was_done_and_what_is_left(migrated: Migrated) -> None:
    """The account by kind and reason, both ways of it; the modes in order, the overridden gate, the comparison."""
    place, state = migrated.place, migrated.state
    found = report(place)
    assert found["counts"] == state.counts
    assert sum(one["migrated"] for one in found["kinds"].values()) == state.fit
    assert found["kinds"]["metadata"]["migrated"] == len(state.metadata)
    assert found["reasons"] == dict(state.unfit)
    assert found["tables"] == {kind: place.count(kind) for kind in TABLES}
    assert [one["mode"] for one in found["modes"]] == ["redis_only", "dual_write", "shadow", "postgres"]
    assert [one["epoch"] for one in found["modes"]] == [1, 2, 3, 4]
    assert [one["until"] is None for one in found["modes"]] == [False, False, False, True]
    assert [(one["gate"], one["mode"], one["reason"]) for one in found["overrides"]] == [("validation", "postgres", REASON)]
    assert [one["kind"] for one in found["events"]] == ["copy", "validation", "mode", "mode", "mode"]
    assert all("@" in one["by"] for one in found["events"])
    (checked,) = found["validations"]
    assert (checked["data"]["clean"], checked["data"]["counts"]["mismatched"]) == (True, 0)
    assert "the migration has arrived" in found["verdict"]
    assert "1 gates were overridden" in found["verdict"]
    assert {one["what"].partition(" (")[0]: one["holds"] for one in found["proofs"]} == {
        "every row is accounted for": True,
        "PostgreSQL equals Redis": True,
    }
    assert any("taken by no mapping" in line for line in found["left"])
    assert found["unreachable"] == []


def test_every_format_has_it(migrated: Migrated, tmp_path: Path) -> None:
    """Markdown for people, the page with its charts; no secret in either."""
    place, reason = migrated.place, next(iter(migrated.state.unfit))
    for ending in ("md", "html"):
        file = tmp_path / f"report.{ending}"
        assert place.segue("report", "--output-file", str(file)).code == 0
        text = file.read_text(encoding="utf-8")
        for words in (REASON, reason, "shadow", "copy complete", "q values", "Redis and PostgreSQL compared"):
            assert words in text, (ending, words)
        assert not [secret for secret in (place.redis_at.password, place.postgres_at.password) if secret in text]
    charts = re.findall(r'<svg[^>]*aria-label="([^"]*)"', text)
    assert charts == ["the modes, copies and validations over time", "quarantined rows by reason"]


def test_it_is_made_on_any_machine_and_with_a_store_away(migrated: Migrated, tmp_path: Path) -> None:
    """Without the state file the journal has the account; without Redis everything else is there."""
    state = migrated.state
    found = report(migrated.place, SEGUE_STATE_PATH=str(tmp_path / "none.db"), REDIS_URL="redis://127.0.0.1:1/0")
    assert found["counts"] == state.counts
    assert found["reasons"] == dict(state.unfit)
    assert (found["mode"], found["backlog"]) == ("postgres", None)
    assert "127.0.0.1:1" in "".join(found["unreachable"])
    assert not tmp_path.joinpath("none.db").exists()
    found = report(migrated.place, DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert (found["mode"], found["counts"]) == (None, state.counts)
    assert "not known" in found["verdict"]
