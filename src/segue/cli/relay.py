"""`segue relay`: make marked keys equal, for ever or until nothing is left to do."""

from __future__ import annotations

import sys
import threading
import time
from typing import Annotated

import structlog
import typer

from segue.bootstrap import journaling, relaying
from segue.bootstrap.metering import metered
from segue.cli import options
from segue.cli.interruption import stoppable
from segue.cli.output import Format, Result, publish
from segue.config import CollectionSettings, Settings, load
from segue.model import EventKind
from segue.phases.relay import Step
from segue.ports import Backlog
from segue.telemetry.health import Health
from segue.telemetry.logging import LogFormat, configure

LINE_SECONDS = 5.0


def relay(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    until_drained: Annotated[bool, typer.Option("--until-drained", help="End when nothing is left to do.")] = False,
    metrics_port: options.MetricsPort = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
) -> None:
    """Carry marked changes over to Milvus: each key becomes what its node is now.

    Run one or several; they share the work by leases and take over from one that died. A store that does not answer is waited
    for, the marks stay. SIGTERM or Ctrl-C: the step in hand is finished, what is dirty is made equal for drain_seconds at most,
    the work is handed over, exit 0.
    """
    configure(log_format)
    settings = load(config)
    chosen = settings.chosen(collection)
    health = Health(one.name for one in chosen)
    watches = {one.name: Watch(one.name, log_format, health) for one in chosen}
    faults: list[BaseException] = []
    with metered(metrics_port, health) as meters, stoppable() as stop:

        def keep(name: str) -> None:
            one = settings.chosen(name)[0]
            try:
                relaying.relay(settings, one, watches[name], stop, until_drained=until_drained, meter=meters(one))
            except BaseException as fault:  # noqa: BLE001  # raised again by the main thread
                faults.append(fault)
                stop.set()

        threads = [threading.Thread(target=keep, args=(name,), name=f"relay-{name}") for name in watches]
        for thread in threads:
            thread.start()
        for thread in threads:
            # A join without a limit would keep the signal from being seen.
            while thread.is_alive():
                thread.join(0.2)
    results = [watch.result() for watch in watches.values()]
    for name, watch in watches.items():
        watch.record(settings, settings.chosen(name)[0], failed=bool(faults))
    data = {"verb": "relay", "status": "failed" if faults else "ok", "collections": [dict(result.data) for result in results]}
    publish(results, data, output_format, output_file)
    if faults:
        raise faults[0]


class Watch:
    """What a relay did, counted, and told every few seconds on stderr; every turn of its loop is a sign of life."""

    def __init__(self, name: str, log_format: LogFormat, health: Health) -> None:
        self._name = name
        self._health = health
        self._json = log_format is LogFormat.JSON
        self._told_at = 0.0
        self._backlog = Backlog(0, 0, 0, 0.0)
        self._equal = self._unknown = 0
        self._quarantined: dict[object, str] = {}

    def step(self, step: Step) -> None:
        """See `phases.relay.Watch`."""
        self._health.works(self._name)
        self._equal += step.equal
        self._unknown += step.unknown
        if step.equal or step.unknown or step.quarantined:
            facts = {"equal": step.equal, "unknown": step.unknown, "quarantined": len(step.quarantined)}
            structlog.get_logger().debug("batch", collection=self._name, **facts)
        for row in step.quarantined:
            self._quarantined[row.key] = f"{row.reason.value}: {row.detail}"
            self._say("quarantined", key=row.key, reason=row.reason.value, detail=row.detail)

    def backlog(self, backlog: Backlog) -> None:
        """See `phases.relay.Watch`."""
        self._backlog = backlog
        if time.monotonic() - self._told_at >= LINE_SECONDS:
            self._told_at = time.monotonic()
            oldest = round(backlog.oldest_seconds, 1)
            self._say("backlog", equal=self._equal, dirty=backlog.dirty, tainted=backlog.tainted, oldest_seconds=oldest)

    def note(self, text: str) -> None:
        """See `phases.relay.Watch`."""
        self._health.lives(self._name)
        self._say("note", text=text)

    def record(self, settings: Settings, collection: CollectionSettings, *, failed: bool) -> None:
        """Add to the journal what it came to."""
        text = f"a relay {'failed' if failed else 'ended'}: {self._equal:,} keys made equal, {self._backlog.dirty:,} left dirty"
        data = {
            "state": "failed" if failed else "ended",
            "equal": self._equal,
            "unknown": self._unknown,
            "quarantined": len(self._quarantined),
            "left": {"dirty": self._backlog.dirty, "tainted": self._backlog.tainted, "open": self._backlog.open},
        }
        journaling.record(settings, collection, EventKind.RELAY, text, data, self.note)

    def result(self) -> Result:
        """Return what it came to."""
        left = self._backlog
        facts = [
            ("made equal", f"{self._equal:,} keys"),
            ("unknown outcomes", f"{self._unknown:,}"),
            ("quarantined", f"{len(self._quarantined):,}"),
            ("left", f"{left.dirty:,} dirty, {left.tainted:,} tainted, {left.open:,} open"),
        ]
        data = {
            "name": self._name,
            "equal": self._equal,
            "unknown": self._unknown,
            "quarantined": {str(key): reason for key, reason in self._quarantined.items()},
            "dirty": left.dirty,
            "tainted": left.tainted,
            "open": left.open,
        }
        return Result(title=f"{self._name}: relay ended", facts=facts, data=data)

    def _say(self, event: str, **facts: object) -> None:
        if self._json:
            structlog.get_logger().info(event, collection=self._name, **facts)
            return
        told = ", ".join(f"{name} {value}" for name, value in facts.items())
        sys.stderr.write(f"{self._name}: {event}: {told}\n")
        sys.stderr.flush()
