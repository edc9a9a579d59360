"""The steps of `segue demo`, in order, each said before it is done. Works on the sandbox's servers and nowhere else.

The commands are the real ones, run as a person would run them, in a folder that stays for trying on. The users meanwhile are
in `traffic.py`; the steps about an agent's state are in `agent_tour.py`.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import neo4j
from pymilvus import MilvusClient
from rich.console import Console
from rich.table import Table

import segue
from segue import StorageMode, StoreName, sandbox
from segue.demo import agent_tour, side_by_side
from segue.demo.application import FilmService
from segue.demo.commands import Shell
from segue.demo.films import Film, films, questions
from segue.demo.traffic import DRIVER, LOOKED, STORE, Traffic
from segue.errors import FatalError

EVERY = 8
"""One film in so many has an editor at work on it."""

SEARCHES = 50
"""How many searches a step waits for before it says how they went."""

PATIENCE_SECONDS = 120.0
"""For anything that a step waits for; a slow machine takes longer than two quick cores, by far not as long as this."""

TRIES = 3
"""How often Milvus's answers may be found too slow."""

TRIGGER_SECONDS = 2.0
"""After which a dropped trigger is surely gone: twice the sandbox's refresh."""

LEFT = (
    "segue.toml",
    "segue-state.db",
    "segue-state.db-wal",
    "segue-state.db-shm",
    "quarantine-films.jsonl",
    "quarantine-agentdb.jsonl",
    "application.log",
)

LINES = 3
"""Lines shown of what a mode change prints."""

VERDICT_LINES = 12
"""Lines shown of what a validation prints."""

FOR_THE_TOUR = """
# For the tour: Milvus is killed, and a request that it left unanswered counts as settled sooner than usual (90 s); and a laptop
# with everything on it may be slow. There are few searches, so that all of them are compared before Milvus answers for good.
[relay]
landing_seconds = 10
lease_seconds = 30

[search]
milvus_seconds = 5
fence_seconds = 3
shadow_rate = 1
"""


def take(folder: Path, console: Console) -> None:
    """Give the tour.

    Args:
        folder: Where segue.toml and the state are written; what an earlier tour left there is replaced.
        console: Where the tour is told.

    Raises:
        SegueError: A server did not start, a command failed, a user saw a fault, or a film differs.
    """
    console.rule("[bold]1  Real servers, on loopback")
    endpoints = sandbox.up(["neo4j", "milvus"], announce=lambda line: console.print(f"  {line}", markup=False))
    variables = sandbox.exports(endpoints)
    # Where commands and library look for addresses and secrets.
    os.environ.update(variables)
    # What commands say is shown to people, but goes through files and pipes.
    os.environ.setdefault("SEGUE_LOG_FORMAT", "text")
    graph = neo4j.GraphDatabase.driver(
        variables["NEO4J_URI"],
        auth=(variables["NEO4J_USERNAME"], variables["NEO4J_PASSWORD"]),
        notifications_min_severity="OFF",
    )
    vectors = MilvusClient(variables["MILVUS_URI"], token=variables["MILVUS_TOKEN"])
    folder.mkdir(parents=True, exist_ok=True)
    for left in LEFT:
        folder.joinpath(left).unlink(missing_ok=True)
    with graph, _logged(folder / "application.log"):
        _forget(graph)
        service = FilmService(graph, vectors)
        tour = Tour(service, folder, console)
        tour.application()
        tour.move()
        tour.compare()
        vectors.close()
        further = agent_tour.take(folder, console)
    _next_steps(folder, console, further)


class Tour:
    """The steps that are about the films, to be taken in order.

    Args:
        service: The application, by plain drivers.
        folder: Where the commands run.
        console: Where the tour is told.
    """

    def __init__(self, service: FilmService, folder: Path, console: Console) -> None:
        self._service = service
        self._folder = folder
        self._console = console
        self._shell = Shell(folder, console)
        self._films = films()

    def application(self) -> None:
        """Load the films."""
        self._console.rule("[bold]2  An application: films in Neo4j, found by meaning")
        self._service.forget()
        self._service.load(self._films)
        broken = sum(film.broken is not None for film in self._films)
        self._say(
            f"{len(self._films) - broken} films with a description each, embedded by all-MiniLM-L6-v2 (384 dimensions),",
            f"under a vector index; and {broken} drafts that cannot be migrated as they are, as every real data set has some.",
        )
        self._console.print(_example(next(film for film in self._films if film.title == "WALL-E")), highlight=False)

    def move(self) -> None:
        """Move them, with users at work from before the first command until after the last."""
        self._console.rule("[bold]3  One line changes in the application")
        self._shell.run("init --index films")
        self._set_times()
        self._say(
            "",
            "The application's one new line, which stays as it is through everything that follows:",
            f'    store = segue.connect("{self._folder / "segue.toml"}")',
            "From now until the end a reader asks it the questions, again and again, and two editors work on the films:",
            "one by the plain driver, who knows nothing of Segue, one by store.upsert and store.delete. Both write new films",
            "and look for them at once, then take them out and look again. No call is tried twice.",
        )
        edited = [film for film in self._films if film.broken is None][::EVERY]
        with segue.connect(self._folder / "segue.toml") as store, Traffic(self._service, store, edited, questions()) as traffic:
            self._seen(traffic, StorageMode.NEO4J_ONLY, StoreName.NEO4J)
            self._copy(traffic)
            with self._shell.relay() as relay:
                self._switch(traffic)
                self._outage(traffic)
                self._way_back(traffic)
                self._console.rule("[bold]8  The editors go home, and both stores are compared")
                traffic.end_edits()
                relay.end()
            self._proof(traffic)
        traffic.tally.require_sound()

    def compare(self) -> None:
        """Ask both stores the same."""
        self._console.rule("[bold]9  The same questions to both stores, by their plain clients")
        side_by_side.ask_both(self._service, self._console)

    def _set_times(self) -> None:
        """Shorten the times that only count when Milvus dies with requests in hand, which it will."""
        path = self._folder / "segue.toml"
        text = path.read_text(encoding="utf-8").replace("[milvus]\n", "[milvus]\nrequest_timeout_seconds = 5\n", 1)
        path.write_text(text + FOR_THE_TOUR, encoding="utf-8")

    def _copy(self, traffic: Traffic) -> None:
        self._console.rule("[bold]4  Every change is marked, then everything is copied")
        self._shell.run_briefly("preflight", LINES)
        self._shell.run("capture install")
        self._shell.run_briefly("mode set dual_write", LINES)
        self._shell.run("migrate-embeddings")
        for line in self._folder.joinpath("quarantine-films.jsonl").read_text(encoding="utf-8").splitlines():
            self._console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        self._seen(traffic, StorageMode.DUAL_WRITE, StoreName.NEO4J)

    def _switch(self, traffic: Traffic) -> None:
        self._console.rule("[bold]5  Milvus answers, step by step")
        self._shell.run("mode show")

        def stepped_back() -> bool:
            return traffic.mode is StorageMode.DUAL_WRITE

        for _ in range(TRIES):
            self._shell.run_briefly("validate", VERDICT_LINES)
            self._set(StorageMode.SHADOW_MILVUS, hopeless=lambda: False)
            self._seen(traffic, StorageMode.SHADOW_MILVUS, StoreName.MILVUS, unless=stepped_back)
            if self._set(StorageMode.HYBRID, hopeless=stepped_back):
                self._seen(traffic, StorageMode.HYBRID, StoreName.MILVUS)
                return
            self._say("Too many answers of Milvus came too late on this busy machine: the store stepped back by itself. Again:")
        message = f"the store stepped back from shadow_milvus by itself {TRIES} times"
        raise FatalError(message, hint="application.log in the demo's folder says why. Is the machine very busy?")

    def _set(self, mode: StorageMode, *, hopeless: Callable[[], bool]) -> bool:
        return self._shell.run_when_allowed(f"mode set {mode}", LINES, PATIENCE_SECONDS, hopeless=hopeless)

    def _outage(self, traffic: Traffic) -> None:
        self._console.rule("[bold]6  Milvus is killed")
        milvus = sandbox.running()["milvus"]
        before = len(traffic.tally.searches())
        self._shell.show(f"kill -9 {milvus.pid}")
        os.kill(milvus.pid, signal.SIGKILL)
        died = time.monotonic()
        traffic.until(
            lambda tally: tally.answered_by(StoreName.NEO4J, before) >= SEARCHES and "milvus" not in sandbox.running(),
            PATIENCE_SECONDS,
            "searches answered by Neo4j although Milvus is dead",
        )
        self._say(f"Neo4j has answered {SEARCHES} searches since. Now Milvus is started again, with its data:")
        sandbox.up(["milvus"], announce=lambda line: self._console.print(f"  {line}", markup=False))
        self._say(
            "It loads its collection again, which may take it half a minute; the store finds out by a search now and then:"
        )
        back = len(traffic.tally.searches())
        traffic.until(
            lambda tally: tally.answered_by(StoreName.MILVUS, back) >= SEARCHES,
            PATIENCE_SECONDS,
            "searches answered by Milvus after it was started again",
        )
        seconds = time.monotonic() - died
        ours, theirs = (traffic.tally.answered_by(store, before) for store in (StoreName.NEO4J, StoreName.MILVUS))
        self._say(f"In these {seconds:.0f} s Neo4j answered {ours:,} searches, Milvus {theirs:,}, and none failed.")

    def _proof(self, traffic: Traffic) -> None:
        self._say(
            "", "What Milvus had not answered when it died counts as unknown, and was made equal once more. Is anything left?"
        )
        self._shell.run("relay --until-drained")
        held, different = self._service.differences()
        if different:
            message = f"{len(different)} of {held} films differ between the stores: {', '.join(different[:5])}"
            raise FatalError(message, hint="None was expected. relay.log in the demo's folder says more.")
        driver, store = traffic.tally.done(DRIVER), traffic.tally.done(STORE)
        self._say(
            "",
            f"Two editors wrote {driver + store:,} times: {driver:,} by the plain driver, {store:,} by the store.",
            "Every film was read from both stores and compared, each property and each element of the vector:",
            f"Milvus holds {held:,} films, {len(different)} differ from Neo4j.",
        )

    def _way_back(self, traffic: Traffic) -> None:
        self._console.rule("[bold]7  One command back, from any mode, with everybody at work")
        self._shell.run("rollback --confirm --reason 'to show the way back'")
        returned = len(traffic.tally.searches())
        traffic.until(
            lambda tally: len(tally.searches(returned)) >= SEARCHES, PATIENCE_SECONDS, "searches after the mode was set back"
        )
        # One may have been on its way when the command ended.
        late = traffic.tally.answered_by(StoreName.MILVUS, returned + 1)
        if late:
            message = f"{late} searches were answered by Milvus after the way back"
            raise FatalError(message)
        self._report(traffic)
        self._say("Nothing was copied for it: Neo4j is complete in every mode. The trigger and the relay go on all the same.")

    def _seen(
        self, traffic: Traffic, mode: StorageMode, store: StoreName, *, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until users have seen a mode at work, then say what they saw so far."""
        before = len(traffic.tally.searches())
        traffic.until(
            lambda tally: (
                sum(search.mode is mode and search.store is store for search in tally.searches(before)) >= SEARCHES or unless()
            ),
            PATIENCE_SECONDS,
            f"searches in {mode} answered by {store}",
        )
        self._report(traffic)

    def _report(self, traffic: Traffic) -> None:
        table = Table("searches so far", "by Neo4j", "by Milvus", "median ms", box=None, padding=(0, 2))
        for column in table.columns[1:]:
            column.justify = "right"
        for mode, ours, theirs, median in traffic.tally.by_mode():
            table.add_row(f"in {mode}", f"{ours:,}", f"{theirs:,}", f"{median:.1f}")
        self._console.print()
        self._console.print(table)
        looked, faults = traffic.tally.done(LOOKED), traffic.tally.faults
        self._say(f"{looked:,} of them {LOOKED}, and saw it right. Calls that failed, and wrong answers: {faults}.")

    def _say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(f"  {line}" if line else "", markup=False, highlight=False, soft_wrap=True)


def _forget(graph: neo4j.Driver) -> None:
    """Take out what an earlier tour left: its trigger would mark what this one loads, its mode would be this one's."""
    installed = graph.execute_query("CALL apoc.trigger.show('neo4j') YIELD name RETURN name", database_="system").records
    if "segue_films" in [row["name"] for row in installed]:
        graph.execute_query("CALL apoc.trigger.drop('neo4j', 'segue_films') YIELD name RETURN name", database_="system")
        time.sleep(TRIGGER_SECONDS)
    graph.execute_query(
        "MATCH (n:SegueMark|SegueControl|SegueEvent|SegueLease|SegueRelay|SegueInstance {collection: 'films'}) DETACH DELETE n"
    )


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Let what the library logs go to a file, as a service would have it, and not between the lines of the tour."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    log = logging.getLogger("segue")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        handler.close()


def _example(film: Film) -> str:
    return f"  For example: [italic]{film.title}[/italic] ({film.year}): {film.description}"


def _next_steps(folder: Path, console: Console, further: Sequence[tuple[str, str]]) -> None:
    console.rule("[bold]What to try next")
    steps = [
        (f'cd {folder} && eval "$(segue sandbox env)"', "the servers still run; this points your shell at them"),
        ("segue mode set dual_write", "forward again: the copy still counts, since the trigger never stopped marking"),
        ("segue relay", "change a film in Neo4j, and Milvus follows"),
        ("segue migrate-embeddings --restart --format json", "copy again; no row is doubled"),
        *further,
        ("less segue.toml application.log", "what init found and can be set; what the application logged when Milvus died"),
        ("segue sandbox down", "end the servers"),
    ]
    if shutil.which("segue") is None:
        steps.insert(0, (f'export PATH="{Path(sys.executable).parent}:$PATH"', "so that the shell finds segue"))
    width = max(len(command) for command, _ in steps)
    for command, reason in steps:
        console.print(f"  {command:<{width}}   {reason}", markup=False, highlight=False, soft_wrap=True)
