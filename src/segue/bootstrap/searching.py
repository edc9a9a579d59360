"""Config → a check of both sides' searches, asked as the application asks them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segue import bootstrap
from segue.config import CollectionSettings, Settings
from segue.errors import ConfigError
from segue.model import Metric, SourceSpec
from segue.phases.search_check import Job, Narrowed, Question, SearchCheck, Stores, Watch
from segue.pipelines.conditions import as_laid_out
from segue.pipelines.filters import parse


@dataclass(frozen=True, slots=True)
class Wish:
    """What a check is asked for.

    Attributes:
        queries: Items to draw and search for.
        k: Hits wanted.
        filters: The application's, as JSON; none means those of the configuration.
        query_vectors: A file of vectors to search for as well, a JSON array a line.
        least_recall: What Milvus must find; None means what the configuration says.
    """

    queries: int
    k: int
    filters: Sequence[str]
    query_vectors: Path | None
    least_recall: float | None


@contextmanager
def open_search_check(
    settings: Settings, collection: CollectionSettings, wish: Wish, watch: Watch, stop: threading.Event
) -> Iterator[SearchCheck]:
    """Connect to both sides for checking a collection's searches.

    Raises:
        ConfigError: The collection is not there yet, or the vectors to search for cannot be read.
        InvalidInput: A filter does not fit.
    """
    from segue.stores.milvus_filters import expression
    from segue.stores.milvus_search import MilvusCandidates
    from segue.stores.milvus_store import MilvusSink
    from segue.stores.neo4j_control import Neo4jControl
    from segue.stores.neo4j_filters import condition
    from segue.stores.neo4j_journal import Neo4jJournal
    from segue.stores.neo4j_marks import Neo4jMarks
    from segue.stores.neo4j_search import Neo4jNearest
    from segue.stores.neo4j_side import Neo4jSide
    from segue.stores.neo4j_store import Neo4jSource

    search, configured = settings.search, bootstrap.source_spec(collection)
    with bootstrap.open_neo4j(settings) as connection, bootstrap.open_milvus(settings) as milvus:
        sink = MilvusSink(milvus)
        names = sink.field_names(collection.name)
        if names is None:
            message = f"there is no collection {collection.name!r} in Milvus to search"
            raise ConfigError(message, hint="`segue migrate-embeddings` makes it.")
        spec = as_laid_out(configured, names)
        layout = bootstrap.lay_out(collection)(spec)
        job = Job(
            collection=collection.name,
            configured=configured,
            spec=spec,
            layout=layout,
            items=wish.queries,
            questions=_questions(wish.query_vectors, spec) if wish.query_vectors else (),
            filters=_filters(wish.filters, collection, spec),
            k=wish.k,
            margin=search.margin,
            seconds=max(search.neo4j_seconds, settings.milvus.request_timeout_seconds),
            least_recall=settings.validation.least_recall if wish.least_recall is None else wish.least_recall,
        )
        stores = Stores(
            source=Neo4jSource(connection),
            side=Neo4jSide(connection, spec),
            nearest=Neo4jNearest(connection, spec, condition, oversample=search.oversample),
            candidates=MilvusCandidates(milvus, layout, spec, expression, ef=search.ef),
            marks=Neo4jMarks(connection, collection.name, configured),
            node=Neo4jControl(connection, collection.name),
            journal=Neo4jJournal(connection, collection.name),
            reload=partial(sink.reload, layout),
        )
        yield SearchCheck(job, stores, watch, clock=time.monotonic, wait=stop.wait, stop=stop)


def _filters(given: Sequence[str], collection: CollectionSettings, spec: SourceSpec) -> list[Narrowed]:
    forms: list[Any] = [_read(text) for text in given] if given else list(collection.filters)
    return [Narrowed(json.dumps(form, ensure_ascii=False, default=str), parse(form, spec)) for form in forms]


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as fault:
        message = f"--filter {text!r} is no JSON: {fault}"
        raise ConfigError(message, hint="""Write it as the application does: --filter '{"year": {">=": 1970}}'""") from fault


def _questions(path: Path, spec: SourceSpec) -> list[Question]:
    """Read vectors to search for: a JSON array of numbers a line; empty lines do not count."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        message = f"cannot read the vectors in {path}: {getattr(fault, 'strerror', None) or 'it is not UTF-8 text'}"
        raise ConfigError(message, hint="Name a file with a JSON array a line: --query-vectors FILE") from fault
    return [Question(f"line {number}", _vector(line, f"{path}:{number}", spec)) for number, line in enumerate(lines, 1) if line]


def _vector(line: str, where: str, spec: SourceSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    # numpy would read text as a number, and a number alone as a vector.
    if not (isinstance(read, list) and all(type(element) in {int, float} for element in read)):
        message = f"{where} is no JSON array of numbers"
        raise ConfigError(message, hint="One vector a line: [0.1, 0.2, …]")
    with np.errstate(over="ignore"):
        vector = np.asarray(read, np.float64).astype(np.float32)
    if vector.size != spec.dimension:
        message = f"{where} has {vector.size:,} elements, the index has {spec.dimension:,}"
        raise ConfigError(message, hint="Make the vectors by the model that made the items'.")
    if not np.isfinite(vector).all() or (spec.metric is Metric.COSINE and not vector.any()):
        message = f"{where} is a vector that no store can be asked: not finite, or zero under cosine"
        raise ConfigError(message, hint="Take the line out.")
    return vector
