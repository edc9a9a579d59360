"""Changing the mode of agent state: gates, the hand-over between Redis and PostgreSQL, the way back. Begin at `change_mode`.

Two things keep both stores from being written first at the same time. Redis has a gate that every write of the library checks
in its own step; PostgreSQL has the control row, which every write checks in its own transaction. Towards PostgreSQL the gate is
closed first, what is in the outbox is carried over, and only then does the control row change; towards Redis the control row
changes first, what only PostgreSQL has is replayed, and only then does the gate open. So nobody need be registered, and an
instance that hangs or is cut off finds its way barred whenever it comes back. Knows ports only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from segue.agent_outbox import OutboxDrain
from segue.errors import BarrierNotReached, FatalError, Interrupted, ModeRefused, RetryableError
from segue.migration import GateSeen
from segue.model import AgentControl, AgentGate, AgentMode
from segue.ports import AgentPostgres, AgentRedis

REPLAYED_AT_ONCE = 200
NEARLY_EMPTY = 1_000
"""Entries that may be left in the outbox when the gate is closed: what is carried over while writers wait."""

CLOSED_SECONDS = 8.0
"""How long the gate may stay closed until everything is carried over; instances wait longer before they call a change off."""

_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What gates ask for that neither store says.

    Attributes:
        copied: Whether a copy was finished.
        validated_within: How old a clean comparison may be, in seconds.
    """

    copied: bool
    validated_within: float


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """What a change came to.

    Attributes:
        before: The mode before it.
        control: The control row now.
        replayed: Writes that were replayed to Redis.
        left: Writes that only PostgreSQL has, and that were left there on request.
        seconds: How long writers had to wait, at most.
    """

    before: AgentMode
    control: AgentControl
    replayed: int = 0
    left: int = 0
    seconds: float = 0.0


class AgentWatch(Protocol):
    """Whoever watches a change."""

    def note(self, text: str) -> None:
        """Something happened that the operator may want to know."""
        ...


@dataclass(frozen=True, slots=True)
class Handover:
    """Both sides, and how patient a change is.

    Attributes:
        drain: The outbox.
        wait: Sleeps so many seconds, or until it is asked to stop: then it returns true.
        seconds: How long carrying over may take before the gate is closed.
    """

    redis: AgentRedis
    postgres: AgentPostgres
    drain: OutboxDrain
    watch: AgentWatch
    wait: Callable[[float], bool]
    seconds: float


def look(redis: AgentRedis, control: AgentControl, wanted: AgentMode, facts: AgentFacts) -> list[GateSeen]:
    """Return the gates before a mode, none on the way back."""
    if wanted.rank <= control.mode.rank:
        return []
    gates = []
    if wanted.rank >= AgentMode.SHADOW.rank:
        evidence = "a copy is finished" if facts.copied else "no copy is finished"
        gates.append(GateSeen("copy", facts.copied, evidence, "segue migrate-agentdb"))
        waiting, refused, oldest = redis.waiting()
        evidence = f"{waiting:,} entries wait, the oldest for {oldest:,.1f} s"
        gates.append(GateSeen("outbox", waiting <= NEARLY_EMPTY, evidence, "wait, or look why PostgreSQL is slow"))
        evidence = f"{refused:,} entries were refused"
        gates.append(GateSeen("refused", not refused, evidence, "see docs/agent-library.md: refused entries"))
    if wanted.is_postgres:
        gates.append(_validation(control, facts.validated_within))
    return gates


def change_mode(
    hand: Handover,
    wanted: AgentMode,
    facts: AgentFacts,
    *,
    overrides: Sequence[str] = (),
    reason: str = "",
    replay: bool = True,
) -> AgentChanged:
    """Change the mode. Run again, it completes what an earlier run left.

    Args:
        hand: Both sides.
        wanted: Forward, one mode at a time; back, any.
        facts: What the gates ask for.
        overrides: Gates that are let pass.
        reason: Why; recorded.
        replay: On the way back from `postgres`: whether what only PostgreSQL has is written to Redis.

    Raises:
        ModeRefused: A gate is closed, the mode cannot be reached from here, or somebody else was faster.
        BarrierNotReached: Carrying over took too long; the mode is what it was.
        RetryableError: A store does not answer.
    """
    control = hand.postgres.control()
    if control.epoch == 0:
        message = "PostgreSQL has no control row yet"
        raise FatalError(message, hint="segue migrate-agentdb makes the tables.")
    if control.mode is wanted and control.open:
        _settle(hand, control)
        return AgentChanged(control.mode, control)
    if not control.open or control.mode.is_postgres:
        return _to_redis(hand, control, wanted, reason, replay=replay)
    if wanted.rank > control.mode.rank + 1:
        message = f"from {control.mode} the next mode is {list(AgentMode)[control.mode.rank + 1]}, not {wanted}"
        raise ModeRefused(message, hint="Forward it goes one mode at a time.")
    passed = _refuse(look(hand.redis, control, wanted, facts), overrides, reason)
    if wanted.is_postgres:
        return _to_postgres(hand, control, reason, passed)
    return _among_redis(hand, control, wanted, reason, passed)


def _refuse(gates: Sequence[GateSeen], overrides: Sequence[str], reason: str) -> list[str]:
    """Refuse where a gate is closed; return those that are let pass although they are."""
    unknown = sorted(set(overrides) - {gate.name for gate in gates})
    if unknown or (overrides and not reason):
        message = f"no such gate here: {', '.join(unknown)}" if unknown else "an override needs a reason"
        raise ModeRefused(message, hint=f"Gates: {', '.join(gate.name for gate in gates) or 'none'}; --reason TEXT")
    shut = [gate for gate in gates if not gate.holds and gate.name not in overrides]
    if shut:
        message = "; ".join(f"gate {gate.name} is closed: {gate.evidence}" for gate in shut)
        raise ModeRefused(message, hint="\n".join(gate.command for gate in shut))
    return [gate.name for gate in gates if not gate.holds]


def _validation(control: AgentControl, within: float) -> GateSeen:
    last = control.validated
    if last is None:
        found, holds = "both sides were never compared", False
    else:
        holds = last.clean and last.epoch == control.epoch and last.seconds_ago <= within
        found = f"{'clean' if last.clean else 'not clean'}, {last.seconds_ago:,.0f} s ago in epoch {last.epoch}"
    return GateSeen("validation", holds, found, "segue validate --agentdb")


def _settle(hand: Handover, control: AgentControl) -> None:
    """Let the gate say what the control row says; a change that was begun and not finished is called off with it."""
    gate = hand.redis.gate()
    if gate is not None and gate.epoch >= control.epoch and gate.mode is None and not control.mode.is_postgres:
        control = _changed(hand, control, control.mode, gate.epoch + 1, is_open=True, reason=control.reason)
    hand.redis.carry(AgentGate(control.epoch, None if control.mode.is_postgres else control.mode))


def _among_redis(hand: Handover, control: AgentControl, wanted: AgentMode, reason: str, passed: Sequence[str]) -> AgentChanged:
    changed = _changed(hand, control, wanted, _next(hand, control), is_open=True, reason=reason, passed=passed)
    hand.redis.carry(AgentGate(changed.epoch, wanted))
    return AgentChanged(control.mode, changed)


def _to_postgres(hand: Handover, control: AgentControl, reason: str, passed: Sequence[str]) -> AgentChanged:
    """Close the gate, carry everything over, change the control row; or open the gate again."""
    _drain(hand, NEARLY_EMPTY, hand.seconds)
    epoch = _next(hand, control)
    closed_at = time.monotonic()
    hand.redis.carry(AgentGate(epoch, None))
    try:
        _drain(hand, 0, CLOSED_SECONDS)
        changed = _changed(hand, control, AgentMode.POSTGRES, epoch, is_open=True, reason=reason, passed=passed)
    except (RetryableError, Interrupted) as fault:
        _call_off(hand, control)
        message = f"{getattr(fault, 'message', fault)}; the mode stays {control.mode}"
        raise BarrierNotReached(message, hint="Run the same command again.") from fault
    return AgentChanged(control.mode, changed, seconds=time.monotonic() - closed_at)


def _call_off(hand: Handover, control: AgentControl) -> None:
    """Open the gate again, in an epoch of its own, so that whoever still wants to change the control row cannot."""
    changed = hand.postgres.change(control, control.mode, epoch=_next(hand, control), is_open=True, reason=control.reason)
    if changed is not None:
        hand.redis.carry(AgentGate(changed.epoch, changed.mode))


def _to_redis(hand: Handover, control: AgentControl, wanted: AgentMode, reason: str, *, replay: bool) -> AgentChanged:
    """Change the control row, replay, open the gate. What was begun by a run that was killed is completed."""
    began = time.monotonic()
    before, left, replayed = control.mode, 0, 0
    if control.mode.is_postgres and wanted.is_postgres:
        return AgentChanged(control.mode, control)
    if control.open or control.mode is not wanted:
        if wanted.is_postgres:
            message = f"a way back to {control.mode} was begun and is not complete"
            raise ModeRefused(message, hint=f"Complete it first: segue mode set {control.mode} --agentdb")
        # Found out now, agents go on; found out behind the next line, nobody could write until somebody lets this account.
        hand.redis.may_replay([write for _, write in hand.postgres.only_here(REPLAYED_AT_ONCE)] if replay else [])
        control = _changed(hand, control, wanted, _next(hand, control), is_open=False, reason=reason)
    # From here nothing is written first to PostgreSQL, and nothing of that is in hand.
    hand.redis.carry(AgentGate(control.epoch, None), hand.postgres.clock())
    if replay:
        replayed = _replay(hand)
    else:
        left = hand.postgres.waiting()
        hand.postgres.forget(None)
    opened = _changed(hand, control, wanted, control.epoch + 1, is_open=True, reason=reason)
    hand.redis.carry(AgentGate(opened.epoch, wanted))
    return AgentChanged(before, opened, replayed, left, time.monotonic() - began)


def _replay(hand: Handover) -> int:
    done = 0
    while writes := hand.postgres.only_here(REPLAYED_AT_ONCE):
        hand.redis.replay(writes)
        hand.postgres.forget(writes[-1][0])
        done += len(writes)
        if hand.wait(0.0):
            message = f"asked to stop; {done:,} writes are replayed, the others wait"
            raise Interrupted(message, hint="Run the same command again; until then nothing can be written.")
    return done


def _drain(hand: Handover, most: int, seconds: float) -> None:
    """Carry the outbox over until at most so many entries are left."""
    deadline = time.monotonic() + seconds
    while True:
        waiting, _, _ = hand.redis.waiting()
        if waiting <= most:
            return
        done = hand.drain.step()
        if time.monotonic() > deadline:
            message = f"{waiting:,} entries of the outbox are not carried over after {seconds:,.0f} s"
            raise BarrierNotReached(message)
        if hand.wait(0.0 if done else _PAUSE_SECONDS):
            message = "asked to stop"
            raise Interrupted(message)


def _changed(
    hand: Handover,
    seen: AgentControl,
    mode: AgentMode,
    epoch: int,
    *,
    is_open: bool,
    reason: str,
    passed: Sequence[str] = (),
) -> AgentControl:
    changed = hand.postgres.change(seen, mode, epoch=epoch, is_open=is_open, reason=reason, overridden=passed)
    if changed is None:
        message = f"somebody else changed the mode of agent state (it was {seen.mode} at epoch {seen.epoch})"
        raise ModeRefused(message, hint="segue mode show --agentdb")
    return changed


def _next(hand: Handover, control: AgentControl) -> int:
    """Return an epoch that neither side has seen."""
    gate = hand.redis.gate()
    return max(control.epoch, gate.epoch if gate is not None else 0) + 1
