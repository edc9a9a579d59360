"""`segue mode show|set`: the storage mode of a collection, who acts by it, and what the next one waits for."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import structlog
import typer

from segue import bootstrap
from segue.bootstrap import ModeControl, returning
from segue.bootstrap.agent_state import require_extra
from segue.cli import options
from segue.cli.interruption import Stop, stoppable
from segue.cli.output import Format, Listing, Result, publish, verb_data
from segue.config import CollectionSettings, Settings, load
from segue.errors import BarrierNotReached, ConfigError, Interrupted, ModeRefused, SegueError
from segue.migration import GateSeen, closed, following, phase_of, reachable
from segue.model import AgentMode, Control, Instance, StorageMode
from segue.phases.cutover import Changed, Overrides, Patience, change_mode, examine, look, roll_out
from segue.telemetry.logging import LogFormat, configure

app = typer.Typer(
    name="mode",
    help="The storage mode: neo4j_only, dual_write, shadow_milvus, hybrid. Show it, change it.",
    no_args_is_help=True,
)


ModeWord = StrEnum("ModeWord", {one.value: one.value for one in [*StorageMode, *AgentMode]})  # type: ignore[misc]
"""Any mode of either migration; which one is meant, `--agentdb` says."""

AgentdbOption = Annotated[
    bool, typer.Option("--agentdb", help="Of agent state: redis_only, dual_write, shadow, postgres.", show_default=False)
]


@app.command()
def show(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    agentdb: AgentdbOption = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
) -> None:
    """Show the mode, the instances that act by it, and the gates before the next one with what would open them."""
    configure(log_format)
    began = time.monotonic()
    if agentdb:
        require_extra()
        from segue.cli import agent_mode  # noqa: PLC0415  # needs the extra

        agent_mode.show(config, agent_mode.AgentOutput("mode", output_format, output_file, log_format))
        return
    settings = load(config)
    results = []
    for one in settings.chosen(collection):
        with bootstrap.open_mode_control(settings, one) as control:
            results.append(_standing(one, control))
    publish(results, verb_data("mode", results, began, None), output_format, output_file)


@app.command("set")
def set_(
    word: Annotated[ModeWord, typer.Argument(metavar="MODE", help="The mode to change to.")],
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    agentdb: AgentdbOption = False,
    wait_secs: Annotated[float, typer.Option("--wait-secs", min=0.0, help="How long everybody may take to act by it.")] = 60.0,
    override: Annotated[
        list[str] | None, typer.Option("--override", help="Let this gate pass; may be given several times. Needs --reason.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded beside the mode.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the gates; change nothing.")] = False,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Change the mode, and wait until every registered instance of the application acts by it.

    Forward it goes one mode at a time, through its gates; back to the one before, or to neo4j_only from everywhere at once. Run
    again, it completes what an earlier run left. Exit code 5 when a gate is closed or somebody else was faster.
    """
    del no_input
    configure(log_format)
    began = time.monotonic()
    if agentdb:
        require_extra()
        from segue.cli import agent_mode  # noqa: PLC0415  # needs the extra

        output = agent_mode.AgentOutput("mode", output_format, output_file, log_format)
        wanted = AgentMode(_known(word, AgentMode, "leave --agentdb out"))
        agent_mode.change(config, wanted, output, wait_secs=wait_secs, overrides=override or [], reason=reason, dry_run=dry_run)
        return
    mode = StorageMode(_known(word, StorageMode, "add --agentdb"))
    results: list[Result] = []
    failure: SegueError | None = None
    with stoppable() as stop:
        try:
            settings = load(config)
            overrides = Overrides(tuple(override or ()), reason)
            for one in settings.chosen(collection):
                with bootstrap.open_mode_control(settings, one) as control:
                    try:
                        changed = _change(one, control, mode, overrides, wait_secs, log_format, stop, dry_run=dry_run)
                    except (ModeRefused, BarrierNotReached, Interrupted):
                        results.append(_standing(one, control, wanted=mode))
                        raise
                    results.append(_standing(one, control, wanted=mode, changed=changed))
            _roll_out(settings, mode, stop, Watch("rollout", log_format), dry_run=dry_run)
        except SegueError as fault:
            failure = fault
    publish(results, verb_data("mode", results, began, failure), output_format, output_file)
    if failure is not None:
        raise failure


def _known(word: StrEnum, modes: type[StrEnum], remedy: str) -> str:
    if word.value not in list(modes):
        message = f"{word.value} is no mode here; there are {', '.join(modes)}"
        raise ConfigError(message, hint=f"For the other migration, {remedy}.")
    return str(word.value)


def _change(
    one: CollectionSettings,
    control: ModeControl,
    wanted: StorageMode,
    overrides: Overrides,
    wait_secs: float,
    log_format: LogFormat,
    stop: Stop,
    *,
    dry_run: bool,
) -> Changed | None:
    """Change one collection's mode; in a dry run only see whether it could be."""
    now, _ = examine(
        control.node,
        control.marks,
        wanted,
        collection=one.name,
        terms=control.terms,
        overrides=overrides,
    )
    if dry_run:
        return None
    if now.mode is not wanted:
        control.prepare()
    return change_mode(
        control.node,
        control.marks,
        wanted,
        collection=one.name,
        terms=control.terms,
        overrides=overrides,
        patience=Patience(wait_secs, stop.wait, time.monotonic),
        watch=Watch(one.name, log_format),
        capture=control.capture,
    )


def _roll_out(settings: Settings, mode: StorageMode, stop: Stop, watch: Watch, *, dry_run: bool) -> None:
    """Carry the mode to where the application is deployed, if the configuration says where."""
    rollout = returning.open_rollout(settings, stop.wait)
    if rollout is None:
        return
    if dry_run:
        for line in rollout.plan(mode):
            watch.note(line)
        return
    with returning.open_controls(settings) as control_nodes:
        watch.note(f"{roll_out(control_nodes, rollout, watch)} is deployed")


class Watch:
    """What a change waits for, told on stderr."""

    def __init__(self, name: str, log_format: LogFormat) -> None:
        self._name = name
        self._json = log_format is LogFormat.JSON

    def waiting(self, late: Sequence[Instance], epoch: int) -> None:
        """See `phases.cutover.Watch`."""
        named = ", ".join(f"{instance.name} on {instance.host} (epoch {instance.epoch})" for instance in late[:5])
        more = f" and {len(late) - 5} more" if len(late) > 5 else ""  # noqa: PLR2004  # as many as are named
        self.note(f"waiting for epoch {epoch} of {named}{more}")

    def note(self, text: str) -> None:
        """See `phases.cutover.Watch`."""
        if self._json:
            structlog.get_logger().info("note", collection=self._name, text=text)
            return
        sys.stderr.write(f"{self._name}: {text}\n")
        sys.stderr.flush()


def _standing(
    one: CollectionSettings, room: ModeControl, *, wanted: StorageMode | None = None, changed: Changed | None = None
) -> Result:
    """Say how a collection stands, with the gates before the mode that was asked for, or else before the next."""
    control, instances, backlog = room.node.read(), room.node.instances(), room.marks.backlog()
    onward = wanted if wanted in reachable(control.mode) else following(control.mode)
    gates = _gates(one.name, room, control, onward) if onward else []
    late = [instance for instance in instances if instance.epoch < control.epoch]
    command = _command(one.name, onward, gates)
    age = "" if control.copied_seconds_ago is None else f", {control.copied_seconds_ago:,.0f} s ago"
    facts = [
        ("mode", f"{control.mode}: {phase_of(control.mode).meaning}"),
        ("epoch", f"{control.epoch}{f' ({control.reason})' if control.reason else ''}"),
        ("capture", control.capture or "none: changes may leave no mark"),
        ("copied", f"under {control.copied}{age}" if control.copied else "no copy is complete"),
        ("preflight", _preflight(control)),
        ("validated", _validated(control)),
        ("searched", _searched(control)),
        ("backlog", f"{backlog.dirty:,} dirty, {backlog.tainted:,} tainted, {backlog.open:,} open"),
        ("instances", f"{len(instances):,} registered, {len(late):,} not in this epoch yet"),
        ("next", f"{onward}: {command}" if onward else "nothing: this is where the migration leads"),
    ]
    listings = []
    if instances:
        rows = [(each.name, each.host, str(each.epoch), each.own or "as the control node says") for each in instances]
        listings.append(Listing("instances", ("name", "host", "epoch", "own mode"), rows))
    if gates:
        rows = [(gate.name, "open" if gate.holds else "closed", gate.evidence, gate.command) for gate in gates]
        listings.append(Listing(f"gates before {onward}", ("gate", "is", "because", "opened by"), rows))
    data: dict[str, Any] = {
        "name": one.name,
        "mode": control.mode.value,
        "epoch": control.epoch,
        "reason": control.reason,
        "capture": control.capture,
        "copied": control.copied,
        "copied_seconds_ago": control.copied_seconds_ago,
        "preflight": control.preflight and asdict(control.preflight),
        "validated": control.validated and asdict(control.validated),
        "searched": control.searched and asdict(control.searched),
        "times": {"visible": control.times.visible, "fence": control.times.fence, "slack": control.times.slack},
        "backlog": {"open": backlog.open, "dirty": backlog.dirty, "tainted": backlog.tainted},
        "instances": [
            {"name": each.name, "host": each.host, "epoch": each.epoch, "own": each.own and each.own.value}
            for each in instances
        ],
        "next": {"mode": onward.value, "gates": [asdict(gate) for gate in gates], "command": command} if onward else None,
    }
    title = f"{one.name}: {control.mode} at epoch {control.epoch}"
    if changed is not None:
        data |= {"before": changed.before.value, "overridden": [gate.name for gate in changed.overridden]}
        passed = ", ".join(f"{gate.name} ({gate.evidence})" for gate in changed.overridden)
        facts += [("before", changed.before.value), *([("overridden", passed)] if passed else [])]
    return Result(title=title, facts=facts, data=data, listings=listings)


def _gates(name: str, room: ModeControl, control: Control, onward: StorageMode) -> list[GateSeen]:
    return look(
        room.node,
        control,
        room.marks,
        onward,
        collection=name,
        terms=room.terms,
    )


def _preflight(control: Control) -> str:
    last = control.preflight
    if last is None:
        return "none was made"
    return f"{'passed' if last.passed else 'failed'}, {last.seconds_ago:,.0f} s ago, {last.warnings:,} warnings"


def _validated(control: Control) -> str:
    last = control.validated
    if last is None:
        return "both sides were never compared"
    found = "clean" if last.clean else f"{last.rate:.4%} equal"
    return f"{last.depth}, {last.seconds_ago:,.0f} s ago in epoch {last.epoch}: {found}"


def _searched(control: Control) -> str:
    last = control.searched
    if last is None:
        return "the searches of both sides were never checked"
    found = f"Milvus finds {last.recall:.2%} of what is nearest, {last.least:.2%} are wanted"
    return f"{last.seconds_ago:,.0f} s ago in epoch {last.epoch}: {found}"


def _command(name: str, onward: StorageMode | None, gates: Sequence[GateSeen]) -> str:
    shut = closed(gates)
    return shut[0].command if shut else f"segue mode set {onward} --collection {name}"
