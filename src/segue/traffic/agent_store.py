"""What an application holds for its agents' state: experiences, Q-values, policies, metadata. Begin at `AgentStateStore`.

A write goes to one store, the one that the mode says, in one step with what the other one must get. Owns the checks of a call's
arguments and the bounded wait while the mode is being changed. Knows ports only; what is opened and closed with it is the
composition root's.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from segue.errors import GateClosed, InvalidInput, RetryableError, SegueError
from segue.model import (
    AgentBacklog,
    AgentKind,
    AgentMode,
    AgentRecord,
    AgentRow,
    AgentStoreName,
    Experience,
    Origin,
    Policy,
)
from segue.pipelines.agent_writes import AgentLayout, layout_of
from segue.ports import AgentMeter, AgentPostgres, AgentRedis, AgentWrite, Noted
from segue.traffic.agent_follower import AgentFollower
from segue.traffic.agent_shadow import AgentShadow
from segue.traffic.awaited import Awaited

T = TypeVar("T")

PATIENCE_SECONDS = 20.0
"""How long a write waits while agent state is being handed from one store to the other."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What a store is made of.

    Attributes:
        layouts: One a mapping, in the order in which they count.
        redis, postgres: Both sides.
        follower: The mode this instance acts by.
        shadow: Comparisons beside reads.
        meter: Counts.
        close: Ends everything that was opened for the store. Idempotent.
    """

    layouts: Sequence[AgentLayout]
    redis: AgentRedis
    postgres: AgentPostgres
    follower: AgentFollower
    shadow: AgentShadow
    meter: AgentMeter
    close: Callable[[], None]


class AgentStateStore:
    """Agents' state, for an application that is being moved. Made by `segue.connect_agents`.

    Usable from several threads. A context manager that closes itself.

    Every call raises `InvalidInput` (a ValueError) where its arguments do not fit the mapping; nothing was written then. A call
    that writes raises `RetryableError` when the store that is written first does not answer: whether it is written is unknown.
    Writing a Q-value, a policy or metadata again is harmless; appending experiences again may double them.
    """

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self._clock = _Clock()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    @property
    def mode(self) -> AgentMode:
        """The mode that this instance acts by now."""
        return self._parts.follower.view.mode

    def append(self, experiences: Experience | Sequence[Experience], *, agent_id: str | None = None) -> None:
        """Append experiences, in their order; a batch of up to 200 in one step.

        Args:
            experiences: One, or several.
            agent_id: Whose, where they do not say so themselves.
        """
        given = [experiences] if isinstance(experiences, Experience) else list(experiences)
        layout, db = self._layout(AgentKind.EXPERIENCES), self._parts.redis.db
        place = layout.mapping.columns.get("timestamp")
        has_time = place is not None and place.origin is not Origin.STREAM_TIME
        writes = []
        for one in given:
            values = {name: getattr(one, name) for name in _EXPERIENCE}
            values["agent_id"] = one.agent_id or agent_id
            is_timed = has_time and one.timestamp is None
            values["timestamp"] = self._clock.now() if is_timed else one.timestamp
            writes.append(layout.write(AgentRecord(AgentKind.EXPERIENCES, values), db, is_timed=is_timed))
        self._write(writes)

    def sample(self, count: int, *, agent_id: str | None = None) -> list[Experience]:
        """Return experiences drawn uniformly, none twice; fewer than `count` only where there are fewer.

        Args:
            count: How many, at least 1.
            agent_id: Whose; needed exactly where the mapping keeps a key for each agent.
        """
        if count < 1:
            message = f"sample: at least 1 experience, not {count}"
            raise InvalidInput(message)
        layout = self._layout(AgentKind.EXPERIENCES)
        key = layout.sampled_key(agent_id)
        if self.mode.is_postgres:
            conditions = {"agent_id": agent_id} if agent_id is not None else {}
            records = self._asked(lambda: self._parts.postgres.sample(AgentKind.EXPERIENCES, conditions, count, layout.most))
        else:
            pieces = self._asked(lambda: self._parts.redis.sample(key, layout.mapping.type, count))
            rows = [row for piece in pieces for row in layout.rows(piece)]
            self._compare(rows)
            records = [layout.codec.record(row) for row in rows]
        return [_experience(record) for record in records]

    def q_values(self, agent_id: str, state: str) -> dict[str, float]:
        """Return an agent's value of each action in a state; empty where there are none."""
        found = self._find(AgentKind.Q_VALUES, {"agent_id": agent_id, "state": state})
        return {str(one.values["action"]): float(str(one.values["q_value"])) for one in reversed(found)}

    def q_value(self, agent_id: str, state: str, action: str, default: float | None = None) -> float | None:
        """Return one value, `default` where there is none."""
        found = self._find(AgentKind.Q_VALUES, {"agent_id": agent_id, "state": state, "action": action})
        return float(str(found[0].values["q_value"])) if found else default

    def put_q_values(self, agent_id: str, state: str, values: Mapping[str, float]) -> None:
        """Set values of actions in a state; other actions keep theirs. Idempotent."""
        self._put(
            AgentKind.Q_VALUES,
            [{"agent_id": agent_id, "state": state, "action": action, "q_value": one} for action, one in values.items()],
        )

    def delete_q_value(self, agent_id: str, state: str, action: str) -> None:
        """Delete one value. Idempotent."""
        self._remove(AgentKind.Q_VALUES, {"agent_id": agent_id, "state": state, "action": action})

    def save_policy(
        self,
        agent_id: str,
        policy: Any = None,
        *,
        payload: bytes | None = None,
        version: str | None = None,
        lifetime: float | None = None,
    ) -> None:
        """Save a policy over the one of that version. Idempotent.

        Args:
            agent_id: Whose.
            policy: Whatever JSON can hold; for mappings that hold JSON.
            payload: Bytes, for mappings that hold those; a pickle is refused.
            version: Where the mapping has a place for it.
            lifetime: In how many seconds it expires; None is never.
        """
        values = {"agent_id": agent_id, "policy": policy, "payload": payload, "version": version}
        self._put(AgentKind.POLICIES, [values], lifetime)

    def load_policy(self, agent_id: str, *, version: str | None = None) -> Policy | None:
        """Return a policy, None where there is none of that version; a version must be named where the key holds it."""
        conditions = {"agent_id": agent_id, **({"version": version} if version is not None else {})}
        found = self._find(AgentKind.POLICIES, conditions)
        return _policy(found[0]) if found else None

    def delete_policy(self, agent_id: str, *, version: str | None = None) -> None:
        """Delete a policy. Idempotent."""
        self._remove(AgentKind.POLICIES, {"agent_id": agent_id, "version": version})

    def metadata(self, agent_id: str, name: str | None = None) -> Any:
        """Return an agent's metadata, or the value of that name; None where there is none."""
        found = self._find(AgentKind.METADATA, {"agent_id": agent_id, **({"name": name} if name is not None else {})})
        return found[0].values.get("value") if found else None

    def put_metadata(self, agent_id: str, value: Any, *, name: str | None = None, lifetime: float | None = None) -> None:
        """Set an agent's metadata, or the value of that name, over what is there. Idempotent; `lifetime` as of policies."""
        self._put(AgentKind.METADATA, [{"agent_id": agent_id, "name": name, "value": value}], lifetime)

    def delete_metadata(self, agent_id: str, *, name: str | None = None) -> None:
        """Delete an agent's metadata, or the value of that name. Idempotent."""
        self._remove(AgentKind.METADATA, {"agent_id": agent_id, "name": name})

    def pending(self) -> AgentBacklog:
        """Return what waits to be carried over; how much only PostgreSQL has is None while it does not answer.

        Raises:
            RetryableError: Redis does not answer.
        """
        to_postgres, refused, oldest = self._parts.redis.waiting()
        try:
            only_here: int | None = self._parts.postgres.waiting()
        except RetryableError:
            only_here = None
        return AgentBacklog(to_postgres, refused, only_here, oldest)

    def close(self) -> None:
        """End the store's threads and connections. What is in the outbox stays there. Idempotent."""
        self._parts.close()

    def _layout(self, kind: AgentKind) -> AgentLayout:
        """Return the mapping that records of a kind are written and read by: the first of them."""
        found = next((one for one in self._parts.layouts if one.mapping.kind is kind), None)
        if found is None:
            message = f"the configuration maps no {kind}"
            raise InvalidInput(message, hint="[[agentdb.mappings]] says which Redis keys hold what.")
        return found

    def _put(self, kind: AgentKind, given: Sequence[Mapping[str, object]], lifetime: float | None = None) -> None:
        layout, db = self._layout(kind), self._parts.redis.db
        milliseconds = round(1_000 * lifetime) if lifetime is not None else 0
        if lifetime is not None and milliseconds < 1:
            message = f"lifetime: more than 0 seconds, not {lifetime}"
            raise InvalidInput(message)
        has_time = "timestamp" in layout.mapping.columns
        writes = []
        for values in given:
            timed = {**values, "timestamp": self._clock.now()} if has_time else values
            writes.append(layout.write(AgentRecord(kind, timed), db, lifetime_ms=milliseconds))
        self._write(writes)

    def _remove(self, kind: AgentKind, conditions: Mapping[str, object]) -> None:
        self._write([self._layout(kind).remove(conditions, self._parts.redis.db)])

    def _write(self, writes: Sequence[AgentWrite]) -> None:
        """Write to the store that is first now; wait, bounded, while that is being changed."""
        if not writes:
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            is_postgres = self.mode.is_postgres
            store = AgentStoreName.POSTGRES if is_postgres else AgentStoreName.REDIS
            try:
                if is_postgres:
                    self._parts.postgres.put(writes, self._row, self._parts.redis.db)
                else:
                    self._parts.redis.write(writes)
            except GateClosed:
                if time.monotonic() > deadline:
                    self._parts.meter.wrote(store, len(writes), 0)
                    raise
            except SegueError as fault:
                self._parts.meter.wrote(store, len(writes), 0)
                self._parts.meter.failed(store, "write", type(fault).__name__)
                raise
            else:
                self._parts.meter.wrote(store, len(writes), len(writes))
                return
            self._parts.follower.look()
            time.sleep(_LOOK_SECONDS * random.random())  # noqa: S311  # spreads the fleet

    def _row(self, write: AgentWrite, noted: Noted) -> AgentRow:
        layout = layout_of(self._parts.layouts, write.key)
        if layout is None:
            message = f"no mapping takes the key {write.key!r}"
            raise InvalidInput(message)
        return layout.row(write.key, write.element, self._parts.redis.db, noted)

    def _find(self, kind: AgentKind, conditions: Mapping[str, object]) -> Sequence[AgentRecord]:
        """Return the records with these values, from the store that answers in this mode."""
        layout = self._layout(kind)
        key, member = layout.place(conditions)
        if self.mode.is_postgres:
            asked = {name: one if isinstance(one, str) else str(one) for name, one in conditions.items()}
            return self._asked(lambda: self._parts.postgres.find(kind, asked))
        piece = self._asked(lambda: self._parts.redis.read(key, layout.mapping.type, member))
        rows = layout.rows(piece) if piece is not None else []
        self._compare(rows)
        records = [layout.codec.record(row) for row in rows]
        return [one for one in records if all(one.values.get(name) == value for name, value in conditions.items())]

    def _asked(self, ask: Callable[[], T]) -> T:
        store = AgentStoreName.POSTGRES if self.mode.is_postgres else AgentStoreName.REDIS
        try:
            return ask()
        except SegueError as fault:
            self._parts.meter.failed(store, "read", type(fault).__name__)
            raise

    def _compare(self, rows: Sequence[AgentRow]) -> None:
        if self.mode is AgentMode.SHADOW:
            self._parts.shadow.compare(rows)


_EXPERIENCE = ("agent_id", "state", "action", "reward", "next_state", "done", "timestamp")
_POLICY = ("agent_id", "policy", "payload", "version", "timestamp")


def _experience(record: AgentRecord) -> Experience:
    values: dict[str, Any] = {name: record.values.get(name) for name in _EXPERIENCE}
    return Experience(**values)


def _policy(record: AgentRecord) -> Policy:
    values: dict[str, Any] = {name: record.values.get(name) for name in _POLICY}
    return Policy(**values)


class _Clock:
    """This process's time, never the same twice."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._last = 0

    def now(self) -> datetime:
        """Return the time in microseconds, later than any that was returned before."""
        with self._mutex:
            self._last = max(self._last + 1, time.time_ns() // 1_000)
            return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self._last)


class AsyncAgentStateStore(Awaited[AgentStateStore]):
    """`AgentStateStore` for asyncio: the same words, awaited. Made by `segue.connect_agents_async`.

    Calls run in threads of its own. An async context manager that closes itself.

    Args:
        store: What it stands for.
        threads: How many calls are made at the same time; more wait.
    """

    def __init__(self, store: AgentStateStore, *, threads: int = 32) -> None:
        super().__init__(store, threads=threads, name="segue-agents")

    @property
    def mode(self) -> AgentMode:
        """See `AgentStateStore.mode`."""
        return self._store.mode

    async def append(self, experiences: Experience | Sequence[Experience], *, agent_id: str | None = None) -> None:
        """See `AgentStateStore.append`."""
        await self._run(partial(self._store.append, experiences, agent_id=agent_id))

    async def sample(self, count: int, *, agent_id: str | None = None) -> list[Experience]:
        """See `AgentStateStore.sample`."""
        return await self._run(partial(self._store.sample, count, agent_id=agent_id))

    async def q_values(self, agent_id: str, state: str) -> dict[str, float]:
        """See `AgentStateStore.q_values`."""
        return await self._run(partial(self._store.q_values, agent_id, state))

    async def q_value(self, agent_id: str, state: str, action: str, default: float | None = None) -> float | None:
        """See `AgentStateStore.q_value`."""
        return await self._run(partial(self._store.q_value, agent_id, state, action, default))

    async def put_q_values(self, agent_id: str, state: str, values: Mapping[str, float]) -> None:
        """See `AgentStateStore.put_q_values`."""
        await self._run(partial(self._store.put_q_values, agent_id, state, values))

    async def delete_q_value(self, agent_id: str, state: str, action: str) -> None:
        """See `AgentStateStore.delete_q_value`."""
        await self._run(partial(self._store.delete_q_value, agent_id, state, action))

    async def save_policy(
        self,
        agent_id: str,
        policy: Any = None,
        *,
        payload: bytes | None = None,
        version: str | None = None,
        lifetime: float | None = None,
    ) -> None:
        """See `AgentStateStore.save_policy`."""
        await self._run(partial(self._store.save_policy, agent_id, policy, payload=payload, version=version, lifetime=lifetime))

    async def load_policy(self, agent_id: str, *, version: str | None = None) -> Policy | None:
        """See `AgentStateStore.load_policy`."""
        return await self._run(partial(self._store.load_policy, agent_id, version=version))

    async def delete_policy(self, agent_id: str, *, version: str | None = None) -> None:
        """See `AgentStateStore.delete_policy`."""
        await self._run(partial(self._store.delete_policy, agent_id, version=version))

    async def metadata(self, agent_id: str, name: str | None = None) -> Any:
        """See `AgentStateStore.metadata`."""
        return await self._run(partial(self._store.metadata, agent_id, name))

    async def put_metadata(self, agent_id: str, value: Any, *, name: str | None = None, lifetime: float | None = None) -> None:
        """See `AgentStateStore.put_metadata`."""
        await self._run(partial(self._store.put_metadata, agent_id, value, name=name, lifetime=lifetime))

    async def delete_metadata(self, agent_id: str, *, name: str | None = None) -> None:
        """See `AgentStateStore.delete_metadata`."""
        await self._run(partial(self._store.delete_metadata, agent_id, name=name))

    async def pending(self) -> AgentBacklog:
        """See `AgentStateStore.pending`."""
        return await self._run(self._store.pending)
