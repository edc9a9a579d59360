"""Meters for what a verb does, and the page of metrics that it serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segue.config import CollectionSettings
from segue.ports import Meter, NoMeter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from segue.telemetry.exposition import Served
    from segue.telemetry.health import Health

LAST_SCRAPE_SECONDS = 60.0
"""How long a copy's last figures are shown at most: as long as the slowest usual scrape interval."""


class Meters:
    """Gives each collection its meter; meters that count nothing where no metrics are served."""

    def __init__(self, registry: CollectorRegistry | None = None, served: Served | None = None) -> None:
        self._registry = registry
        self._served = served

    def __call__(self, collection: CollectionSettings) -> Meter:
        """Return the meter of a collection."""
        if self._registry is None:
            return NoMeter()
        from segue.telemetry.metrics import Metrics

        return Metrics(collection.name, self._registry)

    def await_scrape(self, stop: threading.Event, note: Callable[[str], None]) -> None:
        """Go on serving until somebody has seen the last figures, for `LAST_SCRAPE_SECONDS` at most."""
        if self._served is None:
            return
        note(f"the last figures are shown until they are scraped, for {LAST_SCRAPE_SECONDS:.0f} s at most; Ctrl-C ends that")
        self._served.await_scrape(LAST_SCRAPE_SECONDS, stop)


@contextmanager
def metered(port: int | None, health: Health | None = None) -> Iterator[Meters]:
    """Give meters whose metrics are served at /metrics on a port; without a port, meters that count nothing.

    Args:
        port: Where to listen, on every address of this machine.
        health: What /healthz and /readyz beside it tell.

    Raises:
        ConfigError: The port is taken.
    """
    if port is None:
        yield Meters()
        return
    from prometheus_client import CollectorRegistry

    from segue.telemetry.exposition import serve

    registry = CollectorRegistry()
    served = serve(port, registry, health=health)
    try:
        yield Meters(registry, served)
    finally:
        served.close()
