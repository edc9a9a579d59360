"""The same questions to both stores by their plain clients, and how near to the truth each comes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from segue.demo.application import Answer, FilmService, median_milliseconds
from segue.demo.films import Question, films, questions
from segue.model import Metric
from segue.pipelines.scores import neo4j_score

SHOWN = 2
"""Questions whose answers are printed; all are asked."""

TOP = 3


def ask_both(service: FilmService, console: Console) -> None:
    """Ask every question of both stores, print some answers, and say how good and how quick they are."""
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
            console.print(_table(question, ours, theirs))
    vector = asked[0].vector
    slow = median_milliseconds(lambda: service.ask_neo4j(vector, TOP))
    fast = median_milliseconds(lambda: service.ask_milvus(vector, TOP))
    console.print(
        f"  {len(asked)} questions, {TOP} films each. Of the {TOP * len(asked)} truly nearest of all, computed one by one,\n"
        f"  Neo4j's index finds {right['Neo4j']}, Milvus's {right['Milvus']} (both are approximate).\n"
        f"  Scores of films that both found differ by at most {worst:.6f}, with Milvus's cosine c shown as (1 + c) / 2.\n"
        f"  Median answer, nobody else writing: Neo4j {slow:.1f} ms, Milvus {fast:.1f} ms.",
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


def _table(question: Question, ours: list[Answer], theirs: list[Answer]) -> Table:
    table = Table(
        "Neo4j", "score", "Milvus", "score", title=f"“{question.text}”", title_justify="left", box=None, padding=(0, 2)
    )
    for left, right in zip(ours, theirs, strict=True):
        table.add_row(f"{left.title} ({left.year})", f"{left.score:.4f}", f"{right.title} ({right.year})", f"{right.score:.4f}")
    return table
