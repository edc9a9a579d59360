"""What every `BackfillState` promises: whole records, in order, on the disk when a call returns, and one writer at a time."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from segue.errors import StateStoreFailed
from segue.model import Key, Quarantined, Range, Reason
from segue.ports import BackfillState, Run
from segue.state.sqlite_state import SqliteState

RANGES = [Range(0, None, "m", 100), Range(1, "m", None, 50), Range(2, None, None, 3, keyed=False)]
CONDITIONS = {"tool": {"version": "1", "codec": 2}, "types": {"ü": "string"}, "none": None, "list": [1, "a"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a state file, in a folder that is not there yet."""
    return tmp_path / "folder" / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[BackfillState]:
    """A new state."""
    with SqliteState(path) as opened:
        yield opened


def begun(state: BackfillState, collection: str = "films") -> Run:
    """Record a run over three ranges."""
    return state.begin(collection, CONDITIONS, "films_v1#7", RANGES, ["a note", "ünother"])


def quarantined(*keys: Key | None, reason: Reason = Reason.ZERO_NORM) -> list[Quarantined]:
    """Return a quarantined row for each key."""
    return [Quarantined(f"4:x:{key}", key, reason, f"about {key}") for key in keys]


def test_a_new_state_knows_no_run(state: BackfillState) -> None:
    """Nothing was ever begun."""
    assert state.latest("films") is None


def test_a_run_is_recorded_with_its_plan(state: BackfillState) -> None:
    """What begin was given comes back from latest, conditions and progress."""
    run = begun(state)
    assert state.latest("films") == run
    assert (run.target, run.seconds, run.finished, run.notes) == ("films_v1#7", 0.0, False, ("a note", "ünother"))
    assert state.conditions(run) == CONDITIONS
    progress = state.progress(run)
    assert [one.range for one in progress] == RANGES
    assert {(one.cursor, one.migrated, one.quarantined, one.done) for one in progress} == {(None, 0, 0, False)}


def test_runs_are_kept_apart(state: BackfillState) -> None:
    """The latest run is each collection's own, and what one advances leaves the others alone."""
    first, other, second = begun(state), begun(state, "books"), begun(state)
    assert state.latest("films") == second != first
    assert state.latest("books") == other
    state.advance(second, 0, "c", 5, quarantined("a"), done=False)
    state.finish(second)
    for run in (first, other):
        assert sum(one.migrated + one.quarantined for one in state.progress(run)) == 0
        assert not state.quarantine(run)
    assert state.latest("books") == other


def test_advancing_adds_up(state: BackfillState) -> None:
    """Each call moves the cursor, adds to the counts and sets whether the range is done; None leaves the cursor where it is."""
    run = begun(state)
    state.advance(run, 0, "c", 5, quarantined("a", "b"), done=False)
    state.advance(run, 0, "f", 2, quarantined("d"), done=False)
    state.advance(run, 0, None, 0, [], done=True)
    state.advance(run, 2, "4:x:1", 0, quarantined(None, reason=Reason.KEY_MISSING), done=False)
    found = [(one.cursor, one.migrated, one.quarantined, one.done) for one in state.progress(run)]
    assert found == [("f", 7, 3, True), (None, 0, 0, False), ("4:x:1", 0, 1, False)]


@pytest.mark.parametrize("cursor", ["", "1", 1, 0, -(2**63), 2**63 - 1, "null", '"', "😀\uffff\x00", "é" * 600])
def test_cursors_come_back_as_they_were(path: Path, cursor: Key) -> None:
    """The text "1" and the number 1 stay apart, and no character is lost, also over a restart."""
    with SqliteState(path) as state:
        run = state.begin("films", {}, "t", [Range(0, cursor, cursor, 1)], [])
        state.advance(run, 0, cursor, 1, quarantined(cursor), done=False)
    with SqliteState(path) as state:
        (one,) = state.progress(run)
        found = [one.cursor, one.range.after, one.range.until, state.quarantine(run)[0].key]
        assert found == [cursor] * 4
        assert {type(key) for key in found} == {type(cursor)}


def test_everything_is_there_after_reopening(path: Path) -> None:
    """A closed state, opened again, says the same of every run."""

    def told(state: BackfillState) -> list[Any]:
        run = state.latest("films")
        assert run is not None
        return [run, state.conditions(run), state.progress(run), state.quarantine(run), state.reasons(run)]

    with SqliteState(path) as state:
        run = begun(state)
        state.advance(run, 0, "c", 5, quarantined("a", "b"), done=False)
        state.advance(run, 1, "z", 50, [], done=True)
        state.spent(run, 1.5)
        state.spent(run, 2.25)
        state.finish(run)
        before = told(state)
    with SqliteState(path) as state:
        assert told(state) == before
        assert (before[0].seconds, before[0].finished) == (3.75, True)


def test_the_quarantine_is_in_order(state: BackfillState) -> None:
    """By range, and within a range in the order of discovery; the limit takes the first, the reasons count all."""
    run = begun(state)
    state.advance(run, 1, "n", 0, quarantined("n"), done=False)
    state.advance(run, 0, "c", 0, quarantined("c", "b", reason=Reason.NOT_FINITE), done=False)
    state.advance(run, 0, "e", 0, quarantined("e", "d"), done=False)
    state.advance(run, 2, None, 0, quarantined(None, None, reason=Reason.KEY_MISSING), done=True)
    rows = state.quarantine(run)
    assert [row.key for row in rows] == ["c", "b", "e", "d", "n", None, None]
    assert rows[0] == Quarantined("4:x:c", "c", Reason.NOT_FINITE, "about c")
    assert state.quarantine(run, 3) == rows[:3]
    assert state.quarantine(run, 0) == []
    assert list(state.reasons(run).items()) == [("zero_norm", 3), ("key_missing", 2), ("not_finite", 2)]


def test_advancing_is_all_or_nothing(state: SqliteState) -> None:
    """A record that fails at its last row leaves cursor, counts and quarantine as they were, and the state usable."""
    run = begun(state)
    state.advance(run, 0, "c", 5, quarantined("a"), done=False)
    before = [state.progress(run), state.quarantine(run)]
    broken = [*quarantined("d", "e"), Quarantined("4:x:f", "f", Reason.ZERO_NORM, None)]  # type: ignore[arg-type]
    with pytest.raises(StateStoreFailed):
        state.advance(run, 0, "f", 9, broken, done=True)
    assert [state.progress(run), state.quarantine(run)] == before
    state.advance(run, 0, "f", 9, quarantined("f"), done=True)
    assert state.progress(run)[0].migrated == 14


def test_a_full_disk_is_said_and_loses_nothing(state: SqliteState, path: Path) -> None:
    """No space for a record: a plain error with the file's name and what to do; with space again it goes on.

    SQLite's own page limit stands for the disk, set through the state's connection.
    """
    run = begun(state)
    state.advance(run, 0, "c", 5, quarantined("a"), done=False)
    pages = state._connection.execute("PRAGMA page_count").fetchone()[0]
    state._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = quarantined(*(f"key {n}" for n in range(2_000)))
    with pytest.raises(StateStoreFailed, match=r"full") as refusal:
        state.advance(run, 0, "d", 5, many, done=False)
    assert str(path) in refusal.value.message
    assert "SEGUE_STATE_PATH" in refusal.value.hint
    assert (state.progress(run)[0].cursor, state.progress(run)[0].migrated) == ("c", 5)
    state._connection.execute("PRAGMA max_page_count = 100000")
    state.advance(run, 0, "d", 5, many, done=False)
    assert (state.progress(run)[0].migrated, state.progress(run)[0].quarantined) == (10, 2_001)


def test_threads_do_not_disturb_each_other(state: BackfillState) -> None:
    """Workers that advance at the same time leave counts that add up, and a quarantine without gaps."""
    run = state.begin("films", {}, "t", [Range(number, None, None, 0) for number in range(4)], [])

    def work(number: int) -> None:
        for batch in range(25):
            state.advance(run, number, batch, 3, quarantined(batch), done=batch == 24)
            assert state.progress(run)[number].migrated == 3 * (batch + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert {(one.cursor, one.migrated, one.quarantined, one.done) for one in state.progress(run)} == {(24, 75, 25, True)}
    assert [row.key for row in state.quarantine(run)] == list(range(25)) * 4


HOLD = "import sys; from pathlib import Path; from segue.state.sqlite_state import SqliteState\n"
HOLD += "state = SqliteState(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"


def test_a_second_process_is_refused_with_the_firsts_number(path: Path) -> None:
    """While one process works with the file another is told which one; when that one is killed, the file is free."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StateStoreFailed, match=rf"process {holder.pid}\b") as refusal:
            SqliteState(path)
        assert str(path) in refusal.value.message
    finally:
        holder.kill()
        holder.communicate()
    SqliteState(path).close()


def test_a_closed_state_lets_others_in(path: Path) -> None:
    """Within one process too there is one writer at a time; closing twice is closing once."""
    first = SqliteState(path)
    with pytest.raises(StateStoreFailed, match=rf"process {os.getpid()}\b"):
        SqliteState(path)
    first.close()
    first.close()
    SqliteState(path).close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A file of a newer Segue is left as it is, and free for that version."""
    SqliteState(path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    for _ in range(2):
        with pytest.raises(StateStoreFailed, match=r"newer Segue \(schema 99"):
            SqliteState(path)
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (99,)
    file.close()


def test_an_empty_file_becomes_a_state(path: Path) -> None:
    """A file of no bytes is migrated from the beginning, and opening it again migrates nothing."""
    path.parent.mkdir()
    path.touch()
    with SqliteState(path) as state:
        run = begun(state)
    with SqliteState(path) as state:
        assert state.latest("films") == run


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at " * 4, b"SQLite format 3\0" + b"x" * 100]
)
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    """What is no SQLite file is not touched."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StateStoreFailed) as refusal:
        SqliteState(path)
    assert str(path) in refusal.value.message
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file where a folder should be: a plain error, not a traceback of the operating system's."""
    (tmp_path / "file").touch()
    with pytest.raises(StateStoreFailed, match="cannot write the state"):
        SqliteState(tmp_path / "file" / "state.db")


WRITE = """
import sys
from pathlib import Path
from segue.model import Quarantined, Range, Reason
from segue.state.sqlite_state import SqliteState
state = SqliteState(Path(sys.argv[1]))
run = state.latest("films") or state.begin("films", {}, "t", [Range(0, None, None, 0)], [])
start = state.progress(run)[0].migrated
for number in range(start + 1, start + 1_000_000):
    rows = [Quarantined("4:x:1", number, Reason.ZERO_NORM, "-") for _ in range(number % 5)]
    state.advance(run, 0, number, 1, rows, done=False)
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_acknowledged(path: Path) -> None:
    """Killed while it writes, five times: all that advance returned from is there, and every record is whole."""
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITE, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline()]
        time.sleep(random.uniform(0.0, 0.15))  # no secret
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.communicate()[0].splitlines()
        last = int([line for line in acknowledged if line.strip()][-1])
        with SqliteState(path) as state:
            run = state.latest("films")
            assert run is not None
            (progress,) = state.progress(run)
            assert progress.migrated in (last, last + 1)
            assert progress.cursor == progress.migrated
            expected = [number for number in range(1, progress.migrated + 1) for _ in range(number % 5)]
            assert [row.key for row in state.quarantine(run)] == expected
