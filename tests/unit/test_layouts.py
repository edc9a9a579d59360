"""Collection layouts: legal in Milvus, whole, and what the libraries that read them expect."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.errors import ConfigError
from segue.model import CarriedProperty, Field, FieldType, KeyType, Layout, Metric, PropertyType, SourceSpec, VectorIndex
from segue.pipelines.layouts import MAX_FIELDS, MAX_NAME, Preset, legal_name, make_layout

FIELD_OF = {
    PropertyType.STRING: FieldType.VARCHAR,
    PropertyType.INTEGER: FieldType.INT64,
    PropertyType.FLOAT: FieldType.DOUBLE,
    PropertyType.BOOLEAN: FieldType.BOOL,
}


def spec_of(*properties: CarriedProperty, key_type: KeyType = KeyType.STRING, metric: Metric = Metric.COSINE) -> SourceSpec:
    """Return the spec of films keyed by `id` with vectors of 384 dimensions."""
    return SourceSpec("ix", "Film", "id", key_type, "embedding", 384, metric, properties)


def layout_of(preset: Preset, *properties: CarriedProperty, **of_spec: KeyType | Metric) -> Layout:
    """Return a preset's layout under the name films."""
    return make_layout(spec_of(*properties, **of_spec), name="films", preset=preset, m=24, ef_construction=300)  # type: ignore[arg-type]


def text(name: str) -> CarriedProperty:
    """Return a text property."""
    return CarriedProperty(name, PropertyType.STRING)


@given(st.text(max_size=300))
def test_a_legal_name_is_legal(name: str) -> None:
    """Letters, digits and underscores, not a digit first, not too long; and a legal name stays as it is."""
    legal = legal_name(name)
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", legal)
    assert legal_name(legal) == legal


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("films", "films"),
        ("my films!", "my_films_"),
        ("1st", "_1st"),
        ("", "_"),
        ("é", "_"),
        ("x" * 256, "x" * 255),
        ("9" * 255, "_" + "9" * 254),
    ],
)
def test_legal_names(name: str, legal: str) -> None:
    """What is not legal becomes an underscore; nothing else changes."""
    assert legal_name(name) == legal


@pytest.mark.parametrize("metric", Metric)
def test_preset_segue(metric: Metric) -> None:
    """Key and vector first, a field for each property with a type of its own, then the JSON field and Segue's own two."""
    properties = [CarriedProperty(f"p_{kind}", kind) for kind in PropertyType]
    layout = layout_of(Preset.SEGUE, *properties, metric=metric)
    assert layout.fields == (
        Field("id", FieldType.VARCHAR, primary=True, size=512, source="id"),
        Field("vector", FieldType.FLOAT_VECTOR, size=384, source="embedding"),
        Field("p_string", FieldType.VARCHAR, size=65_535, source="p_string"),
        Field("p_integer", FieldType.INT64, source="p_integer"),
        Field("p_float", FieldType.DOUBLE, source="p_float"),
        Field("p_boolean", FieldType.BOOL, source="p_boolean"),
        Field("properties", FieldType.JSON),
        Field("segue_ver", FieldType.VARCHAR, size=64),
        Field("segue_hash", FieldType.INT64),
    )
    milvus = {Metric.COSINE: "COSINE", Metric.EUCLIDEAN: "L2", Metric.DOT: "IP"}[metric]
    assert layout.index == VectorIndex("HNSW", milvus, {"M": 24, "efConstruction": 300})
    assert (layout.name, layout.dynamic, layout.json_field, layout.aliased) == ("films", False, "properties", True)
    assert (layout.primary.name, layout.vector.name) == ("id", "vector")


def test_integer_keys_stay_integers() -> None:
    """The primary key of integer keys is INT64."""
    assert layout_of(Preset.SEGUE, key_type=KeyType.INTEGER).primary == Field("id", FieldType.INT64, primary=True, source="id")


@pytest.mark.parametrize(
    ("preset", "fields", "aliased"),
    [
        (Preset.LANGCHAIN, [("pk", "id"), ("text", "text"), ("vector", "embedding")], True),
        (Preset.LLAMAINDEX, [("id", "id"), ("doc_id", "ref_doc_id"), ("text", "text"), ("embedding", "embedding")], False),
    ],
)
def test_presets_of_the_libraries(preset: Preset, fields: list[tuple[str, str]], aliased: bool) -> None:
    """The columns the library opens by itself, everything else dynamic, an index that needs no parameters."""
    layout = layout_of(preset, text("text"), text("ref_doc_id"), CarriedProperty("year", PropertyType.INTEGER))
    assert [(one.name, one.source) for one in layout.fields] == fields
    assert {one.size for one in layout.fields if one.type is FieldType.VARCHAR} == {65_535}
    assert (layout.dynamic, layout.json_field, layout.aliased) == (True, "$meta", aliased)
    assert layout.index == VectorIndex("AUTOINDEX", "COSINE")


@pytest.mark.parametrize("preset", [Preset.LANGCHAIN, Preset.LLAMAINDEX])
def test_a_preset_says_all_that_it_lacks(preset: Preset) -> None:
    """Integer keys and no text: one message names both, and what to do."""
    with pytest.raises(ConfigError, match=r"text keys.*'id'.*property 'text'") as refusal:
        layout_of(preset, key_type=KeyType.INTEGER)
    assert "--preset segue" in refusal.value.hint


@pytest.mark.parametrize(
    ("preset", "names"),
    [
        (Preset.LANGCHAIN, ["pk"]),
        (Preset.LANGCHAIN, ["vector", "segue_ver"]),
        (Preset.LANGCHAIN, ["$meta", "segue_hash"]),
        (Preset.LLAMAINDEX, ["doc_id", "embedding", "id"]),
        (Preset.LLAMAINDEX, ["document_id"]),
    ],
)
def test_a_property_named_like_a_field_is_refused(preset: Preset, names: list[str]) -> None:
    """Milvus takes no row whose dynamic key is a field's name: said before the copy, with every such property."""
    with pytest.raises(ConfigError, match=re.escape(", ".join(sorted(names)))):
        layout_of(preset, text("text"), text("ref_doc_id"), *map(text, names))


def test_the_library_presets_take_other_names() -> None:
    """What is a field's name in one library is an ordinary key in the other."""
    layout_of(Preset.LANGCHAIN, text("text"), text("id"), text("doc_id"), text("document_id"), text("embedding"))
    layout_of(Preset.LLAMAINDEX, text("text"), text("ref_doc_id"), text("pk"), text("vector"))


@pytest.mark.parametrize(
    "name",
    [
        *("with space", "1st", "naïve", "a-b", "", "$meta", "x" * 256, "id", "vector", "properties", "segue_ver", "segue_hash"),
        *("RowID", "Timestamp", "like", "LIKE", "null", "NULL", "array_contains", "true"),
    ],
)
def test_a_name_that_can_be_no_field_goes_to_json(name: str) -> None:
    """Not legal, taken, or Milvus's own: the property stays, in the JSON field."""
    layout = layout_of(Preset.SEGUE, text(name), text("title"))
    assert [one.source for one in layout.fields if one.source not in (None, "embedding")] == ["id", "title"]


@pytest.mark.parametrize("name", ["timestamp", "rowid", "x" * 255, "_", "Title", "likes"])
def test_a_name_that_only_looks_taken_is_a_field(name: str) -> None:
    """Other spellings of Milvus's own names are free."""
    assert name in [one.name for one in layout_of(Preset.SEGUE, text(name)).fields]


@pytest.mark.parametrize("count", [58, 59, 60, 200])
def test_a_collection_has_at_most_64_fields(count: int) -> None:
    """The first properties get fields; the others, though typed, go to the JSON field."""
    layout = layout_of(Preset.SEGUE, *(text(f"p{number}") for number in range(count)))
    assert len(layout.fields) == min(count + 5, MAX_FIELDS)
    assert layout.fields[2].name == "p0"
    assert layout.json_field == "properties"


@given(
    names=st.lists(
        st.text(max_size=12) | st.sampled_from(["id", "Id", "vector", "like", "properties"]), max_size=80, unique=True
    ),
    kinds=st.lists(st.sampled_from(PropertyType), min_size=80, max_size=80),
)
def test_any_properties_make_a_legal_layout(names: list[str], kinds: list[PropertyType]) -> None:
    """Whatever the properties: legal, distinct field names, each of its property's type, one primary key, one vector."""
    properties = [CarriedProperty(name, kind) for name, kind in zip(names, kinds, strict=False)]
    layout = layout_of(Preset.SEGUE, *properties)
    found = [one.name for one in layout.fields]
    assert len(set(found)) == len(found) <= MAX_FIELDS
    assert all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and len(name) <= MAX_NAME for name in found)
    assert sum(one.primary for one in layout.fields) == sum(one.type is FieldType.FLOAT_VECTOR for one in layout.fields) == 1
    types = {carried.name: carried.type for carried in properties}
    for one in layout.fields[2:-3]:
        assert one.type is FIELD_OF[types[one.name]]


def test_llamaindex_needs_to_know_a_nodes_document() -> None:
    """Without `ref_doc_id` no row could be made: said before the copy."""
    with pytest.raises(ConfigError, match="'ref_doc_id'"):
        layout_of(Preset.LLAMAINDEX, text("text"))
