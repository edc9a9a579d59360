"""The steps of `segue demo`, in order, each said before it is done. Works on the sandbox's servers and nowhere else.

The commands are the real ones, run as a person would run them, in a folder that stays for trying on.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import neo4j
from pymilvus import MilvusClient
from rich.console import Console
from rich.table import Table

from segue import sandbox
from segue.demo.application import Answer, FilmService, median_milliseconds
from segue.demo.films import Film, Question, films, questions
from segue.errors import FatalError
from segue.model import Metric
from segue.pipelines.scores import neo4j_score

SHOWN = 4
"""Questions whose answers are printed; all are asked."""

TOP = 3

EVERY = 8
"""One film in so many has an editor at work on it."""

EDIT_SECONDS = 0.01

TRIGGER_SECONDS = 2.0
"""After which a dropped trigger is surely gone: twice the sandbox's refresh."""

TAKEN_OUT = frozenset(film.id for film in films()[: 2 * EVERY : EVERY])
"""Films that an editor takes out while everything is copied."""


def take(folder: Path, console: Console) -> None:
    """Give the tour.

    Args:
        folder: Where segue.toml and the state are written; what an earlier tour left there is replaced.
        console: Where the tour is told.

    Raises:
        SegueError: A server did not start, or a command failed.
    """
    console.rule("[bold]1  Real servers, on loopback")
    endpoints = sandbox.up(["neo4j", "milvus"], announce=lambda line: console.print(f"  {line}", markup=False))
    variables = sandbox.exports(endpoints)
    graph = neo4j.GraphDatabase.driver(
        variables["NEO4J_URI"],
        auth=(variables["NEO4J_USERNAME"], variables["NEO4J_PASSWORD"]),
        notifications_min_severity="OFF",
    )
    with graph:
        _forget_capture(graph)
        vectors = MilvusClient(variables["MILVUS_URI"], token=variables["MILVUS_TOKEN"])
        service = FilmService(graph, vectors)
        _application(service, console)
        _migration(service, folder, variables, console)
        _questions(service, console)
        vectors.close()
    _next_steps(folder, console)


def _forget_capture(graph: neo4j.Driver) -> None:
    """Take out what an earlier tour left: its trigger would mark what this one loads."""
    dropped = graph.execute_query("CALL apoc.trigger.dropAll('neo4j') YIELD name RETURN name", database_="system")
    if dropped.records:
        time.sleep(TRIGGER_SECONDS)
    graph.execute_query("MATCH (m:SegueMark|SegueControl|SegueLease|SegueRelay) DETACH DELETE m")


def _application(service: FilmService, console: Console) -> None:
    console.rule("[bold]2  An application: films in Neo4j, found by meaning")
    service.forget()
    loaded = films()
    service.load(loaded)
    broken = sum(film.broken is not None for film in loaded)
    console.print(
        f"  {len(loaded) - broken} films with a description each, embedded by all-MiniLM-L6-v2 (384 dimensions),\n"
        f"  under a vector index; and {broken} drafts that cannot be migrated as they are, as every real data set has some.",
        highlight=False,
    )
    console.print(_example(next(film for film in loaded if film.title == "WALL-E")), highlight=False)


def _example(film: Film) -> str:
    return f"  For example: [italic]{film.title}[/italic] ({film.year}): {film.description}"


def _migration(service: FilmService, folder: Path, variables: Mapping[str, str], console: Console) -> None:
    console.rule("[bold]3  The move, while editors keep writing")
    folder.mkdir(parents=True, exist_ok=True)
    for left in ("segue.toml", "segue-state.db", "segue-state.db-wal", "segue-state.db-shm", "quarantine-films.jsonl"):
        folder.joinpath(left).unlink(missing_ok=True)
    for command in ("init --index films", "capture install", "migrate-embeddings --dry-run"):
        _run(command, folder, variables, console)
    with Editors(service) as editors:
        _run("migrate-embeddings", folder, variables, console)
    _show_quarantine(folder, console)
    _run("relay --until-drained", folder, variables, console)
    held, different = service.differences()
    console.print(
        f"\n  Meanwhile two editors made {editors.edits:,} changes and took out {editors.removed} films, by the plain driver.\n"
        f"  Read from both stores one by one: Milvus holds {held:,} films, {different} differ from Neo4j.",
        highlight=False,
    )


class Editors:
    """Two threads that change descriptions and take out a film now and then; they know nothing of Segue."""

    def __init__(self, service: FilmService) -> None:
        self._service = service
        self._stop = threading.Event()
        known = [film for film in films() if film.broken is None][::EVERY]
        self._threads = [threading.Thread(target=self._work, args=(known[part::2],)) for part in range(2)]
        self.edits = self.removed = 0

    def __enter__(self) -> Self:
        """Begin to write."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, known: Sequence[Film]) -> None:
        for edit, film in enumerate(itertools.cycle(known)):
            if self._stop.is_set():
                return
            if film.id in TAKEN_OUT:
                self._service.remove(film.id)
                self.removed += edit < len(known)
            else:
                self._service.edit(film.id, f"{film.description} (Edit {edit}.)")
                self.edits += 1
            time.sleep(EDIT_SECONDS)


def _show_quarantine(folder: Path, console: Console) -> None:
    for line in folder.joinpath("quarantine-films.jsonl").read_text(encoding="utf-8").splitlines():
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _run(command: str, folder: Path, variables: Mapping[str, str], console: Console) -> None:
    console.print(f"\n[bold green]$[/bold green] segue {command}", highlight=False)
    words = [sys.executable, "-m", "segue", *shlex.split(command)]
    done = subprocess.run(words, cwd=folder, env={**os.environ, **variables}, check=False)  # noqa: S603  # our own command
    if done.returncode:
        message = f"`segue {command}` ended with exit code {done.returncode}"
        raise FatalError(message, hint="Its own message above says why; `segue sandbox down` gives a clean start.")


def _questions(service: FilmService, console: Console) -> None:
    console.rule("[bold]4  The same questions to both stores")
    asked = questions()
    known = {(film.title, film.year): film.vector for film in films() if film.vector is not None and film.broken is None}
    right = {"Neo4j": 0, "Milvus": 0}
    worst = 0.0
    for number, question in enumerate(asked):
        ours, theirs = _answers(service, question)
        exact = set(sorted(known, key=lambda film: -float(known[film] @ question.vector))[:TOP])
        for store, answers in (("Neo4j", ours), ("Milvus", theirs)):
            right[store] += len(exact & {(answer.title, answer.year) for answer in answers})
        worst = max([worst, *_score_differences(ours, theirs)])
        if number < SHOWN:
            console.print(_side_by_side(question, ours, theirs))
    vector = asked[0].vector
    slow = median_milliseconds(lambda: service.ask_neo4j(vector, TOP))
    fast = median_milliseconds(lambda: service.ask_milvus(vector, TOP))
    console.print(
        f"  {len(asked)} questions, {TOP} films each. Of the {TOP * len(asked)} truly nearest, computed one by one,\n"
        f"  Neo4j's index finds {right['Neo4j']}, Milvus's {right['Milvus']} (both are approximate).\n"
        f"  Scores of films that both found differ by at most {worst:.6f}, with Milvus's cosine c shown as (1 + c) / 2.\n"
        f"  Median answer: Neo4j {slow:.1f} ms, Milvus {fast:.1f} ms.",
        highlight=False,
    )


def _answers(service: FilmService, question: Question) -> tuple[list[Answer], list[Answer]]:
    theirs = [
        Answer(answer.title, answer.year, neo4j_score(Metric.COSINE, answer.score))
        for answer in service.ask_milvus(question.vector, TOP)
    ]
    return service.ask_neo4j(question.vector, TOP), theirs


def _score_differences(ours: list[Answer], theirs: list[Answer]) -> list[float]:
    scores = {(answer.title, answer.year): answer.score for answer in theirs}
    places = [((answer.title, answer.year), answer.score) for answer in ours]
    return [abs(score - scores[place]) for place, score in places if place in scores]


def _side_by_side(question: Question, ours: list[Answer], theirs: list[Answer]) -> Table:
    table = Table(
        "Neo4j", "score", "Milvus", "score", title=f"“{question.text}”", title_justify="left", box=None, padding=(0, 2)
    )
    for left, right in zip(ours, theirs, strict=True):
        table.add_row(f"{left.title} ({left.year})", f"{left.score:.4f}", f"{right.title} ({right.year})", f"{right.score:.4f}")
    return table


def _next_steps(folder: Path, console: Console) -> None:
    console.rule("[bold]What to try next")
    steps = [
        (f'cd {folder} && eval "$(segue sandbox env)"', "the servers still run; this points your shell at them"),
        ("segue migrate-embeddings", "nothing is left to do, and it says so"),
        ("segue migrate-embeddings --restart --format json", "copy again; no row is doubled"),
        ("segue relay", "change a film in Neo4j, and Milvus follows"),
        ("less segue.toml", "what init found, and what can be set"),
        ("segue sandbox down", "end the servers"),
    ]
    if shutil.which("segue") is None:
        steps.insert(0, (f'export PATH="{Path(sys.executable).parent}:$PATH"', "so that the shell finds segue"))
    width = max(len(command) for command, _ in steps)
    for command, reason in steps:
        console.print(f"  {command:<{width}}   {reason}", markup=False, highlight=False, soft_wrap=True)
