"""Each way to break the protocol is found by the simulation: the proof that it can find anything at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from simulation import variants
from simulation.choices import Chance, Choices, explore
from simulation.scenes import COPY, DUAL_WRITE, HYBRID, NEO4J_ONLY, SHADOW, Build, Plot, Scene

SEEDS = 3000
"""How many are tried before a variant counts as not found."""

RUNS = 20_000
"""How many schedules are tried before a variant counts as not found."""

HELD = 100
"""In how many of these the protocol as it is must hold."""

COPYING = Plot()
ONE_KEY = replace(COPYING, keys=("a",), existing=1, fixed_keys=True)
CRASHED_COPY = replace(ONE_KEY, budget=(2, 0, 0, 0, 0), relays=1, likelier={"crash": 8, "land late": 0.3})
TAKEOVER = replace(
    ONE_KEY, budget=(2, 0, 0, 0, 0), begins=HYBRID, itinerary=(), likelier={"crash": 8, "land late": 0.3, "tick": 2}
)
LATE = replace(ONE_KEY, likelier={"give up": 4, "land late": 0.2})
SLOW_LANDING = replace(
    ONE_KEY,
    budget=(0, 0, 0, 0, 0),
    writes=((("a", True),),),
    relays=1,
    likelier={"land": 0.03},
    skewed=False,
    again=False,
)
SLOW_COPY = replace(SLOW_LANDING, likelier={}, pauses=(2, 0), copy_takes=12)
BARRIER = replace(
    ONE_KEY, begins=NEO4J_ONLY, itinerary=(DUAL_WRITE, COPY), writes=((("a", True),),), relays=1, skewed=False, again=False
)
FENCE = replace(ONE_KEY, begins=HYBRID, itinerary=(), searches=(6,), relays=1)
HURRY = replace(
    FENCE,
    budget=(0, 0, 0, 0, 2),
    writes=(3,),
    searches=(10,),
    likelier={"tick": 2, "stall": 3, "stale": 3},
    lease=1000,
    pauses=(12, 2),
)
ONE_WRITE = replace(FENCE, writes=((("a", True),),), searches=(3,), skewed=False, pauses=(0, 1))
LATER_SEARCHES = replace(ONE_WRITE, budget=(0, 0, 0, 0, 2), searches=(12,), lease=1000)
COPY_WHILE_READ = replace(
    HURRY,
    budget=(0, 0, 0, 0, 0),
    itinerary=(COPY,),
    writes=(1,),
    searches=(20,),
    likelier={"answer": 0.1},
    pauses=(4, 2),
    again=False,
    copy_takes=12,
)

GHOSTS = replace(
    ONE_KEY,
    begins=HYBRID,
    itinerary=(NEO4J_ONLY, 6.0, DUAL_WRITE, COPY, SHADOW),
    relays=1,
    writes=(1,),
    searches=(2,),
    pauses=(6, 0),
    again=False,
)


@dataclass(frozen=True)
class Broken:
    """A variant, and a scene that is shaped for it.

    Attributes:
        departures: How often at most the schedules depart from the default order that are all tried; None tries seeds.
    """

    build: Build
    plot: Plot
    departures: int | None = None


BROKEN = {
    "the application writes Milvus directly": Broken(Build(write=variants.writes_milvus_directly), FENCE),
    "the mark is cleared unconditionally": Broken(Build(variants.ClearsUnconditionally), COPYING),
    "no closing look": Broken(Build(variants.NoClosingLook), SLOW_COPY),
    "the closing look does not wait for the batch": Broken(Build(network=variants.LooksTooEarly), SLOW_LANDING),
    "a crashed batch is done again at once": Broken(Build(waits_for_landing=False), CRASHED_COPY),
    "the data version is the token": Broken(Build(variants.DataVersionAsToken), COPYING),
    "tokens start again with a new mark": Broken(Build(variants.TokensStartAgain), HURRY),
    "no taint": Broken(Build(variants.NoTaint), LATE),
    "no taint at a takeover": Broken(Build(variants.NoTaintAtTakeover), TAKEOVER),
    "a taint ends by the clock": Broken(Build(variants.TaintEndsByTheClock), LATE),
    "two owners without taint": Broken(Build(variants.TwoOwners), COPYING),
    "the copy begins before the barrier": Broken(Build(control=variants.NoBarrier), BARRIER, 1),
    "the mark in another transaction": Broken(Build(variants.MarkInAnotherTransaction), ONE_WRITE, 1),
    "a delete without a mark": Broken(Build(variants.DeleteWithoutMark), COPYING),
    "insert instead of upsert": Broken(Build(network=variants.Inserts), COPYING),
    "the relay reads the item first": Broken(Build(variants.ReadsTheItemFirst), COPYING),
    "the relay reads without the lock": Broken(Build(variants.ReadsWithoutTheLock), COPYING),
    "U = 0": Broken(Build(variants.TrustsAtOnce), FENCE),
    "U = visible": Broken(Build(variants.TrustsWhenVisible), ONE_WRITE, 2),
    "acked_at is the time of sending": Broken(Build(variants.StampsWhenSending), LATER_SEARCHES, 1),
    "a late fence is used": Broken(Build(serving=variants.LateFenceIsUsed), ONE_WRITE, 2),
    "a fence from a member that lags": Broken(Build(serving=variants.LaggingFence), FENCE),
    "the label goes without looking again": Broken(Build(variants.ClosesWithoutLookingAgain), HURRY),
    "the overlay is kept while dirty": Broken(Build(search=variants.CachesWhileDirty), FENCE),
    "a mark goes while a batch is in flight": Broken(Build(variants.PrunesWhileABatchIsInFlight), SLOW_COPY),
    "a direct copy while Milvus is read": Broken(Build(), COPY_WHILE_READ),
    "a new copy without looking for leftovers": Broken(Build(network=variants.ShowsNoKeys), GHOSTS),
}
"""Every broken variant that the protocol's description names, and what the simulation itself has shown."""


def _played(plot: Plot, build: Build, choices: Choices, path: Path) -> list[str]:
    records = path / "state.db"
    records.unlink(missing_ok=True)
    return Scene(plot, build, choices, records).play()


RIGHT = [
    *{repr(broken.plot): broken.plot for broken in BROKEN.values() if broken.build != Build()}.values(),
    replace(COPY_WHILE_READ, itinerary=()),
]
"""The same scenes; where the scene itself is what is wrong, without that."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_is_found(name: str, tmp_path: Path) -> None:
    """Some seed shows that this variant gives a wrong answer or does not converge."""
    broken = BROKEN[name]
    if broken.departures is None:
        runs = SEEDS
        found = any(_played(broken.plot, broken.build, Chance(seed), tmp_path) for seed in range(SEEDS))
    else:
        explored = explore(partial(_played, broken.plot, broken.build, path=tmp_path), departures=broken.departures, most=RUNS)
        runs, found = explored.runs, bool(explored.wrong)
    assert found, f"{runs:,} runs did not find it"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("number", range(len(RIGHT)))
def test_the_protocol_as_it_is_holds_in_the_same_scenes(number: int, tmp_path: Path) -> None:
    """In the scenes and seeds in which the variants are found, the unbroken code does nothing wrong."""
    plot = RIGHT[number]
    for seed in range(HELD):
        scene = Scene(plot, Build(), Chance(seed), tmp_path / f"{seed}.db")
        wrong = scene.play()
        assert not wrong, f"seed {seed}: {wrong}\n" + "\n".join(scene.world.trace[-200:])
