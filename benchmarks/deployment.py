"""A service that is being moved, as `live.py` measures it: items in Neo4j under a vector index, Segue's commands, its library.

Every command is a process, run as its operator runs it. Knows no contender and no clock.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil
from neo4j import Driver
from prometheus_client import CollectorRegistry
from pymilvus import MilvusClient

import items
import segue
from contender import DATABASE, opened
from segue import DualWriteStore, StorageMode
from segue.sandbox import Endpoint

COLLECTION = "bench_items"
"""The vector index, and so what `segue init` calls the collection."""

GATE_REFUSED = 5
"""The exit code of a command that a gate stopped."""

PATIENCE_SECONDS = 900.0
"""How long building an index, or opening the gates before a mode, may take."""

TRIGGER_SECONDS = 2.5
"""How long a trigger that was taken out may go on: APOC looks for changes once a second here."""

_INDEX = f"""
CREATE VECTOR INDEX {COLLECTION} FOR (n:{items.LABEL}) ON n.embedding
OPTIONS {{indexConfig: {{`vector.dimensions`: $dimension, `vector.similarity_function`: 'cosine'}}}}
"""


class Deployment:
    """The service and its migration; begins anew whatever was there before.

    Args:
        driver, client: Connected to the servers that the environment names.
        folder: Where `segue.toml`, the state and the relay's log are.
        count, dimension: The items.
        announce: Is told what takes long.
    """

    def __init__(self, driver: Driver, client: MilvusClient, folder: Path, count: int, dimension: int, announce: Any) -> None:
        self.driver = driver
        self.client = client
        self.count = count
        self.dimension = dimension
        self.announce = announce
        self.mode = StorageMode.NEO4J_ONLY
        self.config = folder / "segue.toml"
        self._relay_log = folder / "relay.log"
        self._is_captured = False

    @classmethod
    @contextmanager
    def opened(cls, servers: Mapping[str, Endpoint], folder: Path, count: int, dimension: int, announce: Any) -> Iterator[Self]:
        """Connect, forget what an earlier run left, and load the items and their vector index."""
        with opened(servers) as (driver, client):
            one = cls(driver, client, folder, count, dimension, announce)
            one._forget()
            one._load()
            one.configure()
            yield one

    def _forget(self) -> None:
        for name in self.client.list_collections():
            if COLLECTION in self.client.list_aliases(name)["aliases"]:
                self.client.drop_alias(COLLECTION)
                self.client.drop_collection(name)
        with self.driver.session(database="system") as session:
            for (name,) in session.run("CALL apoc.trigger.show('neo4j') YIELD name RETURN name").values():
                session.run("CALL apoc.trigger.drop('neo4j', $name)", name=name).consume()
        self.rows(f"DROP INDEX {COLLECTION} IF EXISTS")
        self.rows("MATCH (n) WHERE n:SegueMark OR n:SegueControl CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")
        with self.driver.session(database=DATABASE) as session:
            items.clean(session)

    def _load(self) -> None:
        with self.driver.session(database=DATABASE) as session:
            items.load(session, self.count, self.dimension, self.announce)
        self.announce("Neo4j builds its vector index")
        began = time.monotonic()
        self.rows(_INDEX, dimension=self.dimension)
        look = "SHOW INDEXES YIELD name, state WHERE name = $name RETURN state"
        while self.rows(look, name=COLLECTION) != [["ONLINE"]]:
            if time.monotonic() - began > PATIENCE_SECONDS:
                message = f"the vector index is not online after {PATIENCE_SECONDS:g} s"
                raise SystemExit(message)
            time.sleep(1.0)
        self.announce(f"the vector index took {time.monotonic() - began:.0f} s")

    def configure(self, **search: int) -> None:
        """Write the configuration as `segue init` does, with these settings of `[search]`."""
        self.run("init", "--no-input", "--force", "--index", COLLECTION)
        lines = "".join(f"{name} = {value}\n" for name, value in search.items())
        with self.config.open("a", encoding="utf-8") as file:
            file.write(f"\n[search]\n{lines}")

    def rows(self, cypher: str, **parameters: Any) -> list[list[Any]]:
        """Run a query outside of what is measured."""
        with self.driver.session(database=DATABASE) as session:
            return session.run(cypher, parameters).values()

    def run(self, *words: str, may_refuse: bool = False) -> dict[str, Any]:
        """Run one of Segue's commands, and return its JSON.

        Raises:
            SystemExit: It failed; what it said is on standard error. Where it may be refused, a closed gate is no failure.
        """
        command = [*_SEGUE, *words, "--config", str(self.config), "--format", "json"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=self.config.parent, check=False)
        if ended.returncode and not (may_refuse and ended.returncode == GATE_REFUSED):
            print(ended.stderr, file=sys.stderr)
            message = f"segue {shlex.join(words)} failed with exit code {ended.returncode}"
            raise SystemExit(message)
        result: dict[str, Any] = json.loads(ended.stdout)
        return result

    def reach(self, mode: StorageMode) -> None:
        """Go forward to a mode, one after the other; a gate that is closed is opened by the command that it names."""
        while self.mode.rank < mode.rank:
            self.set_mode(list(StorageMode)[self.mode.rank + 1])

    def set_mode(self, mode: StorageMode) -> None:
        """Change the storage mode; forward by one, or back."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.mode is not mode:
            # Users' searches are what is measured later: none was compared yet.
            passing = ("--override", "shadow", "--reason", "a benchmark") if mode is StorageMode.HYBRID else ()
            said = self.run("mode", "set", mode, *passing, may_refuse=True)
            if said["status"] == "ok":
                self.mode = mode
                return
            (one,) = said["collections"]
            closed = next(gate for gate in one["next"]["gates"] if not gate["holds"])
            if time.monotonic() > until:
                message = f"gate {closed['name']} before {mode} stays closed: {closed['evidence']}"
                raise SystemExit(message)
            self._obey(closed["command"])

    def _obey(self, command: str) -> None:
        self.announce(f"a gate says: {command}")
        program, *words = shlex.split(command)
        began = time.monotonic()
        if program == "sleep":
            time.sleep(float(words[0]))
        else:
            self.run(*words)
            self.announce(f"that took {time.monotonic() - began:.0f} s")

    def capture(self, *, by_trigger: bool) -> None:
        """Put the trigger in, or take it out; wait until that is so."""
        if by_trigger and not self._is_captured:
            self.run("capture", "install")
        elif self._is_captured and not by_trigger:
            self.run("capture", "remove")
            time.sleep(TRIGGER_SECONDS)
        self._is_captured = by_trigger

    @contextmanager
    def relay(self) -> Iterator[psutil.Process]:
        """Let a relay run as a process of its own; afterwards it makes equal what is dirty, and ends.

        Raises:
            SystemExit: It does not begin, or ends by itself.
        """
        with self._relay_log.open("wb") as log:
            process = subprocess.Popen(
                [*_SEGUE, "relay", "--config", str(self.config)], stdout=log, stderr=log, cwd=self.config.parent
            )
            try:
                until = time.monotonic() + 60
                while b"backlog" not in self._relay_log.read_bytes():
                    if process.poll() is not None or time.monotonic() > until:
                        message = f"the relay does not run:\n{self._relay_log.read_text()}"
                        raise SystemExit(message)
                    time.sleep(0.1)
                yield psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait(300)

    @contextmanager
    def store(self) -> Iterator[tuple[DualWriteStore, CollectorRegistry]]:
        """Open the library's store as an application does, with metrics of its own."""
        registry = CollectorRegistry()
        with segue.connect(self.config, registry=registry) as store:
            yield store, registry


_SEGUE = (sys.executable, "-m", "segue")


def fallbacks(registry: CollectorRegistry) -> int:
    """Return how many searches Neo4j answered although Milvus should have."""
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return int(sum(one.value for one in samples if one.name == "segue_search_fallbacks_total"))


def await_equal(store: DualWriteStore, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the relay has left nothing dirty.

    Raises:
        SystemExit: It did not get there.
    """
    until = time.monotonic() + seconds
    while (left := store.pending()).dirty or left.tainted:
        if time.monotonic() > until:
            message = f"{left.dirty} keys are still dirty, {left.tainted} tainted, after {seconds:g} s"
            raise SystemExit(message)
        time.sleep(0.05)
