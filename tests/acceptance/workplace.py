"""A folder in which a test drives Segue as its users do: a process for every command, a configuration file, real servers.

Owns the label, the collection and the files it works with, and removes what it made in both stores. Reads the stores with
their plain drivers only, so that nothing of the product vouches for itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neo4j import Driver, GraphDatabase
from pymilvus import MilvusClient

from acceptance.warm import Warm
from segue.sandbox import Endpoint

STATE = "segue-state.db"
COMMAND = (sys.executable, "-m", "segue")
_OWN_VARIABLES = ("NEO4J_", "MILVUS_", "SEGUE_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "TTY_")


LONG = 120.0
"""Seconds that anything may take on a busy machine. Who waits goes on when it is there, so patience costs nothing."""

OURS = "SegueMark|SegueControl|SegueEvent|SegueLease|SegueRelay|SegueInstance|SegueCanary"
"""The labels of what Segue keeps in Neo4j beside the items."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """What it printed on stdout, read as JSON."""
        read: dict[str, Any] = json.loads(self.out)
        return read


@dataclass(frozen=True, slots=True)
class RangeRecord:
    """A range of keys and how far it has come, as recorded."""

    after: Any
    until: Any
    cursor: Any
    done: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the state file says about the newest run.

    Attributes:
        counts: Planned, migrated, quarantined, by name, summed over the ranges.
        ranges: Every range over keys.
    """

    counts: Mapping[str, int]
    ranges: list[RangeRecord]


class Started:
    """A command that runs in the background, its streams kept in files."""

    def __init__(
        self, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], stdin: int = subprocess.DEVNULL
    ) -> None:
        self._out, self._err = (folder / f".{uuid.uuid4().hex}.{name}" for name in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = Warm(arguments, folder, environment, (stdin, out.fileno(), err.fileno()))

    @property
    def said(self) -> str:
        """What it has said on stderr up to now."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def printed(self) -> str:
        """What it has printed on stdout up to now."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def await_words(self, words: str, seconds: float = LONG) -> None:
        """Wait until it has said these words on stderr."""
        eventually(lambda: words in self.said or self.process.poll() is not None, seconds)
        if words in self.said:
            return
        code = self.process.poll()
        how = f"had not said {words!r} after {seconds:g} s" if code is None else f"ended with {code} before it said {words!r}"
        message = f"it {how}:\n{self._last_words()}"
        raise AssertionError(message)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        self.process.send_signal(number)

    def ended(self, seconds: float = LONG) -> Ended:
        """Wait for its end and remove its files; a command that does not end in time is killed and fails the test."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            message = f"still running after {seconds:g} s; it had said:\n{self._last_words()}"
            raise AssertionError(message) from None
        out, err = self._out.read_text(encoding="utf-8"), self.said
        self._out.unlink()
        self._err.unlink()
        return Ended(code, out, err)

    def _last_words(self) -> str:
        """End it, if it still runs, and return all it said, and where each of its threads was."""
        self.process.send_signal(signal.SIGABRT)
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.said


class Workplace:
    """One folder, one label, one collection name, on one Neo4j and one Milvus.

    Attributes:
        label: Of the test's nodes; unlike any other test's.
        collection: The collection's name; unlike any other test's, as are names that begin with it.
        driver, client: Plain drivers on the same servers.
    """

    def __init__(self, folder: Path, neo4j: Endpoint, milvus: Endpoint, driver: Driver, client: MilvusClient) -> None:
        mark = uuid.uuid4().hex[:12]
        self.folder = folder
        self.label, self.collection = f"Scratch{mark}", f"workplace_{mark}"
        self.neo4j, self.milvus = neo4j, milvus
        self.driver, self.client = driver, client
        self.token = f"{milvus.username}:{milvus.password}"
        self._started: list[Started] = []

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear nowhere."""
        return self.neo4j.password, self.milvus.password

    def environment(self, changes: Mapping[str, str | None] = {}) -> dict[str, str]:
        """Return this process's environment with the servers' addresses and secrets in it; None takes a name out."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_VARIABLES)}
        own = {
            "NEO4J_URI": self.neo4j.uri,
            "NEO4J_USERNAME": self.neo4j.username,
            "NEO4J_PASSWORD": self.neo4j.password,
            "MILVUS_URI": self.milvus.uri,
            "MILVUS_TOKEN": self.token,
            # What people read on a terminal, although there is none here.
            "SEGUE_LOG_FORMAT": "text",
        }
        return {name: value for name, value in {**inherited, **own, **changes}.items() if value is not None}

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL, **changes: str | None) -> Started:
        """Start a command in the folder; keyword arguments change its environment."""
        started = Started(arguments, self.folder, self.environment(changes), stdin)
        self._started.append(started)
        return started

    def segue(self, *arguments: str, **changes: str | None) -> Ended:
        """Run a command in the folder to its end; whatever it says, it tells no secret."""
        ended = self.start(*arguments, **changes).ended()
        for secret in self.secrets:
            assert secret not in ended.out + ended.err, "a secret was printed"
        return ended

    def migrate(self, *arguments: str, **changes: str | None) -> Ended:
        """Run `migrate-embeddings --format json` and check the account in its result, if it gives one."""
        ended = self.segue("migrate-embeddings", "--format", "json", *arguments, **changes)
        if ended.out:
            for counts in (ended.data["counts"], *(one["counts"] for one in ended.data["collections"])):
                assert counts["source"] == counts["migrated"] + counts["quarantined"] + counts["pending"]
        return ended

    def elsewhere(self, folder: Path) -> Workplace:
        """Return the same place with another folder; what is cleaned up stays the business of this one."""
        other = copy(self)
        other.folder = folder
        return other

    def configure(self, text: str) -> None:
        """Write segue.toml."""
        (self.folder / "segue.toml").write_text(text, encoding="utf-8")

    def rows(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a query on Neo4j; `LABEL` in it stands for the label."""
        text = cypher.replace("LABEL", f"`{self.label}`")
        return [list(record) for record in self.driver.execute_query(text, parameters, database_="neo4j").records]

    def note_preflight(self) -> None:
        """Note a preflight that passed, as `segue preflight` does, where a test is about something else."""
        text = "MERGE (c:SegueControl {collection: $name}) SET c.preflight_ok = true, c.preflight_warnings = 0"
        self.rows(f"{text}, c.preflight_at = timestamp()", name=self.collection)

    def record(self, path: str = STATE) -> Record | None:
        """Return what the state file says now, None before a run is recorded.

        Looks at a copy: opening the file itself would recover the log that a killed process left, which is Segue's to do.
        """
        state = self.folder / path
        peek = self.folder / ".peek"
        peek.mkdir(exist_ok=True)
        try:
            for suffix in ("", "-wal"):
                if state.with_name(STATE + suffix).exists():
                    shutil.copy(state.with_name(STATE + suffix), peek)
            with sqlite3.connect(peek / STATE) as connection:
                return _latest(connection)
        except sqlite3.DatabaseError:  # no table yet, or caught in the middle of a write
            return None
        finally:
            shutil.rmtree(peek)

    def clean(self) -> None:
        """End what still runs; remove the nodes, constraints, indexes, collections and aliases made under its names."""
        for started in self._started:
            started.process.kill()
            started.process.wait()
        self.forget()
        _remove_labels(self.rows, self.label)
        self.drop_collections()

    def forget(self) -> None:
        """Remove Segue's own nodes of the collections made under its name."""
        text = f"MATCH (n:{OURS}) WHERE n.collection STARTS WITH $name DETACH DELETE n"
        self.rows(text, name=self.collection)

    def drop_records(self) -> None:
        """Remove the state file and what lies beside it."""
        for file in (*self.folder.glob(f"{STATE}*"), *self.folder.glob("quarantine-*.jsonl")):
            file.unlink()

    def drop_collections(self) -> None:
        """Remove the collections and aliases made under its name."""
        for collection in self.client.list_collections():
            if collection.startswith(self.collection):
                for alias in self.client.describe_collection(collection)["aliases"]:
                    self.client.drop_alias(alias)
                self.client.drop_collection(collection)


@contextmanager
def workplace(folder: Path, neo4j: Endpoint, milvus: Endpoint) -> Iterator[Workplace]:
    """Give a place to work in, and clean up after it."""
    with ExitStack() as stack:
        driver = stack.enter_context(GraphDatabase.driver(neo4j.uri, auth=(neo4j.username, neo4j.password)))
        client = MilvusClient(milvus.uri, token=f"{milvus.username}:{milvus.password}")
        stack.callback(client.close)
        place = Workplace(folder, neo4j, milvus, driver, client)
        stack.callback(place.clean)
        yield place


def eventually(holds: Callable[[], bool], seconds: float = LONG) -> None:
    """Wait until something holds, or for so long; the caller asserts."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


def _remove_labels(rows: Callable[..., list[list[Any]]], prefix: str) -> None:
    schema = "YIELD name, labelsOrTypes WHERE any(one IN labelsOrTypes WHERE one STARTS WITH $prefix) RETURN name"
    for kind, kinds in (("CONSTRAINT", "CONSTRAINTS"), ("INDEX", "INDEXES")):
        # A constraint takes its index along, and must go first.
        for (name,) in rows(f"SHOW {kinds} {schema}", prefix=prefix):
            rows(f"DROP {kind} {quoted(name)} IF EXISTS")
    for (label,) in rows("CALL db.labels() YIELD label WHERE label STARTS WITH $prefix RETURN label", prefix=prefix):
        rows(f"MATCH (n:{quoted(label)}) DETACH DELETE n")


def quoted(name: str) -> str:
    """Return a name quoted for Cypher, written here anew so that the product's own quoting is checked, not used."""
    return "`" + name.replace("\\u", "\\u005cu").replace("`", "``") + "`"


def _latest(connection: sqlite3.Connection) -> Record | None:
    (number,) = connection.execute("SELECT max(number) FROM run").fetchone()
    if number is None:
        return None
    query = "SELECT planned, migrated, keyed, done, after_key, until_key, cursor FROM range WHERE run = ?"
    ranges = connection.execute(query, (number,)).fetchall()
    (quarantined,) = connection.execute("SELECT count(*) FROM quarantine WHERE run = ?", (number,)).fetchone()
    counts = {"planned": sum(one[0] for one in ranges), "migrated": sum(one[1] for one in ranges), "quarantined": quarantined}
    keyed = [RangeRecord(*map(_key, one[4:]), done=bool(one[3])) for one in ranges if one[2]]
    return Record(counts, keyed)


def _key(text: str | None) -> Any:
    return None if text is None else json.loads(text)
