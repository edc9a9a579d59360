"""Order, time and skipping of checks; what is known of versions; what a rehearsal predicts; the page that lists the checks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from segue.errors import FatalError
from segue.model import Counts, FieldType
from segue.model.items import Field, Layout, VectorIndex
from segue.phases.preflight import CHECKS
from segue.phases.preflight.check import Check, Finding, Outcome, Room, Severity, Store, error, ok, warning
from segue.phases.preflight.running import Verdict, run
from segue.phases.preflight.version import judged, parsed
from segue.pipelines.prediction import predict
from segue.pipelines.sizing import disk_bytes, hnsw_bytes, memory_bytes
from segue.ports import Rehearsed, Stretch

PAGE = Path(__file__).parents[2] / "docs" / "preflight.md"
ROOM = Room({}, None, None, None, None, {"films": None}, "state.db")  # type: ignore[arg-type]  # no check here looks at it


def check(name: str, finding: Finding | Exception, *needs: str, seconds: float = 5.0, store: Store = Store.NEO4J) -> Check:
    """Return a check of one store that finds this, or raises it."""

    def look(_room: Room, _subject: str) -> Finding:
        if isinstance(finding, Exception):
            raise finding
        return finding

    return Check(name, Severity.ERROR, "w", "f", look, (store,), needs, seconds=seconds)


def test_what_needs_a_failed_check_is_skipped() -> None:
    """Also what needs that, in turn; warnings hold nothing up, and what needs nothing of it is looked at."""
    checks = [
        check("a", FatalError("down", hint="start it")),
        check("b", ok("fine"), "a"),
        check("c", ok("fine"), "b"),
        check("d", warning("hm", "x")),
        check("e", ok("fine"), "d"),
        check("f", ok("fine"), "d:milvus", store=Store.MILVUS),
    ]
    found = {one.check.id: one.finding for one in run(checks, ROOM)}
    assert (found["a"].outcome, found["a"].evidence, found["a"].fix) == (Outcome.ERROR, "down", "start it")
    assert [found[name].outcome for name in "bcdef"] == [
        Outcome.SKIPPED,
        Outcome.SKIPPED,
        Outcome.WARNING,
        Outcome.OK,
        Outcome.OK,
    ]
    assert found["b"].evidence == "needs a of neo4j"


def test_a_check_that_hangs_is_not_waited_for() -> None:
    """It counts as an error after its time, and the others have their say."""
    never = threading.Event()

    def hang(_room: Room, _subject: str) -> Finding:
        never.wait(30)
        return ok("late")

    hanging = Check("h", Severity.ERROR, "w", "f", hang, (Store.NEO4J,), seconds=0.2)
    found = {one.check.id: one.finding for one in run([hanging, check("a", ok("fine"))], ROOM)}
    never.set()
    assert found["h"].outcome is Outcome.ERROR
    assert "no answer within 0.2 s" in found["h"].evidence
    assert found["a"].outcome is Outcome.OK


def test_a_defect_in_a_check_hides_no_other() -> None:
    """It is an error of that check, said as a defect."""
    (one, other) = run([check("a", ValueError("oops")), check("b", ok("fine"))], ROOM)
    assert "the check itself failed: ValueError: oops" in one.finding.evidence
    assert other.finding.outcome is Outcome.OK


def test_a_collection_is_ready_when_nothing_of_it_or_of_the_stores_fails() -> None:
    """Another collection's error leaves it ready; a store's does not."""

    def look(_room: Room, subject: str) -> Finding:
        return error("x", "y") if subject == "films" else ok("fine")

    room = Room({}, None, None, None, None, {"films": None, "books": None}, "s")  # type: ignore[arg-type]
    verdict = Verdict(run([Check("k", Severity.ERROR, "w", "f", look)], room))
    assert (verdict.is_ready("films"), verdict.is_ready("books"), verdict.is_ready()) == (False, True, False)


@pytest.mark.parametrize(
    ("store", "text", "outcome", "words"),
    [
        (Store.NEO4J, "5.26.12", Outcome.OK, "5.26 to 2026.08"),
        (Store.NEO4J, "2026.08.1", Outcome.OK, ""),
        (Store.NEO4J, "2026.10.0", Outcome.WARNING, "known to work"),
        (Store.NEO4J, "5.20.0", Outcome.WARNING, "known to work"),
        (Store.NEO4J, "4.4.30", Outcome.ERROR, "nothing before 5.13"),
        (Store.MILVUS, "2.2.16", Outcome.ERROR, "nothing before 2.3"),
        (Store.MILVUS, "v2.5.26", Outcome.WARNING, "CVE-2026-26190"),
        (Store.MILVUS, "2.5.27", Outcome.OK, ""),
        (Store.MILVUS, "2.6.9-gpu", Outcome.WARNING, "CVE-2026-26190"),
        (Store.MILVUS, "2.6.10", Outcome.OK, ""),
        (Store.MILVUS, "2.6.21", Outcome.WARNING, "milvus#52055"),
        (Store.MILVUS, "3.0.1", Outcome.WARNING, "3.0.3"),
        (Store.MILVUS, "3.0.3", Outcome.OK, ""),
        (Store.MILVUS, "3.1.0", Outcome.WARNING, "known to work"),
        (Store.REDIS, "7.0.15", Outcome.OK, ""),
        (Store.POSTGRES, "15.18 (Debian)", Outcome.OK, ""),
        (Store.POSTGRES, "11.22", Outcome.ERROR, "nothing before 12"),
    ],
)
def test_versions_are_judged(store: Store, text: str, outcome: Outcome, words: str) -> None:
    """Supported, known to be bad, newer or older than what is known, and what cannot work at all."""
    finding = judged(store, text, parsed(text))
    assert finding.outcome is outcome, finding
    assert words in finding.evidence


def rehearsed(rate: float, indexings: list[Stretch]) -> Rehearsed:
    """Return a rehearsal of batches of 500 at a rate, the first after a second."""
    marks = [Stretch(1.0 + number * 500 / rate, 500 * (number + 1)) for number in range(12)]
    return Rehearsed(0.5, Counts(6_000, 6_000, 0), marks, indexings)


def test_a_steady_rehearsal_predicts_exactly() -> None:
    """The copy grows by the rate after the first batch, the index by n ln n between the two that were measured."""
    found = predict(rehearsed(2_000.0, [Stretch(3.0, 3_000), Stretch(5.0, 6_000)]), 100_000)
    assert found is not None
    assert found.rate == pytest.approx(2_000)
    assert found.copy_seconds == pytest.approx(1.0 + 99_500 / 2_000)
    assert 75 < found.index_seconds < 110
    assert found.seconds == pytest.approx(found.copy_seconds + found.index_seconds)
    assert found.low < found.seconds < found.high
    # As far as it was measured nothing is extrapolated, so the interval is the share of what is not seen and a second.
    small = predict(rehearsed(2_000.0, [Stretch(3.0, 3_000), Stretch(5.0, 6_000)]), 6_000)
    assert small is not None
    assert small.high - small.seconds == pytest.approx(0.15 * small.seconds + 1.0, rel=0.01)


def test_nothing_is_predicted_from_nothing() -> None:
    """No acknowledgement, no item or no index: no number is made up."""
    assert predict(Rehearsed(0.0, Counts(0, 0, 0), [], []), 10) is None
    assert predict(rehearsed(1_000, []), 10) is None
    assert predict(rehearsed(1_000, [Stretch(1.0, 6_000)]), 0) is None


def test_sizes_follow_the_formulas() -> None:
    """As stated in docs/preflight.md, worked out by hand for 1,000 vectors of 768 dimensions with M = 16."""
    layout = Layout(
        "films",
        (Field("id", FieldType.VARCHAR, primary=True, size=512), Field("vector", FieldType.FLOAT_VECTOR, size=768)),
        dynamic=False,
        json_field="properties",
        index=VectorIndex("HNSW", "COSINE", {"M": 16}),
    )
    one = 4 * 768 + 8 * 16 + 4 + (4 * 16 + 4) / 15 + 8
    assert hnsw_bytes(768, 16) == pytest.approx(one)
    assert memory_bytes(1_000, layout, 100.0) == pytest.approx(1_000 * (one + 100))
    raw = 4 * 768 + 100
    assert disk_bytes(1_000, layout, 100.0, 3) == pytest.approx(1_000 * ((2 * raw + one) * 3 + raw))


def table() -> str:
    """Return the page's table as the checks have it."""
    rows = [
        f"| `{one.id}` | {', '.join(store.value for store in one.stores) or 'each collection'} | {one.severity} | {one.what} "
        f"| {one.fix.replace(chr(10), ' ')} |"
        for one in CHECKS
    ]
    return "\n".join(["| id | of | severity | what | fix |", "|---|---|---|---|---|", *(row.replace("||", "") for row in rows)])


def test_the_page_lists_the_checks() -> None:
    """The table in docs/preflight.md is that of the code."""
    assert table() in PAGE.read_text(encoding="utf-8")


def test_each_check_has_a_name_of_its_own_and_needs_what_there_is() -> None:
    """Ids differ, and every need is the id of an earlier check."""
    ids = [one.id for one in CHECKS]
    assert len(set(ids)) == len(ids)
    for place, one in enumerate(CHECKS):
        assert {need.partition(":")[0] for need in one.needs} <= set(ids[:place]), one.id
