"""What can go arrives as it is, score for score; what cannot is quarantined with its key and reason, and the rest goes through.

Three copies are made at once, on real stores: cosine without a constraint on the key, euclidean with integer keys, and
`dot` in the langchain layout. Each test looks at one side of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import Duration, Time

from acceptance.workplace import Ended, Workplace, workplace
from segue.model import Metric, Reason
from segue.pipelines.scores import neo4j_score
from segue.sandbox import Endpoint

DIMENSION = 8
FINE = [0.5, -0.25, 1.0, 0.125, -1.0, 0.75, 0.0, 0.25]
NAN, INFINITE, BEYOND_FLOAT32 = float("nan"), float("inf"), 1e39

VALUES: Mapping[str, tuple[str, Any, Any]] = {
    "text": ("string", 'naïve 🎬 " \\ \n', 'naïve 🎬 " \\ \n'),
    "whole": ("integer", -(2**63), -(2**63)),
    "number": ("float", 0.1, 0.1),
    "truth": ("boolean", True, True),
    "day": ("string", date(2026, 1, 2), "2026-01-02"),
    "moment": (
        "string",
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1))),
        "2026-01-02T03:04:05.000006000+01:00",
    ),
    "clock": ("string", Time(3, 4, 5, 6), "03:04:05.000000006"),
    "span": ("string", Duration(months=14, days=3, seconds=4, nanoseconds=5), "P1Y2M3DT4.000000005S"),
    "words": ("json", ["a", "b"], ["a", "b"]),
    "days": ("json", [date(2026, 1, 2)], ["2026-01-02"]),
    "spot": ("json", CartesianPoint((1.5, -2.5)), {"srid": 7203, "coordinates": [1.5, -2.5]}),
    "place": ("json", WGS84Point((13.4, 52.5, 34.0)), {"srid": 4979, "coordinates": [13.4, 52.5, 34.0]}),
    "raw": ("json", b"\x00\xff", "AP8="),
    'o\'dd "na`me" \\u0041 🎬': ("json", "odd", "odd"),
}
"""Property to the type configured for it, the value in Neo4j, and the value expected in Milvus."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a copy is made of, and what must become of it.

    Attributes:
        fit: Items, as properties of a node, that can go.
        unfit: Items that cannot, each with the reason.
        carried: Properties and their types, as configured.
    """

    metric: Metric
    fit: Sequence[Mapping[str, Any]]
    unfit: Sequence[tuple[Mapping[str, Any], Reason]]
    carried: Mapping[str, str]
    preset: str = "segue"
    key_type: str = "string"
    unique: bool = True

    @property
    def quarantine(self) -> Counter[tuple[Any, str]]:
        """Key (None where it is none of the collection's type) and reason of every item that cannot go, counted."""
        right = int if self.key_type == "integer" else str
        keys = [item.get("id") for item, _ in self.unfit]
        reasons = [reason.value for _, reason in self.unfit]
        return Counter((key if isinstance(key, right) else None, reason) for key, reason in zip(keys, reasons, strict=True))


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished copy: where it is, what it was made of, what the command said."""

    place: Workplace
    case: Case
    ended: Ended


def _vectors(count: int, *, unit: bool = False) -> list[list[float]]:
    made = np.random.default_rng(count).normal(size=(count, DIMENSION))
    if unit:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return [vector.tolist() for vector in made]


def _cosine() -> Case:
    values = {name: value for name, (_, value, _) in VALUES.items()} | {"mixed": "seven", "sometimes": "here"}
    fit = [{"id": f"k-{number:02}", "embedding": vector, **values} for number, vector in enumerate(_vectors(40))]
    fit += [{"id": f"mixed-{value}", "embedding": FINE, **values, "mixed": value} for value in (7, 7.5)]
    fit += [{"id": "missing", "embedding": FINE, **values, "sometimes": None}]

    def but(key: Any, **changes: Any) -> dict[str, Any]:
        return {"id": key, "embedding": FINE, **values, **changes}

    unfit = [
        (but("none", embedding=None), Reason.NO_EMBEDDING),
        (but("text", embedding="[1, 2, 3, 4, 5, 6, 7, 8]"), Reason.NOT_A_VECTOR),
        (but("texts", embedding=["1"] * DIMENSION), Reason.NOT_A_VECTOR),
        (but("truths", embedding=[True] * DIMENSION), Reason.NOT_A_VECTOR),
        (but("number", embedding=1.5), Reason.NOT_A_VECTOR),
        (but("short", embedding=FINE[1:]), Reason.WRONG_DIMENSION),
        (but("long", embedding=[*FINE, 1.0]), Reason.WRONG_DIMENSION),
        (but("empty", embedding=[]), Reason.WRONG_DIMENSION),
        (but("nan", embedding=[NAN, *FINE[1:]]), Reason.NOT_FINITE),
        (but("infinite", embedding=[*FINE[1:], -INFINITE]), Reason.NOT_FINITE),
        (but("beyond", embedding=[*FINE[1:], BEYOND_FLOAT32]), Reason.NOT_FINITE),
        (but("zero", embedding=[0.0] * DIMENSION), Reason.ZERO_NORM),
        (but("tiny", embedding=[1e-30] * DIMENSION), Reason.ZERO_NORM),
        (but(None), Reason.KEY_MISSING),
        (but(7), Reason.KEY_TYPE),
        (but(True), Reason.KEY_TYPE),
        (but("é" * 257), Reason.KEY_TOO_LONG),
        (but("twice"), Reason.KEY_DUPLICATE),
        (but("twice"), Reason.KEY_DUPLICATE),
        (but("value-nan", number=NAN), Reason.VALUE_NOT_FINITE),
        (but("value-nan-in-a-list", words=[1.0, NAN]), Reason.VALUE_NOT_FINITE),
        (but("value-long", text="é" * 32_768), Reason.VALUE_TOO_LARGE),
        (but("values-long", words=["x" * 1_000] * 66), Reason.VALUE_TOO_LARGE),
    ]
    carried = {name: kind for name, (kind, _, _) in VALUES.items()} | {"mixed": "string", "sometimes": "string"}
    return Case(Metric.COSINE, fit, unfit, carried, unique=False)


def _euclidean() -> Case:
    keys = [0, -1, 2**63 - 2, -(2**63), *range(1, 37)]
    fit = [{"id": key, "embedding": vector} for key, vector in zip(keys, _vectors(40), strict=True)]
    fit += [{"id": 100, "embedding": [0.0] * DIMENSION}, {"id": 101, "embedding": [1, 2, 3, 4, 5, 6, 7, 8]}]
    unfit = [
        ({"id": "text", "embedding": FINE}, Reason.KEY_TYPE),
        ({"id": 1.5, "embedding": FINE}, Reason.KEY_TYPE),
        ({"embedding": FINE}, Reason.KEY_MISSING),
        ({"id": 102, "embedding": [NAN, *FINE[1:]]}, Reason.NOT_FINITE),
        ({"id": 2**63 - 1, "embedding": FINE}, Reason.KEY_TOO_LARGE),
    ]
    return Case(Metric.EUCLIDEAN, fit, unfit, {}, key_type="integer")


def _dot() -> Case:
    fit = [
        {"id": f"k-{number:02}", "embedding": vector, "text": f"text {number}", "page": number}
        for number, vector in enumerate(_vectors(40, unit=True))
    ]
    unfit = [
        ({"id": "without", "embedding": FINE}, Reason.VALUE_MISSING),
        ({"id": "number", "embedding": FINE, "text": 7}, Reason.VALUE_TYPE),
    ]
    return Case(Metric.DOT, fit, unfit, {"text": "string", "page": "integer"}, preset="langchain")


@pytest.fixture(scope="module")
def copies(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Metric, Copy]]:
    """The copies, each made by a command of its own, all running at the same time."""
    with ExitStack() as stack:
        running = []
        for case in (_cosine(), _euclidean(), _dot()):
            folder = tmp_path_factory.mktemp(case.metric.value)
            place = stack.enter_context(workplace(folder, newest_neo4j, milvus_endpoint))
            _load(place, case)
            running.append((place, case, place.start("migrate-embeddings", "--format", "json")))
        yield {case.metric: Copy(place, case, started.ended()) for place, case, started in running}


def _load(place: Workplace, case: Case) -> None:
    if case.unique:
        place.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
    items = [*case.fit, *(item for item, _ in case.unfit)]
    for item in items:  # one by one, since a parameter list of mixed lists would lose their types
        place.rows("CREATE (n:LABEL) SET n = $item", item=item)
    properties = "\n".join(f'{json.dumps(name, ensure_ascii=False)} = "{kind}"' for name, kind in case.carried.items())
    place.configure(f"""\
[[collections]]
name = "{place.collection}"
preset = "{case.preset}"
[collections.source]
index = "none"
label = "{place.label}"
key = "id"
key_type = "{case.key_type}"
vector = "embedding"
dimension = {DIMENSION}
metric = "{case.metric.value}"
[collections.source.properties]
{properties}
""")


def _rows(copy: Copy) -> dict[Any, dict[str, Any]]:
    described = copy.place.client.describe_collection(copy.place.collection)
    primary = next(one["name"] for one in described["fields"] if one.get("is_primary"))
    anything = f"{primary} < 0 or {primary} >= 0" if copy.case.key_type == "integer" else f'{primary} >= ""'
    found = copy.place.client.query(
        copy.place.collection, filter=anything, output_fields=["*"], limit=1_000, consistency_level="Strong"
    )
    assert len(found) == len({row[primary] for row in found})
    return {row[primary]: row for row in found}


@pytest.mark.parametrize("metric", list(Metric))
def test_every_row_that_cannot_go_is_quarantined_and_the_rest_goes(copies: dict[Metric, Copy], metric: Metric) -> None:
    """Each with its key, reason and a measured detail in the file, counted by reason in the result; all others are there."""
    copy = copies[metric]
    ended, expected = copy.ended, copy.case.quarantine

    assert ended.code == 0, ended.err
    (told,) = ended.data["collections"]
    fit, unfit = len(copy.case.fit), expected.total()
    assert told["counts"] == {"source": fit + unfit, "migrated": fit, "quarantined": unfit, "pending": 0}
    assert told["reasons"] == Counter(reason.value for _, reason in copy.case.unfit)
    text = (copy.place.folder / told["quarantine_file"]).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert Counter((line["key"], line["reason"]) for line in lines) == expected
    assert all(line["detail"] for line in lines)
    assert set(_rows(copy)) == {item["id"] for item in copy.case.fit}


def test_rows_without_a_usable_key_are_named_by_their_node(copies: dict[Metric, Copy]) -> None:
    """A quarantined row without a key, or with one that others share, says which node it is."""
    copy = copies[Metric.COSINE]
    lines = (copy.place.folder / f"quarantine-{copy.place.collection}.jsonl").read_text(encoding="utf-8").splitlines()
    nodes = {line["element_id"] for line in map(json.loads, lines) if line["key"] in (None, "twice")}

    found = copy.place.rows("MATCH (n:LABEL) WHERE elementId(n) IN $nodes RETURN n.id", nodes=list(nodes))
    assert Counter(repr(key) for (key,) in found) == Counter(["None", "7", "True", "'twice'", "'twice'"])


@pytest.mark.parametrize("metric", list(Metric))
def test_scores_equal_neo4js_own(copies: dict[Metric, Copy], metric: Metric) -> None:
    """Milvus's distance of every row, mapped, is what Neo4j's exact similarity function gives, to 1e-5."""
    copy = copies[metric]
    function = "euclidean" if metric is Metric.EUCLIDEAN else "cosine"
    for query in _vectors(3, unit=metric is Metric.DOT):
        exact = f"MATCH (n:LABEL) WHERE n.id IN $keys RETURN n.id, vector.similarity.{function}(n.embedding, $query)"
        expected = dict(copy.place.rows(exact, keys=[item["id"] for item in copy.case.fit], query=query))
        (hits,) = copy.place.client.search(
            copy.place.collection,
            [query],
            limit=len(expected),
            search_params={"params": {"ef": 200}},
            consistency_level="Strong",
        )

        assert len(hits) == len(expected)
        scores = {next(iter(hit.values())): neo4j_score(metric, hit["distance"]) for hit in hits}
        assert scores == pytest.approx(expected, abs=1e-5)


def test_values_of_every_type_arrive_as_they_are(copies: dict[Metric, Copy]) -> None:
    """Text, numbers and truth values in fields of their own, times as ISO 8601; lists, points and bytes in the JSON field."""
    row = _rows(copies[Metric.COSINE])["k-07"]

    typed = {name: expected for name, (kind, _, expected) in VALUES.items() if kind != "json"}
    assert {name: row[name] for name in typed} == typed
    loose = {name: expected for name, (kind, _, expected) in VALUES.items() if kind == "json"}
    assert row["properties"] == {**loose, "mixed": "seven", "sometimes": "here"}


def test_a_property_of_several_types_or_sometimes_missing_goes_to_the_json_field_and_is_said(
    copies: dict[Metric, Copy],
) -> None:
    """Configured as text, but not text everywhere: every value keeps its type, absence stays absence, and a note says so."""
    copy = copies[Metric.COSINE]
    rows = _rows(copy)
    notes = copy.ended.data["collections"][0]["notes"]

    assert [rows[key]["properties"]["mixed"] for key in ("k-00", "mixed-7", "mixed-7.5")] == ["seven", 7, 7.5]
    assert "sometimes" not in rows["missing"]["properties"]
    assert "mixed" not in rows["k-00"]
    assert any("property mixed: is FLOAT on some nodes, INTEGER on some nodes, STRING on others" in note for note in notes)
    assert any("property sometimes: is STRING and is missing on some nodes" in note for note in notes)


def test_langchain_rows_have_text_and_dynamic_keys(copies: dict[Metric, Copy]) -> None:
    """In the langchain layout the other properties are dynamic keys with their JSON types."""
    row = _rows(copies[Metric.DOT])["k-07"]

    assert (row["pk"], row["text"], row["page"]) == ("k-07", "text 7", 7)
