"""`segue validate` on real servers: every kind of difference is found where it was put, mended where asked, and no other is."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from neo4j.exceptions import ClientError

from acceptance.items import Loaded, assert_equal, configuration, load
from acceptance.workplace import Ended, Workplace, workplace
from segue.sandbox import Endpoint

ITEMS, DIMENSION = 1_200, 16

SECONDS = int(os.environ.get("SEGUE_VALIDATE_SECONDS", "20"))
WRITERS = int(os.environ.get("SEGUE_VALIDATE_WRITERS", "4"))
"""How long is validated beside how many writers; `make chaos` takes more of both."""


@pytest.fixture(scope="module")
def copied(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workplace, Loaded]]:
    """A static copy, made once; whoever spoils it mends it."""
    with workplace(tmp_path_factory.mktemp("validate"), newest_neo4j, milvus_endpoint) as place:
        loaded = load(place, ITEMS, DIMENSION, unfit=1)
        place.configure(configuration(place, loaded))
        assert place.migrate().code == 0
        yield place, loaded


def validate(place: Workplace, *arguments: str) -> Ended:
    """Run `segue validate` with JSON on stdout."""
    return place.segue("validate", *arguments, "--format", "json")


def told(ended: Ended) -> dict[str, Any]:
    """Return what is said of the one collection."""
    (one,) = ended.data["collections"]
    return dict(one)


def row(place: Workplace, key: str) -> dict[str, Any]:
    """Return a row as Milvus has it."""
    (found,) = place.client.query(
        place.collection, filter=f"id in {json.dumps([key])}", output_fields=["*"], consistency_level="Strong"
    )
    return dict(found) | {"vector": np.asarray(found["vector"], "<f4")}


def upsert(place: Workplace, changed: dict[str, Any]) -> None:
    """Write a row with the plain client."""
    place.client.upsert(place.collection, [changed | {"vector": changed["vector"].tolist()}])


FILTERS = """
[[collections.filters]]
year = { ">=" = 1960 }
[[collections.filters]]
tags = { contains = "t3" }
"""

PLANTED = {
    "k-000010": ("missing", ""),
    "no-such-item": ("orphaned", ""),
    "k-000020": ("stale", "vector"),
    "k-000030": ("stale", "year"),
    "k-000033": ("stale", "properties.nick"),
    "k-000040": ("duplicate", ""),
    "k-000050": ("stale", "vector"),
    "k-000051": ("stale", "vector"),
    "k-000060": ("stale", "score"),
}
"""What `plant` plants: kind and field by key, but for what lies under the unfit item's key."""


def plant(place: Workplace, loaded: Loaded) -> dict[str, tuple[str, str]]:
    """Put one difference of each kind into Milvus, by the plain client."""
    unfit = next(key for key, reason in loaded.unfit if reason.value == "zero_norm")
    assert unfit is not None
    place.client.delete(place.collection, filter='id in ["k-000010"]')
    upsert(place, row(place, "k-000001") | {"id": "no-such-item"})
    upsert(place, row(place, "k-000001") | {"id": unfit})
    one = row(place, "k-000020")
    one["vector"][7] = np.nextafter(one["vector"][7], np.float32(np.inf))
    upsert(place, one)
    upsert(place, row(place, "k-000030") | {"year": 1})
    loose = row(place, "k-000033")
    upsert(place, loose | {"properties": loose["properties"] | {"nick": "another"}})
    twice = row(place, "k-000040")
    place.client.insert(place.collection, [twice | {"vector": twice["vector"].tolist()}])
    first, second = row(place, "k-000050"), row(place, "k-000051")
    upsert(place, first | {"id": "k-000051"})
    upsert(place, second | {"id": "k-000050"})
    near = row(place, "k-000060")
    upsert(place, near | {"score": float(np.nextafter(near["score"], 100.0))})
    return PLANTED | {unfit: ("unfit", "")}


def test_a_right_copy_is_clean_at_every_depth(copied: tuple[Workplace, Loaded]) -> None:
    """Sample, full and quick: everything matches, quarantined items are counted apart, both digests are equal, exit 0."""
    place, loaded = copied
    for arguments in ((), ("--full",), ("--quick",), ("--sample-size", "100")):
        ended = validate(place, *arguments)
        one = told(ended)
        assert ended.code == 0, ended.err
        assert list(ended.data)[:4] == ["verb", "status", "seconds", "counts"]
        assert (one["clean"], one["rate"], one["in_motion"], one["differences"]) == (True, 1.0, 0, [])
        assert one["digests"]["source"] == one["digests"]["sink"]
        counts = ended.data["counts"]
        assert list(counts) == ["compared", "matched", "mismatched", "missing", "orphaned", "repaired"]
        if arguments in (("--full",), ("--quick",)):
            assert (counts["compared"], counts["matched"]) == (ITEMS, ITEMS)
            assert (one["quarantined"], one["bound"]) == (loaded.unfit.total(), None)
    assert 100 - 8 <= counts["compared"] <= 100 + 20
    assert 0.02 < one["bound"] < 0.04


def test_every_planted_difference_is_found_and_mended(copied: tuple[Workplace, Loaded]) -> None:
    """Full: each under its key with its kind and field and no other; a dry run changes nothing; then --fix, then orphans."""
    place, loaded = copied
    planted = plant(place, loaded)
    found = validate(place, "--full", "--threshold", "1")
    one = told(found)
    assert (found.code, found.data["status"]) == (4, "failed")
    assert {each["key"]: each["kind"] for each in one["differences"]} == {key: kind for key, (kind, _) in planted.items()}
    fields = {(each["key"], each["field"]) for each in one["differences"]}
    assert fields >= {(key, field) for key, (_, field) in planted.items()}
    assert {key for key, _ in fields} == set(planted)
    counts = found.data["counts"]
    assert {name: counts[name] for name in ("missing", "orphaned", "mismatched")} == {
        "missing": 1,
        "orphaned": 1,
        "mismatched": 8,
    }
    assert counts["compared"] == ITEMS + 2
    assert one["duplicates"] == 1
    assert one["digests"]["source"] != one["digests"]["sink"]
    assert one["max_distance"] > 1.0

    quick = told(validate(place, "--quick"))
    seen = {each["key"] for each in quick["differences"]}
    assert {"k-000010", "no-such-item", "k-000040", "k-000050", "k-000051"} <= seen
    assert "k-000020" not in seen

    before = [_sorted(row(place, key)) for key in ("k-000020", "no-such-item")]
    state = (place.folder / "segue-state.db").read_bytes()
    dry = validate(place, "--full", "--fix", "--delete-orphans", "--dry-run", "--threshold", "1")
    assert dry.code == 4
    assert told(dry)["plan"] == {"by": "copy", "equal": 9, "delete": 1, "dry_run": True}
    assert dry.data["counts"]["repaired"] == 0
    assert [_sorted(row(place, key)) for key in ("k-000020", "no-such-item")] == before
    assert (place.folder / "segue-state.db").read_bytes() == state

    fixed = validate(place, "--full", "--fix", "--threshold", "1")
    assert fixed.data["counts"]["repaired"] == 9
    assert fixed.code == 4, "the orphan is left"
    rest = validate(place, "--full", "--delete-orphans", "--threshold", "1")
    assert (rest.code, rest.data["counts"]["orphaned"], rest.data["counts"]["repaired"]) == (0, 1, 1)
    assert_equal(place, loaded)
    assert told(validate(place, "--full"))["clean"]


def _sorted(found: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in found.items())


def test_the_formats_say_the_same(copied: tuple[Workplace, Loaded]) -> None:
    """Table, Markdown, YAML and a JSON file: the first version's words, the numbers of the JSON."""
    place, _ = copied
    for form in ("table", "markdown"):
        text = place.segue("validate", "--format", form).out
        for word in ("sample size", "matches", "mismatches", "missing", "success rate", "max vector difference", "bound"):
            assert word in text, (form, word)
    read = yaml.safe_load(place.segue("validate", "--quick", "--format", "yaml").out)
    assert validate(place, "--quick", "--output-file", "result.json").out == ""
    written = json.loads((place.folder / "result.json").read_text(encoding="utf-8"))
    assert read["counts"] == written["counts"]
    assert read["collections"][0]["digests"] == written["collections"][0]["digests"]


def test_bad_input_is_one_plain_message(copied: tuple[Workplace, Loaded]) -> None:
    """Two depths at once, a collection that is not there: exit 2 and what to do."""
    place, _ = copied
    both = validate(place, "--full", "--quick")
    assert both.code == 2
    assert "exclude each other" in both.err
    gone = place.segue("validate", "--collection", "nothing")
    assert gone.code == 2
    assert "Configured:" in gone.err


def searched(place: Workplace, *arguments: str) -> tuple[Ended, dict[str, Any]]:
    """Run `segue validate --search` and return what is said of the searches as well."""
    ended = validate(place, "--search", *arguments)
    assert ended.out, ended.err
    return ended, told(ended)["searches"]


def test_both_sides_find_what_is_nearest(copied: tuple[Workplace, Loaded], tmp_path: Path) -> None:
    """After a reload, without a filter, under two of the application's, and for vectors of its own: recall and score agree."""
    place, loaded = copied[0].elsewhere(tmp_path), copied[1]
    place.configure(configuration(place, loaded) + FILTERS)
    own = np.random.default_rng(5).normal(size=(3, DIMENSION))
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(one.tolist()) for one in own) + "\n\n", encoding="utf-8")
    ended, said = searched(place, "--queries", "20", "--query-vectors", "own.jsonl", "--reload")
    assert ended.code == 0, ended.err
    assert (said["questions"], said["k"], said["scored"], said["reloaded"], said["good"]) == (23, 10, ITEMS, True, True)
    assert [one["filter"] for one in said["asked"]] == ["", '{"year": {">=": 1960}}', '{"tags": {"contains": "t3"}}']
    for one in said["asked"]:
        assert one["milvus"]["mean"] > 0.95, one
        assert one["milvus"]["bound"] < one["milvus"]["mean"]
        assert one["milvus"]["score_error"] < 1e-5, one
        assert one["neo4j"]["score_error"] < 0.02, one
        assert one["neo4j"]["median_seconds"] > 0
        assert (one["milvus"]["judged"], one["unjudged"], one["empty"]) == (23, 0, 0)
    text = place.segue("validate", "--search", "--queries", "5", "--filter", '{"year": 1950}').out
    for words in ("recall of Milvus", "against 1,200 exact scores", '{"year": 1950}', "p95 ms", "enough"):
        assert words in text


def test_what_milvus_does_not_find_is_exit_4(copied: tuple[Workplace, Loaded], tmp_path: Path) -> None:
    """A fifth of the rows under a filter is taken out behind everybody's back: its recall says so, and which keys it misses."""
    place, loaded = copied[0].elsewhere(tmp_path), copied[1]
    place.configure(configuration(place, loaded))
    rows = place.client.query(
        place.collection, filter="year < 1912 and id != ''", output_fields=["*"], limit=1_000, consistency_level="Strong"
    )
    gone = rows[::5]
    try:
        place.client.delete(place.collection, ids=[one["id"] for one in gone])
        only = ("--queries", "30", "--filter", '{"year": {"<": 1912}}', "--threshold", "0")
        ended, said = searched(place, *only, "--least-recall", "0.97")
        asked = said["asked"]
        assert (ended.code, ended.data["status"]) == (4, "failed")
        assert "Milvus finds" in ended.err
        assert '{"year": {"<": 1912}}' in ended.err
        assert asked[0]["milvus"]["mean"] > 0.95
        assert 0.6 < asked[1]["milvus"]["mean"] < 0.95
        assert asked[1]["neo4j"]["mean"] > asked[1]["milvus"]["mean"]
        missed = {key for poor in asked[1]["poor"] for key in poor["missed"]}
        assert len(missed & {one["id"] for one in gone}) >= len(missed) / 2
        assert searched(place, *only, "--least-recall", "0.5")[0].code == 0
    finally:
        place.client.upsert(place.collection, [one | {"vector": [float(x) for x in one["vector"]]} for one in gone])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--k", "5"), "Add --search"),
        (("--search", "--queries", "0"), "--query-vectors FILE"),
        (("--search", "--reload", "--dry-run"), "Leave one of them out"),
        (("--search", "--filter", "{year: 1}"), "is no JSON"),
        (("--search", "--filter", '{"colour": 1}'), "is no carried property"),
        (("--search", "--query-vectors", "short.jsonl"), "short.jsonl:2 has 3 elements"),
        (("--search", "--query-vectors", "none.jsonl"), "cannot read the vectors in none.jsonl"),
    ],
)
def test_a_search_check_that_does_not_fit_is_refused(
    copied: tuple[Workplace, Loaded], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Exit 2, what is wrong and what to do, before anything is compared."""
    place, loaded = copied[0].elsewhere(tmp_path), copied[1]
    place.configure(configuration(place, loaded))
    (tmp_path / "short.jsonl").write_text(f"{json.dumps([0.5] * DIMENSION)}\n[1, 2, 3]\n", encoding="utf-8")
    ended = validate(place, *arguments)
    assert ended.code == 2
    assert words in ended.err


LIVE = """\
[milvus]
request_timeout_seconds = 5
[relay]
landing_seconds = 8
lease_seconds = 12
window_seconds = 7
[validate]
settle_seconds = 10
"""


@pytest.mark.timeout(300 + SECONDS)
def test_beside_writers_and_a_relay_nothing_is_falsely_different(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """They create, change and delete; every depth and every search says clean each time. Then --fix mends through the relay."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(configuration(place, load(place, ITEMS, DIMENSION), extra=LIVE))
        try:
            assert place.segue("capture", "install").code == 0
            assert place.migrate().code == 0
            relay = place.start("relay")
            relay.await_words("backlog")
            _validate_beside_writers(place)

            place.note_preflight()
            mode = place.segue("mode", "set", "dual_write")
            assert mode.code == 0, mode.err
            assert told(place.segue("mode", "show", "--format", "json"))["validated"] is not None, "noted beside the trigger"
            assert place.segue("validate").code == 0
            noted = told(place.segue("mode", "show", "--format", "json"))["validated"]
            assert (noted["epoch"], noted["depth"], noted["clean"], noted["rate"]) == (1, "sample", True, 1.0)
            _assert_kept(place, noted["digest"], noted["sink_digest"])
            one = row(place, "k-000300")
            upsert(place, one | {"year": 1})
            place.client.delete(place.collection, filter='id in ["k-000301"]')
            upsert(place, one | {"id": "no-such-item"})
            fixed = validate(place, "--full", "--fix", "--delete-orphans", "--threshold", "1")
            assert (fixed.code, fixed.data["counts"]["repaired"]) == (0, 3), fixed.err
            assert told(fixed)["plan"]["by"] == "mark"
            relay.signal(signal.SIGTERM)
            assert relay.ended().code == 0

            upsert(place, one | {"year": 1})
            place.configure(configuration(place, Loaded(DIMENSION, ITEMS), extra=LIVE.replace("= 10", "= 1")))
            left = validate(place, "--full", "--fix", "--threshold", "1")
            assert (left.code, left.data["counts"]["repaired"]) == (4, 0)
            assert any("segue relay --until-drained" in note for note in told(left)["notes"])
        finally:
            place.segue("capture", "remove")


def _assert_kept(place: Workplace, source: str, sink: str) -> None:
    """The last verdict is in the journal, with the digest of each side and the version; the report says so."""
    assert source == sink != "0" * 16
    events = "MATCH (e:SegueEvent {collection: $name, kind: 'validation'}) RETURN e.text, e.data, e.version ORDER BY e.at"
    *_, (text, data, version) = place.rows(events, name=place.collection)
    assert text.startswith("sample: 1,")
    assert text.endswith("nothing differs")
    assert json.loads(data)["digests"] == {"source": source, "sink": sink}
    assert version
    report = place.segue("report", "--format", "markdown").out
    assert f"digests {source} Neo4j, {sink} Milvus" in report
    assert re.search(r"20 searches: Milvus finds [0-9.]+% of the 10 nearest, 95.00% are wanted: enough", report)


def _validate_beside_writers(place: Workplace) -> None:
    """Validate at every depth, and the searches, one after the other for so long."""
    depths = [(), ("--full",), ("--quick",), ("--search", "--queries", "20")]
    runs = 0
    with _writers(place) as writes:
        began = time.monotonic()
        while runs < len(depths) or time.monotonic() - began < SECONDS:
            ended = validate(place, *depths[runs % len(depths)], "--threshold", "1")
            assert told(ended)["differences"] == [], told(ended)
            assert ended.code == 0, (ended.err, told(ended)["searches"])
            assert ended.data["counts"]["compared"] > ITEMS / 2
            runs += 1
    assert len(writes) > 200
    sys.stderr.write(f"{runs} validations beside {WRITERS} writers, {len(writes):,} writes: no false difference\n")


def _is_changed(place: Workplace, choose: random.Random, key: str) -> bool:
    """Change or delete an item as a user does; false when another deleted it between this one's MERGE and SET."""
    if choose.random() < 0.2:
        place.rows("MATCH (n:LABEL {id: $key}) DETACH DELETE n", key=key)
        return True
    try:
        place.rows(
            "MERGE (n:LABEL {id: $key}) SET n.embedding = $vector, n.text = $text, n.year = 2000, n.score = 0.5, "
            "n.seen = datetime('2026-01-01T00:00:00Z')",
            key=key,
            vector=[choose.random() for _ in range(DIMENSION)],
            text=str(choose.random()),
        )
    except ClientError as fault:
        if fault.code != "Neo.ClientError.Statement.EntityNotFound":
            raise
        return False
    return True


@contextmanager
def _writers(place: Workplace) -> Iterator[list[str]]:
    """Let users write, each its own way, none of the keys that the test spoils later; yields what they wrote."""
    stop, writes, errors = threading.Event(), list[str](), list[BaseException]()

    def write(seed: int) -> None:
        choose = random.Random(seed)
        try:
            while not stop.is_set():
                key = f"k-{choose.randrange(250):06d}"
                if _is_changed(place, choose, key):
                    writes.append(key)
        except BaseException as fault:  # noqa: BLE001  # told by the test
            errors.append(fault)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield writes
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, [str(fault) for fault in errors]


def test_interrupted_the_same_command_goes_on(copied: tuple[Workplace, Loaded], tmp_path: Path) -> None:
    """Ctrl-C ends it with 130 and what it has by now; the same command compares the rest, another depth begins anew."""
    place, loaded = copied[0].elsewhere(tmp_path), copied[1]
    text = configuration(place, loaded).replace("items_per_range = 500", "items_per_range = 100\nworkers = 1")
    place.configure(text)
    running = place.start("validate", "--full", "--format", "json")
    running.await_words("ranges_left")
    running.signal(signal.SIGINT)
    stopped = running.ended()
    assert (stopped.code, stopped.data["status"]) == (130, "interrupted")
    before = stopped.data["counts"]["compared"]
    assert 0 < before < ITEMS

    completed = validate(place, "--full")
    assert completed.code == 0, completed.err
    assert "going on with the comparison" in completed.err
    assert completed.data["counts"]["compared"] == ITEMS
    first = int(re.search(r"compared: keys (\d+)", completed.err).group(1))  # type: ignore[union-attr]
    assert first > before

    again = place.start("validate", "--full", "--format", "json")
    again.await_words("ranges_left")
    again.signal(signal.SIGINT)
    again.ended()
    quick = validate(place, "--quick")
    assert "begun anew: depth: 'full' then, 'quick' now" in quick.err
    assert quick.data["counts"]["compared"] == ITEMS
