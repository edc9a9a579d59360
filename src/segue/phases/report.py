"""The whole of a migration, put together from what is recorded and what can be seen now. Begin at `assemble`.

Pure: made of a look (`Seen`) and its journal. Says what was done, when and by which configuration, what was proven, what was
overridden, what is left; and of each thing that could not be reached, that it was not. Draws and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segue.chronicle import Override, Proof, Stretch, accounted, ago, moment, overrides, stretches
from segue.migration import closed
from segue.model import Counts, Event, EventKind, Histogram, StorageMode, StoreName
from segue.seen import Seen

BEGINNINGS = ("planned", "resumed")
ENDS = ("complete", "interrupted", "failed")


@dataclass(frozen=True, slots=True)
class Copying:
    """A copy, from its beginning or a resume to where it stopped.

    Attributes:
        start: When.
        end: When it stopped; None when nothing was recorded of that: it runs, or was killed.
        state: "complete", "interrupted", "failed", or "not ended".
        text: What the journal says of its end, else of its beginning.
        points: Moment, items migrated, items quarantined, items there are.
        data: Everything recorded of beginning and end.
        run: The command's run.
        by: Who.
        version: The Segue that made it.
    """

    start: datetime
    end: datetime | None
    state: str
    text: str
    points: Sequence[tuple[datetime, int, int, int]]
    data: Mapping[str, Any]
    run: str
    by: str
    version: str


@dataclass(frozen=True, slots=True)
class Measured:
    """How long searches of one store took in one set of modes, in milliseconds."""

    store: StoreName
    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """The migration of one collection.

    Attributes:
        seen: How things are now.
        verdict: In one sentence, where it stands.
        counts: The account of the newest copy; None when nothing is recorded of any.
        reasons: Why rows are quarantined, and how many.
        stretches: The modes in order of time.
        overrides: Gates let pass.
        copies: Every copy and resume.
        events: Everything recorded but for samples of progress.
        measured: Search latencies of both stores.
        speed_up: How many times shorter Milvus's median is; None when it is not known.
        writes: Items written, and those that were to be, by store.
        shadow_reads, shadow_overlap: How many searches were compared, and the mean share of Neo4j's hits that Milvus found.
        proofs: What was to be shown.
        left: What is left to do.
    """

    seen: Seen
    verdict: str
    counts: Counts | None
    reasons: Mapping[str, int]
    stretches: Sequence[Stretch]
    overrides: Sequence[Override]
    copies: Sequence[Copying]
    events: Sequence[Event]
    measured: Sequence[Measured]
    speed_up: float | None
    writes: Mapping[str, tuple[int, int]]
    shadow_reads: int
    shadow_overlap: float | None
    proofs: Sequence[Proof]
    left: Sequence[str]


def assemble(seen: Seen) -> CollectionReport:
    """Put the report of one collection together."""
    events = list(seen.events or ())
    copies = _copies(events)
    counts, reasons = _account(seen, copies)
    modes, passed = stretches(StorageMode, events, seen.at), overrides(StorageMode, events)
    measured = [_measured(seen, StoreName.NEO4J), _measured(seen, StoreName.MILVUS)]
    neo4j, milvus = (one.p50 for one in measured)
    overlap = seen.samples.histogram("segue_shadow_overlap")
    told = [event for event in events if not is_sample(event)]
    return CollectionReport(
        seen=seen,
        verdict=_verdict(seen, counts, passed),
        counts=counts,
        reasons=reasons,
        stretches=modes,
        overrides=passed,
        copies=copies,
        events=told,
        measured=[one for one in measured if one.count],
        speed_up=neo4j / milvus if neo4j and milvus else None,
        writes=_writes(seen),
        shadow_reads=round(overlap.count),
        shadow_overlap=overlap.mean,
        proofs=_proofs(seen, told, counts, overlap),
        left=_left(seen, counts, copies),
    )


def is_comparison(event: Event) -> bool:
    """Say whether an event is a comparison of both sides, and no check of searches."""
    return event.kind is EventKind.VALIDATION and event.data.get("checked", "rows") == "rows"


def is_sample(event: Event) -> bool:
    """Say whether an event tells nothing but how far a copy has come."""
    return event.kind is EventKind.COPY and event.data.get("state") == "progress"


def _account(seen: Seen, copies: Sequence[Copying]) -> tuple[Counts | None, Mapping[str, int]]:
    """Return the account, of the records where they are, else of the journal: the report is made on any machine."""
    if seen.copy is not None:
        return seen.copy.counts, seen.copy.reasons
    for copying in reversed(copies):
        if copying.points:
            _, migrated, quarantined, source = copying.points[-1]
            return Counts(source, migrated, quarantined), copying.data.get("reasons", {})
    return None, {}


def _copies(events: Sequence[Event]) -> list[Copying]:
    """Return the copies; events of one run belong together, whatever else happened meanwhile."""
    runs: dict[str, list[Event]] = {}
    for event in events:
        if event.kind is EventKind.COPY:
            runs.setdefault(str(event.data.get("run", "")), []).append(event)
    return [_copying(run, told) for run, told in runs.items()]


def _copying(run: str, told: Sequence[Event]) -> Copying:
    last = told[-1]
    has_ended = last.data.get("state") in ENDS
    begun = next((event for event in told if event.data.get("state") in BEGINNINGS), told[0])
    return Copying(
        start=moment(begun),
        end=moment(last) if has_ended else None,
        state=last.data["state"] if has_ended else "not ended",
        text=last.text,
        points=[
            (moment(event), event.data["migrated"], event.data["quarantined"], event.data["source"])
            for event in told
            if "migrated" in event.data
        ],
        data={**begun.data, **last.data},
        run=run,
        by=begun.by,
        version=begun.version,
    )


def _measured(seen: Seen, store: StoreName) -> Measured:
    histogram = seen.samples.histogram(f"{store}_search_latency_ms")
    p50, p95, p99 = (histogram.quantile(share) for share in (0.5, 0.95, 0.99))
    return Measured(store, round(histogram.count), histogram.mean, p50, p95, p99)


def _writes(seen: Seen) -> dict[str, tuple[int, int]]:
    attempts, successes = (seen.samples.by(f"dual_write_{what}_total", "store") for what in ("attempts", "success"))
    return {store[0]: (round(successes.get(store, 0.0)), round(tried)) for store, tried in sorted(attempts.items()) if tried}


def _verdict(seen: Seen, counts: Counts | None, overrides: Sequence[Override]) -> str:
    control = seen.control
    if control is None:
        return "where it stands is not known: Neo4j cannot be reached"
    passed = f"; {len(overrides)} gates were overridden" if overrides else ""
    validated = control.validated
    proven = "never compared"
    if validated is not None:
        found = "nothing that differs" if validated.clean else f"{validated.rate:.4%} equal"
        proven = f"last compared {ago(validated.seconds_ago)} ago, {found}"
    match control.mode:
        case StorageMode.HYBRID:
            where = "the migration has arrived: Milvus answers searches"
        case StorageMode.SHADOW_MILVUS:
            where = "Milvus answers searches, and a sample is compared"
        case StorageMode.DUAL_WRITE:
            where = "writes go to both stores, Neo4j answers searches"
        case StorageMode.NEO4J_ONLY:
            where = "Neo4j alone is in use"
            if control.epoch and counts is not None:
                where = "the migration was taken back: Neo4j alone is in use"
    return f"{where} ({control.mode}, epoch {control.epoch}); both sides {proven}{passed}"


def _proofs(seen: Seen, events: Sequence[Event], counts: Counts | None, overlap: Histogram) -> list[Proof]:
    proofs = []
    preflight = _last(events, EventKind.PREFLIGHT)
    if preflight is None:
        proofs.append(Proof("both stores were fit for it (preflight)", None, "no preflight is recorded"))
    else:
        proofs.append(Proof("both stores were fit for it (preflight)", _went_well(preflight), preflight.text))
    proofs.append(accounted(counts, "item"))
    proofs.append(_equality(seen, events))
    proofs += _searches(seen, events, overlap)
    return proofs


def _equality(seen: Seen, events: Sequence[Event]) -> Proof:
    what = "Milvus equals Neo4j (validation)"
    validated = seen.control.validated if seen.control else None
    if validated is not None:
        words = "nothing differs" if validated.clean else f"{validated.rate:.4%} equal"
        when = f"{validated.depth}, {ago(validated.seconds_ago)} ago in epoch {validated.epoch}"
        digests = f"digests {validated.digest} Neo4j, {validated.sink_digest} Milvus"
        return Proof(what, validated.clean, f"{when}: {words}; {digests}")
    last = next((event for event in reversed(events) if is_comparison(event)), None)
    return Proof(what, _went_well(last), last.text) if last else Proof(what, None, "both sides were never compared")


def _searches(seen: Seen, events: Sequence[Event], overlap: Histogram) -> list[Proof]:
    """Return what was shown of searches: against exact scores, and by shadow reads."""
    exact = next((one for one in reversed(events) if one.kind is EventKind.VALIDATION and not is_comparison(one)), None)
    what = "Milvus finds what is nearest (validate --search)"
    checked = Proof(what, _went_well(exact), exact.text) if exact else Proof(what, None, "searches were never checked")
    what = "both stores answer alike (shadow reads)"
    gate = next((gate for gate in seen.gates if gate.name == "shadow"), None)
    if gate is not None:
        # Closed, it may only wait for more searches.
        return [checked, Proof(what, gate.holds or None, gate.evidence)]
    if not overlap.count:
        return [checked, Proof(what, None, "no shadow read is counted by whoever was asked")]
    share = f"Milvus found {overlap.mean or 0:.2%} of the nearest known"
    return [checked, Proof(what, True, f"of {round(overlap.count):,} searches asked of both, {share}")]


def _left(seen: Seen, counts: Counts | None, copies: Sequence[Copying]) -> list[str]:
    left = []
    if counts is not None and counts.pending:
        left.append(f"{counts.pending:,} items are still to be copied: segue migrate-embeddings --collection {seen.collection}")
    if copies and copies[-1].state in {"interrupted", "failed"}:
        left.append(f"the last copy did not end well ({copies[-1].text}); the same command goes on")
    if counts is not None and counts.quarantined:
        named = f"quarantine-{seen.collection}.jsonl beside the state file names them"
        left.append(f"{counts.quarantined:,} items cannot go as they are: {named}")
    if seen.backlog is not None and (seen.backlog.dirty or seen.backlog.tainted):
        backlog = seen.backlog
        waits = f"{backlog.dirty:,} keys wait for a relay, the oldest for {ago(backlog.oldest_seconds)}"
        left.append(f"{waits}; {backlog.tainted:,} are tainted")
    if seen.relays is not None and not seen.relays and seen.control is not None and seen.control.mode.marks:
        left.append("no relay runs: what is written does not reach Milvus; segue relay")
    if seen.onward is not None:
        shut = closed(seen.gates)
        left += [f"gate {gate.name} before {seen.onward} is closed: {gate.evidence}; {gate.command}" for gate in shut]
        if not shut:
            left.append(f"{seen.onward} is open: segue mode set {seen.onward} --collection {seen.collection}")
    return left


def _went_well(event: Event) -> bool | None:
    """Return an event's own verdict, by any of the names that verbs give it."""
    for name in ("clean", "good", "passed"):
        if isinstance(event.data.get(name), bool):
            return bool(event.data[name])
    status = event.data.get("status") or event.data.get("state")
    return None if status is None else status in {"ok", "complete"}


def _last(events: Sequence[Event], kind: EventKind) -> Event | None:
    return next((event for event in reversed(events) if event.kind is kind), None)
