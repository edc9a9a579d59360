"""A real Prometheus that has scraped a real migration: a copy, a relay, and an application that searches and writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import segue
from acceptance.shop import shop, vector
from acceptance.workplace import eventually
from deploy.scraped_run import ScrapedRun
from segue import sandbox
from segue.sandbox import Endpoint
from segue.sandbox.processes import free_ports
from segue.telemetry.exposition import serve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A Prometheus of our own, which scrapes every second."""
    root = tmp_path_factory.mktemp("prometheus")
    yield sandbox.up(("prometheus",), root=root)["prometheus"]
    sandbox.down(root)


@pytest.fixture(scope="session")
def scraped_run(
    prometheus: Endpoint, newest_neo4j: Endpoint, milvus_endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory
) -> ScrapedRun:
    """From `neo4j_only` to `shadow_milvus`, with every process scraped: a copy, a relay, an application."""
    folder = tmp_path_factory.mktemp("shop")
    with ExitStack() as opened:
        one = opened.enter_context(shop(folder, newest_neo4j, milvus_endpoint, items=200, copied=False))
        place = one.place
        ports = free_ports("copy", "relay", "application")
        sandbox.scrape(prometheus, {f"127.0.0.1:{port}": job for job, port in ports.items()})
        rules = (ROOT / "deploy/prometheus/segue-rules.yml").read_text(encoding="utf-8")
        # The run is shorter than two evaluations would be.
        sandbox.evaluate(prometheus, rules.replace("interval: 30s", "interval: 1s"))
        began = time.time()
        one.change("dual_write")
        registry = CollectorRegistry()
        opened.enter_context(closing(serve(ports["application"], registry, "127.0.0.1")))
        store = opened.enter_context(one.open(registry=registry, shadow_rate=1.0, milvus_seconds=3))
        copied = place.start("migrate-embeddings", "--metrics-port", str(ports["copy"])).ended()
        assert copied.code == 0, copied.err
        place.start("relay", "--metrics-port", str(ports["relay"]))
        store.upsert([segue.Item(f"k{number:03d}", vector(number + 0.5)) for number in range(5)], wait=30)
        one.reach("shadow_milvus")
        run = ScrapedRun(prometheus, place.collection, began)
        shadowed = f'milvus_search_latency_ms_count{{collection="{place.collection}",mode="shadow_milvus"}} > 10'

        def is_seen() -> bool:
            store.upsert([segue.Item("k000", vector(time.time() % 100))])
            for number in range(5):
                store.search(vector(number), k=3)
            return bool(run.values(shadowed)) and bool(run.values("segue_milvus_rows > 0"))

        eventually(is_seen)
        assert is_seen(), "Prometheus has not seen the run"
        time.sleep(3)  # rates need scrapes before and after
        reported = place.segue("report", "--format", "html", "--prometheus-url", prometheus.uri)
        assert reported.code == 0, reported.err
        run.rules.extend(rule for group in run.asked("rules")["groups"] for rule in group["rules"])
        run = replace(run, page=reported.out)
    return run
