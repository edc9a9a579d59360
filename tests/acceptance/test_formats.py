"""What a person sees and what a program reads: the final summary in every format, the two streams, the live display."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from acceptance.items import Loaded, assert_equal, configuration, load
from acceptance.workplace import COMMAND, Ended, Workplace, workplace
from segue.sandbox import Endpoint

ESCAPE = "\x1b"


@dataclass(frozen=True, slots=True)
class Copied:
    """A place, its items, and what the command said that copied them.

    Attributes:
        plain: Exit code and streams, which led into files.
        shown: What the same command showed on a terminal, in another place with the same items.
    """

    place: Workplace
    loaded: Loaded
    plain: Ended
    shown: str


@pytest.fixture(scope="module")
def copied(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copied]:
    """Copies of the same items, made off and on a terminal at the same time."""
    with (
        workplace(tmp_path_factory.mktemp("off"), newest_neo4j, milvus_endpoint) as off,
        workplace(tmp_path_factory.mktemp("on"), newest_neo4j, milvus_endpoint) as on,
    ):
        loaded = load(off, 1_200, unfit=1)
        off.configure(configuration(off, loaded))
        on.configure(configuration(on, load(on, 1_200, unfit=1)))
        running = off.start("migrate-embeddings")
        slow = {"SEGUE_BATCH_SIZE": "5", "SEGUE_WORKERS": "3", "TERM": "xterm", "COLUMNS": "120"}
        shown = _on_a_terminal(on.folder, on.environment(slow))
        yield Copied(off, loaded, running.ended(), shown.replace(on.collection, off.collection))


def test_the_table_tells_the_account_and_the_reasons(copied: Copied) -> None:
    """The default summary, on stdout: title, the four counts, every reason, where the quarantine is; no escape code."""
    place, loaded, ended = copied.place, copied.loaded, copied.plain

    assert ended.code == 0, ended.err
    assert f"{place.collection}: complete" in ended.out
    for label, number in (("source", 1_208), ("migrated", 1_200), ("quarantined", 8), ("pending", 0)):
        assert re.search(rf"^  {label} +{number:,}\b", ended.out, re.MULTILINE), label
    for _, reason in loaded.unfit:
        assert re.search(rf"^ *{reason.value} +1 *$", ended.out, re.MULTILINE), reason
    assert f"quarantine-{place.collection}.jsonl" in ended.out
    assert ESCAPE not in ended.out + ended.err


def test_messages_are_on_stderr_and_data_on_stdout(copied: Copied) -> None:
    """Progress is told in plain lines on stderr: plan, copy, index; none of it on stdout, none of the summary on stderr."""
    place, ended = copied.place, copied.plain

    told = [line.removeprefix(f"{place.collection}: ").partition(":")[0] for line in ended.err.splitlines()]
    assert [told[0], told[-1]] == ["planned", "indexing"]
    assert "copying" in told
    assert "rows_per_second" in ended.err
    assert "planned" not in ended.out
    assert "complete" not in ended.err


def test_running_twice_is_the_same_as_once(copied: Copied) -> None:
    """A second command copies nothing, says so, reports the same account, and leaves both stores equal."""
    place, loaded = copied.place, copied.loaded
    again = place.migrate()

    assert again.code == 0, again.err
    (told,) = again.data["collections"]
    assert (told["migrated_now"], told["counts"]) == (0, loaded.counts)
    assert any("complete before" in note for note in told["notes"])
    assert_equal(place, loaded)


def test_json_yaml_and_markdown_tell_the_same(copied: Copied) -> None:
    """YAML reads as what JSON reads as, Markdown has the same numbers in its tables, all with the fields every verb has."""
    place, loaded = copied.place, copied.loaded
    as_json = place.segue("migrate-embeddings", "--format", "json")
    as_yaml = place.segue("migrate-embeddings", "--format", "yaml")
    as_markdown = place.segue("migrate-embeddings", "--format", "markdown")

    data = json.loads(as_json.out)
    assert list(data)[:4] == ["verb", "status", "seconds", "counts"]
    assert (data["verb"], data["status"], data["counts"]) == ("migrate-embeddings", "ok", loaded.counts)
    assert _without_times(yaml.safe_load(as_yaml.out)) == _without_times(data)
    assert f"# {place.collection}: complete" in as_markdown.out
    assert "| source | 1,208 items |" in as_markdown.out
    assert "| key_missing | 1 |" in as_markdown.out


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_result_goes_to_a_file_when_asked(copied: Copied, tmp_path: Path, form: str) -> None:
    """--output-file holds what stdout would have held, and stdout nothing."""
    place = copied.place
    file = tmp_path / "result"
    ended = place.segue("migrate-embeddings", "--format", form, "--output-file", str(file))
    written = file.read_text(encoding="utf-8")

    assert (ended.code, ended.out) == (0, "")
    assert ESCAPE not in written
    if form == "json":
        assert json.loads(written)["status"] == "ok"
    else:
        assert f"{place.collection}: complete" in written


def test_json_logs_are_json_lines_on_stderr(copied: Copied) -> None:
    """--log-format json: every line on stderr is an object with its event and collection; stdout stays the result."""
    place, loaded = copied.place, copied.loaded
    ended = place.segue("migrate-embeddings", "--format", "json", "--log-format", "json")
    events = [json.loads(line) for line in ended.err.splitlines()]

    assert ended.data["counts"] == loaded.counts
    assert events[0]["event"] == "resuming"
    assert {event["collection"] for event in events} == {place.collection}


def test_a_terminal_sees_rate_time_left_and_every_worker(copied: Copied) -> None:
    """On a terminal a live display shows percent, rows, rate, time left and what each worker does; then the summary."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", copied.shown)

    assert ESCAPE in copied.shown
    assert re.search(r"[1-9]\d*% +[\d,]+/1208 +[\d,]+ rows/s +\d:\d\d:\d\d left +\d+ quarantined", plain)
    for worker in range(3):
        assert re.search(rf"worker {worker}: range \d+: (reading|writing)", plain), worker
    assert re.search(r"Milvus builds the index: [\d,]+ of [\d,]+ rows", plain)
    assert f"{copied.place.collection}: complete" in plain
    assert not any(secret in copied.shown for secret in copied.place.secrets)


def _on_a_terminal(folder: Path, environment: dict[str, str], seconds: float = 60.0) -> str:
    """Run the command to its successful end with a pseudo-terminal for its streams, and return what was shown there."""
    ours, theirs = pty.openpty()
    shown = bytearray()
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        [*COMMAND, "migrate-embeddings"], cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            while time.monotonic() < deadline:
                if select.select([ours], [], [], 0.5)[0]:
                    shown += os.read(ours, 65_536)
        except OSError:  # the other end is closed
            pass
        finally:
            process.kill() if time.monotonic() >= deadline else process.wait()
            os.close(ours)
    text = shown.decode()
    assert process.returncode == 0, text
    return text


def _without_times(data: dict[str, object]) -> str:
    """Return the data as text with every measured time and rate taken out."""
    measured = ("seconds", "copy_seconds", "rows_per_second")
    return re.sub(rf'"({"|".join(measured)})": [\d.e-]+', "", json.dumps(data))
