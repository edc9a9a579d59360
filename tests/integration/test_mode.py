"""`segue mode` on real Neo4j: what it shows, what it refuses, who wins, and whom it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.workplace import Ended, Started, Workplace, eventually, workplace
from segue.sandbox import Endpoint

CONFIGURATION = """\
[search]
visible_seconds = 0.5
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
"""

COPY = (
    "MATCH (c:SegueControl {collection: $name}) SET c.copied = coalesce($capture, c.library_token), c.copied_at = timestamp()"
)
VALIDATED = (
    "MATCH (c:SegueControl {collection: $name}) SET c.validated_at = timestamp(), c.validated_epoch = c.epoch, "
    "c.validated_mode = 'sample', c.validated_ok = true, c.validated_rate = 1.0, c.validated_digest = ''"
)
MARK = "CREATE (:SegueMark:SegueOpen {collection: $name, key: 'k', part: 0, ver: 'v', acked: '', marked_at: timestamp()})"
REGISTER = """
MERGE (i:SegueInstance {collection: $name, name: $instance})
SET i.host = 'pod-7', i.own = $own, i.epoch = $epoch, i.until = timestamp() + toInteger(1000 * $seconds)
"""
SHADOWED = """
MATCH (c:SegueControl {collection: $name})
MERGE (i:SegueInstance {collection: $name, name: 'seen'})
SET i.until = 0, i.observed_epoch = c.epoch, i.compared = 240, i.overlap = 228.0, i.answers = 5000, i.failed = 3
"""
CONTROL = "MATCH (c:SegueControl {collection: $name}) RETURN properties(c)"


@pytest.fixture
def untouched(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A configured collection that nobody has touched."""
    yield from _place(newest_neo4j, milvus_endpoint, tmp_path)


@pytest.fixture
def place(untouched: Workplace) -> Workplace:
    """The same after a preflight that passed."""
    untouched.note_preflight()
    return untouched


@pytest.fixture
def each_line(neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """The same after a preflight, in each release line of Neo4j."""
    for place in _place(neo4j_endpoint, milvus_endpoint, tmp_path):
        place.note_preflight()
        yield place


def _place(neo4j: Endpoint, milvus: Endpoint, folder: Path) -> Iterator[Workplace]:
    with workplace(folder, neo4j, milvus) as place:
        place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
        yield place


def mode(place: Workplace, *arguments: str) -> Ended:
    """Run `segue mode` with JSON on stdout."""
    return place.segue("mode", *arguments, "--format", "json")


def shown(place: Workplace) -> dict[str, Any]:
    """Return what `segue mode show` says about the collection."""
    ended = mode(place, "show")
    assert ended.code == 0, ended.err
    (one,) = ended.data["collections"]
    return dict(one)


def write(place: Workplace, cypher: str, **parameters: Any) -> None:
    """Write what others write: the copy, a mark, an instance."""
    place.rows(cypher, name=place.collection, **parameters)


def register(place: Workplace, name: str, epoch: int, *, own: str | None = None, seconds: float = 60.0) -> None:
    """Register an instance as the library does."""
    write(place, REGISTER, instance=name, epoch=epoch, own=own, seconds=seconds)


def test_nothing_is_there_at_first(untouched: Workplace) -> None:
    """Neo4j alone, epoch 0, nobody registered, and a preflight opens the next step; looking leaves no node."""
    place = untouched
    one = shown(place)
    assert (one["name"], one["mode"], one["epoch"]) == (place.collection, "neo4j_only", 0)
    assert (one["capture"], one["copied"], one["instances"]) == (None, None, [])
    assert one["backlog"] == {"open": 0, "dirty": 0, "tainted": 0}
    command = f"segue preflight --collection {place.collection}"
    gate = {"name": "preflight", "holds": False, "evidence": "no preflight was made", "command": command}
    assert one["next"] == {"mode": "dual_write", "gates": [gate], "command": command}
    assert place.rows(CONTROL, name=place.collection) == []


def test_dual_write_asks_for_a_young_preflight_that_passed(place: Workplace) -> None:
    """One that failed or is too old closes the gate again; its age is shown, and an override passes it."""
    command = f"segue mode set dual_write --collection {place.collection}"
    assert shown(place)["next"]["command"] == command
    write(place, "MATCH (c:SegueControl {collection: $name}) SET c.preflight_at = timestamp() - 8 * 86400000")
    old = mode(place, "set", "dual_write")
    assert old.code == 5
    assert "s ago, passed; that is older than 604,800 s" in old.err
    write(place, "MATCH (c:SegueControl {collection: $name}) SET c.preflight_at = timestamp(), c.preflight_ok = false")
    failed = mode(place, "set", "dual_write")
    assert failed.code == 5
    assert "s ago, failed" in failed.err
    assert mode(place, "set", "dual_write", "--override", "preflight", "--reason", "r").code == 0


def test_forward_through_the_gates_and_back(each_line: Workplace) -> None:
    """Each closed gate is named with its command, each opens by what it asks for, and the way back is one command."""
    place = each_line
    first = mode(place, "set", "dual_write", "--reason", "begin")
    assert first.code == 0, first.err
    (one,) = first.data["collections"]
    assert (one["before"], one["mode"], one["epoch"], one["reason"]) == ("neo4j_only", "dual_write", 1, "begin")
    assert one["capture"] is not None
    assert one["times"] == {"visible": 0.5, "fence": 1.0, "slack": 0.5}

    write(place, MARK)
    refused = mode(place, "set", "shadow_milvus")
    assert (refused.code, refused.data["status"]) == (5, "refused")
    (one,) = refused.data["collections"]
    gates = {gate["name"]: gate for gate in one["next"]["gates"]}
    assert [name for name, gate in gates.items() if not gate["holds"]] == ["backfill", "drained", "visible", "validation"]
    assert gates["backfill"]["command"] == f"segue migrate-embeddings --collection {place.collection}"
    assert gates["drained"]["command"] == f"segue relay --until-drained --collection {place.collection}"
    assert "1 keys are dirty" in refused.err
    assert one["mode"] == "dual_write"

    write(place, COPY, capture="an earlier one")
    stale = mode(place, "set", "shadow_milvus")
    assert stale.code == 5
    assert "earlier capture" in stale.err

    write(place, COPY, capture=None)
    write(place, "MATCH (m:SegueMark {collection: $name}) SET m.acked = m.ver")
    write(place, VALIDATED)
    eventually(lambda: all(gate["holds"] for gate in shown(place)["next"]["gates"]))
    assert shown(place)["next"]["command"] == f"segue mode set shadow_milvus --collection {place.collection}"
    ended = mode(place, "set", "shadow_milvus")
    assert ended.code == 0, ended.err
    unproven = mode(place, "set", "hybrid")
    assert unproven.code == 5
    assert "shadow: 0 shadow reads were compared in epoch 2" in unproven.err
    assert "shadow_rate" in unproven.err
    write(place, SHADOWED)
    (gate,) = (gate for gate in shown(place)["next"]["gates"] if gate["name"] == "shadow")
    assert gate["holds"]
    assert "240 shadow reads were compared in epoch 2: Milvus found 95.0% of the nearest known" in gate["evidence"]
    ended = mode(place, "set", "hybrid")
    assert ended.code == 0, ended.err
    assert shown(place)["next"] is None

    back = mode(place, "set", "neo4j_only", "--reason", "incident 7")
    assert back.code == 0, back.err
    (one,) = back.data["collections"]
    assert (one["before"], one["mode"], one["epoch"], one["capture"]) == ("hybrid", "neo4j_only", 4, None)


@pytest.mark.parametrize("wanted", ["shadow_milvus", "hybrid"])
def test_a_jump_is_refused(untouched: Workplace, wanted: str) -> None:
    """From the beginning only `dual_write` is reachable, whatever is overridden; nothing is written."""
    place = untouched
    ended = mode(place, "set", wanted, "--override", "backfill", "--reason", "hurry")
    assert ended.code == 5
    assert ended.data["error"]["hint"] == "From here: dual_write."
    assert place.rows(CONTROL, name=place.collection) == []


def test_an_override_passes_and_is_recorded(place: Workplace) -> None:
    """By name, with a reason that stays in Neo4j; without one, or with a name that is none, it is a usage error."""
    assert mode(place, "set", "dual_write").code == 0
    overrides = ("--override", "backfill", "--override", "visible", "--override", "validation")
    assert mode(place, "set", "shadow_milvus", *overrides).code == 2
    assert mode(place, "set", "shadow_milvus", "--override", "backfil", "--reason", "r").code == 2
    ended = mode(place, "set", "shadow_milvus", *overrides, "--reason", "a rehearsal")
    assert ended.code == 0, ended.err
    assert ended.data["collections"][0]["overridden"] == ["backfill", "visible", "validation"]
    reason = shown(place)["reason"]
    assert reason.startswith("a rehearsal [overridden: backfill (no copy is complete)")


def test_a_dry_run_changes_nothing(place: Workplace) -> None:
    """It says what the real run would say, with the same exit code, and leaves the control node untouched."""
    untouched = place.rows(CONTROL, name=place.collection)
    dry = mode(place, "set", "dual_write", "--dry-run")
    assert dry.code == 0, dry.err
    assert place.rows(CONTROL, name=place.collection) == untouched

    assert mode(place, "set", "dual_write").code == 0
    before = place.rows(CONTROL, name=place.collection)
    refused = mode(place, "set", "shadow_milvus", "--dry-run")
    assert refused.code == 5
    assert [gate["name"] for gate in refused.data["collections"][0]["next"]["gates"]] == [
        "backfill",
        "drained",
        "visible",
        "validation",
    ]
    back = mode(place, "set", "neo4j_only", "--dry-run")
    assert back.code == 0
    assert back.data["collections"][0]["next"]["mode"] == "neo4j_only"
    assert place.rows(CONTROL, name=place.collection) == before


def test_of_two_operators_at_once_one_wins(place: Workplace) -> None:
    """Both looked at the same epoch and wait for the control node's lock: one changes it, the other is told what it is now."""
    assert mode(place, "set", "dual_write").code == 0
    with place.driver.session(database="neo4j") as session, session.begin_transaction() as holding:
        holding.run("MATCH (c:SegueControl {collection: $name}) SET c.looked_at = 0", name=place.collection).consume()
        forward = (
            "shadow_milvus",
            "--override",
            "backfill",
            "--override",
            "visible",
            "--override",
            "validation",
            "--reason",
            "hurry",
        )
        both = [place.start("mode", "set", *each, "--format", "json") for each in (forward, ("neo4j_only",))]
        eventually(lambda: _blocked(place) >= 2 or any(one.process.poll() is not None for one in both))
        assert _blocked(place) >= 2
        holding.commit()
    ended = [one.ended() for one in both]

    assert sorted(one.code for one in ended) == [0, 5]
    winner, loser = sorted(ended, key=lambda one: one.code)
    now = winner.data["collections"][0]["mode"]
    assert f"somebody else changed the mode of '{place.collection}' meanwhile: now {now} at epoch 2" in loser.err
    assert (shown(place)["mode"], shown(place)["epoch"]) == (now, 2)


def _blocked(place: Workplace) -> int:
    text = (
        "SHOW TRANSACTIONS YIELD currentQuery, status WHERE currentQuery STARTS WITH '// Lock the control node' RETURN status"
    )
    return sum(row[0].startswith("Blocked") for row in place.rows(text))


def test_an_instance_holds_the_barrier_up(place: Workplace) -> None:
    """Not in time: exit 1 names it, the mode stays changed and nothing is captured; the same command then completes it."""
    register(place, "shop-1", 0, own="hybrid")
    late = mode(place, "set", "dual_write", "--wait-secs", "1")
    assert (late.code, late.data["status"]) == (1, "failed")
    assert "shop-1 on pod-7 (epoch 0, own mode hybrid)" in late.data["error"]["message"]
    one = late.data["collections"][0]
    assert (one["mode"], one["capture"]) == ("dual_write", None)
    assert one["instances"] == [{"name": "shop-1", "host": "pod-7", "epoch": 0, "own": "hybrid"}]
    assert one["next"]["command"] == f"segue mode set dual_write --collection {place.collection}"

    again = place.start("mode", "set", "dual_write", "--format", "json")
    again.await_words("waiting for epoch 1 of shop-1 on pod-7")
    register(place, "shop-1", 1)
    ended = _ended(again)
    assert ended["collections"][0]["epoch"] == 1
    assert ended["collections"][0]["capture"] is not None


def test_an_instance_that_lapses_is_waited_for_no_longer(place: Workplace) -> None:
    """Killed without a word, it counts until its registration has run out."""
    register(place, "dead", 0, seconds=10.0)
    running = place.start("mode", "set", "dual_write", "--format", "json")
    running.await_words("waiting for epoch 1 of dead")
    assert _ended(running)["collections"][0]["instances"] == []


def test_a_transaction_begun_before_holds_the_capture_up(place: Workplace) -> None:
    """It may have looked at the mode before the change: only after its end is every change captured."""
    with place.driver.session(database="neo4j") as session, session.begin_transaction() as old:
        old.run("RETURN 1").consume()
        running = place.start("mode", "set", "dual_write", "--format", "json")
        running.await_words("begun before the barrier")
        assert shown(place)["capture"] is None
        old.rollback()
    assert _ended(running)["collections"][0]["capture"] is not None


def test_a_trigger_that_is_noted_but_gone_is_found_out(place: Workplace) -> None:
    """Changes would count as captured and leave no mark: the canary says so. Going back needs no trigger."""
    dropped = "SET c.capture = 'trigger', c.capture_token = 'of a trigger that was dropped'"
    write(place, f"MATCH (c:SegueControl {{collection: $name}}) {dropped}")
    ended = mode(place, "set", "dual_write", "--wait-secs", "1")
    assert ended.code == 1
    assert f"the trigger of '{place.collection}' marked no canary" in ended.data["error"]["message"]
    assert mode(place, "set", "neo4j_only").code == 0


def test_a_trigger_takes_the_librarys_capture_over(place: Workplace) -> None:
    """Installed while the library captures it breaks nothing off: the copy goes on counting, also in `neo4j_only`."""
    assert mode(place, "set", "dual_write").code == 0
    capture = shown(place)["capture"]
    write(place, COPY, capture=None)
    assert capture is not None
    assert place.segue("capture", "install").code == 0
    try:
        assert (shown(place)["capture"], shown(place)["copied"]) == (capture, capture)
        assert mode(place, "set", "neo4j_only").code == 0
        assert shown(place)["capture"] == capture
    finally:
        place.segue("capture", "remove")
    assert shown(place)["capture"] is None
    assert mode(place, "set", "dual_write").code == 0
    assert shown(place)["capture"] not in {None, capture}


def test_a_mode_that_somebody_wrote_by_hand_is_named(place: Workplace) -> None:
    """A control node with a mode that is none: one plain message, and the four there are."""
    write(place, "MATCH (c:SegueControl {collection: $name}) SET c.mode = 'turbo', c.epoch = 1")
    ended = place.segue("mode", "show")
    assert ended.code == 1
    assert "'turbo', which is none of neo4j_only, dual_write, shadow_milvus, hybrid" in ended.err


def test_every_format_says_the_same(place: Workplace) -> None:
    """Table, Markdown, YAML and JSON, on stdout or in a file."""
    register(place, "shop-1", 0)
    assert mode(place, "set", "dual_write", "--wait-secs", "0").code == 1
    table = place.segue("mode", "show")
    markdown = place.segue("mode", "show", "--format", "markdown")
    for text in (table.out, markdown.out):
        assert f"{place.collection}: dual_write at epoch 1" in text
        assert all(word in text for word in ("shop-1", "pod-7", "backfill", "drained", "visible"))
    data = yaml.safe_load(place.segue("mode", "show", "--format", "yaml").out)
    assert place.segue("mode", "show", "--format", "json", "--output-file", "mode.json").out == ""
    written = json.loads((place.folder / "mode.json").read_text(encoding="utf-8"))
    for read in (data, written):
        assert (read["verb"], read["status"]) == ("mode", "ok")
        assert read["collections"][0]["instances"][0]["name"] == "shop-1"


def test_a_neo4j_that_refuses_or_is_away_is_one_plain_message(place: Workplace) -> None:
    """Wrong password, nothing there: the exit code of the error, no stack trace, no secret."""
    wrong = place.segue("mode", "show", NEO4J_PASSWORD="wrong-secret")
    away = place.segue("mode", "set", "dual_write", NEO4J_URI="bolt://127.0.0.1:1")
    for ended in (wrong, away):
        assert ended.code == 1
        assert ended.err.startswith("error: Neo4j at")
        assert "Traceback" not in ended.err
    assert "wrong-secret" not in wrong.out + wrong.err


def _ended(started: Started) -> dict[str, Any]:
    ended = started.ended()
    assert ended.code == 0, ended.err
    return ended.data
