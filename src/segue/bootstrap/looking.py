"""Config → one look at a collection, from any machine: each store is asked by itself, and what is away is said and passed over.

Only reads. Nothing here waits long: whoever watches looks again anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from segue import bootstrap
from segue.bootstrap.asking import ask, tried
from segue.config import CollectionSettings, Settings
from segue.errors import DataError, NotLoaded, SegueError
from segue.migration import following
from segue.model import Sample, Samples
from segue.phases.cutover import look
from segue.seen import Seen, SinkSeen
from segue.state.sqlite_look import newest_copy
from segue.telemetry.panels import PANELS, Curve, Dashboard, Panel
from segue.telemetry.scrape import ask_course, ask_prometheus, scrape, scrape_seconds

T = TypeVar("T")

CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 5.0
"""However long a store may take otherwise."""

MOST_STEPS = 240
"""Values of one series that a panel shows."""


def counted(settings: Settings, since_seconds: float | None = None) -> tuple[list[Sample], list[str]]:
    """Read what processes count: from the configured pages of metrics, and from Prometheus.

    Returns:
        The samples, and a sentence for each place that cannot be read.
    """
    samples, faults = scrape(settings.monitor.urls)
    if settings.monitor.prometheus_url is not None:
        more, wrong = ask_prometheus(settings.monitor.prometheus_url, since_seconds)
        return [*samples, *more], [*faults, *wrong]
    return samples, faults


def dashboard(settings: Settings, collection: str, begin: float, end: float) -> Dashboard | None:
    """Ask the configured Prometheus what every panel of the dashboard shows of one collection; None where none is configured.

    Args:
        settings: Which Prometheus.
        collection: The collection's name.
        begin: Where the window begins, in seconds since 1970.
        end: Where it ends.
    """
    url = settings.monitor.prometheus_url
    if url is None:
        return None
    asked: list[tuple[Panel, Sequence[Curve]]] = []
    faults: list[str] = []
    step, width = 1.0, max(60.0, math.ceil(end - begin))
    try:
        every = scrape_seconds(url)
        step = max(every, math.ceil(width / MOST_STEPS))
        # As Grafana has it: a rate needs some scrapes, and what lies between two steps.
        rate = max(4 * every, step + every)
        for panel in PANELS:
            found = []
            for query in panel.queries:
                courses = ask_course(url, query.concrete(collection, rate, width), begin, end, step)
                found += [Curve(query.name(one.labels) or panel.title, query, one.points) for one in courses if one.points]
            asked.append((panel, found))
    except SegueError as fault:
        faults.append(fault.message)
        asked += [(panel, ()) for panel in PANELS[len(asked) :]]
    return Dashboard(begin, end, step, asked, faults)


def look_at(settings: Settings, collection: CollectionSettings, samples: list[Sample], faults: list[str]) -> Seen:
    """Look at one collection; never raises for a store that is away.

    Args:
        settings: Where the stores are.
        collection: Which.
        samples: What processes count, of all collections.
        faults: What could not be read of it.
    """
    hurried = _hurried(settings)
    unreachable: list[str] = []
    found: dict[str, Any] = {}
    _look_into_neo4j(hurried, collection, found, unreachable)
    found["sink"] = tried(lambda: _sink(hurried, collection), unreachable)
    found["copy"] = tried(lambda: newest_copy(settings.state.path, collection.name), unreachable)
    mine = Samples(samples).of(collection.name)
    return Seen(collection.name, datetime.now(UTC), samples=mine, unreachable=[*unreachable, *faults], **found)


def with_samples(seen: Seen, samples: list[Sample]) -> Seen:
    """Return a look with other samples."""
    return replace(seen, samples=Samples(samples).of(seen.collection))


def _look_into_neo4j(settings: Settings, collection: CollectionSettings, found: dict[str, Any], unreachable: list[str]) -> None:
    from segue.stores.cypher import query
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_journal import Neo4jJournal
    from segue.stores.neo4j_marks import Neo4jMarks
    from segue.stores.neo4j_returning import Neo4jReadiness

    with bootstrap.open_neo4j(settings, most_connect_seconds=CONNECT_SECONDS, retry_seconds=CONNECT_SECONDS) as connection:
        node = Neo4jControl(connection, collection.name)
        marks = Neo4jMarks(connection, collection.name, bootstrap.source_spec(collection))
        looks: dict[str, Callable[[], Any]] = {
            "control": node.read,
            "instances": node.instances,
            "backlog": marks.backlog,
            "index": Neo4jReadiness(connection, bootstrap.source_spec(collection)).look,
            "events": Neo4jJournal(connection, collection.name).events,
            "relays": lambda: [row[0] for row in connection.rows(query("relays_live"), collection=collection.name)],
        }
        if not ask(looks, found, unreachable):
            return
        control = found.get("control")
        onward = following(control.mode) if control else None
        if control is not None and onward is not None:
            asked = partial(
                look,
                node,
                control,
                marks,
                onward,
                collection=collection.name,
                terms=bootstrap.terms(settings),
            )
            found |= {"onward": onward, "gates": tried(asked, unreachable) or ()}


def _sink(settings: Settings, collection: CollectionSettings) -> SinkSeen:
    from segue.stores.milvus_collections import MilvusPhysicals
    from segue.stores.milvus_store import MilvusSink

    with bootstrap.open_milvus(settings) as connection:
        current = next((one for one in MilvusPhysicals(connection, collection.name).found() if one.is_current), None)
        if current is None:
            return SinkSeen(None, None)
        try:
            layout = bootstrap.lay_out(collection)(bootstrap.source_spec(collection))
            return SinkSeen(current.name, MilvusSink(connection).count(layout))
        except (DataError, NotLoaded):
            # It is not loaded, as while a copy is under way: nobody can count then.
            return SinkSeen(current.name, None)


def _hurried(settings: Settings) -> Settings:
    """Return the settings with a limit to how long a store may take."""
    neo4j = settings.neo4j.model_copy(
        update={"request_timeout_seconds": min(settings.neo4j.request_timeout_seconds, REQUEST_SECONDS)}
    )
    milvus = settings.milvus.model_copy(
        update={"request_timeout_seconds": min(settings.milvus.request_timeout_seconds, CONNECT_SECONDS)}
    )
    return settings.model_copy(update={"neo4j": neo4j, "milvus": milvus})
