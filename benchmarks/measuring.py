"""What a stretch of work cost: time, CPU of the client and of both servers, who else used the machine, peak memory.

Runs inside a contender's own process, so that the client's figures are that contender's and nobody else's. Knows no store.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from contender import neo4j_of
from segue.sandbox import Endpoint


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one contender.

    Attributes:
        contender: Its name.
        rows: Rows copied, read or written.
        seconds: From the first query to the last acknowledgement.
        client_us, neo4j_us, milvus_us: CPU a row, user and system, in microseconds.
        idle: Share of the machine's cores that nobody used.
        others: Share of the machine's cores used by anybody else (the kernel's own threads and stolen time among them).
        peak_mib: The client process's greatest resident memory, interpreter and imports included.
    """

    contender: str
    rows: int
    seconds: float
    client_us: float
    neo4j_us: float
    milvus_us: float
    idle: float
    others: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class _Reading:
    """Every clock at one moment, in seconds."""

    wall: float
    client: float
    neo4j: float
    milvus: float
    besides: float
    busy: float
    idle: float


class Window:
    """Measures what happens while it is entered.

    Args:
        servers: The sandbox's servers by service name.
        besides: More processes that belong to what is measured, so that their CPU is not counted as others'.
    """

    def __init__(self, servers: Mapping[str, Endpoint], besides: Sequence[psutil.Process] = ()) -> None:
        self._besides = list(besides)
        self._neo4j = family(neo4j_of(servers).pid)
        self._milvus = family(servers["milvus"].pid)

    def __enter__(self) -> Self:
        """Read the clocks."""
        self._start = self._reading()
        return self

    def __exit__(self, *_: object) -> None:
        """Read the clocks again."""
        self._end = self._reading()

    def sample(self, contender: str, rows: int) -> Sample:
        """Return what was measured, a row."""
        start, end = self._start, self._end
        client, neo4j, milvus = end.client - start.client, end.neo4j - start.neo4j, end.milvus - start.milvus
        besides = end.besides - start.besides
        idle, busy = end.idle - start.idle, end.busy - start.busy
        each = 1e6 / rows
        return Sample(
            contender,
            rows,
            end.wall - start.wall,
            client * each,
            neo4j * each,
            milvus * each,
            idle / (idle + busy),
            max(0.0, busy - client - neo4j - milvus - besides) / (idle + busy),
            peak_mib(),
        )

    def _reading(self) -> _Reading:
        neo4j, milvus = cpu_seconds(self._neo4j), cpu_seconds(self._milvus)
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        busy = machine.user + machine.system + sum(getattr(machine, name, 0.0) for name in _ALSO_BUSY)
        return _Reading(time.perf_counter(), time.process_time(), neo4j, milvus, cpu_seconds(self._besides), busy, idle)


_ALSO_BUSY = ("nice", "irq", "softirq", "steal")


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started."""
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time these processes have used so far, user and system."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_mib() -> float:
    """Return this process's greatest resident memory so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: Linux hands a parent's peak on to what it starts.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
