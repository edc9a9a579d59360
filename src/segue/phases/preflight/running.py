"""Runs checks: side by side where they do not need each other, each within its time. Begin reading at `run`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from segue.errors import SegueError
from segue.phases.preflight.check import Check, Finding, Outcome, Room, Store, error, refused

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Looked:
    """A check that was made.

    Attributes:
        check: Which.
        subject: The store or the collection that it was about.
        finding: What it found.
        seconds: How long it took.
    """

    check: Check
    subject: str
    finding: Finding
    seconds: float


Place = tuple[str, str]
"""A check's id and its subject."""


def run(checks: Sequence[Check], room: Room, told: Callable[[Looked], None] = lambda _: None) -> list[Looked]:
    """Make every check for each of its subjects, and return what they found, in the order of the checks.

    A check waits for those that it needs, and is skipped when one of them found an error or was skipped. One that takes longer
    than its time counts as an error, and is not waited for. `told` hears of each as it ends, in this thread.
    """
    wanted = {(check.id, subject): check for check in checks for subject in _subjects(check, room)}
    found: dict[Place, Looked] = {}
    started: dict[Place, float] = {}
    ended: queue.SimpleQueue[tuple[Place, Finding, float]] = queue.SimpleQueue()

    def settle(place: Place, finding: Finding, seconds: float = 0.0) -> None:
        if place not in found:
            found[place] = Looked(wanted[place], place[1], finding, seconds)
            told(found[place])

    def begin(place: Place, check: Check) -> None:
        needs = [need for need in _needs(check, place[1]) if need in wanted]
        lacking = [need for need in needs if need in found and _is_missing(found[need].finding)]
        if lacking:
            settle(place, _skipped(lacking[0], found[lacking[0]].finding))
        elif all(need in found for need in needs) and len(started.keys() - found.keys()) < AT_ONCE:
            started[place] = time.monotonic()
            # A daemon: a store that never answers must not keep the process alive.
            threading.Thread(target=_look, args=(place, check, room, ended), daemon=True).start()

    while len(found) < len(wanted):
        for place, check in wanted.items():
            if place not in found and place not in started:
                begin(place, check)
        with suppress(queue.Empty):
            settle(*ended.get(timeout=0.05))
        for place in _late(wanted, started, found):
            allowed = wanted[place].seconds
            settle(place, error(f"no answer within {allowed:g} s", "Is it overloaded, or the network cut?"), allowed)
    return [found[place] for place in wanted]


def _late(wanted: Mapping[Place, Check], started: Mapping[Place, float], found: Mapping[Place, Looked]) -> list[Place]:
    now = time.monotonic()
    return [place for place in started.keys() - found.keys() if now - started[place] > wanted[place].seconds]


def _look(place: Place, check: Check, room: Room, ended: queue.SimpleQueue[tuple[Place, Finding, float]]) -> None:
    began = time.monotonic()
    try:
        finding = check.look(room, place[1])
    except SegueError as fault:
        finding = refused(fault)
    except Exception as fault:  # noqa: BLE001  # a defect in one check must not hide what the others found
        finding = error(f"the check itself failed: {type(fault).__name__}: {fault}", "This is a defect of Segue.")
    ended.put((place, finding, time.monotonic() - began))


def _subjects(check: Check, room: Room) -> list[str]:
    return [store.value for store in check.stores] if check.stores else list(room.candidates)


def _needs(check: Check, subject: str) -> list[Place]:
    parts = [need.partition(":") for need in check.needs]
    return [(name, store or subject) for name, _, store in parts]


def _is_missing(finding: Finding) -> bool:
    return finding.outcome in (Outcome.ERROR, Outcome.SKIPPED, Outcome.NOT_CONFIGURED)


def _skipped(need: Place, finding: Finding) -> Finding:
    if finding.outcome is Outcome.NOT_CONFIGURED:
        return Finding(Outcome.NOT_CONFIGURED, "not configured")
    return Finding(Outcome.SKIPPED, f"needs {need[0]} of {need[1]}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a preflight came to.

    Attributes:
        looked: Every check, in order.
    """

    looked: Sequence[Looked]

    def errors(self, collection: str | None = None) -> list[Looked]:
        """Return the checks that found an error: of a collection, the stores and the machine, or of everything."""
        return self._with(Outcome.ERROR, collection)

    def warnings(self, collection: str | None = None) -> list[Looked]:
        """Return the checks that warned, of the same."""
        return self._with(Outcome.WARNING, collection)

    def is_ready(self, collection: str | None = None) -> bool:
        """Whether nothing stands in the way of a collection, or of any."""
        return not self.errors(collection)

    def _with(self, outcome: Outcome, collection: str | None) -> list[Looked]:
        concerned = None if collection is None else {collection, *(store.value for store in Store)}
        return [one for one in self.looked if one.finding.outcome is outcome and (not concerned or one.subject in concerned)]

    def worst(self, subject: str) -> Outcome:
        """Return the worst outcome of a subject."""
        order = (Outcome.ERROR, Outcome.SKIPPED, Outcome.WARNING, Outcome.OK, Outcome.NOT_CONFIGURED)
        seen = {one.finding.outcome for one in self.looked if one.subject == subject}
        return next((outcome for outcome in order if outcome in seen), Outcome.NOT_CONFIGURED)

    def facts(self, check: str, subject: str) -> Mapping[str, object]:
        """Return what a check has for programs; empty where it was not made."""
        return next((one.finding.facts for one in self.looked if (one.check.id, one.subject) == (check, subject)), {})
