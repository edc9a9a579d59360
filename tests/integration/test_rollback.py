"""`segue rollback` on real servers, while an application reads and writes through the library: nobody sees an error."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

import segue
from acceptance.workplace import LONG, Ended, Workplace, eventually, quoted, workplace
from faults.proxy import proxied
from segue.migration import gate_names
from segue.sandbox import Endpoint

ITEMS, DIMENSION = 120, 8
MODES = ("neo4j_only", "dual_write", "shadow_milvus", "hybrid")

CONFIGURATION = """\
[search]
visible_seconds = 0.4
fence_seconds = 0.5
slack_seconds = 0.1
[backfill]
workers = 1
[relay]
window_seconds = 1
[[collections]]
name = "{collection}"
[collections.source]
index = "{index}"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 8
[collections.source.properties]
title = "string"
"""

REGISTER = """
MERGE (i:SegueInstance {collection: $name, name: 'pod-7-4711-abcd'})
SET i.host = 'pod-7', i.epoch = 0, i.until = timestamp() + 600000
"""


def vector_of(number: int) -> list[float]:
    """Return the vector of an item."""
    return np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32).tolist()


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A label with items, a constraint and a vector index; nothing has been copied."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(CONFIGURATION.format(collection=place.collection, label=place.label, index=place.collection))
        place.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        make_index(place)
        items = [{"id": f"k{number}", "vector": vector_of(number)} for number in range(ITEMS)]
        text = "UNWIND $items AS item CREATE (n:LABEL {id: item.id, title: item.id}) SET n.embedding = item.vector"
        place.rows(text, items=items)
        place.rows("CALL db.awaitIndex($name, 60)", name=place.collection)
        place.note_preflight()
        yield place


def make_index(place: Workplace) -> None:
    """Create the vector index."""
    settings = "{indexConfig: {`vector.dimensions`: 8, `vector.similarity_function`: 'cosine'}}"
    place.rows(f"CREATE VECTOR INDEX {quoted(place.collection)} FOR (n:LABEL) ON (n.embedding) OPTIONS {settings}")


def bring(place: Workplace, mode: str) -> None:
    """Bring the collection to a mode as an operator does, with the copy and the relay."""
    if mode == "neo4j_only":
        return
    ends = [place.segue("mode", "set", "dual_write")]
    if mode != "dual_write":
        ends += [place.migrate(), place.segue("relay", "--until-drained"), place.segue("validate")]
        time.sleep(1.1)
        ends += [place.segue("mode", "set", "shadow_milvus")]
    if mode == "hybrid":
        ends += [place.segue("mode", "set", "hybrid", "--override", "shadow", "--reason", "a test")]
    assert [end.code for end in ends] == [0] * len(ends), [end.err for end in ends]


def rollback(place: Workplace, *arguments: str, **changes: str | None) -> Ended:
    """Run `segue rollback --confirm` with JSON on stdout."""
    return place.segue("rollback", "--confirm", "--format", "json", *arguments, **changes)


def statuses(ended: Ended) -> dict[str, str]:
    """Return what became of each step."""
    return {step["name"]: step["status"] for step in ended.data["steps"]}


def control(place: Workplace) -> dict[str, Any]:
    """Return the control node's properties."""
    rows = place.rows("MATCH (c:SegueControl {collection: $name}) RETURN properties(c)", name=place.collection)
    return dict(rows[0][0]) if rows else {}


class Application:
    """Two threads of one instance: one searches without a pause, one writes; both keep what they saw."""

    def __init__(self, place: Workplace, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
        for name, value in {**place.environment(), **changes}.items():
            monkeypatch.setenv(name, value)
        self._place = place
        self._stop = threading.Event()
        self.errors: list[str] = []
        self.answers: list[tuple[float, str]] = []
        self.written: dict[str, str] = {}
        self.store = segue.connect(place.folder / "segue.toml", relay=True, registry=CollectorRegistry())
        self._threads = [threading.Thread(target=self._search), threading.Thread(target=self._write)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.store.close()

    def answered_by(self, store: str, seconds: float = LONG) -> None:
        """Wait until a search is answered by this store."""
        seen = len(self.answers)
        eventually(lambda: any(name == store for _, name in self.answers[seen:]), seconds)
        assert any(name == store for _, name in self.answers[seen:]), (self.answers[-3:], self.errors)

    def _search(self) -> None:
        number = 0
        while not self._stop.wait(0.005):
            number = (number + 1) % ITEMS
            began = time.time()
            try:
                hits = self.store.search(np.array(vector_of(number), np.float32), k=3)
                if hits[0].key != f"k{number}":
                    self.errors.append(f"k{number} was not found first, but {hits[0]}")
                # Items written a moment ago come from Neo4j in an answer of Milvus too.
                by = "milvus" if any(hit.store == "milvus" for hit in hits) else "neo4j"
                self.answers.append((began, by))
            except Exception as fault:  # noqa: BLE001  # any error a user sees is one too many
                self.errors.append(repr(fault))

    def _write(self) -> None:
        number = ITEMS
        while not self._stop.wait(0.05):
            number += 1
            key, title = f"w{number % 40}", f"title {number}"
            try:
                self.store.upsert([segue.Item(key=key, vector=vector_of(10_000 + number), properties={"title": title})])
                self.written[key] = title
            except Exception as fault:  # noqa: BLE001  # likewise
                self.errors.append(repr(fault))


def assert_nothing_is_lost(place: Workplace, application: Application) -> None:
    """Every write that was acknowledged is in Neo4j, with the last value."""
    found = dict(place.rows("MATCH (n:LABEL) WHERE n.id STARTS WITH 'w' RETURN n.id, n.title"))
    assert {key: found.get(key) for key in application.written} == application.written
    assert application.written


@pytest.mark.parametrize("mode", MODES)
def test_from_every_mode_with_readers_and_writers(place: Workplace, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """No search and no write fails, all reads are Neo4j's afterwards, and it says after how long; again it changes nothing."""
    bring(place, mode)
    with Application(place, monkeypatch) as application:
        application.answered_by("milvus" if mode in {"shadow_milvus", "hybrid"} else "neo4j")
        ended = rollback(place, "--reason", "incident 7")
        assert ended.code == 0, ended.err
        after = time.time()
        again = rollback(place)
        eventually(lambda: len([began for began, _ in application.answers if began > after]) > 50)
    (one,) = ended.data["collections"]
    assert application.errors == []
    assert {by for began, by in application.answers if began > after} == {"neo4j"}
    assert_nothing_is_lost(place, application)

    steps = {"instances": "done", "neo4j": "done", "canary": "done", "milvus": "skipped"}
    assert statuses(ended) == {"mode": "already" if mode == "neo4j_only" else "done", **steps}
    assert (one["before"], one["mode"], one["late"]) == (mode, "neo4j_only", [])
    assert 0 <= one["reads_on_neo4j_seconds"] < 5
    assert "users are on the old path, and were before" in place.segue("rollback", "--confirm").out
    assert (ended.data["verb"], ended.data["status"]) == ("rollback", "ok")
    assert (again.code, statuses(again)["mode"]) == (0, "already")
    if mode != "neo4j_only":
        assert (control(place)["mode"], control(place)["reason"]) == ("neo4j_only", "incident 7")
        assert control(place)["epoch"] == one["epoch"] == MODES.index(mode) + 1


@pytest.mark.parametrize(
    ("before", "wanted"),
    [("neo4j_only", "dual_write"), ("dual_write", "shadow_milvus"), ("shadow_milvus", "hybrid"), ("hybrid", "shadow_milvus")],
)
def test_from_the_middle_of_a_change(
    place: Workplace, milvus_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, before: str, wanted: str
) -> None:
    """A change waits for an instance when its terminal, the relay and Milvus die, while another terminal goes on waiting.

    One command leads back, the other terminal is told, no search and no write fails, nothing is lost.
    """
    bring(place, before)
    with proxied(milvus_endpoint.uri) as (proxy, uri), Application(place, monkeypatch, MILVUS_URI=uri) as application:
        application.answered_by("milvus" if before in {"shadow_milvus", "hybrid"} else "neo4j")
        relay = place.start("relay")
        place.rows(REGISTER, name=place.collection)
        everything = [word for gate in gate_names() for word in ("--override", gate)]
        died = place.start("mode", "set", wanted, *everything, "--reason", "in a hurry")
        died.await_words("waiting for epoch")
        other = place.start("mode", "set", wanted)
        other.await_words("waiting for epoch")
        assert control(place)["mode"] == wanted

        for process in (died, relay):
            process.signal(signal.SIGKILL)
        proxy.cut()
        back = place.start("rollback", "--confirm", "--format", "json")
        back.await_words("mode: done")
        place.rows("MATCH (i:SegueInstance {collection: $name, name: 'pod-7-4711-abcd'}) DELETE i", name=place.collection)
        ended = back.ended()
        assert ended.code == 0, ended.err
        after = time.time()
        told = other.ended()
        eventually(lambda: len([began for began, _ in application.answers if began > after]) > 50)
    assert told.code == 5, told.err
    assert "somebody else changed the mode" in told.err
    assert application.errors == []
    assert {by for began, by in application.answers if began > after} == {"neo4j"}
    assert_nothing_is_lost(place, application)
    assert control(place)["mode"] == "neo4j_only"


def test_without_confirm_it_shows_and_changes_nothing(place: Workplace) -> None:
    """Exit 5 and every step as it would be; a dry run the same with 0; also while nothing answers."""
    assert place.segue("mode", "set", "dual_write").code == 0
    before = control(place)
    shown = place.segue("rollback", "--format", "json", "--delete-milvus")
    assert (shown.code, shown.data["status"]) == (5, "refused")
    assert statuses(shown) == {
        "mode": "planned", "instances": "planned", "neo4j": "planned", "canary": "planned", "milvus": "already",
    }  # fmt: skip
    assert "dual_write → neo4j_only, epoch 2" in shown.data["steps"][0]["detail"]
    assert place.segue("rollback", "--dry-run").code == 0
    assert control(place) == before
    away = place.segue("rollback", "--format", "json", NEO4J_URI="bolt://127.0.0.1:1")
    assert away.code == 5
    assert statuses(away)["mode"] == "failed"


def test_with_milvus_the_relay_and_the_state_file_down(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In hybrid, with a Milvus that nobody reaches and a state file that is none: no search fails, the way back is the same."""
    bring(place, "hybrid")
    (place.folder / "segue-state.db").write_bytes(b"no database" * 1000)
    with Application(place, monkeypatch, MILVUS_URI="http://127.0.0.1:1") as application:
        application.answered_by("neo4j")
        ended = rollback(place, MILVUS_URI="http://127.0.0.1:1")
        assert ended.code == 0, ended.err
        assert ended.data["counts"]["source"] is None
    assert application.errors == []
    assert_nothing_is_lost(place, application)

    deleting = rollback(place, "--delete-milvus", place.collection, MILVUS_URI="http://127.0.0.1:1")
    assert deleting.code == 1
    assert statuses(deleting)["milvus"] == "failed"
    assert 'c = MilvusClient("http://127.0.0.1:1", token=os.environ.get("MILVUS_TOKEN", "")' in deleting.err
    assert f'c.drop_alias("{place.collection}"); c.drop_collection("{place.collection}_v1")' in deleting.err
    assert place.client.has_collection(place.collection)


def test_it_says_after_how_long_users_were_back(place: Workplace) -> None:
    """For people: one sentence with the seconds, and a line for each step."""
    assert place.segue("mode", "set", "dual_write").code == 0
    ended = place.segue("rollback", "--confirm")
    assert ended.code == 0, ended.err
    assert re.search(r"users were on the old path again after \d+\.\d s", ended.out)
    assert re.search(r": mode: done \(\d+\.\d s\): dual_write → neo4j_only, epoch 2\n", ended.err)


def test_with_an_instance_that_hangs(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are back at once; it is named with what to do, exit 1, and nothing is deleted until it is gone."""
    bring(place, "shadow_milvus")
    place.rows(REGISTER, name=place.collection)
    with Application(place, monkeypatch) as application:
        application.answered_by("milvus")
        ended = rollback(place, "--wait-secs", "2", "--delete-milvus", place.collection)
        application.answered_by("neo4j")
    assert ended.code == 1
    assert "pod-7-4711-abcd on pod-7 (epoch 0)" in ended.data["error"]["message"]
    assert "kubectl delete pod pod-7   # a pod; elsewhere end process 4711 on pod-7" in ended.err
    assert statuses(ended) == {
        "mode": "done", "instances": "failed", "neo4j": "done", "canary": "done", "milvus": "skipped",
    }  # fmt: skip
    assert ended.data["collections"][0]["late"] == [{"name": "pod-7-4711-abcd", "host": "pod-7", "epoch": 0}]
    assert application.errors == []
    place.rows("MATCH (i:SegueInstance {collection: $name}) DELETE i", name=place.collection)
    assert rollback(place).code == 0


def test_two_terminals_at_once(place: Workplace) -> None:
    """Both wait for the control node's lock; one changes the mode, the other looks again, and both end well."""
    assert place.segue("mode", "set", "dual_write").code == 0
    with place.driver.session(database="neo4j") as session, session.begin_transaction() as holding:
        holding.run("MATCH (c:SegueControl {collection: $name}) SET c.looked_at = 0", name=place.collection).consume()
        both = [place.start("rollback", "--confirm", "--format", "json") for _ in range(2)]
        blocked = (
            "SHOW TRANSACTIONS YIELD currentQuery, status WHERE currentQuery STARTS WITH '// Lock the control' RETURN status"
        )
        eventually(lambda: sum(row[0].startswith("Blocked") for row in place.rows(blocked)) >= 2)
        holding.commit()
    ended = [one.ended() for one in both]
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert sorted(statuses(one)["mode"] for one in ended) == ["already", "done"]
    assert control(place)["epoch"] == 2


def test_deleting_milvus_and_going_forward_again(place: Workplace) -> None:
    """The alias and what is behind it go; a later copy begins anew, and every key is there again."""
    bring(place, "shadow_milvus")
    for arguments in (("--no-input",), ("wrong_name",), ()):
        refused = rollback(place, "--delete-milvus", *arguments)
        assert refused.code == 2, refused.err
    assert control(place)["mode"] == "shadow_milvus"

    ended = rollback(place, "--delete-milvus", place.collection, "--no-input")
    assert ended.code == 0, ended.err
    assert f"deleted: {place.collection}_v1" in ended.err
    assert [name for name in place.client.list_collections() if name.startswith(place.collection)] == []
    assert not place.client.has_collection(place.collection)
    assert "copied" not in control(place)
    again = rollback(place, "--delete-milvus", place.collection)
    assert (again.code, statuses(again)["milvus"]) == (0, "already")

    assert place.segue("mode", "set", "dual_write").code == 0
    early = place.segue("mode", "set", "shadow_milvus", "--format", "json")
    assert early.code == 5
    assert "no copy is complete" in early.err
    assert place.migrate("--restart").data["counts"]["migrated"] == ITEMS


@pytest.mark.parametrize(("answer", "is_kept"), [("films", True), (None, False)])
def test_at_a_terminal_the_name_is_typed(place: Workplace, answer: str | None, is_kept: bool) -> None:
    """Asked last, when users are back already; only the very name deletes."""
    place.client.create_collection(f"{place.collection}_v1", dimension=2)
    place.client.create_alias(f"{place.collection}_v1", place.collection)
    ours, theirs = pty.openpty()
    running = place.start("rollback", "--confirm", "--delete-milvus", stdin=theirs)
    running.await_words(f"type {place.collection}")
    assert "canary: done" in running.said
    os.write(ours, f"{answer or place.collection}\n".encode())
    assert running.ended().code == 0
    os.close(ours)
    os.close(theirs)
    assert place.client.has_collection(f"{place.collection}_v1") == is_kept


def test_without_a_vector_index_it_says_how_to_make_one(place: Workplace) -> None:
    """The mode is changed all the same; the exact command is printed, and after it the same rollback ends well."""
    assert place.segue("mode", "set", "dual_write").code == 0
    place.rows(f"DROP INDEX {quoted(place.collection)}")
    ended = rollback(place)
    assert ended.code == 1
    assert statuses(ended)["neo4j"] == "failed"
    assert control(place)["mode"] == "neo4j_only"
    (command,) = [one for step in ended.data["steps"] for one in step["by_hand"] if "CREATE VECTOR INDEX" in one]
    place.rows(command.split("-d neo4j ")[1].strip("'").replace("'\"'\"'", "'"))
    place.rows("CALL db.awaitIndex($name, 60)", name=place.collection)
    assert rollback(place).code == 0


def test_what_neo4j_did_not_do_is_left_to_a_command(place: Workplace) -> None:
    """With Neo4j away nothing can be changed; the printed statement does the very same by hand."""
    assert place.segue("mode", "set", "dual_write").code == 0
    ended = rollback(place, NEO4J_URI="bolt://127.0.0.1:1")
    assert ended.code == 1
    command = next(step["by_hand"][0] for step in ended.data["steps"] if step["name"] == "mode")
    assert command.startswith(f"cypher-shell -a bolt://127.0.0.1:1 -u {place.neo4j.username} -d neo4j ")
    place.rows(command.split("-d neo4j ")[1].strip("'"))
    assert (control(place)["mode"], control(place)["epoch"]) == ("neo4j_only", 2)
    assert "library_token" not in control(place)
    assert rollback(place).code == 0


@pytest.mark.parametrize("damage", ["c.mode = 'turbo'", "c.mode = 'turbo', c.epoch = 'many'", "c.mode = null, c.epoch = null"])
def test_a_control_node_that_somebody_broke(place: Workplace, damage: str) -> None:
    """Written by hand, it says nothing that can be acted by: the same one command sets it right."""
    assert place.segue("mode", "set", "dual_write").code == 0
    place.rows(f"MATCH (c:SegueControl {{collection: $name}}) SET {damage}", name=place.collection)
    ended = rollback(place)
    assert ended.code == 0, ended.err
    mode = place.segue("mode", "show", "--format", "json").data["collections"][0]["mode"]
    assert mode == "neo4j_only"
