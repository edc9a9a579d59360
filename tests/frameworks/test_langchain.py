"""What LangChain's Neo4j store wrote is found by its Milvus stores after the migration, and by the drop-in all along."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from prometheus_client import CollectorRegistry

import segue
from acceptance.workplace import Workplace
from segue.errors import ConfigError, InvalidInput
from segue.integrations.langchain import SegueVectorStore, translated

from .conftest import HERE, Library, answered_by_milvus, await_forgotten, copy, drain, init, milvus_job, neo4j_job
from .sides import embedded

QUERY = "a lonely robot"
ALL = 30

DOCUMENTS = [
    {
        "id": f"doc-{number:02d}",
        "text": f"film number {number}",
        "metadata": {
            "year": 1970 + number,
            "tags": ["even" if number % 2 == 0 else "odd"],
            # The type differs between nodes, the name is none of Milvus's, and some have neither.
            **({"rating": "high" if number % 3 else number} if number % 2 else {"where: shelf": number / 4}),
        },
    }
    for number in range(ALL)
]


class Embedding(Embeddings):
    """The vectors of `sides.py`."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embedded(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embedded(text)


@dataclass
class Moved:
    """A store of documents that LangChain wrote to Neo4j and Segue copied; `found` is what `Neo4jVector` finds, in order."""

    place: Workplace
    found: list[dict[str, Any]]
    told: dict[str, Any]


@pytest.fixture(scope="module")
def moved(place: Workplace, langchain_04: Library) -> Moved:
    """Seeded, initialised with the preset, copied; Neo4j answers."""
    found = langchain_04.does("langchain_neo4j", documents=DOCUMENTS, query=QUERY, k=ALL, **neo4j_job(place))
    told = init(place, "langchain")
    copy(place)
    return Moved(place, found, told)


@pytest.fixture
def store(moved: Moved) -> Iterator[SegueVectorStore]:
    """The drop-in over the moved documents."""
    with segue.connect(moved.place.folder / "segue.toml", registry=CollectorRegistry()) as one:
        yield SegueVectorStore(Embedding(), store=one)


def as_found(results: list[tuple[Any, float]]) -> list[dict[str, Any]]:
    """Return what the drop-in found in the form of `sides.py`."""
    return [{"id": one.id, "text": one.page_content, "metadata": one.metadata, "score": score} for one, score in results]


@pytest.mark.parametrize("version", ["langchain_03", "langchain_04"])
def test_the_milvus_side_opens_what_the_neo4j_side_wrote(moved: Moved, version: str, request: pytest.FixtureRequest) -> None:
    """langchain-milvus 0.3 and 0.4: ids, texts, metadata and order agree with Neo4jVector's; it goes on adding and deleting."""
    library: Library = request.getfixturevalue(version)
    new = {"id": f"new-{version}", "text": f"a film of {version}", "metadata": {"year": 2026, "another": "key"}}
    answer = library.does("langchain_milvus", query=QUERY, k=ALL, documents=[new], **milvus_job(moved.place))

    assert {one["id"] for one in moved.found} == {one["id"] for one in DOCUMENTS}
    # With this many documents Neo4j's quantised index may swap near neighbours; their scores are compared.
    assert sorted(map(str, map(stripped, answer["before"]))) == sorted(map(str, map(stripped, moved.found)))
    assert_in_order(answer["before"], moved.found)
    (added,) = answer["added"]
    assert {**added, "score": round(added["score"], 4)} == {**new, "score": 1.0}


def stripped(one: dict[str, Any]) -> dict[str, Any]:
    """Return a document without its score, its metadata in the order of their names."""
    return {"id": one["id"], "text": one["text"], "metadata": dict(sorted(one["metadata"].items()))}


def assert_in_order(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """In the order of the exact scores on both sides, but for what Neo4j's quantised index may swap."""
    theirs = {one["id"]: one["score"] for one in expected}
    assert [one["score"] for one in found] == pytest.approx([theirs[one["id"]] for one in found], abs=0.02)
    assert [one["id"] for one in found] == sorted(theirs, key=lambda key: -exact(key))


def exact(key: str) -> float:
    """Return the cosine of a document and the query."""
    text = next(one["text"] for one in DOCUMENTS if one["id"] == key)
    pairs = list(zip(embedded(str(text)), embedded(QUERY), strict=True))
    norms = [sum(value * value for value in side) ** 0.5 for side in zip(*pairs, strict=True)]
    return float(sum(one * other for one, other in pairs) / (norms[0] * norms[1]))


def test_a_milvus_expression_reaches_names_that_are_no_field_names(moved: Moved, langchain_04: Library) -> None:
    """What the note of `segue init` says: a strange name is filtered by as $meta["…"]."""
    expression = '$meta["where: shelf"] >= 5'
    answer = langchain_04.does("langchain_milvus", query=QUERY, k=ALL, expr=expression, **milvus_job(moved.place))

    expected = {one["id"] for one in DOCUMENTS if one["metadata"].get("where: shelf", 0) >= 5}
    assert {one["id"] for one in answer["before"]} == expected


def test_init_says_what_is_special_about_the_documents(moved: Moved) -> None:
    """Types that differ between nodes and names that are none of Milvus's are noted with the way on."""
    notes = "\n".join(moved.told["notes"])

    assert moved.told["key"] == "id"
    assert "differs between nodes: rating (INTEGER, STRING)" in notes
    assert "no legal Milvus field names: 'where: shelf'" in notes
    assert '$meta["where: shelf"]' in notes
    assert moved.told["properties"]["tags"] == "json"


def test_the_drop_in_finds_the_same_in_every_mode(moved: Moved, store: SegueVectorStore, langchain_04: Library) -> None:
    """By Neo4j, then by Milvus: the same documents; what it adds is read by the Milvus side, what it deletes is gone."""
    by_neo4j = as_found(store.similarity_search_with_score(QUERY, k=ALL))
    answered_by_milvus(moved.place)
    by_milvus = as_found(store.similarity_search_with_score(QUERY, k=ALL))
    hits = store.store.search(embedded(QUERY), ALL)
    ids = store.add_texts(["a text that is new"], [{"year": 2001, "tags": ["new"]}])
    added = store.similarity_search("a text that is new", k=1)
    drain(moved.place)
    read = langchain_04.does("langchain_milvus", query="a text that is new", k=1, first=ids[0], **milvus_job(moved.place))[
        "before"
    ]
    assert store.delete(ids)
    gone = store.similarity_search("a text that is new", k=ALL)
    await_forgotten(moved.place, ids[0])

    assert {hit.store for hit in hits} == {segue.StoreName.MILVUS}
    assert sorted(map(str, map(stripped, by_neo4j))) == sorted(map(str, map(stripped, moved.found)))
    assert_in_order(by_milvus, by_neo4j)
    assert [(one.id, one.page_content, one.metadata) for one in added] == [
        (ids[0], "a text that is new", {"year": 2001, "tags": ["new"]})
    ]
    assert [stripped(one) for one in read] == [stripped(as_found([(added[0], 0.0)])[0])]
    assert ids[0] not in {one.id for one in gone}
    assert store.get_by_ids(ids) == []


def test_filters_of_neo4jvector_mean_the_same(store: SegueVectorStore) -> None:
    """Its operators, $and, $between and Segue's own form."""

    def years(condition: dict[str, Any]) -> list[int]:
        found = store.similarity_search(QUERY, k=ALL, filter=condition)
        return sorted(one.metadata["year"] for one in found)

    assert years({"year": 1979}) == [1979]
    assert years({"year": {"$gte": 1971, "$lt": 1973}}) == [1971, 1972]
    assert years({"year": {"$between": [1980, 1982]}}) == [1980, 1981, 1982]
    assert years({"$and": [{"year": {"$in": [1970, 1971]}}, {"year": {"$ne": 1970}}]}) == [1971]
    assert years({"tags": {"contains": "odd"}, "year": {"$lte": 1973}}) == [1971, 1973]


def test_asynchronous_methods_answer_alike(store: SegueVectorStore) -> None:
    """Add, get, search and delete, awaited."""

    async def use() -> tuple[list[str], list[Any], list[Any]]:
        ids = await store.aadd_texts(["awaited text"], [{"year": 2002}], ids=["awaited"])
        got = await store.aget_by_ids(ids)
        found = await store.asimilarity_search("awaited text", k=1)
        await store.adelete(ids)
        return ids, got, found

    ids, got, found = asyncio.run(use())
    assert ids == ["awaited"]
    assert got == found
    assert found[0].metadata == {"year": 2002}


def test_marginal_relevance_takes_unlike_documents(store: SegueVectorStore) -> None:
    """The nearest first; a copy of its text is left for later."""
    ids = store.add_texts(["twins", "twins"], [{}, {}], ids=["twin-a", "twin-b"])
    found = [one.id for one in store.max_marginal_relevance_search("twins", k=2, fetch_k=10, lambda_mult=0.1)]
    plain = [one.id for one in store.similarity_search("twins", k=2)]
    store.delete(ids)

    assert set(plain) == set(ids)
    assert len(set(found) & set(ids)) == 1
    assert found[0] in ids


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"nosuch": 1}, "'nosuch' does not travel"),
        ({"embedding": 1}, "'embedding' has the name"),
        ({"id": "another"}, "'id' has the name"),
        ({"year": {"from": 1970}}, "'year' is a dict that Neo4j cannot hold"),
    ],
)
def test_metadata_that_cannot_go_is_refused_and_nothing_written(
    store: SegueVectorStore, metadata: dict[str, Any], words: str
) -> None:
    """The document and the name are said; the other document of the call is not written either."""
    with pytest.raises(InvalidInput, match=words):
        store.add_texts(["good", "bad"], [{}, metadata], ids=["good", "bad"])

    assert store.get_by_ids(["good", "bad"]) == []


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"year": {"$like": "19%"}}, r"'year' is compared by \$like"),
        ({"$or": [{"year": 1}]}, r"\$or is not"),
        ({"$and": [{"year": 1}, {"year": 2}]}, "compared by '=' twice"),
        ("year > 1970", "the filter is a str"),
        ({"year": {"$between": 3}}, "no two bounds"),
    ],
)
def test_filters_that_both_stores_cannot_be_asked_are_refused(condition: Any, words: str) -> None:
    """Each names what is wrong and says what is taken."""
    with pytest.raises(InvalidInput, match=words) as raised:
        translated(condition)

    assert raised.value.hint


def test_what_speaks_of_one_store_only_is_refused(store: SegueVectorStore) -> None:
    """A Milvus expression, and a delete of everything."""
    with pytest.raises(InvalidInput, match="takes no expr"):
        store.similarity_search(QUERY, k=1, expr="year > 1970")
    with pytest.raises(InvalidInput, match="every document"):
        store.delete()


def test_a_collection_without_the_texts_is_refused(store: SegueVectorStore) -> None:
    """At once, with what it carries and how to name another."""
    with pytest.raises(ConfigError, match="no property 'body'") as raised:
        SegueVectorStore(Embedding(), store=store.store, text="body")

    assert "text=" in raised.value.hint


def test_documents_keep_their_id_in_the_metadata_they_came_with(store: SegueVectorStore) -> None:
    """Neo4jVector gives the id within the metadata; a document read there is written back as it is."""
    store.add_texts(["there and back"], [{"id": "back", "year": 1970}], ids=["back"])
    (found,) = store.get_by_ids(["back"])
    store.delete(["back"])

    assert found.metadata == {"year": 1970}


@pytest.mark.parametrize("mode", ["neo4j_only", "hybrid"])
def test_langchains_own_standard_tests_pass(
    place: Workplace, mode: str, langchain_04: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """LangChain's suite for vector stores, sync and async, with Neo4j answering and with Milvus."""
    here = place.elsewhere(tmp_path_factory.mktemp("standard"))
    here.label, here.collection = f"{place.label}Standard{mode}", f"{place.collection}_standard_{mode}"
    settings = "{indexConfig: {`vector.dimensions`: 6, `vector.similarity_function`: 'cosine'}}"
    here.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.key IS UNIQUE")
    here.rows(f"CREATE VECTOR INDEX `{here.collection}` FOR (n:LABEL) ON n.embedding OPTIONS {settings}")
    # What `segue init` reads the properties from, and what the copy has to copy.
    example = "CREATE (:LABEL {key: 'x', text: 'x', embedding: [1.0, 0, 0, 0, 0, 0], id: 1, some_other_field: 'x'})"
    here.rows(example)
    init(here, "langchain")
    if mode == "hybrid":
        copy(here)
        answered_by_milvus(here)
    suite = str(HERE / "langchain_suite.py")
    quiet = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--rootdir",
        str(here.folder),
        "-c",
        "/dev/null",
        "-o",
        "asyncio_mode=auto",
    )
    environment = {**here.environment(), "SEGUE_CONFIG": str(here.folder / "segue.toml")}
    ended = langchain_04.run("-m", "pytest", *quiet, suite, **environment)

    assert ended.returncode == 0, ended.stdout[-6000:]
    assert " passed" in ended.stdout
    assert "failed" not in ended.stdout


def test_nodes_of_neo4j_graphrag_land_the_same(
    place: Workplace, langchain_04: Library, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It knows no key: by the application's own, langchain-milvus finds them as the library's retriever does."""
    here = place.elsewhere(tmp_path_factory.mktemp("graphrag"))
    here.label, here.collection = f"{place.label}Graphrag", f"{place.collection}_graphrag"
    here.rows(
        "UNWIND range(0, 9) AS number CREATE (:LABEL {isbn: 'isbn-' + number, text: 'book number ' + number, pages: number})"
    )
    found = langchain_04.does("graphrag", query=QUERY, k=10, **neo4j_job(here))
    refused = here.segue("init", "--no-input", "--index", here.collection, "--preset", "langchain")
    told = init(here, "langchain", "--key", "isbn")
    copy(here)
    answer = langchain_04.does("langchain_milvus", query=QUERY, k=10, **milvus_job(here))["before"]

    assert refused.code == 2
    assert "--key PROPERTY" in refused.err
    assert any("CREATE CONSTRAINT" in note for note in told["notes"])
    assert {(one["id"], one["text"]) for one in answer} == {(one["id"], one["text"]) for one in found}
    scores = {one["id"]: one["score"] for one in found}
    assert [one["score"] for one in answer] == pytest.approx([scores[one["id"]] for one in answer], abs=0.02)
    assert all(one["metadata"] == {"pages": int(one["id"].removeprefix("isbn-"))} for one in answer)
