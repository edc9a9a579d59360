"""What one instance acts by in agent state: the control row in PostgreSQL, and the gate in Redis that is made to say the same.

Owns the rule that the control row decides and the gate follows it, and what is done about a change that somebody began and
did not finish. Makes no thread: somebody calls `AgentFollower.look` about twice a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from segue.errors import RetryableError, StoreUnavailable
from segue.model import AgentControl, AgentGate, AgentStoreName
from segue.ports import AgentMeter, AgentPostgres, AgentRedis

STALL_SECONDS = 12.0
"""How long a gate may be closed for a change that does not come, before an instance calls the change off."""

_log = logging.getLogger(__name__)


class AgentFollower:
    """Keeps an instance's view up to date. Usable from several threads.

    While PostgreSQL is away, an instance acts by what it saw last; one that has just begun, by the gate.

    Args:
        redis, postgres: Both sides.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, redis: AgentRedis, postgres: AgentPostgres, meter: AgentMeter, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._meter = meter
        self._clock = clock
        self._looking = threading.Lock()
        self._closed_since: tuple[int, float] | None = None
        self._view: AgentControl | None = None

    @property
    def view(self) -> AgentControl:
        """What the instance acts by now."""
        return self._view or AgentControl()

    def look(self) -> None:
        """Read both, adopt what is new, and let the gate follow the control row. A store that is away is counted.

        Raises:
            StoreUnavailable: Nothing was ever seen, and neither side says what the mode is.
        """
        with self._looking:
            control, gate, has_gate = self._control(), None, False
            try:
                gate, has_gate = self._redis.gate(), True
            except RetryableError as fault:
                self._meter.failed(AgentStoreName.REDIS, "control", type(fault).__name__)
            if control is not None:
                self._view = control
                if has_gate:
                    self._follow(control, gate)
            elif gate is not None and gate.mode is not None and gate.epoch > self.view.epoch:
                # PostgreSQL is away: Redis knows what was set last, and that it may be written.
                self._view = AgentControl(gate.mode, gate.epoch)
            elif self._view is None:
                message = "neither PostgreSQL nor a gate in Redis says who is to be written"
                raise StoreUnavailable(message, hint="PostgreSQL must answer once, before Redis knows.")
            self._meter.acts(self.view)

    def _control(self) -> AgentControl | None:
        try:
            return self._postgres.control()
        except RetryableError as fault:
            self._meter.failed(AgentStoreName.POSTGRES, "control", type(fault).__name__)
            return None

    def _follow(self, control: AgentControl, gate: AgentGate | None) -> None:
        wanted = AgentGate(control.epoch, None if control.mode.is_postgres or not control.open else control.mode)
        try:
            if gate is None or gate.epoch < wanted.epoch:
                self._redis.carry(wanted)
            elif gate.mode is None and wanted.mode is not None:
                self._call_off(control, gate)
                return
        except RetryableError as fault:
            self._meter.failed(AgentStoreName.REDIS, "control", type(fault).__name__)
        self._closed_since = None

    def _call_off(self, control: AgentControl, gate: AgentGate) -> None:
        """Take back a change whose author closed the gate and never changed the control row; he finds another epoch then."""
        if self._closed_since is None or self._closed_since[0] != gate.epoch:
            self._closed_since = (gate.epoch, self._clock())
            return
        if self._clock() - self._closed_since[1] < STALL_SECONDS:
            return
        reason = "a change to postgres was begun and not finished"
        changed = self._postgres.change(control, control.mode, epoch=gate.epoch + 1, is_open=True, reason=reason)
        if changed is not None:
            _log.error("%s; the mode stays %s", reason, changed.mode)
            self._view = changed
            self._redis.carry(AgentGate(changed.epoch, changed.mode))
