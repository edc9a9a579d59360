"""A deterministic world for the production code: one thread, one clock, every interleaving chosen by a seed.

Processes are greenlets that run the production code; wherever it touches a store it comes back here (`pause`), and the seed
decides who goes on, which request lands, whose reply is lost, who dies, and when time passes. The same seed gives the same run.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from greenlet import greenlet

from segue.errors import StoreTimeout
from segue.model import Key, Layout, Rows
from segue.pipelines.layouts import VERSION_FIELD
from segue.ports import IndexProgress


class Crashed(BaseException):
    """The process is killed here; nothing of it goes on but what the stores already have."""


@dataclass
class Budget:
    """How many faults may still happen."""

    crashes: int = 2
    timeouts: int = 2
    deaths: int = 1


@dataclass
class _Process:
    name: str
    start: Callable[[], None]
    run: greenlet
    waits_for: Callable[[], bool] | None = None
    immortal: bool = False


@dataclass(eq=False)
class _Request:
    """A write on its way to the sink: not landed, landed, or dead; answered or given up."""

    apply: Callable[[], None]
    sent_at: float
    landed: bool = False
    dead: bool = False
    answered: bool = False
    given_up: bool = False


@dataclass
class World:
    """The scheduler and what it schedules.

    Args:
        seed: Decides everything.
        landing: Z: a request lands or dies within that much time after it was sent.
        budget: The faults that may happen.
    """

    seed: int
    landing: float
    budget: Budget = field(default_factory=Budget)
    now: float = 0.0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nobody in the world."""
        self._random = random.Random(self.seed)
        self._hub = greenlet.getcurrent()
        self._processes: list[_Process] = []
        self._requests: list[_Request] = []
        self._births = 0
        # Each seed has a temperament, so that rare orders are rare in few seeds only.
        choose = self._random.choice
        self._weights = {
            "run": 6.0,
            "land": choose((1.0, 6.0)),
            "land late": choose((0.05, 0.3, 3.0)),
            "answer": choose((2.0, 8.0)),
            "tick": choose((0.2, 0.7, 2.0)),
            "crash": choose((0.05, 0.5)),
            "give up": choose((0.5, 4.0)),
            "die": 0.3,
        }

    def clock(self) -> float:
        """Return the time; it passes only when the scheduler says so."""
        return self.now

    def pause(self, what: str, until: Callable[[], bool] | None = None) -> None:
        """Let others come in between, before `what` happens; go on when `until` holds."""
        me = self._current()
        if me is None:
            return
        me.waits_for = until
        self.trace.append(f"{me.name}: {what}")
        self._hub.switch()
        me.waits_for = None

    def sleep(self, seconds: float) -> bool:
        """Wait for time to pass; nobody ever asks to stop here."""
        end = self.now + seconds
        self.pause(f"sleep until {end:g}", lambda: self.now >= end)
        return False

    def spawn(self, name: str, body: Callable[[str], None], *, immortal: bool = False) -> None:
        """Start a process; when it is killed, or gives up, it is started again under a new name.

        Args:
            name: What it is.
            body: What it does, given the name of this life.
            immortal: Whether it is never killed.
        """
        self._births += 1
        life = f"{name}#{self._births}"
        process = _Process(
            life, lambda: self.spawn(name, body, immortal=immortal), greenlet(lambda: body(life)), immortal=immortal
        )
        self._processes.append(process)

    def run(self, *, until: Callable[[], bool], most: int = 20_000) -> bool:
        """Schedule until the condition holds and nothing is on its way; false when it did not within `most` steps."""
        for _ in range(most):
            if until() and not self._flying():
                return True
            self._step()
        return False

    def request(self, apply: Callable[[], None]) -> _Request:
        """Put a write on its way."""
        request = _Request(apply, self.now)
        self._requests.append(request)
        return request

    def answer_to(self, request: _Request) -> None:
        """Wait for the answer to a request.

        Raises:
            StoreTimeout: The scheduler decided that it does not come; the request may still land.
        """
        self.pause("wait for the sink", lambda: request.answered or request.given_up)
        if request.given_up:
            message = "no answer"
            raise StoreTimeout(message)

    def _step(self) -> None:
        actions = [*self._runnable(), *self._network(), *self._faults()]
        if not self._flying_too_long():
            actions.append((self._weights["tick"], self._tick))
        weights = [weight for weight, _ in actions]
        _, action = self._random.choices(actions, weights)[0]
        action()

    def _runnable(self) -> list[tuple[float, Callable[[], None]]]:
        ready = [process for process in self._processes if process.waits_for is None or process.waits_for()]
        return [(self._weights["run"], lambda process=process: self._resume(process)) for process in ready]  # type: ignore[misc]

    def _network(self) -> list[tuple[float, Callable[[], None]]]:
        landing = [
            (self._weights["land late" if request.given_up else "land"], lambda request=request: self._land(request))  # type: ignore[misc]
            for request in self._flying()
        ]
        answering = [
            (self._weights["answer"], lambda request=request: setattr(request, "answered", True))  # type: ignore[misc]
            for request in self._requests
            if request.landed and not request.answered and not request.given_up
        ]
        return [*landing, *answering]

    def _faults(self) -> list[tuple[float, Callable[[], None]]]:
        faults: list[tuple[float, Callable[[], None]]] = []
        if self.budget.crashes:
            mortal = [process for process in self._processes if not process.immortal]
            faults += [(self._weights["crash"], lambda process=process: self._crash(process)) for process in mortal]  # type: ignore[misc]
        if self.budget.timeouts:
            waiting = [request for request in self._requests if not request.answered and not request.given_up]
            faults += [(self._weights["give up"], lambda request=request: self._give_up(request)) for request in waiting]  # type: ignore[misc]
        if self.budget.deaths:
            faults += [
                (self._weights["die"], lambda request=request: self._die(request))
                for request in self._flying()
                if request.given_up
            ]  # type: ignore[misc]
        return faults

    def _flying(self) -> list[_Request]:
        return [request for request in self._requests if not request.landed and not request.dead]

    def _flying_too_long(self) -> bool:
        return any(self.now + 1 >= request.sent_at + self.landing for request in self._flying())

    def _tick(self) -> None:
        self.now += 1
        self.trace.append(f"time is {self.now:g}")

    def _resume(self, process: _Process) -> None:
        process.run.switch()
        if process.run.dead:
            self._processes.remove(process)

    def _land(self, request: _Request) -> None:
        self.trace.append("a request lands" + (" late" if request.given_up else ""))
        request.apply()
        request.landed = True

    def _give_up(self, request: _Request) -> None:
        self.budget.timeouts -= 1
        self.trace.append("a reply is given up")
        request.given_up = True

    def _die(self, request: _Request) -> None:
        self.budget.deaths -= 1
        self.trace.append("a request dies")
        request.dead = True

    def _crash(self, process: _Process) -> None:
        self.budget.crashes -= 1
        self.trace.append(f"{process.name} is killed")
        self._processes.remove(process)
        if process.run:  # It has begun: unwind it where it stands.
            with contextlib.suppress(Crashed):
                process.run.throw(Crashed)
        process.start()

    def _current(self) -> _Process | None:
        me = greenlet.getcurrent()
        return next((process for process in self._processes if process.run is me), None)


class Network:
    """The sink, behind a network that loses replies and delivers late. A `Sink` for the protocol's purposes.

    Rows are kept as the vector's bytes and the token they were written under.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: dict[Key, tuple[bytes, str]] = {}

    def find(self, layout: Layout) -> str | None:
        """There is always the one collection."""
        return layout.name

    def create(self, layout: Layout) -> str:
        """There is always the one collection."""
        return layout.name

    def upsert(self, layout: Layout, rows: Rows) -> _Reply:
        """Put an upsert on its way."""
        del layout
        versions = rows.columns[VERSION_FIELD]
        new = {key: (rows.vectors[place].tobytes(), versions[place]) for place, key in enumerate(rows.keys)}
        return self._send("upsert", lambda: self.rows.update(new))

    def delete(self, layout: Layout, keys: Sequence[Key]) -> _Reply:
        """Put a delete on its way."""
        del layout
        gone = list(keys)
        return self._send("delete", lambda: [self.rows.pop(key, None) for key in gone])

    def index(self, layout: Layout) -> None:
        """Nothing is searched here."""

    def index_progress(self, layout: Layout) -> IndexProgress:
        """Nothing is searched here."""
        return IndexProgress(0, 0, done=True)

    def load(self, layout: Layout) -> None:
        """Nothing is searched here."""

    def count(self, layout: Layout) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def _send(self, what: str, apply: Callable[[], Any]) -> _Reply:
        self._world.pause(f"send {what}")
        return _Reply(self._world, self._world.request(apply))


class _Reply:
    def __init__(self, world: World, request: _Request) -> None:
        self._world = world
        self._request = request

    def result(self) -> None:
        self._world.answer_to(self._request)


def equal(rows: Mapping[Key, tuple[bytes, str]], items: Mapping[Key, Sequence[Any]]) -> list[str]:
    """Return, in words, every key whose row is not its item."""
    wrong = []
    for key in sorted(rows.keys() | items.keys(), key=str):
        wanted = np.asarray(items[key][0], dtype="<f4").tobytes() if key in items else None
        held = rows[key][0] if key in rows else None
        if wanted != held:
            wrong.append(f"{key}: item {items.get(key)}, row {np.frombuffer(held, '<f4') if held else None}")
    return wrong
