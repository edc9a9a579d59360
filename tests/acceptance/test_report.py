"""`segue report` and `segue monitor` on a real migration, which one fixture makes: every format, every source, a store away."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import segue
from acceptance.application import Application, in_service
from acceptance.shop import DIMENSION, Shop
from acceptance.workplace import COMMAND, Started, Workplace, eventually, workplace
from segue.sandbox import Endpoint

ITEMS = 400
REASON = "the night shift agreed"


@dataclass(frozen=True, slots=True)
class Migrated:
    """A shop on its way to hybrid, with an application and a relay at work."""

    shop: Shop
    application: Application
    relay: Started
    relay_url: str

    @property
    def place(self) -> Workplace:
        """Where commands run."""
        return self.shop.place

    @property
    def urls(self) -> tuple[str, ...]:
        """The flags that name who counts."""
        return "--metrics-url", self.application.metrics_url, "--metrics-url", self.relay_url


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def migrated(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    """Three items that cannot go; a copy, a relay, a validation, an overridden gate, shadow reads of Milvus."""
    folder = tmp_path_factory.mktemp("migrated")
    with workplace(folder, newest_neo4j, milvus_endpoint) as place:
        shop = Shop(place)
        shop.load(ITEMS)
        shop.configure(shadow_rate=1, milvus_seconds=5)
        unfit = [{"id": f"bad{number}", "embedding": [1.0] * size} for number, size in enumerate((2, 3, DIMENSION))]
        unfit[2]["embedding"] = [0.0] * DIMENSION
        place.rows("UNWIND $rows AS row CREATE (n:LABEL) SET n = row, n.title = 'bad'", rows=unfit)
        for command in ("preflight", "mode set dual_write", "migrate-embeddings"):
            assert place.segue(*command.split()).code == 0
        port = free_port()
        relay = place.start("relay", "--metrics-port", str(port))
        with in_service(shop) as application:
            eventually(lambda: application.searches[segue.StoreName.NEO4J] > 50)
            arguments = ("mode", "set", "shadow_milvus", "--override", "validation", "--reason", REASON)
            until = time.monotonic() + 60
            while (ended := place.segue(*arguments)).code == 5 and time.monotonic() < until:
                time.sleep(0.5)
            assert ended.code == 0, ended.err
            assert place.segue("validate", "--full").code == 0
            eventually(lambda: application.searches[segue.StoreName.MILVUS] > 100)
            yield Migrated(shop, application, relay, f"http://127.0.0.1:{port}/metrics")
        assert application.faults == []


def report(migrated: Migrated, *arguments: str, **changes: str | None) -> dict[str, Any]:
    """Make a report for programs."""
    ended = migrated.place.segue("report", "--format", "json", *migrated.urls, *arguments, **changes)
    assert ended.code == 0, ended.err
    return ended.data


def test_it_says_what_was_done_and_by_what(migrated: Migrated) -> None:
    """Modes with their times, the copy with its account, run, configuration and version, each event with its author."""
    (one,) = report(migrated)["collections"]
    modes = [("neo4j_only", 0), ("dual_write", 1), ("shadow_milvus", 2)]
    assert [(each["mode"], each["epoch"]) for each in one["modes"]] == modes
    assert one["modes"][1]["until"] == one["modes"][2]["from"]
    assert one["modes"][2]["until"] is None
    (copy,) = one["copies"]
    assert (copy["state"], copy["version"]) == ("complete", segue.__version__)
    assert len(copy["config"]) == 16
    assert copy["run"]
    assert copy["rows_per_second"] > 0
    first, last = copy["progress"][0], copy["progress"][-1]
    assert (first["migrated"], last["migrated"], last["quarantined"], last["source"]) == (0, ITEMS, 3, ITEMS + 3)
    kinds = [event["kind"] for event in one["events"]]
    assert [kind for kind in kinds if kind in {"preflight", "mode", "relay"}] == ["preflight", "mode", "relay", "mode"]
    assert all("@" in event["by"] for event in one["events"])


def test_it_says_what_was_proven_overridden_and_left(migrated: Migrated) -> None:
    """The account closes, both sides are equal; an overridden gate has its reason, and what is left its command."""
    data = report(migrated)
    (one,) = data["collections"]
    counts = {"source": ITEMS + 3, "migrated": ITEMS, "quarantined": 3, "pending": 0}
    assert one["counts"] == data["counts"] == counts
    assert one["reasons"] == {"wrong_dimension": 2, "zero_norm": 1}
    assert sorted(row["key"] for row in one["quarantined"]) == ["bad0", "bad1", "bad2"]
    assert "keys compared, 100.0000% equal" in one["validations"][0]["text"]
    shown = {proof["what"].rpartition(" (")[0] or proof["what"]: proof["holds"] for proof in one["proofs"]}
    assert shown["both stores were fit for it"] is True
    assert shown["every item is accounted for"] is True
    assert shown["Milvus equals Neo4j"] is True
    assert "shadow reads were compared" in next(each["evidence"] for each in one["proofs"] if "alike" in each["what"])
    (override,) = [each for each in one["overrides"] if each["gate"] == "validation"]
    assert (override["mode"], REASON in override["reason"]) == ("shadow_milvus", True)
    assert "overridden" in one["verdict"]
    assert any("3 items cannot go" in line for line in one["left"])
    assert any("segue mode set hybrid" in line or "gate " in line for line in one["left"])


def test_it_compares_latencies_and_counts_writes(migrated: Migrated) -> None:
    """Added up over the application and the relay: searches of both stores with their speed-up, and writes to both."""
    (one,) = report(migrated)["collections"]
    neo4j, milvus = one["latencies_ms"]["neo4j"], one["latencies_ms"]["milvus"]
    assert min(neo4j["count"], milvus["count"]) > 20
    assert 0 < neo4j["p50"] <= neo4j["p95"] <= neo4j["p99"]
    assert one["speed_up"] == pytest.approx(neo4j["p50"] / milvus["p50"], abs=0.01)
    for store in ("neo4j", "milvus"):
        assert 0 < one["writes"][store]["successes"] <= one["writes"][store]["attempts"]
    assert one["shadow_reads"]["count"] > 0
    assert one["shadow_reads"]["overlap"] > 0.5


def test_all_formats_tell_the_same(migrated: Migrated, tmp_path: Path) -> None:
    """The ending of the file chooses; YAML reads as JSON does, Markdown and table have the same numbers, none has a secret."""
    place = migrated.place
    files = {ending: tmp_path / f"report.{ending}" for ending in ("json", "yaml", "md", "html", "txt")}
    for file in files.values():
        assert place.segue("report", *migrated.urls, "--output-file", str(file)).code == 0
    texts = {ending: file.read_text(encoding="utf-8") for ending, file in files.items()}
    as_json, as_yaml = json.loads(texts["json"]), yaml.safe_load(texts["yaml"])
    for data in (as_json, as_yaml):
        assert list(data)[:4] == ["verb", "status", "seconds", "counts"]
    # The present mode grows older between two reports.
    assert [one["from"] for one in as_json["collections"][0]["modes"]] == [
        one["from"] for one in as_yaml["collections"][0]["modes"]
    ]
    same = ("name", "mode", "counts", "reasons", "overrides", "copies", "events")
    assert [as_json["collections"][0][name] for name in same] == [as_yaml["collections"][0][name] for name in same]
    assert as_json["config"] == as_yaml["config"]
    for ending in ("md", "txt", "html"):
        for words in (
            as_json["config"]["digest"],
            REASON,
            "wrong_dimension",
            "copy complete",
            "shadow_milvus",
            segue.__version__,
        ):
            assert words in texts[ending], (ending, words)
    assert "| wrong_dimension | 2 |" in texts["md"]
    assert not [ending for ending, text in texts.items() for secret in place.secrets if secret in text]


def test_the_page_stands_alone_and_its_charts_are_drawn(migrated: Migrated, tmp_path: Path) -> None:
    """No script and nothing to load, light and dark; every chart is sound XML within its frame, and the override is marked."""
    file = tmp_path / "report.html"
    assert migrated.place.segue("report", *migrated.urls, "--output-file", str(file)).code == 0
    text = file.read_text(encoding="utf-8")
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"<script|<link|<img|\bsrc=|@import|url\(", text)
    charts = {found.get("aria-label"): found for found in map(ET.fromstring, re.findall(r"<svg.*?</svg>", text, re.DOTALL))}
    assert {
        "the modes, copies and validations over time",
        "items copied over time",
        "search latencies of both stores",
        "quarantined items by reason",
    } <= set(charts)
    assert any("override" in (one.get("class") or "") for one in charts["the modes, copies and validations over time"])
    assert len(charts["items copied over time"].findall("polyline")) == 2
    for name, chart in charts.items():
        _, _, width, height = map(float, str(chart.get("viewBox")).split())
        for bar in chart.iter("rect"):
            x, y, wide, high = (float(bar.get(side, "0")) for side in ("x", "y", "width", "height"))
            assert x >= 0, name
            assert x + wide <= width, name
            assert y + high <= height, name


def test_it_is_made_on_any_machine(migrated: Migrated, tmp_path: Path) -> None:
    """Without the state file the journal has the account, and the reasons."""
    (tmp_path / "segue.toml").write_text(
        (migrated.place.folder / "segue.toml").read_text().replace(str(migrated.place.folder), str(tmp_path))
    )
    ended = migrated.place.elsewhere(tmp_path).segue("report", "--format", "json")
    (one,) = ended.data["collections"]
    assert ended.data["counts"]["migrated"] == ITEMS
    assert one["reasons"] == {"wrong_dimension": 2, "zero_norm": 1}
    assert [file.name for file in tmp_path.iterdir() if "state" in file.name] == []


def test_looking_changes_nothing(migrated: Migrated) -> None:
    """Neither verb adds an event, moves the control node, or touches the records."""
    place = migrated.place

    def standing() -> list[Any]:
        events = place.rows("MATCH (e:SegueEvent {collection: $name}) RETURN count(e)", name=place.collection)
        node = "MATCH (c:SegueControl {collection: $name}) RETURN c.mode, c.epoch, c.changed_at, c.copied_at, c.validated_at"
        return [events, place.rows(node, name=place.collection), (place.folder / "segue-state.db").read_bytes()]

    before = standing()
    assert place.segue("report").code == 0
    assert place.segue("monitor", "--once").code == 0
    assert standing() == before


def test_a_store_that_is_away_is_said(migrated: Migrated) -> None:
    """The report is made all the same, of what there is."""
    data = report(migrated, NEO4J_URI="bolt://127.0.0.1:1")
    (one,) = data["collections"]
    assert "bolt://127.0.0.1:1" in "".join(one["unreachable"])
    assert data["counts"]["migrated"] == ITEMS
    assert one["mode"] is None
    page = migrated.place.segue("report", "--format", "html", MILVUS_URI="http://127.0.0.1:1").out
    assert "Not everything could be reached" in page


def test_latencies_come_from_prometheus_too(migrated: Migrated, tmp_path: Path) -> None:
    """The growth over the whole migration, as a Prometheus that scraped the application has it."""
    if shutil.which("prometheus") is None:
        pytest.skip("no Prometheus on this machine")
    target = migrated.application.metrics_url.removeprefix("http://").removesuffix("/metrics")
    (tmp_path / "prometheus.yml").write_text(
        f"scrape_configs: [{{job_name: shop, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]"
    )
    port = free_port()
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.path=data",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found: dict[str, Any] = {}

            def has_both() -> bool:
                ended = migrated.place.segue("report", "--format", "json", "--prometheus-url", f"http://127.0.0.1:{port}")
                found.update(ended.data["collections"][0])
                shown = {panel["title"]: panel["series"] for panel in found["dashboard"]["panels"]}
                return len(found["latencies_ms"]) == 2 and len(shown["Search latency: Neo4j and Milvus"]) > 1

            eventually(has_both)
        finally:
            process.terminate()
    assert found["unreachable"] == []
    shown = {panel["title"]: panel["series"] for panel in found["dashboard"]["panels"]}
    assert len(shown) == 12
    assert found["dashboard"]["faults"] == []
    assert {one["name"] for one in shown["Search latency: Neo4j and Milvus"]} >= {"Neo4j p95", "Milvus p95"}
    # Neither the copy nor the relay is scraped here.
    assert shown["ETA"] == []
    assert found["latencies_ms"]["milvus"]["count"] > 0
    assert found["speed_up"] > 0


def test_monitor_shows_the_page_once(migrated: Migrated) -> None:
    """For programs and for people: phase, progress, backlog, both latencies, success rates, mode, instances and gates."""
    ended = migrated.place.segue("monitor", "--once", "--format", "json", *migrated.urls)
    assert ended.code == 0, ended.err
    (one,) = ended.data["collections"]
    assert (one["mode"], one["epoch"], one["relays"], len(one["instances"])) == ("shadow_milvus", 2, 1, 1)
    assert one["counts"] == {"source": ITEMS + 3, "migrated": ITEMS, "quarantined": 3, "pending": 0}
    assert set(one["backlog"]) == {"open", "dirty", "tainted", "oldest_seconds"}
    assert one["latency_ms"]["neo4j"]["p50"] > 0
    assert one["latency_ms"]["milvus"]["p50"] > 0
    assert one["speed_up"] > 0
    assert one["writes"]["neo4j"]["rate"] == 1.0
    assert one["milvus"]["rows"] >= ITEMS
    assert one["next"] == "hybrid"
    assert one["gates"]
    assert one["unreachable"] == []
    page = migrated.place.segue("monitor", "--once", *migrated.urls)
    for words in ("phase", "100.0%", "Neo4j latency", "speed-up", "success rate", "gates before hybrid"):
        assert words in page.out


@pytest.mark.parametrize("away", ["MILVUS_URI", "NEO4J_URI"])
def test_monitor_with_a_store_away(migrated: Migrated, away: str) -> None:
    """It shows what it can, by the processes' own word where Neo4j is away, says what it cannot reach, and ends well."""
    address = {"MILVUS_URI": "http://127.0.0.1:1", "NEO4J_URI": "bolt://127.0.0.1:1"}[away]
    ended = migrated.place.segue("monitor", "--once", "--format", "json", *migrated.urls, **{away: address})
    assert ended.code == 0, ended.err
    (one,) = ended.data["collections"]
    assert address in "".join(one["unreachable"])
    assert (one["mode"], one["epoch"], one["counts"]["migrated"]) == ("shadow_milvus", 2, ITEMS)
    assert one["backlog"]["open"] >= 0
    assert (one["milvus"] is None) is (away == "MILVUS_URI")
    assert (one["instances"] is None) is (away == "NEO4J_URI")


def test_monitor_with_a_process_away(migrated: Migrated) -> None:
    """A page of metrics that nobody serves is named, without what its address may hold; the others count."""
    gone = "http://127.0.0.1:1/metrics"
    ended = migrated.place.segue("monitor", "--once", "--format", "json", *migrated.urls, "--metrics-url", gone)
    (one,) = ended.data["collections"]
    assert (ended.code, gone in "".join(one["unreachable"])) == (0, True)
    assert one["latency_ms"]["milvus"]["count"] > 0


def test_monitor_goes_on_in_lines_off_a_terminal(migrated: Migrated) -> None:
    """A line a look, without an escape code, with the latencies of the window looked at; a signal ends it with 0."""
    watching = migrated.place.start("monitor", "--interval-secs", "0.5", *migrated.urls)
    eventually(lambda: watching.printed.count("\n") >= 3)
    watching.signal(signal.SIGINT)
    ended = watching.ended()
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert len(lines) >= 3
    assert all(migrated.place.collection in line and "Milvus latency" in line for line in lines)
    assert "\x1b" not in ended.out
    assert "searches over" in lines[-1]


def test_monitor_is_a_live_page_on_a_terminal(migrated: Migrated) -> None:
    """Drawn again in its place; Ctrl-C ends it."""
    ours, theirs = pty.openpty()
    environment = migrated.place.environment({"TERM": "xterm", "COLUMNS": "140", "LINES": "60"})
    command = [*COMMAND, "monitor", "--interval-secs", "0.5", *migrated.urls]
    shown = bytearray()
    with subprocess.Popen(
        command, cwd=migrated.place.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        deadline = time.monotonic() + 30
        while shown.count(b"gates before hybrid") < 3 and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other end is closed
            while select.select([ours], [], [], 20)[0]:
                shown += os.read(ours, 65_536)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
    os.close(ours)
    assert shown.count(b"gates before hybrid") >= 3
    assert b"\x1b[" in shown
    assert not any(secret.encode() in shown for secret in migrated.place.secrets)
