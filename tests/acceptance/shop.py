"""A collection in service, for tests of the library: items in Neo4j, a copy in Milvus, stores opened as an application does.

Owns the items, the configuration files and the changes of mode. Reads both stores with their plain drivers only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

import segue
from acceptance.workplace import LONG, Workplace, eventually, workplace
from segue import bootstrap
from segue.bootstrap import copying
from segue.config import CollectionSettings, Settings, load
from segue.errors import ModeRefused
from segue.migration import SHADOWED, TO_READ_MILVUS, VALIDATED_LATELY
from segue.model import StorageMode
from segue.phases.cutover import Overrides, Patience, change_mode
from segue.sandbox import Endpoint

DIMENSION = 8

CONFIGURATION = """\
[neo4j]
uri = "{neo4j}"
password = "{neo4j_password}"
connect_timeout_seconds = 2
request_timeout_seconds = {request_seconds}
[milvus]
uri = "{milvus}"
token = "{token}"
request_timeout_seconds = 2
[state]
path = "{state}"
[relay]
landing_seconds = 6
lease_seconds = 8
drain_seconds = 2
{sections}
[search]
{search}
[[collections]]
name = "{collection}"
[collections.source]
index = "{collection}"
label = "{label}"
key = "id"
vector = "embedding"
dimension = 8
[collections.source.properties]
title = "string"
year = "integer"
tags = "json"
"""

TIMES = {"visible_seconds": 2, "fence_seconds": 2, "slack_seconds": 0.2}
"""The read fence's, short where no test says otherwise; what was written is visible a third of a second later."""

Row = tuple[tuple[float, ...], str | None, int | None]
"""An item as either store has it: its vector as float32, its title, its year."""


def vector(number: float) -> NDArray[np.float32]:
    """Return a vector like no other number's."""
    return np.random.default_rng(int(number * 1_000)).normal(size=DIMENSION).astype(np.float32)


@dataclass
class Shop:
    """One collection of one workplace, with a vector index; `open` gives what an application holds.

    Attributes:
        times: Settings of [search] in every configuration file.
    """

    place: Workplace
    times: Mapping[str, float] = field(default_factory=dict)

    def configure(
        self,
        name: str = "segue.toml",
        *,
        neo4j: str | None = None,
        milvus: str | None = None,
        request_seconds: float = 20,
        sections: str = "",
        **search: Any,
    ) -> Path:
        """Write a configuration file; addresses may lead through proxies, other keywords are settings of [search]."""
        place = self.place
        path = place.folder / name
        path.write_text(
            CONFIGURATION.format(
                neo4j=neo4j or place.neo4j.uri,
                neo4j_password=place.neo4j.password,
                milvus=milvus or place.milvus.uri,
                token=place.token,
                state=place.folder / "segue-state.db",
                collection=place.collection,
                label=place.label,
                request_seconds=request_seconds,
                sections=sections,
                search="\n".join(f"{setting} = {value}" for setting, value in {**TIMES, **self.times, **search}.items()),
            ),
            encoding="utf-8",
        )
        return path

    @contextmanager
    def open(
        self,
        *,
        relay: bool = False,
        freshness: str = "strict",
        registry: CollectorRegistry | None = None,
        **configured: Any,
    ) -> Iterator[segue.DualWriteStore]:
        """Give a store, closed afterwards; keywords are those of `configure`."""
        path = self.configure(f"segue-{time.monotonic_ns()}.toml", **configured)
        counted = registry or CollectorRegistry()
        with segue.connect(path, freshness=freshness, relay=relay, registry=counted) as store:
            yield store

    def load(self, items: int) -> None:
        """Write segue.toml; create the constraint, the vector index, and items k000, k001 and so on."""
        self.configure()
        place = self.place
        place.rows(f"CREATE CONSTRAINT `{place.collection}_key` FOR (n:LABEL) REQUIRE n.id IS UNIQUE")
        # Without quantization Neo4j's scores are exact, so that answers can be compared to the last digit.
        settings = (
            f"{{indexConfig: {{`vector.dimensions`: {DIMENSION}, `vector.similarity_function`: 'cosine', "
            "`vector.quantization.enabled`: false}}"
        )
        place.rows(f"CREATE VECTOR INDEX `{place.collection}` FOR (n:LABEL) ON n.embedding OPTIONS {settings}")
        rows = [
            {
                "id": f"k{number:03d}",
                "embedding": vector(number).tolist(),
                "title": f"item {number}",
                "year": 1970 + number % 10,
                "tags": ["even" if number % 2 == 0 else "odd"],
            }
            for number in range(items)
        ]
        place.rows("UNWIND $rows AS row CREATE (n:LABEL) SET n = row", rows=rows)
        place.rows("CALL db.awaitIndexes(60)")

    def copy(self) -> None:
        """Capture changes, and copy what there is to Milvus."""
        self.change("dual_write")
        settings, one = self.settings()
        copying.migrate(settings, one, _Silent(), threading.Event(), restart=False, no_writers=False)

    def change(self, mode: str, *, reason: str = "", seconds: float = LONG) -> None:
        """Change the mode as `segue mode set` does, and wait for its gates."""
        settings, one = self.settings()
        until = time.monotonic() + seconds
        with bootstrap.open_mode_control(settings, one) as control:
            control.prepare()
            self.place.note_preflight()
            while True:
                try:
                    change_mode(
                        control.node,
                        control.marks,
                        StorageMode(mode),
                        collection=one.name,
                        terms=control.terms,
                        # That searches are compared first has tests of its own.
                        overrides=Overrides((SHADOWED.name,), reason or "a test"),
                        patience=Patience(30, threading.Event().wait, time.monotonic),
                        watch=_Silent(),
                        capture=control.capture,
                    )
                except ModeRefused as refusal:
                    gates = [*(gate.name for gate in TO_READ_MILVUS), VALIDATED_LATELY.name]
                    if time.monotonic() > until or not any(gate in str(refusal) for gate in gates):
                        raise
                    if "validation: " in str(refusal) and "drained: " not in str(refusal):
                        # Again, where it cannot be compared yet: a Milvus that was killed loads for a while.
                        self.place.segue("validate", "--quick")
                    time.sleep(0.2)
                else:
                    return

    def reach(self, mode: str, seconds: float = LONG) -> None:
        """Go to a mode step by step, forward or back, never by way of `neo4j_only`; each step may take so long."""
        there = StorageMode(mode)
        while (here := self.mode) is not there:
            self.change(list(StorageMode)[here.rank + (1 if there.rank > here.rank else -1)], seconds=seconds)

    @property
    def mode(self) -> StorageMode:
        """What the control node says."""
        found = self.place.rows("MATCH (c:SegueControl {collection: $name}) RETURN c.mode", name=self.place.collection)
        return StorageMode((found[0][0] if found else None) or "neo4j_only")

    def settings(self) -> tuple[Settings, CollectionSettings]:
        """Return the settings of `segue.toml`, which goes straight to the servers."""
        settings = load(self.configure(), environ={})
        return settings, settings.chosen(None)[0]

    def await_closed(self, seconds: float = LONG) -> None:
        """Wait until no mark is open, so that every key is Milvus's to answer."""
        eventually(lambda: not self.open_marks(), seconds)
        assert not self.open_marks()

    def open_marks(self) -> int:
        """How many marks readers must look at."""
        text = "MATCH (m:SegueOpen {collection: $name}) RETURN count(m)"
        return int(self.place.rows(text, name=self.place.collection)[0][0])

    def nodes(self) -> dict[str, Row]:
        """What Neo4j has."""
        found = self.place.rows("MATCH (n:LABEL) RETURN n.id, n.embedding, n.title, n.year")
        return {key: (_float32(values), title, year) for key, values, title, year in found}

    def copies(self) -> dict[str, Row]:
        """What Milvus has, each key once."""
        found = self.place.client.query(
            self.place.collection,
            filter='id >= ""',
            output_fields=["id", "vector", "title", "year"],
            limit=16_000,
            consistency_level="Strong",
        )
        rows = {row["id"]: (_float32(row["vector"]), row["title"], row["year"]) for row in found}
        assert len(rows) == len(found), "a key has several rows"
        return rows


@contextmanager
def shop(folder: Path, neo4j: Endpoint, milvus: Endpoint, *, items: int = 40, copied: bool = True) -> Iterator[Shop]:
    """Give a collection of some items in `neo4j_only`; or copied, in `dual_write`."""
    with workplace(folder, neo4j, milvus) as place:
        one = Shop(place)
        one.load(items)
        if copied:
            one.copy()
        yield one


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """Return a metric's value, summed over the labels that are not given."""
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def as_seen(hits: list[segue.Hit]) -> Mapping[str, tuple[float, Mapping[str, Any]]]:
    """Return hits by key, without who answered."""
    return {hit.key: (hit.score, hit.properties) for hit in hits}  # type: ignore[misc]  # keys are text here


def _float32(values: Any) -> tuple[float, ...]:
    return tuple(np.asarray(values, np.float32).tolist())


class _Silent:
    """Watches a copy, or a change of mode, and says nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None
