"""Searches of Milvus: the request held against the one `MilvusClient.search` sends, the hits against what it returns."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from pymilvus.grpc_gen import milvus_pb2

from segue.errors import SegueError
from segue.model import Condition, Filter, Hit, Key, KeyType, Layout, Metric, Operator, Page, SourceSpec, StoreName
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import make_layout
from segue.pipelines.scores import neo4j_score
from segue.stores.milvus_connection import MilvusConnection
from segue.stores.milvus_search import EF, MOST_EF, MilvusCandidates

from .sinks import KINDS, MilvusPlace, Opened, scratch

DIMENSION = 8
ITEMS = 60
VALUES: dict[str, Any] = {"title": "Alien", "year": 1979, "rating": 8.5, "seen": True, "text": "In space", "ref_doc_id": "d1"}
WAYS = [("milvus-lite", kind, Metric.COSINE) for kind in KINDS] + [
    pytest.param(("milvus", kind, metric), marks=pytest.mark.service) for kind in KINDS for metric in Metric
]


@dataclass(frozen=True)
class Searched:
    """A loaded collection with rows in it, and both ways to search it."""

    connection: MilvusConnection
    spec: SourceSpec
    layout: Layout
    page: Page

    def candidates(self, ef: int | None = None) -> MilvusCandidates:
        """Return ours."""
        return MilvusCandidates(self.connection, self.layout, self.spec, translated, ef=ef)

    def plain(self, vector: Any, k: int, fields: list[str], filtered: str = "", **params: int) -> list[dict[str, Any]]:
        """Return what the plain client finds."""
        (found,) = self.connection.client.search(
            self.layout.name,
            [vector.tolist()],
            filtered,
            k,
            output_fields=fields,
            search_params={"metric_type": self.layout.index.metric, "params": params},
            anns_field=self.layout.vector.name,
            **({} if self.connection.lite else {"consistency_level": "Bounded"}),
        )
        return list(found)


def translated(conditions: Filter, layout: Layout) -> str:
    """Return Milvus's text of conditions on the key."""
    words = {Operator.EQUAL: "==", Operator.NOT_EQUAL: "!="}
    return " and ".join(f'{layout.primary.name} {words[one.operator]} "{one.value}"' for one in conditions)


def spec_of(kind: str, metric: Metric) -> SourceSpec:
    """Return the items of a kind of layout."""
    _, key_type, carried = KINDS[kind]
    return SourceSpec("ix", "Item", "id", key_type, "embedding", DIMENSION, metric, carried)


def page_of(spec: SourceSpec) -> Page:
    """Return items as a source reads them; inner products of unit vectors are cosines."""
    vectors = np.random.default_rng(7).normal(size=(ITEMS, DIMENSION)).astype("<f4")
    if spec.metric is Metric.DOT:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys: list[Key] = list(range(ITEMS)) if spec.key_type is KeyType.INTEGER else [f"k{n}" for n in range(ITEMS)]
    return Page(keys, [], vectors, [[VALUES[name] for name in spec.property_names]] * ITEMS, [], None, exhausted=True)


def filled(place: MilvusPlace, kind: str, metric: Metric) -> Searched:
    """Make a collection with rows that searches show."""
    spec = spec_of(kind, metric)
    layout = make_layout(spec, name=scratch(), preset=KINDS[kind][0], m=16, ef_construction=200)
    place.sink.create(layout)
    place.sink.index(layout)
    place.sink.load(layout)
    page = page_of(spec)
    place.sink.upsert(layout, Codec(spec, layout).encode(page).rows).result()
    made = Searched(place.connection, spec, layout, page)
    until = time.monotonic() + 120
    while len(made.candidates().search(page.vectors[0], ITEMS, (), 10).result()) < ITEMS:
        assert time.monotonic() < until, "the rows do not become visible"
        time.sleep(0.1)
    return made


@pytest.fixture(scope="module")
def made() -> dict[Any, Searched]:
    """The collections made so far."""
    return {}


@pytest.fixture(params=WAYS, ids="-".join)
def searched(request: pytest.FixtureRequest, sinks: Opened, made: dict[Any, Searched]) -> Searched:
    """Each of the collections; a server takes seconds to load one, and no longer for all, so they are made together."""
    if request.param not in made:
        place = sinks(request.param[0]).place
        assert isinstance(place, MilvusPlace)
        wanted = [(request.param[0], kind, metric) for kind in KINDS for metric in Metric if place.is_server or "cos" in metric]
        with ThreadPoolExecutor(4 if place.is_server else 1) as pool:
            made.update(zip(wanted, pool.map(lambda way: filled(place, *way[1:]), wanted), strict=True))
    return made[request.param]


def vector_of(salt: int) -> Any:
    """Return some vector to look for."""
    return np.random.default_rng(salt).normal(size=DIMENSION).astype(np.float32)


def test_the_hits_are_what_the_plain_client_finds(searched: Searched) -> None:
    """The same keys in the same order, its distances on Neo4j's scale, nearest first."""
    for salt in range(5):
        ours = searched.candidates().search(vector_of(salt), 10, (), 10).result()
        theirs = searched.plain(vector_of(salt), 10, [], **({"ef": EF} if searched.layout.index.kind == "HNSW" else {}))
        # Older servers do not say how the key is called, and the client calls it "id" then.
        assert [hit.key for hit in ours] == [row.get(searched.layout.primary.name, row.get("id")) for row in theirs]
        expected = [neo4j_score(searched.spec.metric, row["distance"]) for row in theirs]
        assert [hit.score for hit in ours] == pytest.approx(expected, abs=1e-6)
        assert len(ours) == 10
        assert [hit.score for hit in ours] == sorted((hit.score for hit in ours), reverse=True)


def test_an_items_own_vector_finds_it_with_its_properties(searched: Searched) -> None:
    """With all that was carried and nothing of Segue's or the preset's own, as Milvus's hit, at the largest score."""
    place = 17
    (hit,) = searched.candidates().search(searched.page.vectors[place], 1, (), 10).result()
    carried = {name: VALUES[name] for name in searched.spec.property_names}
    assert hit == Hit(searched.page.keys[place], hit.score, carried, StoreName.MILVUS)
    assert hit.score == pytest.approx(1.0, abs=1e-6)
    assert hit.score <= 1.0 or searched.spec.metric is Metric.DOT


def test_a_filter_goes_along(searched: Searched) -> None:
    """Only rows that meet the translated conditions are found; none is no error."""
    if searched.spec.key_type is KeyType.INTEGER:
        pytest.skip("the translation of this test knows text")
    only = (Condition("id", Operator.EQUAL, "k5"),)
    assert [hit.key for hit in searched.candidates().search(vector_of(1), 10, only, 10).result()] == ["k5"]
    nothing = (Condition("id", Operator.EQUAL, "nobody"),)
    assert searched.candidates().search(vector_of(1), 10, nothing, 10).result() == []


@pytest.mark.parametrize("named", [(), ("title", "text"), ("year",)])
def test_only_what_is_carried_comes_back(searched: Searched, named: tuple[str, ...]) -> None:
    """A spec that carries less, or nothing, gives hits with less."""
    carried = tuple(one for one in searched.spec.properties if one.name in named)
    fewer = replace(searched, spec=replace(searched.spec, properties=carried))
    (hit,) = fewer.candidates().search(searched.page.vectors[3], 1, (), 10).result()
    assert hit.properties == {one.name: VALUES[one.name] for one in carried}


def sent(searched: Searched, monkeypatch: pytest.MonkeyPatch, k: int, ef: int | None) -> tuple[Any, Any]:
    """Search both ways and return both requests."""
    requests = []
    handler = searched.connection.client._get_connection()
    their_search, our_search = handler._stub.Search, searched.connection.send_search

    def theirs(request: milvus_pb2.SearchRequest, **options: Any) -> Any:
        requests.append(request)
        return their_search(request, **options)

    def ours(request: milvus_pb2.SearchRequest, seconds: float) -> Any:
        requests.append(request)
        return our_search(request, seconds)

    monkeypatch.setattr(handler._stub, "Search", theirs)
    monkeypatch.setattr(searched.connection, "send_search", ours)
    candidates = searched.candidates(ef)
    candidates.search(vector_of(1), k, (Condition("id", Operator.NOT_EQUAL, "k5"),), 10)
    params = {"ef": min(max(ef or EF, 2 * k), MOST_EF)} if searched.layout.index.kind == "HNSW" else {}
    fields = [name for name in ("title", "year", "rating", "seen", "text") if name in requests[0].output_fields]
    fields += [searched.layout.json_field] if searched.layout.dynamic else []
    filtered = f'{searched.layout.primary.name} != "k5"'
    try:
        searched.plain(vector_of(1), k, fields, filtered, **params)
    except Exception:  # noqa: BLE001  # what the server says to the request is another test's business
        assert len(requests) == 2
    return tuple(requests)  # type: ignore[return-value]


@pytest.mark.parametrize(("k", "ef"), [(10, None), (10, 500), (100, None), (16_384, 40_000)])
def test_the_request_is_the_one_pymilvus_sends(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, k: int, ef: int | None
) -> None:
    """The same message as the plain client's, but for the database, which that one names elsewhere; HNSW gets its ef."""
    if searched.connection.lite:
        pytest.skip("a Lite file is searched by the plain client")
    ours, theirs = sent(searched, monkeypatch, k, ef)
    assert ours.db_name == "default"
    ours.db_name = theirs.db_name
    assert ours == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_what_milvus_refuses_is_said(searched: Searched) -> None:
    """A vector of another dimension: an error in Segue's words, when the answer is awaited."""
    pending = searched.candidates().search(np.ones(DIMENSION + 1, np.float32), 10, (), 10)
    with pytest.raises(SegueError, match="Milvus at"):
        pending.result()
