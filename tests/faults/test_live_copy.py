"""Users write and search while everything is copied, relayed and switched over, and all of it fails: nothing is lost.

`make chaos` runs more and longer rounds. A round's seed is in the test's name; SEGUE_CHAOS_SEED gives it again. What threads
and servers make of it is theirs, so a seed repeats the harm done, not its every effect.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from acceptance.shop import Shop, total
from acceptance.workplace import LONG, eventually, workplace
from faults.havoc import Havoc, OwnMilvus, kill
from faults.proxy import proxied
from faults.users import Users
from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES
from segue.sandbox import Endpoint

LOG = logging.getLogger(__name__)

ROUNDS = int(os.environ.get("SEGUE_CHAOS_ROUNDS", "1"))
SECONDS = float(os.environ.get("SEGUE_CHAOS_SECONDS", "6"))
"""How long harm is done in each mode that reads Milvus."""

PATIENCE_SECONDS = 40
"""How long a copy is begun anew beside all that, before it gets calm; a killed Milvus takes a minute to flush again."""

SMALL = {"SEGUE_BATCH_SIZE": "20"}
FIRST_SEED = int(os.environ.get("SEGUE_CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
ITEMS, NEW = 900, 60


@pytest.fixture(scope="module")
def own_milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnMilvus]:
    """A Milvus that may be killed."""
    milvus = OwnMilvus(tmp_path_factory.mktemp("sandbox"))
    yield milvus
    milvus.remove()


@pytest.mark.timeout(900 + 6 * SECONDS)
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_nothing_is_lost_and_no_user_notices(
    endpoints: Mapping[str, Endpoint], own_milvus: OwnMilvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Eight writers, two readers, a copy, two relays; everything but Neo4j killed and cut off: in the end both are equal."""
    for name in (*PLAIN_VARIABLES, *SECRET_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    seed = FIRST_SEED + turn
    choose = random.Random(seed)
    neo4j = endpoints[choose.choice(sorted(name for name in endpoints if name.startswith("neo4j")))]
    registry = CollectorRegistry()
    with ExitStack() as stack:
        place = stack.enter_context(workplace(tmp_path, neo4j, own_milvus.endpoint))
        shop = Shop(place, {"visible_seconds": 5, "neo4j_seconds": 30, "oversample": 100, "ef": 256})
        shop.load(ITEMS)
        assert place.segue("capture", "install").code == 0
        stack.callback(place.segue, "capture", "remove")
        shop.change("dual_write")
        proxy, through = stack.enter_context(proxied(own_milvus.endpoint.uri))
        stores = [stack.enter_context(shop.open(milvus=through, registry=registry)) for _ in range(2)]
        keys = [f"k{number:03d}" for number in range(ITEMS + NEW)]
        havoc = stack.enter_context(Havoc(place, own_milvus, proxy, through, choose))
        with Users(place, stores, keys, choose) as users:
            havoc.rage()
            _copy(shop, through, havoc, choose)
            for mode in ("shadow_milvus", "hybrid"):
                havoc.calm()
                shop.reach(mode, 2 * LONG)
                eventually(lambda mode=mode: all(store.mode.value == mode for store in stores))  # type: ignore[misc]
                havoc.rage()
                _wait(users, SECONDS)
            havoc.calm()
            # Whatever was done, Milvus answers again by itself.
            before = users.answers["hybrid", "milvus"]
            eventually(lambda: users.answers["hybrid", "milvus"] > before)
            recovered = users.answers["hybrid", "milvus"] > before
        drained = place.start("relay", "--until-drained", "--format", "json").ended(120)

        told = (
            f"seed {seed}, {neo4j.version}: {users.writes} writes, {dict(users.answers)}, {dict(havoc.done)}, fallbacks "
            + str(total(registry, "segue_search_fallbacks_total"))
        )
        LOG.info("%s", told)
        assert not users.errors, f"{told}\n" + "\n".join(users.errors[:20])
        assert drained.code == 0, drained.err
        assert drained.data["collections"][0]["dirty"] == 0
        _assert_equal(shop)
        assert recovered, told
        assert users.writes > ITEMS / 10, told
        assert {"relay killed", "copy killed", "Milvus killed"} <= havoc.done.keys(), told


def _killed_copy(shop: Shop, through: str, havoc: Havoc, choose: random.Random) -> None:
    """Begin a copy, or go on with one, and kill it within a second of its first batches."""
    copying = shop.place.start("migrate-embeddings", **SMALL, MILVUS_URI=through)
    eventually(lambda: "ranges" in copying.said or copying.process.poll() is not None)
    eventually(lambda: copying.process.poll() is not None, choose.uniform(0, 1.0))
    kill(copying)
    havoc.did("copy killed")


def _copy(shop: Shop, through: str, havoc: Havoc, choose: random.Random) -> None:
    """Copy, killed twice; then again to its end, in the storm for a while, and in calm if that was not enough."""
    for _ in range(2):
        _killed_copy(shop, through, havoc, choose)
    small = {**SMALL, "MILVUS_URI": through}
    calm_at, in_calm = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        copying = shop.place.start("migrate-embeddings", "--format", "json", **small)
        eventually(lambda: copying.process.poll() is not None, max(0.0, calm_at - time.monotonic()))  # noqa: B023
        if time.monotonic() >= calm_at:
            havoc.calm()
            in_calm += 1
        copied = copying.ended(240)
        if not copied.code:
            break
        # A store that is away at the start ends it, and its operator says the same command again.
        havoc.did("copy given up")
        assert copied.code == 1, copied.err
        # The first time it had begun in the storm, the second time it may have found Milvus still starting.
        assert in_calm < 3, copied.err
    assert copied.data["status"] == "ok"


def _wait(users: Users, seconds: float) -> None:
    """Wait for a while, or until a user saw an error."""
    eventually(lambda: bool(users.errors), seconds)


def _assert_equal(shop: Shop) -> None:
    """Compare every key by plain clients: nothing lost, stale, doubled, or back from the dead."""
    nodes, copies = shop.nodes(), shop.copies()
    wrong = sorted(key for key in nodes.keys() | copies.keys() if nodes.get(key) != copies.get(key))
    assert not wrong, f"{len(wrong)} keys differ: {[(key, nodes.get(key), copies.get(key)) for key in wrong[:3]]}"
