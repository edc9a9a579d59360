"""The benchmark of the backfill: Segue, the scripts people write instead, and the ceilings, on the same real servers.

Begin reading at `main`. Every run is a process of its own (`one_run.py`), so that CPU and memory are that contender's;
contenders are interleaved over several rounds, each round beginning with another one, so that what else the machine
does falls on all of them. What is not the copy is left out for everybody: making and dropping the collection, the index.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import items
from contender import DATABASE, PREFIX, Task, opened, sandboxed
from machine import describe
from measuring import Sample, cores, cpu_seconds, family
from report import FORMULAS, Round, aims, aims_table, as_json, disturbance, flatness, markdown, results_table
from segue.errors import SegueError
from segue.sandbox import Endpoint

CONTENDERS = ("segue", "careful-4", "careful-1", "common", "read-only", "write-only")

QUIET_CORES = 0.25
"""Before each run the servers settle, until both together use less than this."""

QUIET_PATIENCE_SECONDS = 30

DISK_SHARE = 3
"""Bytes on Milvus's disk for each byte of vectors: its log, the flushed rows, and half as much again."""


def main() -> None:
    """Run the benchmark as asked on the command line."""
    options = _options()
    with sandboxed(_announce) as servers:
        if options.clean:
            _clear(servers, with_items=True)
            return
        _clear(servers, with_items=False)
        _require_disk(servers, options)
        _load(servers, options.items, options.dimension)
        task = Task("", options.items, options.dimension, options.workers, options.batch_size)
        facts = describe(servers)
        rounds = _rounds(task, options.contenders, options.rounds, servers)
        larger = _grown(task, options.grow_to, servers) if options.grow_to else None
    found = [*aims(rounds, cores()), flatness(rounds, larger)]
    _print(options, facts, results_table(rounds), disturbance(rounds) + aims_table(found))
    if options.json:
        told = {name: value for name, value in vars(options).items() if name not in ("json", "clean")}
        grown = {"grown": asdict(larger) if larger else None}
        text = json.dumps({"machine": facts, "options": told} | as_json(rounds, found) | grown, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Segue's backfill against scripts and ceilings, on real servers.")
    add = parser.add_argument
    add("--items", type=_positive, default=50_000, help="items in Neo4j (default: 50000)")
    add("--dimension", type=_positive, default=768, help="of their vectors (default: 768)")
    add("--rounds", type=_positive, default=3, help="how often each contender runs (default: 3)")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME", help=" ".join(CONTENDERS))
    add("--workers", type=_positive, default=4, help="Segue's workers (default: 4, as the command's)")
    add("--batch-size", type=_positive, help="rows a batch, for all (default: Segue's adapts, the scripts' 1000)")
    add("--grow-to", type=_positive, metavar="ITEMS", help="afterwards run Segue once with that many items: does memory grow?")
    add("--json", type=Path, metavar="FILE", help="write every sample, the medians and the aims there")
    add("--clean", action="store_true", help="remove the items and what killed runs left, then end")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def _clear(servers: Mapping[str, Endpoint], *, with_items: bool) -> None:
    with opened(servers) as (driver, client):
        for name in client.list_collections():
            if name.startswith(PREFIX):
                for alias in client.list_aliases(name)["aliases"]:
                    client.drop_alias(alias)
                client.drop_collection(name)
        if with_items:
            with driver.session(database=DATABASE) as session:
                items.clean(session)


def _require_disk(servers: Mapping[str, Endpoint], options: argparse.Namespace) -> None:
    """See to it that Milvus's disk takes all runs; what is dropped leaves it only minutes later.

    Raises:
        SystemExit: It does not.
    """
    writers = len([name for name in options.contenders if name != "read-only"])
    rows = writers * (options.rounds + 1) * options.items + (options.grow_to or 0)
    needed = DISK_SHARE * rows * options.dimension * 4
    free = shutil.disk_usage(servers["milvus"].home).free
    if free < needed:
        message = f"bench: {servers['milvus'].home} has {free / 1e9:.0f} GB free, these runs may take {needed / 1e9:.0f} GB"
        raise SystemExit(message)


def _load(servers: Mapping[str, Endpoint], count: int, dimension: int) -> None:
    with opened(servers) as (driver, _), driver.session(database=DATABASE) as session:
        items.load(session, count, dimension, _announce)


def _rounds(task: Task, contenders: Sequence[str], count: int, servers: Mapping[str, Endpoint]) -> list[Round]:
    # Neo4j compiles as it goes: its first passes cost twice the later ones. The common script warms nothing
    # that a careful one does not, and takes longest.
    for contender in contenders:
        if contender != "common" or len(contenders) == 1:
            _run(replace(task, contender=contender), servers, "warm-up")
    rounds: list[Round] = []
    for number in range(count):
        first = number % len(contenders)
        order = [*contenders[first:], *contenders[:first]]
        samples = {one: _run(replace(task, contender=one), servers, f"round {number + 1}/{count}") for one in order}
        rounds.append({one: samples[one] for one in contenders})
    return rounds


def _grown(task: Task, count: int, servers: Mapping[str, Endpoint]) -> Sample:
    _load(servers, count, task.dimension)
    return _run(replace(task, contender="segue", items=count), servers, "grown")


def _run(task: Task, servers: Mapping[str, Endpoint], occasion: str) -> Sample:
    """Run one contender in a process of its own.

    Raises:
        SystemExit: It failed; what it said is on standard error.
    """
    _settle(servers)
    program = Path(__file__).with_name("one_run.py")
    ended = subprocess.run([sys.executable, program, json.dumps(asdict(task))], stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        message = f"{task.contender} failed ({occasion})"
        raise SystemExit(message)
    sample = Sample(**json.loads(ended.stdout))
    _announce(f"{occasion}: {task.contender} {sample.rate:,.0f} rows/s, client {sample.client_us:.1f} µs a row")
    return sample


def _settle(servers: Mapping[str, Endpoint]) -> None:
    processes = [process for server in servers.values() for process in family(server.pid)]
    deadline = time.monotonic() + QUIET_PATIENCE_SECONDS
    used = float("inf")
    while used > QUIET_CORES and time.monotonic() < deadline:
        before = cpu_seconds(processes)
        time.sleep(1.0)
        used = cpu_seconds(processes) - before


def _announce(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr)


def _print(options: argparse.Namespace, facts: Mapping[str, str], results: str, aims: str) -> None:
    size = f"{options.items:,} items of {options.dimension} dimensions, rounds: {options.rounds}"
    head = f"{size}; median (least to greatest), CPU in µs a row; without the index"
    print(head, results, aims, FORMULAS, sep="\n\n", end="\n\n")
    print(markdown(["machine", ""], [[name, value] for name, value in facts.items()]))


if __name__ == "__main__":
    try:
        main()
    except SegueError as fault:
        sys.exit(f"bench: {fault.message}\n{fault.hint}".rstrip())
    except KeyboardInterrupt:
        sys.exit(130)
