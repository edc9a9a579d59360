"""Config → who copies ranges on a Ray cluster. What is sent there opens both stores over there, by the same settings."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from segue import bootstrap
from segue.config import CollectionSettings, Settings
from segue.errors import ExtraMissing
from segue.model import Layout, SourceSpec
from segue.patience import Patience
from segue.phases.backfill import Beside, RangeCopier
from segue.pipelines.batch_size import BatchSize
from segue.ports import Copier, Records


def copiers(
    address: str,
    opened: ExitStack,
    settings: Settings,
    collection: CollectionSettings,
    capture: str | None,
    stop: threading.Event,
) -> Callable[[SourceSpec, Layout], Copier]:
    """Return what gives who copies on a cluster, which is not connected to before there is something to copy.

    Args:
        address: See `connected`.
        opened: Ends the connection.
        settings: By which both stores are opened over there.
        collection: What is copied.
        capture: The token under which changes are captured, if they are.
        stop: Asks to stop.

    Raises:
        ExtraMissing: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ExtraMissing.of(what="a copy on a Ray cluster", extra="ray", missing=["ray"])
    from segue.engines.ray_copier import RayCopier, connected

    def copier(spec: SourceSpec, layout: Layout) -> Copier:
        opened.enter_context(connected(address, settings.backfill.workers))
        return RayCopier(address, partial(_opened, settings, collection, capture, spec, layout), stop)

    return copier


@contextmanager
def _opened(
    settings: Settings,
    collection: CollectionSettings,
    capture: str | None,
    spec: SourceSpec,
    layout: Layout,
    records: Records,
    stop: threading.Event,
) -> Iterator[Copier]:
    """Connect to both sides, where an actor runs, and give who copies ranges there."""
    with bootstrap.open_stores(settings) as stores, bootstrap.open_neo4j(settings) as connection:
        stores.sink.find(layout)
        beside = None
        if capture is not None:
            marks = bootstrap.marks(connection, collection)
            beside = Beside(capture, marks, settings.relay.landing_seconds, stop.wait)
        patience = Patience(settings.backfill.patience_seconds, records, stop)
        size = BatchSize(spec.dimension, settings.backfill.fixed_batch_size)
        yield RangeCopier(spec, layout, stores.source, stores.sink, size, patience, beside, stop)
