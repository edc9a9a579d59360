"""Settings: flag before environment before file before default, every fault at once, and never a secret in words."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from segue.config import PLAIN_VARIABLES, SECRET_VARIABLES, Settings, load
from segue.errors import ConfigError
from segue.model import KeyType, Metric, PropertyType

COLLECTION = """
[[collections]]
name = "{name}"
[collections.source]
index = "ix"
label = "Film"
key = "id"
vector = "embedding"
dimension = 384
"""
SECRET = "hunter2-and-more"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for the file."""
    return tmp_path / "segue.toml"


def test_defaults_need_nothing() -> None:
    """No file, no environment, no flag: valid, and on this machine."""
    settings = load(None, environ={})
    assert settings == Settings()
    assert settings.neo4j.uri.startswith("bolt://localhost")
    assert settings.milvus.uri.startswith("http://localhost")
    assert settings.neo4j.password is settings.milvus.token is None


@pytest.mark.parametrize(("in_file", "in_environment", "flag", "expected"), [
    (None, None, None, 4),
    (5, None, None, 5),
    (5, "6", None, 6),
    (5, "6", 7, 7),
    (None, "6", None, 6),
    (None, None, 7, 7),
    (5, None, 7, 7),
    (5, "", None, 5),
])  # fmt: skip
def test_precedence(path: Path, in_file: int | None, in_environment: str | None, flag: int | None, expected: int) -> None:
    """A flag goes before the environment, that before the file, that before the default; unset and empty are not given."""
    path.write_text("" if in_file is None else f"[backfill]\nworkers = {in_file}\n")
    environ = {} if in_environment is None else {"SEGUE_WORKERS": in_environment}
    assert load(path, {("backfill", "workers"): flag}, environ).backfill.workers == expected


def test_every_variable_sets_its_setting() -> None:
    """Each name of the environment that is promised reaches the setting it names."""
    given = {
        "NEO4J_URI": "neo4j://a:1",
        "NEO4J_USERNAME": "me",
        "NEO4J_DATABASE": "films",
        "MILVUS_URI": "http://b:2",
        "REDIS_USERNAME": "reader",
        "PGUSER": "writer",
        "SEGUE_STATE_PATH": "/tmp/state.db",  # noqa: S108  # only a name
        "SEGUE_WORKERS": "3",
        "SEGUE_BATCH_SIZE": "250",
        "SEGUE_PATIENCE_SECONDS": "7.5",
        "SEGUE_RAY": "auto",
        "STORAGE_MODE": "dual_write",
        "STORAGE_MODE_FILE": "/etc/segue/mode",
    }
    assert given.keys() == PLAIN_VARIABLES.keys()
    for name, (section, setting) in PLAIN_VARIABLES.items():
        settings = load(None, environ={name: given[name]})
        assert str(getattr(getattr(settings, section), setting)) == given[name]


def test_a_mode_of_its_own_is_given_once() -> None:
    """Fixed or in a file: with both, which one counts could not be told."""
    with pytest.raises(ConfigError, match="are both given"):
        load(None, environ={"STORAGE_MODE": "hybrid", "STORAGE_MODE_FILE": "/etc/segue/mode"})


@pytest.mark.parametrize("name", SECRET_VARIABLES)
def test_a_secret_comes_from_the_environment_or_a_file(name: str, tmp_path: Path) -> None:
    """From NAME, or from the file that NAME_FILE names, without its last line break; NAME goes first."""
    section, setting = SECRET_VARIABLES[name]
    file = tmp_path / "secret"
    file.write_text(f" {SECRET} \r\n")

    def found(**environ: str) -> str:
        value: str = getattr(getattr(load(None, environ=environ), section), setting).get_secret_value()
        return value

    assert found(**{name: SECRET}) == SECRET
    assert found(**{f"{name}_FILE": str(file)}) == f" {SECRET} "
    assert found(**{name: "other", f"{name}_FILE": str(tmp_path / "nowhere")}) == "other"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00binary"])
def test_a_secret_that_cannot_be_read_is_said(content: bytes | None, tmp_path: Path) -> None:
    """The variable is named, and the file where it is one: elsewhere the secret may stand in its place. Its content is not."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="NEO4J_PASSWORD_FILE") as refusal:
        load(None, environ={"NEO4J_PASSWORD_FILE": str(file)})
    assert (str(file) in refusal.value.message) is (content is not None)
    assert "binary" not in refusal.value.message


def test_a_whole_file_is_read(path: Path) -> None:
    """Collections with preset, source, property types and index; what is left out has its default."""
    path.write_text(
        COLLECTION.format(name="films")
        + 'key_type = "integer"\nmetric = "dot"\n[collections.source.properties]\ntitle = "string"\n"with space" = "json"\n'
        + "[collections.index]\nm = 32\n"
        + COLLECTION.format(name="books").replace("[collections.source]", 'preset = "langchain"\n[collections.source]')
    )
    films, books = load(path, environ={}).collections
    assert (films.name, films.preset, films.index.m, films.index.ef_construction) == ("films", "segue", 32, 200)
    assert (films.source.key_type, films.source.metric) == (KeyType.INTEGER, Metric.DOT)
    assert films.source.properties == {"title": PropertyType.STRING, "with space": PropertyType.JSON}
    assert (books.preset, books.source.key_type, books.source.metric) == ("langchain", KeyType.STRING, Metric.COSINE)


def test_every_fault_is_in_one_message(path: Path) -> None:
    """File, environment and flags: all that is wrong is listed at once, each by its place."""
    path.write_text('[neo4j]\nusername = 7\nport = 1\n[backfill]\nitems_per_range = 0\n[[collections]]\nname = "1st"\n')
    with pytest.raises(ConfigError) as refusal:
        load(path, {("backfill", "batch_size"): 5_001}, {"SEGUE_WORKERS": "many"})
    assert refusal.value.exit_code == 2
    places = ["neo4j.username", "neo4j.port", "backfill.items_per_range", "backfill.batch_size", "backfill.workers"]
    for place in [*places, "collections.0.name", "collections.0.source"]:
        assert f"\n  {place}" in refusal.value.message


@pytest.mark.parametrize(
    "text",
    [
        "[neo4j]\nuri = 'x'\nunknown = 1",
        "[unknown]\nx = 1",
        "[backfill]\nworkers = 0",
        "[backfill]\nworkers = 65",
        "[backfill]\nbatch_size = 0",
        "[backfill]\nbatch_size = 'small'",
        "[milvus]\nrequest_timeout_seconds = 0",
        COLLECTION.format(name="x" * 256),
        COLLECTION.format(name="a-b"),
        COLLECTION.format(name="a") + 'metric = "hamming"',
        COLLECTION.format(name="a").replace("384", "0"),
        COLLECTION.format(name="a") + "[collections.source.properties]\ntitle = 'vector'",
        COLLECTION.format(name="a") * 2,
    ],
)
def test_what_is_not_valid_is_refused(path: Path, text: str) -> None:
    """Unknown names, numbers out of range, words that are none of the choices, two collections of one name."""
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(path, environ={})
    assert str(path) in refusal.value.message
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("batch_size", ["auto", "1", "5000"])
def test_batch_sizes(batch_size: str) -> None:
    """A number from 1 to 5,000, or "auto"."""
    assert str(load(None, environ={"SEGUE_BATCH_SIZE": batch_size}).backfill.batch_size) == batch_size


@pytest.mark.parametrize("content", [b"[neo4j", b"a = 1\na = 2", b"\xff"])
def test_a_file_that_is_no_toml_is_said(path: Path, content: bytes) -> None:
    """The file is named, and what to do."""
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        load(path, environ={})
    assert str(path) in refusal.value.message
    assert refusal.value.hint


def test_a_section_that_is_no_section_is_said(path: Path) -> None:
    """Where a table is expected stands a value, and the environment sets something in that table: one plain message."""
    path.write_text("neo4j = 1\n")
    with pytest.raises(ConfigError, match="neo4j"):
        load(path, environ={"NEO4J_PASSWORD": SECRET})


def test_a_missing_file_is_said(path: Path) -> None:
    """A file that was named and is not there: how to get one."""
    with pytest.raises(ConfigError, match="no configuration file") as refusal:
        load(path, environ={})
    assert "segue init" in refusal.value.hint


def test_collections_are_chosen_by_name(path: Path) -> None:
    """All unless one is named; an unknown name lists the known ones; none at all says what to run."""
    path.write_text(COLLECTION.format(name="films") + COLLECTION.format(name="books"))
    settings = load(path, environ={})
    assert [one.name for one in settings.chosen(None)] == ["films", "books"]
    assert [one.name for one in settings.chosen("books")] == ["books"]
    with pytest.raises(ConfigError, match="'music'") as refusal:
        settings.chosen("music")
    assert "films, books" in refusal.value.hint
    with pytest.raises(ConfigError) as refusal:
        Settings().chosen(None)
    assert "segue init" in refusal.value.hint


def test_no_secret_in_what_can_be_printed(caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr, str, format, JSON nor a log line of the settings shows a secret."""
    settings = load(None, environ={"NEO4J_PASSWORD": SECRET, "MILVUS_TOKEN": SECRET})
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("%s %r", settings, settings.neo4j)
    said = [repr(settings), str(settings), f"{settings.milvus}", settings.model_dump_json(), caplog.text]
    said.append(json.dumps(settings.model_dump(mode="json")))
    assert not [text for text in said if SECRET in text]
    assert settings.neo4j.password is not None
    assert settings.neo4j.password.get_secret_value() == SECRET


@pytest.mark.parametrize("values", [{"MILVUS_TOKEN": SECRET}, {"NEO4J_PASSWORD": SECRET}])
@pytest.mark.parametrize(
    "text",
    [
        "[backfill]\nworkers = 0",
        f"[neo4j]\npassword = ['{SECRET}']\nport = 1",
        f"[milvus]\ntoken = {{a = '{SECRET}'}}\nport = 1",
        f"[neo4j]\nuri = 'bolt://neo4j:{SECRET}@localhost'",
        f"[milvus]\nuri = 'http://root:{SECRET}@localhost:19530'",
        f"x = '{SECRET}'",
    ],
)
def test_no_secret_in_a_fault(path: Path, text: str, values: dict[str, Any]) -> None:
    """What was rejected is not printed, neither in the message nor in the traceback."""
    path.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load(path, environ=values)
    said = "".join(traceback.format_exception(refusal.value))
    assert SECRET not in refusal.value.message + refusal.value.hint + said


def test_settings_cannot_be_changed() -> None:
    """What was validated stays as it was."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().backfill.workers = 9


@pytest.mark.parametrize(
    "text",
    [
        "[milvus]\nrequest_timeout_seconds = 90\n",
        "[relay]\nlanding_seconds = 60\n",
        "[relay]\nlease_seconds = 80\n",
    ],
)
def test_the_protocols_times_stand_in_order(path: Path, text: str) -> None:
    """A request is given up before it can no longer land, and a lease outlasts both; anything else would lose writes."""
    path.write_text(text)
    with pytest.raises(ConfigError, match="landing_seconds < relay"):
        load(path, environ={})


def test_the_protocols_times_can_be_shorter(path: Path) -> None:
    """In order they may be anything."""
    path.write_text("[milvus]\nrequest_timeout_seconds = 2\n[relay]\nlanding_seconds = 4\nlease_seconds = 6\n")
    assert load(path, environ={}).relay.landing_seconds == 4


@pytest.mark.parametrize(("key", "type_", "said"), [
    ("q:{agent_id}{state}", "hash", "two parts need something between them"),
    ("q:{agent_id", "hash", "is no pattern"),
    ("q:{agent_id}", "table", "Input should be 'string', 'list'"),
    ("q:{agent_id}", "list", "no such part; there are agent_id"),
    ("q:{agent_id}:{agent_id}", "hash", "each part needs a name of its own"),
])  # fmt: skip
def test_a_mapping_that_cannot_be_meant(path: Path, key: str, type_: str, said: str) -> None:
    """What is wrong with a mapping of agent state is said with its place in the file."""
    columns = 'columns = { agent_id = "part:agent_id", state = "part:state", action = "const:x", q_value = "value" }'
    mapping = f'kind = "q_values"\nencoding = "number"\nkey = "{key}"\ntype = "{type_}"\n{columns}'
    path.write_text(f"[[agentdb.mappings]]\n{mapping}\n")
    with pytest.raises(ConfigError) as refusal:
        load(path, environ={})
    assert "agentdb.mappings.0" in refusal.value.message
    assert said in refusal.value.message


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_an_address_is_parted_from_its_credentials(name: str, tmp_path: Path) -> None:
    """User and password in an address, as customs put them there, are taken out of it; settings of their own go before them."""
    scheme, section = ("redis", "redis") if name == "REDIS_URL" else ("postgresql", "postgres")
    file = tmp_path / "address"
    file.write_text(f"{scheme}://me:{SECRET.replace('-', '%2D')}@db.example:1234/5\n")
    for environ in ({name: file.read_text().strip()}, {f"{name}_FILE": str(file)}):
        found = getattr(load(None, environ=environ), section)
        assert (found.url, found.username) == (f"{scheme}://db.example:1234/5", "me")
        assert found.password.get_secret_value() == SECRET
        assert SECRET not in repr(found)
    own = "REDIS_PASSWORD" if section == "redis" else "PGPASSWORD"
    found = getattr(load(None, environ={name: file.read_text().strip(), own: "mine"}), section)
    assert found.password.get_secret_value() == "mine"
