"""Under which conditions a copy is made: types as the data has them, and in words what changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from segue.model import CarriedProperty, KeyType, Layout, Metric, PropertyType, SourceSpec
from segue.pipelines.conditions import conditions, differences, settled, with_types
from segue.pipelines.layouts import Preset, make_layout
from segue.ports import Census

SPEC = SourceSpec(
    "ix",
    "Film",
    "id",
    KeyType.STRING,
    "embedding",
    384,
    Metric.COSINE,
    (CarriedProperty("title", PropertyType.STRING), CarriedProperty("year", PropertyType.INTEGER)),
)


def census_of(total: int = 10, *, indexed: bool = True, unique: bool = True, **types: set[str]) -> Census:
    """Return the census of films whose properties have these types."""
    seen = {name: frozenset(kinds) for name, kinds in types.items()}
    return Census(total, total, total, 0, seen, key_indexed=indexed, key_unique=unique)


def types_of(spec: SourceSpec) -> dict[str, PropertyType]:
    """Return the carried properties' types."""
    return {carried.name: carried.type for carried in spec.properties}


def layout_of(spec: SourceSpec, preset: Preset = Preset.SEGUE, m: int = 16) -> Layout:
    """Return the spec's layout."""
    return make_layout(spec, name="films", preset=preset, m=m, ef_construction=200)


def conditions_of(spec: SourceSpec = SPEC, settled_spec: SourceSpec | None = None, **changes: Any) -> dict[str, Any]:
    """Return the conditions of a copy as the state gives them back."""
    layout = changes.pop("layout", None) or layout_of(settled_spec or spec)
    values = {"source": "db 1", "tool_version": "1.0", "capture": None} | changes
    recorded: dict[str, Any] = json.loads(json.dumps(conditions(spec, settled_spec or spec, layout, **values)))
    return recorded


def test_types_that_fit_stay() -> None:
    """Every node has the property with the declared type: nothing changes and nothing is said."""
    spec, notes = settled(SPEC, census_of(title={"STRING NOT NULL"}, year={"INTEGER NOT NULL"}))
    assert (types_of(spec), notes) == (types_of(SPEC), [])
    assert spec.key_unique


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"INTEGER NOT NULL", "STRING NOT NULL"}, "property year: is INTEGER on some nodes, STRING on others"),
        ({"INTEGER NOT NULL", "NULL"}, "property year: is INTEGER and is missing on some nodes"),
        ({"NULL"}, "property year: no node has it"),
        ({"FLOAT NOT NULL"}, "property year: is FLOAT"),
    ],
)
def test_types_that_differ_go_to_json(seen: set[str], said: str) -> None:
    """A property that is not on every node, or not always of the declared type, goes to the JSON field, and it is said."""
    spec, notes = settled(SPEC, census_of(title={"STRING NOT NULL"}, year=seen))
    assert types_of(spec) == {"title": PropertyType.STRING, "year": PropertyType.JSON}
    assert notes == [f"{said}; it goes to the JSON field"]


def test_dates_fit_a_text_field() -> None:
    """Times have a text form, so they keep the field they were declared with."""
    spec, notes = settled(SPEC, census_of(title={"DATE NOT NULL"}, year={"INTEGER NOT NULL"}))
    assert (types_of(spec)["title"], notes) == (PropertyType.STRING, [])


def test_an_empty_label_keeps_what_was_declared() -> None:
    """No node, no type: the declaration holds and there is nothing to warn of."""
    spec, notes = settled(SPEC, census_of(0, indexed=False, unique=False))
    assert (types_of(spec), notes) == (types_of(SPEC), [])


def test_a_key_that_nothing_guards_is_said() -> None:
    """Without a constraint duplicates may come; without an index every page costs a pass, and what helps is given."""
    seen: dict[str, Any] = {"title": {"STRING NOT NULL"}, "year": {"INTEGER NOT NULL"}}
    spec, notes = settled(SPEC, census_of(indexed=False, unique=False, **seen))
    assert not spec.key_unique
    assert len(notes) == 2
    assert "no uniqueness constraint on :Film(id)" in notes[0]
    assert "CREATE RANGE INDEX FOR (n:`Film`) ON (n.`id`)" in notes[1]
    assert len(settled(SPEC, census_of(unique=False, **seen))[1]) == 1


def test_nothing_changed_is_no_difference() -> None:
    """Conditions compare equal to themselves over the way through JSON."""
    assert differences(conditions_of(), conditions_of()) == []
    now = conditions(SPEC, SPEC, layout_of(SPEC), source="db 1", tool_version="1.0", capture=None)
    assert differences(conditions_of(), now) == []


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "database": ({"source": "db 2"}, "database: 'db 1' then, 'db 2' now"),
    "tool": ({"tool_version": "2.0"}, "tool.version: '1.0' then, '2.0' now"),
    "label": ({"spec": replace(SPEC, label="Movie")}, "source.label: 'Film' then, 'Movie' now"),
    "dimension": ({"spec": replace(SPEC, dimension=768)}, "source.dimension: 384 then, 768 now"),
    "metric": ({"spec": replace(SPEC, metric=Metric.DOT)}, "source.metric: 'cosine' then, 'dot' now"),
    "key type": ({"spec": replace(SPEC, key_type=KeyType.INTEGER)}, "source.key_type: 'string' then, 'integer' now"),
    "fewer": ({"spec": replace(SPEC, properties=SPEC.properties[:1])}, "source.properties.year: 'integer' then, nothing now"),
    "more": (
        {"spec": replace(SPEC, properties=(*SPEC.properties, CarriedProperty("x", PropertyType.JSON)))},
        "source.properties.x: nothing then, 'json' now",
    ),
    "index": ({"layout": layout_of(SPEC, m=32)}, "layout.index.params.M: 16 then, 32 now"),
    "preset": ({"layout": replace(layout_of(SPEC), dynamic=True)}, "layout.dynamic: False then, True now"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_said_in_words(change: str) -> None:
    """Each change is named with what it was and what it is, in plain values."""
    changes, said = CHANGES[change]
    assert said in differences(conditions_of(), conditions_of(**changes))


def test_a_constraint_that_came_or_went_is_no_difference() -> None:
    """It changes how the source is read, not what is copied."""
    assert differences(conditions_of(), conditions_of(replace(SPEC, key_unique=False))) == []


def test_a_resume_goes_on_with_the_types_of_the_plan() -> None:
    """The data's types may have moved on; the collection was made for those of the plan, and that is no difference."""
    planned, _ = settled(SPEC, census_of(title={"STRING NOT NULL"}, year={"NULL", "INTEGER NOT NULL"}))
    recorded = conditions_of(SPEC, planned)
    again = with_types(SPEC, recorded, key_unique=False)
    assert types_of(again) == types_of(planned) != types_of(SPEC)
    assert not again.key_unique
    assert differences(recorded, conditions_of(SPEC, again)) == []


def test_a_property_that_was_not_planned_keeps_its_declaration() -> None:
    """It is found as a difference; until then nothing fails for want of its type."""
    more = replace(SPEC, properties=(*SPEC.properties, CarriedProperty("x", PropertyType.FLOAT)))
    assert types_of(with_types(more, conditions_of(), key_unique=True))["x"] is PropertyType.FLOAT
