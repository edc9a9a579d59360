"""The control node in memory, for tests and the simulation.

Each transaction is atomic, as Neo4j's lock on one node makes it; `pause` is called before it and before its reply is known,
where others may come in between. Transactions of the application, a trigger and a copy are noted by whoever plays them.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segue.model import (
    STATIC,
    Control,
    EventKind,
    FenceTimes,
    Instance,
    Observed,
    Preflighted,
    Searched,
    StorageMode,
    Validated,
    mode_changed,
)
from segue.stores.memory_journal import MemoryJournal


@dataclass(frozen=True, slots=True)
class _Registered:
    instance: Instance
    until: float


class MemoryControl:
    """The `ControlNode` of one collection. Usable from several threads.

    Args:
        clock: The database's clock, in seconds.
        pause: Called where others may come in between, with what is about to happen.

    Attributes:
        open_transactions: The application's transactions that are open now; theirs to keep.
        journal: Where changes are recorded.
    """

    def __init__(self, *, clock: Callable[[], float], pause: Callable[[str], None] = lambda _: None) -> None:
        self.open_transactions: set[str] = set()
        self.journal = MemoryJournal(clock)
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._control = Control()
        self._trigger: str | None = None
        self._library: str | None = None
        self._copied_at: float | None = None
        self._changed_at: float | None = None
        self._validated_at = self._searched_at = self._preflight_at = 0.0
        self._registered: dict[str, _Registered] = {}
        self._tokens = itertools.count(1)

    # --- what others write into the node

    def triggered(self, *, is_installed: bool) -> str | None:
        """Note that a trigger captures from now on, or that it does not; return its token."""
        with self._lock:
            self._trigger = f"trigger-{next(self._tokens)}" if is_installed else None
            return self._trigger

    def copy_ended(self, capture: str) -> None:
        """Note a copy made under this capture as complete."""
        with self._lock:
            self._control = replace(self._control, copied=capture)
            self._copied_at = self._clock()

    def now(self) -> Control:
        """Return the node as a query that reads it among other things sees it."""
        with self._lock:
            return self._shown()

    # --- ControlNode

    def read(self) -> Control:
        """See `ControlNode`."""
        self._pause("read the control node")
        with self._lock:
            shown = self._shown()
        self._pause("the control node is read")
        return shown

    def change(
        self, expected_epoch: int, mode: StorageMode, *, times: FenceTimes, reason: str, overridden: Sequence[str] = ()
    ) -> Control | None:
        """See `ControlNode`."""
        self._pause("change the mode")
        with self._lock:
            now = self._control
            if now.epoch != expected_epoch:
                return None
            kept = now.times if mode.reads_milvus else times
            self._control = replace(now, mode=mode, epoch=now.epoch + 1, times=kept, reason=reason)
            self._changed_at = self._clock()
            self.journal.record(EventKind.MODE, *mode_changed(now.mode, mode, now.epoch + 1, reason, overridden))
            if not mode.marks:
                self._library = None
                if self._trigger is None and now.copied == STATIC:
                    self._control, self._copied_at = replace(self._control, copied=None), None
            changed = self._shown()
        self._pause("the mode is changed")
        return changed

    def reset(self, *, times: FenceTimes, reason: str) -> Control:
        """See `ControlNode`."""
        while True:
            changed = self.change(self.now().epoch, StorageMode.NEO4J_ONLY, times=times, reason=reason)
            if changed is not None:
                return changed

    def captured(self, epoch: int) -> Control:
        """See `ControlNode`."""
        self._pause("note the capture")
        with self._lock:
            now = self._control
            if now.epoch == epoch and now.mode.marks and self._trigger is None and self._library is None:
                self._library = f"library-{next(self._tokens)}"
            return self._shown()

    def uncopied(self) -> None:
        """See `ControlNode`."""
        self._pause("forget the copy")
        with self._lock:
            self._control, self._copied_at = replace(self._control, copied=None), None

    def validated(self, validated: Validated) -> None:
        """See `ControlNode`."""
        self._pause("note a validation")
        with self._lock:
            if self._control.epoch or self._control.copied:
                self._control = replace(self._control, validated=validated)
                self._validated_at = self._clock() - validated.seconds_ago

    def searched(self, searched: Searched) -> None:
        """See `ControlNode`."""
        self._pause("note a search check")
        with self._lock:
            if self._control.epoch or self._control.copied:
                self._control = replace(self._control, searched=searched)
                self._searched_at = self._clock() - searched.seconds_ago

    def preflighted(self, preflight: Preflighted) -> None:
        """See `ControlNode`."""
        self._pause("note a preflight")
        with self._lock:
            now = self._control
            if preflight.passed or now.epoch or now.copied or now.preflight:
                self._control = replace(now, preflight=preflight)
                self._preflight_at = self._clock() - preflight.seconds_ago

    def renew(self, instance: Instance, seconds: float) -> Control:
        """See `ControlNode`."""
        self._pause("renew")
        with self._lock:
            now = self._clock()
            self._registered = {
                name: one for name, one in self._registered.items() if one.until >= now - 10 * seconds or self._counts(one)
            }
            self._registered[instance.name] = _Registered(instance, now + seconds)
            shown = self._shown()
        self._pause("renewed")
        return shown

    def leave(self, name: str) -> None:
        """See `ControlNode`."""
        self._pause("leave")
        with self._lock:
            one = self._registered.pop(name, None)
            if one is not None and self._counts(one):
                self._registered[name] = replace(one, until=-math.inf)

    def observed(self) -> Observed:
        """See `ControlNode`."""
        self._pause("add up what was observed")
        with self._lock:
            seen = [one.instance.observed for one in self._registered.values() if self._counts(one)]
        return Observed(
            sum(one.compared for one in seen),
            sum(one.overlap for one in seen),
            sum(one.answers for one in seen),
            sum(one.failed for one in seen),
        )

    def instances(self) -> list[Instance]:
        """See `ControlNode`."""
        self._pause("list the instances")
        with self._lock:
            live = [one.instance for one in self._registered.values() if one.until > self._clock()]
            return sorted(live, key=lambda instance: instance.name)

    def transactions(self) -> frozenset[str]:
        """See `ControlNode`."""
        self._pause("list the transactions")
        return frozenset(self.open_transactions)

    def _counts(self, one: _Registered) -> bool:
        seen = one.instance.observed
        return one.instance.observed_epoch == self._control.epoch and seen.compared + seen.answers > 0

    def _shown(self) -> Control:
        now = self._clock()
        control = self._control
        validated, searched, preflight = control.validated, control.searched, control.preflight
        return replace(
            self._control,
            validated=validated and replace(validated, seconds_ago=now - self._validated_at),
            searched=searched and replace(searched, seconds_ago=now - self._searched_at),
            preflight=preflight and replace(preflight, seconds_ago=now - self._preflight_at),
            capture=self._trigger or self._library,
            copied_seconds_ago=None if self._copied_at is None else now - self._copied_at,
            changed_seconds_ago=None if self._changed_at is None else now - self._changed_at,
        )
