"""The trigger: every change that concerns an item marks its key, in the writer's own transaction, and nothing else does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from acceptance.workplace import Workplace, workplace
from segue.sandbox import Endpoint

CONFIGURATION = """\
[[collections]]
name = "{collection}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 2
[collections.source.properties]
title = "string"
"it's odd" = "json"
"""

CHANGES = [
    ("create", "CREATE (:LABEL {id: 'new', embedding: [1.0, 2.0]})", ["new"]),
    ("create many", "UNWIND range(1, 3) AS i CREATE (:LABEL {id: 'u' + i})", ["u1", "u2", "u3"]),
    ("merge anew", "MERGE (n:LABEL {id: 'm'}) SET n += {title: 'x'}", ["m"]),
    ("set the vector", "MATCH (n:LABEL {id: 'a'}) SET n.embedding = [3.0, 4.0]", ["a"]),
    (
        "set the vector as frameworks do",
        "MATCH (n:LABEL {id: 'a'}) CALL db.create.setNodeVectorProperty(n, 'embedding', [5.0])",
        ["a"],
    ),
    ("set a carried property", "MATCH (n:LABEL {id: 'a'}) SET n.title = 'other'", ["a"]),
    ("set one with an odd name", "MATCH (n:LABEL {id: 'a'}) SET n.`it's odd` = 1", ["a"]),
    ("set another property", "MATCH (n:LABEL {id: 'a'}) SET n.views = 7", []),
    ("remove a carried property", "MATCH (n:LABEL {id: 'a'}) REMOVE n.title", ["a"]),
    ("replace all properties", "MATCH (n:LABEL {id: 'a'}) SET n = {id: 'a', title: 'y'}", ["a"]),
    ("change the key", "MATCH (n:LABEL {id: 'a'}) SET n.id = 'z'", ["a", "z"]),
    ("remove the key", "MATCH (n:LABEL {id: 'a'}) REMOVE n.id", ["a"]),
    ("remove the label", "MATCH (n:LABEL {id: 'a'}) REMOVE n:LABEL", ["a"]),
    ("add the label", "MATCH (n:OTHER {id: 'o'}) SET n:LABEL", ["o"]),
    ("delete", "MATCH (n:LABEL {id: 'a'}) DETACH DELETE n", ["a"]),
    ("delete with relations", "MATCH (n:LABEL {id: 'b'}) DETACH DELETE n", ["b"]),
    ("a node of another label", "CREATE (:OTHER {id: 'p', title: 'x', embedding: [1.0, 1.0]})", []),
    ("a relation", "MATCH (a:LABEL {id: 'a'}), (b:LABEL {id: 'b'}) CREATE (a)-[:NEAR]->(b)", []),
    ("create and delete at once", "CREATE (n:LABEL {id: 'gone'}) WITH n DETACH DELETE n", []),
]


@pytest.fixture(scope="module")
def captured(
    neo4j_endpoint: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A label whose changes are captured."""
    folder: Path = tmp_path_factory.mktemp("capture")
    with workplace(folder, neo4j_endpoint, milvus_endpoint) as place:
        place.rows("CREATE CONSTRAINT FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        place.configure(CONFIGURATION.format(collection=place.collection, label=place.label))
        installed = place.segue("capture", "install", "--format", "json")
        assert installed.code == 0, installed.err
        assert installed.data["collections"][0]["captured"]
        yield place
        place.segue("capture", "remove")
        place.rows("MATCH (m:SegueMark|SegueControl {collection: $name}) DETACH DELETE m", name=place.collection)


@pytest.mark.parametrize(("change", "keys"), [one[1:] for one in CHANGES], ids=[one[0] for one in CHANGES])
def test_a_change_marks_the_keys_it_concerns(captured: Workplace, change: str, keys: list[str]) -> None:
    """A client that knows nothing of Segue writes; exactly the keys whose item it touched are marked."""
    run = _runner(captured)
    run("MATCH (n:LABEL|OTHER) DETACH DELETE n")
    run("CREATE (a:LABEL {id: 'a', embedding: [1.0, 2.0], title: 't'})-[:NEAR]->(:LABEL {id: 'b'}), (:OTHER {id: 'o'})")
    run("MATCH (m:SegueMark {collection: $name}) DELETE m", name=captured.collection)

    run(change)

    marked = run("MATCH (m:SegueMark {collection: $name}) RETURN m.key ORDER BY m.key", name=captured.collection)
    assert [row[0] for row in marked] == keys


def test_a_write_that_fails_leaves_no_mark(captured: Workplace) -> None:
    """Mark and change are one transaction: rolled back, neither is there."""
    run = _runner(captured)
    run("MATCH (m:SegueMark {collection: $name}) DELETE m", name=captured.collection)
    with captured.driver.session(database="neo4j") as session, session.begin_transaction() as transaction:
        transaction.run(f"CREATE (:`{captured.label}` {{id: 'never'}})").consume()
        transaction.rollback()

    assert not run("MATCH (m:SegueMark {collection: $name}) RETURN m.key", name=captured.collection)


def test_load_csv_marks_every_row(captured: Workplace) -> None:
    """A bulk load, committed in several transactions, is captured like any other write."""
    if captured.neo4j.service == "neo4j-2026":
        pytest.skip("the jars on Maven Central lack what this release's LOAD CSV needs (Hadoop's)")
    run = _runner(captured)
    run("MATCH (n:LABEL|OTHER) DETACH DELETE n")
    run("MATCH (m:SegueMark {collection: $name}) DELETE m", name=captured.collection)
    with _served("id,title\nc1,one\nc2,two\nc3,three\n") as address, captured.driver.session(database="neo4j") as session:
        load = f"""LOAD CSV WITH HEADERS FROM $address AS row
                   CALL (row) {{ CREATE (:`{captured.label}` {{id: row.id, title: row.title, embedding: [1.0, 2.0]}}) }}
                   IN TRANSACTIONS OF 2 ROWS"""
        session.run(load, address=address).consume()

    marked = run("MATCH (m:SegueMark {collection: $name}) RETURN m.key ORDER BY m.key", name=captured.collection)
    assert [row[0] for row in marked] == ["c1", "c2", "c3"]


def test_status_says_what_a_canary_proves(captured: Workplace) -> None:
    """Installed it is captured; where no trigger was installed it is not."""
    status = captured.segue("capture", "status", "--format", "json")
    assert status.code == 0, status.err
    assert status.data["collections"][0]["captured"], status.out
    elsewhere = captured.segue("capture", "status", "--format", "json", "--config", str(_other(captured)))
    assert elsewhere.code == 0, elsewhere.err
    assert not elsewhere.data["collections"][0]["captured"]


@contextmanager
def _served(text: str) -> Iterator[str]:
    """Give the address on loopback under which a text can be fetched."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/items.csv"
        server.shutdown()


def _other(place: Workplace) -> Path:
    path = place.folder / "other.toml"
    path.write_text(CONFIGURATION.format(collection=f"{place.collection}_other", label=place.label), encoding="utf-8")
    return path


def _runner(place: Workplace) -> Callable[..., list[list[Any]]]:
    def run(cypher: str, **parameters: Any) -> list[list[Any]]:
        return place.rows(cypher.replace("OTHER", f"`{place.label}Other`"), **parameters)

    return run
