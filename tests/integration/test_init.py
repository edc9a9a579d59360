"""`segue init` finds what there is, asks where several fit, and writes a file that the other verbs take."""

# the shelf below has the ports' shape, and little to say

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acceptance.workplace import Ended, Workplace, quoted, workplace
from segue.config import CollectionSettings, load
from segue.errors import ConfigError
from segue.model import KeyType, Metric, PropertyType, SourceSpec
from segue.phases.discover import discover
from segue.ports import Census, PropertyFound, VectorIndexFound
from segue.sandbox import Endpoint

VECTOR = [0.25, -0.5, 0.75, 1.0]


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A place without items."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as one:
        yield one


def _create(place: Workplace, *items: Mapping[str, Any], unique: tuple[str, ...] = ("id",), metric: str = "cosine") -> None:
    """Create items with a vector each, constraints on these properties, and a vector index with the collection's name."""
    for name in unique:
        place.rows(f"CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.{name} IS UNIQUE")
    place.rows("UNWIND $items AS item CREATE (n:LABEL {embedding: $vector}) SET n += item", items=items, vector=VECTOR)
    _index(place, place.collection, metric)


def _index(place: Workplace, name: str, metric: str = "cosine", pattern: str = "(n:LABEL) ON n.embedding") -> None:
    settings = f"{{indexConfig: {{`vector.dimensions`: 4, `vector.similarity_function`: '{metric}'}}}}"
    place.rows(f"CREATE VECTOR INDEX `{name}` FOR {pattern} OPTIONS {settings}")


def _init(place: Workplace, *arguments: str) -> Ended:
    return place.segue("init", "--no-input", "--format", "json", "--index", place.collection, *arguments)


def _written(place: Workplace) -> CollectionSettings:
    """Return the only collection of the file, as the other verbs read it."""
    (collection,) = load(place.folder / "segue.toml", environ={}).collections
    return collection


def _assert_refused(place: Workplace, ended: Ended, *words: str) -> None:
    """Exit 2 with these words on stderr and in the error object; no file is written."""
    assert ended.code == 2, ended.err
    error = ended.data["error"]
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    for word in words:
        assert word in f"{error['message']}\n{error['hint']}"
    assert not (place.folder / "segue.toml").exists()


def test_label_key_vector_and_properties_are_found(place: Workplace) -> None:
    """One index and one constraint are taken; a property gets a type of its own where every node has that type."""
    common = {"year": 1979, "score": 8.5, "seen": True, "title": "Alien"}
    _create(place, {"id": "a", **common, "tags": ["x"]}, {"id": "b", **common, "score": 8}, {"id": "c", **common, "nick": "n"})
    ended = _init(place)
    found = _written(place)

    assert ended.code == 0, ended.err
    assert found.name == place.collection
    assert found.preset == "segue"
    source = found.source
    assert (source.index, source.label, source.key, source.key_type) == (place.collection, place.label, "id", "string")
    assert (source.vector, source.dimension, source.metric) == ("embedding", 4, Metric.COSINE)
    assert source.properties == {
        "title": PropertyType.STRING,
        "year": PropertyType.INTEGER,
        "seen": PropertyType.BOOLEAN,
        "score": PropertyType.JSON,
        "tags": PropertyType.JSON,
        "nick": PropertyType.JSON,
    }
    (told,) = ended.data["collections"]
    assert (told["items"], told["embedded"], told["notes"]) == (3, 3, [])
    assert told["properties"] == dict(source.properties)
    settings = load(place.folder / "segue.toml", environ={})
    assert (settings.neo4j.uri, settings.milvus.uri) == (place.neo4j.uri, place.milvus.uri)


def test_of_several_indexes_one_must_be_chosen(place: Workplace) -> None:
    """Without --index, and with a name that is none, every vector index is listed and --index is named."""
    _create(place, {"id": "a"})
    other = f"{place.collection}_other"
    _index(place, other, "euclidean", "(n:LABEL) ON n.second")
    listed = (
        f"{place.collection}: node {place.label}, property embedding, 4 dimensions, cosine",
        f"{other}: node {place.label}, property second, 4 dimensions, euclidean",
        "--index NAME",
    )

    _assert_refused(place, place.segue("init", "--format", "json"), "one must be chosen", *listed)
    _assert_refused(place, place.segue("init", "--format", "json", "--index", "nosuch"), "no vector index 'nosuch'", *listed)


def test_several_indexes_make_several_collections(place: Workplace) -> None:
    """--index given twice writes two collections, none of which carries the other's vector."""
    _create(place, {"id": "a", "second": VECTOR, "title": "Alien"})
    other = f"{place.collection}_other"
    _index(place, other, "euclidean", "(n:LABEL) ON n.second")
    ended = _init(place, "--index", other)
    collections = load(place.folder / "segue.toml", environ={}).collections

    assert ended.code == 0, ended.err
    assert [(one.name, one.source.vector, one.source.metric) for one in collections] == [
        (place.collection, "embedding", Metric.COSINE),
        (other, "second", Metric.EUCLIDEAN),
    ]
    assert [set(one.source.properties) for one in collections] == [{"title"}, {"title"}]


def test_of_several_unique_properties_one_must_be_chosen(place: Workplace) -> None:
    """Two constraints: both are listed and --key is named; with it, that property is the key, the other travels."""
    _create(place, {"id": "a", "isbn": "1"}, unique=("id", "isbn"))

    _assert_refused(place, _init(place), "id, isbn", "--key PROPERTY")
    assert _init(place, "--key", "isbn").code == 0
    assert _written(place).source.key == "isbn"
    assert _written(place).source.properties == {"id": PropertyType.STRING}


def test_without_a_constraint_the_key_must_be_named_and_is_proven_unique(place: Workplace) -> None:
    """Candidates are listed; the one named by --key is taken with a warning, in the result and in the file."""
    _create(place, {"code": "a", "rank": 1, "score": 0.5}, {"code": "b", "rank": 1, "score": 0.5}, unique=())

    _assert_refused(place, _init(place), "candidates: code, rank", "--key PROPERTY", "proven unique")
    ended = _init(place, "--key", "code")
    assert ended.code == 0, ended.err
    assert _written(place).source.key == "code"
    (note,) = ended.data["collections"][0]["notes"]
    assert "no uniqueness constraint" in note
    assert f"CREATE CONSTRAINT FOR (n:`{place.label}`) REQUIRE n.`code` IS UNIQUE" in note
    assert f"# NOTE: {note}" in (place.folder / "segue.toml").read_text(encoding="utf-8")


def test_a_key_that_is_not_unique_is_refused_with_examples(place: Workplace) -> None:
    """--key of a property that nodes share: the shared values and how many nodes have each."""
    _create(place, {"code": "a"}, {"code": "a"}, {"code": "b"}, unique=())

    _assert_refused(place, _init(place, "--key", "code"), "'code' is no key", "'a': 2 nodes", "another --key")


def test_a_key_that_no_node_has_is_refused_with_those_there_are(place: Workplace) -> None:
    """--key of a property that is not there: the properties that are."""
    _create(place, {"code": "a"}, unique=())

    _assert_refused(place, _init(place, "--key", "nosuch"), "'nosuch'", "code", "--key PROPERTY")


def test_an_index_over_relationships_is_refused(place: Workplace) -> None:
    """A vector index on relationships cannot be moved, which is said."""
    _index(place, place.collection, pattern="()-[n:LABEL]-() ON n.embedding")

    _assert_refused(place, _init(place), place.collection, "covers relationships")


@pytest.mark.parametrize(
    ("keys", "key_type", "notes"),
    [
        ((1, 2, 3), KeyType.INTEGER, 0),
        ((1, 2, "c"), KeyType.INTEGER, 1),
        ((1, "b", "c"), KeyType.STRING, 1),
    ],
)
def test_the_key_type_is_that_of_most_nodes(
    place: Workplace, keys: tuple[str | int, ...], key_type: KeyType, notes: int
) -> None:
    """Integer keys are integers; where both types occur the rarer one is announced as bound for quarantine."""
    _create(place, *({"id": key} for key in keys))
    ended = _init(place)

    assert ended.code == 0, ended.err
    assert _written(place).source.key_type == key_type
    told = ended.data["collections"][0]["notes"]
    assert ["two types" in note and "quarantined" in note for note in told] == [True] * notes


def test_a_euclidean_index_is_euclidean(place: Workplace) -> None:
    """The metric comes from the index."""
    _create(place, {"id": "a"}, metric="euclidean")

    assert _init(place).code == 0
    assert _written(place).source.metric is Metric.EUCLIDEAN


def test_names_of_any_characters_are_found_and_read(place: Workplace) -> None:
    """Blanks, back-ticks, quotes, backslashes and emoji in every name: init writes them, migrate-embeddings reads by them."""
    strange = 'o\'dd "na`me" \\u0041 \U0001f3ac'
    label, index = f"{place.label} {strange}", f"{place.collection} {strange}"
    node, key, title, vector = (quoted(name) for name in (label, f"{strange} id", strange, f"{strange} vector"))
    settings = "{indexConfig: {`vector.dimensions`: 4}}"
    place.rows(f"CREATE CONSTRAINT FOR (n:{node}) REQUIRE n.{key} IS UNIQUE")
    place.rows(f"CREATE VECTOR INDEX {quoted(index)} FOR (n:{node}) ON n.{vector} OPTIONS {settings}")
    create = f"CREATE (n:{node}) SET n.{key} = $text, n.{title} = $text, n.{vector} = $vector"
    place.rows(create, text=strange, vector=VECTOR)

    initialised = place.segue("init", "--index", index)
    assert initialised.code == 0, initialised.err
    collection = _written(place)
    assert collection.name.startswith(f"{place.collection}_o_dd__na_me_")
    assert (collection.source.label, collection.source.key) == (label, f"{strange} id")
    dry = place.migrate("--dry-run")
    assert dry.code == 0, dry.err
    (told,) = dry.data["collections"]
    assert (told["sampled"], told["embedded"], told["reasons"]) == (1, 1, {})


def test_presets_land_where_their_readers_look(place: Workplace, tmp_path: Path) -> None:
    """langchain: pk, text, vector behind an alias; llamaindex: id, doc_id, text, embedding in a collection of that name."""
    items = [{"id": f"i{number}", "text": f"text {number}", "ref_doc_id": "d", "tags": ["x"]} for number in range(3)]
    _create(place, *items, {"id": "i3", "text": "text 3", "ref_doc_id": "d", "only here": 1})
    running = {}
    for preset in ("langchain", "llamaindex"):
        (tmp_path / preset).mkdir()
        here = place.elsewhere(tmp_path / preset)
        assert _init(here, "--preset", preset).code == 0
        assert _written(here).preset == preset
        name = f"{place.collection}_{preset}"
        written = (here.folder / "segue.toml").read_text(encoding="utf-8")
        here.configure(written.replace(f'name = "{place.collection}"', f'name = "{name}"'))
        running[name] = here.start("migrate-embeddings")
    for started in running.values():
        ended = started.ended()
        assert ended.code == 0, ended.err

    langchain, llamaindex = (_everything(place, name) for name in running)
    rest = {"ref_doc_id": "d", "tags": ["x"]}
    assert langchain["i0"] == {"pk": "i0", "text": "text 0", "vector": VECTOR, **rest}
    assert langchain["i3"] == {"pk": "i3", "text": "text 3", "vector": VECTOR, "ref_doc_id": "d", "only here": 1}
    assert llamaindex["i0"] == {"id": "i0", "doc_id": "d", "document_id": "d", "text": "text 0", "embedding": VECTOR, **rest}
    assert place.client.describe_collection(f"{place.collection}_langchain")["collection_name"].endswith("_langchain_v1")
    described = place.client.describe_collection(f"{place.collection}_llamaindex")
    assert (described["collection_name"], described["aliases"]) == (f"{place.collection}_llamaindex", [])


def test_what_does_not_fit_a_preset_is_noted(place: Workplace) -> None:
    """LangChain's layout over nodes of another program: no constraint, lengths, types, names, no text; each with the way on."""
    _create(place, {"id": "a", "pk": 1, "size": 1, "my key": 1}, {"id": "b", "size": "large"}, unique=())
    place.rows("CREATE (:LABEL {id: 'c', embedding: [1.0, 2.0]})")
    ended = _init(place, "--preset", "langchain")
    assert ended.code == 0, ended.err
    notes = ended.data["collections"][0]["notes"]
    written = (place.folder / "segue.toml").read_text(encoding="utf-8")

    for words in (
        "no uniqueness constraint",
        "several lengths: 4 (2 nodes), 2 (1 nodes); 4 is taken, the others will be quarantined",
        "needs a carried property 'text'. Carry the property in segue.toml, or choose --preset segue",
        "differs between nodes: size (INTEGER, STRING)",
        "no legal Milvus field names: 'my key'",
    ):
        (note,) = (one for one in notes if words in one)
        assert f"# NOTE: {note}" in written


def test_a_property_with_a_presets_own_name_is_noted(place: Workplace) -> None:
    """The names that are taken, and what to do with them."""
    _create(place, {"id": "a", "text": "t", "pk": 1, "vector": 2})
    (note,) = _init(place, "--preset", "langchain").data["collections"][0]["notes"]

    assert "names of carried properties: pk, vector. Leave them out in segue.toml" in note


def test_an_existing_file_is_kept_unless_forced(place: Workplace) -> None:
    """A second init is refused and changes nothing; --dry-run prints and writes nothing; --force replaces the file."""
    _create(place, {"id": "a"})
    (place.folder / "segue.toml").write_text("# mine\n", encoding="utf-8")
    refused, dry = _init(place), _init(place, "--dry-run")

    assert (refused.code, refused.data["error"]["message"]) == (2, "segue.toml exists")
    assert "--force" in refused.err
    assert dry.code == 0
    assert f'name = "{place.collection}"' in dry.out
    assert (place.folder / "segue.toml").read_text(encoding="utf-8") == "# mine\n"
    assert _init(place, "--force").code == 0
    assert _written(place).name == place.collection


@dataclass(frozen=True, slots=True)
class _Shelf:
    """A catalogue and source with the vector indexes it is given and one property."""

    indexes: tuple[VectorIndexFound, ...]

    def vector_indexes(self) -> list[VectorIndexFound]:
        return list(self.indexes)

    def unique_properties(self, label: str) -> list[str]:
        return ["id"]

    def properties(self, label: str, sample: int) -> list[PropertyFound]:
        return [PropertyFound("id", frozenset({"STRING NOT NULL"}))]

    def dimensions(self, label: str, vector: str, sample: int) -> Mapping[int, int]:
        return {8: 2, 4: 1}

    def duplicates(self, label: str, key: str, limit: int) -> list[tuple[object, int]]:
        return []

    def census(self, spec: SourceSpec) -> Census:
        return Census(3, 3, strings=3, integers=0, types={}, key_indexed=True, key_unique=True)


def _found(*labels: str, dimension: int | None = 4, metric: str = "cosine") -> VectorIndexFound:
    return VectorIndexFound("films", "NODE", labels, ("embedding",), dimension, metric, "ONLINE")


def test_a_database_without_a_vector_index_says_so() -> None:
    """None: an error that says what Segue moves, and how to look elsewhere."""
    shelf = _Shelf(())
    with pytest.raises(ConfigError, match="no vector index") as raised:
        discover(shelf, shelf, indexes=[], key=None)  # type: ignore[arg-type]

    assert "NEO4J_DATABASE" in raised.value.hint


def test_the_only_index_is_taken_unasked() -> None:
    """One: it needs no --index; a dimension it does not fix is that of most vectors, and said so."""
    shelf = _Shelf((_found("Film", dimension=None),))
    (proposal,) = discover(shelf, shelf, indexes=[], key=None)  # type: ignore[arg-type]

    assert (proposal.spec.index, proposal.spec.dimension) == ("films", 8)
    assert "several lengths: 8 (2 nodes), 4 (1 nodes)" in proposal.notes[0]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (_found("Film", "Series"), "several labels"),
        (_found("Film", metric="hamming"), "'hamming'"),
    ],
)
def test_an_index_that_no_collection_equals_is_refused(index: VectorIndexFound, words: str) -> None:
    """An index over several labels, or by a measure that Milvus does not have, is refused by name."""
    shelf = _Shelf((index,))
    with pytest.raises(ConfigError, match=words):
        discover(shelf, shelf, indexes=[], key=None)  # type: ignore[arg-type]


def _everything(place: Workplace, collection: str) -> dict[str, dict[str, Any]]:
    """Return every row by key as a reader with dynamic fields sees it, without what begins with segue_."""
    primary = next(field["name"] for field in place.client.describe_collection(collection)["fields"] if field.get("is_primary"))
    rows = place.client.query(collection, filter=f'{primary} != ""', output_fields=["*"], consistency_level="Strong")
    return {row[primary]: {name: value for name, value in row.items() if not name.startswith("segue_")} for row in rows}
