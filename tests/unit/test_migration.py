"""Which mode may follow which, and what each gate says, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segue.migration import PHASES, Standing, Terms, closed, following, gate_names, gates_before, highest, reachable
from segue.model import STATIC, Budget, Control, Depth, FenceTimes, Observed, Searched, StorageMode, Validated
from segue.ports import Backlog

ONLY, DUAL, SHADOW, HYBRID = StorageMode
CLEAN = Backlog(open=9, dirty=0, tainted=0, oldest_seconds=0.0)
TIMES = FenceTimes(visible=5.0)


WELL = Observed(compared=200, overlap=180.0, answers=1_000, failed=50)
"""Shadow reads as they must be before hybrid."""


def standing(control: Control, backlog: Backlog = CLEAN) -> Standing:
    """Return how a collection stands, in `dual_write` unless said otherwise."""
    return Standing("films", control, backlog, WELL, Terms(TIMES))


def test_phases_are_the_modes_in_order() -> None:
    """Every mode has one phase, in the order of the migration."""
    assert [phase.mode for phase in PHASES] == list(StorageMode)
    assert [following(mode) for mode in StorageMode] == [DUAL, SHADOW, HYBRID, None]


@pytest.mark.parametrize(
    ("mode", "others"),
    [(ONLY, {DUAL}), (DUAL, {ONLY, SHADOW}), (SHADOW, {ONLY, DUAL, HYBRID}), (HYBRID, {ONLY, SHADOW})],
)
def test_only_neighbours_and_neo4j_only_are_reachable(mode: StorageMode, others: set[StorageMode]) -> None:
    """Forward to the next one, back to the one before, and to the beginning from everywhere."""
    assert set(reachable(mode)) == others


CHECKED = Validated(1, Depth.SAMPLE, clean=True, rate=1.0, digest="", sink_digest="", seconds_ago=60.0)


def copied(
    under: str | None,
    *,
    capture: str | None = "t",
    ago: float = 60.0,
    changed: float = 60.0,
    checked: Validated | None = CHECKED,
) -> Control:
    """Return a control node in `dual_write` with a complete copy that was validated."""
    return Control(
        DUAL, 1, capture=capture, copied=under, copied_seconds_ago=ago, changed_seconds_ago=changed, validated=checked
    )


GOOD = copied("t", ago=5.0, changed=TIMES.window)


@pytest.mark.parametrize(
    ("control", "backlog", "shut", "words", "command"),
    [
        (GOOD, CLEAN, [], "", ""),
        (copied(STATIC), CLEAN, [], "", ""),
        (
            Control(DUAL, 1, capture="t", validated=CHECKED),
            CLEAN,
            ["backfill", "visible"],
            "no copy is complete",
            "segue migrate-embeddings --collection films",
        ),
        (
            copied("t", capture=None),
            CLEAN,
            ["backfill"],
            "barrier",
            "segue mode set dual_write --collection films",
        ),
        (
            copied(STATIC, capture=None),
            CLEAN,
            ["backfill"],
            "barrier",
            "segue mode set dual_write --collection films",
        ),
        (
            copied("older", capture="newer"),
            CLEAN,
            ["backfill"],
            "earlier capture",
            "segue migrate-embeddings --collection films --restart",
        ),
        (
            GOOD,
            Backlog(12, 3, 0, 7.25),
            ["drained"],
            "3 keys are dirty, the oldest for 7.2 s",
            "segue relay --until-drained --collection films",
        ),
        (GOOD, Backlog(12, 0, 2, 0.0), ["drained"], "2 are tainted", "segue relay --until-drained --collection films"),
        (GOOD, Backlog(12, 3, 0, 4.9), [], "", ""),
        (GOOD, Backlog(12, 3, 1, 0.1), ["drained"], "1 are tainted", "segue relay --until-drained --collection films"),
        (
            copied("t", ago=2.0),
            Backlog(12, 3, 0, 3.0),
            ["drained", "visible"],
            "the oldest for 3.0 s",
            "segue relay --until-drained --collection films",
        ),
        (copied("t", ago=4.5), CLEAN, ["visible"], "4.5 s ago", "sleep 1"),
        (copied("t", changed=2.0), CLEAN, ["visible"], "the mode is 2.0 s old", "sleep 5"),
        (
            copied("t", checked=None),
            CLEAN,
            ["validation"],
            "both sides were never compared",
            "segue validate --collection films",
        ),
        (
            copied("t", checked=replace(CHECKED, clean=False, rate=0.995, depth=Depth.FULL)),
            CLEAN,
            ["validation"],
            "the last validation (full, begun 60 s ago in epoch 1) found 99.5000% equal",
            "segue validate --collection films --full --fix",
        ),
    ],
)
def test_gates_before_milvus_is_read(control: Control, backlog: Backlog, shut: list[str], words: str, command: str) -> None:
    """Each closed gate says why, and which command would open it; before hybrid the same ones stand, and one more."""
    seen = gates_before(SHADOW, standing(control, backlog))
    assert [gate.name for gate in seen] == ["backfill", "drained", "visible", "validation"]
    assert [gate.name for gate in closed(seen)] == shut
    if shut:
        assert words in closed(seen)[0].evidence
        assert closed(seen)[0].command == command
    assert gates_before(HYBRID, standing(control, backlog))[:-1] == seen


@pytest.mark.parametrize(
    ("observed", "words", "command"),
    [
        (Observed(), "0 shadow reads were compared in epoch 1; 0 of 0 answers of Milvus failed; 200 are wanted", "shadow_rate"),
        (replace(WELL, compared=199, overlap=199.0), "199 shadow reads were compared", "shadow_rate"),
        (
            replace(WELL, overlap=139.9),
            "Milvus found 70.0% of the nearest known",
            "segue validate --search --collection films",
        ),
        (replace(WELL, failed=51), "51 of 1,000 answers of Milvus failed, more than 5.0%", "segue mode set dual_write"),
    ],
)
def test_hybrid_waits_for_shadow_reads_that_went_well(observed: Observed, words: str, command: str) -> None:
    """Enough of them in this epoch, with enough found and hardly an answer failed; nothing else is asked of them."""
    at = standing(copied("t"))
    (gate,) = closed(gates_before(HYBRID, replace(at, observed=observed)))
    assert gate.name == "shadow"
    assert words in gate.evidence
    assert command in gate.command
    assert closed(gates_before(SHADOW, replace(at, observed=observed))) == []


def test_shadow_reads_are_told_with_their_bound_and_limits_can_be_set() -> None:
    """The evidence has numbers and a bound; budgets other than the default decide otherwise."""
    at = standing(copied("t"))
    gate = gates_before(HYBRID, at)[-1]
    assert gate.holds
    assert gate.evidence == (
        "200 shadow reads were compared in epoch 1: Milvus found 90.0% of the nearest known (with 95 % confidence at least "
        "84.0%); 50 of 1,000 answers of Milvus failed"
    )
    for strict in (Budget(least_reads=201), Budget(least_overlap=0.91), Budget(most_failed=0.049)):
        assert [one.name for one in closed(gates_before(HYBRID, replace(at, terms=Terms(TIMES, budget=strict))))] == ["shadow"]


def test_a_validation_counts_in_its_epoch_before_milvus_is_read() -> None:
    """Of an earlier epoch it says nothing about changes in between; before hybrid only its age counts."""
    later = replace(copied("t"), epoch=2)
    (gate,) = closed(gates_before(SHADOW, standing(later)))
    assert (gate.name, gate.command) == ("validation", "segue validate --collection films")
    assert gate.evidence.endswith("this is epoch 2")
    assert closed(gates_before(HYBRID, standing(later))) == []


def test_a_validation_grows_too_old_for_hybrid() -> None:
    """Up to the configured age it counts; before the first mode that reads Milvus its age does not matter."""
    old = copied("t", checked=replace(CHECKED, seconds_ago=3_601.0))
    within = replace(standing(old), terms=Terms(TIMES, validated_within=3_600.0))
    (gate,) = closed(gates_before(HYBRID, within))
    assert "begun 3,601 s ago" in gate.evidence
    assert gate.evidence.endswith("that is older than 3,600 s")
    assert closed(gates_before(HYBRID, replace(within, terms=Terms(TIMES, validated_within=3_602.0)))) == []
    assert closed(gates_before(SHADOW, within)) == []


def test_a_search_check_that_failed_counts_until_one_holds() -> None:
    """Comparing rows does not see what is wrong with an index; a clean comparison alone does not open the gate again."""
    bad = replace(copied("t"), searched=Searched(1, False, 0.912, 0.97, 0.95, 30.0))
    for mode in (SHADOW, HYBRID):
        (gate,) = closed(gates_before(mode, standing(bad)))
        assert (gate.name, gate.command) == ("validation", "segue validate --collection films --search")
        assert "(begun 30 s ago) Milvus found 91.2% of what is nearest, 95.0% are wanted" in gate.evidence
    unproven = replace(bad, searched=Searched(1, False, 1.0, 1.0, 0.95, 30.0))
    (gate,) = closed(gates_before(SHADOW, standing(unproven)))
    assert gate.evidence.endswith(
        "100.0% of what is nearest, 95.0% are wanted, but too many searches were left without a verdict"
    )
    good = replace(bad, searched=Searched(1, True, 0.97, 0.97, 0.95, 30.0))
    assert closed(gates_before(SHADOW, standing(good))) == []


def test_an_override_lets_only_the_named_gate_pass() -> None:
    """The others stay closed."""
    seen = gates_before(SHADOW, standing(Control(DUAL, 1, capture="t"), Backlog(1, 1, 0, 0.0)))
    assert [gate.name for gate in closed(seen, ["backfill"])] == ["drained", "visible", "validation"]
    assert closed(seen, gate_names()) == []


@pytest.mark.parametrize("wanted", [ONLY, DUAL, SHADOW])
def test_going_back_has_no_gates(wanted: StorageMode) -> None:
    """Neo4j is complete in every mode, whatever is dirty."""
    assert gates_before(wanted, standing(Control(SHADOW, 9), Backlog(5, 5, 5, 99.0))) == []


def test_the_highest_mode_is_deployed_for_several_collections() -> None:
    """It holds none of them down; of none it is the one that protects."""
    assert highest([StorageMode.DUAL_WRITE, StorageMode.HYBRID, StorageMode.NEO4J_ONLY]) is StorageMode.HYBRID
    assert highest([]) is StorageMode.NEO4J_ONLY
