"""The application of docs/migration-guide.md: films in Neo4j, found by vector, read and written while they are migrated.

    python docs/examples/film_service.py load films Film     # 2,000 films with that index and label, one with a broken vector
    python docs/examples/film_service.py serve               # reads and writes until SIGTERM or Ctrl-C

Addresses and secrets come from the environment, as for `segue`. `serve` opens ./segue.toml, prints every 5 s what users saw,
and writes the address of its metrics to ./service.url.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import neo4j
import numpy as np
from prometheus_client import start_http_server

import segue

FILMS, DIMENSION, GENRES = 2_000, 8, ("Drama", "Comedy", "Horror", "Western")


def vector(number: int) -> list[float]:
    """Return the embedding of a film."""
    found: list[float] = np.random.default_rng(number).normal(size=DIMENSION).tolist()
    return found


def load(index: str, label: str) -> None:
    """Write films as any application does, by the plain driver."""
    films = [
        {
            "id": f"m-{number}",
            "title": f"Film {number}",
            "year": 1960 + number % 60,
            "genres": [GENRES[number % 4]],
            "embedding": vector(number),
        }
        for number in range(1, FILMS + 1)
    ]
    films[6]["embedding"] = [0.0] * DIMENSION
    settings = f"{{indexConfig: {{`vector.dimensions`: {DIMENSION}, `vector.similarity_function`: 'cosine'}}}}"
    auth = (os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ["NEO4J_PASSWORD"])
    with neo4j.GraphDatabase.driver(os.environ["NEO4J_URI"], auth=auth, notifications_min_severity="OFF") as driver:
        driver.execute_query(f"CREATE CONSTRAINT IF NOT EXISTS FOR (f:{label}) REQUIRE f.id IS UNIQUE")
        driver.execute_query(f"CREATE VECTOR INDEX {index} IF NOT EXISTS FOR (f:{label}) ON f.embedding OPTIONS {settings}")
        driver.execute_query(f"UNWIND $films AS film MERGE (f:{label} {{id: film.id}}) SET f += film", films=films)
        driver.execute_query("CALL db.awaitIndexes(120)")
    print(f"{len(films):,} films")


class Service:
    """A reader and a writer on one store, and a count of what they saw."""

    def __init__(self, store: segue.DualWriteStore) -> None:
        self.store = store
        self.seen: Counter[str] = Counter()
        self.closed = threading.Event()

    def read(self) -> None:
        """Search as users do."""
        while not self.closed.wait(0.02):
            try:
                hits = self.store.search(vector(random.randint(1, FILMS)), k=10)
            except segue.SegueError as fault:
                self.fail("search", fault)
            else:
                self.seen["milvus" if any(hit.store == "milvus" for hit in hits) else "neo4j"] += 1

    def write(self) -> None:
        """Add a film, look for it at once, change it, take every other one out again, look again."""
        number = 10_000
        while not self.closed.wait(0.1):
            number += 1
            key, embedding = f"m-{number}", vector(number)
            try:
                self.store.upsert([segue.Item(key=key, vector=embedding, properties={"title": "New", "year": 2026})])
                self.seen["wrong"] += not self.finds(key, embedding)
                self.store.upsert([segue.Item(key=key, vector=embedding, properties={"title": f"Film {number}"})])
                if number % 2:
                    self.store.delete([key])
                    self.seen["wrong"] += self.finds(key, embedding)
            except segue.SegueError as fault:
                self.fail("write", fault)
            else:
                self.seen["written"] += 1

    def finds(self, key: str, embedding: list[float]) -> bool:
        """Say whether a film is among the ten nearest of its own vector."""
        return key in {hit.key for hit in self.store.search(embedding, k=10)}

    def fail(self, call: str, fault: segue.SegueError) -> None:
        """Count a call that failed."""
        self.seen["failed"] += 1
        print(f"{call} failed: {fault}", flush=True)

    def tell(self) -> None:
        """Print every 5 s what was seen since the last line."""
        while not self.closed.wait(5):
            seen, self.seen = self.seen, Counter()
            print(
                f"{time.strftime('%H:%M:%S')} {self.store.mode}: "
                f"searches by Neo4j {seen['neo4j']}, by Milvus {seen['milvus']}, "
                f"films written {seen['written']}, failed {seen['failed']}, wrong {seen['wrong']}",
                flush=True,
            )


def serve() -> None:
    """Serve until somebody asks to stop."""
    server, _ = start_http_server(0, "127.0.0.1")
    Path("service.url").write_text(f"http://127.0.0.1:{server.server_port}/metrics", encoding="utf-8")
    with segue.connect("segue.toml") as store:
        service = Service(store)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.closed.set())
        threads = [threading.Thread(target=work) for work in (service.read, service.write, service.tell)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", index, label]:
            load(index, label)
        case ["serve"]:
            serve()
        case _:
            sys.exit(__doc__)
