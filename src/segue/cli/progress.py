"""How a copy shows itself while it runs: a live display on a terminal, plain or JSON lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from segue.model import Counts
from segue.ports import IndexProgress, Meter
from segue.ports import Progress as ProgressPort
from segue.telemetry.logging import LogFormat, logs_batches

WINDOW_SECONDS = 15.0
"""Of the moving window that rate and time left come from."""

LINE_SECONDS = 5.0
"""Between plain lines."""


class Tally:
    """Counts, rate and time left; shared by both displays. Usable from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()
        self.source = self.done = self.quarantined = 0

    def begin(self, counts: Counts) -> None:
        """Start from the counts of a plan."""
        with self._mutex:
            self.source = counts.source
            self.quarantined = counts.quarantined
            self.done = counts.migrated + counts.quarantined
            self._samples = deque([(time.monotonic(), self.done)])

    def add(self, migrated: int, quarantined: int) -> None:
        """Count a batch."""
        with self._mutex:
            self.done += migrated + quarantined
            self.quarantined += quarantined
            self.source = max(self.source, self.done)
            now = time.monotonic()
            self._samples.append((now, self.done))
            while now - self._samples[1][0] > WINDOW_SECONDS:
                self._samples.popleft()

    @property
    def rate(self) -> float:
        """Rows a second over the moving window."""
        with self._mutex:
            if not self._samples:
                return 0.0
            since, before = self._samples[0]
            return (self.done - before) / max(time.monotonic() - since, 0.001)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the present rate; None while there is no rate."""
        rate = self.rate
        if self.source == self.done:
            return 0.0
        return (self.source - self.done) / rate if rate > 0 else None

    @property
    def left(self) -> str:
        """Time left at the present rate, as H:MM:SS."""
        seconds = self.seconds_left
        return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


class Said:
    """What was said lately, so that several workers who meet the same fault say it once. Usable from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._when: dict[str, float] = {}

    def is_new(self, text: str) -> bool:
        """Say whether a text may be said again, and take note of it then."""
        now = time.monotonic()
        with self._mutex:
            if now - self._when.get(text, -LINE_SECONDS) < LINE_SECONDS:
                return False
            self._when[text] = now
            return True


class LiveDisplay:
    """A bar, rate, time left, and a line for each worker."""

    def __init__(self, name: str, console: Console) -> None:
        self._tally = Tally()
        self._activities: dict[int, str] = {}
        self._said = Said()
        self._console = console
        self._bar = Progress(
            TextColumn(f"[bold]{name}[/bold]"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
        )
        self._task = self._bar.add_task("copy", total=None, pace="")
        self.live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        self._tally.begin(counts)
        if resumed:
            self.note(f"resuming: {counts.migrated:,} of {counts.source:,} are there, {ranges} ranges")

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""
        del worker, range_number
        self._tally.add(migrated, quarantined)

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""
        self._activities[worker] = activity

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""
        self._activities = {0: f"Milvus builds the index: {progress.indexed:,} of {progress.total:,} rows"}

    def note(self, text: str) -> None:
        """See `Progress`."""
        if self._said.is_new(text):
            self._console.print(f"  {text}", markup=False, highlight=False)

    def _render(self) -> Group:
        tally = self._tally
        pace = f"{tally.rate:,.0f} rows/s  {tally.left} left  {tally.quarantined:,} quarantined"
        self._bar.update(self._task, completed=tally.done, total=tally.source or None, pace=pace)
        workers = [Text(f"  worker {worker}: {activity}", style="dim") for worker, activity in sorted(self._activities.items())]
        return Group(self._bar, *workers)


class Lines:
    """A line every few seconds; with JSON logs the same facts as fields."""

    def __init__(self, name: str, log_format: LogFormat) -> None:
        self._name = name
        self._tally = Tally()
        self._activities: dict[int, str] = {}
        self._said = Said()
        self._json = log_format is LogFormat.JSON
        self._last = time.monotonic()
        self._mutex = threading.Lock()

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        self._tally.begin(counts)
        self._say("resuming" if resumed else "planned", ranges=ranges, **counts.as_dict())

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""
        moved = {"worker": worker, "range": range_number, "migrated": migrated, "quarantined": quarantined}
        structlog.get_logger().debug("batch", collection=self._name, **moved)
        self._tally.add(migrated, quarantined)
        tally = self._tally
        if self._due() or tally.done >= tally.source:
            facts = {"done": tally.done, "source": tally.source, "rows_per_second": round(tally.rate), "left": tally.left}
            self._say("copying", **facts, quarantined=tally.quarantined, workers=self._activities)

    def working(self, worker: int, activity: str) -> None:
        """See `Progress`."""
        self._activities[worker] = activity

    def indexing(self, progress: IndexProgress) -> None:
        """See `Progress`."""
        if progress.done or self._due():
            self._say("indexing", indexed=progress.indexed, total=progress.total)

    def note(self, text: str) -> None:
        """See `Progress`."""
        if self._said.is_new(text):
            self._say("note", text=text)

    def _due(self) -> bool:
        with self._mutex:
            now = time.monotonic()
            if now - self._last < LINE_SECONDS:
                return False
            self._last = now
            return True

    def _say(self, event: str, **facts: object) -> None:
        if self._json:
            structlog.get_logger().info(event, collection=self._name, **facts)
            return
        told = ", ".join(_plain(value) if name == "text" else f"{name} {_plain(value)}" for name, value in facts.items())
        sys.stderr.write(f"{self._name}: {event}: {told}\n")
        sys.stderr.flush()


class Metered:
    """Tells a meter how far a copy has come, and passes everything on to whoever shows it. Usable from several threads."""

    def __init__(self, shown: ProgressPort, meter: Meter) -> None:
        self._meter = meter
        self._mutex = threading.Lock()
        self._tally = Tally()
        # What concerns no meter goes straight on.
        self.working = shown.working
        self.note = shown.note
        self._shown = shown

    def planned(self, counts: Counts, ranges: int, *, resumed: bool) -> None:
        """See `Progress`."""
        with self._mutex:
            self._tally.begin(counts)
            self._tell()
        self._shown.planned(counts, ranges, resumed=resumed)

    def batch(self, worker: int, range_number: int, migrated: int, quarantined: int) -> None:
        """See `Progress`."""
        # Told in the order of the counts, or an older one might stay as the last.
        with self._mutex:
            self._tally.add(migrated, quarantined)
            self._tell()
        self._shown.batch(worker, range_number, migrated, quarantined)

    def indexing(self, index: IndexProgress) -> None:
        """See `Progress`."""
        self._meter.stored(index.total, index.indexed)
        self._shown.indexing(index)

    def _tell(self) -> None:
        tally = self._tally
        self._meter.copied(tally.done - tally.quarantined, tally.quarantined, tally.source, tally.seconds_left)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{worker} {activity}" for worker, activity in sorted(value.items()))
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextmanager
def shown(name: str, log_format: LogFormat) -> Iterator[ProgressPort]:
    """Show a copy's progress in the way that fits where stderr leads."""
    console = Console(stderr=True)
    # A line a batch would tear a live display apart.
    if log_format is LogFormat.JSON or logs_batches() or not console.is_terminal:
        yield Lines(name, log_format)
        return
    display = LiveDisplay(name, console)
    with display.live:
        yield display
