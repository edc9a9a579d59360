"""The whole of a migration of agent state, put together from what is recorded and what can be seen now. Begin at `assemble`.

Pure: made of a look (`AgentsSeen`) and its journal. Of each thing that could not be reached it says that it was not. Draws and
prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segue.chronicle import Override, Proof, Stretch, accounted, ago, overrides, stretches
from segue.migration import closed
from segue.model import AgentKind, AgentMode, Counts, Event, EventKind
from segue.ports import KindCounts
from segue.seen import AgentsSeen


@dataclass(frozen=True, slots=True)
class AgentReport:
    """The migration of agent state.

    Attributes:
        seen: How things are now.
        verdict: In one sentence, where it stands.
        counts: The account of the newest copy, in rows; None when nothing is recorded of any.
        kinds: The same by kind.
        reasons: Why rows are quarantined, and how many.
        stretches: The modes in order of time.
        overrides: Gates let pass.
        events: Everything recorded.
        proofs: What was to be shown.
        left: What is left to do.
    """

    seen: AgentsSeen
    verdict: str
    counts: Counts | None
    kinds: Mapping[AgentKind, KindCounts]
    reasons: Mapping[str, int]
    stretches: Sequence[Stretch]
    overrides: Sequence[Override]
    events: Sequence[Event]
    proofs: Sequence[Proof]
    left: Sequence[str]


def assemble(seen: AgentsSeen) -> AgentReport:
    """Put the report together."""
    events = list(seen.events or ())
    counts, kinds, reasons = _account(seen, events)
    passed = overrides(AgentMode, events)
    return AgentReport(
        seen=seen,
        verdict=_verdict(seen, passed),
        counts=counts,
        kinds=kinds,
        reasons=reasons,
        stretches=stretches(AgentMode, events, seen.at),
        overrides=passed,
        events=events,
        proofs=_proofs(seen, counts),
        left=_left(seen, counts),
    )


def _account(
    seen: AgentsSeen, events: Sequence[Event]
) -> tuple[Counts | None, Mapping[AgentKind, KindCounts], Mapping[str, int]]:
    """Return the account, of the records where they are, else of the journal: the report is made on any machine."""
    if seen.copy is not None:
        return seen.copy.copy.counts, seen.copy.kinds, seen.copy.copy.reasons
    for event in reversed(events):
        if event.kind is EventKind.COPY and "source" in event.data:
            data = event.data
            kinds = {AgentKind(kind): KindCounts(**counts) for kind, counts in data["kinds"].items()}
            return Counts(data["source"], data["migrated"], data["quarantined"]), kinds, data["reasons"]
    return None, {}, {}


def _verdict(seen: AgentsSeen, passed: Sequence[Override]) -> str:
    control = seen.control
    if control is None:
        return "where it stands is not known: PostgreSQL cannot be reached"
    where = {
        AgentMode.REDIS_ONLY: "Redis alone is in use",
        AgentMode.DUAL_WRITE: "Redis is written first and answers, PostgreSQL follows",
        AgentMode.SHADOW: "Redis answers, and a sample is compared with PostgreSQL",
        AgentMode.POSTGRES: "the migration has arrived: PostgreSQL is written first and answers",
    }[control.mode]
    if not control.open:
        where = "a way back to Redis was begun and is not complete: nothing is written"
    overridden = f"; {len(passed)} gates were overridden" if passed else ""
    last = control.validated
    if last is None:
        proven = "never compared"
    else:
        proven = f"last compared {ago(last.seconds_ago)} ago, {'nothing that differs' if last.clean else 'not equal'}"
    return f"{where} ({control.mode}, epoch {control.epoch}); both sides {proven}{overridden}"


def _proofs(seen: AgentsSeen, counts: Counts | None) -> list[Proof]:
    proofs = [accounted(counts, "row")]
    what = "PostgreSQL equals Redis (validate --agentdb)"
    last = seen.control.validated if seen.control else None
    if last is None:
        proofs.append(Proof(what, None, "both sides were never compared"))
    else:
        evidence = f"{last.detail}, {ago(last.seconds_ago)} ago in epoch {last.epoch}: {'clean' if last.clean else 'not clean'}"
        proofs.append(Proof(what, last.clean, evidence))
    return proofs


def _left(seen: AgentsSeen, counts: Counts | None) -> list[str]:
    left = []
    if counts is None:
        left.append("nothing was copied yet, as far as is recorded: segue migrate-agentdb")
    elif counts.pending:
        left.append(f"{counts.pending:,} rows are still to be copied: segue migrate-agentdb")
    if counts is not None and counts.quarantined:
        left.append(
            f"{counts.quarantined:,} rows cannot go as they are: quarantine-agentdb.jsonl beside the state file names them"
        )
    if seen.copy is not None and seen.copy.unknown:
        keys = sum(one.keys for one in seen.copy.unknown.values())
        left.append(f"{keys:,} keys are taken by no mapping: [[agentdb.mappings]], or agentdb.ignore")
    left += _waiting(seen)
    if seen.control is not None and not seen.control.open:
        left.append(f"the way back is to be completed: segue mode set {seen.control.mode} --agentdb")
    elif seen.onward is not None:
        shut = closed(seen.gates)
        left += [f"gate {gate.name} before {seen.onward} is closed: {gate.evidence}; {gate.command}" for gate in shut]
        if not shut:
            left.append(f"{seen.onward} is open: segue mode set {seen.onward} --agentdb")
    return left


def _waiting(seen: AgentsSeen) -> list[str]:
    backlog = seen.backlog
    if backlog is None:
        return []
    left = []
    if backlog.to_postgres:
        left.append(f"{backlog.to_postgres:,} writes wait for PostgreSQL, the oldest for {ago(backlog.oldest_seconds)}")
    if backlog.refused:
        left.append(f"{backlog.refused:,} writes were refused by PostgreSQL: docs/agent-library.md says what to do")
    if backlog.to_redis:
        left.append(f"{backlog.to_redis:,} writes are only in PostgreSQL; a way back has to replay or leave them")
    return left
