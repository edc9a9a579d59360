"""What a look at a collection comes to, for whoever watches: progress, rate, latencies, success rates. Begin at `page`.

Pure: made of looks and nothing else. What cannot be known is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.migration import phase_of
from segue.model import Event, EventKind, Histogram, Samples, StorageMode
from segue.ports import Backlog
from segue.seen import Seen

ENOUGH = 20
"""Observations in a window from which quantiles say something; with fewer, all since the processes started count."""

AT_WORK_SECONDS = 15.0
"""A copy whose records were written that lately is under way."""


@dataclass(frozen=True, slots=True)
class Account:
    """How far the copy has come; where that is known from.

    Attributes:
        source, migrated, quarantined, pending: The account; the last three are not known apart where only metrics say.
        origin: "state", "metrics" or "journal".
    """

    source: int
    migrated: int
    quarantined: int
    origin: str

    @property
    def done(self) -> int:
        """What is migrated or quarantined."""
        return self.migrated + self.quarantined

    @property
    def pending(self) -> int:
        """What is neither."""
        return max(0, self.source - self.done)

    @property
    def share(self) -> float:
        """What is done, as a share of everything; 1 when there is nothing to do."""
        return self.done / self.source if self.source else 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long searches of one store took, in milliseconds.

    Attributes:
        count: How many searches.
        mean, p50, p95, p99: None without any.
        window_seconds: Over which they were observed; None for "since the processes started".
    """

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    window_seconds: float | None


@dataclass(frozen=True, slots=True)
class Success:
    """How much of something went well."""

    attempts: int
    successes: int

    @property
    def rate(self) -> float | None:
        """The share that went well; None where nothing was tried."""
        return min(1.0, self.successes / self.attempts) if self.attempts else None


@dataclass(frozen=True, slots=True)
class Page:
    """One collection at one moment.

    Attributes:
        seen: The look.
        phase: In words, what the migration is doing.
        mode, epoch: As the control node says; where it cannot be reached, as the processes asked say that it says.
        backlog: As the marks say; where they cannot be reached, as those processes counted them last.
        account: How far the copy has come.
        is_copying: Whether a copy is under way, as far as can be seen.
        rate: Items a second; None when it is not known.
        eta_seconds: Until the copy is through at that rate.
        workers: Of a copy under way.
        neo4j, milvus: Latencies.
        speed_up: How many times shorter the median of Milvus is than that of Neo4j.
        writes: Items written, by store.
        searches: Answered searches, and with them those that failed.
        errors: Failures of stores so far, by "store operation kind".
        lag_p95: Seconds from a change to Milvus's acknowledgement of it.
        last_event: The newest of the journal.
    """

    seen: Seen
    phase: str
    mode: StorageMode | None
    epoch: int | None
    backlog: Backlog | None
    account: Account | None
    is_copying: bool
    rate: float | None
    eta_seconds: float | None
    workers: int | None
    neo4j: Latency
    milvus: Latency
    speed_up: float | None
    writes: Mapping[str, Success]
    fallbacks: Mapping[str, int]
    errors: Mapping[str, int]
    lag_p95: float | None
    last_event: Event | None


def page(seen: Seen, before: Seen | None = None) -> Page:
    """Return what a look comes to; `before` is an earlier look of the same watching, for what happens over time."""
    account = _account(seen)
    is_copying = _is_copying(seen, before)
    rate = _rate(seen, before, account) if is_copying else None
    earlier = before.samples if before else Samples()
    seconds = (seen.at - before.at).total_seconds() if before else None
    neo4j, milvus = (
        latency(seen.samples.histogram(name), earlier.histogram(name), seconds)
        for name in ("neo4j_search_latency_ms", "milvus_search_latency_ms")
    )
    return Page(
        seen=seen,
        phase=_phase(seen, account, is_copying=is_copying),
        mode=seen.control.mode if seen.control else _mode(seen.samples),
        epoch=seen.control.epoch if seen.control else _rounded(seen.samples.greatest("segue_epoch")),
        backlog=seen.backlog or _backlog(seen.samples),
        account=account,
        is_copying=is_copying,
        rate=rate,
        eta_seconds=account.pending / rate if account and rate else None,
        workers=_workers(seen.events) if is_copying else None,
        neo4j=neo4j,
        milvus=milvus,
        speed_up=speed_up(neo4j, milvus),
        writes=writes(seen.samples),
        fallbacks=_by(seen.samples, "segue_search_fallbacks_total", "reason"),
        errors=errors(seen.samples),
        lag_p95=seen.samples.histogram("dual_write_lag_seconds").quantile(0.95),
        last_event=seen.events[-1] if seen.events else None,
    )


def latency(histogram: Histogram, earlier: Histogram | None = None, seconds: float | None = None) -> Latency:
    """Return the latencies of a window where that holds enough, else of the whole histogram."""
    recent = histogram.since(earlier) if earlier is not None and seconds else histogram
    chosen, window = (recent, seconds) if earlier is not None and recent.count >= ENOUGH else (histogram, None)
    p50, p95, p99 = (chosen.quantile(share) for share in (0.5, 0.95, 0.99))
    return Latency(round(chosen.count), chosen.mean, p50, p95, p99, window)


def speed_up(neo4j: Latency, milvus: Latency) -> float | None:
    """Return how many times shorter Milvus's median is; None where one is not known."""
    return neo4j.p50 / milvus.p50 if neo4j.p50 and milvus.p50 else None


def writes(samples: Samples) -> dict[str, Success]:
    """Return how many items were to be written to each store, and were."""
    attempts, successes = samples.by("dual_write_attempts_total", "store"), samples.by("dual_write_success_total", "store")
    return {store[0]: Success(round(tried), round(successes.get(store, 0.0))) for store, tried in sorted(attempts.items())}


def errors(samples: Samples) -> dict[str, int]:
    """Return the stores' failures, most of them first."""
    found = samples.by("segue_store_errors_total", "store", "operation", "kind")
    return {" ".join(place): round(times) for place, times in sorted(found.items(), key=lambda one: -one[1]) if times}


def _mode(samples: Samples) -> StorageMode | None:
    rank = _rounded(samples.greatest("segue_storage_mode", scope="control"))
    return None if rank is None else list(StorageMode)[rank]


def _backlog(samples: Samples) -> Backlog | None:
    """Return the marks as somebody counted them last; each process that does counts all of them."""
    counted = {state: samples.greatest("dual_write_backlog", state=state) for state in ("open", "dirty", "tainted")}
    known = {state: round(count) for state, count in counted.items() if count is not None}
    if len(known) < len(counted):
        return None
    oldest = samples.greatest("dual_write_oldest_mark_seconds") or 0.0
    return Backlog(known["open"], known["dirty"], known["tainted"], oldest)


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _by(samples: Samples, name: str, label: str) -> dict[str, int]:
    return {place[0]: round(times) for place, times in sorted(samples.by(name, label).items()) if times}


def _account(seen: Seen) -> Account | None:
    if seen.copy is not None:
        counts = seen.copy.counts
        return Account(counts.source, counts.migrated, counts.quarantined, "state")
    told = _last_counts(seen.events or ())
    migrated, source = (seen.samples.greatest(f"migration_{what}_items") for what in ("migrated", "total"))
    if migrated is not None and source is not None and (told is None or migrated > told[1].migrated):
        return Account(round(source), round(migrated), told[1].quarantined if told else 0, "metrics")
    return told[1] if told else None


def _last_counts(events: Sequence[Event]) -> tuple[float, Account] | None:
    """Return when the journal said last how far the copy has come, and what."""
    for event in reversed(events):
        if event.kind is EventKind.COPY and "migrated" in event.data:
            data = event.data
            return event.at, Account(data["source"], data["migrated"], data["quarantined"], "journal")
    return None


def _is_copying(seen: Seen, before: Seen | None) -> bool:
    if seen.copy is not None:
        is_fresh = seen.copy.touched_seconds_ago < AT_WORK_SECONDS
        return seen.copy.finished_at is None and is_fresh
    copies = [event for event in seen.events or () if event.kind is EventKind.COPY]
    if copies and copies[-1].data.get("state") in {"planned", "resumed", "progress"}:
        return True
    migrated = seen.samples.greatest("migration_migrated_items")
    return bool(before and migrated is not None and migrated != before.samples.greatest("migration_migrated_items"))


def _rate(seen: Seen, before: Seen | None, account: Account | None) -> float | None:
    """Return items a second: between two looks, else between the journal's last two samples of this run."""
    if account is None:
        return None
    then = _account(before) if before else None
    if before is not None and then is not None and then.origin == account.origin:
        return max(0.0, (account.done - then.done) / max(0.001, (seen.at - before.at).total_seconds()))
    samples: list[tuple[float, int]] = []
    for event in reversed(seen.events or ()):
        if event.kind is EventKind.COPY and "migrated" in event.data:
            samples.append((event.at, event.data["migrated"] + event.data["quarantined"]))
            if len(samples) == 2 or event.data.get("state") in {"planned", "resumed"}:  # noqa: PLR2004  # two make a rate
                break
    if len(samples) < 2 or samples[0][0] <= samples[1][0]:  # noqa: PLR2004
        return None
    (later, done), (sooner, had) = samples
    return max(0.0, (done - had) / (later - sooner))


def _workers(events: Sequence[Event] | None) -> int | None:
    begun = [event.data for event in events or () if event.kind is EventKind.COPY and "workers" in event.data]
    return begun[-1]["workers"] if begun else None


def _phase(seen: Seen, account: Account | None, *, is_copying: bool) -> str:
    if is_copying:
        return "backfill: the copy is under way"
    control = seen.control
    if control is None:
        return "not known: the control node cannot be reached"
    if seen.copy is not None and seen.copy.finished_at is None:
        return "backfill: the copy has stopped, the same command goes on"
    if control.mode is StorageMode.NEO4J_ONLY:
        return "copied, in neo4j_only" if account is not None else "not begun"
    if control.mode is StorageMode.DUAL_WRITE and control.copied is None:
        return "dual_write: writes are marked, the copy is to be made"
    return f"{control.mode}: {phase_of(control.mode).meaning}"
