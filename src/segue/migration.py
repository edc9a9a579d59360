"""Read this first: the phases of a migration in order, which mode may follow which, and the gates in between.

Begin at `PHASES`. Data and pure functions. Knows no store and waits for nothing: `phases/cutover.py` carries a change out,
and whoever runs inside the application acts by the mode (`traffic/modes.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from segue.model import STATIC, Budget, Control, FenceTimes, Observed, StorageMode
from segue.pipelines.confidence import least_mean
from segue.ports import Backlog

VALIDATED_WITHIN_SECONDS = 86_400.0
"""How old a clean validation may be before `hybrid`, unless configured."""

PREFLIGHT_WITHIN_SECONDS = 7 * 86_400.0
"""How old a passed preflight may be before `dual_write`, unless configured."""

KEPT_UP_SECONDS = 5.0
"""How long the oldest dirty key may have waited where writers go on: relays that keep up take a second."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is configured about changes of the mode.

    Attributes:
        times: The read fence's.
        preflight_within: How old a passed preflight may be before `dual_write`, in seconds.
        validated_within: How old a clean validation may be before `hybrid`, in seconds.
        budget: What may go wrong in `shadow_milvus` before `hybrid`.
    """

    times: FenceTimes = field(default_factory=FenceTimes)
    preflight_within: float = PREFLIGHT_WITHIN_SECONDS
    validated_within: float = VALIDATED_WITHIN_SECONDS
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Standing:
    """What gates look at: how a collection stands at one moment.

    Attributes:
        collection: Its name, for the commands.
        control: The control node.
        backlog: What is left to do for the relays.
        observed: What all instances have seen of Milvus in the present epoch.
        terms: Of the change; with the fence's times that the next mode will have.
    """

    collection: str
    control: Control
    backlog: Backlog
    observed: Observed = field(default_factory=Observed)
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found.

    Attributes:
        holds: Whether it lets through.
        evidence: Why, in words.
        command: What would make it hold; empty when it does.
    """

    holds: bool
    evidence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition that must hold before a mode.

    Attributes:
        name: What `--override` calls it.
        look: Finds out whether it holds.
    """

    name: str
    look: Callable[[Standing], Finding]


@dataclass(frozen=True, slots=True)
class GateSeen:
    """A gate as it was at one moment.

    Attributes:
        name: What `--override` calls it.
        holds: Whether it let through.
        evidence: Why, in words.
        command: What would make it hold; empty when it did.
    """

    name: str
    holds: bool
    evidence: str
    command: str


def _preflight(standing: Standing) -> Finding:
    """What a migration needs was there, not long ago."""
    last, command = standing.control.preflight, f"segue preflight --collection {standing.collection}"
    if last is None:
        return Finding(False, "no preflight was made", command)
    warned = f" with {last.warnings:,} warnings" if last.passed and last.warnings else ""
    evidence = f"the last preflight, {last.seconds_ago:,.0f} s ago, {'passed' if last.passed else 'failed'}{warned}"
    if not last.passed:
        return Finding(False, evidence, command)
    if last.seconds_ago > standing.terms.preflight_within:
        return Finding(False, f"{evidence}; that is older than {standing.terms.preflight_within:,.0f} s", command)
    return Finding(True, evidence)


def _backfill(standing: Standing) -> Finding:
    control = standing.control
    copy = f"segue migrate-embeddings --collection {standing.collection}"
    if control.capture is None:
        barrier = f"segue mode set {control.mode} --collection {standing.collection}"
        return Finding(False, "the barrier is not reached yet: changes may leave no mark", barrier)
    if control.copied is None:
        return Finding(False, "no copy is complete", copy)
    if control.copied == STATIC:
        return Finding(True, "a copy is complete; its operator states that nobody wrote meanwhile")
    if control.copied != control.capture:
        return Finding(
            False, "the copy was made under an earlier capture; changes since then left no marks", f"{copy} --restart"
        )
    return Finding(True, "a copy made under the present capture is complete")


def _drained(standing: Standing) -> Finding:
    """Changes of before the copy's end are carried over, and the relays keep up with those that go on."""
    left, copied = standing.backlog, standing.control.copied_seconds_ago
    if not left.dirty and not left.tainted:
        return Finding(True, "no key is dirty, and no late request can land")
    waits = f", the oldest for {left.oldest_seconds:.1f} s" if left.dirty else ""
    evidence = f"{left.dirty:,} keys are dirty{waits}, {left.tainted:,} are tainted"
    if not left.tainted and copied is not None and left.oldest_seconds < min(copied, KEPT_UP_SECONDS):
        return Finding(True, f"{evidence}: the relays keep up with the writers")
    return Finding(False, evidence, f"segue relay --until-drained --collection {standing.collection}")


def _visible(standing: Standing) -> Finding:
    """What the copy wrote is visible by now, and every closed mark was closed under the present times."""
    control, times = standing.control, standing.terms.times
    if control.copied_seconds_ago is None:
        return Finding(False, "no copy is complete", f"segue migrate-embeddings --collection {standing.collection}")
    evidence = f"the copy was completed {control.copied_seconds_ago:,.1f} s ago, its rows are visible after {times.visible:g} s"
    missing = times.visible - control.copied_seconds_ago
    if not control.mode.reads_milvus:
        changed = control.changed_seconds_ago or 0.0
        evidence = f"{evidence}; the mode is {changed:,.1f} s old, marks stay open for {times.window:g} s"
        missing = max(missing, times.window - changed)
    return Finding(True, evidence) if missing <= 0 else Finding(False, evidence, f"sleep {math.ceil(missing)}")


def _validated(standing: Standing) -> Finding:
    """Both sides were compared last with nothing left that differs."""
    last, validate = standing.control.validated, f"segue validate --collection {standing.collection}"
    if last is None:
        return Finding(False, "both sides were never compared", validate)
    found = "found nothing that differs" if last.clean else f"found {last.rate:.4%} equal"
    evidence = f"the last validation ({last.depth}, begun {last.seconds_ago:,.0f} s ago in epoch {last.epoch}) {found}"
    if not last.clean:
        return Finding(False, evidence, f"{validate} --full --fix")
    searched = standing.control.searched
    if searched is None:
        return Finding(True, evidence)
    # A check that failed counts until another one holds, since comparing rows does not see what is wrong with an index.
    recall = f"Milvus found {searched.recall:.1%} of what is nearest, {searched.least:.1%} are wanted"
    if not searched.good and searched.recall >= searched.least:
        recall = f"{recall}, but too many searches were left without a verdict"
    evidence = f"{evidence}; in the last search check (begun {searched.seconds_ago:,.0f} s ago) {recall}"
    return Finding(True, evidence) if searched.good else Finding(False, evidence, f"{validate} --search")


def _validated_in_epoch(standing: Standing) -> Finding:
    finding, last = _validated(standing), standing.control.validated
    if last is not None and last.epoch != standing.control.epoch:
        evidence = f"{finding.evidence}; this is epoch {standing.control.epoch}"
        return Finding(False, evidence, f"segue validate --collection {standing.collection}")
    return finding


def _validated_lately(standing: Standing) -> Finding:
    finding, last = _validated(standing), standing.control.validated
    if last is not None and last.seconds_ago > standing.terms.validated_within:
        evidence = f"{finding.evidence}; that is older than {standing.terms.validated_within:,.0f} s"
        return Finding(False, evidence, f"segue validate --collection {standing.collection}")
    return finding


PREFLIGHT = Gate("preflight", _preflight)


def _shadowed(standing: Standing) -> Finding:
    """Users' searches of this epoch were asked of both sides often enough, and Milvus did well enough."""
    seen, budget = standing.observed, standing.terms.budget
    evidence = f"{seen.compared:,} shadow reads were compared in epoch {standing.control.epoch}"
    if seen.compared:
        bound = least_mean(seen.mean_overlap, seen.compared)
        evidence += f": Milvus found {seen.mean_overlap:.1%} of the nearest known (with 95 % confidence at least {bound:.1%})"
    evidence += f"; {seen.failed:,} of {seen.answers:,} answers of Milvus failed"
    search = f"segue validate --search --collection {standing.collection}"
    if seen.compared < budget.least_reads:
        wait = "wait for users' searches; a larger [search] shadow_rate compares more of them"
        return Finding(False, f"{evidence}; {budget.least_reads:,} are wanted", wait)
    if budget.is_missing(seen):
        return Finding(False, f"{evidence}; {budget.least_overlap:.1%} are wanted", search)
    if budget.is_failing(seen):
        again = f"segue mode set dual_write --collection {standing.collection}"
        return Finding(False, f"{evidence}, more than {budget.most_failed:.1%}", again)
    return Finding(True, evidence)


BACKFILL = Gate("backfill", _backfill)
DRAINED = Gate("drained", _drained)
VISIBLE = Gate("visible", _visible)
VALIDATED_IN_EPOCH = Gate("validation", _validated_in_epoch)
VALIDATED_LATELY = Gate("validation", _validated_lately)
SHADOWED = Gate("shadow", _shadowed)

TO_READ_MILVUS = (BACKFILL, DRAINED, VISIBLE)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the migration.

    Attributes:
        mode: The storage mode throughout.
        meaning: What writes and searches do in it.
        gates: What must hold before it is reached from the one before. Going back nothing must: Neo4j is always complete.
    """

    mode: StorageMode
    meaning: str
    gates: tuple[Gate, ...] = ()


PHASES = (
    Phase(StorageMode.NEO4J_ONLY, "writes and searches go to Neo4j alone"),
    Phase(
        StorageMode.DUAL_WRITE,
        "every write leaves a mark, which the relay carries over to Milvus; Neo4j answers searches",
        (PREFLIGHT,),
    ),
    Phase(
        StorageMode.SHADOW_MILVUS,
        "Milvus answers searches, Neo4j where it cannot; a sample asks both and compares",
        (*TO_READ_MILVUS, VALIDATED_IN_EPOCH),
    ),
    Phase(StorageMode.HYBRID, "Milvus answers searches, Neo4j where it cannot", (*TO_READ_MILVUS, VALIDATED_LATELY, SHADOWED)),
)
"""The migration in order, a mode each. Going forward only the next one is reachable, and only through its gates; going back the
one before, and `neo4j_only` from everywhere at once."""


def phase_of(mode: StorageMode) -> Phase:
    """Return the phase of a mode."""
    return PHASES[mode.rank]


def following(mode: StorageMode) -> StorageMode | None:
    """Return the next mode; None at the end."""
    later = PHASES[mode.rank + 1 :]
    return later[0].mode if later else None


def reachable(mode: StorageMode) -> tuple[StorageMode, ...]:
    """Return the modes that a change may lead to."""
    return tuple(
        other
        for other in StorageMode
        if other is not mode and (abs(other.rank - mode.rank) == 1 or other is StorageMode.NEO4J_ONLY)
    )


def highest(modes: Iterable[StorageMode]) -> StorageMode:
    """Return the mode that is furthest along; `neo4j_only` of none.

    It is what instances that serve several collections are given as their own: searches follow the lower of both modes, so a
    lower one would hold some collection down, and a higher one changes no answer.
    """
    return max(modes, key=lambda mode: mode.rank, default=StorageMode.NEO4J_ONLY)


def gate_names() -> tuple[str, ...]:
    """Return every gate's name, once, in order."""
    return tuple(dict.fromkeys(gate.name for phase in PHASES for gate in phase.gates))


def gates_before(wanted: StorageMode, standing: Standing) -> list[GateSeen]:
    """Look at the gates of a change to this mode; none when it leads back, or is no change."""
    if wanted.rank <= standing.control.mode.rank:
        return []
    found = [(gate.name, gate.look(standing)) for gate in phase_of(wanted).gates]
    return [GateSeen(name, finding.holds, finding.evidence, finding.command) for name, finding in found]


def closed(gates: Sequence[GateSeen], overrides: Sequence[str] = ()) -> list[GateSeen]:
    """Return the gates that do not let through, but for those overridden by name."""
    return [gate for gate in gates if not gate.holds and gate.name not in overrides]
