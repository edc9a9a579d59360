"""What reports rely on, of a journal in memory and in Neo4j alike."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from neo4j import Driver

from segue.model import EventKind, FenceTimes, StorageMode
from segue.ports import ControlNode, Journal
from segue.stores.memory_control import MemoryControl
from segue.stores.neo4j_connection import Neo4jConnection
from segue.stores.neo4j_control import Neo4jControl
from segue.stores.neo4j_journal import Neo4jJournal
from segue.stores.neo4j_marks import prepare

from .conftest import NEO4J_LINES

Place = tuple[Journal, ControlNode]


@pytest.fixture(params=["memory", *NEO4J_LINES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The journal and the control node of a collection, in memory and in each release line of Neo4j."""
    if request.param == "memory":
        control = MemoryControl(clock=time.time)
        yield control.journal, control
        return
    ways: dict[str, tuple[Driver, Neo4jConnection]] = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    driver, connection = ways[request.param]
    prepare(connection)
    collection = request.getfixturevalue("scratch_label")
    yield Neo4jJournal(connection, collection), Neo4jControl(connection, collection)
    driver.execute_query("MATCH (n:SegueControl|SegueEvent {collection: $name}) DELETE n", name=collection, database_="neo4j")


def test_events_come_back_as_recorded(place: Place) -> None:
    """Oldest first, whatever the data hold, with moment, author and version."""
    journal, _ = place
    assert journal.events() == []
    data = {"text": "é \N{FILM PROJECTOR}", "number": 0.1, "list": [1, None, True], "map": {"a": {"b": -(2**53)}}}
    began = time.time()
    journal.record(EventKind.COPY, "begun")
    time.sleep(0.01)
    journal.record(EventKind.VALIDATION, "compared", data)
    first, second = journal.events()
    assert (first.kind, first.text, first.data) == (EventKind.COPY, "begun", {})
    assert (second.kind, second.text, second.data) == (EventKind.VALIDATION, "compared", data)
    assert began - 1 <= first.at < second.at <= time.time() + 1
    assert re.fullmatch(r".+@.+", first.by)
    assert re.match(r"\d", first.version)


def test_a_mode_change_is_recorded_with_it(place: Place) -> None:
    """Who was overridden and why; nothing when the epoch was another one."""
    journal, control = place
    control.change(0, StorageMode.DUAL_WRITE, times=FenceTimes(), reason="it is time", overridden=["preflight"])
    assert control.change(0, StorageMode.DUAL_WRITE, times=FenceTimes(), reason="late") is None
    control.reset(times=FenceTimes(), reason="")
    forward, back = journal.events()
    assert forward.data == {
        "before": "neo4j_only",
        "mode": "dual_write",
        "epoch": 1,
        "reason": "it is time",
        "overridden": ["preflight"],
    }
    assert forward.text == "neo4j_only → dual_write at epoch 1, preflight overridden: it is time"
    assert (back.kind, back.text) == (EventKind.MODE, "dual_write → neo4j_only at epoch 2")


def test_journals_of_collections_are_apart(place: Place, request: pytest.FixtureRequest) -> None:
    """Another collection's events are not shown."""
    journal, _ = place
    if not isinstance(journal, Neo4jJournal):
        pytest.skip("one in memory knows one collection")
    other = Neo4jJournal(journal._connection, f"{request.getfixturevalue('scratch_label')}_other")
    journal.record(EventKind.CAPTURE, "here")
    assert other.events() == []
