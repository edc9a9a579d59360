"""What instances and the cutover rely on, of a control node in memory and in Neo4j alike."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pytest
from neo4j import Driver

from segue.model import STATIC, Control, Depth, FenceTimes, Instance, Observed, Preflighted, Searched, StorageMode, Validated
from segue.ports import ControlNode
from segue.stores.memory_control import MemoryControl
from segue.stores.neo4j_connection import Neo4jConnection, Transaction
from segue.stores.neo4j_control import Neo4jControl
from segue.stores.neo4j_marks import prepare

from .conftest import NEO4J_LINES

TIMES = FenceTimes(4.0, 0.5, 0.25)
OTHER_TIMES = FenceTimes(1.0, 2.0, 0.0)


class Place(Protocol):
    """A control node with a way to play the others who write into it."""

    node: ControlNode

    def trigger(self, *, is_installed: bool) -> None: ...
    def copied(self, capture: str) -> None: ...
    def transaction(self) -> AbstractContextManager[str]: ...
    def registered(self) -> int: ...
    def wait(self, seconds: float) -> None: ...


class InMemory:
    """A control node in memory, with a clock that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.node = self.memory = MemoryControl(clock=lambda: self.now)

    def trigger(self, *, is_installed: bool) -> None:
        self.memory.triggered(is_installed=is_installed)

    def copied(self, capture: str) -> None:
        self.memory.copy_ended(capture)

    @contextmanager
    def transaction(self) -> Iterator[str]:
        self.memory.open_transactions.add("t")
        yield "t"
        self.memory.open_transactions.remove("t")

    def registered(self) -> int:
        return len(self.memory._registered)

    def wait(self, seconds: float) -> None:
        self.now += seconds


class InNeo4j:
    """A control node of a collection of its own, which others write as the trigger and the copy do."""

    def __init__(self, driver: Driver, connection: Neo4jConnection, collection: str) -> None:
        self.collection = collection
        self.driver = driver
        prepare(connection)
        self.node = Neo4jControl(connection, collection)

    def trigger(self, *, is_installed: bool) -> None:
        changes = "SET c.capture_token = randomUUID()" if is_installed else "REMOVE c.capture_token"
        self._run(f"MERGE (c:SegueControl {{collection: $name}}) {changes}")

    def copied(self, capture: str) -> None:
        self._run("MERGE (c:SegueControl {collection: $name}) SET c.copied = $capture, c.copied_at = timestamp()", capture)

    @contextmanager
    def transaction(self) -> Iterator[str]:
        mark = {"mark": uuid.uuid4().hex}
        with self.driver.session(database="neo4j") as session, session.begin_transaction(metadata=mark) as transaction:
            transaction.run("RETURN 1").consume()
            listed = "SHOW TRANSACTIONS YIELD transactionId, metaData WHERE metaData.mark = $mark RETURN transactionId"
            ((own,),) = self.driver.execute_query(listed, mark, database_="neo4j").records
            yield str(own)

    def registered(self) -> int:
        found = self.driver.execute_query(
            "MATCH (i:SegueInstance {collection: $name}) RETURN count(*)", name=self.collection, database_="neo4j"
        )
        count: int = found.records[0][0]
        return count

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def clear(self) -> None:
        self._run("MATCH (c:SegueControl|SegueEvent|SegueInstance {collection: $name}) DELETE c")

    def _run(self, cypher: str, capture: str = "") -> None:
        self.driver.execute_query(cypher, name=self.collection, capture=capture, database_="neo4j")


@pytest.fixture(params=["memory", *NEO4J_LINES])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A control node in memory, and in each release line of Neo4j."""
    if request.param == "memory":
        yield InMemory()
        return
    ways = request.getfixturevalue("neo4j_ways")
    if request.param not in ways:
        pytest.skip(f"no Java on this machine runs {request.param}")
    found = InNeo4j(*ways[request.param], request.getfixturevalue("scratch_label"))
    yield found
    found.clear()


def changed(place: Place, mode: StorageMode, times: FenceTimes = TIMES) -> Control:
    """Change the mode from whatever epoch it is in."""
    control = place.node.change(place.node.read().epoch, mode, times=times, reason=f"to {mode}")
    assert control is not None
    return control


def test_there_is_no_control_node_at_first(place: Place) -> None:
    """Nothing is there, nobody is registered: Neo4j alone, epoch 0."""
    assert place.node.read() == Control()
    assert place.node.instances() == []


def test_a_change_is_the_next_epoch(place: Place) -> None:
    """Mode, epoch, times and reason are as changed, and as read afterwards."""
    control = changed(place, StorageMode.DUAL_WRITE)

    assert (control.mode, control.epoch) == (StorageMode.DUAL_WRITE, 1)
    assert (control.times, control.reason) == (TIMES, "to dual_write")
    assert place.node.read() == control
    assert changed(place, StorageMode.SHADOW_MILVUS).epoch == 2


def test_a_change_from_an_epoch_that_is_over_does_nothing(place: Place) -> None:
    """Compare-and-set: whoever looked before somebody else's change is told so."""
    control = changed(place, StorageMode.DUAL_WRITE)

    assert place.node.change(0, StorageMode.HYBRID, times=OTHER_TIMES, reason="late") is None
    assert place.node.change(7, StorageMode.HYBRID, times=OTHER_TIMES, reason="early") is None
    assert place.node.read() == control


def test_of_changes_at_once_one_wins(place: Place) -> None:
    """Two threads that looked at the same epoch race, again and again: exactly one changes it each time."""
    for epoch in range(10):
        start = threading.Barrier(2)
        won: list[Control | None] = []

        def race(mode: StorageMode, epoch: int = epoch, start: threading.Barrier = start) -> None:
            start.wait()
            won.append(place.node.change(epoch, mode, times=TIMES, reason=mode.value))  # noqa: B023  # joined below

        threads = [threading.Thread(target=race, args=(mode,)) for mode in (StorageMode.DUAL_WRITE, StorageMode.HYBRID)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [control is None for control in won].count(False) == 1
        winner = won[0] or won[1]
        assert winner == place.node.read()
        assert winner is not None
        assert (winner.epoch, winner.reason) == (epoch + 1, winner.mode.value)


@pytest.mark.parametrize("line", NEO4J_LINES)
def test_a_change_whose_commit_was_not_answered_knows_its_own_work(
    line: str, neo4j_ways: dict[str, tuple[Driver, Neo4jConnection]], scratch_label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver runs such a transaction again: it finds its own change, and not somebody else's."""
    if line not in neo4j_ways:
        pytest.skip(f"no Java on this machine runs {line}")
    driver, connection = neo4j_ways[line]
    place = InNeo4j(driver, connection, scratch_label)
    write = connection.write

    def twice(work: Callable[[Transaction], Control | None]) -> Control | None:
        write(work)
        return write(work)

    try:
        monkeypatch.setattr(connection, "write", twice)
        assert place.node.change(0, StorageMode.DUAL_WRITE, times=TIMES, reason="") is not None
        assert place.node.change(0, StorageMode.DUAL_WRITE, times=TIMES, reason="") is None
        assert place.node.read().epoch == 1
    finally:
        monkeypatch.undo()
        place.clear()


def test_times_change_only_with_a_mode_that_does_not_read_milvus(place: Place) -> None:
    """Whoever begins to read Milvus finds marks that were closed under the times there were: those are kept."""
    assert changed(place, StorageMode.DUAL_WRITE, TIMES).times == TIMES
    assert changed(place, StorageMode.SHADOW_MILVUS, OTHER_TIMES).times == TIMES
    assert changed(place, StorageMode.HYBRID, OTHER_TIMES).times == TIMES
    assert changed(place, StorageMode.DUAL_WRITE, OTHER_TIMES).times == OTHER_TIMES


def test_the_library_captures_from_the_barrier_until_neo4j_only(place: Place) -> None:
    """Its token stays through the modes that mark, ends with them, and the next one is another."""
    control = changed(place, StorageMode.DUAL_WRITE)
    assert control.capture is None

    first = place.node.captured(control.epoch)
    assert first.capture is not None
    assert place.node.captured(control.epoch) == first
    assert changed(place, StorageMode.SHADOW_MILVUS).capture == first.capture

    assert changed(place, StorageMode.NEO4J_ONLY).capture is None
    again = changed(place, StorageMode.DUAL_WRITE)
    assert place.node.captured(again.epoch).capture not in {None, first.capture}


def test_nothing_is_captured_in_another_epoch_or_where_nothing_is_marked(place: Place) -> None:
    """The barrier of an epoch that is over says nothing, nor does one in `neo4j_only`, nor one without a control node."""
    assert place.node.captured(0) == Control()
    control = changed(place, StorageMode.DUAL_WRITE)
    assert place.node.captured(control.epoch - 1).capture is None
    alone = changed(place, StorageMode.NEO4J_ONLY)
    assert place.node.captured(alone.epoch).capture is None


def test_a_trigger_captures_in_every_mode(place: Place) -> None:
    """Its token stands before the library's, needs no barrier and outlives `neo4j_only`."""
    place.trigger(is_installed=True)
    token = place.node.read().capture
    assert token is not None

    control = changed(place, StorageMode.DUAL_WRITE)
    assert place.node.captured(control.epoch).capture == token
    assert changed(place, StorageMode.NEO4J_ONLY).capture == token

    place.trigger(is_installed=False)
    assert place.node.read().capture is None


def test_a_copy_is_shown_with_its_age(place: Place) -> None:
    """What the copy noted is in the control node, and how long ago by the source's clock."""
    changed(place, StorageMode.DUAL_WRITE)
    assert place.node.read().copied_seconds_ago is None
    place.copied("token")
    place.wait(0.3)

    control = place.node.read()
    assert control.copied == "token"
    assert control.copied_seconds_ago is not None
    assert 0.3 <= control.copied_seconds_ago < 10


def test_a_preflight_is_shown_with_its_age(place: Place) -> None:
    """One that failed makes no control node, one that passed does; the last one counts, and the mode and its epoch stay."""
    place.node.preflighted(Preflighted(False, 2, 0.0))
    assert place.node.read().preflight is None
    place.node.preflighted(Preflighted(True, 3, 60.0))
    place.wait(0.3)
    control = place.node.read()
    assert (control.mode, control.epoch) == (StorageMode.NEO4J_ONLY, 0)
    assert control.preflight is not None
    assert (control.preflight.passed, control.preflight.warnings) == (True, 3)
    assert 60.3 <= control.preflight.seconds_ago < 70
    changed(place, StorageMode.DUAL_WRITE)
    assert place.node.read().preflight is not None
    place.node.preflighted(Preflighted(False, 1, 0.0))
    last = place.node.read().preflight
    assert last is not None
    assert (last.passed, last.warnings) == (False, 1)


def test_a_reset_leads_to_neo4j_only_from_everywhere(place: Place) -> None:
    """The epoch grows, the library's capture ends, and without a control node one is made."""
    assert (place.node.reset(times=TIMES, reason="r").mode, place.node.read().epoch) == (StorageMode.NEO4J_ONLY, 1)
    place.node.captured(changed(place, StorageMode.DUAL_WRITE).epoch)
    control = place.node.reset(times=OTHER_TIMES, reason="again")
    assert (control.mode, control.epoch, control.capture) == (StorageMode.NEO4J_ONLY, 3, None)
    assert (control.times, control.reason) == (OTHER_TIMES, "again")
    assert place.node.read() == control


def test_a_copy_that_is_no_more_is_forgotten(place: Place) -> None:
    """Nothing counts as copied afterwards; mode, epoch and capture stay, and without a control node nothing is made."""
    place.node.uncopied()
    assert place.node.read().epoch == 0
    control = place.node.captured(changed(place, StorageMode.DUAL_WRITE).epoch)
    place.copied("token")
    place.node.uncopied()
    place.node.uncopied()
    assert place.node.read() == control
    assert place.node.read().copied_seconds_ago is None


def test_a_static_copy_counts_until_changes_go_unmarked(place: Place) -> None:
    """Back in `neo4j_only` writes leave no mark, so what was copied while nobody wrote is outdated; not with a trigger."""
    place.copied(STATIC)
    assert changed(place, StorageMode.DUAL_WRITE).copied == STATIC
    alone = changed(place, StorageMode.NEO4J_ONLY)
    assert (alone.copied, alone.copied_seconds_ago) == (None, None)

    place.trigger(is_installed=True)
    place.copied(STATIC)
    changed(place, StorageMode.DUAL_WRITE)
    assert changed(place, StorageMode.NEO4J_ONLY).copied == STATIC


def test_an_instance_is_registered_until_it_leaves(place: Place) -> None:
    """It is listed as it was renewed last, gets the control node back, and is gone after leaving, which is idempotent."""
    control = changed(place, StorageMode.DUAL_WRITE)
    two = Instance("b", "host-2", None, 0)
    place.node.renew(Instance("a", "host-1", StorageMode.HYBRID, 0), 30)
    place.node.renew(two, 30)

    newer = Instance("a", "host-1", StorageMode.DUAL_WRITE, 1)
    assert place.node.renew(newer, 30) == control
    assert place.node.instances() == [newer, two]

    place.node.leave("a")
    place.node.leave("a")
    assert place.node.instances() == [two]


def test_a_registration_lapses_and_is_forgotten(place: Place) -> None:
    """An instance that does not renew is listed no more, and after ten times its time the next one to renew clears it away."""
    for name in ("a", "b"):
        place.node.renew(Instance(name, "host", None, 0), 0.5)
    place.wait(0.6)
    assert place.node.instances() == []
    assert place.registered() == 2

    place.wait(5.2)
    place.node.renew(Instance("c", "host", None, 0), 0.5)
    assert place.registered() == 1


def seen(name: str, epoch: int, compared: int, failed: int = 0) -> Instance:
    """Return an instance with what it saw in an epoch."""
    return Instance(name, "host", None, epoch, epoch, Observed(compared, compared * 0.75, 10 * compared, failed))


def test_what_instances_saw_in_this_epoch_is_added_up(place: Place) -> None:
    """The newest sums of each count once; those of another epoch, or of nothing at all, do not."""
    assert place.node.observed() == Observed()
    epoch = changed(place, StorageMode.SHADOW_MILVUS).epoch
    place.node.renew(seen("a", epoch, 4), 30)
    place.node.renew(seen("a", epoch, 8, failed=1), 30)
    place.node.renew(seen("b", epoch, 2, failed=2), 30)
    place.node.renew(seen("late", epoch - 1, 100), 30)
    place.node.renew(Instance("idle", "host", None, epoch), 30)
    assert place.node.observed() == Observed(10, 7.5, 100, 3)
    assert [one.observed.compared for one in place.node.instances()] == [8, 2, 0, 100]

    changed(place, StorageMode.DUAL_WRITE)
    assert place.node.observed() == Observed()


def test_what_an_instance_saw_outlives_it_while_the_epoch_lasts(place: Place) -> None:
    """One that left and one that lapsed are no instances, but what they saw counts; in the next epoch they are forgotten."""
    epoch = changed(place, StorageMode.SHADOW_MILVUS).epoch
    place.node.renew(seen("left", epoch, 4), 30)
    place.node.renew(seen("killed", epoch, 8), 0.05)
    place.node.leave("left")
    place.node.leave("left")
    place.wait(0.8)
    place.node.renew(Instance("other", "host", None, epoch), 30)
    assert [one.name for one in place.node.instances()] == ["other"]
    assert place.node.observed().compared == 12

    changed(place, StorageMode.DUAL_WRITE)
    place.node.renew(Instance("other", "host", None, epoch), 0.05)
    assert place.registered() == 1


def test_instances_may_forget_at_the_same_time(place: Place) -> None:
    """Several that renew at once while old ones are to be forgotten all succeed."""
    for number in range(20):
        place.node.renew(Instance(f"old-{number}", "host", None, 0), 0.01)
    place.wait(0.5)
    start = threading.Barrier(4)
    faults: list[Exception] = []

    def renew(name: str) -> None:
        start.wait()
        try:
            place.node.renew(Instance(name, "host", None, 0), 0.01)
        except Exception as fault:  # noqa: BLE001  # the test's thread asserts on it
            faults.append(fault)

    threads = [threading.Thread(target=renew, args=(f"new-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_open_transactions_are_seen_until_they_end(place: Place) -> None:
    """What is open now is listed, again and again, and an id is gone with its transaction."""
    before = place.node.transactions()
    with place.transaction() as own:
        assert own in place.node.transactions() - before
        assert own in place.node.transactions()
    place.wait(0.1)
    assert own not in place.node.transactions()


def test_a_validation_is_noted_and_ages(place: Place) -> None:
    """Nothing is made where there is no node; the newest note stands, with the time that has passed since it was begun."""
    verdict = Validated(1, Depth.SAMPLE, True, 1.0, "00ff", "00ff", 2.0)
    place.node.validated(verdict)
    assert place.node.read() == Control()
    assert place.node.read().validated is None

    place.node.change(0, StorageMode.DUAL_WRITE, times=TIMES, reason="")
    place.node.validated(verdict)
    place.node.validated(Validated(1, Depth.FULL, False, 0.5, "ffff", "00ff", 2.0))
    place.wait(0.5)

    noted = place.node.read().validated
    assert noted is not None
    assert (noted.epoch, noted.depth, noted.clean, noted.rate) == (1, Depth.FULL, False, 0.5)
    assert (noted.digest, noted.sink_digest) == ("ffff", "00ff")
    assert 2.5 <= noted.seconds_ago < 10


def test_a_search_check_is_noted_and_ages(place: Place) -> None:
    """Beside a validation, and as that: nothing is made where there is no node, the newest note stands, with its age."""
    place.node.searched(Searched(1, True, 0.99, 0.96, 0.95, 2.0))
    assert place.node.read().searched is None
    assert place.node.read().epoch == 0

    changed(place, StorageMode.DUAL_WRITE)
    place.node.validated(Validated(1, Depth.FULL, True, 1.0, "ffff", "ffff", 0.0))
    place.node.searched(Searched(1, True, 0.99, 0.96, 0.95, 2.0))
    place.node.searched(Searched(1, False, 0.5, 0.9, 0.95, 2.0))
    place.wait(0.5)

    noted = place.node.read().searched
    assert noted is not None
    assert (noted.epoch, noted.good, noted.recall, noted.neo4j_recall, noted.least) == (1, False, 0.5, 0.9, 0.95)
    assert 2.5 <= noted.seconds_ago < 10
    assert place.node.read().validated is not None
