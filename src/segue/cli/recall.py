"""What a check of the searches came to, for people and for programs; a part of what `segue validate` says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from segue.cli.output import Listing
from segue.model import Asked, Recall
from segue.phases.search_check import Outcome


def facts(outcome: Outcome) -> list[tuple[str, str]]:
    """Return label and value, for people."""
    worst = outcome.worst
    where = f" under {worst.form}" if worst.form else ""
    wanted = f"{outcome.least_recall:.1%} are wanted: {'enough' if outcome.enough else 'not enough'}"
    loaded = ", after the collection was loaded anew" if outcome.reloaded else ""
    return [
        ("searches", f"{outcome.questions:,} vectors, k {outcome.k}, against {outcome.scored:,} exact scores{loaded}"),
        ("recall of Milvus", f"{worst.milvus.mean:.2%}{where}; {wanted}"),
    ]


def listings(outcome: Outcome) -> list[Listing]:
    """Return tables, for people."""
    rows = [row for one in outcome.asked for row in (_row(one, "Neo4j", one.neo4j), _row(one, "Milvus", one.milvus))]
    headings = ("searches", "of", "recall", "at least", "worst", "score error", "p50 ms", "p95 ms")
    title = f"share of the {outcome.k} truly nearest that was found; at least: of all such searches, with 95 % confidence"
    found = [Listing(title, headings, rows)]
    poor = [
        (one.form or "no filter", each.question, f"{each.recall:.1%}", ", ".join(map(str, each.missed[:3])))
        for one in outcome.asked
        for each in one.poor
    ]
    if poor:
        found.append(Listing("what Milvus missed most of", ("under", "the vector of", "found", "missed, the nearest"), poor))
    return found


def data(outcome: Outcome) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "questions": outcome.questions,
        "k": outcome.k,
        "scored": outcome.scored,
        "reloaded": outcome.reloaded,
        "least_recall": outcome.least_recall,
        "enough": outcome.enough,
        "good": outcome.good,
        "seconds": round(outcome.seconds, 3),
        "asked": [
            {
                "filter": one.form,
                "neo4j": asdict(one.neo4j),
                "milvus": asdict(one.milvus),
                "unjudged": one.unjudged,
                "empty": one.empty,
                "poor": [{"question": each.question, "recall": each.recall, "missed": list(each.missed)} for each in one.poor],
            }
            for one in outcome.asked
        ],
        "notes": list(outcome.notes),
    }


def shortfall(outcome: Outcome) -> str:
    """Say in a few words what is missing; only of a check that did not come out good."""
    worst = outcome.worst
    where = f" under {worst.form}" if worst.form else ""
    if worst.milvus.mean < outcome.least_recall:
        return f"Milvus finds {worst.milvus.mean:.2%} of what is nearest{where}, {outcome.least_recall:.2%} are wanted"
    unjudged = max(one.unjudged for one in outcome.asked)
    return f"{unjudged:,} of {outcome.questions:,} searches are without a verdict"


def _row(one: Asked, store: str, recall: Recall) -> tuple[str, ...]:
    return (
        one.form or "no filter",
        store,
        f"{recall.mean:.2%}",
        f"{recall.bound:.2%}",
        f"{recall.least:.1%}",
        f"{recall.score_error:.2g}",
        f"{1000 * recall.median_seconds:.1f}",
        f"{1000 * recall.late_seconds:.1f}",
    )
