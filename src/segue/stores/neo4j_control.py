"""The control node in Neo4j and the instances registered beside it.

Every method is one transaction at the leader: a member that lags would show an epoch that is over. Knows no gate and no
barrier; when a mode may change is the cutover's business.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segue.errors import FatalError
from segue.model import (
    STATIC,
    Control,
    Depth,
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
from segue.stores.cypher import query
from segue.stores.neo4j_connection import Neo4jConnection, Transaction
from segue.stores.neo4j_journal import record

CONTROL_FIELDS = (
    "c.mode, c.epoch, c.visible_ms, c.fence_ms, c.window_ms, c.capture_token, c.library_token, c.copied, "
    "timestamp() - c.copied_at, timestamp() - c.changed_at, c.reason, "
    "c.validated_epoch, c.validated_mode, c.validated_ok, c.validated_rate, c.validated_digest, c.validated_sink_digest, "
    "timestamp() - c.validated_at, "
    "c.searched_epoch, c.searched_ok, c.searched_recall, c.searched_neo4j_recall, c.searched_least, "
    "timestamp() - c.searched_at, c.preflight_ok, c.preflight_warnings, timestamp() - c.preflight_at"
)
"""What `control_of` reads, of a node `c` that may be null."""


def control_of(row: Sequence[Any]) -> Control:
    """Return the control node that a row of `CONTROL_FIELDS` shows.

    Raises:
        FatalError: Its mode is none.
    """
    mode, epoch, visible, fence, window, trigger, library, copied, copied_ago, changed_ago, reason = row[:11]
    validated, searched, preflight = row[11:18], row[18:24], row[24:]
    try:
        storage_mode = StorageMode(mode or StorageMode.NEO4J_ONLY)
    except ValueError:
        known = ", ".join(StorageMode)
        message = f"a :SegueControl node says mode {mode!r}, which is none of {known}"
        raise FatalError(
            message, hint="Somebody changed it by hand: set the property `mode` right, then `segue mode set`."
        ) from None
    return Control(
        mode=storage_mode,
        epoch=epoch or 0,
        times=FenceTimes() if window is None else FenceTimes(visible / 1000, fence / 1000, (window - visible - fence) / 1000),
        capture=trigger or library,
        copied=copied,
        copied_seconds_ago=None if copied is None or copied_ago is None else copied_ago / 1000,
        changed_seconds_ago=None if changed_ago is None else changed_ago / 1000,
        reason=reason or "",
        validated=None if validated[0] is None else _validated(*validated),
        searched=None if searched[0] is None else _searched(*searched),
        preflight=None if preflight[0] is None else _preflighted(*preflight),
    )


def _validated(
    epoch: int, depth: str, clean: bool, rate: float, digest: str, sink_digest: str | None, milliseconds: int
) -> Validated:
    return Validated(epoch, Depth(depth), clean, rate, digest, sink_digest or "", milliseconds / 1000)


def _searched(epoch: int, good: bool, recall: float, neo4j_recall: float, least: float, milliseconds: int) -> Searched:
    return Searched(epoch, good, recall, neo4j_recall, least, milliseconds / 1000)


def _preflighted(passed: bool, warnings: int, milliseconds: int) -> Preflighted:
    return Preflighted(passed, warnings, milliseconds / 1000)


@dataclass(frozen=True, slots=True)
class _Change:
    name: str
    before: str | None
    mode: StorageMode
    epoch: int
    times: FenceTimes
    reason: str
    overridden: Sequence[str] = ()


class Neo4jControl:
    """The `ControlNode` of one collection. Usable from several threads.

    Its constraints are made by `neo4j_marks.prepare`; without them two changes at once could make two nodes.

    Args:
        connection: The database the items are in.
        collection: Whose control node.
    """

    def __init__(self, connection: Neo4jConnection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    def read(self) -> Control:
        """See `ControlNode`."""
        return self._connection.write(self._read)

    def change(
        self, expected_epoch: int, mode: StorageMode, *, times: FenceTimes, reason: str, overridden: Sequence[str] = ()
    ) -> Control | None:
        """See `ControlNode`."""
        # A transaction whose commit was not answered is run again by the driver, and must know its own work.
        changed_by = str(uuid.uuid4())

        def work(transaction: Transaction) -> Control | None:
            self._run(transaction, "control_lock")
            now = self._read(transaction)
            if now.epoch != expected_epoch:
                is_ours = self._run(transaction, "control_made_by")[0][0] == changed_by
                return now if is_ours else None
            kept = now.times if mode.reads_milvus else times
            change = _Change(changed_by, now.mode.value, mode, expected_epoch + 1, kept, reason, overridden)
            return self._change(transaction, change)

        return self._connection.write(work)

    def reset(self, *, times: FenceTimes, reason: str) -> Control:
        """See `ControlNode`."""
        changed_by = str(uuid.uuid4())

        def work(transaction: Transaction) -> Control:
            self._run(transaction, "control_lock")
            ((mode, epoch),) = self._run(transaction, "control_epoch")
            return self._change(transaction, _Change(changed_by, mode, StorageMode.NEO4J_ONLY, epoch + 1, times, reason))

        return self._connection.write(work)

    def captured(self, epoch: int) -> Control:
        """See `ControlNode`."""
        marking = [mode.value for mode in StorageMode if mode.marks]

        def work(transaction: Transaction) -> Control:
            self._run(transaction, "control_captured", epoch=epoch, marking=marking)
            return self._read(transaction)

        return self._connection.write(work)

    def uncopied(self) -> None:
        """See `ControlNode`."""
        self._connection.write(lambda transaction: self._run(transaction, "control_uncopied"))

    def validated(self, validated: Validated) -> None:
        """See `ControlNode`."""
        values = {
            "epoch": validated.epoch,
            "depth": validated.depth.value,
            "clean": validated.clean,
            "rate": validated.rate,
            "digest": validated.digest,
            "sink_digest": validated.sink_digest,
            "milliseconds": _ms(validated.seconds_ago),
        }
        self._connection.write(lambda transaction: self._run(transaction, "control_validated", **values))

    def searched(self, searched: Searched) -> None:
        """See `ControlNode`."""
        values = {
            "epoch": searched.epoch,
            "good": searched.good,
            "recall": searched.recall,
            "neo4j_recall": searched.neo4j_recall,
            "least": searched.least,
            "milliseconds": _ms(searched.seconds_ago),
        }
        self._connection.write(lambda transaction: self._run(transaction, "control_searched", **values))

    def preflighted(self, preflight: Preflighted) -> None:
        """See `ControlNode`."""
        file = "control_preflight_passed" if preflight.passed else "control_preflight_failed"
        values = {"warnings": preflight.warnings, "milliseconds": _ms(preflight.seconds_ago)}
        self._connection.write(lambda transaction: self._run(transaction, file, **values))

    def renew(self, instance: Instance, seconds: float) -> Control:
        """See `ControlNode`."""
        values = {
            "name": instance.name,
            "host": instance.host,
            "own": instance.own.value if instance.own else None,
            "epoch": instance.epoch,
            "observed_epoch": instance.observed_epoch,
            "compared": instance.observed.compared,
            "overlap": instance.observed.overlap,
            "answers": instance.observed.answers,
            "failed": instance.observed.failed,
            "milliseconds": _ms(seconds),
        }

        def work(transaction: Transaction) -> Control:
            self._run(transaction, "control_renew", **values)
            return self._read(transaction)

        return self._connection.write(work)

    def leave(self, name: str) -> None:
        """See `ControlNode`."""
        self._connection.write(lambda transaction: self._run(transaction, "control_leave", name=name))

    def observed(self) -> Observed:
        """See `ControlNode`."""
        ((compared, overlap, answers, failed),) = self._connection.write(
            lambda transaction: self._run(transaction, "control_observed")
        )
        return Observed(compared, float(overlap), answers, failed)

    def instances(self) -> list[Instance]:
        """See `ControlNode`."""
        found = self._connection.write(lambda transaction: self._run(transaction, "control_instances"))
        return [
            Instance(name, host, StorageMode(own) if own else None, epoch, since, Observed(*observed))
            for name, host, own, epoch, since, *observed in found
        ]

    def transactions(self) -> frozenset[str]:
        """See `ControlNode`."""
        database = self._connection.database
        found = self._connection.write(lambda transaction: transaction(query("transactions"), database=database))
        return frozenset(row[0] for row in found)

    def _change(self, transaction: Transaction, change: _Change) -> Control:
        mode = change.mode
        self._run(
            transaction,
            "control_change",
            mode=mode.value,
            marks=mode.marks,
            static=STATIC,
            epoch=change.epoch,
            reason=change.reason,
            changed_by=change.name,
            visible_ms=_ms(change.times.visible),
            fence_ms=_ms(change.times.fence),
            window_ms=_ms(change.times.window),
        )
        text, data = mode_changed(change.before, mode, change.epoch, change.reason, change.overridden)
        record(transaction, self._collection, change.name, EventKind.MODE, text, data)
        return self._read(transaction)

    def _read(self, transaction: Transaction) -> Control:
        text = query("control_read", fields=CONTROL_FIELDS)
        return control_of(transaction(text, collection=self._collection)[0])

    def _run(self, transaction: Transaction, file: str, /, **values: Any) -> list[list[Any]]:
        return transaction(query(file), collection=self._collection, **values)


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)
