"""Config → a relay of a collection, which waits for a store that is away and tells meanwhile how the collection stands."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from segue import bootstrap
from segue.bootstrap import journaling
from segue.config import CollectionSettings, Settings
from segue.errors import ConfigError, RetryableError
from segue.model import EventKind, Layout
from segue.phases.observe import observe
from segue.phases.relay import Relay, Timing, Watch, keep_equal
from segue.pipelines.conditions import as_laid_out
from segue.pipelines.embeddings import Codec
from segue.ports import ControlNode, Meter, NoMeter, Sink

OBSERVE_SECONDS = 15.0
"""Between looks at how a collection stands: as often as Prometheus usually scrapes."""

OBSERVE_ENDS_SECONDS = 5.0
"""How long a relay that ends waits for a look that hangs."""

STORE_SECONDS = 2.0
"""Between tries to reach a store that a relay needs to begin."""


def relay(
    settings: Settings,
    collection: CollectionSettings,
    watch: Watch,
    stop: threading.Event,
    *,
    until_drained: bool,
    meter: Meter | None = None,
) -> None:
    """Relay one collection until asked to stop, or until it is drained.

    A store that does not answer is waited for, in the beginning as later.

    Raises:
        ConfigError: The collection is not there yet.
    """
    while not stop.is_set():
        try:
            _relay(settings, collection, watch, stop, until_drained=until_drained, meter=meter)
        except RetryableError as fault:
            watch.note(f"{fault}; trying again")
            if meter is not None:
                meter.relays(is_up=False)
            stop.wait(STORE_SECONDS)
        else:
            return


def _relay(
    settings: Settings,
    collection: CollectionSettings,
    watch: Watch,
    stop: threading.Event,
    *,
    until_drained: bool,
    meter: Meter | None,
) -> None:
    from segue.stores.neo4j_control import Neo4jControl

    with bootstrap.open_neo4j(settings) as connection, bootstrap.open_sink(settings) as sink:
        names = sink.field_names(collection.name)
        if names is None:
            message = f"there is no collection {collection.name!r} in Milvus to relay to"
            raise ConfigError(message, hint="`segue migrate-embeddings` makes it; the marks wait until then.")
        spec = as_laid_out(bootstrap.source_spec(collection), names)
        layout = bootstrap.lay_out(collection)(spec)
        sink.find(layout)
        marks = bootstrap.marks(connection, collection)
        times = settings.relay
        timing = Timing(
            request=settings.milvus.request_timeout_seconds,
            landing=times.landing_seconds,
            lease=times.lease_seconds,
            window=times.window_seconds,
            drain=times.drain_seconds,
        )
        journaling.recorder(connection, settings, collection, watch.note).record(
            EventKind.RELAY,
            "a relay drains the marks" if until_drained else "a relay runs",
            {"state": "began", "until_drained": until_drained},
        )
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        one = Relay(owner, marks, Codec(spec, layout), layout, sink, timing, time.monotonic, meter=meter)
        with _observing(Neo4jControl(connection, collection.name), sink, layout, meter):
            keep_equal(one, marks, timing, time.monotonic, stop, watch, until_drained=until_drained, meter=meter)


@contextmanager
def _observing(node: ControlNode, sink: Sink, layout: Layout, meter: Meter | None) -> Iterator[None]:
    """Tell a meter now and then how the collection stands; in a thread of its own, so that no store that hangs holds it up."""
    if meter is None or isinstance(meter, NoMeter):
        yield
        return
    ended = threading.Event()

    def keep_telling() -> None:
        while not ended.is_set():
            observe(node, sink, layout, meter)
            ended.wait(OBSERVE_SECONDS)

    thread = threading.Thread(target=keep_telling, name=f"observe-{layout.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(OBSERVE_ENDS_SECONDS)
