"""What Redis and PostgreSQL promise the copy of agent state: all of it, in bounded pieces, newer over older."""

from __future__ import annotations

import itertools
import json
import math
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from acceptance.agent_place import AgentPlace, agent_place
from acceptance.redis_servers import PASSWORD, redisjson
from segue.config import load
from segue.errors import DataError, FatalError, TableMismatch
from segue.model import TABLES, AgentKind, AgentRow, RedisType
from segue.ports import Gone
from segue.ports.agent_state import ReadPiece, RedisNode
from segue.sandbox import Endpoint
from segue.stores.postgres_agents import PostgresAgents
from segue.stores.postgres_store import AgentTables, Postgres
from segue.stores.redis_connection import RedisAddress
from segue.stores.redis_store import ELEMENTS_A_PIECE, RedisSource

NUMBERS = itertools.count(1)


@pytest.fixture
def place(agent_endpoints: Mapping[str, Endpoint], tmp_path: Path) -> Iterator[AgentPlace]:
    """Keys and a schema of the test's own."""
    with agent_place(tmp_path, agent_endpoints) as found:
        yield found


@pytest.fixture
def source(place: AgentPlace) -> Iterator[RedisSource]:
    """The product's own reader, on the place's database."""
    settings = load(None, environ=place.environment()).redis
    host, _, port = place.redis_at.uri.removeprefix("redis://").partition("/")[0].rpartition(":")
    assert settings.password is not None
    address = RedisAddress(host, int(port), False, None, settings.username, settings.password.get_secret_value(), 5, 30)
    found = RedisSource(address, settings.chosen_databases)
    yield found
    found.close()


def postgres_of(place: AgentPlace) -> Postgres:
    """Return the place's schema, as the product connects to it."""
    settings = load(None, environ=place.environment()).postgres
    assert settings.password is not None
    return Postgres(
        settings.url,
        username=settings.username,
        password=settings.password.get_secret_value(),
        schema=place.schema,
        connect_timeout_seconds=5,
        request_timeout_seconds=60,
    )


def tables(place: AgentPlace, *, monthly: bool = False) -> AgentTables:
    """Return the product's own writer, on the place's schema."""
    return AgentTables(postgres_of(place), monthly=monthly)


@pytest.fixture
def sink(place: AgentPlace) -> Iterator[AgentTables]:
    """The tables, made."""
    found = tables(place)
    found.prepare()
    yield found
    found.close()


def node_of(source: RedisSource) -> RedisNode:
    """Return the only node."""
    (node,) = source.nodes()
    return node


def everything(source: RedisSource, place: AgentPlace) -> set[bytes]:
    """Return the place's keys as a scan finds them, page by page."""
    node, cursor, found = node_of(source), None, set()
    while True:
        page = source.scan(node, cursor, 50)
        found |= {key for key in page.keys if place.prefix.encode() in key or place.schema.encode() in key}
        cursor = page.cursor
        if cursor is None:
            return found


def read(source: RedisSource, place: AgentPlace, name: str, type_: RedisType, **how: Any) -> list[ReadPiece]:
    """Return the pieces of one key."""
    return list(source.read(node_of(source), [place.key(name).encode()], type_, **how))


def experience(n: int, **changes: Any) -> AgentRow:
    """Return a row of an experience with the natural key `n`."""
    values = ("agent", b'{"n":%d}' % n, "left", 0.5, None, True, 1_700_000_000_000_000 + n)
    row = AgentRow(AgentKind.EXPERIENCES, 0, "key", "", n.to_bytes(16, "big"), b"h" * 16, 1_000_000, None, values)
    return row._replace(**changes)


def test_a_scan_finds_every_key_and_reads_every_type(place: AgentPlace, source: RedisSource) -> None:
    """Page by page every key comes but Segue's own, and each type's elements as they are, with clock and expiry."""
    place.redis.set(place.key("string"), b"\x00\xff", px=60_000)
    place.redis.rpush(place.key("list"), "a", "b", "a")
    place.redis.hset(place.key("hash"), mapping={"f": "1", "g": b"\xff"})
    place.redis.zadd(place.key("zset"), {"m": 1.5})
    place.redis.sadd(place.key("set"), "x")
    id_ = place.redis.xadd(place.key("stream"), {"f": "v"})
    own = f"segue:agentdb:{place.schema}:gate"
    place.redis.set(own, "1", px=60_000)
    found = everything(source, place)
    assert found == {place.key(name).encode() for name in ("string", "list", "hash", "zset", "set", "stream")}

    expected: dict[str, Sequence[Any]] = {
        "string": [b"\x00\xff"],
        "list": [b"a", b"b", b"a"],
        "hash": [[b"f", b"1", b"g", b"\xff"]],
        "zset": [(b"m", b"1.5")],
        "set": [b"x"],
        "stream": [[id_, [b"f", b"v"]]],
    }
    seconds, microseconds = place.redis.time()
    for name, elements in expected.items():
        (piece,) = read(source, place, name, RedisType(name))
        assert (list(piece.elements), piece.begins, piece.ends, piece.actual) == (elements, True, True, None)
        assert 0 <= piece.observed_at - (seconds * 1_000_000 + microseconds) < 30_000_000
        assert piece.expires_at == (place.redis.pexpiretime(place.key("string")) * 1000 if name == "string" else None)


@pytest.mark.parametrize("type_", [one for one in RedisType if one is not RedisType.JSON])
def test_a_key_of_another_type_says_so_and_one_that_is_gone_says_nothing(
    place: AgentPlace, source: RedisSource, type_: RedisType
) -> None:
    """A key taken for another type yields what it is; one that is not there any more yields nothing."""
    other = "zset" if type_ is RedisType.STRING else "string"
    if other == "string":
        place.redis.set(place.key("key"), "1")
    else:
        place.redis.zadd(place.key("key"), {"m": 1})
    (piece,) = read(source, place, "key", type_)
    assert (piece.actual, list(piece.elements)) == (other, [])
    assert read(source, place, "gone", type_) == []


def test_documents_of_redisjson(place: AgentPlace, source: RedisSource, tmp_path: Path) -> None:
    """A document is read whole, with its expiry; a key of another type says so; a server without the module does too."""
    names = [b"doc", b"string", b"list", b"gone"]
    place.redis.set(place.key("doc"), "{}")
    with pytest.raises(FatalError, match=r"unknown command .JSON\.GET"):
        list(source.read(node_of(source), [place.key("doc").encode()], RedisType.JSON))
    with redisjson(tmp_path) as port:
        with redis.Redis(port=port, password=PASSWORD, protocol=2) as client:
            client.execute_command("JSON.SET", "doc", "$", '{"policy":{"w":[1,2.5]},"n":null}')
            client.pexpire("doc", 60_000)
            client.set("string", "{}")
            client.rpush("list", "x")
        with closing(RedisSource(RedisAddress("127.0.0.1", port, False, None, "default", PASSWORD, 5, 30), (0,))) as behind:
            found = list(behind.read(node_of(behind), names, RedisType.JSON))
    assert [(piece.key, list(piece.elements), piece.actual) for piece in found] == [
        (b"doc", [b'{"policy":{"w":[1,2.5]},"n":null}'], None),
        (b"string", [], "string"),
        (b"list", [], "list"),
    ]
    assert found[0].expires_at is not None


@pytest.mark.parametrize("type_", [RedisType.LIST, RedisType.HASH, RedisType.ZSET, RedisType.SET, RedisType.STREAM])
def test_large_keys_come_in_pieces(place: AgentPlace, source: RedisSource, type_: RedisType) -> None:
    """What is larger than a piece comes in several, of bounded size, together complete and without repetition of order."""
    total, key = ELEMENTS_A_PIECE * 2 + 77, place.key("large")
    with place.redis.pipeline(transaction=False) as pipe:
        add = {
            RedisType.LIST: lambda n: pipe.rpush(key, f"e{n}"),
            RedisType.HASH: lambda n: pipe.hset(key, f"e{n}", n),
            RedisType.ZSET: lambda n: pipe.zadd(key, {f"e{n}": n}),
            RedisType.SET: lambda n: pipe.sadd(key, f"e{n}"),
            RedisType.STREAM: lambda n: pipe.xadd(key, {"n": n}, id=f"{n + 1}-{n}"),
        }[type_]
        for n in range(total):
            add(n)
        pipe.execute()
    pieces = read(source, place, "large", type_)
    assert [piece.begins for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) >= 3
    if type_ is RedisType.HASH:
        names = [name for piece in pieces for flat in piece.elements for name in flat[::2]]  # type: ignore[index]
    elif type_ in {RedisType.ZSET, RedisType.STREAM}:
        names = [one[0] for piece in pieces for one in piece.elements]  # type: ignore[index]
    else:
        names = [one for piece in pieces for one in piece.elements]
    wanted = [b"%d-%d" % (n + 1, n) for n in range(total)] if type_ is RedisType.STREAM else [b"e%d" % n for n in range(total)]
    if type_ in {RedisType.LIST, RedisType.STREAM}:
        assert names == wanted
    assert set(names) == set(wanted)
    if type_ is RedisType.STREAM:
        later = read(source, place, "large", type_, since_ms=total - 1)
        assert [one[0] for piece in later for one in piece.elements] == wanted[-2:]  # type: ignore[index]
    if type_ is RedisType.HASH:
        assert len(read(source, place, "large", type_, whole=True)) == 1


@pytest.mark.parametrize("pushes_left", [True, False])
def test_a_list_that_moves_is_read_whole(place: AgentPlace, source: RedisSource, pushes_left: bool) -> None:
    """A window that is pushed to and trimmed between the pieces: whatever stayed is read, and nothing twice."""
    key, size = place.key("window"), ELEMENTS_A_PIECE * 3
    push = place.redis.lpush if pushes_left else place.redis.rpush
    push(key, *[f"e{n}" for n in range(size)])
    fresh, begun, last = itertools.count(size), 0, 0
    read_now: list[Any] = []
    for piece in source.read(node_of(source), [key.encode()], RedisType.LIST):
        if piece.begins:
            read_now, begun = [], last
        read_now += piece.elements
        # As many again as are read once more, so that the same end cannot be relied on.
        push(key, *[f"e{next(fresh)}" for _ in range(100)])
        place.redis.ltrim(key, *((0, size - 1) if pushes_left else (-size, -1)))
        last += 100
    assert max(Counter(read_now).values()) == 1
    stayed = {b"e%d" % n for n in range(last, size + begun)}
    assert stayed <= set(read_now)


def test_a_list_of_equals_that_is_trimmed_away(place: AgentPlace, source: RedisSource) -> None:
    """A list that vanishes between two pieces ends there, without an error."""
    key = place.key("vanishing")
    place.redis.rpush(key, *[f"e{n}" for n in range(ELEMENTS_A_PIECE * 2)])
    pieces = source.read(node_of(source), [key.encode()], RedisType.LIST)
    assert len(next(pieces).elements) == ELEMENTS_A_PIECE
    place.redis.delete(key)
    assert list(pieces) == []


def test_the_tables_have_exactly_these_columns(place: AgentPlace, sink: AgentTables) -> None:
    """The first version's columns with their types, and what finding a row again needs."""
    found = place.rows(
        "SELECT column_name, upper(data_type) || coalesce('(' || character_maximum_length || ')', '') "
        "FROM information_schema.columns WHERE table_schema = %s AND table_name = 'rl_experiences' ORDER BY ordinal_position",
        place.schema,
    )
    assert found == [
        ("id", "BIGINT"),
        ("agent_id", "CHARACTER VARYING(100)"),
        ("state", "JSONB"),
        ("action", "CHARACTER VARYING(100)"),
        ("reward", "DOUBLE PRECISION"),
        ("next_state", "JSONB"),
        ("done", "BOOLEAN"),
        ("timestamp", "TIMESTAMP WITH TIME ZONE"),
        ("natural_key", "UUID"),
        ("content_hash", "UUID"),
        ("source_db", "INTEGER"),
        ("source_key", "TEXT"),
        ("observed_at", "TIMESTAMP WITH TIME ZONE"),
        ("expires_at", "TIMESTAMP WITH TIME ZONE"),
    ]
    assert place.rows("SELECT pg_get_serial_sequence('rl_experiences', 'id') IS NOT NULL") == [(True,)]
    assert sink.unfit() == []
    # An application that writes here itself need know the first version's columns only.
    place.postgres.execute("INSERT INTO rl_experiences (agent_id, state, action) VALUES ('a', '{}', 'x'), ('a', '{}', 'x')")
    assert sink.counts()[AgentKind.EXPERIENCES] == 2


def test_tables_of_others_are_refused(place: AgentPlace) -> None:
    """A table of that name with other columns stays as it is, and what differs is listed."""
    place.postgres.execute("CREATE TABLE rl_experiences (id BIGINT, agent_id VARCHAR(50), state TEXT, note TEXT NOT NULL)")
    found = tables(place)
    with pytest.raises(TableMismatch) as refusal:
        found.prepare()
    for said in (
        "rl_experiences.agent_id: is character varying(50), character varying(100) is needed",
        "rl_experiences.reward: missing, double precision is needed",
        "rl_experiences.note: text that every row must have",
    ):
        assert said in refusal.value.message
    assert place.rows("SELECT count(*) FROM pg_tables WHERE schemaname = %s", place.schema) == [(1,)]
    found.close()


def test_preparing_and_indexing_at_once_and_again(place: AgentPlace) -> None:
    """Several may make tables and indexes at the same time, and again later: all succeed, and they are there once."""
    failures: list[BaseException] = []

    def work() -> None:
        mine = tables(place)
        try:
            mine.prepare()
            mine.index()
        except BaseException as fault:  # noqa: BLE001  # shown by the assertion
            failures.append(fault)
        finally:
            mine.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work()
    assert failures == []
    assert place.rows(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND indexname LIKE %s", place.schema, "%_agent"
    ) == [(4,)]
    assert place.rows("SELECT version_num FROM segue_agentdb_version") == [("0002",)]


def test_newer_over_older_whatever_the_order(place: AgentPlace, sink: AgentTables) -> None:
    """What was read from Redis later stays, in whichever order it lands, and writing again changes nothing."""
    old = experience(1)
    new = experience(1, observed_at=2_000_000, content_hash=b"i" * 16, values=(*old.values[:3], 9.0, *old.values[4:]))
    assert sink.write([new, old, experience(2)]) == 2
    assert sink.write([old]) == 0
    assert sink.write([new]) == 0
    assert place.rows("SELECT reward FROM rl_experiences ORDER BY natural_key") == [(9.0,), (0.5,)]
    assert sink.write([new._replace(observed_at=3_000_000)]) == 0
    assert sink.write([new._replace(observed_at=3_000_000)], touch=True) == 1
    assert sink.write([new._replace(observed_at=2_500_000, content_hash=b"j" * 16)]) == 0
    assert sink.write([new._replace(observed_at=4_000_000, expires_at=9_000_000)]) == 1


def test_rows_that_are_partly_there(place: AgentPlace, sink: AgentTables) -> None:
    """A batch of which some rows are there already is written as if all were new: each row once, the newer one stays."""
    assert sink.write([experience(n) for n in range(1, 200)]) == 199
    newer = experience(100, observed_at=2_000_000, content_hash=b"i" * 16)
    mixed = [experience(n) for n in range(100, 400)]
    assert sink.write([newer, *mixed[1:], mixed[0]]) == 201
    # The batches after a refusal are merged at once, and what is new among them is new all the same.
    assert sink.write([experience(n) for n in range(300, 500)]) == 100
    again = tables(place)
    assert again.write([experience(n) for n in range(1, 600)]) == 100
    again.close()
    assert place.rows("SELECT count(*), count(DISTINCT natural_key) FROM rl_experiences") == [(599, 599)]
    assert place.rows("SELECT content_hash::text FROM rl_experiences WHERE observed_at > to_timestamp(1)") == [
        (str(uuid.UUID(bytes=b"i" * 16)),)
    ]


def test_what_was_removed_later_stays_gone(place: AgentPlace, sink: AgentTables) -> None:
    """A row that was removed after it was read is not brought back, in whichever way its batch would go; others are written."""
    gone = experience(1)
    place.postgres.execute("INSERT INTO segue_agentdb_gone VALUES (%s, to_timestamp(5))", (uuid.UUID(bytes=gone.natural_key),))
    assert sink.write([gone, experience(2)]) == 1
    assert place.rows("SELECT count(*) FROM rl_experiences") == [(1,)]
    assert sink.write([gone._replace(observed_at=6_000_000)]) == 1


def test_copies_of_the_same_rows_at_once(place: AgentPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several that write the same new rows at the same time wait for each other, never in a circle, and write each row once."""
    written: list[int] = []
    rows = [experience(n) for n in range(1, 10_000)]
    together, send = threading.Barrier(3), AgentTables._send
    begun: set[int] = set()

    def sent(self: AgentTables, *what: Any) -> None:
        # What is refused then is sent a second time, to be merged.
        if threading.get_ident() not in begun:
            begun.add(threading.get_ident())
            together.wait(30)
        send(self, *what)

    def work(first: Sequence[AgentRow]) -> None:
        mine = tables(place)
        try:
            written.append(mine.write(first))
        finally:
            mine.close()

    made = tables(place)
    made.prepare()
    made.close()
    monkeypatch.setattr(AgentTables, "_send", sent)
    orders = (rows, rows[::-1], rows[5_000:] + rows[:5_000])
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, 0, 9_999]


def test_a_removal_waits_for_what_a_copy_has_in_hand(
    place: AgentPlace, sink: AgentTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that found nothing removed, and has not committed, does not bring back what is removed just then."""
    row = experience(1)
    looked, go, send = threading.Event(), threading.Event(), AgentTables._send

    def sent(self: AgentTables, *what: Any) -> None:
        looked.set()
        go.wait(30)
        send(self, *what)

    monkeypatch.setattr(AgentTables, "_send", sent)
    agents = PostgresAgents(postgres_of(place), monthly=False)
    copying = threading.Thread(target=sink.write, args=([row],))
    removing = threading.Thread(target=agents.apply, args=([], [Gone(row.kind, row.natural_key, 5_000_000)]))
    copying.start()
    assert looked.wait(30)
    removing.start()
    removing.join(0.5)
    go.set()
    copying.join()
    removing.join()
    agents.close()
    assert place.rows("SELECT count(*) FROM rl_experiences") == [(0,)]


def test_every_column_as_it_was(place: AgentPlace, sink: AgentTables) -> None:
    """Every type arrives as it was sent: JSON, text of any script, numbers at their ends, NaN, bytes, times."""
    deep = {"é": [1.5e-9, 0.5, "𝄞\t\n\\u"], "n": None}
    rows = [
        experience(1, values=("ä" * 100, json.dumps(deep).encode(), "\t\\N\n", math.nan, b"[]", None, -1)),
        AgentRow(
            AgentKind.Q_VALUES, 3, "k", "", b"q" * 16, b"h" * 16, 5, 7, ("a", "s" * 9_000, "x", -math.inf, 2**63 - 1, None)
        ),
        AgentRow(AgentKind.POLICIES, 0, "k", "", b"p" * 16, b"h" * 16, 5, None, ("a", None, None, bytes(range(256)), None)),
        AgentRow(AgentKind.METADATA, 0, "k", "", b"m" * 16, b"h" * 16, 5, None, ("a", "n", b'"v"', None)),
    ]
    assert sink.write(rows) == 4
    ((agent, state, action, reward, following, at),) = place.rows(
        'SELECT agent_id, state, action, reward, next_state, extract(epoch FROM "timestamp") * 1e6 FROM rl_experiences'
    )
    assert (agent, state, action, following, at) == ("ä" * 100, deep, "\t\\N\n", [], -1)
    assert math.isnan(reward)
    assert place.rows("SELECT length(state), q_value, visits, source_db FROM rl_q_values") == [(9_000, -math.inf, 2**63 - 1, 3)]
    assert place.rows("SELECT payload, policy FROM rl_policies") == [(bytes(range(256)), None)]
    assert place.rows("SELECT name, value FROM rl_agent_metadata") == [("n", "v")]


def test_a_refused_row_leaves_nothing_and_the_next_batch_goes(sink: AgentTables) -> None:
    """One row that PostgreSQL refuses fails its batch as a whole; the connection serves the next one."""
    bad = experience(2, values=("a", b'{"x": 1e200000}', "x", 0.0, None, None, None))
    with pytest.raises(DataError, match="refuses a row"):
        sink.write([experience(1), bad])
    assert sink.counts()[AgentKind.EXPERIENCES] == 0
    assert sink.write([experience(1)]) == 1


def test_partitions_by_month(place: AgentPlace) -> None:
    """A month gets its own partition when the first row of it comes; odd times and none go to the rest; twice is once."""
    sink = tables(place, monthly=True)
    sink.prepare()
    times = [1_700_000_000_000_000, 1_701_388_799_999_999, 1_701_388_800_000_000, None, -1]
    rows = [experience(n, values=(*experience(n).values[:6], at)) for n, at in enumerate(times)]
    assert sink.write(rows) == 5
    assert sink.write(rows) == 0
    sink.index()
    sink.close()
    found = place.rows("SELECT tableoid::regclass::text, count(*) FROM rl_experiences GROUP BY 1 ORDER BY 1")
    assert found == [("rl_experiences_2023_11", 2), ("rl_experiences_2023_12", 1), ("rl_experiences_other", 2)]


def test_every_kind_has_its_table() -> None:
    """Each kind has a table of its own name, whose first column says whose it is."""
    assert {kind.value: table.name for kind, table in TABLES.items()} == {
        "experiences": "rl_experiences",
        "q_values": "rl_q_values",
        "policies": "rl_policies",
        "metadata": "rl_agent_metadata",
    }
    assert all(table.columns[0].name == "agent_id" for table in TABLES.values())
