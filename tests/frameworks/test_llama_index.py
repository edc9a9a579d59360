"""What LlamaIndex's Neo4j store wrote is found by its Milvus store after the migration, and by the drop-in all along."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from prometheus_client import CollectorRegistry

import segue
from acceptance.workplace import Workplace
from segue.errors import InvalidInput
from segue.integrations.llama_index import SegueVectorStore, translated

from .conftest import Library, answered_by_milvus, await_forgotten, copy, drain, init, milvus_job, neo4j_job
from .sides import embedded

QUERY = "a lonely robot"
ALL = 20

NODES = [
    {
        "id": f"node-{number:02d}",
        "text": f"page number {number}",
        # The last has no document it is of.
        "document": f"book-{number // 5}" if number < ALL - 1 else "",
        "metadata": {"page": number, "kind": "odd" if number % 2 else "even", **({"note": f"n{number}"} if number < 3 else {})},
    }
    for number in range(ALL)
]


PASSING = {"id": "passing", "text": "only passing", "document": "passing-book", "metadata": {}}
"""What the Milvus side adds and deletes again, of which Neo4j knows nothing."""


@dataclass
class Moved:
    """A store of nodes that LlamaIndex wrote to Neo4j and Segue copied; `found` is what its Neo4j store finds, in order."""

    place: Workplace
    found: list[dict[str, Any]]
    told: dict[str, Any]


@pytest.fixture(scope="module")
def moved(place: Workplace, llama_index: Library) -> Moved:
    """Seeded, initialised with the preset, copied; Neo4j answers."""
    found = llama_index.does("llama_neo4j", nodes=NODES, query=QUERY, k=ALL, **neo4j_job(place))
    told = init(place, "llamaindex")
    copy(place)
    return Moved(place, found, told)


@pytest.fixture
def store(moved: Moved) -> Iterator[SegueVectorStore]:
    """The drop-in over the moved nodes."""
    with segue.connect(moved.place.folder / "segue.toml", registry=CollectorRegistry()) as one:
        yield SegueVectorStore(store=one)


def node(key: str, text: str, document: str = "", **metadata: Any) -> TextNode:
    """Return a node as the framework makes it."""
    made = TextNode(id_=key, text=text, metadata=metadata, embedding=embedded(text))
    if document:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return made


def asked(text: str = QUERY, k: int = ALL, *filters: MetadataFilter, **more: Any) -> VectorStoreQuery:
    """Return a query by a text's vector."""
    wanted = MetadataFilters(filters=list(filters)) if filters else None
    return VectorStoreQuery(query_embedding=embedded(text), similarity_top_k=k, filters=wanted, **more)


def as_found(result: VectorStoreQueryResult) -> list[dict[str, Any]]:
    """Return a result in the form of `sides.py`."""
    assert result.nodes is not None
    assert result.ids == [one.node_id for one in result.nodes]
    return [
        {"id": one.node_id, "text": one.get_content(), "metadata": one.metadata, "document": one.ref_doc_id, "score": score}
        for one, score in zip(result.nodes, result.similarities or [], strict=True)
    ]


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same nodes, with scores as near as Neo4j's quantised index has them, each side nearest first."""
    assert [stripped(one) for one in by_id(found)] == [stripped(one) for one in by_id(expected)]
    assert [one["score"] for one in by_id(found)] == pytest.approx([one["score"] for one in by_id(expected)], abs=0.02)
    for side in (found, expected):
        assert [one["score"] for one in side] == sorted((one["score"] for one in side), reverse=True)


def by_id(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return nodes in the order of their ids."""
    return sorted(found, key=lambda one: str(one["id"]))


def stripped(one: dict[str, Any]) -> dict[str, Any]:
    """Return a node without its score."""
    return {name: value for name, value in one.items() if name != "score"}


def test_init_takes_the_librarys_key_and_says_what_it_lacks(moved: Moved) -> None:
    """LlamaIndex puts no constraint on `id`: with its preset that is the key all the same, proven unique, with the remedy."""
    assert moved.told["key"] == "id"
    (note,) = (one for one in moved.told["notes"] if "no uniqueness constraint" in one)
    assert "CREATE CONSTRAINT" in note


def test_init_recognises_the_nodes_without_being_told(moved: Moved) -> None:
    """Under the default preset it names the one that fits."""
    ended = moved.place.segue(
        "init", "--no-input", "--dry-run", "--index", moved.place.collection, "--key", "id", "--config", "other.toml"
    )

    assert "--preset llamaindex" in ended.out


def test_the_milvus_side_opens_what_the_neo4j_side_wrote(moved: Moved, llama_index: Library) -> None:
    """Ids, texts, metadata, documents and order agree; it gets by id, adds, and deletes a document."""
    new = {"id": "new", "text": "a new page", "document": "new-book", "metadata": {"page": 99, "another": "key"}}
    answer = llama_index.does("llama_milvus", query=QUERY, k=ALL, nodes=[new], **milvus_job(moved.place))

    assert {one["id"] for one in moved.found} == {one["id"] for one in NODES}
    assert_same(answer["before"], moved.found)
    assert answer["got"] == [answer["before"][0]["id"]]
    (added,) = answer["added"]
    assert {**added, "score": round(added["score"], 4)} == {**new, "score": 1.0}


def test_the_drop_in_finds_the_same_in_every_mode(moved: Moved, store: SegueVectorStore, llama_index: Library) -> None:
    """Answered by Neo4j, then by Milvus: the same nodes; what it adds is read by the Milvus side, what it deletes is gone."""
    by_neo4j = as_found(store.query(asked()))
    answered_by_milvus(moved.place)
    by_milvus = as_found(store.query(asked()))
    hits = store.client.search(embedded(QUERY), ALL)
    made = node("own", "a page of its own", "own-book", page=7, unseen="kept within the node")
    store.add([made])
    added = as_found(store.query(asked("a page of its own", 1)))
    drain(moved.place)
    job = {"query": "a page of its own", "k": 1, "first": "own"}
    read = llama_index.does("llama_milvus", nodes=[PASSING], **job, **milvus_job(moved.place))["before"]
    store.delete("own-book")
    gone = as_found(store.query(asked("a page of its own")))
    await_forgotten(moved.place, "own")

    assert {hit.store for hit in hits} == {segue.StoreName.MILVUS}
    assert_same(by_neo4j, moved.found)
    assert_same(by_milvus, moved.found)
    expected = {"id": "own", "text": made.text, "metadata": made.metadata, "document": "own-book"}
    assert [stripped(one) for one in added] == [expected]
    assert [stripped(one) for one in read] == [expected]
    assert "own" not in {one["id"] for one in gone}


def test_a_node_comes_back_as_it_was(store: SegueVectorStore) -> None:
    """Text, metadata, relationships, embedding; replaced as a whole when it is written again."""
    first = node("round", "round trip", "trip", page=1, kind="x")
    second = node("round", "round trip again", "trip", page=2)
    store.add([first])
    got_first = store.get_nodes(["round"])
    assert store.add([second, node("other", "another", "trip", page=3)]) == ["round", "other"]
    got_second = store.get_nodes(["other", "round", "nosuch"])
    store.delete("trip")

    for got, given in ((got_first[0], first), (got_second[1], second)):
        assert got.embedding == pytest.approx(given.embedding)
        assert {**got.to_dict(), "embedding": None} == {**given.to_dict(), "embedding": None}
    assert [one.node_id for one in got_second] == ["other", "round"]
    assert store.get_nodes(["round", "other"]) == []


def test_filters_documents_and_ids_choose(store: SegueVectorStore) -> None:
    """Each kind by itself and together, in queries, in reads and in deletes."""

    def ids(query: VectorStoreQuery) -> list[str]:
        return sorted(store.query(query).ids or [])

    assert ids(asked(QUERY, ALL, MetadataFilter(key="page", value=3))) == ["node-03"]
    late = MetadataFilter(key="page", value=16, operator=FilterOperator.GT)
    odd = MetadataFilter(key="kind", value=["odd", "x"], operator=FilterOperator.IN)
    assert ids(asked(QUERY, ALL, late, odd)) == ["node-17", "node-19"]
    assert ids(asked(doc_ids=["book-0"])) == [f"node-0{number}" for number in range(5)]
    assert ids(asked(node_ids=["node-07", "node-08"])) == ["node-07", "node-08"]
    both = MetadataFilters(filters=[late, odd])
    assert sorted(one.node_id for one in store.get_nodes(filters=both)) == ["node-17", "node-19"]
    assert [one.node_id for one in store.get_nodes(["node-17", "node-03"], both)] == ["node-17"]

    store.add([node("bye-1", "bye 1", page=-1, kind="bye"), node("bye-2", "bye 2", page=-2, kind="bye")])
    farewell = MetadataFilters(filters=[MetadataFilter(key="kind", value="bye")])
    store.delete_nodes(["bye-1"], farewell)
    assert [one.node_id for one in store.get_nodes(filters=farewell)] == ["bye-2"]
    store.delete_nodes(["bye-2", "nosuch"])
    assert store.get_nodes(filters=farewell) == []


def test_asynchronous_methods_answer_alike(store: SegueVectorStore) -> None:
    """Add, get, query and delete, awaited."""

    async def use() -> tuple[list[str], list[Any], VectorStoreQueryResult, list[Any]]:
        ids = await store.async_add([node("awaited", "awaited page", "awaited-book", page=5)])
        got = await store.aget_nodes(ids)
        result = await store.aquery(asked("awaited page", 1))
        await store.adelete("awaited-book")
        return ids, got, result, await store.aget_nodes(ids)

    ids, got, result, left = asyncio.run(use())
    assert ids == result.ids == [one.node_id for one in got]
    assert left == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (MetadataFilters(filters=[MetadataFilter(key="a", value="x", operator=FilterOperator.TEXT_MATCH)]), "'text_match'"),
        (
            MetadataFilters(
                filters=[MetadataFilter(key="a", value=1), MetadataFilter(key="b", value=1)], condition=FilterCondition.OR
            ),
            "joined by 'or'",
        ),
        (MetadataFilters(filters=[MetadataFilter(key="a", value=1), MetadataFilter(key="a", value=2)]), "'=' twice"),
    ],
)
def test_filters_that_both_stores_cannot_be_asked_are_refused(filters: MetadataFilters, words: str) -> None:
    """Each names what is wrong and says what is taken."""
    with pytest.raises(InvalidInput, match=words) as raised:
        translated(filters)

    assert raised.value.hint


def test_what_speaks_of_one_store_only_is_refused(store: SegueVectorStore) -> None:
    """A query mode, a Milvus expression, and a delete of everything."""
    with pytest.raises(InvalidInput, match="'hybrid'"):
        store.query(asked(mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(InvalidInput, match="takes no string_expr"):
        store.query(asked(), string_expr="page > 3")
    with pytest.raises(InvalidInput, match="every node"):
        store.delete_nodes()


def test_metadata_that_would_take_the_nodes_own_names_is_refused(store: SegueVectorStore) -> None:
    """The node and the name are said, and nothing is written."""
    bad = TextNode(id_="bad", text="bad", metadata={"text": "mine"}, embedding=embedded("bad"))
    with pytest.raises(InvalidInput, match="node 'bad': metadata 'text'"):
        store.add([node("good", "good"), bad])

    assert store.get_nodes(["good", "bad"]) == []
