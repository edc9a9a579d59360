"""What is logged: JSON where no terminal is, a line for every batch when asked, one id a run; and a secret nowhere."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.shop import Shop
from acceptance.workplace import workplace
from segue.config import SECRET_VARIABLES, load
from segue.errors import ConfigError
from segue.sandbox import Endpoint

ITEMS = 300


@pytest.fixture(scope="module")
def marked(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop in `dual_write`, not copied yet."""
    with workplace(tmp_path_factory.mktemp("logs"), newest_neo4j, milvus_endpoint) as place:
        one = Shop(place)
        one.load(ITEMS)
        place.note_preflight()
        assert place.segue("mode", "set", "dual_write").code == 0
        yield one


def test_every_line_is_json_and_every_batch_has_one(marked: Shop) -> None:
    """Off a terminal nothing else is on stderr; batches add up to the copy; the run's id is that of the journal."""
    place = marked.place
    changes = {"SEGUE_LOG_FORMAT": None, "SEGUE_LOG_LEVEL": "debug", "SEGUE_BATCH_SIZE": "50"}
    ended = place.segue("migrate-embeddings", "--restart", "--format", "json", **changes)
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in ended.err.splitlines()]
    batches = [line for line in lines if line["event"] == "batch"]
    assert sum(line["migrated"] for line in batches) == ended.data["counts"]["migrated"] == ITEMS
    assert len(batches) >= ITEMS / 50
    assert {line["level"] for line in batches} == {"debug"}
    (run,) = {line["run"] for line in lines}
    told = place.rows("MATCH (e:SegueEvent {collection: $name, kind: 'copy'}) RETURN e.data", name=place.collection)
    assert run in {json.loads(data)["run"] for (data,) in told}
    quiet = place.segue("migrate-embeddings", "--restart", SEGUE_LOG_FORMAT=None)
    assert "batch" not in {json.loads(line)["event"] for line in quiet.err.splitlines()}


def test_an_error_is_a_line_of_json_too(marked: Shop) -> None:
    """With its text, what to do, and the exit code."""
    ended = marked.place.segue("mode", "set", "hybrid", SEGUE_LOG_FORMAT=None)
    last = json.loads(ended.err.splitlines()[-1])
    assert (last["event"], last["level"], last["exit_code"]) == ("failed", "error", 5)
    assert "cannot be reached" in last["text"]
    assert last["hint"]


def test_on_request_it_is_text(marked: Shop) -> None:
    """The flag goes before what stderr is."""
    ended = marked.place.segue("mode", "set", "hybrid", "--log-format", "text", SEGUE_LOG_FORMAT=None)
    assert ended.err.startswith("error: ")


VERBS = (
    ("init", "--dry-run"),
    ("preflight",),
    ("migrate-embeddings",),
    ("migrate-agentdb",),
    ("relay", "--until-drained"),
    ("mode", "show"),
    ("capture", "status"),
    ("validate",),
    ("rollback",),
    ("cleanup",),
    ("monitor", "--once"),
    ("report", "--output-file", "report.html"),
)

ADDRESSES = (
    "{}://u:SECRET@127.0.0.1:1",
    "{}:u:SECRET@127.0.0.1",
    "{}://127.0.0.1:1?token=SECRET",
    "{}://127.0.0.1:1/?x=1&password=SECRET",
)

SETTINGS = (
    *("[backfill] workers", "[backfill] batch_size", "[relay] landing_seconds", "[validate] max_age_seconds"),
    *("[search] ef", "[search] shadow_rate", "[application] storage_mode", "[rollout] kind", "[monitor] urls"),
    *("[monitor] prometheus_url", "[state] secret", "[neo4j] connect_timeout_seconds", "[milvus] request_timeout_seconds"),
)


@pytest.mark.parametrize("variable", ["NEO4J_URI", "MILVUS_URI"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_credentials_is_refused_without_them(tmp_path: Path, variable: str, address: str) -> None:
    """In the environment, in the file, and where processes are watched; well-formed or not."""
    secret = f"s3cr3t{uuid.uuid4().hex}"
    path = tmp_path / "segue.toml"
    scheme = "bolt" if variable == "NEO4J_URI" else "http"
    hidden = address.format(scheme).replace("SECRET", secret)
    for lines, environ in (
        ("", {variable: hidden}),
        (f"[{variable.partition('_')[0].lower()}]\nuri = {json.dumps(hidden)}", {}),
        (f"[monitor]\nurls = [{json.dumps(hidden)}]", {}),
        (f"[monitor]\nprometheus_url = {json.dumps(hidden)}", {}),
    ):
        path.write_text(lines)
        with pytest.raises(ConfigError) as refusal:
            load(path, environ=environ)
        assert secret not in f"{refusal.value.message} {refusal.value.hint} {refusal.value!r}"


@pytest.mark.parametrize("place", [*SETTINGS, *(f"{name}_FILE" for name in SECRET_VARIABLES)])
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, place: str) -> None:
    """As the value of any typed setting, or where the path of its file belongs: the message names the place alone."""
    secret = f"s3cr3t{uuid.uuid4().hex}"
    path = tmp_path / "segue.toml"
    section, _, setting = place.rpartition(" ")
    path.write_text(f"{section}\n{setting} = {json.dumps(secret)}" if section else "")
    with pytest.raises(ConfigError) as refusal:
        load(path, environ={} if section else {place: secret})
    said = f"{refusal.value.message} {refusal.value.hint} {refusal.value!r}"
    assert setting in said
    assert secret not in said


def test_a_secret_shows_nowhere(marked: Shop, tmp_path: Path) -> None:
    """Right ones and wrong ones, in variables and in files: no verb tells them, and neither do files, records and journal."""
    place = marked.place
    secret = f"s3cr3t{uuid.uuid4().hex}"
    text = (place.folder / "segue.toml").read_text(encoding="utf-8")
    here = place.elsewhere(tmp_path)
    here.configure(text[text.index("[[collections]]") :])
    for name, value in (("neo4j", place.neo4j.password), ("milvus", place.token)):
        (tmp_path / name).write_text(value)
    # A user of that name is locked out by nobody's wrong passwords.
    wrong = {"NEO4J_USERNAME": "nobody", "NEO4J_PASSWORD": secret, "MILVUS_TOKEN": f"root:{secret}"}
    wrong |= {"REDIS_URL": f"redis://u:{secret}@127.0.0.1:1/0", "DATABASE_URL": f"postgresql://u:{secret}@127.0.0.1:1/db"}
    files = {"NEO4J_PASSWORD": None, "MILVUS_TOKEN": None, "NEO4J_PASSWORD_FILE": "neo4j", "MILVUS_TOKEN_FILE": "milvus"}
    runs = [here.start(*verb, **wrong) for verb in VERBS]
    told = {" ".join(verb): run.ended() for verb, run in zip(VERBS, runs, strict=True)}
    for verb in (("migrate-embeddings", "--restart"), ("report", "--output-file", "report.html"), ("monitor", "--once")):
        told[f"{' '.join(verb)}, rightly"] = here.start(*verb, **files, SEGUE_LOG_LEVEL="debug", SEGUE_LOG_FORMAT=None).ended()
    inputs = {"neo4j", "milvus"}
    written = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file() and file.name not in inputs}
    journal = str(place.rows("MATCH (e:SegueEvent {collection: $name}) RETURN e.text, e.data", name=place.collection))

    assert {"report.html", "segue-state.db"} <= set(written)
    assert told["migrate-embeddings --restart, rightly"].code == 0
    for one in (secret, *place.secrets):
        assert [verb for verb, ended in told.items() if one in ended.out + ended.err] == []
        assert [name for name, content in written.items() if one.encode() in content] == []
        assert one not in journal
