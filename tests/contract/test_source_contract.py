"""What every `Source` promises, run on the one in memory and on each release line of Neo4j.

Pages are judged after the codec where the port leaves open who finds a fault: what counts is what the copy makes of a node.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Date, DateTime, Duration, Time
from pytz import FixedOffset  # what the driver itself makes of an offset

from segue.model import (
    CarriedProperty,
    Key,
    KeyType,
    Metric,
    Page,
    PropertyType,
    Quarantined,
    Range,
    Reason,
    SourceSpec,
)
from segue.pipelines.embeddings import Codec
from segue.pipelines.layouts import Preset, make_layout
from segue.stores.cypher import quoted

from .graphs import Graph, Neo4jGraph

GOOD = [1.0, 2.0, 3.0]
EVERYTHING = Range(0, None, None, 0)

TEXT_KEYS = [
    "",
    "\u0001",
    " ",
    '"',
    "'",
    "`",
    "\\",
    "\\u0060",
    "$key",
    "a",
    "a\u0301",
    "aa",
    "aaa",
    "ab",
    "á",
    "A",
    "Z",
    "10",
    "9",
    "中文",
    "\ufffd",  # before the next one by code point, behind it by UTF-16 unit
    "😀",
    "😀😀",
    "x" * 500,
    "x" * 499 + "y",
]
INTEGER_KEYS = [-(2**63), -(2**53) - 1, -(2**53), -10, -9, -1, 0, 1, 2, 9, 10, 2**53, 2**53 + 1, 2**63 - 1]


def spec_of(graph: Graph, *properties: str, key_type: KeyType = KeyType.STRING, **changes: Any) -> SourceSpec:
    """Return the spec of a label whose key is `id` and whose vectors are three-dimensional `embedding`s."""
    carried = tuple(CarriedProperty(name, PropertyType.JSON) for name in properties)
    spec = SourceSpec("ix", graph.label, "id", key_type, "embedding", 3, Metric.COSINE, carried)
    return replace(spec, **changes)


def pages_of(
    graph: Graph, spec: SourceSpec, range_: Range = EVERYTHING, limit: int = 3, after: Key | None = None
) -> list[Page]:
    """Read a range to its end, page by page."""
    pages = []
    while True:
        page = graph.source.scan(spec, range_, after, limit)
        pages.append(page)
        after = page.last if page.last is not None else after
        if page.exhausted:
            return pages
        assert len(pages) < 1_000, "the range never ends"


def keys_of(pages: Sequence[Page]) -> list[Any]:
    """Return every key the pages speak of, whether as a row or as quarantined."""
    return [key for page in pages for key in [*page.keys, *(row.key for row in page.quarantined)]]


def settled_of(graph: Graph, spec: SourceSpec) -> SourceSpec:
    """Return the spec as a copy reads with it: it knows whether a constraint guards the key."""
    return replace(spec, key_unique=graph.source.census(spec).key_unique)


def encoded(spec: SourceSpec, pages: Sequence[Page]) -> tuple[list[Key], list[Quarantined]]:
    """Return what a copy makes of the pages: the keys that go, and what cannot."""
    layout = make_layout(spec, name="c", preset=Preset.SEGUE, m=16, ef_construction=200)
    results = [Codec(spec, layout).encode(page) for page in pages]
    return [key for one in results for key in one.rows.keys], [row for one in results for row in one.quarantined]


def nodes_with(keys: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield a good node for each key."""
    for key in keys:
        yield {"id": key, "embedding": GOOD}


@pytest.mark.parametrize(
    ("key_type", "keys"), [(KeyType.STRING, TEXT_KEYS), (KeyType.INTEGER, INTEGER_KEYS)], ids=["text", "integer"]
)
@pytest.mark.parametrize("constrained", [True, False], ids=["constraint", "no index"])
def test_ranges_cover_every_key_once(graph: Graph, key_type: KeyType, keys: list[Key], constrained: bool) -> None:
    """Whatever the size of ranges and pages, each key comes exactly once, and in key order from page to page."""
    if constrained:
        graph.constrain("id")
    graph.create(*nodes_with(keys))
    spec = settled_of(graph, spec_of(graph, key_type=key_type))
    census = graph.source.census(spec)
    assert census.key_indexed is constrained
    for items_per_range, limit in [(1, 100), (4, 1), (5, 3), (7, 2), (100, 6)]:
        ranges = graph.source.plan(spec, items_per_range, census)
        pages = [page for one in ranges for page in pages_of(graph, spec, one, limit)]
        assert sorted(keys_of(pages), key=str) == sorted(keys, key=str)
        cursors = [page.last for page in pages if page.last is not None]
        assert cursors == sorted(cursors)
        assert max(len(page.keys) for page in pages) <= limit


CHARACTERS = st.one_of(
    st.sampled_from("ab\ud7ff\ue000\uff08\ufffd\U00010000😀"),  # around what Neo4j sorts and compares differently
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
)


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
@given(
    keys=st.one_of(
        st.sets(st.text(CHARACTERS, max_size=5), max_size=30), st.sets(st.integers(-(2**63), 2**63 - 1), max_size=30)
    ),
    items_per_range=st.integers(1, 12),
    limit=st.integers(1, 9),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_keys_are_covered_once(graph: Graph, indexed: bool, keys: set[Any], items_per_range: int, limit: int) -> None:
    """For any set of text or integer keys, the ranges of a plan, read to their ends, give that set and nothing twice."""
    graph.clear()
    if indexed and not graph.source.census(spec_of(graph)).key_indexed:
        graph.index("id")
    graph.create(*nodes_with(list(keys)))
    integers = any(isinstance(key, int) for key in keys)
    spec = settled_of(graph, spec_of(graph, key_type=KeyType.INTEGER if integers else KeyType.STRING))
    ranges = graph.source.plan(spec, items_per_range, graph.source.census(spec))
    found = keys_of([page for one in ranges for page in pages_of(graph, spec, one, limit)])
    assert len(found) == len(keys)
    assert set(found) == keys


@pytest.mark.parametrize("constrained", [True, False], ids=["constraint", "index"])
def test_a_plan_is_whole_and_exact(graph: Graph, constrained: bool) -> None:
    """Ranges are numbered, adjoining, unbounded at both ends, and their planned counts add up to the label's nodes."""
    if constrained:
        graph.constrain("id")
        keys = [f"k{number:02}" for number in range(23)]
    else:
        graph.index("id")
        keys = ["b"] * 9 + ["a", "c", "c", "d"]
    graph.create(*nodes_with(keys), {"embedding": GOOD}, {"id": 7, "embedding": GOOD})
    spec = settled_of(graph, spec_of(graph))
    census = graph.source.census(spec)
    ranges = graph.source.plan(spec, 5, census)
    keyed = [one for one in ranges if one.keyed]
    assert [one.number for one in ranges] == list(range(len(ranges)))
    assert len(keyed) > 1
    assert keyed[0].after is None
    assert keyed[-1].until is None
    assert all(lower.until == upper.after for lower, upper in itertools.pairwise(keyed))
    assert sum(one.planned for one in ranges) == census.total == len(keys) + 2
    for one in ranges:
        assert one.planned == len(keys_of(pages_of(graph, spec, one)))


def test_without_an_index_there_is_one_range(graph: Graph) -> None:
    """No index over the key alone: one range, since every page reads the whole label then."""
    graph.index("id", "other")
    graph.create(*nodes_with("abcdefgh"))
    spec = spec_of(graph)
    census = graph.source.census(spec)
    assert not census.key_indexed
    assert not census.key_unique
    assert graph.source.plan(spec, 2, census) == [Range(0, None, None, 8)]


def test_an_empty_label_has_a_plan(graph: Graph) -> None:
    """Nothing there yet: one unbounded range, planned empty, exhausted at once."""
    graph.constrain("id")
    spec = spec_of(graph)
    ranges = graph.source.plan(spec, 10, graph.source.census(spec))
    assert ranges == [Range(0, None, None, 0)]
    page = graph.source.scan(spec, ranges[0], None, 10)
    assert (page.keys, page.last, page.exhausted) == ([], None, True)
    assert page.vectors.shape == (0, 3)


def test_ranges_are_half_open(graph: Graph) -> None:
    """(b, d] holds c and d: neither the lower bound nor anything behind the upper one."""
    graph.create(*nodes_with(["a", "b", "bb", "c", "d", "da", "e"]))
    found = keys_of(pages_of(graph, spec_of(graph, key_unique=False), Range(0, "b", "d", 0), limit=2))
    assert found == ["bb", "c", "d"]


@pytest.mark.parametrize("key_type", KeyType)
def test_a_scan_resumes_behind_any_cursor(graph: Graph, key_type: KeyType) -> None:
    """Behind each key, and behind keys that are not there (any more), exactly the later ones follow."""
    keys: list[Any] = list(range(0, 40, 4)) if key_type is KeyType.INTEGER else [f"{number:03}" for number in range(0, 40, 4)]
    between: list[Any] = list(range(-1, 41)) if key_type is KeyType.INTEGER else [f"{number:03}" for number in range(41)]
    graph.constrain("id")
    graph.create(*nodes_with(keys))
    spec = settled_of(graph, spec_of(graph, key_type=key_type))
    for cursor in between[::3]:
        assert sorted(keys_of(pages_of(graph, spec, after=cursor))) == [key for key in keys if key > cursor]


def test_the_same_scan_gives_the_same_page(graph: Graph) -> None:
    """Reading again with the same arguments gives the same rows, bit for bit, while nobody writes."""
    graph.create(*({"id": f"k{n}", "embedding": [n, 0.1, 1 / 3], "p": n} for n in range(9)))
    spec = spec_of(graph, "p", key_unique=False)
    first, second = (graph.source.scan(spec, EVERYTHING, "k2", 4) for _ in range(2))
    assert sorted(zip(first.keys, first.properties, map(bytes, first.vectors), strict=True)) == sorted(
        zip(second.keys, second.properties, map(bytes, second.vectors), strict=True)
    )


def test_keys_written_later_fall_into_a_range(graph: Graph) -> None:
    """Keys below, between and above those of the plan are found by reading its ranges, each once."""
    graph.constrain("id")
    keys = [f"k{number:02}" for number in range(10, 30)]
    graph.create(*nodes_with(keys))
    spec = settled_of(graph, spec_of(graph))
    ranges = graph.source.plan(spec, 6, graph.source.census(spec))
    later = ["", "a", "k00", "k155", "k19z", "k30", "zz", "😀"]
    graph.create(*nodes_with(later))
    found = keys_of([page for one in ranges for page in pages_of(graph, spec, one)])
    assert sorted(found) == sorted(keys + later)


@pytest.mark.parametrize("key_type", KeyType)
def test_nodes_without_a_usable_key_have_a_range_of_their_own(graph: Graph, key_type: KeyType) -> None:
    """Missing keys and keys of another type are in the range that is not keyed, with the reason, and in no other."""
    usable: list[Any] = ["5", "x"] if key_type is KeyType.STRING else [5, 6]
    others: list[Any] = (
        [5, 5.0, 1.5, True, ["5"], Date(2020, 1, 1)] if key_type is KeyType.STRING else ["5", 5.0, 5.5, False, [5]]
    )
    graph.index("id")
    graph.create(*nodes_with(usable), *nodes_with(others), {"embedding": GOOD}, {"x": 1})
    spec = settled_of(graph, spec_of(graph, key_type=key_type))
    ranges = graph.source.plan(spec, 1, graph.source.census(spec))
    keyed = [page for one in ranges if one.keyed for page in pages_of(graph, spec, one, limit=1)]
    assert sorted(keys_of(keyed)) == usable
    (rest,) = (one for one in ranges if not one.keyed)
    assert rest.planned == len(others) + 2
    for limit in (1, 3, 100):
        pages = pages_of(graph, spec, rest, limit)
        assert not any(page.keys for page in pages)
        rows = [row for page in pages for row in page.quarantined]
        reasons = sorted(row.reason for row in rows)
        assert reasons == [Reason.KEY_MISSING] * 2 + [Reason.KEY_TYPE] * len(others)
        assert len({row.element_id for row in rows}) == len(rows)
        assert all(row.key is None and row.element_id for row in rows)


BAD_VECTORS = {
    "missing": (None, Reason.NO_EMBEDDING),
    "too short": ([1.0, 2.0], Reason.WRONG_DIMENSION),
    "too long": ([1.0, 2.0, 3.0, 4.0], Reason.WRONG_DIMENSION),
    "empty": ([], Reason.WRONG_DIMENSION),
    "text": ("a vector", Reason.NOT_A_VECTOR),
    "text that spells a vector": ("[1.0, 2.0, 3.0]", Reason.NOT_A_VECTOR),
    "list of text": (["1", "2", "3"], Reason.NOT_A_VECTOR),
    "one number": (1.0, Reason.NOT_A_VECTOR),
    "boolean": (True, Reason.NOT_A_VECTOR),
    "booleans": ([True, False, True], Reason.NOT_A_VECTOR),
    "point": (WGS84Point((1.0, 2.0, 3.0)), Reason.NOT_A_VECTOR),
    "NaN": ([1.0, math.nan, 3.0], Reason.NOT_FINITE),
    "infinity": ([1.0, 2.0, math.inf], Reason.NOT_FINITE),
    "minus infinity": ([-math.inf, 2.0, 3.0], Reason.NOT_FINITE),
    "beyond float32": ([1.0, 1e39, 3.0], Reason.NOT_FINITE),
    "norm beyond float32": ([3e38, 3e38, 3e38], Reason.NOT_FINITE),
    "zero": ([0.0, 0.0, 0.0], Reason.ZERO_NORM),
    "zero as float32": ([1e-60, 0.0, 0.0], Reason.ZERO_NORM),
}


@pytest.mark.parametrize("constrained", [True, False], ids=["constraint", "no index"])
def test_what_is_no_vector_is_quarantined_alone(graph: Graph, constrained: bool) -> None:
    """Each kind of bad vector is quarantined with its reason, and takes no row of its page along, whatever the page size."""
    if constrained:
        graph.constrain("id")
    bad = {f"bad {number:02}": value for number, (value, _) in enumerate(BAD_VECTORS.values())}
    expected = {f"bad {number:02}": reason for number, (_, reason) in enumerate(BAD_VECTORS.values())}
    good = [f"bad {number:02} and a good one" for number in range(len(bad))]
    graph.create(*nodes_with(good), *({"id": key, "embedding": value} for key, value in bad.items()))
    spec = settled_of(graph, spec_of(graph))
    for limit in (1, 2, 7, 100):
        graph.begin_anew()
        going, quarantined = encoded(spec, pages_of(graph, spec, limit=limit))
        assert sorted(going) == good
        assert {row.key: row.reason for row in quarantined} == expected
        assert len(quarantined) == len(expected)
        assert all(bool(row.element_id) is not constrained for row in quarantined)


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("name", ["text that spells a vector", "beyond float32", "empty"])
def test_a_bad_row_does_not_lose_its_page(graph: Graph, name: str, place: int) -> None:
    """One bad row first, in the middle or last on a page: the other nine go, and so do those of the next page."""
    keys = [f"k{number:02}" for number in range(20)]
    vectors = dict.fromkeys(keys, GOOD) | {keys[place]: BAD_VECTORS[name][0]}
    graph.create(*({"id": key, "embedding": vector} for key, vector in vectors.items()))
    spec = settled_of(graph, spec_of(graph))
    going, quarantined = encoded(spec, pages_of(graph, spec, limit=10))
    assert sorted(going) == [key for key in keys if key != keys[place]]
    assert [(row.key, row.reason) for row in quarantined] == [(keys[place], BAD_VECTORS[name][1])]


def test_elements_are_rounded_as_numpy_does(graph: Graph) -> None:
    """float64 becomes float32 by rounding to the nearest, ties to even, subnormals and signed zeros included, bit for bit."""
    halfway = [1 + 2**-24, 1 + 3 * 2**-24, 1 + 2**-24 + 2**-52, 16_777_217.0, 0.1, 1 / 3]
    extremes = [1e-45, 7e-46, 7.1e-46, 1e-40, 1.1754943e-38, 3.4028234e38, 3.40282349e38, -0.0, -1e-300, 5e-324]
    noise = np.random.default_rng(7).normal(size=(40, 16)) * 10.0 ** np.arange(-8, 8)
    vectors = [halfway + [-value for value in halfway] + [1.0] * 4, extremes + [0.5] * 6, *noise.tolist()]
    graph.create(*({"id": number, "embedding": vector} for number, vector in enumerate(vectors)))
    spec = spec_of(graph, key_type=KeyType.INTEGER, dimension=16, key_unique=False)
    for limit in (1, 100):
        pages = pages_of(graph, spec, limit=limit)
        found = {key: bytes(vector) for page in pages for key, vector in zip(page.keys, page.vectors, strict=True)}
        assert found == {number: np.array(vector).astype("<f4").tobytes() for number, vector in enumerate(vectors)}
        assert all(page.vectors.dtype == np.float32 and page.vectors.flags.c_contiguous for page in pages)


def test_vectors_beyond_what_cypher_calls_a_vector(graph: Graph) -> None:
    """4,097 dimensions, one more than Cypher's VECTOR type takes, are read as well, page after page."""
    vector = (np.arange(4_097) / 7).tolist()
    graph.create(*({"id": f"k{n}", "embedding": vector} for n in range(3)))
    pages = pages_of(graph, spec_of(graph, dimension=4_097, key_unique=False), limit=2)
    assert sorted(key for page in pages for key in page.keys) == ["k0", "k1", "k2"]
    assert all(row.tobytes() == np.array(vector, "<f4").tobytes() for page in pages for row in page.vectors)


def test_lists_of_integers_are_vectors(graph: Graph) -> None:
    """Integers, and a byte array as signed integers, are taken as numbers, as Neo4j's own vector index takes them."""
    graph.create({"id": "a", "embedding": [1, -2, 16_777_217]}, {"id": "b", "embedding": b"\x01\xff\x80"})
    (page,) = pages_of(graph, spec_of(graph, key_unique=False), limit=10)
    found = dict(zip(page.keys, page.vectors.tolist(), strict=True))
    assert found == {"a": [1.0, -2.0, 16_777_216.0], "b": [1.0, -1.0, -128.0]}


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
@pytest.mark.parametrize("key_type", KeyType)
def test_nodes_that_share_a_key_come_within_one_page(graph: Graph, key_type: KeyType, indexed: bool) -> None:
    """Without a constraint, all nodes of a key are on one page, also where the page would end among them."""
    numbers = [0, 1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 5]
    keys = [f"k{number}" if key_type is KeyType.STRING else number for number in numbers]
    if indexed:
        graph.index("id")
    # 3.0 equals 3 in Cypher, and is a key of another type.
    graph.create(*nodes_with(keys), {"id": 3.0, "embedding": GOOD})
    graph.create({"id": keys[1], "embedding": "none"})
    spec = settled_of(graph, spec_of(graph, key_type=key_type))
    for limit in range(1, 14):
        pages = pages_of(graph, spec, limit=limit)
        assert sorted(keys_of(pages)) == sorted([*keys, keys[1]])
        for key in set(keys):
            assert sum(key in keys_of([page]) for page in pages) == 1
        going, quarantined = encoded(spec, pages)
        assert sorted(going) == sorted(key for key in keys if keys.count(key) == 1)
        assert {row.reason for row in quarantined} == {Reason.KEY_DUPLICATE, Reason.NOT_A_VECTOR}
        assert len({row.element_id for row in quarantined}) == len(quarantined)


AWKWARD = ["with space and 'apostrophe' and \"quote\"", "back`tick``s", "\\u0041 \\\\u0041 $x <<label>>", "new\nline ünïcödé😀"]


@pytest.mark.parametrize("awkward", AWKWARD)
def test_names_may_hold_any_character(graph: Graph, awkward: str) -> None:
    """Labels, keys, vector and carried properties with spaces, quotes, back-ticks and escapes are read as they are named."""
    graph.label += awkward
    key, vector, carried = f"{awkward} key", f"{awkward} vector", f"{awkward} carried"
    graph.constrain(key)
    graph.create({key: "a", vector: GOOD, carried: 7}, {key: "b", vector: "text"}, {vector: GOOD})
    spec = settled_of(graph, spec_of(graph, carried, key=key, vector=vector))
    census = graph.source.census(spec)
    assert (census.total, census.embedded, census.strings, census.key_unique) == (3, 3, 2, True)
    assert census.types == {carried: {"INTEGER NOT NULL", "NULL"}}
    pages = [page for one in graph.source.plan(spec, 1, census) for page in pages_of(graph, spec, one, limit=1)]
    assert [(page.keys, page.properties) for page in pages if page.keys] == [(["a"], [[7]])]
    assert sorted(row.reason for page in pages for row in page.quarantined) == [Reason.KEY_MISSING, Reason.NOT_A_VECTOR]


def test_a_property_that_only_a_node_without_a_key_lacks_is_not_missing(graph: Graph) -> None:
    """Such a node cannot go in any case, so it does not make the property look optional."""
    graph.create({"id": "a", "embedding": GOOD, "title": "A"}, {"embedding": GOOD})
    assert graph.source.census(spec_of(graph, "title")).types == {"title": {"STRING NOT NULL"}}
    graph.create({"id": "b", "embedding": GOOD})
    assert graph.source.census(spec_of(graph, "title")).types == {"title": {"STRING NOT NULL", "NULL"}}


def test_a_node_deleted_meanwhile_lacks_nothing(graph: Graph) -> None:
    """Nodes that have everything are deleted while they are counted: no property comes to look optional by that."""
    if not isinstance(graph, Neo4jGraph):
        pytest.skip("nothing happens in the middle of a census of the one in memory")
    graph.index("id")
    names = ["title", "year", "genre", "director"]
    deleting = f"MATCH (n:{quoted(graph.label)}) WITH n ORDER BY n.id DESC CALL (n) {{ DELETE n }} IN TRANSACTIONS OF 50 ROWS"
    for _ in range(5):
        graph.create(*({"id": f"k{n:06}", **dict.fromkeys(names, "x")} for n in range(4_000)))
        deleter = threading.Thread(target=graph.run, args=(deleting,))
        deleter.start()
        while deleter.is_alive():
            census = graph.source.census(spec_of(graph, *names))
            assert all(seen <= {"STRING NOT NULL"} for seen in census.types.values()), census
        deleter.join()


VALUES: dict[str, tuple[Any, str, Any]] = {
    "text": ("ä \"quoted\" 'text' `x`", "STRING NOT NULL", "ä \"quoted\" 'text' `x`"),
    "empty text": ("", "STRING NOT NULL", ""),
    "integer": (-(2**63), "INTEGER NOT NULL", -(2**63)),
    "float": (0.1, "FLOAT NOT NULL", 0.1),
    "whole float": (2.0, "FLOAT NOT NULL", 2.0),
    "boolean": (True, "BOOLEAN NOT NULL", True),
    "date": (Date(2020, 2, 29), "DATE NOT NULL", "2020-02-29"),
    "local time": (Time(1, 2, 3, 4), "LOCAL TIME NOT NULL", "01:02:03.000000004"),
    "zoned time": (Time(1, 2, 3, 4, FixedOffset(90)), "ZONED TIME NOT NULL", "01:02:03.000000004+01:30"),
    "local date-time": (DateTime(2020, 1, 2, 3, 4, 5, 6), "LOCAL DATETIME NOT NULL", "2020-01-02T03:04:05.000000006"),
    "zoned date-time": (
        DateTime(2020, 1, 2, 3, 4, 5, 6, FixedOffset(-90)),
        "ZONED DATETIME NOT NULL",
        "2020-01-02T03:04:05.000000006-01:30",
    ),
    "duration": (Duration(months=14, days=3, seconds=5, nanoseconds=500_000_000), "DURATION NOT NULL", "P1Y2M3DT5.5S"),
    "texts": (["b", "a", ""], "LIST<STRING NOT NULL> NOT NULL", ["b", "a", ""]),
    "integers": ([3, 1], "LIST<INTEGER NOT NULL> NOT NULL", [3, 1]),
    "floats": ([0.5, 2.0], "LIST<FLOAT NOT NULL> NOT NULL", [0.5, 2.0]),
    "booleans": ([True, False], "LIST<BOOLEAN NOT NULL> NOT NULL", [True, False]),
    "dates": ([Date(2020, 1, 1)], "LIST<DATE NOT NULL> NOT NULL", ["2020-01-01"]),
    "empty list": ([], "LIST<NOTHING> NOT NULL", []),
    "point": (WGS84Point((1.5, -2.0)), "POINT NOT NULL", {"srid": 4326, "coordinates": [1.5, -2.0]}),
    "points": (
        [CartesianPoint((1.0, 2.0, 3.0))],
        "LIST<POINT NOT NULL> NOT NULL",
        [{"srid": 9157, "coordinates": [1.0, 2.0, 3.0]}],
    ),
    "bytes": (b"\x00\xff", "LIST<INTEGER NOT NULL> NOT NULL", "AP8="),
    "missing": (None, "NULL", None),
}


def test_values_arrive_as_they_are(graph: Graph) -> None:
    """Every kind of value is counted under Neo4j's name for its type, read back equal, and has one faithful JSON form."""
    names = list(VALUES)
    graph.create({"id": "a", "embedding": GOOD} | {name: value for name, (value, _, _) in VALUES.items()})
    spec = spec_of(graph, *names, key_unique=False)
    assert graph.source.census(spec).types == {name: {kind} for name, (_, kind, _) in VALUES.items()}
    (page,) = pages_of(graph, spec, limit=10)
    assert dict(zip(names, page.properties[0], strict=True)) == {name: value for name, (value, _, _) in VALUES.items()}
    layout = make_layout(spec, name="c", preset=Preset.SEGUE, m=16, ef_construction=200)
    stored = orjson.loads(Codec(spec, layout).encode(page).rows.columns["properties"][0])
    assert stored == {name: json for name, (_, _, json) in VALUES.items() if json is not None}


def test_a_census_counts_what_is_there(graph: Graph) -> None:
    """Nodes, vectors, keys by type, and for each property every type seen, "NULL" where some node lacks it."""
    graph.create(
        {"id": "a", "embedding": GOOD, "p": 1, "q": "x"},
        {"id": "b", "embedding": [1.0], "p": 1.5, "q": "y"},
        {"id": 3, "p": 2, "q": "z"},
        {"id": True, "embedding": "text", "q": "z"},
        {"embedding": GOOD, "q": "z"},
    )
    census = graph.source.census(spec_of(graph, "p", "q", "nowhere"))
    assert (census.total, census.embedded, census.strings, census.integers) == (5, 4, 2, 1)
    assert census.types == {
        "p": {"INTEGER NOT NULL", "FLOAT NOT NULL", "NULL"},
        "q": {"STRING NOT NULL"},
        "nowhere": {"NULL"},
    }


def test_a_constraint_is_an_index_and_a_promise(graph: Graph) -> None:
    """Under a uniqueness constraint the census says so; under an index alone only that ranges are served."""
    spec = spec_of(graph)
    graph.index("other")
    assert not graph.source.census(spec).key_indexed
    graph.constrain("id")
    census = graph.source.census(spec)
    assert (census.key_indexed, census.key_unique) == (True, True)
    other = graph.source.census(replace(spec, key="other"))
    assert (other.key_indexed, other.key_unique) == (True, False)


def test_the_identity_stays(graph: Graph) -> None:
    """A source names its database the same way each time, whatever was written in between."""
    before = graph.source.identity()
    graph.create(*nodes_with("ab"))
    assert graph.source.identity() == before
    assert before


def test_dates_that_no_driver_holds_are_quarantined(neo4j_graph: Neo4jGraph) -> None:
    """Neo4j's years reach beyond 1 to 9999, the driver's do not: such a row is quarantined, and its neighbours go."""
    neo4j_graph.create(*nodes_with("ac"))
    label = quoted(neo4j_graph.label)
    neo4j_graph.run(f"CREATE (:{label} {{id: 'b', embedding: $good, founded: date('-0753-04-21')}})", good=GOOD)
    spec = settled_of(neo4j_graph, spec_of(neo4j_graph, "founded"))
    going, quarantined = encoded(spec, pages_of(neo4j_graph, spec))
    assert sorted(going) == ["a", "c"]
    assert [(row.key, row.reason) for row in quarantined] == [("b", Reason.VALUE_TYPE)]
    assert "founded" in quarantined[0].detail
