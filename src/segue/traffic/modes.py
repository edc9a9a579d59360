"""What one instance of the application acts by: the control node and its own mode, followed while it runs.

Owns the rule for mixtures (reads follow the lower mode, writes are marked when either says so) and which epoch an instance may
acknowledge. Makes no thread: somebody calls `ModeFollower.look` about once a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from segue.errors import ConfigError, RetryableError
from segue.model import Control, Instance, Observed, StorageMode, StoreName
from segue.ports import ControlNode, Meter

_log = logging.getLogger(__name__)


class OwnMode:
    """An instance's own mode: a fixed one, one word in a file that is read anew at every look, or none at all.

    Called from one thread.

    Args:
        mode: The fixed one; None for none.
        file: Where to read it instead; its path is opened anew each time, since a mounted ConfigMap is swapped by symlink.

    Raises:
        ConfigError: The file cannot be read, or holds no mode.
    """

    def __init__(self, mode: StorageMode | None = None, *, file: Path | None = None) -> None:
        self._mode = mode
        self._file = file
        self._has_told = False
        if file is not None:
            try:
                self._mode = _mode_in(file)
            except (OSError, ValueError) as fault:
                message = f"the file of this instance's own mode, {file}, {_in_words(fault)}"
                # The cause would print what the file holds.
                raise ConfigError(message, hint=f"It must hold one word: {', '.join(StorageMode)}.") from None

    def look(self) -> StorageMode | None:
        """Return it as it is now; a file that cannot be used any more leaves the last valid one, and is logged once."""
        if self._file is None:
            return self._mode
        try:
            self._mode, self._has_told = _mode_in(self._file), False
        except (OSError, ValueError) as fault:
            if not self._has_told:
                _log.warning("%s %s; this instance's own mode stays %s", self._file, _in_words(fault), self._mode)
            self._has_told = True
        return self._mode


@dataclass(frozen=True, slots=True)
class View:
    """What an instance acts by, at one moment.

    Attributes:
        control: The control node as last seen.
        own: Its own mode; None for "as the control node says".
    """

    control: Control
    own: StorageMode | None

    @property
    def reads(self) -> StorageMode:
        """The mode that searches follow: the lower of both, so that Milvus answers only where both agree."""
        if self.own is None:
            return self.control.mode
        return min(self.control.mode, self.own, key=lambda mode: mode.rank)

    @property
    def marks(self) -> bool:
        """Whether writes leave marks: when either mode says so."""
        return self.control.mode.marks or (self.own is not None and self.own.marks)


class ModeFollower:
    """Keeps an instance's view, its registration and its acknowledgement up to date. Usable from several threads.

    Until the first look it acts as if there were no control node: Neo4j answers.

    Args:
        own: Its own mode.
        name: Unlike any other instance's, also of an earlier life of this process.
        host: Where it runs.
        observed: Gives what this instance has seen of Milvus, and since when; it goes along with each renewal.
        lapse_seconds: How long a registration lasts; to be longer than several looks.
        clock: This process's monotonic clock, in seconds.
    """

    def __init__(
        self,
        control_node: ControlNode,
        own: OwnMode,
        name: str,
        host: str,
        meter: Meter,
        *,
        observed: Callable[[], tuple[int, Observed]] = lambda: (0, Observed()),
        lapse_seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control_node = control_node
        self._own = own
        self._name = name
        self._host = host
        self._meter = meter
        self._observed = observed
        self._lapse_seconds = lapse_seconds
        self._clock = clock
        self._looking = threading.Lock()
        self._mutex = threading.Lock()
        self._view = View(Control(), own.look())
        self._registered: Instance | None = None
        self._renew_at = 0.0
        self._in_hand: Counter[int] = Counter()

    @property
    def view(self) -> View:
        """What the instance acts by now."""
        return self._view

    def look(self) -> None:
        """Read both modes, adopt what is new, and register with the newest epoch that may be acknowledged.

        An epoch that is adopted here is acknowledged here too, unless an operation of an older one is in hand: then by the
        first look after its end. Nothing is written while nothing changes, but for a renewal now and then. When Neo4j does not
        answer, it is counted and everything stays as it was.

        Raises:
            FatalError: Neo4j refuses, or the control node makes no sense.
        """
        with self._looking:
            own = self._own.look()
            try:
                self._tell(own)
                if self._registered is not None and self._acknowledgeable() != self._registered.epoch:
                    self._tell(own)
            except RetryableError as fault:
                self._meter.failed(StoreName.NEO4J, "control", type(fault).__name__)
                return
        view = self._view
        self._meter.acts(view.control, view.own, view.reads)

    @contextmanager
    def acting(self) -> Iterator[View]:
        """Give the view to act by for one operation, and count the operation as in hand until the end."""
        with self._mutex:
            view = self._view
            self._in_hand[view.control.epoch] += 1
        try:
            yield view
        finally:
            with self._mutex:
                self._in_hand[view.control.epoch] -= 1

    def saw(self, control: Control) -> None:
        """Adopt a control node that somebody read on the way, when its epoch is newer."""
        if control.epoch > self._view.control.epoch:
            with self._mutex:
                if control.epoch > self._view.control.epoch:
                    self._view = View(control, self._view.own)

    def leave(self) -> None:
        """Take the registration out; only when nothing is in hand and nobody looks any more. Idempotent.

        What was observed last is told before. When Neo4j does not answer, the registration lapses by itself.
        """
        registered, (epoch, observed) = self._registered, self._observed()
        try:
            if registered is not None and observed != registered.observed:
                self._control_node.renew(replace(registered, observed_epoch=epoch, observed=observed), self._lapse_seconds)
            self._registered = None
            self._control_node.leave(self._name)
        except RetryableError as fault:
            self._meter.failed(StoreName.NEO4J, "control", type(fault).__name__)

    def _tell(self, own: StorageMode | None) -> None:
        """Read the control node and adopt it; register with it, where there is news or a third of the registration is over.

        Registering reads the control node in the same transaction: whoever changes it later finds this instance registered.
        """
        with self._mutex:
            before = self._view.control.epoch
        instance = Instance(self._name, self._host, own, self._acknowledgeable(), *self._observed())
        now = self._clock()
        if instance == self._registered and now < self._renew_at:
            control = self._control_node.read()
        else:
            control = self._control_node.renew(instance, self._lapse_seconds)
            self._registered, self._renew_at = instance, now + self._lapse_seconds / 3
        with self._mutex:
            # A control node that goes back was taken away or restored; but one that `saw` brought meanwhile is newer than this.
            seen = self._view.control
            self._view = View(control if seen.epoch in {before, control.epoch} or control.epoch > seen.epoch else seen, own)

    def _acknowledgeable(self) -> int:
        """Return the newest epoch with nothing of an older one in hand."""
        with self._mutex:
            self._in_hand = +self._in_hand
            return min([*self._in_hand, self._view.control.epoch])


def _mode_in(file: Path) -> StorageMode:
    return StorageMode(file.read_text(encoding="utf-8").strip())


def _in_words(fault: OSError | ValueError) -> str:
    # What it holds instead is not repeated: it may be a secret's file.
    return f"cannot be read ({fault.strerror})" if isinstance(fault, OSError) else "does not hold one storage mode"
