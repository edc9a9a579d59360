"""`segue monitor`: a migration watched live, from any machine; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from queue import Empty, Queue
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segue.bootstrap import looking
from segue.cli import options
from segue.cli.interruption import Stop, stoppable
from segue.cli.output import Format, Listing, Result, publish
from segue.config import Settings, load
from segue.errors import ConfigError, RetryableError
from segue.phases.monitor import Latency, Page, page
from segue.seen import Seen
from segue.telemetry.logging import LogFormat, configure

LOOK_SECONDS = 60.0
"""However many collections there are, and however slow each store may be."""

WINDOW_SECONDS = 60.0
"""Of the moving window that latencies come from while it is watched, and rates."""


def monitor(
    config: options.Config = options.CONFIG_PATH,
    collection: options.Collection = None,
    interval_secs: Annotated[float, typer.Option("--interval-secs", min=0.2, help="Between two looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print it, end.")] = False,
    metrics_url: options.MetricsUrl = None,
    prometheus_url: options.PrometheusUrl = None,
    output_format: options.OutputFormat = Format.TABLE,
    output_file: options.OutputFile = None,
    log_format: options.LogFormatOption = LogFormat.AUTO,
    no_input: options.NoInput = False,
) -> None:
    """Watch a migration: phase, progress, backlog, latencies, success rates, errors, mode, instances and gates.

    From the control node, the marks and the journal in Neo4j, from Milvus, from the state file where it is on this machine, and
    from what processes count where they are named. Changes nothing. A store that is away is said, and the rest is shown.
    Ctrl-C ends it.
    """
    del no_input
    configure(log_format)
    if not once and (output_format is not Format.TABLE or output_file is not None):
        message = "--format and --output-file are for one look"
        raise ConfigError(message, hint="Add --once; or leave them out, to watch.")
    settings = load(config, options.watched(metrics_url, prometheus_url))
    names = [one.name for one in settings.chosen(collection)]
    if once:
        began = time.monotonic()
        pages = [page(seen) for seen in _look(settings, names, Stop()) or ()]
        publish([_result(one) for one in pages], _data(pages, began), output_format, output_file)
        return
    console = Console()
    with stoppable(said="") as stop:
        if console.is_terminal:
            _live(settings, names, interval_secs, console, stop)
        else:
            _lines(settings, names, interval_secs, stop, as_json=log_format is LogFormat.JSON)


def _look(settings: Settings, names: Sequence[str], stop: Stop) -> list[Seen] | None:
    """Look at every collection; None when asked to stop meanwhile.

    In a thread that is left alone when it does not come back: a client library that hangs must hang nobody who watches.

    Raises:
        RetryableError: It does not come back.
    """
    answers: Queue[list[Seen] | BaseException] = Queue()

    def look() -> None:
        try:
            samples, faults = looking.counted(settings)
            answers.put([looking.look_at(settings, settings.chosen(name)[0], samples, faults) for name in names])
        except BaseException as fault:  # noqa: BLE001  # raised again by the main thread
            answers.put(fault)

    threading.Thread(target=look, name="look", daemon=True).start()
    until = time.monotonic() + LOOK_SECONDS
    while not stop.is_set():
        with suppress(Empty):
            answer = answers.get(timeout=0.2)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        if time.monotonic() > until:
            message = f"a look at the stores has not come back within {LOOK_SECONDS:g} s"
            raise RetryableError(message, hint="Look again; segue preflight says how each store is reached.")
    return None


class _Watched:
    """The looks of the last minute, the oldest of which is what the newest is compared with."""

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._settings = settings
        self._names = names
        self._looks: deque[list[Seen]] = deque()

    def pages(self, stop: Stop) -> list[Page]:
        """Look again; no pages when asked to stop, or when that does not come back."""
        looks = self._looks
        try:
            found = _look(self._settings, self._names, stop)
        except RetryableError:
            found = None
        if found is None:
            return []
        looks.append(found)
        while (looks[-1][0].at - looks[0][0].at).total_seconds() > WINDOW_SECONDS:
            looks.popleft()
        before: Sequence[Seen | None] = looks[0] if len(looks) > 1 else [None] * len(self._names)
        return [page(now, then) for now, then in zip(looks[-1], before, strict=True)]


def _live(settings: Settings, names: Sequence[str], interval: float, console: Console, stop: Stop) -> None:
    watched = _Watched(settings, names)
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            if pages := watched.pages(stop):
                live.update(Group(*(_screen(one) for one in pages)), refresh=True)
            if stop.wait(interval):
                return


def _lines(settings: Settings, names: Sequence[str], interval: float, stop: Stop, *, as_json: bool) -> None:
    watched = _Watched(settings, names)
    while True:
        for one in watched.pages(stop):
            if as_json:
                # The page is this verb's result, so it goes to stdout, one object a line.
                typer.echo(structlog.processors.JSONRenderer()(None, "", {"event": "seen", **_page_data(one)}))
            else:
                typer.echo(_line(one))
        sys.stdout.flush()
        if stop.wait(interval):
            return


def _facts(one: Page) -> list[tuple[str, str]]:
    seen, backlog = one.seen, one.backlog
    return [
        ("phase", one.phase),
        ("mode", _mode(one)),
        ("progress", _progress(one)),
        ("rate", "not known" if one.rate is None else f"{one.rate:,.0f} items/s")
        if one.is_copying
        else ("rate", "no copy is under way"),
        ("time left", _lasted(one.eta_seconds) if one.is_copying else "no copy is under way"),
        ("workers", _workers(one)),
        (
            "backlog",
            "not known"
            if backlog is None
            else f"{backlog.dirty:,} dirty, the oldest for {backlog.oldest_seconds:,.1f} s, {backlog.tainted:,} tainted, "
            f"{backlog.open:,} open",
        ),
        ("lag", "not known" if one.lag_p95 is None else f"95 % of changes are in Milvus after {one.lag_p95:,.2f} s or less"),
        ("Neo4j latency", _latency(one.neo4j)),
        ("Milvus latency", _latency(one.milvus)),
        ("speed-up", "not known" if one.speed_up is None else f"Milvus's median is {one.speed_up:.1f} times shorter"),
        ("success rate", _success(one)),
        ("errors", _counted(one.errors)),
        ("fallbacks", _counted(one.fallbacks)),
        ("Milvus", _sink(seen)),
        ("instances", _instances(seen)),
        ("validated", _validated(seen)),
        ("last event", _event(one)),
    ]


def _mode(one: Page) -> str:
    if one.mode is None:
        return "not known"
    control = one.seen.control
    since = _since(control.changed_seconds_ago) if control else ", as the processes that were asked say"
    return f"{one.mode} at epoch {one.epoch}{since}"


def _progress(one: Page) -> str:
    account = one.account
    if account is None:
        return "no copy is recorded"
    left = f"{account.quarantined:,} quarantined, {account.pending:,} pending"
    return f"{account.share:.1%}: {account.migrated:,} of {account.source:,} items migrated, {left}"


def _workers(one: Page) -> str:
    relays = one.seen.relays
    said = [f"{one.workers} copy" if one.workers else "none copies"]
    if one.seen.copy is not None and one.is_copying:
        said.append(f"{one.seen.copy.ranges_done:,} of {one.seen.copy.ranges:,} ranges done")
    said.append("relays not known" if relays is None else f"{len(relays):,} relays")
    return ", ".join(said)


def _latency(latency: Latency) -> str:
    if not latency.count:
        return "not measured by whoever was asked"
    over = "since they started" if latency.window_seconds is None else f"over {latency.window_seconds:.0f} s"
    return f"{latency.p50:,.1f} ms median, {latency.p95:,.1f} p95, {latency.p99:,.1f} p99 ({latency.count:,} searches {over})"


def _success(one: Page) -> str:
    rates = [
        f"{store} {success.rate:.2%} of {success.attempts:,} items"
        for store, success in one.writes.items()
        if success.rate is not None
    ]
    return f"writes: {', '.join(rates)}" if rates else "no write is counted by whoever was asked"


def _counted(found: dict[str, int] | Any) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in list(found.items())[:5]) or "none"


def _sink(seen: Seen) -> str:
    if seen.sink is None:
        return "not reached"
    if seen.sink.physical is None:
        return "there is no collection yet"
    return f"{seen.sink.physical}, {'not loaded' if seen.sink.rows is None else f'{seen.sink.rows:,} rows'}"


def _instances(seen: Seen) -> str:
    if seen.instances is None:
        return "not known"
    epoch = seen.control.epoch if seen.control else 0
    late = [one for one in seen.instances if one.epoch < epoch]
    named = f": {', '.join(one.name for one in late[:5])}" if late else ""
    return f"{len(seen.instances):,} registered, {len(late):,} not in this epoch yet{named}"


def _validated(seen: Seen) -> str:
    last = seen.control.validated if seen.control else None
    if last is None:
        return "not known" if seen.control is None else "both sides were never compared"
    return f"{last.depth}, {'clean' if last.clean else f'{last.rate:.4%} equal'}{_since(last.seconds_ago)}"


def _event(one: Page) -> str:
    event = one.last_event
    return f"{event.text} ({datetime.fromtimestamp(event.at, UTC):%Y-%m-%d %H:%M:%S} UTC)" if event else "none"


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f", {_lasted(seconds)} ago"


def _lasted(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


def _gates(one: Page) -> list[Listing]:
    rows = [(gate.name, "open" if gate.holds else "closed", gate.evidence, gate.command) for gate in one.seen.gates]
    return [Listing(f"gates before {one.seen.onward}", ("gate", "is", "because", "opened by"), rows)] if rows else []


def _result(one: Page) -> Result:
    return Result(
        title=one.seen.collection,
        facts=_facts(one),
        data={},
        listings=_gates(one),
        notes=[f"cannot be reached: {fault}" for fault in one.seen.unreachable],
    )


def _screen(one: Page) -> Group:
    facts = Table.grid(padding=(0, 2))
    for label, value in _facts(one):
        facts.add_row(Text(f"  {label}", style="dim"), Text(value))
    parts: list[Any] = [Text(f"{one.seen.collection}  {datetime.now(UTC):%H:%M:%S} UTC", style="bold")]
    if one.account is not None:
        parts.append(ProgressBar(total=max(1, one.account.source), completed=one.account.done, width=60))
    parts.append(facts)
    if one.seen.gates:
        table = Table(
            "gate", "is", "because", title=f"gates before {one.seen.onward}", box=None, padding=(0, 2), title_justify="left"
        )
        for gate in one.seen.gates:
            table.add_row(
                gate.name, Text("open", style="green") if gate.holds else Text("closed", style="yellow"), gate.evidence
            )
        parts.append(table)
    parts += [Text(f"cannot be reached: {fault}", style="red") for fault in one.seen.unreachable]
    return Group(*parts, Text())


def _line(one: Page) -> str:
    said = [f"{datetime.now(UTC):%H:%M:%S} {one.seen.collection}"]
    said += [f"{label} {value}" for label, value in _facts(one) if label not in {"last event", "workers", "Milvus"}]
    shut = [gate.name for gate in one.seen.gates if not gate.holds]
    if one.seen.onward is not None:
        said.append(f"gates before {one.seen.onward}: {', '.join(shut) + ' closed' if shut else 'open'}")
    said += [f"cannot be reached: {fault}" for fault in one.seen.unreachable]
    return "; ".join(said)


def _data(pages: Sequence[Page], began: float) -> dict[str, Any]:
    return {
        "verb": "monitor",
        "status": "ok",
        "seconds": round(time.monotonic() - began, 3),
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "collections": [_page_data(one) for one in pages],
    }


def _page_data(one: Page) -> dict[str, Any]:
    seen, account = one.seen, one.account
    return {
        "name": seen.collection,
        "phase": one.phase,
        "mode": one.mode and one.mode.value,
        "epoch": one.epoch,
        "counts": account
        and {
            "source": account.source,
            "migrated": account.migrated,
            "quarantined": account.quarantined,
            "pending": account.pending,
        },
        "copying": one.is_copying,
        "rate": one.rate,
        "eta_seconds": one.eta_seconds,
        "workers": one.workers,
        "relays": None if seen.relays is None else len(seen.relays),
        "backlog": one.backlog and asdict(one.backlog),
        "lag_p95_seconds": one.lag_p95,
        "latency_ms": {"neo4j": _latency_data(one.neo4j), "milvus": _latency_data(one.milvus)},
        "speed_up": one.speed_up,
        "writes": {
            store: {"attempts": each.attempts, "successes": each.successes, "rate": each.rate}
            for store, each in one.writes.items()
        },
        "errors": dict(one.errors),
        "fallbacks": dict(one.fallbacks),
        "milvus": seen.sink and {"collection": seen.sink.physical, "rows": seen.sink.rows},
        "instances": None
        if seen.instances is None
        else [{"name": each.name, "host": each.host, "epoch": each.epoch} for each in seen.instances],
        "next": seen.onward and seen.onward.value,
        "gates": [asdict(gate) for gate in seen.gates],
        "last_event": one.last_event and one.last_event.text,
        "unreachable": list(seen.unreachable),
    }


def _latency_data(latency: Latency) -> dict[str, Any]:
    return {
        "count": latency.count,
        "mean": latency.mean,
        "p50": latency.p50,
        "p95": latency.p95,
        "p99": latency.p99,
        "window_seconds": latency.window_seconds,
    }
