"""Makes `docs/pictures/*.svg`: every panel of the dashboard, as a real migration of 40,000 items fills it.

    make pictures

`scripts/run-migration.sh` goes through its eight phases by itself, while an application searches and writes, and a Prometheus
scrapes every process; the charts are those of the report's page. Servers are the sandbox's; one that does not run is started.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path

from acceptance.application import in_service
from acceptance.shop import DIMENSION, Shop, shop
from segue import sandbox
from segue.cli.report_page import CHART_STYLE
from segue.sandbox import Endpoint
from segue.sandbox.processes import free_ports

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
ITEMS, UNFIT = 40_000, 400
SECONDS_AFTER = 20.0
"""How long users go on in `hybrid` before the pictures are taken."""

_FIGURE = re.compile(
    r'<figcaption>(.*?)<small>.*?</figcaption><svg viewBox="0 0 (\d+) (\d+)"[^>]*>(.*?)</svg></figure>', re.DOTALL
)
_MARGIN, _HEAD = 14, 38


def main() -> None:
    """Migrate, and write the pictures of it."""
    wanted = ("neo4j", "milvus", "prometheus")
    before = sandbox.running()
    endpoints = sandbox.up(wanted, announce=_say)
    neo4j = sandbox.newest_neo4j(endpoints)
    assert neo4j is not None
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            shop(Path(folder), neo4j, endpoints["milvus"], items=0, copied=False) as one,
        ):
            _fill(one)
            page = _migrated(one, endpoints["prometheus"])
    finally:
        sandbox.down(services=[service for service in endpoints if service not in before])
    PICTURES.mkdir(exist_ok=True)
    for title, width, height, drawn in _FIGURE.findall(page):
        file = PICTURES / f"{re.sub(r'[^a-z0-9]+', '-', unescape(title).lower())}.svg"
        file.write_text(_alone(title, int(width), int(height), drawn), encoding="utf-8")
        _say(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


def _fill(one: Shop) -> None:
    """Create the items, and some that cannot go."""
    create = (
        "UNWIND range($first, $first + 999) AS n CREATE (:LABEL {id: 'k' + n, title: 'item ' + n, year: 1970 + n % 50, "
        "tags: ['new'], embedding: [each IN range(1, $size) | rand() - 0.5]})"
    )
    for first in range(0, ITEMS, 1_000):
        one.place.rows(create, first=first, size=DIMENSION)
    one.place.rows("UNWIND range(1, $many) AS n CREATE (:LABEL {id: 'unfit' + n, embedding: [1.0, 2.0]})", many=UNFIT)
    one.place.rows("CALL db.awaitIndexes(300)")


def _migrated(one: Shop, prometheus: Endpoint) -> str:
    """Go through the migration; return the report's page."""
    place = one.place
    monitor = f'[monitor]\nprometheus_url = "{prometheus.uri}"'
    one.configure(sections=monitor, shadow_rate=1, milvus_seconds=5, least_shadow_reads=30)
    port = free_ports("copy")["copy"]
    environment = {**place.environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [
        ROOT / "scripts" / "run-migration.sh",
        "--yes",
        "--keep-relay",
        "--min-speed-up",
        "0.01",
        "--metrics-port",
        str(port),
    ]
    with in_service(one) as application:
        served = application.metrics_url.removeprefix("http://").removesuffix("/metrics")
        sandbox.scrape(prometheus, {f"127.0.0.1:{port}": "copy", f"127.0.0.1:{port + 1}": "relay", served: "application"})
        done = subprocess.run(
            command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        relay = re.search(r"the relay goes on as process (\d+)", done.stderr)
        try:
            assert done.returncode == 0, done.stderr
            time.sleep(SECONDS_AFTER)
            reported = place.start("report", "--format", "html").ended(300)
        finally:
            if relay:
                os.kill(int(relay[1]), signal.SIGTERM)
    assert reported.code == 0, reported.err
    assert application.faults == []
    return reported.out


def _alone(title: str, width: int, height: int, drawn: str) -> str:
    """Return a chart as a file of its own, with its title, readable in light and dark."""
    wide, high = width + 2 * _MARGIN, height + _HEAD + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img">'
        f"<title>{title}</title><style>{CHART_STYLE}svg .paper{{fill:var(--paper)}}"
        f'svg .title{{font:600 14px system-ui,sans-serif}}</style><rect class="paper" width="{wide}" height="{high}" rx="6"/>'
        f'<text class="title" x="{_MARGIN}" y="24">{title}</text>'
        f'<g transform="translate({_MARGIN} {_HEAD})">{drawn}</g></svg>\n'
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
