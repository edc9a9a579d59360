"""What an instance acts by: mixtures of modes, epochs it may acknowledge, and its own mode in a file."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segue.errors import ConfigError, StoreUnavailable
from segue.model import Control, FenceTimes, Instance, Observed, StorageMode, StoreName
from segue.stores.memory_control import MemoryControl
from segue.traffic.modes import ModeFollower, OwnMode, View

ONLY, DUAL, SHADOW, HYBRID = StorageMode

MIXTURES = [
    # control, own, reads, marks
    (ONLY, None, ONLY, False),
    (ONLY, ONLY, ONLY, False),
    (ONLY, DUAL, ONLY, True),
    (ONLY, SHADOW, ONLY, True),
    (ONLY, HYBRID, ONLY, True),
    (DUAL, None, DUAL, True),
    (DUAL, ONLY, ONLY, True),
    (DUAL, DUAL, DUAL, True),
    (DUAL, SHADOW, DUAL, True),
    (DUAL, HYBRID, DUAL, True),
    (SHADOW, None, SHADOW, True),
    (SHADOW, ONLY, ONLY, True),
    (SHADOW, DUAL, DUAL, True),
    (SHADOW, SHADOW, SHADOW, True),
    (SHADOW, HYBRID, SHADOW, True),
    (HYBRID, None, HYBRID, True),
    (HYBRID, ONLY, ONLY, True),
    (HYBRID, DUAL, DUAL, True),
    (HYBRID, SHADOW, SHADOW, True),
    (HYBRID, HYBRID, HYBRID, True),
]


class Away(MemoryControl):
    """A control node that does not answer when told so."""

    is_away = False

    def read(self) -> Control:
        if self.is_away:
            message = "away"
            raise StoreUnavailable(message)
        return super().read()

    def renew(self, instance: Instance, seconds: float) -> Control:
        if self.is_away:
            message = "away"
            raise StoreUnavailable(message)
        return super().renew(instance, seconds)

    def leave(self, name: str) -> None:
        if self.is_away:
            message = "away"
            raise StoreUnavailable(message)
        super().leave(name)


class Counted:
    """A `Meter` that remembers what these tests ask for."""

    def __init__(self) -> None:
        self.failures: list[tuple[StoreName, str, str]] = []
        self.acted: list[tuple[int, StorageMode]] = []

    def failed(self, store: StoreName, operation: str, kind: str) -> None:
        self.failures.append((store, operation, kind))

    def acts(self, control: Control, own: StorageMode | None, reads: StorageMode) -> None:
        self.acted.append((control.epoch, reads))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Place:
    """A control node, a clock and one instance."""

    def __init__(self, own: OwnMode | None = None) -> None:
        self.now = 1000.0
        self.node = Away(clock=lambda: self.now)
        self.meter = Counted()
        self.follower = ModeFollower(self.node, own or OwnMode(), "one", "host", self.meter, clock=lambda: self.now)

    def change(self, mode: StorageMode) -> Control:
        control = self.node.change(self.node.read().epoch, mode, times=FenceTimes(), reason="")
        assert control is not None
        return control

    @property
    def acknowledged(self) -> int:
        """The epoch that the instance is registered with."""
        (instance,) = self.node.instances()
        return instance.epoch


class ConfigMap:
    """A file mounted from a ConfigMap, changed as the kubelet does it: a new folder, and a symlink that is swapped."""

    def __init__(self, folder: Path, word: str) -> None:
        self.folder = folder
        self.file = folder / "mode"
        self.changes = 0
        self.swap(word)
        self.file.symlink_to("..data/mode")

    def swap(self, word: str) -> None:
        self.changes += 1
        version = self.folder / f"..2026_11_24_{self.changes}"
        version.mkdir()
        (version / "mode").write_text(word, encoding="utf-8")
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.folder / "..data")


@pytest.mark.parametrize(("control", "own", "reads", "marks"), MIXTURES)
def test_reads_follow_the_lower_mode_and_writes_the_higher(
    control: StorageMode, own: StorageMode | None, reads: StorageMode, marks: bool
) -> None:
    """Milvus answers only where both agree; a write is marked when either says so."""
    view = View(Control(mode=control), own)
    assert (view.reads, view.marks) == (reads, marks)


def test_the_table_of_mixtures_is_whole() -> None:
    """Four modes of the control node, each with four own ones and none."""
    assert Counter((control, own) for control, own, _, _ in MIXTURES) == Counter(
        (control, own) for control in StorageMode for own in (None, *StorageMode)
    )


def test_before_the_first_look_neo4j_answers() -> None:
    """Whatever the control node says, an instance that has not looked reads Neo4j."""
    place = Place(OwnMode(HYBRID))
    place.change(DUAL)
    assert place.follower.view == View(Control(), HYBRID)
    assert place.follower.view.reads is ONLY


def test_a_look_registers_adopts_and_acknowledges() -> None:
    """One look is enough when nothing is in hand; the meter hears what the instance acts by."""
    place = Place(OwnMode(SHADOW))
    control = place.change(DUAL)
    place.change(HYBRID)

    place.follower.look()

    assert place.node.instances() == [Instance("one", "host", SHADOW, control.epoch + 1)]
    assert place.follower.view.reads is SHADOW
    assert place.meter.acted == [(control.epoch + 1, SHADOW)]


def test_an_operation_of_an_older_epoch_holds_the_acknowledgement_back() -> None:
    """The new mode is acted by at once, and acknowledged by the first look after the last older operation ended."""
    place = Place()
    place.change(DUAL)
    place.follower.look()
    older, another, newer = (place.follower.acting() for _ in range(3))
    older.__enter__()
    another.__enter__()
    place.change(SHADOW)

    place.follower.look()
    assert place.follower.view.control.mode is SHADOW
    assert place.acknowledged == 1

    assert newer.__enter__().control.epoch == 2
    older.__exit__(None, None, None)
    place.follower.look()
    assert place.acknowledged == 1

    another.__exit__(None, None, None)
    place.follower.look()
    assert place.acknowledged == 2
    newer.__exit__(None, None, None)


def test_epochs_in_hand_are_told_apart() -> None:
    """With operations of two older epochs in hand, the oldest one decides."""
    place = Place()
    with place.follower.acting():
        place.change(DUAL)
        place.follower.look()
        with place.follower.acting():
            place.change(SHADOW)
            place.follower.look()
            assert place.acknowledged == 0
    with place.follower.acting():
        place.follower.look()
        assert place.acknowledged == 2


def test_an_operation_that_fails_is_no_longer_in_hand() -> None:
    """An error within it ends it like any other end."""
    place = Place()
    message = "theirs"
    with pytest.raises(RuntimeError, match=message), place.follower.acting():
        raise RuntimeError(message)
    place.change(DUAL)
    place.follower.look()
    assert place.acknowledged == 1


def test_a_newer_control_node_seen_on_the_way_is_adopted_at_once() -> None:
    """What a search reads need not wait for the next look; an older one changes nothing, and nothing is acknowledged by it."""
    place = Place(OwnMode(SHADOW))
    place.change(SHADOW)
    place.follower.look()
    newest = place.change(ONLY)

    place.follower.saw(newest)
    assert place.follower.view == View(newest, SHADOW)
    assert place.acknowledged == 1

    place.follower.saw(Control(mode=HYBRID, epoch=1))
    assert place.follower.view.control == newest


def test_a_look_does_not_undo_what_was_seen_during_it() -> None:
    """A search may see the next epoch while a look has read the one before, and not returned yet."""
    place = Place()
    place.change(DUAL)
    place.follower.look()

    def meanwhile(step: str) -> None:
        if step == "the control node is read":
            place.node._pause = lambda _: None
            place.follower.saw(place.change(ONLY))

    place.node._pause = meanwhile
    place.follower.look()
    assert place.follower.view.control.epoch == 2


def test_a_control_node_that_was_restored_is_followed() -> None:
    """After a restore of Neo4j the epoch may be lower; it is what everybody acts by all the same."""
    place = Place()
    for mode in (DUAL, SHADOW, HYBRID):
        place.change(mode)
    place.follower.look()
    place.node._control = Control(mode=DUAL, epoch=1)

    place.follower.look()
    assert place.follower.view.control.mode is DUAL
    assert place.acknowledged == 1


def test_neo4j_away_changes_nothing() -> None:
    """The failure is counted and the view stays; the registration lapses, and the next look that succeeds brings it back."""
    place = Place()
    place.change(HYBRID)
    place.follower.look()
    view = place.follower.view
    place.node.is_away = True

    place.now += 15.0
    place.follower.look()
    assert place.meter.failures == [(StoreName.NEO4J, "control", "StoreUnavailable")]
    assert place.follower.view == view
    assert place.node.instances() == []

    place.node.is_away = False
    place.follower.look()
    assert [instance.name for instance in place.node.instances()] == ["one"]


def test_what_was_observed_goes_along_with_renewals_and_last_of_all() -> None:
    """Every third of the registration's time, with no write of its own in between; what came since is told when leaving."""
    place = Place()
    control = place.change(SHADOW)
    compared = 0
    place.follower = ModeFollower(
        place.node,
        OwnMode(),
        "one",
        "host",
        place.meter,
        observed=lambda: (control.epoch, Observed(compared, compared * 1.0, compared, 0)),
        clock=lambda: place.now,
    )
    place.follower.look()
    compared = 7
    place.follower.look()
    assert place.node.observed().compared == 0
    place.now += 5.0
    place.follower.look()
    assert place.node.observed().compared == 7
    compared = 9
    place.follower.leave()
    assert (place.node.observed().compared, place.node.instances()) == (9, [])
    compared = 11
    place.follower.leave()
    assert place.node.observed().compared == 9, "an instance that left does not come back"


def test_leaving_takes_the_registration_out() -> None:
    """Nobody waits for an instance that left; when Neo4j is away, that is counted and no error."""
    place = Place()
    place.follower.look()
    place.follower.leave()
    assert place.node.instances() == []
    place.node.is_away = True
    place.follower.leave()
    assert place.meter.failures == [(StoreName.NEO4J, "control", "StoreUnavailable")]


def test_acting_costs_microseconds() -> None:
    """It stands in every search's way."""
    follower = Place().follower
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            with follower.acting():
                pass
        best = min(best, (time.perf_counter() - began) / 100)
    assert best < 50e-6


def test_an_own_mode_in_a_configmap_is_followed(tmp_path: Path) -> None:
    """The kubelet swaps a symlink; the next look acts by the new word and registers it."""
    mounted = ConfigMap(tmp_path, "hybrid\n")
    place = Place(OwnMode(file=mounted.file))
    place.change(HYBRID)
    place.follower.look()
    assert place.follower.view.reads is HYBRID

    mounted.swap("  dual_write ")
    place.follower.look()
    assert place.follower.view.reads is DUAL
    assert place.node.instances()[0].own is DUAL


@pytest.mark.parametrize("content", [b"turbo", b"", b"hybrid dual_write", b"\xff\xfe", None])
def test_an_own_mode_that_becomes_unusable_stays_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    """Unknown, unreadable or missing while running: the last valid mode, one warning that does not repeat the content."""
    file = tmp_path / "mode"
    file.write_text("shadow_milvus", encoding="utf-8")
    own = OwnMode(file=file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    with caplog.at_level(logging.WARNING):
        assert [own.look(), own.look()] == [SHADOW, SHADOW]
    assert [str(file) in record.getMessage() for record in caplog.records] == [True]
    assert "turbo" not in caplog.text

    file.write_text("dual_write", encoding="utf-8")
    assert own.look() is DUAL
    file.unlink()
    own.look()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("content", ["turbo", "", None])
def test_an_unusable_file_at_the_start_is_an_error(tmp_path: Path, content: str | None) -> None:
    """It names the file and the four words, and not what the file holds."""
    file = tmp_path / "mode"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        OwnMode(file=file)
    assert str(file) in refusal.value.message
    assert all(mode in refusal.value.hint for mode in StorageMode)
    assert "turbo" not in refusal.value.message + refusal.value.hint


def test_nothing_is_written_while_nothing_changes() -> None:
    """A registration is renewed when a third of it is over, and at once when there is news; every other look only reads."""
    place = Place()
    place.change(DUAL)
    steps: list[str] = []
    place.node._pause = steps.append

    def written(after: float) -> int:
        place.now += after
        steps.clear()
        place.follower.look()
        return steps.count("renew")

    assert written(0) == 2, "registered, and then with the epoch it has learnt"
    assert [written(0.5) for _ in range(8)] == [0] * 8
    assert written(1.0) == 1
    place.change(ONLY)
    assert written(0.5) == 1
