"""The backfill over stores in memory: whatever is interrupted, refused or lost, it ends with exact equality."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from segue.delivery import HOPELESS
from segue.errors import (
    CollectionMismatch,
    DataError,
    FatalError,
    NotLoaded,
    RetryableError,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    Throttled,
    UnsafeResume,
)
from segue.model import STATIC, Key, Metric, Page, Range, Reason, Rows, SourceSpec
from segue.phases.backfill import IN_FLIGHT, STATED_COPY, STATIC_COPY, Backfill, Beside
from segue.state.sqlite_state import SqliteState
from segue.stores.memory_marks import MemoryGraph
from segue.stores.memory_store import MemorySink, MemorySource

from .copies import BAD, JOB, SPEC, Calls, Copy, Killed, MoodySink, Struck, expected, film, films, held

EVERY_REASON = tuple(BAD)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Thirty good films and one bad one for each reason, to be copied in batches of four."""
    return Copy(films(30, *EVERY_REASON), tmp_path, 30 + len(EVERY_REASON))


def assert_complete(copy: Copy, outcome: Any, good: int = 30) -> None:
    """Every good film is in the sink as it is in the source, every other one in the quarantine, each once."""
    assert copy.items is not None
    assert outcome.complete
    assert held(copy.sink) == expected(range(good))
    counts = outcome.counts
    assert (counts.source, counts.migrated, counts.quarantined, counts.pending) == (copy.items, good, copy.items - good, 0)
    assert outcome.target_rows == good
    assert sum(copy.quarantine().values()) == copy.items - good


@pytest.mark.parametrize("workers", [1, 3])
def test_a_copy_is_complete(copy: Copy, workers: int) -> None:
    """All that can go went, and the rest is quarantined, each row with its own reason."""
    outcome = replace(copy, workers=workers).run()
    assert_complete(copy, outcome)
    assert copy.quarantine() == dict.fromkeys(EVERY_REASON, 1) == {Reason(name): n for name, n in outcome.reasons.items()}
    assert outcome.ran
    assert outcome.migrated_now == 30


def test_a_finished_run_does_nothing(copy: Copy) -> None:
    """Run again: nothing is read or written but to see that nothing is left, and the report says the same."""
    first, calls = copy.run(), Calls()
    second = copy.run(calls=calls)
    assert not {"scan", "plan", "upsert", "create", "index", "load", "advance", "begin", "finish"} & set(calls.made)
    assert (second.ran, second.complete, second.migrated_now) == (False, True, 0)
    assert (second.counts, second.reasons, second.target_rows) == (first.counts, first.reasons, first.target_rows)


def calls_of_a_run(tmp_path: Path) -> list[str]:
    """Return the calls that an undisturbed copy of a few films makes."""
    calls = Calls()
    few(tmp_path).run(calls=calls)
    return calls.made


def few(folder: Path) -> Copy:
    """Return a copy of eleven good films and one bad one for each reason, in three ranges and the one without keys."""
    return Copy(films(11, *EVERY_REASON), folder, 11 + len(EVERY_REASON)).with_job(items_per_range=7)


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer lost"])
def test_killed_at_any_call_it_resumes(tmp_path: Path, after: bool) -> None:
    """Killed at each call to a store in turn, then run again: equality, and every quarantined row once."""
    for folder in ("all", *map(str, range(200))):
        (tmp_path / folder).mkdir()
    made = calls_of_a_run(tmp_path / "all")
    assert {"census", "plan", "scan", "create", "upsert", "result", "advance", "index", "load", "finish"} <= set(made)
    for number in range(1, len(made) + 1):
        copy = few(tmp_path / str(number))
        with pytest.raises(Killed):
            copy.run(calls=Calls(number, after))
        assert_complete(copy, copy.run(), 11)
        assert copy.quarantine() == dict.fromkeys(EVERY_REASON, 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_again_and_again_it_completes(copy: Copy, workers: int) -> None:
    """Each attempt is killed a few calls further than it began; progress is never lost, and the end is equality."""
    copy.workers = workers
    progress, attempts = -1, 0
    while True:
        try:
            outcome = copy.run(calls=Calls(18, after=attempts % 2 == 0))
        except Killed:
            attempts += 1
            assert attempts < 60
            done = len(copy.sink.rows("films")) if copy.sink.find(JOB.lay_out(SPEC)) else 0
            assert done >= progress
            progress = done
        else:
            break
    assert attempts > 3
    assert_complete(copy, outcome)
    assert copy.quarantine() == dict.fromkeys(EVERY_REASON, 1)


def test_asked_to_stop_it_lands_what_flies(copy: Copy) -> None:
    """Stopped from within a batch, again and again: what was sent is counted, the rest is pending, the end is equality."""
    for _ in range(40):
        stop = threading.Event()
        outcome = copy.run(on_batch=stop.set, stop=stop)
        assert copy.watch is not None
        if outcome.complete:
            break
        assert copy.watch.batches <= IN_FLIGHT + 1
        assert outcome.counts.migrated == len(copy.sink.rows("films"))
        assert outcome.target_rows is None
    assert_complete(copy, copy.run())


def test_items_that_come_meanwhile_are_copied(copy: Copy) -> None:
    """A key written behind the cursor while the copy runs goes along, and the account grows with it."""
    copy = replace(copy, source=films(30), items=None)
    later = iter([film(9_000)])

    def write() -> None:
        for one in later:
            copy.source.create("Film", one)

    outcome = copy.run(on_batch=write)
    assert outcome.counts.source == outcome.counts.migrated == 31
    assert held(copy.sink) == expected([*range(30), 9_000])


class Flaky:
    """A source that fails with an error before each page it gives."""

    def __init__(self, source: MemorySource, faults: int) -> None:
        self._source = source
        self._left = faults

    def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
        """See `Source`."""
        if self._left:
            self._left -= 1
            message = "nothing answers"
            raise StoreUnavailable(message)
        return self._source.scan(spec, range_, after, limit)

    def __getattr__(self, name: str) -> Any:
        """Leave everything else to the source in memory."""
        return getattr(self._source, name)


def test_a_source_that_does_not_answer_is_asked_again(copy: Copy) -> None:
    """A few failed reads cost patience, and it is said; the copy completes."""
    assert_complete(copy, copy.run(source=Flaky(copy.source, 3)))
    assert copy.watch is not None
    assert any("nothing answers" in note for note in copy.watch.notes)


class Silent:
    """Any port whose calls of the given names fail the first so many times."""

    def __init__(self, port: Any, names: set[str], times: int) -> None:
        self._port = port
        self._left = dict.fromkeys(names, times)

    def __getattr__(self, name: str) -> Any:
        """Return the port's method, or one that fails while it has to."""
        if self._left.get(name, 0) > 0:
            self._left[name] -= 1
            return self._fail
        return getattr(self._port, name)

    def _fail(self, *_: object, **__: object) -> Any:
        message = "out of memory"
        raise NotLoaded(message)


def test_a_store_that_is_not_ready_at_either_end_is_waited_for(copy: Copy) -> None:
    """Whatever a copy asks before its first row and after its last one is asked again, now and when it is resumed."""
    sink_calls = {"find", "create", "index", "index_progress", "load", "count"}
    for _ in range(2):
        sink = Silent(copy.sink, sink_calls, 1)
        source = Silent(copy.source, {"census", "plan"}, 1)
        assert_complete(copy, copy.run(sink=sink, source=source))


def test_a_complete_copy_is_complete_though_nobody_can_count(copy: Copy) -> None:
    """The collection is out of memory, and stays so: the copy is done all the same, and says what it does not know."""
    outcome = copy.with_job(patience_seconds=0.1).run(sink=Silent(copy.sink, {"count"}, 1_000))
    assert (outcome.complete, outcome.target_rows) == (True, None)
    assert any("cannot be counted now: out of memory" in note for note in outcome.notes)
    assert_complete(copy, copy.run())


@pytest.mark.parametrize("fault", [StoreUnavailable, StoreTimeout, Throttled])
@pytest.mark.parametrize("lands", [False, True], ids=["not landed", "landed, answer lost"])
def test_an_unknown_outcome_is_sent_again(copy: Copy, fault: type[RetryableError], lands: bool) -> None:
    """Whether a batch landed or not, it is sent again, and nothing is doubled or lost."""
    left = [3]

    def mood(_rows: Rows) -> SegueError | None:
        left[0] -= 1
        return fault("no answer") if left[0] >= 0 else None

    sink = MoodySink(copy.sink, mood, lands=lands)
    assert_complete(copy, copy.run(sink=sink))


def test_patience_ends_and_the_copy_can_be_resumed(copy: Copy) -> None:
    """A sink that stays away ends the command with its own error; run again when it is back, the copy completes."""
    sink = MoodySink(copy.sink, lambda rows: StoreUnavailable("gone") if "film 0015" in rows.keys else None)
    with pytest.raises(StoreUnavailable, match="gone"):
        copy.with_job(patience_seconds=0.2).run(sink=sink)
    assert 0 < len(copy.sink.rows("films")) < 30
    assert_complete(copy, copy.run())


@pytest.mark.parametrize("guilty", [[3], [0, 29], [4, 5, 6, 7], list(range(0, 30, 3)), list(range(2, 2 + HOPELESS + 5))])
def test_refused_rows_are_found_alone(copy: Copy, guilty: list[int]) -> None:
    """A batch that the sink refuses is split until the guilty rows are alone: they are quarantined, the others go."""
    keys = {f"film {number:04}" for number in guilty}
    copy = replace(copy, source=films(30), items=30).with_job(batch_size=30, items_per_range=100)
    sink = MoodySink(copy.sink, lambda rows: DataError("too green") if keys & set(rows.keys) else None)
    outcome = copy.run(sink=sink)
    assert held(copy.sink) == expected([number for number in range(30) if number not in guilty])
    assert (outcome.counts.migrated, outcome.counts.quarantined) == (30 - len(guilty), len(guilty))
    assert copy.quarantine() == {Reason.REFUSED_BY_SINK: len(guilty)}
    assert len(sink.batches) <= 2 * len(guilty) * 6 + 1


def test_a_refused_row_can_be_found_in_the_source(copy: Copy) -> None:
    """Without a constraint a quarantined row carries the elementId of its own node, whatever row of its batch it was."""
    copy = replace(copy, source=MemorySource(), items=9).with_job(batch_size=9)
    ids = {f"film {number:04}": copy.source.create("Film", film(number)) for number in range(9)}
    sink = MoodySink(copy.sink, lambda rows: DataError("too green") if {"film 0002", "film 0007"} & set(rows.keys) else None)
    copy.run(sink=sink)
    seen = sorted((row.key, row.element_id, row.detail) for row in copy.quarantined())
    assert seen == [(key, ids[key], "too green") for key in ("film 0002", "film 0007")]


def test_a_sink_that_refuses_everything_is_hopeless(copy: Copy) -> None:
    """Row after row refused is not the rows' fault: the copy ends instead of quarantining them all, and can be resumed."""
    copy = copy.with_job(batch_size=30, items_per_range=100)
    sink = MoodySink(copy.sink, lambda _: DataError("another schema"))
    with pytest.raises(FatalError, match="another schema"):
        copy.run(sink=sink)
    assert len(sink.batches) <= 3 * HOPELESS + 30
    assert_complete(copy, copy.run())


def test_a_throttling_sink_gets_smaller_batches(copy: Copy) -> None:
    """Asked for less, the adaptive size is halved for the pages that follow, and everything arrives."""
    copy = replace(copy, source=films(4_000), items=4_000).with_job(batch_size=None, items_per_range=4_000)
    asked: list[int] = []

    class Listening(Flaky):
        def scan(self, spec: SourceSpec, range_: Range, after: Key | None, limit: int) -> Page:
            asked.append(limit)
            return super().scan(spec, range_, after, limit)

    answers = iter([Throttled("rate limit")])
    sink = MoodySink(copy.sink, lambda _: next(answers, None))
    outcome = copy.run(source=Listening(copy.source, 0), sink=sink)
    assert outcome.counts.migrated == 4_000
    assert asked[: IN_FLIGHT + 2] == [1_000] * (IN_FLIGHT + 1) + [500]


def test_restart_copies_again_without_doubling(copy: Copy) -> None:
    """Everything is read and written anew under a new record, and the sink holds each row once."""
    copy.run()
    calls = Calls()
    outcome = copy.run(calls=calls, restart=True)
    assert_complete(copy, outcome)
    assert outcome.migrated_now == 30
    assert outcome.run.number == 2
    assert {"plan", "scan", "upsert"} <= set(calls.made)


def test_restart_after_an_interruption(copy: Copy) -> None:
    """A half-made run is left aside; the new one is whole by itself, and later commands speak of it."""
    with pytest.raises(Killed):
        copy.run(calls=Calls(20))
    assert_complete(copy, copy.run(restart=True))
    assert copy.run().run.number == 2


def without_year(spec: SourceSpec) -> SourceSpec:
    """Return the spec without its last property."""
    return replace(spec, properties=spec.properties[:-1])


UNSAFE: dict[str, tuple[Callable[[Copy], Copy], str]] = {
    "tool": (lambda copy: copy.with_job(tool_version="2.0"), "tool.version: '1.0' then, '2.0' now"),
    "metric": (lambda copy: copy.with_job(spec=replace(SPEC, metric=Metric.DOT)), "source.metric: 'cosine' then, 'dot' now"),
    "label": (lambda copy: copy.with_job(spec=replace(SPEC, label="Movie")), "source.label: 'Film' then, 'Movie' now"),
    "property": (lambda copy: copy.with_job(spec=without_year(SPEC)), "source.properties.year: 'integer' then, nothing now"),
    "database": (lambda copy: replace(copy, source=MemorySource("another")), "database: 'films' then, 'another' now"),
}


@pytest.mark.parametrize("change", UNSAFE)
@pytest.mark.parametrize("finished", [False, True])
def test_a_checkpoint_of_other_conditions_is_refused(copy: Copy, change: str, finished: bool) -> None:
    """What changed is said in words, and how to go on; no store is touched, and the old conditions still resume."""
    if finished:
        copy.run()
    else:
        with pytest.raises(Killed):
            copy.run(calls=Calls(20))
    before = held(copy.sink)
    changed, said = UNSAFE[change]
    calls = Calls()
    with pytest.raises(UnsafeResume) as refusal:
        changed(copy).run(calls=calls)
    assert said in refusal.value.message
    assert "--restart" in refusal.value.hint
    assert not {"upsert", "create", "advance", "begin", "index", "load", "finish"} & set(calls.made)
    assert held(copy.sink) == before
    assert_complete(copy, copy.run())


def test_a_collection_that_is_another_now_is_refused(copy: Copy) -> None:
    """Dropped, or dropped and made again: the checkpoint speaks of rows that are gone."""
    with pytest.raises(Killed):
        copy.run(calls=Calls(20))
    copy.sink.drop("films")
    with pytest.raises(UnsafeResume, match=r"collection: 'films_v1#1' then, 'none' now"):
        copy.run()
    copy.sink.create(JOB.lay_out(SPEC))
    with pytest.raises(UnsafeResume, match=r"collection: 'films_v1#1' then, 'films_v1#2' now"):
        copy.run()
    assert_complete(copy, copy.run(restart=True))


def test_a_collection_of_another_schema_is_refused_before_anything_is_made(copy: Copy) -> None:
    """A collection of that name that cannot take the rows: nothing is planned, made or recorded."""
    copy.sink.create(JOB.lay_out(without_year(SPEC)))
    calls = Calls()
    with pytest.raises(CollectionMismatch, match="year"):
        copy.run(calls=calls)
    assert not {"plan", "create", "begin", "upsert"} & set(calls.made)


def test_a_resume_keeps_the_types_of_the_plan(copy: Copy) -> None:
    """The data's types move on during an interruption: rows that fit the plan's schema go, the others are quarantined."""
    copy = replace(copy, source=films(30), items=None)
    copy.source.create("Film", film(30, year="the thirties"))
    with pytest.raises(Killed):
        copy.run(calls=Calls(30))
    copy.source.create("Film", film(31, title=None))
    outcome = copy.run()
    assert (outcome.counts.migrated, copy.quarantine()) == (31, {Reason.VALUE_MISSING: 1})
    rows = copy.sink.rows("films")
    assert {orjson.loads(row["properties"])["year"] for row in rows.values()} == {*range(1_900, 1_930), "the thirties"}
    assert any("property year" in note for note in outcome.notes)


def test_a_preview_changes_nothing(copy: Copy) -> None:
    """Counts, schema, ranges and what would be quarantined, without a call that writes; and it is right."""
    calls = Calls()
    ports = [Struck(copy.source, calls), Struck(copy.sink, calls)]
    watch: Any = None
    preview = Backfill(JOB, ports[0], ports[1], watch, watch, threading.Event()).preview()
    assert set(calls.made) <= {"census", "find", "plan", "scan"}
    assert (preview.census.total, preview.exists, preview.ranges) == (copy.items, False, 5)
    assert preview.reasons == {reason.value: 1 for reason in EVERY_REASON}
    assert preview.sampled == copy.items
    assert len(preview.examples) == len(EVERY_REASON)
    assert list(copy.folder.iterdir()) == []


class BesideWriters:
    """What a copy beside writers is given: marks in memory, counted with the calls to the stores."""

    def __init__(self, copy: Copy) -> None:
        self.graph = MemoryGraph(SPEC, clock=lambda: 0.0)
        self.copy = copy

    def run(self, calls: Calls | None = None, **options: Any) -> Any:
        """Run the command once."""
        marks: Any = self.graph if calls is None else Struck(self.graph, calls)
        beside = Beside("one", marks, 0.0, lambda _: False)
        return self.copy.with_job(beside=beside).run(calls=calls, **options)

    def recorded(self) -> tuple[bool, str | None]:
        """Return what the control node says of copies."""
        return self.graph.copying, self.graph.copied


@pytest.mark.parametrize("restart", [False, True])
def test_a_copy_beside_writers_keeps_every_mark_meanwhile(copy: Copy, restart: bool) -> None:
    """It says so before it reads the first item, and takes it back when nothing is left to do but to note that it is done."""
    beside, calls = BesideWriters(copy), Calls()
    if restart:
        beside.run()
    beside.run(calls, restart=restart)
    made = [name for name in calls.made if name in {"copy_begins", "scan", "remark", "advance", "load", "copy_ended", "finish"}]
    assert (made[0], made[-3:]) == ("copy_begins", ["load", "copy_ended", "finish"])
    assert made.count("copy_begins") == made.count("copy_ended") == 1
    assert beside.recorded() == (False, "one")


def test_what_changed_already_is_left_to_the_relay(copy: Copy) -> None:
    """Keys that bear a mark are not copied, but marked anew and said; in the account they are migrated."""
    beside, marked = BesideWriters(replace(copy, left=3)), ["film 0003", "film 0004", "film 0029"]
    beside.graph.mark(marked)
    outcome = beside.run()
    assert held(copy.sink) == {key: row for key, row in expected(range(30)).items() if key not in marked}
    assert (outcome.complete, outcome.counts.migrated, outcome.counts.pending) == (True, 30, 0)
    assert any(note.startswith("3 keys had changed already") for note in outcome.notes)


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer lost"])
def test_what_flies_is_always_on_record(tmp_path: Path, after: bool) -> None:
    """Killed at each call in turn: where a batch was sent and not answered, the record says that something may still land."""
    for folder in ("all", *map(str, range(200))):
        (tmp_path / folder).mkdir()
    undisturbed = Calls()
    BesideWriters(few(tmp_path / "all")).run(undisturbed)
    flew = 0
    for number in range(1, len(undisturbed.made) + 1):
        copy, calls = few(tmp_path / str(number)), Calls(number, after)
        with pytest.raises(Killed):
            BesideWriters(copy).run(calls)
        done = calls.made if after else calls.made[:-1]
        if done.count("upsert") > done.count("result"):
            flew += 1
            with SqliteState(copy.folder / "state.db") as state:
                run = state.latest("films")
                assert run is not None
                assert state.in_flight(run), done[-6:]
    assert flew > 10


def test_a_copy_that_is_not_complete_still_keeps_the_marks(copy: Copy) -> None:
    """Killed at any call between the two notes, or stopped: what it had in flight may still land."""
    beside, calls, stop = BesideWriters(copy), Calls(), threading.Event()
    beside.run(on_batch=stop.set, stop=stop)
    assert beside.recorded() == (True, None)
    beside.run(calls)
    assert calls.made.count("copy_begins") == 1
    assert beside.recorded() == (False, "one")


@pytest.mark.parametrize("call", ["copy_begins", "copy_ended", "finish"])
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer lost"])
def test_killed_at_a_note_it_is_made_again(copy: Copy, call: str, after: bool) -> None:
    """The command run again leaves both records complete; run once more, there is nothing to note."""
    probe = Calls()
    BesideWriters(replace(copy, folder=_made(copy.folder / "probe"), sink=MemorySink())).run(probe)
    beside = BesideWriters(copy)
    with pytest.raises(Killed):
        beside.run(Calls(probe.made.index(call) + 1, after))
    beside.run()
    assert beside.recorded() == (False, "one")
    calls = Calls()
    assert beside.run(calls).complete
    assert not {"copy_begins", "copy_ended"} & set(calls.made)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_refused_resume_does_not_keep_the_marks(copy: Copy) -> None:
    """Nothing was begun, so nothing waits for an end that never comes."""
    BesideWriters(copy).run()
    beside = BesideWriters(copy.with_job(tool_version="2.0"))
    with pytest.raises(UnsafeResume):
        beside.run()
    assert beside.recorded() == (False, None)


def test_a_copy_that_nothing_captures_is_static(copy: Copy) -> None:
    """It says so at once and at the end, and what to do; beside writers it is not, and says nothing of the kind."""
    outcome = copy.run()
    assert outcome.static
    assert STATIC_COPY in outcome.notes
    assert copy.watch is not None
    assert copy.watch.notes.count(STATIC_COPY) == 1

    outcome = BesideWriters(copy).run(restart=True)
    assert not outcome.static
    assert STATIC_COPY not in outcome.notes


def test_a_copy_while_nobody_writes_is_recorded_as_such(copy: Copy) -> None:
    """As the operator states, and only when everything is there; its notes say what it counts on."""
    graph, calls = MemoryGraph(SPEC, clock=lambda: 0.0), Calls()
    marks: Any = Struck(graph, calls)
    outcome = copy.with_job(nobody_writes=marks).run(calls=calls)

    assert calls.made[calls.made.index("load") :][:4] == ["load", "conditions", "copy_ended", "finish"]
    assert (graph.copying, graph.copied) == (False, STATIC)
    assert outcome.static
    assert STATED_COPY in outcome.notes
    assert STATIC_COPY not in outcome.notes


@pytest.mark.parametrize("finished", [False, True])
def test_what_is_stated_late_was_not_stated_of_what_is_copied(copy: Copy, finished: bool) -> None:
    """Somebody may have written behind a copy that began without the statement: it is not continued, but made again."""
    if finished:
        copy.run()
    else:
        with pytest.raises(Killed):
            copy.run(calls=Calls(20))
    graph = MemoryGraph(SPEC, clock=lambda: 0.0)
    stated = copy.with_job(nobody_writes=graph)
    with pytest.raises(UnsafeResume, match="capture: nothing then, 'static' now"):
        stated.run()
    assert graph.copied is None
    assert_complete(copy, stated.run(restart=True))
    assert graph.copied == STATIC


def _change(copy: Copy, number: int, **properties: Any) -> Key:
    """Delete a film, or change it where properties are given; return its key."""
    key: Key = film(number)[SPEC.key]
    element_id = next(one for one, node in copy.source._nodes.items() if node.properties.get(SPEC.key) == key)
    if properties:
        copy.source._nodes[element_id].properties.update(properties)
    else:
        copy.source.delete(element_id)
    return key


def test_a_new_copy_takes_out_what_an_earlier_one_left(copy: Copy) -> None:
    """Rows of items that are no more, or that cannot go any more, are gone in the end; and nothing else is."""
    copy.run()
    _change(copy, 3)
    _change(copy, 29)
    _change(copy, 7, **{SPEC.vector: [1.0]})
    again = replace(copy, items=None)

    outcome = again.run(restart=True)

    assert held(copy.sink) == expected(number for number in range(30) if number not in (3, 7, 29))
    assert outcome.target_rows == 27
    assert again.watch is not None
    assert "2 rows were of items that are no more: taken out" in again.watch.notes


def test_beside_writers_such_keys_are_left_to_the_relay(copy: Copy) -> None:
    """They are marked, since their items may be there again by now; no row is deleted by the copy."""
    copy.run()
    keys = {_change(copy, 3), _change(copy, 7, **{SPEC.vector: [1.0]})}
    beside = BesideWriters(replace(copy, items=None))
    calls = Calls()

    beside.run(calls, restart=True)

    assert "delete" not in calls.made
    assert keys <= set(beside.graph.opened()[0])
    assert not {film(number)[SPEC.key] for number in range(30) if number not in (3, 7)} & set(beside.graph.opened()[0])


def test_a_copy_into_a_collection_of_its_own_looks_for_no_leftovers(copy: Copy) -> None:
    """What it made itself has no rows of before, also when it was interrupted."""
    calls, stop = Calls(), threading.Event()
    copy.run(calls=calls, on_batch=stop.set, stop=stop)
    copy.run(calls=calls)
    assert not {"keys", "missing"} & set(calls.made)
