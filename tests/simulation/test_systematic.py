"""Small scenes, played in every order that departs from the default one a few times: what no seed need find by luck."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulation.choices import Script, explore
from simulation.scenes import COPY, DUAL_WRITE, HYBRID, NEO4J_ONLY, Build, Plot, Scene

SCHEDULES = int(os.environ.get("SEGUE_SIMULATION_SCHEDULES", "0"))
"""How many schedules of each scene are run, those with two departures after all with one; 0 runs just those with one."""

LEAST = 250
"""A scene with fewer schedules would have stopped exploring."""

SMALL = {
    "fence": Plot(
        begins=HYBRID, itinerary=(), keys=("a",), existing=1, writes=((("a", True),),), searches=(3,), relays=1, skewed=False
    ),
    "fence-of-a-deleted-item": Plot(
        begins=HYBRID, itinerary=(), keys=("a",), existing=1, writes=((("a", False),),), searches=(3,), relays=1, skewed=False
    ),
    "two-writes": Plot(
        begins=HYBRID,
        itinerary=(),
        keys=("a",),
        existing=1,
        writes=((("a", False), ("a", True)),),
        searches=(2,),
        relays=1,
        skewed=False,
    ),
    "two-relays": Plot(
        begins=DUAL_WRITE, itinerary=(), keys=("a",), existing=1, writes=((("a", True), ("a", False)),), relays=2, skewed=False
    ),
    "copy": Plot(keys=("a",), existing=1, itinerary=(COPY,), writes=((("a", True),),), relays=1, skewed=False),
    "barrier": Plot(
        begins=NEO4J_ONLY,
        itinerary=(DUAL_WRITE, COPY),
        keys=("a",),
        existing=1,
        writes=((("a", True),),),
        relays=1,
        skewed=False,
    ),
}
"""One key, one or two writes, one relay or two, a few searches; crashes, lost replies and stalls are departures too."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", SMALL)
def test_no_schedule_near_the_default_one_goes_wrong(name: str, tmp_path: Path) -> None:
    """Every schedule with one departure, or two, ends with searches that are right and rows that equal their items."""
    path = tmp_path / "state.db"

    def play(script: Script) -> list[str]:
        path.unlink(missing_ok=True)
        return Scene(SMALL[name], Build(), script, path).play()

    explored = explore(play, departures=2 if SCHEDULES else 1, most=SCHEDULES or None)

    assert not explored.wrong, f"departures {explored.departures}: {explored.wrong}"
    assert explored.runs > LEAST
