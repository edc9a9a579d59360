"""What a user sees a moment after a write, with the read fence and without. Begin at `measure`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deployment import COLLECTION, Deployment, await_equal
from report import Aim, Spread, at_least, at_most, markdown
from segue import Item, StorageMode

LATER_SECONDS = 0.1
TRIALS = 100
K = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """How often one of them shows an item.

    Attributes:
        written: Of those written a moment ago, the share that is found by its own vector.
        deleted: Of those deleted a moment ago, the share that is found all the same.
    """

    written: float
    deleted: float


@dataclass(frozen=True, slots=True)
class Freshness:
    """What was found, by who was asked."""

    found: Mapping[str, Seen]

    def table(self) -> str:
        """Return it as a Markdown table."""
        head = ["asked", f"written {LATER_SECONDS * 1000:.0f} ms ago: found", "deleted: still found"]
        return markdown(head, [[name, f"{seen.written:.0%}", f"{seen.deleted:.0%}"] for name, seen in self.found.items()])

    def aims(self) -> list[Aim]:
        """Return the aims of the store."""
        seen = self.found["store.search, hybrid"]
        return [
            at_least("found after a write", 1.0, Spread.of([seen.written]), ".0%"),
            at_most("found after a delete", 0.0, Spread.of([seen.deleted]), ".0%", ""),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {name: asdict(seen) for name, seen in self.found.items()}


def measure(live: Deployment) -> Freshness:
    """Write items one by one while a relay runs, and look for each a moment later; then delete each, and look again.

    The deployment goes on to `hybrid` where it is not there yet, and holds the same items afterwards.
    """
    live.reach(StorageMode.HYBRID)
    vectors = np.random.default_rng(20_261_124).normal(size=(TRIALS, live.dimension)).astype(np.float32)
    keys = [f"fresh-{number:06d}" for number in range(TRIALS)]
    with live.relay(), live.store() as (store, _):

        def bare(vector: Any) -> set[str]:
            (found,) = live.client.search(COLLECTION, [vector.tolist()], limit=K, consistency_level="Bounded")
            return {hit["id"] for hit in found}

        def behind_the_fence(vector: Any) -> set[str]:
            return {str(hit.key) for hit in store.search(vector, K)}

        # Milvus first: what it does not show yet it may show a little later.
        asked = {"MilvusClient.search": bare, "store.search, hybrid": behind_the_fence}
        written, deleted = dict.fromkeys(asked, 0), dict.fromkeys(asked, 0)
        for key, vector in zip(keys, vectors, strict=True):
            store.upsert([Item(key, vector, {"title": key, "year": 2026, "score": 0.5})])
            time.sleep(LATER_SECONDS)
            for name, search in asked.items():
                written[name] += key in search(vector)
        await_equal(store)
        # Visible by now, whatever Bounded promises.
        time.sleep(5.0)
        for key, vector in zip(keys, vectors, strict=True):
            store.delete([key])
            time.sleep(LATER_SECONDS)
            for name, search in asked.items():
                deleted[name] += key in search(vector)
        await_equal(store)
    return Freshness({name: Seen(written[name] / TRIALS, deleted[name] / TRIALS) for name in asked})
