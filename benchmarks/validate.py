"""The benchmark of `segue validate`: its three depths, and everything read twice with the plain clients, on the same servers.

Begin reading at `main`. The items are those of the backfill's benchmark, copied once by the command; every run is a process of
its own, in turns over several rounds. What starting a process costs is in every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import items
from contender import DATABASE, PREFIX, neo4j_of, opened, sandboxed, token_of
from machine import describe
from report import markdown
from segue.errors import SegueError
from segue.sandbox import Endpoint

NAME = f"{PREFIX}validate"
COMMANDS = {
    "sample of 1,000": ("--sample-size", "1000"),
    "quick": ("--quick",),
    "full": ("--full",),
}
PLAIN = "plain clients"

CONFIGURATION = """\
[[collections]]
name = "{name}"
[collections.source]
index = "none"
label = "{label}"
key = "id"
vector = "embedding"
dimension = {dimension}
[collections.source.properties]
title = "string"
year = "integer"
score = "float"
"""


def main() -> None:
    """Run the benchmark as asked on the command line."""
    options = _options()
    if options.plain:
        print(json.dumps({"different": _plainly(options.dimension)}))
        return
    with sandboxed(_announce) as servers, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with opened(servers) as (driver, client):
            _drop(client)
            with driver.session(database=DATABASE) as session:
                items.load(session, options.items, options.dimension, _announce)
            text = CONFIGURATION.format(name=NAME, label=items.LABEL, dimension=options.dimension)
            (place / "segue.toml").write_text(text, encoding="utf-8")
            try:
                _announce("copying")
                _segue(place, servers, "migrate-embeddings")
                found = _rounds(options, place, servers)
            finally:
                _drop(client)
        facts = describe(servers)
    rows = [
        [name, f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})", f"{statistics.median(cpu):.1f}"]
        for name, (times, cpu) in found.items()
    ]
    print(f"{options.items:,} items of {options.dimension} dimensions, rounds: {options.rounds}; median (least to greatest)\n")
    print(markdown(["what", "seconds", "client CPU s"], rows), end="\n\n")
    print(markdown(["machine", ""], [[name, value] for name, value in facts.items()]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure `segue validate` beside everything read twice, on real servers.")
    parser.add_argument("--items", type=int, default=20_000, help="items in Neo4j (default: 20000)")
    parser.add_argument("--dimension", type=int, default=768, help="of their vectors (default: 768)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs (default: 3)")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


Found = dict[str, tuple[list[float], list[float]]]


def _rounds(options: argparse.Namespace, place: Path, servers: Mapping[str, Endpoint]) -> Found:
    found: Found = {name: ([], []) for name in (*COMMANDS, PLAIN)}
    # The first pass warms the servers up and is not counted.
    for number in range(options.rounds + 1):
        for name, (times, cpu) in found.items():
            began, before = time.monotonic(), os.times()
            if name == PLAIN:
                _read_twice(options, servers)
            else:
                told = _segue(place, servers, "validate", *COMMANDS[name], "--format", "json")
                _require_clean(told, options.items if name == "full" else 0)
            after = os.times()
            if number:
                times.append(time.monotonic() - began)
                cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
            _announce(f"round {number}/{options.rounds}: {name} {time.monotonic() - began:.1f} s")
    return found


def _require_clean(told: str, compared: int) -> None:
    counts = json.loads(told)["counts"]
    if counts["matched"] != counts["compared"] or counts["compared"] < compared:
        message = f"the copy is not found equal: {counts}"
        raise SystemExit(message)


def _segue(place: Path, servers: Mapping[str, Endpoint], *arguments: str) -> str:
    return _ended([sys.executable, "-m", "segue", *arguments], place, servers)


def _read_twice(options: argparse.Namespace, servers: Mapping[str, Endpoint]) -> None:
    program = [sys.executable, __file__, "--plain", "--dimension", str(options.dimension)]
    if json.loads(_ended(program, Path(), servers))["different"]:
        message = "the plain clients find the copy unequal"
        raise SystemExit(message)


def _ended(command: list[str], place: Path, servers: Mapping[str, Endpoint]) -> str:
    source, sink = neo4j_of(servers), servers["milvus"]
    addresses = {
        "NEO4J_URI": source.uri,
        "NEO4J_USERNAME": source.username,
        "NEO4J_PASSWORD": source.password,
        "MILVUS_URI": sink.uri,
        "MILVUS_TOKEN": token_of(sink),
    }
    ended = subprocess.run(command, cwd=place, env=os.environ | addresses, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        message = f"{' '.join(command[1:])} failed"
        raise SystemExit(message)
    return ended.stdout


def _plainly(dimension: int) -> int:
    """Read everything of both sides with the plain clients, compare vectors and fields; return how many differ."""
    import numpy as np  # noqa: PLC0415  # only the contender's process needs them
    from neo4j import GraphDatabase  # noqa: PLC0415  # likewise
    from pymilvus import MilvusClient  # noqa: PLC0415  # likewise

    del dimension
    environment = os.environ
    auth = (environment["NEO4J_USERNAME"], environment["NEO4J_PASSWORD"])
    with GraphDatabase.driver(environment["NEO4J_URI"], auth=auth) as driver, driver.session(database=DATABASE) as session:
        query = f"MATCH (n:{items.LABEL}) RETURN n.id, n.embedding, n.title, n.year, n.score"
        there: dict[str, Any] = {
            key: (np.array(vector, "<f4").tobytes(), title, year, score)
            for key, vector, title, year, score in session.run(query)
        }
    client = MilvusClient(environment["MILVUS_URI"], token=environment["MILVUS_TOKEN"])
    pages = client.query_iterator(NAME, batch_size=1_000, output_fields=["vector", "title", "year", "score"])
    different = 0
    while page := pages.next():
        for row in page:
            held = (np.array(row["vector"], "<f4").tobytes(), row["title"], row["year"], row["score"])
            different += there.pop(row["id"], None) != held
    return different + len(there)


def _drop(client: Any) -> None:
    for name in client.list_collections():
        if name.startswith(NAME):
            for alias in client.list_aliases(name)["aliases"]:
                client.drop_alias(alias)
            client.drop_collection(name)


def _announce(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except SegueError as fault:
        sys.exit(f"bench: {fault.message}\n{fault.hint}".rstrip())
    except KeyboardInterrupt:
        sys.exit(130)
