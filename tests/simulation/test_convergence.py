"""Whatever is killed, delayed or lost: searches see what was written, and when it is quiet every row equals its item."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulation.choices import Chance
from simulation.scenes import COPY, DUAL_WRITE, HYBRID, NEO4J_ONLY, SHADOW, Build, Plot, Scene

SEEDS = int(os.environ.get("SEGUE_SIMULATION_SEEDS", "200"))
"""How many runs of each plot; `make simulate` makes many more."""

BLOCKS = 5

FORWARD = (DUAL_WRITE, COPY, SHADOW, HYBRID)

PLOTS = {
    "copy": Plot(),
    "modes": Plot(begins=NEO4J_ONLY, itinerary=FORWARD, writes=(1, 1), searches=(2,), mixed=True),
    "back-and-forward": Plot(
        begins=NEO4J_ONLY, itinerary=(*FORWARD, NEO4J_ONLY, *FORWARD), writes=(1,), searches=(2,), relays=1, keys=("a", "b")
    ),
    "fence": Plot(begins=HYBRID, itinerary=(), writes=(4,), searches=(6,), keys=("a", "b")),
    "hurry": Plot(
        budget=(0, 2, 1, 1, 2),
        begins=HYBRID,
        itinerary=(),
        writes=(2,),
        searches=(5,),
        relays=1,
        likelier={"tick": 2},
        lease=1000,
    ),
    "ranks": Plot(
        begins=HYBRID, itinerary=(), keys=("a", "b"), fixed_keys=True, writes=(3,), searches=(5,), k=1, margin=1, ranked=True
    ),
    "no-margin": Plot(
        begins=HYBRID, itinerary=(), keys=("a", "b"), fixed_keys=True, writes=(3,), searches=(5,), k=1, margin=0, ranked=True
    ),
}
"""The scenes in which nothing may go wrong: the copy beside writers; all modes forward, with instances that have modes of
their own; back and forward again, with a new copy; searches behind the fence, with time that passes fast, and where a change
changes an item's rank among too few."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("name", PLOTS)
def test_searches_are_right_and_rows_equal_items(name: str, block: int, tmp_path: Path) -> None:
    """Over many seeds no search is too old or goes back, and when writes and faults stop every row equals its item."""
    for seed in range(block, SEEDS, BLOCKS):
        path = tmp_path / f"{seed}.db"
        scene = Scene(PLOTS[name], Build(), Chance(seed), path)

        wrong = scene.play()

        replay = f"SEGUE_SIMULATION_SEED={seed} replays this with -k 'replayed and {name}'"
        assert not wrong, f"{replay}: {wrong}\n" + "\n".join(scene.world.trace[-200:])
        path.unlink(missing_ok=True)


@pytest.mark.skipif("SEGUE_SIMULATION_SEED" not in os.environ, reason="no seed to replay: SEGUE_SIMULATION_SEED")
@pytest.mark.parametrize("name", PLOTS)
def test_one_seed_replayed(name: str, tmp_path: Path) -> None:
    """The seed that a failure named gives the same run again, and its whole trace."""
    scene = Scene(PLOTS[name], Build(), Chance(int(os.environ["SEGUE_SIMULATION_SEED"])), tmp_path / "state.db")
    wrong = scene.play()
    assert not wrong, f"{wrong}\n" + "\n".join(scene.world.trace)


def test_the_scenes_come_to_what_they_are_for(tmp_path: Path) -> None:
    """Among a few seeds Milvus answers in every mode that reads it, processes die and stall, and requests land late."""
    seen: set[str] = set()
    for seed in range(30):
        scene = Scene(PLOTS["modes"], Build(), Chance(seed), tmp_path / f"{seed}.db")
        scene.play()
        trace = "\n".join(scene.world.trace)
        seen |= {sign for sign in ("'milvus')", "'neo4j')", "is killed", "is stopped", "lands late", "sweep") if sign in trace}

    assert seen == {"'milvus')", "'neo4j')", "is killed", "is stopped", "lands late", "sweep"}
