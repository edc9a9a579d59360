"""Filters mean the same in Neo4j, in Milvus and in Python, whatever the values: one collection of corner cases."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j.spatial import WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from pytz import FixedOffset, timezone

from segue.errors import InvalidInput
from segue.model import CarriedProperty, Filter, Key, KeyType, Layout, Metric, Page, PropertyType, SourceSpec
from segue.pipelines.embeddings import Codec
from segue.pipelines.filters import kind_of, matches, parse
from segue.pipelines.layouts import Preset, make_layout
from segue.pipelines.values import plain_properties
from segue.stores.cypher import quoted
from segue.stores.milvus_filters import expression
from segue.stores.neo4j_filters import condition
from segue.stores.neo4j_search import Neo4jFence

from .graphs import Neo4jGraph
from .sinks import MilvusPlace, Opened

TEXTS = [
    *(
        "",
        "x",
        "X",
        "xy",
        'q"b',
        "it's",
        "back\\slash",
        "\\",
        '\\"',
        "a\nb",
        "\r\t",
        "\0",
        "a\0b",
        "a\0c",
        "\x7f\x01",
        "é",
        "5",
    ),
    *("\U0001f600", "a\U0001f600", "\ue000", "\uffff", "\ufeff", "\u2028", "\\n", "\\u0041", "%_", "{{x}}", "$f", "`", "true"),
    '" or id >= 0 or title == "',
]
INTEGERS = [
    *(0, 1, -1, 5, -5, 1979, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, -(2**53) - 1, 2**60, 2**60 + 1, 2**60 - 1),
    *(2**62 + 1, 2**63 - 1024, 2**63 - 512, 2**63 - 2, 2**63 - 1, -(2**63), -(2**63) + 1),
]
FLOATS = [
    *(0.0, -0.0, 5.0, 5.5, -5.5, 0.1, 1979.0, 2.0**53, 2.0**53 + 2, 2.0**53 - 1, 2.0**60, 2.0**62, 2.0**63, -(2.0**63)),
    *(1e19, -1e19, 1e300, -1e300, 1e-320, 1e16),
]
TIMES = [
    *(Date(2020, 2, 29), Date(1, 1, 1), DateTime(2020, 1, 2, 3, 4, 0, 0, UTC), DateTime(2020, 1, 2, 3, 4, 5, 6)),
    *(DateTime(2020, 1, 2, 3, 4, 5, 123_456_789, FixedOffset(330)), Time(1, 2, 3, 4, FixedOffset(-60)), Time(1, 2)),
    *(
        timezone("Europe/Paris").localize(DateTime(2020, 7, 2, 3, 4)),
        Duration(months=-14, days=3, seconds=-3600, nanoseconds=-5),
    ),
    *(Duration(), Duration(days=400, seconds=5, nanoseconds=500_000_000)),
]
LISTS: list[Any] = [
    *([], ["x", 'q"b'], [5], [5.0, 0.1], [-0.0], [0], [True], [False, True], [2**53 + 1, 2**53 - 1], [2.0**53 - 1], ["5"]),
    *([Date(2020, 2, 29)], [DateTime(2020, 1, 2, 3, 4, 5, 6)], ["\U0001f600", "\0"], [2**63 - 1], [2.0**63], [-(2**63), -5]),
]
MIXED: list[Any] = [None, *TEXTS, *INTEGERS, *FLOATS, True, False, *TIMES, *LISTS, WGS84Point((1.5, -2.0))]

ODD = ['quo"ted', "back\\slash", "back`tick", "new\nline", "\U0001f600", "a/b~1", "[0]", "\\u0060 x"]
TYPED = {
    "title": (PropertyType.STRING, [*TEXTS, *TIMES]),
    "text": (PropertyType.STRING, [*TEXTS, *TIMES]),
    "year": (PropertyType.INTEGER, INTEGERS),
    "rating": (PropertyType.FLOAT, FLOATS),
    "seen": (PropertyType.BOOLEAN, [True, False]),
}
CARRIED = (
    *(CarriedProperty(name, kind) for name, (kind, _) in TYPED.items()),
    *(CarriedProperty(name, PropertyType.JSON) for name in ("mixed", *ODD)),
)
VECTOR = np.array([0.6, 0.8], np.float32)

SCALARS = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(INTEGERS),
    st.sampled_from(FLOATS),
    st.sampled_from([value.iso_format() for value in TIMES]),
    st.booleans(),
    st.text(max_size=3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
WORDS = ["=", "!=", "<", "<=", ">", ">="]
COMPARISONS = st.one_of(
    st.dictionaries(st.sampled_from(WORDS), SCALARS, min_size=1, max_size=2),
    st.fixed_dictionaries({"in": st.lists(SCALARS, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"contains": SCALARS}),
)
FORMS = st.dictionaries(st.sampled_from(["id", *TYPED, "mixed", "mixed", *ODD]), COMPARISONS, min_size=1, max_size=2)


@dataclass(repr=False)
class Loaded:
    """The items, and every way to choose among them."""

    spec: SourceSpec
    items: dict[Key, dict[str, Any]] = field(default_factory=dict)
    ways: dict[str, Callable[[Filter], list[Key]]] = field(default_factory=dict)
    checked: int = 0
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def check(self, form: dict[str, Any]) -> None:
        """Hold every store's choice against the reference; forms that `parse` refuses have no meaning."""
        try:
            conditions = parse(form, self.spec)
        except InvalidInput:
            return
        self.checked += 1
        expected = [key for key, properties in self.items.items() if matches(conditions, properties)]
        for name, found in zip(self.ways, self.pool.map(lambda choose: choose(conditions), self.ways.values()), strict=True):
            wrong = {key: self.items[key] for key in {*expected} ^ {*found}}
            assert not wrong, f"{name} differs on {form!r}: {wrong}"


def nodes(key_type: KeyType) -> list[dict[str, Any]]:
    """Return items that have, one by one, every corner value there is; Milvus 2.3.5 shows no row whose key is 2**63 - 1."""
    chance = random.Random(7)
    corners = [number for number in INTEGERS if number != 2**63 - 1] if key_type is KeyType.INTEGER else TEXTS
    keys: list[Key] = [*corners, *(n if key_type is KeyType.INTEGER else f"k{n}" for n in range(10_000, 10_000 + len(MIXED)))]
    made = []
    for place, (key, mixed) in enumerate(zip(keys, MIXED, strict=False)):
        node: dict[str, Any] = {name: pool[place % len(pool)] for name, (_, pool) in TYPED.items()}
        node |= {name: chance.choice(MIXED) for name in ODD} | {"mixed": mixed, "id": key, "v": VECTOR.tolist()}
        made.append({name: value for name, value in node.items() if value is not None})
    return made


@pytest.fixture(scope="module")
def both(neo4j_ways: Any, sinks: Opened) -> Iterator[dict[KeyType, Loaded]]:
    """The same items in both lines of Neo4j, and in Milvus with typed fields and with dynamic keys; both types of keys."""
    place = sinks("milvus").place
    assert isinstance(place, MilvusPlace)
    # Named so that no other test that ends takes them along.
    name = f"filters_{uuid.uuid4().hex[:12]}"
    made, wanted = {}, list[tuple[Loaded, Preset, Page, Layout]]()
    with contextlib.ExitStack() as stack:
        for key_type in KeyType:
            spec = SourceSpec("ix", f"Scratch_{name}_{key_type}", "id", key_type, "v", 2, Metric.COSINE, CARRIED)
            one = made[key_type] = Loaded(spec)
            stack.enter_context(one.pool)
            for line, way in neo4j_ways.items():
                graph = Neo4jGraph(spec.label, *way)
                stack.callback(graph.clear)
                graph.create(*nodes(key_type))
                one.ways[line] = in_neo4j(graph, spec)
            page = Neo4jFence(graph.connection, spec.label, spec, seconds=10).items([node["id"] for node in nodes(key_type)])
            assert len(page.keys) == len(MIXED)
            for key, values in zip(page.keys, page.properties, strict=True):
                one.items[key] = {"id": key, **plain_properties(spec.property_names, values)}
            for preset in (Preset.SEGUE, Preset.LANGCHAIN) if key_type is KeyType.STRING else (Preset.SEGUE,):
                layout = make_layout(spec, name=f"{name}_{key_type}_{preset}", preset=preset, m=16, ef_construction=200)
                stack.callback(place.drop, layout)
                wanted.append((one, preset, page, layout))
        # A server takes seconds for each, and no longer for all.
        with ThreadPoolExecutor(len(wanted)) as pool:
            choosing = pool.map(lambda each: in_milvus(place, each[0].spec, each[2], each[3]), wanted)
            for (one, preset, _, _), choose in zip(wanted, choosing, strict=True):
                one.ways[f"Milvus, {preset}"] = choose
        yield made


@pytest.fixture(params=KeyType)
def loaded(request: pytest.FixtureRequest, both: dict[KeyType, Loaded]) -> Loaded:
    """Items with each type of keys."""
    return both[request.param]


def in_neo4j(graph: Neo4jGraph, spec: SourceSpec) -> Callable[[Filter], list[Key]]:
    """Return how nodes are chosen: as the search does, where no index answers."""

    def choose(conditions: Filter) -> list[Key]:
        meets, values = condition(conditions)
        text = f"MATCH (node:{quoted(spec.label)}) RETURN collect(CASE WHEN {meets} THEN node.id END)"
        ((keys,),) = graph.connection.ask(text, values, seconds=10)
        return list(keys)

    return choose


def in_milvus(place: MilvusPlace, spec: SourceSpec, page: Page, layout: Layout) -> Callable[[Filter], list[Key]]:
    """Load a collection, and return how rows are chosen; Strong until all are seen, after which nothing changes any more."""
    place.sink.create(layout)
    place.sink.index(layout)
    place.sink.load(layout)
    encoded = Codec(spec, layout).encode(page)
    assert encoded.quarantined == []
    place.sink.upsert(layout, encoded.rows).result()
    key = layout.primary.name

    def ask(text: str, **options: str) -> list[Key]:
        found = place.client.query(layout.name, filter=text, output_fields=[key], limit=1000, **options)
        return [row[key] for row in found]

    until = time.monotonic() + 120
    while len(ask("", consistency_level="Strong")) < len(page.keys):
        assert time.monotonic() < until, "the rows do not become visible"
    return lambda conditions: ask(expression(conditions, layout), consistency_level="Eventually")


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(form=FORMS)
def test_every_store_chooses_what_the_reference_chooses(loaded: Loaded, form: dict[str, Any]) -> None:
    """Whatever the property, the operator and the value."""
    loaded.check(form)


def test_every_corner_value_is_compared(both: dict[KeyType, Loaded]) -> None:
    """With members of every kind and missing ones, by every operator in turn."""
    loaded = both[KeyType.STRING]
    before = loaded.checked
    words = itertools.cycle([*WORDS, "contains", "in", "!="])
    for value in [*TEXTS, *INTEGERS, *FLOATS, True, False, *(one.iso_format() for one in TIMES)]:
        word = next(words)
        loaded.check({"mixed": {word: [value] if word == "in" else value}})
    for word in WORDS:
        loaded.check({"mixed": {word: 0}})
        loaded.check({"rating": {word: -0.0}})
    for word, value in zip(itertools.cycle(WORDS), (5.5, -0.0, 2**53 + 1, 2**60 - 1, 2**63 - 1, -(2**63), 1e300), strict=False):
        loaded.check({"year": {word: value}})
        loaded.check({"rating": {word: value}})
    assert loaded.checked - before > 70


@pytest.mark.parametrize("value", ["x", 5, True])
def test_what_is_missing_or_of_another_kind_is_not_unequal(both: dict[KeyType, Loaded], value: Any) -> None:
    """Of all that is not the value, only what is of its kind."""
    loaded = both[KeyType.STRING]
    conditions = parse({"mixed": {"!=": value}}, loaded.spec)
    for choose in loaded.ways.values():
        kinds = {kind_of(loaded.items[key].get("mixed")) for key in choose(conditions)}
        assert kinds == {kind_of(value)}


def test_values_and_names_cannot_break_out(both: dict[KeyType, Loaded]) -> None:
    """Text that would end a literal and add a condition is only text."""
    loaded = both[KeyType.STRING]
    for name in ["title", *ODD]:
        for value in ['" or id != "', "' or true or node.id <> '", '\\" or id != "', "` = 1 or true //"]:
            loaded.check({name: value})
            assert all(choose(parse({name: value}, loaded.spec)) == [] for choose in loaded.ways.values())


def test_a_long_list_of_large_numbers_is_no_deep_expression(both: dict[KeyType, Loaded]) -> None:
    """A thousand ids that no float equals."""
    ids = [2**53 + 2 * n + 1 for n in range(1_000)]
    both[KeyType.STRING].check({"mixed": {"in": ids}})
    both[KeyType.INTEGER].check({"id": {"in": [*ids, -(2**63), 0.5, 1e300]}})
