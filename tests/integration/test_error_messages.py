"""What goes wrong is said once, in words: what, where, what next; with the exit code of its kind, and no secret."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from pymilvus import CollectionSchema, DataType, FieldSchema

from acceptance.items import PROPERTIES, Loaded, assert_equal, configuration, load
from acceptance.workplace import COMMAND, STATE, Ended, Workplace, workplace
from segue.sandbox import Endpoint

SHORT_TIMEOUTS = """
[neo4j]
connect_timeout_seconds = 2
[milvus]
request_timeout_seconds = 1
"""
CLOSED_PORT = 1


@pytest.fixture(scope="module")
def copied(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workplace, Loaded]]:
    """A place with a complete copy of a few items, and its records."""
    with workplace(tmp_path_factory.mktemp("copied"), newest_neo4j, milvus_endpoint) as place:
        loaded = load(place, 30)
        place.configure(configuration(place, loaded))
        ended = place.migrate()
        assert ended.code == 0, ended.err
        yield place, loaded


@pytest.fixture
def place(copied: tuple[Workplace, Loaded], tmp_path: Path) -> Workplace:
    """A folder of its own with that place's configuration, short timeouts, and no records."""
    original, loaded = copied
    here = original.elsewhere(tmp_path)
    here.configure(configuration(here, loaded, extra=SHORT_TIMEOUTS))
    return here


@pytest.fixture
def recorded(copied: tuple[Workplace, Loaded], tmp_path: Path) -> tuple[Workplace, Loaded]:
    """A folder of its own with that place's configuration and a copy of its records."""
    original, loaded = copied
    here = original.elsewhere(tmp_path)
    here.configure(configuration(here, loaded))
    shutil.copy(original.folder / STATE, tmp_path)
    return here, loaded


@pytest.fixture(scope="module")
def tls_port() -> Iterator[int]:
    """A port whose listener speaks TLS only; it has no certificate, since nobody gets as far as to ask for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with suppress(OSError), context.wrap_socket(client, server_side=True):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _assert_said(ended: Ended, code: int, *words: str, status: str = "failed") -> None:
    """One message and its hint on stderr, nothing else there but progress; the same as an error object on stdout."""
    data = ended.data
    message, hint = data["error"]["message"], data["error"]["hint"]
    assert ended.code == code, ended.err
    assert (data["status"], data["error"]["exit_code"]) == (status, code)
    assert hint, "nothing says what to do next"
    said = [line for line in ended.err.splitlines() if not line.startswith("workplace_")]
    assert said == [*f"error: {message}".splitlines(), *(f"  {line}" for line in hint.splitlines())]
    for word in words:
        assert word in f"{message}\n{hint}"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NEO4J_PASSWORD", "not-the-password", ("Neo4j at bolt://", "refuses the credentials", "NEO4J_PASSWORD")),
        ("NEO4J_USERNAME", "nobody", ("Neo4j at bolt://", "'nobody'", "NEO4J_USERNAME")),
        ("MILVUS_TOKEN", "root:not-the-password", ("Milvus at http://", "refuses the token", "MILVUS_TOKEN")),
        ("MILVUS_TOKEN", None, ("Milvus at http://", "refuses the token", "MILVUS_TOKEN")),
        ("NEO4J_URI", f"bolt://127.0.0.1:{CLOSED_PORT}", (f"bolt://127.0.0.1:{CLOSED_PORT} does not answer", "NEO4J_URI")),
        ("NEO4J_URI", f"neo4j://127.0.0.1:{CLOSED_PORT}", (f"neo4j://127.0.0.1:{CLOSED_PORT} does not answer", "NEO4J_URI")),
        ("MILVUS_URI", f"http://127.0.0.1:{CLOSED_PORT}", (f"http://127.0.0.1:{CLOSED_PORT} does not answer", "MILVUS_URI")),
        ("NEO4J_DATABASE", "nosuch", ("no database 'nosuch'", "SHOW DATABASES", "NEO4J_DATABASE")),
    ],
)
def test_a_store_that_cannot_be_used_is_named_with_its_address_and_setting(
    place: Workplace, variable: str, value: str | None, words: tuple[str, ...]
) -> None:
    """Wrong credentials, a closed port, a database that is not there: exit 1, and the variable that would mend it."""
    ended = place.migrate(**{variable: value})

    _assert_said(ended, 1, *words)
    assert "not-the-password" not in ended.out + ended.err
    assert not (place.folder / STATE).exists()


def test_a_milvus_database_that_does_not_exist_is_named(place: Workplace, copied: tuple[Workplace, Loaded]) -> None:
    """[milvus] database = "nosuch" ends with exit 1 and that name."""
    place.configure(configuration(place, copied[1], extra=SHORT_TIMEOUTS + 'database = "nosuch"\n'))

    _assert_said(place.migrate(), 1, "no database 'nosuch'", "[milvus] database")


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+ssc"])
def test_tls_towards_a_plain_neo4j_is_a_mismatch(place: Workplace, scheme: str) -> None:
    """An address with TLS before a server without it: exit 1, and which schemes are which."""
    ended = place.migrate(NEO4J_URI=place.neo4j.uri.replace("bolt", scheme))

    _assert_said(ended, 1, "TLS does not match", f"{scheme}://", "bolt:// and neo4j:// are plain", "NEO4J_URI")


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_plain_neo4j_address_before_a_tls_port_is_a_mismatch(place: Workplace, tls_port: int, scheme: str) -> None:
    """An address without TLS before a server with it: exit 1, and which schemes are which."""
    ended = place.migrate(NEO4J_URI=f"{scheme}://127.0.0.1:{tls_port}")

    _assert_said(ended, 1, "TLS does not match", f"{scheme}://127.0.0.1:{tls_port}", "bolt+s://", "NEO4J_URI")


def test_https_towards_a_plain_milvus_is_a_mismatch(place: Workplace) -> None:
    """https:// before a Milvus without TLS: exit 1, and which scheme is which."""
    ended = place.migrate(MILVUS_URI=place.milvus.uri.replace("http", "https"))

    _assert_said(ended, 1, "not with https://", "http:// is plain", "ca_file", "MILVUS_URI")


def test_http_towards_a_tls_port_is_a_mismatch(place: Workplace, tls_port: int) -> None:
    """http:// before a server with TLS: exit 1, and which scheme is which."""
    ended = place.migrate(MILVUS_URI=f"http://127.0.0.1:{tls_port}")

    _assert_said(ended, 1, "not with http://", "https:// is TLS", "MILVUS_URI")


@pytest.mark.parametrize(("variable", "value"), [("NEO4J_URI", "http://127.0.0.1"), ("MILVUS_URI", "bolt://127.0.0.1")])
def test_an_address_of_another_kind_is_a_fault_of_the_configuration(place: Workplace, variable: str, value: str) -> None:
    """An address that no such store can have: exit 2, and the forms that are taken."""
    _assert_said(place.migrate(**{variable: value}), 2, f"'{value}' is no", variable)


def test_a_collection_with_another_schema_is_refused_with_every_difference(
    place: Workplace, copied: tuple[Workplace, Loaded]
) -> None:
    """A collection of that name but not of that schema is left alone: exit 1, and each difference in a line."""
    other = f"{place.collection}_other"
    fields = [
        FieldSchema("number", DataType.INT64, is_primary=True, auto_id=True),
        FieldSchema("id", DataType.VARCHAR, max_length=512),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
        FieldSchema("year", DataType.VARCHAR, max_length=10),
        FieldSchema("segue_ver", DataType.VARCHAR, max_length=8),
    ]
    place.client.create_collection(other, schema=CollectionSchema(fields, enable_dynamic_field=True, auto_id=True))
    index = place.client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    place.client.create_index(other, index)
    place.configure(configuration(place, copied[1]).replace(f'name = "{place.collection}"', f'name = "{other}"'))

    for arguments in ((), ("--dry-run",)):
        _assert_said(
            place.migrate(*arguments),
            1,
            f"collection '{other}' exists in Milvus with another schema",
            "field number exists, must be given, and is none of Segue's",
            "field id is not the primary key",
            "field vector has 8 dimensions, should have 16",
            "field year is VARCHAR, should be INT64",
            "field segue_ver takes 8 bytes, should take 64",
            "field text (VARCHAR) is missing",
            "field properties (JSON) is missing",
            "dynamic fields are on, the preset needs them off",
            "the primary key is made by Milvus (auto_id)",
            "the vector index measures by L2, should measure by COSINE",
        )
    assert place.client.describe_collection(other)["aliases"] == []


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_without_a_configuration_file_the_command_that_writes_one_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """No segue.toml: exit 2, and `segue init`."""
    ended = _alone(tmp_path, "migrate-embeddings", "--format", "json", *arguments)

    _assert_said(ended, 2, "no configuration file segue.toml", "segue init", "--config FILE")


def test_broken_toml_is_shown_with_its_line(tmp_path: Path) -> None:
    """A file that is no TOML: exit 2, and the number of the line."""
    (tmp_path / "segue.toml").write_text('[neo4j]\nuri = "bolt://localhost:7687"\ndatabase = neo4j\n', encoding="utf-8")

    _assert_said(_alone(tmp_path, "migrate-embeddings", "--format", "json"), 2, "segue.toml is not valid TOML", "line 3")


def test_every_fault_of_a_configuration_is_named_at_once_and_no_value_of_a_secret(tmp_path: Path) -> None:
    """Unknown keys, values out of range, credentials in an address: all in one message, exit 2, the secrets not shown."""
    text = """
[neo4j]
uri = "bolt://neo4j:hunter2@localhost:7687"
passwort = "hunter3"
[backfill]
workers = 0
[[collections]]
name = "a-b"
"""
    (tmp_path / "segue.toml").write_text(text, encoding="utf-8")
    ended = _alone(tmp_path, "migrate-embeddings", "--format", "json", "--batch-size", "5001")

    _assert_said(
        ended,
        2,
        "neo4j.uri: ",
        "must not hold credentials",
        "neo4j.passwort: ",
        "backfill.workers: ",
        "backfill.batch_size",
        "5000",
        "collections.0.name: ",
        "collections.0.source: ",
    )
    assert "hunter" not in ended.out + ended.err


def test_a_batch_size_out_of_range_is_refused_by_flag_and_by_environment(place: Workplace) -> None:
    """Rows a batch are between 1 and 5,000, or "auto": anything else is exit 2 and names the setting."""
    _assert_said(place.migrate("--batch-size=5001"), 2, "backfill.batch_size", "5000")
    _assert_said(place.migrate(SEGUE_BATCH_SIZE="0"), 2, "backfill.batch_size")
    _assert_said(place.migrate("--batch-size=many"), 2, "backfill.batch_size", "'auto'")


def test_an_unknown_collection_is_refused_with_the_known_ones(place: Workplace) -> None:
    """--collection of a name that is not configured: exit 2, and the names that are."""
    _assert_said(place.migrate("--collection", "nosuch"), 2, "'nosuch'", place.collection)


def test_a_configuration_without_a_collection_names_the_command_that_finds_some(tmp_path: Path) -> None:
    """A file that names no collection: exit 2, and `segue init`."""
    (tmp_path / "segue.toml").write_text("", encoding="utf-8")

    _assert_said(_alone(tmp_path, "migrate-embeddings", "--format", "json"), 2, "names no collection", "segue init")


def test_in_text_an_error_is_on_stderr_and_nothing_on_stdout(place: Workplace) -> None:
    """Without --format the same message goes to stderr alone, without any escape code."""
    ended = place.segue("migrate-embeddings", NEO4J_PASSWORD="not-the-password")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: Neo4j at bolt://")
    assert "\x1b" not in ended.err


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        ({"properties": {"text": "string"}}, ("source.properties.year: 'integer' then, nothing now",)),
        ({"properties": {**PROPERTIES, "year": "json"}}, ("source.properties.year: 'integer' then, 'json' now",)),
        ({"preset": "langchain"}, ("layout.dynamic: False then, True now", "layout.index.kind: 'HNSW' then, 'AUTOINDEX' now")),
    ],
)
def test_a_checkpoint_from_another_configuration_is_refused_with_the_differences(
    recorded: tuple[Workplace, Loaded], configured: Mapping[str, object], words: tuple[str, ...]
) -> None:
    """Other properties, another preset: exit 5 with what was then and what is now, and nothing written."""
    place, loaded = recorded
    before = (place.folder / STATE).read_bytes()
    place.configure(configuration(place, loaded, **configured))  # type: ignore[arg-type]

    _assert_said(place.migrate(), 5, f"checkpoint of '{place.collection}'", *words, "--restart", status="refused")
    assert (place.folder / STATE).read_bytes() == before


def test_a_checkpoint_from_another_source_is_refused(recorded: tuple[Workplace, Loaded]) -> None:
    """Another label under the same collection: exit 5."""
    place, loaded = recorded
    label = f"{place.label}B"
    place.configure(configuration(place, loaded).replace(f'label = "{place.label}"', f'label = "{label}"'))

    _assert_said(place.migrate(), 5, f"source.label: '{place.label}' then, '{label}' now", status="refused")


def test_a_checkpoint_from_another_schema_is_refused(recorded: tuple[Workplace, Loaded]) -> None:
    """A collection laid out otherwise when the run was planned: exit 5 with both layouts in words."""
    place, _ = recorded
    _edit_conditions(place, lambda conditions: conditions["layout"].update(json_field="rest"))  # type: ignore[union-attr]

    _assert_said(place.migrate(), 5, "layout.json_field: 'rest' then, 'properties' now", "--restart", status="refused")


def test_a_checkpoint_from_another_version_is_refused_until_restarted(recorded: tuple[Workplace, Loaded]) -> None:
    """Another version of the tool: exit 5 with both versions; --restart then copies everything again, doubling nothing."""
    place, loaded = recorded
    _edit_conditions(place, lambda conditions: conditions["tool"].update(version="0.0.1"))  # type: ignore[union-attr]

    _assert_said(place.migrate(), 5, "tool.version: '0.0.1' then", "now", "--restart", status="refused")
    restarted = place.migrate("--restart")
    assert restarted.code == 0, restarted.err
    assert restarted.data["collections"][0]["migrated_now"] == loaded.fit
    assert_equal(place, loaded)


def test_a_checkpoint_whose_collection_is_gone_is_refused_until_restarted(
    newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path
) -> None:
    """The collection was dropped since: exit 5 says so; --restart then makes it and copies anew."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        place.configure(configuration(place, load(place, 30)))
        running = place.start("migrate-embeddings")
        running.await_words("planned")
        running.signal(signal.SIGKILL)
        running.ended()
        place.drop_collections()

        _assert_said(place.migrate(), 5, f"{place.collection}_v1#", "then, 'none' now", "--restart", status="refused")
        restarted = place.start("migrate-embeddings", "--restart")
        restarted.await_words("planned")
        assert place.client.describe_collection(place.collection)["collection_name"] == f"{place.collection}_v1"


def test_records_of_a_newer_version_are_not_touched(recorded: tuple[Workplace, Loaded]) -> None:
    """A state file whose own schema is newer than this Segue: exit 1, and both ways out."""
    place, _ = recorded
    with closing(sqlite3.connect(place.folder / STATE)) as connection:
        connection.execute("PRAGMA user_version = 99")

    _assert_said(place.migrate(), 1, "written by a newer Segue", "schema 99", "SEGUE_STATE_PATH")


def test_a_state_path_that_cannot_be_written_is_named(place: Workplace) -> None:
    """A folder in its place, a file among its folders: exit 1, the path, and the setting that moves it."""
    (place.folder / "folder.db").mkdir()
    for path in ("folder.db", "segue.toml/state.db"):
        _assert_said(place.migrate(SEGUE_STATE_PATH=path), 1, path, "SEGUE_STATE_PATH")


def test_a_state_folder_that_may_not_be_written_is_named(place: Workplace) -> None:
    """A read-only folder: exit 1, the path, and the setting that moves it."""
    folder = place.folder / "readonly"
    folder.mkdir()
    with _read_only(folder):
        _assert_said(place.migrate(SEGUE_STATE_PATH="readonly/state.db"), 1, "readonly/state.db", "SEGUE_STATE_PATH")


def test_a_full_disk_ends_the_copy_resumably(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> None:
    """No space for the next record: exit 1, one message; with more space the same command completes, equal."""
    with workplace(tmp_path, newest_neo4j, milvus_endpoint) as place:
        loaded = load(place, 1_500, unfit=1)
        place.configure(configuration(place, loaded))
        (tmp_path / "disk").mkdir()
        path = f"disk/{STATE}"
        with _little_space(tmp_path / "disk") as (limit, lift):
            running = place.start("migrate-embeddings", "--format", "json", SEGUE_STATE_PATH=path, SEGUE_BATCH_SIZE="10")
            limit(running.process.pid)
            short = running.ended()
            record = place.record(path)
            lift()
            again = place.migrate(SEGUE_STATE_PATH=path)

        _assert_said(short, 1, f"the state file disk/{STATE} cannot be used", "Free some space", "same command")
        assert record is None or record.counts["migrated"] < loaded.fit
        assert again.code == 0, again.err
        assert again.data["counts"] == loaded.counts
        assert_equal(place, loaded)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("migrate-embeddings", "--help"), ("init", "--help")])
def test_help_and_version_import_no_database_client(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """What only explains itself answers without loading a driver, so at once, and on machines where one is broken."""
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments]
    # Where no store is configured, that is: else `--version` asks it.
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    assert ended.stdout
    assert "segue.cli" in imported
    assert imported.isdisjoint({"neo4j", "pymilvus", "grpc", "redis", "psycopg", "pandas"})


def _alone(folder: Path, *arguments: str) -> Ended:
    """Run a command that gets as far as its configuration and no further, so needs no server."""
    names = ("NEO4J_", "MILVUS_", "SEGUE_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    environment = {**inherited, "SEGUE_LOG_FORMAT": "text"}
    done = subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def _edit_conditions(place: Workplace, edit: Callable[[dict[str, dict[str, object]]], None]) -> None:
    with closing(sqlite3.connect(place.folder / STATE)) as connection, connection:
        conditions = json.loads(connection.execute("SELECT conditions FROM run").fetchone()[0])
        edit(conditions)
        connection.execute("UPDATE run SET conditions = ?", (json.dumps(conditions),))


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Take away the right to write; root has it by nature, so for root the folder is on a read-only file system."""
    if os.geteuid() == 0:
        with _mounted(folder, "ro"):
            yield
        return
    folder.chmod(0o500)
    yield
    folder.chmod(0o700)


@contextmanager
def _little_space(folder: Path) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Give functions that limit what a process may write there to some 200 kB, and that lift the limit again.

    For root the folder is on a file system of that size; for others the process may write no file that is larger.
    """
    if os.geteuid() == 0:
        with _mounted(folder, "size=200k"):
            grow = ["mount", "-o", "remount,size=20m", folder]
            yield lambda _: None, lambda: subprocess.run(grow, check=True) and None
        return
    if not hasattr(resource, "prlimit"):
        pytest.skip("this machine can neither mount a small disk nor limit another process")
    yield lambda pid: resource.prlimit(pid, resource.RLIMIT_FSIZE, (200_000, 200_000)) and None, lambda: None


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine mounts no file system: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
