"""Milvus searched for what is nearest: the request as it goes over the wire, the answer as hits on Neo4j's scale.

Uses the connection's own channel, so that a search costs no copies and is never tried again unasked. Always at the Bounded
level: what it may not show yet is the read fence's business. Knows no source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import Any

import grpc
import orjson

from segue.errors import SegueError, StoreUnavailable
from segue.model import Filter, Hit, Key, Layout, SourceSpec, StoreName
from segue.pipelines.scores import neo4j_score
from segue.ports import Pending, Vector
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_wire import search_request

EF = 64
"""How many candidates HNSW keeps in hand, unless told otherwise; more finds more of the true nearest, and costs time."""

MOST_EF = 32_768
"""Milvus's own bound."""

Found = tuple[Key, float, Sequence[Any], Mapping[str, Any]]
"""Key, Milvus's distance, the values of the typed fields, and the members of the JSON."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class MilvusCandidates:
    """The `Candidates` over one collection of a Milvus server or a Milvus Lite file. Usable from several threads.

    Args:
        connection: Where to search.
        layout: The collection; an index that chooses its own parameters (AUTOINDEX) is given none.
        spec: What was copied: the metric, and the carried properties that a hit may have.
        translate: Turns conditions into Milvus's language.
        ef: See `EF`; never less than twice k is used.
    """

    def __init__(
        self,
        connection: MilvusConnection,
        layout: Layout,
        spec: SourceSpec,
        translate: Callable[[Filter, Layout], str],
        *,
        ef: int | None = None,
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._translate = translate
        self._metric = spec.metric
        self._ef = ef or EF
        self._has_ef = layout.index.kind == "HNSW"
        self._typed = {
            field.name: field.source
            for field in layout.fields
            # In dynamic layouts a column of another name repeats a property that is a dynamic key too.
            if field.source in spec.property_names and (not layout.dynamic or field.name == field.source)
        }
        self._loose = frozenset(spec.property_names).difference(self._typed.values())
        self._fields = [*self._typed, *([layout.json_field] if self._loose else [])]

    def search(self, vector: Vector, k: int, conditions: Filter, seconds: float) -> Pending:
        """See `Candidates`. In a Lite file it returns when it has searched."""
        filtered = self._translate(conditions, self._layout) if conditions else ""
        params = {"ef": min(max(self._ef, 2 * k), MOST_EF)} if self._has_ef else {}
        if self._connection.lite:
            return self._search_lite(vector, k, filtered, params, seconds)
        request = search_request(
            self._connection.database, self._layout, vector, k, filtered=filtered, params=params, fields=self._fields
        )
        return _Asked(self._connection, self._connection.send_search(request, seconds), seconds, self._answer)

    def _answer(self, results: Any) -> list[Hit]:
        keys = results.ids.str_id.data or results.ids.int_id.data
        if not keys:
            return []
        columns = {column.field_name: column for column in results.fields_data}
        typed = zip(*(_values(columns[name]) for name in self._typed), strict=True) if self._typed else repeat(())
        loose = map(orjson.loads, _values(columns[self._layout.json_field])) if self._loose else repeat(_NOTHING)
        return self._hits(zip(keys, results.scores, typed, loose, strict=False))

    def _search_lite(self, vector: Vector, k: int, filtered: str, params: dict[str, int], seconds: float) -> Pending:
        began = time.monotonic()
        try:
            with self._connection.translated(seconds):
                (found,) = self._connection.client.search(
                    self._layout.name,
                    [vector.tolist()],
                    filtered,
                    k,
                    output_fields=self._fields,
                    search_params={"metric_type": self._layout.index.metric, "params": params},
                    anns_field=self._layout.vector.name,
                    timeout=seconds,
                )
        except SegueError as fault:
            return _Searched([], time.monotonic() - began, fault)
        return _Searched(self._hits(map(self._opened, found)), time.monotonic() - began)

    def _opened(self, row: Mapping[str, Any]) -> Found:
        entity = row["entity"]
        # The client gives dynamic keys among the fields.
        loose = entity if self._layout.dynamic else entity.get(self._layout.json_field, _NOTHING)
        return row[self._layout.primary.name], row["distance"], [entity[name] for name in self._typed], loose

    def _hits(self, found: Iterable[Found]) -> list[Hit]:
        best: dict[Key, Hit] = {}
        for key, distance, typed, loose in found:
            if key in best:
                continue
            properties = dict(zip(self._typed.values(), typed, strict=True))
            properties |= {name: value for name, value in loose.items() if name in self._loose}
            best[key] = Hit(key, neo4j_score(self._metric, distance), properties, StoreName.MILVUS)
        return list(best.values())


@dataclass(frozen=True, slots=True)
class _Searched:
    """A search that is over."""

    hits: list[Hit]
    seconds: float
    fault: SegueError | None = None

    def result(self) -> list[Hit]:
        if self.fault:
            raise self.fault
        return self.hits


class _Asked:
    """A search on its way through the channel."""

    def __init__(
        self, connection: MilvusConnection, future: grpc.Future[Any], seconds: float, answer: Callable[[Any], list[Hit]]
    ) -> None:
        self._connection = connection
        self._future = future
        self._deadline_seconds = seconds
        self._answer = answer
        self._sent = time.monotonic()
        self.seconds = 0.0
        # Its own moment: whoever asked may have other things to do before looking at the answer.
        future.add_done_callback(self._answered)

    def result(self) -> list[Hit]:
        try:
            with self._connection.translated(self._deadline_seconds):
                answer = self._future.result()
        except grpc.FutureCancelledError as fault:
            message = f"Milvus at {self._connection.uri}: the connection was closed meanwhile"
            raise StoreUnavailable(message) from fault
        code = answer.status.code or answer.status.error_code
        if code:
            raise self._connection.refusal(code, answer.status.reason)
        if not self.seconds:
            self._answered(self._future)
        return self._answer(answer.results)

    def _answered(self, _: object) -> None:
        self.seconds = self.seconds or time.monotonic() - self._sent


def _values(column: Any) -> Sequence[Any]:
    scalars = column.scalars
    values: Sequence[Any] = getattr(scalars, scalars.WhichOneof("data")).data
    return values
