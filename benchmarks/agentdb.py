"""The benchmark of the copy of agent state: Segue, what people write instead, and the ceilings, on the same real servers.

Begin reading at `main`. Every run is a process of its own, so that CPU and memory are that contender's; contenders are
interleaved over several rounds, so that what else the machine does falls on all of them. Everybody fills an empty table
with the same columns, primary key and unique natural key; indexes for reading are left out for everybody.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import psycopg
import redis

from segue import sandbox
from segue.bootstrap.agent_state import agent_codecs, agent_tables, few_collections, postgres, redis_source
from segue.config import Settings, load
from segue.model import RedisType
from segue.phases.agent_copy import AgentCopy, AgentJob
from segue.pipelines.agent_codec import AgentCodec, Decoded, in_groups
from segue.pipelines.agent_elements import Occurrences
from segue.sandbox import Endpoint
from segue.state.sqlite_agent_copies import SqliteAgentCopies
from segue.stores.postgres_store import AgentTables
from segue.stores.postgres_wire import END, SIGNATURE, SOURCE_COLUMNS, block

CONTENDERS = ("segue", "ceiling", "read", "executemany", "script")
CASES = ("string", "list", "hash", "stream", "q")
SCHEMA = "segue_benchmark"
DB = 15
_EXPERIENCE = {
    "agent_id": "part:agent_id",
    "state": "json:/state",
    "action": "json:/action",
    "reward": "json:/reward",
    "next_state": "json:/next_state",
    "done": "json:/done",
    "timestamp": "json:/ts",
}
_FIELDS = {name: source.replace("json:/", "field:") for name, source in _EXPERIENCE.items()}
_MAPPINGS: dict[str, dict[str, Any]] = {
    "string": {"key": "string:{agent_id}:{n}", "type": "string", "columns": _EXPERIENCE},
    "list": {"key": "list:{agent_id}", "type": "list", "columns": _EXPERIENCE},
    "hash": {"key": "hash:{agent_id}:{n}", "type": "hash", "columns": _FIELDS},
    "stream": {"key": "stream:{agent_id}", "type": "stream", "document": "data", "columns": _EXPERIENCE},
    "q": {
        "kind": "q_values",
        "key": "q:{agent_id}:{state}",
        "type": "hash",
        "encoding": "number",
        "rows": "field",
        "member": "{action}",
        "columns": {"agent_id": "part:agent_id", "state": "part:state", "action": "part:action", "q_value": "value"},
    },
}


def main() -> None:
    """Run the benchmark as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiences", type=int, default=150_000, help="of each of the four types")
    parser.add_argument("--q-values", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--slow-rows", type=int, default=5_000, help="rows that the script people write is measured on")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "CONTENDER", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    servers = sandbox.up(("redis", "postgres"), announce=_say)
    if options.one:
        case, contender, rows = options.one
        sys.stdout.write(json.dumps(_measured(servers, case, contender, int(rows))))
        return
    _say(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    results = []
    for case in options.cases:
        rows = options.q_values if case == "q" else options.experiences
        with closing(_redis(servers)) as client:
            _clear(client)
            _fill(client, case, rows)
        for number in range(options.rounds):
            order = (
                options.contenders[number % len(options.contenders) :] + options.contenders[: number % len(options.contenders)]
            )
            results += [_run(case, contender, min(rows, _most(contender, options.slow_rows))) for contender in order]
        if "segue" in options.contenders:
            with closing(_redis(servers)) as client:
                _clear(client)
                _fill(client, case, rows // 4)
            results.append(_run(case, "segue", rows // 4) | {"contender": "segue, a quarter"})
    with closing(_redis(servers)) as client:
        _clear(client)
    with closing(_postgres(servers)) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    _report(results)


def _most(contender: str, slow_rows: int) -> int:
    return {"script": slow_rows, "executemany": slow_rows * 10}.get(contender, sys.maxsize)


def _run(case: str, contender: str, rows: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", case, contender, str(rows)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout)
    _say(f"{case:8} {contender:12} {found['rows'] / found['seconds']:>12,.0f} rows/s")
    return found


def _measured(servers: dict[str, Endpoint], case: str, contender: str, rows: int) -> dict[str, Any]:
    with closing(_postgres(servers)) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
    settings = _settings(servers, case)
    with closing(agent_tables(settings)) as tables:
        tables.prepare()
        work = _WORK[contender](servers, settings, tables, rows)
        before = _cpu(servers)
        began = time.monotonic()
        done = work()
        seconds = time.monotonic() - began
        after = _cpu(servers)
    spent = {name: (after[name] - before[name]) / done * 1e6 for name in after}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"case": case, "contender": contender, "rows": done, "seconds": seconds, "peak_mib": peak, **spent}


# The contenders. Each returns what is timed, which returns how many rows it did.

Work = Callable[[], int]


def _segue(servers: dict[str, Endpoint], settings: Settings, tables: AgentTables, rows: int) -> Work:
    del servers, rows
    source = redis_source(settings)
    job = AgentJob(agent_codecs(settings), [], (), settings.agentdb.rows_per_batch, "benchmark")
    folder = TemporaryDirectory()
    # No other contender builds the indexes that a complete copy ends with.
    tables.index = lambda: None  # type: ignore[method-assign]

    def work() -> int:
        records = Path(folder.name) / "state.db"
        with folder, few_collections(), SqliteAgentCopies(records) as state, closing(source):
            outcome = AgentCopy(job, source, tables, _Silent(), threading.Event()).run(state)
            if outcome.counts.quarantined or not outcome.counts.migrated:
                raise SystemExit(str(outcome))
            return outcome.counts.migrated

    return work


def _ceiling(servers: dict[str, Endpoint], settings: Settings, tables: AgentTables, rows: int) -> Work:
    """The same rows, made before, as prebuilt binary blocks into the table itself: no reading, no decoding, no merging."""
    del servers, tables
    (codec,) = agent_codecs(settings)
    table = codec.mapping.table
    columns = ", ".join([*SOURCE_COLUMNS, *(f'"{column.name}"' for column in table.columns)])
    blocks = [(len(decoded.rows), block(table, decoded.rows)) for decoded in _decoded(settings, codec)]
    connection = postgres(settings).connect()

    def work() -> int:
        done = 0
        with connection:
            for number, packed in blocks:
                with connection.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(SIGNATURE)
                    copy.write(packed)
                    copy.write(END)
                connection.commit()
                done += number
        return min(done, rows)

    return work


def _read(servers: dict[str, Endpoint], settings: Settings, tables: AgentTables, rows: int) -> Work:
    """Everything read from Redis as the copy reads it, and thrown away."""
    del servers, tables
    (codec,) = agent_codecs(settings)

    def work() -> int:
        done = 0
        with closing(redis_source(settings)) as source:
            for piece in _pieces(source, codec):
                per_field = codec.mapping.is_per_field
                done += sum(len(flat) // 2 for flat in piece.elements) if per_field else len(piece.elements)
        return min(done, rows)

    return work


def _script(servers: dict[str, Endpoint], settings: Settings, tables: AgentTables, rows: int) -> Work:
    """What people write: scan_iter, a read a key, an INSERT a row, each committed."""
    del tables
    (codec,) = agent_codecs(settings)
    connection, client = _postgres(servers), _redis(servers)

    def work() -> int:
        done = 0
        with connection, client:
            for row in _plain_rows(client, codec):
                connection.execute(_insert(codec), row)
                done += 1
                if done == rows:
                    break
        return done

    return work


def _executemany(servers: dict[str, Endpoint], settings: Settings, tables: AgentTables, rows: int) -> Work:
    """The better script: the same reading, executemany of 1,000 rows in a transaction."""
    del tables
    (codec,) = agent_codecs(settings)
    connection, client = _postgres(servers), _redis(servers)

    def work() -> int:
        done = 0
        held: list[tuple[Any, ...]] = []
        with connection, client, connection.cursor() as cursor:
            for row in _plain_rows(client, codec, pipelined=True):
                held.append(row)
                if len(held) == 1_000 or done + len(held) == rows:
                    with connection.transaction():
                        cursor.executemany(_insert(codec), held)
                    done += len(held)
                    held = []
                    if done >= rows:
                        break
        return done

    return work


_WORK = {"segue": _segue, "ceiling": _ceiling, "read": _read, "script": _script, "executemany": _executemany}


class _Silent:
    """Watches a copy and says nothing."""

    def planned(self, *_: object, **__: object) -> None:
        """See `Progress`."""

    batch = working = indexing = note = planned


def _plain_rows(client: redis.Redis, codec: AgentCodec, *, pipelined: bool = False) -> Iterator[tuple[Any, ...]]:
    """Rows as plain Python makes them: json.loads, json.dumps."""
    keys: list[bytes] = []
    for key in client.scan_iter(f"{codec.pattern.glob}", count=1_000):
        keys.append(key)
        if len(keys) == (1_000 if pipelined else 1):
            yield from _plainly(client, codec, keys)
            keys = []
    if keys:
        yield from _plainly(client, codec, keys)


def _plainly(client: redis.Redis, codec: AgentCodec, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
    pipe = client.pipeline(transaction=False) if len(keys) > 1 else client
    read = {
        RedisType.STRING: pipe.get,
        RedisType.LIST: lambda key: pipe.lrange(key, 0, -1),
        RedisType.HASH: pipe.hgetall,
        RedisType.STREAM: pipe.xrange,
    }[codec.mapping.type]
    found = [read(key) for key in keys]
    if len(keys) > 1:
        found = pipe.execute()
    for key, value in zip(keys, found, strict=True):
        agent = key.decode().split(":")[1]
        if codec.mapping.is_per_field:
            state = key.decode().split(":", 2)[2]
            for action, number in value.items():
                yield agent, state, action.decode(), float(number)
            continue
        if codec.mapping.type is RedisType.HASH:
            one = {name.decode(): held.decode() for name, held in value.items()}
            documents = [{**one, "state": json.loads(one["state"]), "next_state": json.loads(one["next_state"])}]
        elif codec.mapping.type is RedisType.STREAM:
            documents = [json.loads(fields[b"data"]) for _, fields in value]
        else:
            documents = [json.loads(one) for one in (value if isinstance(value, list) else [value])]
        for one in documents:
            packed = json.dumps(one["state"]), json.dumps(one["next_state"])
            yield agent, packed[0], str(one["action"]), float(one["reward"]), packed[1], one["done"], float(one["ts"])


def _insert(codec: AgentCodec) -> str:
    if codec.mapping.is_per_field:
        return f"INSERT INTO {SCHEMA}.rl_q_values (agent_id, state, action, q_value) VALUES (%s, %s, %s, %s)"
    return (
        f"INSERT INTO {SCHEMA}.rl_experiences (agent_id, state, action, reward, next_state, done, timestamp) "
        "VALUES (%s, %s, %s, %s, %s, %s, to_timestamp(%s))"
    )


def _pieces(source: Any, codec: AgentCodec) -> Iterator[Any]:
    (node,) = source.nodes()
    cursor = None
    while True:
        page = source.scan(node, cursor, 2_000)
        whole = codec.mapping.type is RedisType.HASH and not codec.mapping.is_per_field
        yield from source.read(node, page.keys, codec.mapping.type, whole=whole)
        cursor = page.cursor
        if cursor is None:
            return


def _decoded(settings: Settings, codec: AgentCodec) -> Iterator[Decoded]:
    decoded = Decoded()
    with closing(redis_source(settings)) as source:
        for pieces in in_groups(_pieces(source, codec)):
            codec.decode(pieces, decoded, Occurrences())
            if len(decoded.rows) >= settings.agentdb.rows_per_batch:
                yield decoded
                decoded = Decoded()
    yield decoded


def _fill(client: redis.Redis, case: str, rows: int) -> None:
    _say(f"{case}: filling Redis with {rows:,} rows")
    pipe = client.pipeline(transaction=False)
    for n in range(rows):
        agent = f"agent{n % 50}"
        if case == "q":
            if n % 10 == 0:
                pipe.hset(f"q:{agent}:s{n // 10}", mapping={f"a{k}": f"{(n + k) / 7}" for k in range(10)})
        else:
            document = {
                "state": [n, n * 0.5, n % 17, "room"],
                "action": n % 4,
                "reward": n / 8,
                "next_state": [n + 1, n * 0.5 + 1, n % 13, "hall"],
                "done": n % 100 == 0,
                "ts": 1.77e9 + n,
            }
            packed = json.dumps(document)
            if case == "string":
                pipe.set(f"string:{agent}:{n}", packed)
            elif case == "list":
                pipe.rpush(f"list:{agent}", packed)
            elif case == "stream":
                pipe.xadd(f"stream:{agent}", {"data": packed}, id=f"{n + 1}-0")
            else:
                fields = {name: json.dumps(value) for name, value in document.items()}
                pipe.hset(f"hash:{agent}:{n}", mapping=fields)
        if len(pipe) >= 5_000:
            pipe.execute()
    pipe.execute()


def _settings(servers: dict[str, Endpoint], case: str) -> Settings:
    mapping = {"kind": "experiences", "encoding": "json", **_MAPPINGS[case]}
    at = servers["redis"], servers["postgres"]
    environ = {
        "REDIS_URL": at[0].uri.replace("//", f"//{at[0].username}:{at[0].password}@").removesuffix("/0") + f"/{DB}",
        "DATABASE_URL": at[1].uri.replace("//", f"//{at[1].username}:{at[1].password}@"),
    }
    overrides = {("postgres", "schema"): SCHEMA, ("agentdb", "mappings"): [mapping]}
    return load(None, overrides, environ)


def _redis(servers: dict[str, Endpoint]) -> redis.Redis:
    at = servers["redis"]
    return redis.Redis.from_url(at.uri.removesuffix("/0") + f"/{DB}", username=at.username, password=at.password, protocol=2)


def _clear(client: redis.Redis) -> None:
    for case in CASES:
        keys = list(client.scan_iter(f"{case}:*", count=5_000))
        for start in range(0, len(keys), 5_000):
            client.unlink(*keys[start : start + 5_000])


def _postgres(servers: dict[str, Endpoint]) -> psycopg.Connection[Any]:
    at = servers["postgres"]
    return psycopg.connect(at.uri, user=at.username, password=at.password, autocommit=True)


def _cpu(servers: dict[str, Endpoint]) -> dict[str, float]:
    own = os.times()
    seconds = {"client_us": own.user + own.system}
    for service in ("redis", "postgres"):
        family = [psutil.Process(servers[service].pid)]
        family += family[0].children(recursive=True)
        total = 0.0
        for one in family:
            # A backend that has ended is in its parent's account of children.
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + (times.children_user + times.children_system if one is family[0] else 0)
        seconds[f"{service}_us"] = total
    return seconds


def _report(results: list[dict[str, Any]]) -> None:
    """Print the medians, and what they come to against the aims."""
    table = ["| case | contender | rows | rows/s, median (least to most) | µs a row: client | Redis | PostgreSQL | peak MiB |"]
    table.append("|---|---|---|---|---|---|---|---|")
    rates: dict[tuple[str, str], float] = {}
    for case in dict.fromkeys(one["case"] for one in results):
        for contender in (*CONTENDERS, "segue, a quarter"):
            runs = [one for one in results if (one["case"], one["contender"]) == (case, contender)]
            if not runs:
                continue
            speeds = sorted(one["rows"] / one["seconds"] for one in runs)
            rates[case, contender] = statistics.median(speeds)
            spent = [statistics.median(one[name] for one in runs) for name in ("client_us", "redis_us", "postgres_us")]
            cells = [
                case,
                contender,
                f"{runs[0]['rows']:,}",
                f"{rates[case, contender]:,.0f} ({speeds[0]:,.0f} to {speeds[-1]:,.0f})",
            ]
            cells += [f"{one:.1f}" for one in spent] + [f"{max(one['peak_mib'] for one in runs):.0f}"]
            table.append(f"| {' | '.join(cells)} |")
    print("\n".join(table))
    for case in dict.fromkeys(one["case"] for one in results):
        if not all((case, contender) in rates for contender in CONTENDERS):
            continue
        most = min(rates[case, "ceiling"], rates[case, "read"])
        own = rates[case, "segue"]
        against = f"{own / rates[case, 'script']:.0f}x the script, {own / rates[case, 'executemany']:.1f}x executemany"
        print(f"- {case}: {own / most:.0%} of the lower ceiling ({most:,.0f} rows/s), {against}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
