"""The benchmark of a migration beside an application's traffic, on real servers: writes, lag, searches, freshness.

Begin reading at `main`. All parts work on one deployment, whose storage mode they move by Segue's own commands; searches come
first, while every item is as it was copied, and writes last. Contenders take turns, so that what else the machine does
falls on all of them, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import live_freshness
import live_lag
import live_search
import live_writes
from contender import sandboxed
from deployment import Deployment
from machine import describe
from report import Aim, aims_table, markdown
from segue import sandbox
from segue.errors import SegueError
from segue.sandbox import Endpoint

BEGAN = time.monotonic()

PARTS = ("search", "freshness", "lag", "writes")

os.environ.setdefault("SEGUE_SANDBOX_NEO4J_PAGECACHE", "1g")


class Part(NamedTuple):
    """A part's outcome: what is printed and what is kept."""

    title: str
    table: str
    aims: list[Aim]
    data: Any


def main() -> None:
    """Run the benchmark as asked on the command line."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="segue-live-") as folder:
        # It writes, changes modes and installs a trigger: nothing that others' servers should see.
        os.environ.setdefault("SEGUE_SANDBOX_DIR", str(Path(folder) / "sandbox"))
        with sandboxed(_announce) as servers:
            os.environ.update(sandbox.exports(servers))
            facts = describe(servers)
            print(f"{options.items:,} items of {options.dimension} dimensions, rounds: {options.rounds}")
            print("median (least to greatest) of the rounds; p95 and p99: median of the rounds")
            parts = {}
            with Deployment.opened(servers, Path(folder), options.items, options.dimension, _announce) as live:
                for name in (name for name in PARTS if options.only in (None, name)):
                    parts[name] = _measured(name, live, servers, options)
                    _print(parts[name])
    print("", markdown(["machine", ""], [[name, value] for name, value in facts.items()]), sep="\n")
    _announce("done")
    if options.json:
        told = {name: value for name, value in vars(options).items() if name != "json"}
        found = {name: {"found": part.data, "aims": [asdict(aim) for aim in part.aims]} for name, part in parts.items()}
        text = json.dumps({"machine": facts, "options": told} | found, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure writes, lag, searches and freshness of a migration, on real servers.")
    add = parser.add_argument
    add("--items", type=_positive, default=150_000, help="items in both stores (default: 150000)")
    add("--dimension", type=_positive, default=768, help="of their vectors (default: 768)")
    add("--rounds", type=_positive, default=7, help="how often each contender has its turn (default: 7)")
    add("--seconds", type=float, default=2.0, help="how long a turn of writes lasts (default: 2)")
    add("--only", choices=PARTS, help="measure only this")
    add("--json", type=Path, metavar="FILE", help="write every round and the aims there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def _measured(name: str, live: Deployment, servers: Mapping[str, Endpoint], options: argparse.Namespace) -> Part:
    _announce(f"part {name}")
    if name == "search":
        searches = live_search.measure(live, servers, options.rounds)
        return Part("Searches", searches.table(), searches.aims(), searches.as_json())
    if name == "freshness":
        freshness = live_freshness.measure(live)
        return Part("A moment after a write", freshness.table(), freshness.aims(), freshness.as_json())
    if name == "lag":
        lags = live_lag.measure(live, servers)
        return Part("Lag of one relay, in milliseconds", live_lag.table(lags), [], live_lag.as_json(lags))
    writes = live_writes.measure(live, servers, options.rounds, options.seconds)
    return Part("Writes", writes.table(), writes.aims(), writes.as_json())


def _announce(line: str) -> None:
    print(f"bench: {time.monotonic() - BEGAN:4.0f} s: {line}", file=sys.stderr)


def _print(part: Part) -> None:
    tables = [part.table, *([aims_table(part.aims)] if part.aims else [])]
    print(f"\n### {part.title}", *tables, sep="\n\n", flush=True)


if __name__ == "__main__":
    # Ended from outside, it still takes its servers down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except SegueError as fault:
        sys.exit(f"bench: {fault.message}\n{fault.hint}".rstrip())
    except KeyboardInterrupt:
        sys.exit(130)
