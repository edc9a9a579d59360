"""Each way to break the protocol is found by the simulation: the proof that it can find anything at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from simulation import variants
from simulation.choices import Chance
from simulation.scenes import COPY, DUAL_WRITE, HYBRID, NEO4J_ONLY, Build, Plot, Scene

SEEDS = 3000
"""How many are tried before a variant counts as not found."""

HELD = 150
"""In how many of these the protocol as it is must hold."""

COPYING = Plot()
CRASHED_COPY = Plot(
    budget=(1, 0, 0, 0, 0), keys=("a",), existing=1, fixed_keys=True, relays=1, writes=(1,), likelier={"crash": 6}
)
LATE = Plot(keys=("a",), fixed_keys=True, likelier={"give up": 4, "land late": 0.2})
BARRIER = Plot(begins=NEO4J_ONLY, itinerary=(DUAL_WRITE, COPY), keys=("a", "b"), writes=(2, 2))
FENCE = Plot(begins=HYBRID, itinerary=(), keys=("a",), existing=1, fixed_keys=True, writes=(4,), searches=(6,), relays=1)
HURRY = replace(
    FENCE, budget=(0, 0, 0, 0, 2), writes=(3,), searches=(8,), likelier={"tick": 2, "stall": 3, "stale": 3}, lease=1000
)
COPY_WHILE_READ = replace(HURRY, itinerary=(COPY,), writes=(2,), searches=(5,))


@dataclass(frozen=True)
class Broken:
    """A variant, and a scene that is shaped for it."""

    build: Build
    plot: Plot


BROKEN = {
    "the application writes Milvus directly": Broken(Build(write=variants.writes_milvus_directly), FENCE),
    "the mark is cleared unconditionally": Broken(Build(variants.ClearsUnconditionally), COPYING),
    "no closing look": Broken(Build(variants.NoClosingLook), COPYING),
    "a crashed batch is done again at once": Broken(Build(waits_for_landing=False), CRASHED_COPY),
    "the data version is the token": Broken(Build(variants.DataVersionAsToken), COPYING),
    "tokens start again with a new mark": Broken(Build(variants.TokensStartAgain), HURRY),
    "no taint": Broken(Build(variants.NoTaint), LATE),
    "no taint at a takeover": Broken(Build(variants.NoTaintAtTakeover), COPYING),
    "a taint ends by the clock": Broken(Build(variants.TaintEndsByTheClock), LATE),
    "two owners without taint": Broken(Build(variants.TwoOwners), COPYING),
    "the copy begins before the barrier": Broken(Build(control=variants.NoBarrier), BARRIER),
    "the mark in another transaction": Broken(Build(variants.MarkInAnotherTransaction), COPYING),
    "a delete without a mark": Broken(Build(variants.DeleteWithoutMark), COPYING),
    "insert instead of upsert": Broken(Build(network=variants.Inserts), COPYING),
    "the relay reads the item first": Broken(Build(variants.ReadsTheItemFirst), COPYING),
    "the relay reads without the lock": Broken(Build(variants.ReadsWithoutTheLock), COPYING),
    "U = 0": Broken(Build(variants.TrustsAtOnce), FENCE),
    "U = visible": Broken(Build(variants.TrustsWhenVisible), HURRY),
    "acked_at is the time of sending": Broken(Build(variants.StampsWhenSending), HURRY),
    "a late fence is used": Broken(Build(serving=variants.LateFenceIsUsed), HURRY),
    "a fence from a member that lags": Broken(Build(serving=variants.LaggingFence), FENCE),
    "the label goes without looking again": Broken(Build(variants.ClosesWithoutLookingAgain), HURRY),
    "the overlay is kept while dirty": Broken(Build(search=variants.CachesWhileDirty), FENCE),
    "a mark goes while a batch is in flight": Broken(Build(variants.PrunesWhileABatchIsInFlight), COPYING),
    "a direct copy while Milvus is read": Broken(Build(), COPY_WHILE_READ),
}
"""Every broken variant that the protocol's description names."""

RIGHT = {repr(broken.plot): broken.plot for name, broken in BROKEN.items() if broken.build != Build()}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_protocol_is_found(name: str, tmp_path: Path) -> None:
    """Some seed shows that this variant gives a wrong answer or does not converge."""
    broken = BROKEN[name]
    for seed in range(SEEDS):
        if Scene(broken.plot, broken.build, Chance(seed), tmp_path / f"{seed}.db").play():
            return
    pytest.fail(f"{SEEDS} seeds did not find it")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("number", range(len(RIGHT)))
def test_the_protocol_as_it_is_holds_in_the_same_scenes(number: int, tmp_path: Path) -> None:
    """In the scenes and seeds in which the variants are found, the unbroken code does nothing wrong."""
    plot = list(RIGHT.values())[number]
    for seed in range(HELD):
        scene = Scene(plot, Build(), Chance(seed), tmp_path / f"{seed}.db")
        wrong = scene.play()
        assert not wrong, f"seed {seed}: {wrong}\n" + "\n".join(scene.world.trace[-200:])
