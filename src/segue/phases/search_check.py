"""The search check: how much of what is truly nearest each store finds, as the application asks. Begin reading at `run`.

Neo4j's index is approximate as Milvus's is, so that neither is the other's measure: the truth is the score of every item,
worked out here from the source's own vectors, a block at a time. Beside writers, a key that is being changed, or that a search
of Milvus need not show yet, is left out of the judgement, on both sides. Knows ports only, and compares no rows.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Protocol

import numpy as np

from segue.errors import ConfigError, Interrupted, ModeRefused
from segue.model import (
    Asked,
    Control,
    Encoded,
    EventKind,
    Filter,
    Key,
    Layout,
    Page,
    Poor,
    Range,
    Recall,
    Searched,
    SourceSpec,
)
from segue.pipelines.confidence import least_mean
from segue.pipelines.embeddings import Codec
from segue.pipelines.filters import matches
from segue.pipelines.recall import Answer, TrulyNearest, judged
from segue.pipelines.scores import exact_scores, exact_scores_of_all
from segue.pipelines.values import plain_properties
from segue.ports import Candidates, ControlNode, Journal, Marks, Nearest, Source, SourceSide, Standing, Vector

MOST_ROWS = 1_000
BLOCK_BYTES = 4 << 20
"""Items a block, and bytes of their vectors: what is in memory of them at a time."""

SPARE = 20
"""How many more of the truly nearest than wanted are kept, to stand in for those that are left out."""

TRIES = 3
"""How often a question is asked when looking at its keys took too long."""

MOST_UNJUDGED = 0.05
"""Questions without a verdict, as a share of all, beyond which nothing is called good."""

SHOWN = 5
"""Questions of which it is said what Milvus missed."""

CHANCE = random.SystemRandom()


class Watch(Protocol):
    """Whoever watches a check; must not raise."""

    def note(self, text: str) -> None:
        """Say something the operator should know."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """One vector to search for.

    Attributes:
        name: Whose vector it is, for people.
        vector: Shape (dimension,).
    """

    name: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A filter of the application's.

    Attributes:
        form: As the application writes it; empty for none.
        conditions: What it means.
    """

    form: str
    conditions: Filter


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask, and what must come of it.

    Attributes:
        collection: The collection's name, for the commands.
        configured: The source as configured.
        spec: The same with the properties' types as the collection has them.
        layout: The collection's layout.
        items: How many items are drawn to ask for their vectors.
        questions: Vectors of the application's own, asked as well.
        filters: Under which everything is asked once more.
        k: How many hits are wanted.
        margin: How many more Milvus is asked for, as the application does.
        seconds: How long an answer may take.
        least_recall: The mean share of the truly nearest that Milvus must find, without a filter and under each.
    """

    collection: str
    configured: SourceSpec
    spec: SourceSpec
    layout: Layout
    items: int
    questions: Sequence[Question]
    filters: Sequence[Narrowed]
    k: int
    margin: int
    seconds: float
    least_recall: float


@dataclass(frozen=True, slots=True)
class Stores:
    """Who is asked, and what the truth comes from.

    Attributes:
        source: The items, a block at a time.
        side: The items, drawn and looked up.
        nearest: Neo4j's search, as the application has it.
        candidates: Milvus's, as the application has it.
        marks: What is being changed.
        node: The control node.
        journal: Where a verdict is kept for good.
        reload: Releases the collection and loads it again; returns when it is loaded.
    """

    source: Source
    side: SourceSide
    nearest: Nearest
    candidates: Candidates
    marks: Marks
    node: ControlNode
    journal: Journal
    reload: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check came to.

    Attributes:
        questions: How many vectors were asked for, under each filter.
        k: How many hits were wanted.
        scored: Items whose exact scores were worked out.
        reloaded: Whether the collection was loaded anew before.
        least_recall: What was wanted of Milvus.
        asked: Without a filter, then under each.
        control: The control node as it was in the beginning.
        seconds: How long it took.
        notes: What the operator should know.
    """

    questions: int
    k: int
    scored: int
    reloaded: bool
    least_recall: float
    asked: Sequence[Asked]
    control: Control
    seconds: float
    notes: Sequence[str]

    @property
    def worst(self) -> Asked:
        """Where Milvus found the least."""
        return min(self.asked, key=lambda one: one.milvus.mean)

    @property
    def enough(self) -> bool:
        """Whether Milvus found enough in what could be judged, under every filter."""
        return all(one.milvus.mean >= self.least_recall and (one.milvus.judged > 0 or not one.unjudged) for one in self.asked)

    @property
    def good(self) -> bool:
        """Whether Milvus found enough, and hardly a question was left without a verdict."""
        return self.enough and all(one.unjudged <= MOST_UNJUDGED * self.questions for one in self.asked)


@dataclass(frozen=True, slots=True)
class _Looked:
    """Both stores' answers to one question.

    Attributes:
        neo4j, milvus: What they said.
        neo4j_seconds, milvus_seconds: How long they took.
        moves: Whether any key near it was being changed.
    """

    neo4j: Answer
    milvus: Answer
    neo4j_seconds: float
    milvus_seconds: float
    moves: bool


@dataclass
class _Told:
    """One store's answers to all questions."""

    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    score_error: float = 0.0

    def add(self, answer: Answer, seconds: float) -> None:
        self.seconds.append(seconds)
        self.score_error = max(self.score_error, answer.score_error)
        if answer.wanted:
            self.shares.append(answer.right / answer.wanted)

    def as_recall(self) -> Recall:
        times = np.quantile(self.seconds, [0.5, 0.95]) if self.seconds else np.zeros(2)
        mean = fmean(self.shares) if self.shares else 1.0
        bound = least_mean(mean, len(self.shares))
        least = min(self.shares, default=1.0)
        return Recall(len(self.shares), mean, least, bound, self.score_error, float(times[0]), float(times[1]))


class SearchCheck:
    """Checks the searches of one collection, once.

    Args:
        job: What to ask.
        stores: Whom.
        watch: Told how it goes.
        clock: A monotonic clock, in seconds.
        wait: Waits that many seconds; true when it ended early because somebody asked to stop.
        stop: Asks to stop.
        choose: Draws so many of a list, each with the same chance.
    """

    def __init__(
        self,
        job: Job,
        stores: Stores,
        watch: Watch,
        *,
        clock: Callable[[], float],
        wait: Callable[[float], bool],
        stop: threading.Event,
        choose: Callable[[Sequence[Key], int], list[Key]] = CHANCE.sample,
    ) -> None:
        self._job = job
        self._stores = stores
        self._watch = watch
        self._clock = clock
        self._wait = wait
        self._stop = stop
        self._choose = choose
        self._codec = Codec(job.spec, job.layout)
        self._is_reloaded = False

    def reload(self) -> None:
        """Release the collection and load it again: that is when trouble with an index shows.

        Raises:
            ModeRefused: Searches are answered from it.
        """
        mode = self._stores.node.read().mode
        if mode.reads_milvus:
            message = f"the mode of {self._job.collection!r} is {mode}: searches are answered from what would be released"
            hint = f"Leave --reload out, or `segue mode set dual_write --collection {self._job.collection}` first."
            raise ModeRefused(message, hint=hint)
        self._watch.note("releasing the collection and loading it again")
        self._stores.reload()
        self._is_reloaded = True

    def run(self, *, just_written: bool = False) -> Outcome:
        """Ask both stores the same, and judge both by the truth; changes no store.

        1. Draw items to ask for; score every item against them.
        2. Ask both stores, one question after the other; look meanwhile which keys are being changed.
        3. Of the rest, what is among the nearest is right; keys whose scores tie are right either way.

        Args:
            just_written: Rows were written a moment ago without a mark, which a search may not show yet.

        Raises:
            ConfigError: There is nothing to ask.
            Interrupted: Somebody asked to stop.
            RetryableError: A store did not answer.
        """
        began = self._clock()
        control = self._stores.node.read()
        questions = [*self._job.questions, *self._drawn()]
        if not questions:
            message = f"there is nothing to search {self._job.collection!r} for: no item has a vector that can be asked"
            raise ConfigError(message, hint="Copy something first, or give vectors of your own: --query-vectors FILE")
        narrowed = [Narrowed("", ()), *self._job.filters]
        nearest, scored = self._truth(questions, narrowed)
        self._await_visible(control, self._clock() - began, just_written=just_written)
        asked = [self._ask(questions, one, nearest[number], control) for number, one in enumerate(narrowed)]
        notes = _notes(self._job, control, asked)
        seconds = self._clock() - began
        return Outcome(
            len(questions), self._job.k, scored, self._is_reloaded, self._job.least_recall, asked, control, seconds, notes
        )

    def record(self, outcome: Outcome) -> None:
        """Note the verdict on the control node, where there is one, and in the journal."""
        worst, epoch = outcome.worst, outcome.control.epoch
        self._stores.node.searched(
            Searched(epoch, outcome.good, worst.milvus.mean, worst.neo4j.mean, outcome.least_recall, outcome.seconds)
        )
        where = f" under {worst.form}" if worst.form else ""
        found = f"{outcome.questions:,} searches: Milvus finds {worst.milvus.mean:.2%} of the {outcome.k} nearest{where}"
        text = f"{found}, {outcome.least_recall:.2%} are wanted: {'enough' if outcome.enough else 'not enough'}"
        data = {
            "checked": "searches",
            "epoch": epoch,
            "mode": outcome.control.mode.value,
            "enough": outcome.enough,
            "clean": outcome.good,
            "least_recall": outcome.least_recall,
            "questions": outcome.questions,
            "k": outcome.k,
            "scored": outcome.scored,
            "reloaded": outcome.reloaded,
            "asked": [
                {
                    "filter": one.form,
                    "unjudged": one.unjudged,
                    "empty": one.empty,
                    "neo4j": asdict(one.neo4j),
                    "milvus": asdict(one.milvus),
                }
                for one in outcome.asked
            ],
            "began_seconds_ago": outcome.seconds,
        }
        self._stores.journal.record(EventKind.VALIDATION, text, data)

    # --- before anything is asked

    def _drawn(self) -> list[Question]:
        """Draw items with a vector that can be asked."""
        wanted = self._job.items
        if not wanted:
            return []
        # Only counts are wanted, no types.
        census = self._stores.source.census(replace(self._job.configured, properties=()))
        total = census.keyed(self._job.spec.key_type)
        # Twice as many as wanted come, so that hardly ever too few do, though some may be unfit.
        (drawn,) = self._stores.side.draw([], min(1.0, (2 * wanted + 50) / max(1, total)))
        keys = self._choose(drawn.drawn, min(len(drawn.drawn), wanted + 50))
        rows = self._codec.encode(self._stores.side.items(keys)).rows
        places = {key: place for place, key in enumerate(rows.keys)}
        fit = [key for key in dict.fromkeys(keys) if key in places][:wanted]
        return [Question(str(key), rows.vectors[places[key]].copy()) for key in fit]

    def _truth(self, questions: Sequence[Question], narrowed: Sequence[Narrowed]) -> tuple[list[TrulyNearest], int]:
        """Return the truly nearest of each question under each filter, and how many items were scored."""
        asked = np.stack([question.vector for question in questions])
        nearest = [TrulyNearest(len(questions), self._job.k + SPARE) for _ in narrowed]
        scored = 0
        for page in self._blocks():
            encoded = self._codec.encode(page)
            rows = encoded.rows
            if not rows:
                continue
            scores = exact_scores_of_all(self._job.spec.metric, asked, rows.vectors)
            nearest[0].take(rows.keys, scores)
            if len(narrowed) > 1:
                properties = self._properties(page, encoded)
                for one, found in zip(narrowed[1:], nearest[1:], strict=True):
                    places = [place for place, values in enumerate(properties) if matches(one.conditions, values)]
                    if places:
                        found.take([rows.keys[place] for place in places], scores[:, places])
            scored += len(rows)
        self._watch.note(f"worked out the exact scores of {scored:,} items for {len(questions):,} questions")
        return nearest, scored

    def _blocks(self) -> Iterator[Page]:
        """Read all items, a block at a time."""
        limit = max(1, min(MOST_ROWS, BLOCK_BYTES // (4 * self._job.spec.dimension)))
        everything, after = Range(0, None, None, 0), None
        while not self._stop.is_set():
            page = self._stores.source.scan(self._job.spec, everything, after, limit)
            yield page
            if page.exhausted:
                return
            after = page.last
        raise _stopped()

    def _properties(self, page: Page, encoded: Encoded) -> list[dict[str, object]]:
        """Return key and properties of each row, as a filter sees them."""
        fit = set(encoded.rows.keys)
        names, key_name = self._job.spec.property_names, self._job.spec.key
        return [
            {key_name: key, **plain_properties(names, values)}
            for key, values in zip(page.keys, page.properties, strict=True)
            if key in fit
        ]

    def _await_visible(self, control: Control, seconds: float, *, just_written: bool) -> None:
        """Wait until a search shows what was written without a mark."""
        age = 0.0 if just_written or control.copied_seconds_ago is None else control.copied_seconds_ago
        missing = control.times.visible - age - seconds
        if missing > 0 and self._wait(missing):
            raise _stopped()

    # --- asking

    def _ask(self, questions: Sequence[Question], narrowed: Narrowed, nearest: TrulyNearest, control: Control) -> Asked:
        neo4j, milvus = _Told(), _Told()
        poor: list[Poor] = []
        unjudged = empty = 0
        for number, question in enumerate(questions):
            looked = self._looked(question, narrowed, nearest.of(number), control)
            if looked is None:
                unjudged += 1
                continue
            neo4j.add(looked.neo4j, looked.neo4j_seconds)
            milvus.add(looked.milvus, looked.milvus_seconds)
            answer = looked.milvus
            if not answer.wanted:
                unjudged, empty = (unjudged + 1, empty) if looked.moves else (unjudged, empty + 1)
            elif answer.right < answer.wanted:
                poor.append(Poor(question.name, answer.right / answer.wanted, answer.missed))
        self._watch.note(f"asked {len(questions):,} questions{f' under {narrowed.form}' if narrowed.form else ''}")
        poor.sort(key=lambda one: one.recall)
        return Asked(narrowed.form, neo4j.as_recall(), milvus.as_recall(), unjudged, empty, poor[:SHOWN])

    def _looked(self, question: Question, narrowed: Narrowed, nearest: Sequence[Key], control: Control) -> _Looked | None:
        """Ask both stores one question, once more when that took too long; None when it did every time."""
        for _ in range(TRIES):
            looked = self._look(question, narrowed, nearest, control)
            if looked is not None:
                return looked
        return None

    def _look(self, question: Question, narrowed: Narrowed, nearest: Sequence[Key], control: Control) -> _Looked | None:
        """Ask both stores one question and judge them; None when it took too long to know what was being changed."""
        if self._stop.is_set():
            raise _stopped()
        job, stores = self._job, self._stores
        before = stores.marks.standing(nearest)
        began = self._clock()
        ours = stores.nearest.nearest(question.vector, job.k, narrowed.conditions, job.seconds)
        between = self._clock()
        pending = stores.candidates.search(question.vector, job.k + job.margin, narrowed.conditions, job.seconds)
        theirs = pending.result()[: job.k]
        ended = self._clock()
        hits = {hit.key for hit in (*ours, *theirs)}
        looked_at = [*nearest, *hits.difference(nearest)]
        page = stores.side.items(looked_at)
        # Marks come last: one that is the same, and closed, at two looks was so all the time between them.
        after = stores.marks.standing(looked_at)
        if after and self._clock() - between > control.times.window - control.times.visible:
            # Of a key that only a store named there is one look: closed by then, it was visible when Milvus was asked.
            return None
        encoded = self._codec.encode(page)
        moving = {key for key in looked_at if _moves(key, before, after)}
        # An item that cannot go has no row, which is accounted for elsewhere: no side is judged by it.
        left_out = moving.union(row.key for row in encoded.quarantined if row.key is not None)
        scores = self._scores(question, narrowed, page, encoded)
        truth = {key: score for key, score in scores.items() if key not in left_out}
        return _Looked(
            judged(ours, truth, left_out, job.k),
            judged(theirs, truth, left_out, job.k),
            between - began,
            ended - between,
            bool(moving),
        )

    def _scores(self, question: Question, narrowed: Narrowed, page: Page, encoded: Encoded) -> dict[Key, float]:
        """Return the exact score of each item that can go and meets the filter."""
        if not encoded.rows:
            return {}
        scores = exact_scores(self._job.spec.metric, question.vector, encoded.rows.vectors)
        properties = self._properties(page, encoded)
        return {
            key: float(score)
            for key, score, values in zip(encoded.rows.keys, scores, properties, strict=True)
            if matches(narrowed.conditions, values)
        }


def _moves(key: Key, before: Mapping[Key, Standing], after: Mapping[Key, Standing]) -> bool:
    """Say whether a key was being changed, or was changed so lately that a search need not show it."""
    now, then = after.get(key), before.get(key)
    if now is None:
        # Its mark was deleted meanwhile, which happens to closed ones only.
        return then is not None and then.open
    return now.open or (then is not None and (then.open or then != now))


def _notes(job: Job, control: Control, asked: Sequence[Asked]) -> list[str]:
    notes = []
    if control.capture is None:
        notes.append("changes are not captured: what changes while both sides are asked shows as a miss")
    for one in asked:
        where = f"under {one.form}" if one.form else "without a filter"
        if one.empty:
            notes.append(f"{one.empty:,} questions {where} had nothing to find")
        if one.unjudged:
            notes.append(f"{one.unjudged:,} questions {where} are without a verdict: what they find is being changed")
    if len(job.questions) + job.items < 100:  # noqa: PLR2004  # a round number of questions
        notes.append("few questions say little: --queries asks more")
    return notes


def _stopped() -> Interrupted:
    return Interrupted("interrupted before the searches were judged", hint="The same command begins anew.")
