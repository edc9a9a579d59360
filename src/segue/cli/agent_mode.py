"""The mode of agent state on the command line: what `segue mode … --agentdb` and `segue rollback --agentdb` do."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from segue.bootstrap.agent_library import open_agent_sides, open_handover
from segue.cli.interruption import Stop, stoppable
from segue.cli.output import Format, Listing, Result, error_data, publish, status_of
from segue.config import Settings, load
from segue.errors import ModeRefused, NotConfirmed, RetryableError, SegueError, StoreUnavailable
from segue.model import AgentControl, AgentGate, AgentMode
from segue.phases.agent_cutover import AgentChanged, AgentFacts, Handover, change_mode, look
from segue.telemetry.logging import LogFormat


class AgentOutput:
    """Where a command's result goes, and how.

    Args:
        verb: The verb.
        output_format, output_file: As on the command line.
        log_format: Of what is told meanwhile.
    """

    def __init__(self, verb: str, output_format: Format, output_file: Path | None, log_format: LogFormat) -> None:
        self._verb = verb
        self._format = output_format
        self._file = output_file
        self._json = log_format is LogFormat.JSON
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        """See `phases.agent_cutover.AgentWatch`."""
        if self._json:
            structlog.get_logger().info("note", collection="agentdb", text=text)
            return
        sys.stderr.write(f"agentdb: {text}\n")
        sys.stderr.flush()

    def publish(self, result: Result | None, failure: SegueError | None = None) -> None:
        """Print the result, then raise what failed."""
        data: dict[str, Any] = {
            "verb": self._verb,
            "status": status_of(failure),
            "seconds": round(time.monotonic() - self._began, 3),
            **(dict(result.data) if result is not None else {}),
        }
        if failure is not None:
            data["error"] = error_data(failure)
        publish([result] if result is not None else [], data, self._format, self._file)
        if failure is not None:
            raise failure


def show(config: Path, output: AgentOutput) -> None:
    """Show the mode, what waits on either side, and the gates before the next mode. Changes nothing."""
    settings = load(config)
    with open_agent_sides(settings) as sides:
        control = sides.postgres.control()
    if control.epoch == 0:
        facts = [
            ("mode", "redis_only: PostgreSQL has no control row yet"),
            ("next", "dual_write: segue mode set dual_write --agentdb"),
        ]
        output.publish(Result(title="agentdb: redis_only", facts=facts, data={"mode": "redis_only", "epoch": 0}))
        return
    with open_handover(settings, output, lambda _: False, seconds=0.0) as (hand, facts_found):
        output.publish(_standing(hand, control, facts_found))


def change(
    config: Path,
    wanted: AgentMode,
    output: AgentOutput,
    *,
    wait_secs: float,
    overrides: list[str],
    reason: str,
    dry_run: bool,
    replay: bool = True,
) -> None:
    """Change the mode, or with `dry_run` only show the gates before it."""
    settings = load(config)
    with stoppable() as stop:
        _change(settings, wanted, output, stop, wait_secs, overrides, reason, dry_run=dry_run, replay=replay)


def roll_back(
    config: Path,
    output: AgentOutput,
    *,
    wait_secs: float,
    reason: str,
    confirm: bool,
    dry_run: bool,
    replay: bool,
    leave: bool,
) -> None:
    """Take agents back to Redis alone; what only PostgreSQL has is replayed or left, as the operator says."""
    settings = load(config)
    with open_agent_sides(settings) as sides:
        try:
            control = sides.postgres.control()
            only_here = sides.postgres.waiting() if control.epoch else 0
        except RetryableError as fault:
            output.publish(*_without_postgres(sides.redis.gate(), fault))
            raise
    facts = [("mode", f"{control.mode} at epoch {control.epoch}"), ("only in PostgreSQL", f"{only_here:,} writes")]
    shown = Result(
        title="agentdb: back to redis_only",
        facts=facts,
        data={"mode": control.mode.value, "epoch": control.epoch, "only_in_postgres": only_here},
    )
    if dry_run or control.epoch == 0:
        output.publish(shown)
        return
    if only_here and not replay and not leave:
        message = f"{only_here:,} writes are only in PostgreSQL"
        hint = "--replay writes them to Redis; --leave leaves them where they are, and Redis as it is."
        output.publish(shown, ModeRefused(message, hint=hint))
    if not confirm:
        message = "nothing was changed"
        output.publish(shown, NotConfirmed(message, hint="Add --confirm to take agents back to Redis."))
    with stoppable() as stop:
        _change(settings, AgentMode.REDIS_ONLY, output, stop, wait_secs, [], reason, dry_run=False, replay=not leave)


def _without_postgres(gate: AgentGate | None, fault: RetryableError) -> tuple[Result, SegueError]:
    """Say what Redis alone knows, and what that leaves to do while PostgreSQL does not answer."""
    if gate is not None and gate.mode is not None:
        told = f"open for {gate.mode} at epoch {gate.epoch}: agents write Redis first, and go on without PostgreSQL"
        hint = "Nothing is held up. Run the same command again when PostgreSQL is back."
    else:
        told = "not there" if gate is None else f"closed at epoch {gate.epoch}: PostgreSQL is written first"
        hint = (
            "Bring PostgreSQL back first: what was written there is nowhere else, and agents that reach it again would write "
            "it beside Redis.\nIf it is lost for good: docs/agent-library.md, going back."
        )
    shown = Result(
        title="agentdb: PostgreSQL does not answer",
        facts=[("gate in Redis", told)],
        data={"gate": None if gate is None else {"epoch": gate.epoch, "mode": gate.mode and gate.mode.value}},
    )
    return shown, StoreUnavailable(f"{fault.message}; the mode is what it was", hint=hint)


def _change(
    settings: Settings,
    wanted: AgentMode,
    output: AgentOutput,
    stop: Stop,
    wait_secs: float,
    overrides: list[str],
    reason: str,
    *,
    dry_run: bool,
    replay: bool,
) -> None:
    result: Result | None = None
    failure: SegueError | None = None
    try:
        with open_handover(settings, output, stop.wait, seconds=wait_secs) as (hand, facts):
            changed: AgentChanged | None = None
            try:
                if not dry_run:
                    changed = change_mode(hand, wanted, facts, overrides=overrides, reason=reason, replay=replay)
            except SegueError as fault:
                failure = fault
            result = _standing(hand, hand.postgres.control(), facts, wanted, changed)
    except SegueError as fault:
        failure = failure or fault
    output.publish(result, failure)


def _standing(
    hand: Handover,
    control: AgentControl,
    facts: AgentFacts,
    wanted: AgentMode | None = None,
    changed: AgentChanged | None = None,
) -> Result:
    """Say how agent state stands, with the gates before the mode that was asked for, or else before the next."""
    waiting, refused, oldest = hand.redis.waiting()
    gate, only_here = hand.redis.gate(), hand.postgres.waiting()
    further = list(AgentMode)[control.mode.rank + 1 :]
    onward = wanted if wanted in further else next(iter(further), None)
    gates = look(hand.redis, control, onward, facts) if onward else []
    told = "closed" if gate is None or gate.mode is None else gate.mode.value
    lines = [
        (
            "mode",
            control.mode.value if control.open else f"{control.mode}, but the way back is not complete: nothing is written",
        ),
        ("epoch", f"{control.epoch}{f' ({control.reason})' if control.reason else ''}"),
        ("gate in Redis", f"{told} at epoch {gate.epoch}" if gate else "not there yet"),
        ("outbox", f"{waiting:,} entries, the oldest {oldest:,.1f} s old; {refused:,} refused"),
        ("only in PostgreSQL", f"{only_here:,} writes"),
        ("next", f"{onward}: segue mode set {onward} --agentdb" if onward else "nothing: this is where the migration leads"),
    ]
    if changed is not None:
        lines.append(("before", changed.before.value))
        if changed.replayed or changed.left:
            lines.append(("replayed", f"{changed.replayed:,} writes to Redis, {changed.left:,} left"))
    rows = [(one.name, "open" if one.holds else "closed", one.evidence, one.command) for one in gates]
    data: dict[str, Any] = {
        "mode": control.mode.value,
        "epoch": control.epoch,
        "open": control.open,
        "reason": control.reason,
        "gate": None if gate is None else {"epoch": gate.epoch, "mode": gate.mode and gate.mode.value},
        "outbox": {"waiting": waiting, "refused": refused, "oldest_seconds": round(oldest, 3)},
        "only_in_postgres": only_here,
        "next": {"mode": onward.value, "gates": [asdict(one) for one in gates]} if onward else None,
    }
    if changed is not None:
        data |= {
            "before": changed.before.value,
            "replayed": changed.replayed,
            "left": changed.left,
            "writers_waited_seconds": round(changed.seconds, 3),
        }
    listings = [Listing(f"gates before {onward}", ("gate", "is", "because", "opened by"), rows)] if rows else []
    return Result(title=f"agentdb: {control.mode} at epoch {control.epoch}", facts=lines, data=data, listings=listings)
