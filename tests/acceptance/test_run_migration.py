"""`scripts/run-migration.sh`: all eight phases unattended under an application, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import segue
from acceptance.application import in_service
from acceptance.shop import Shop, shop
from acceptance.workplace import Workplace
from segue.sandbox import Endpoint

SCRIPT = Path(__file__).parents[2] / "scripts" / "run-migration.sh"
PHASES = ("preflight", "dual_write", "backfill", "validation", "shadow_milvus", "performance", "hybrid", "report")


def script(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder, with this Segue on its path and nobody to ask."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd=folder,
        env={**environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def run(place: Workplace, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in the folder; whatever it says, it tells no secret."""
    done = script(place.folder, place.environment(), *arguments)
    assert not [secret for secret in place.secrets if secret in done.stdout + done.stderr]
    return done


@pytest.fixture
def fresh(newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path: Path) -> Iterator[Shop]:
    """A shop that nothing has been done with, whose every search is compared once Milvus answers."""
    with shop(tmp_path, newest_neo4j, milvus_endpoint, items=200, copied=False) as one:
        one.configure(shadow_rate=1, milvus_seconds=5, least_shadow_reads=30)
        yield one


def test_all_eight_phases_unattended(fresh: Shop) -> None:
    """In their order, to hybrid, with no call of a user failing; both stores are equal then, and the report tells of it."""
    place = fresh.place
    with in_service(fresh) as application:
        done = run(place, "--yes", "--min-speed-up", "0.01", "--metrics-url", application.metrics_url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert application.searches[segue.StoreName.MILVUS] > 0
    assert application.faults == []
    headings = [line.split(": ")[1].removesuffix(" ==") for line in done.stderr.splitlines() if line.startswith("== ")]
    assert tuple(headings) == PHASES
    assert fresh.mode == "hybrid"
    assert "Milvus's median is" in done.stderr
    assert "started one" in done.stderr
    assert "has ended" in done.stderr

    assert place.segue("relay", "--until-drained").code == 0
    assert fresh.copies() == fresh.nodes()
    assert {fresh.nodes()[key][1] for key in application.written} == set(application.written.values())
    page = (place.folder / "migration-report.html").read_text(encoding="utf-8")
    for words in ("the migration has arrived", "copy complete", "nothing differs", "search latencies of both stores"):
        assert words in page


def test_validation_is_skipped_with_a_reason_and_a_run_is_resumed(fresh: Shop) -> None:
    """A run that stops says from where to go on; going on from there, a skipped validation is an override in the report."""
    place = fresh.place
    stopped = run(place, "--yes", "--from", "shadow_milvus", "--patience", "1")
    assert stopped.returncode == 5, stopped.stderr
    assert "cannot be reached from neo4j_only" in stopped.stderr
    assert "--from shadow_milvus" in stopped.stderr
    place.note_preflight()
    with in_service(fresh):
        flags = ("--skip-validation", "--reason", "only a drill", "--min-speed-up", "0")
        done = run(place, "--yes", "--from", "dual_write", *flags, "--report", "drill.json")
    assert done.returncode == 0, done.stderr
    assert fresh.mode == "hybrid"
    (one,) = place.segue("report", "--format", "json").data["collections"]
    assert [(each["gate"], each["mode"]) for each in one["overrides"]] == [
        ("validation", "shadow_milvus"),
        ("validation", "hybrid"),
    ]
    assert all("only a drill" in each["reason"] for each in one["overrides"])
    assert "only a drill" in (place.folder / "drill.json").read_text(encoding="utf-8")


def test_a_dry_run_says_everything_and_changes_nothing(fresh: Shop) -> None:
    """Every phase with its commands; no control node, no collection, no event, no record."""
    place = fresh.place
    done = run(place, "--dry-run", "--capture", "--metrics-port", "9464")
    assert done.returncode == 0, done.stderr
    for number, phase in enumerate(PHASES, 1):
        assert f"== {number} of 8: {phase} ==" in done.stderr
    for command in ("preflight", "capture install", "mode set dual_write", "migrate-embeddings", "validate", "mode set hybrid"):
        assert f"$ segue {command}" in done.stderr
    assert "$ segue migrate-embeddings --config segue.toml --metrics-port 9464" in done.stderr
    assert "$ segue relay --config segue.toml --metrics-port 9465 &" in done.stderr
    found = "MATCH (n:SegueControl|SegueEvent|SegueMark {collection: $name}) RETURN count(n)"
    assert place.rows(found, name=place.collection) == [[0]]
    assert not place.client.has_collection(place.collection)
    assert {file.name for file in place.folder.iterdir()} == {"segue.toml"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--from", "lunch"), 2, "there is no phase lunch; there are: preflight"),
        (("--turbo",), 2, "there is no option --turbo"),
        (("--patience", "long", "--yes"), 2, "--patience takes whole seconds"),
        (("--from",), 2, "--from needs a value"),
        (("--metrics-port", "http", "--yes"), 2, "--metrics-port takes a port, not http"),
        ((), 5, "nobody can be asked"),
    ],
)
def test_what_it_refuses(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    """A wrong flag is named, and nothing is begun where nobody can be asked."""
    done = script(tmp_path, os.environ, *arguments)
    assert done.returncode == code
    assert words in done.stderr
