"""`segue cleanup` on real servers: what goes in which mode, what is refused, and that nothing in use is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.workplace import Ended, Workplace, quoted, workplace
from segue.sandbox import Endpoint

CONFIGURATION = """\
[[collections]]
name = "{collection}"
[collections.source]
index = "{collection}"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
"""

MARK = """
MERGE (m:SegueMark {collection: $name, key: $key})
SET m:SegueOpen, m.part = 0, m.ver = 'v', m.acked = $acked, m.marked_at = timestamp()
"""
REGISTER = """
MERGE (i:SegueInstance {collection: $name, name: 'shop-1'})
SET i.host = 'pod-7', i.epoch = $epoch, i.own = $own, i.until = timestamp() + 600000
"""
OURS = "SegueControl|SegueInstance|SegueMark|SegueLease|SegueRelay|SegueCanary"


@pytest.fixture
def place(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Workplace]:
    """A collection in dual_write, with a mark, a lease, an index, and two collections in Milvus, one of them old."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
        settings = "{indexConfig: {`vector.dimensions`: 2, `vector.similarity_function`: 'euclidean'}}"
        place.rows(f"CREATE VECTOR INDEX {quoted(place.collection)} FOR (n:LABEL) ON (n.embedding) OPTIONS {settings}")
        place.rows("CALL db.awaitIndex($name, 60)", name=place.collection)
        name = place.collection
        place.rows("CREATE (:SegueControl {collection: $name, mode: 'dual_write', epoch: 7})", name=name)
        place.rows(
            "CREATE (:SegueLease {collection: $name, part: 0}), (:SegueRelay {collection: $name, owner: 'o'})", name=name
        )
        place.rows(MARK, name=name, key="k", acked="v")
        for version in (1, 2):
            made(place, f"{name}_v{version}")
        place.client.create_alias(f"{name}_v2", name)
        yield place


def made(place: Workplace, name: str, description: str = "made by Segue") -> None:
    """Create a collection as Segue does."""
    schema = place.client.create_schema(description=description)
    schema.add_field("id", 21, is_primary=True, max_length=64)
    schema.add_field("vector", 101, dim=2)
    place.client.create_collection(name, schema=schema)


def put(place: Workplace, mode: str) -> None:
    """Put the collection into a mode."""
    place.rows("MATCH (c:SegueControl {collection: $name}) SET c.mode = $mode", name=place.collection, mode=mode)


def cleanup(place: Workplace, *arguments: str, **changes: str | None) -> Ended:
    """Run `segue cleanup` with JSON on stdout."""
    return place.segue("cleanup", "--format", "json", *arguments, **changes)


def statuses(ended: Ended) -> dict[str, str]:
    """Return what became of each step."""
    return {step["name"]: step["status"] for step in ended.data["steps"]}


def detail(ended: Ended, name: str) -> str:
    """Return what a step says."""
    return next(str(step["detail"]) for step in ended.data["steps"] if step["name"] == name)


def left(place: Workplace) -> dict[str, Any]:
    """Return what there is of the protocol's nodes, the index and the collections."""
    text = f"MATCH (n:{OURS} {{collection: $name}}) RETURN labels(n)[0], count(*)"
    index = place.rows("SHOW VECTOR INDEXES YIELD name WHERE name = $name RETURN name", name=place.collection)
    mine = [name for name in place.client.list_collections() if name.startswith(place.collection)]
    return {**dict(place.rows(text, name=place.collection)), "index": bool(index), "milvus": sorted(mine)}


def test_taken_back_everything_of_the_protocol_goes(place: Workplace) -> None:
    """Shown first, with exit 5 and nothing changed; then done; then there is nothing left to do. The items stay."""
    put(place, "neo4j_only")
    place.rows("CREATE (:LABEL {id: 'a', embedding: [1.0, 0.0]})")
    before = left(place)
    shown = cleanup(place)
    assert (shown.code, shown.data["status"]) == (5, "refused")
    planned = {"marks": "planned", "leases": "planned", "instances": "already", "control": "planned", "milvus": "planned"}
    assert statuses(shown) == {"trigger": "already", **planned}
    assert f"deletes {place.collection}_v1; {place.collection}_v2 is kept" in detail(shown, "milvus")
    assert cleanup(place, "--dry-run", "--confirm").code == 0
    assert left(place) == before

    done = cleanup(place, "--confirm")
    assert done.code == 0, done.err
    assert detail(done, "leases") == "2 nodes removed"
    assert left(place) == {"index": True, "milvus": [f"{place.collection}_v2"]}
    assert place.rows("MATCH (n:LABEL) RETURN count(n)") == [[1]]
    again = cleanup(place, "--confirm")
    assert (again.code, set(statuses(again).values())) == (0, {"already"})


def test_arrived_only_what_is_old_goes(place: Workplace) -> None:
    """In hybrid marks and control node are what keeps both sides equal: kept, with the reason; Milvus's old collection goes."""
    put(place, "hybrid")
    done = cleanup(place, "--confirm")
    assert done.code == 0, done.err
    assert statuses(done) == {"protocol": "skipped", "milvus": "done"}
    assert "hybrid needs them" in detail(done, "protocol")
    nodes = {"SegueControl": 1, "SegueLease": 1, "SegueMark": 1, "SegueRelay": 1}
    assert left(place) == {**nodes, "index": True, "milvus": [f"{place.collection}_v2"]}


def test_neo4js_index_goes_last_and_a_way_back_needs_it(place: Workplace) -> None:
    """Only where nothing is dirty; its statement is printed, and run again the rollback finds everything it needs."""
    put(place, "hybrid")
    place.rows(MARK, name=place.collection, key="k", acked="")
    dirty = cleanup(place, "--confirm", "--drop-neo4j-index")
    assert (dirty.code, dirty.data["status"]) == (5, "refused")
    assert "1 keys" in dirty.err
    assert left(place)["milvus"] == [f"{place.collection}_v1", f"{place.collection}_v2"]

    place.rows(MARK, name=place.collection, key="k", acked="v")
    shown = cleanup(place, "--drop-neo4j-index")
    assert statuses(shown)["index"] == "planned"
    assert left(place)["index"]
    done = cleanup(place, "--confirm", "--drop-neo4j-index")
    assert done.code == 0, done.err
    assert not left(place)["index"]
    statement = detail(done, "index").split("first needs: ")[1]
    assert statement.startswith("CREATE VECTOR INDEX")
    assert statuses(cleanup(place, "--confirm", "--drop-neo4j-index"))["index"] == "already"

    assert place.segue("rollback", "--confirm").code == 1
    place.rows(statement)
    place.rows("CALL db.awaitIndex($name, 60)", name=place.collection)
    assert place.segue("rollback", "--confirm").code == 0


@pytest.mark.parametrize("mode", ["dual_write", "shadow_milvus"])
def test_under_way_nothing_may_go(place: Workplace, mode: str) -> None:
    """In between everything is in use: refused before anything is changed."""
    put(place, mode)
    before = left(place)
    ended = cleanup(place, "--confirm")
    assert (ended.code, ended.data["status"], ended.data["steps"]) == (5, "refused", [])
    assert f"is in {mode}: its migration is under way" in ended.err
    assert left(place) == before


@pytest.mark.parametrize(
    ("mode", "epoch", "own", "arguments", "words"),
    [
        ("hybrid", 6, None, ("--drop-neo4j-index",), "do not act by epoch 7 yet: shop-1 on pod-7"),
        ("neo4j_only", 6, None, (), "do not act by epoch 7 yet"),
        ("neo4j_only", 7, "hybrid", (), "leave marks: shop-1 on pod-7 (own mode hybrid)"),
        ("neo4j_only", 7, None, ("--drop-neo4j-index",), "its vector index in Neo4j answers every search"),
    ],
)
def test_what_is_in_use_is_refused(
    place: Workplace, mode: str, epoch: int, own: str | None, arguments: tuple[str, ...], words: str
) -> None:
    """An instance of an older epoch, one that marks by its own mode, the index that answers: named, and nothing is changed."""
    put(place, mode)
    place.rows(REGISTER, name=place.collection, epoch=epoch, own=own)
    before = left(place)
    ended = cleanup(place, "--confirm", *arguments)
    assert ended.code == 5
    assert words in ended.err
    assert left(place) == before


def test_milvus_down_holds_nothing_else_up(place: Workplace) -> None:
    """Neo4j is cleared all the same, exit 1 says what is left, and later the same command ends it."""
    put(place, "neo4j_only")
    ended = cleanup(place, "--confirm", MILVUS_URI="http://127.0.0.1:1")
    assert (ended.code, ended.data["status"], statuses(ended)["milvus"]) == (1, "failed", "failed")
    assert "SegueMark" not in left(place)
    assert cleanup(place, "--confirm").code == 0


def test_what_others_made_stays(place: Workplace) -> None:
    """A collection of a like name that Segue did not make is none of its business."""
    made(place, f"{place.collection}_v3", "somebody else's")
    put(place, "neo4j_only")
    assert cleanup(place, "--confirm").code == 0
    assert left(place)["milvus"] == [f"{place.collection}_v2", f"{place.collection}_v3"]
