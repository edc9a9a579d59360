"""A deterministic world for the production code: one thread, one clock, every interleaving chosen by whoever decides.

Processes are greenlets that run the production code; wherever it touches a store it comes back here (`pause`), and a choice
decides who goes on, which request lands, whose reply is lost, who dies, and when time passes. The same choices give the same
run. The first option of every choice is the default: requests land and are answered at once, whoever runs goes on until it
waits, then the next one runs; time passes when all have had their turn; nothing fails; replicas lag as long as they may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from greenlet import greenlet

from segue.errors import StoreTimeout
from simulation.choices import Choices

Action = Callable[[], object]

WAITS_FOR_A_LOCK = "wait for a lock"


STALLS = (8.0, 3.0)
"""How long a stalled process is stopped: longer than marks stay open and leases last, or just as long as the fence may take."""


class Crashed(BaseException):
    """The process is killed here; nothing of it goes on but what the stores already have."""


@dataclass
class Budget:
    """How many faults may still happen.

    Attributes:
        crashes: Processes killed.
        timeouts: Replies to writes that are lost.
        deaths: Of those, requests that never land.
        lost_searches: Searches without an answer.
        stalls: Processes stopped for one of `STALLS`, as by a garbage collector or a hypervisor.
    """

    crashes: int = 2
    timeouts: int = 2
    deaths: int = 1
    lost_searches: int = 1
    stalls: int = 1


@dataclass(eq=False)
class _Process:
    name: str
    start: Callable[[], None]
    run: greenlet
    immortal: bool = False
    waits_for: Callable[[], bool] | None = None
    rests: bool = False
    until: float | None = None
    stalled_until: float = 0.0


@dataclass(eq=False)
class Request:
    """A request on its way to the sink: not landed, landed, or dead; answered or given up.

    Attributes:
        settled_at: When the sender knew, or the sink had it after the sender had given up: from then on its effect must become
            visible. None before.
    """

    apply: Callable[[Request], object]
    sent_at: float
    sender: str
    reads: bool = False
    landed: bool = False
    dead: bool = False
    answered: bool = False
    given_up: bool = False
    settled_at: float | None = None


@dataclass
class World:
    """The scheduler and what it schedules.

    Args:
        choices: Decides everything.
        landing: Z: a request lands or dies within that much time after it was sent.
        budget: The faults that may happen.
    """

    choices: Choices
    landing: float
    budget: Budget = field(default_factory=Budget)
    now: float = 0.0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nobody in the world."""
        self._hub = greenlet.getcurrent()
        self._processes: list[_Process] = []
        self._by_run: dict[greenlet, _Process] = {}
        self._requests: list[Request] = []
        self._births = 0
        self._last: _Process | None = None

    def clock(self) -> float:
        """Return the time; it passes only when the scheduler says so."""
        return self.now

    def pause(
        self, what: str, until: Callable[[], bool] | None = None, *, rests: bool = False, within: float | None = None
    ) -> None:
        """Let others come in between.

        Args:
            what: What happens next.
            until: Go on only when that holds.
            rests: By default others go first, until time has passed.
            within: No more time than that passes meanwhile.
        """
        me = self._by_run.get(greenlet.getcurrent())
        if me is None:
            return
        me.waits_for = until
        me.rests = rests or what == WAITS_FOR_A_LOCK
        me.until = None if within is None else self.now + within
        self.trace.append(f"{me.name}: {what}")
        self._hub.switch()
        me.waits_for, me.rests, me.until = None, False, None

    def sleep(self, seconds: float) -> bool:
        """Wait for time to pass; nobody ever asks to stop here."""
        end = self.now + seconds
        self.pause(f"sleep until {end:g}", lambda: self.now >= end)
        return False

    def running(self) -> str:
        """Return the name of the process that runs now; empty when none does."""
        me = self._by_run.get(greenlet.getcurrent())
        return me.name if me else ""

    def choose(self, what: str, options: int) -> int:
        """Choose among options, of which the first, the stalest, is the default."""
        if options == 1:
            return 0
        chosen = self.choices.pick([self.choices.weights["stale"], *[1.0] * (options - 1)])
        if chosen:
            self.trace.append(f"{what}: {chosen} of {options}")
        return chosen

    def spawn(self, name: str, body: Callable[[str], None], *, immortal: bool = False) -> None:
        """Start a process; when it is killed it is started again under a new name.

        Args:
            name: What it is.
            body: What it does, given the name of this life.
            immortal: Whether it is never killed.
        """
        self._births += 1
        life = f"{name}#{self._births}"
        run = greenlet(lambda: body(life))
        process = _Process(life, partial(self.spawn, name, body, immortal=immortal), run, immortal=immortal)
        self._processes.append(process)
        self._by_run[run] = process

    def run(self, *, until: Callable[[], bool], most: int = 20_000) -> bool:
        """Schedule until the condition holds and nothing is on its way; false when it did not within `most` steps."""
        try:
            for _ in range(most):
                if until() and not self._flying():
                    return True
                self._step()
            return False
        finally:
            self._end()

    def request(self, apply: Callable[[Request], object], *, reads: bool = False) -> Request:
        """Put a request on its way."""
        request = Request(apply, self.now, self.running(), reads)
        self._requests.append(request)
        return request

    def answer_to(self, request: Request) -> None:
        """Wait for the answer to a request.

        Raises:
            StoreTimeout: The scheduler decided that it does not come; the request may still land.
        """
        self.pause("wait for the sink", lambda: request.answered or request.given_up)
        if request.given_up:
            message = "no answer"
            raise StoreTimeout(message)

    # --- choices, the default first

    def _step(self) -> None:
        weights = self.choices.weights
        forced = self._flying_too_long()
        ranked: list[tuple[int, float, Action]] = []
        for place, process in enumerate(self._in_turn()):
            if self.now >= process.stalled_until and (process.waits_for is None or process.waits_for()):
                rank = 5 if process.rests else 1 if place == 0 and process is self._last else 2
                ranked.append((rank, weights["run"], partial(self._resume, process)))
        self._requests = [one for one in self._requests if not (one.dead or (one.landed and (one.answered or one.given_up)))]
        for request in self._requests:
            if not request.landed:
                late = request.given_up
                rank = (3 if forced else 6) if late else 0
                ranked.append((rank, weights["land late" if late else "land"], partial(self._land, request)))
            elif not request.answered:
                ranked.append((0, weights["answer"], partial(self._answer, request)))
        ranked += [(7, weight, action) for weight, action in self._faults()]
        if not forced and not any(process.until is not None and self.now + 1 > process.until for process in self._processes):
            ranked.append((4, weights["tick"], self._tick))
        ranked.sort(key=lambda one: one[0])
        ranked[self.choices.pick([weight for _, weight, _ in ranked])][2]()

    def _in_turn(self) -> list[_Process]:
        """Return the processes, who ran last first, then round."""
        if self._last not in self._processes:
            return self._processes
        place = self._processes.index(self._last)
        return [*self._processes[place:], *self._processes[:place]]

    def _faults(self) -> list[tuple[float, Action]]:
        faults: list[tuple[float, Action]] = []
        weights, budget = self.choices.weights, self.budget
        if budget.crashes:
            mortal = [process for process in self._processes if not process.immortal]
            faults += [(weights["crash"], partial(self._crash, process)) for process in mortal]
        if budget.stalls:
            able = [one for one in self._processes if one.until is None and one.run and self.now >= one.stalled_until]
            faults += [(weights["stall"], partial(self._stall, process, seconds)) for process in able for seconds in STALLS]
        for request in self._requests:
            lost = budget.lost_searches if request.reads else budget.timeouts
            if lost and not request.answered and not request.given_up:
                faults.append((weights["give up"], partial(self._give_up, request)))
            if budget.deaths and request.given_up and not request.landed:
                faults.append((weights["die"], partial(self._die, request)))
        return faults

    def _flying(self) -> list[Request]:
        return [request for request in self._requests if not request.landed and not request.dead]

    def _flying_too_long(self) -> bool:
        return any(self.now + 1 >= request.sent_at + self.landing for request in self._flying())

    # --- what may happen

    def _tick(self) -> None:
        self.now += 1
        self.trace.append(f"time is {self.now:g}")
        for process in self._processes:
            process.rests = False

    def _resume(self, process: _Process) -> None:
        self._last = process
        process.run.switch()
        if process.run.dead:
            self._remove(process)

    def _land(self, request: Request) -> None:
        self.trace.append("a request lands" + (" late" if request.given_up else ""))
        request.apply(request)
        request.landed = True
        if request.given_up:
            request.settled_at = self.now

    def _answer(self, request: Request) -> None:
        request.answered, request.settled_at = True, self.now

    def _give_up(self, request: Request) -> None:
        self.trace.append("a reply is given up")
        if request.reads:
            self.budget.lost_searches -= 1
        else:
            self.budget.timeouts -= 1
        self._orphan(request)

    def _orphan(self, request: Request) -> None:
        """Nobody waits for the answer any more; a write may land all the same."""
        request.given_up = True
        request.dead = request.reads
        if request.landed:
            request.settled_at = self.now

    def _die(self, request: Request) -> None:
        self.budget.deaths -= 1
        self.trace.append("a request dies")
        request.dead = True

    def _crash(self, process: _Process) -> None:
        self.budget.crashes -= 1
        self.trace.append(f"{process.name} is killed")
        self._unwind(process)
        self._remove(process)
        for request in self._requests:
            if request.sender == process.name and not request.answered and not request.given_up:
                self._orphan(request)
        process.start()

    def _stall(self, process: _Process, seconds: float) -> None:
        self.budget.stalls -= 1
        self.trace.append(f"{process.name} is stopped for {seconds:g} s")
        process.stalled_until = self.now + seconds

    def _unwind(self, process: _Process) -> None:
        if process.run:  # It has begun: unwind it where it stands.
            with contextlib.suppress(Crashed):
                process.run.throw(Crashed)

    def _remove(self, process: _Process) -> None:
        self._processes.remove(process)
        del self._by_run[process.run]

    def _end(self) -> None:
        """Unwind whoever is still there, so that nothing of this world is left behind."""
        for process in list(self._processes):
            self._unwind(process)
            self._remove(process)
