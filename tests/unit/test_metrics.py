"""The metrics: what each call of the meter moves, names and buckets, one registry for several, served over HTTP, documented."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from segue.errors import ConfigError
from segue.model import AgentControl, AgentMode, AgentStoreName, Control, Depth, Instance, StorageMode, StoreName, Validated
from segue.ports import AgentMeter, Backlog, Meter
from segue.telemetry.exposition import serve
from segue.telemetry.health import Health
from segue.telemetry.metrics import AgentMetrics, Declared, Metrics

NEO4J, MILVUS = StoreName.NEO4J, StoreName.MILVUS
HYBRID, SHADOW = StorageMode.HYBRID, StorageMode.SHADOW_MILVUS
FIXED_NAMES = {
    "migration_migrated_items": "gauge",
    "migration_total_items": "gauge",
    "neo4j_search_latency_ms": "histogram",
    "milvus_search_latency_ms": "histogram",
    "dual_write_attempts_total": "counter",
    "dual_write_success_total": "counter",
}
BACKLOG = Backlog(open=7, dirty=3, tainted=2, oldest_seconds=1.5)
ABBREVIATED = "metric names should not contain abbreviated units"


class Exposed:
    """A registry with the metrics of one collection, read as Prometheus reads it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.meter: Meter = Metrics("films", self.registry)

    def families(self) -> dict[str, Metric]:
        text = generate_latest(self.registry).decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample of the collection, None when it is not exposed."""
        wanted = {"collection": "films", **labels}
        found = [
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name and sample.labels == wanted
        ]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def exposed() -> Exposed:
    """Return a registry with nothing told yet."""
    return Exposed()


def test_the_fixed_names_exist_with_their_types() -> None:
    """Dashboards of the first version find what they ask for, and everything else has one of three prefixes."""
    kinds = {one.name: one.kind for one in Declared().described}
    assert {name: kinds[name] for name in FIXED_NAMES} == FIXED_NAMES
    assert all(name.startswith(("migration_", "dual_write_", "segue_")) for name in kinds.keys() - FIXED_NAMES.keys())
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())


def test_the_names_exposed_are_those_declared(exposed: Exposed) -> None:
    """Once everything was told, the text has every declared name under its type, and no other."""
    tell_everything(exposed.meter)
    tell_everything_of_agents(AgentMetrics(exposed.registry))
    kinds = {
        f"{name}_total" if family.type == "counter" else name: family.type
        for name, family in exposed.families().items()
        if not name.endswith("_created")
    }
    assert kinds == {one.name: one.kind for one in Declared().described}
    assert all(family.samples for family in exposed.families().values())


def test_every_sample_names_its_collection_and_only_declared_labels(exposed: Exposed) -> None:
    """No label but those declared, so none that grows with keys."""
    tell_everything(exposed.meter)
    tell_everything_of_agents(AgentMetrics(exposed.registry))
    declared = {one.name.removesuffix("_total"): {"collection", *one.labels} for one in Declared().described}
    for name, family in exposed.families().items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == declared[name.removesuffix("_created")]


def test_agents_traffic_is_counted(exposed: Exposed) -> None:
    """Writes by store, the outbox by what became of it, shadow reads by what they found, the mode by its place."""
    tell_everything_of_agents(AgentMetrics(exposed.registry))
    agents = {"collection": "agentdb"}
    assert exposed.value("segue_agent_write_attempts_total", store="redis", **agents) == 3
    assert exposed.value("segue_agent_write_success_total", store="redis", **agents) == 2
    assert exposed.value("segue_agent_outbox_carried_total", outcome="refused", **agents) == 1
    assert exposed.value("segue_agent_outbox_entries", state="waiting", **agents) == 5
    assert exposed.value("segue_agent_shadow_rows_total", outcome="different", **agents) == 6
    assert exposed.value("segue_agent_mode", **agents) == 2
    assert exposed.value("segue_agent_epoch", **agents) == 9


def tell_everything_of_agents(meter: AgentMeter) -> None:
    """Call every method once."""
    meter.wrote(AgentStoreName.REDIS, 3, 2)
    meter.failed(AgentStoreName.POSTGRES, "write", "StoreTimeout")
    meter.carried(4, 1)
    meter.waiting(5, 1, 2.5)
    meter.compared(7, 6)
    meter.acts(AgentControl(AgentMode.SHADOW, 9))


def test_what_a_store_took_is_in_its_own_histogram(exposed: Exposed) -> None:
    """Seconds become milliseconds, by store and mode."""
    exposed.meter.asked(NEO4J, SHADOW, 0.042)
    exposed.meter.asked(MILVUS, HYBRID, 0.004)
    exposed.meter.asked(MILVUS, HYBRID, 0.006)
    assert exposed.value("neo4j_search_latency_ms_sum", mode="shadow_milvus") == pytest.approx(42)
    assert exposed.value("milvus_search_latency_ms_sum", mode="hybrid") == pytest.approx(10)
    assert exposed.value("milvus_search_latency_ms_bucket", mode="hybrid", le="5.0") == 1
    assert exposed.value("milvus_search_latency_ms_bucket", mode="hybrid", le="7.0") == 2
    assert exposed.value("neo4j_search_latency_ms_count", mode="hybrid") == 0


def test_what_a_user_waited_is_counted_by_who_answered(exposed: Exposed) -> None:
    """One search, one count, one latency; the stores' own latencies stay."""
    exposed.meter.searched(NEO4J, HYBRID, 0.05)
    assert exposed.value("segue_searches_total", mode="hybrid", store="neo4j") == 1
    assert exposed.value("segue_search_latency_ms_sum", mode="hybrid", store="neo4j") == pytest.approx(50)
    assert exposed.value("segue_searches_total", mode="hybrid", store="milvus") == 0
    assert exposed.value("neo4j_search_latency_ms_count", mode="hybrid") == 0


def test_fallbacks_and_failures_are_counted_by_their_kind(exposed: Exposed) -> None:
    """A reason and an error class each have their own series."""
    exposed.meter.fell_back("late_fence")
    exposed.meter.fell_back("late_fence")
    exposed.meter.failed(MILVUS, "search", "StoreTimeout")
    assert exposed.value("segue_search_fallbacks_total", reason="late_fence") == 2
    assert exposed.value("segue_store_errors_total", store="milvus", operation="search", kind="StoreTimeout") == 1


def test_writes_are_counted_by_attempt_and_success(exposed: Exposed) -> None:
    """Their ratio is the share of items written."""
    exposed.meter.wrote(MILVUS, 10, 8)
    exposed.meter.wrote(NEO4J, 5, 5)
    assert exposed.value("dual_write_attempts_total", store="milvus") == 10
    assert exposed.value("dual_write_success_total", store="milvus") == 8
    assert exposed.value("dual_write_attempts_total", store="neo4j") == 5
    assert exposed.value("dual_write_success_total", store="neo4j") == 5


def test_the_fence_is_told(exposed: Exposed) -> None:
    """Open marks are as last seen, items that stood in add up."""
    exposed.meter.fenced(5, 2, 0.003)
    exposed.meter.fenced(4, 1, 0.003)
    assert exposed.value("segue_fence_open_marks") == 4
    assert exposed.value("segue_fence_overlaid_items_total") == 3
    assert exposed.value("segue_fence_latency_ms_sum") == pytest.approx(6)


def test_shadow_reads_are_told(exposed: Exposed) -> None:
    """A bucket's bound belongs to it, so that 7 of 10 is not counted as more."""
    exposed.meter.compared(0.7, 0.013)
    exposed.meter.shadow_skipped()
    assert exposed.value("segue_shadow_overlap_bucket", le="0.6") == 0
    assert exposed.value("segue_shadow_overlap_bucket", le="0.7") == 1
    assert exposed.value("segue_shadow_score_error_bucket", le="0.01") == 0
    assert exposed.value("segue_shadow_score_error_bucket", le="0.02") == 1
    assert exposed.value("segue_shadow_skipped_total") == 1


def test_lag_and_backlog_are_told(exposed: Exposed) -> None:
    """The backlog is by state, and as last told."""
    exposed.meter.lagged(0.3)
    exposed.meter.backlog(Backlog(9, 9, 9, 9.0))
    exposed.meter.backlog(BACKLOG)
    assert exposed.value("dual_write_lag_seconds_sum") == pytest.approx(0.3)
    assert [exposed.value("dual_write_backlog", state=state) for state in ("open", "dirty", "tainted")] == [7, 3, 2]
    assert exposed.value("dual_write_oldest_mark_seconds") == 1.5


def test_modes_are_numbers_in_their_order_and_own_is_absent_without_one(exposed: Exposed) -> None:
    """The instance's own mode comes and goes; control node and reads are always there."""
    control = Control(mode=HYBRID, epoch=4)
    exposed.meter.acts(control, SHADOW, SHADOW)
    assert [exposed.value("segue_storage_mode", scope=scope) for scope in ("control", "own", "reads")] == [3, 2, 2]
    exposed.meter.acts(control, None, HYBRID)
    exposed.meter.acts(control, None, HYBRID)
    assert [exposed.value("segue_storage_mode", scope=scope) for scope in ("control", "own", "reads")] == [3, None, 3]
    assert exposed.value("segue_epoch") == 4


def test_breaker_and_copy_are_told(exposed: Exposed) -> None:
    """Gauges follow what was told last."""
    exposed.meter.breaker(is_open=True)
    assert exposed.value("segue_breaker_open") == 1
    exposed.meter.breaker(is_open=False)
    assert exposed.value("segue_breaker_open") == 0
    exposed.meter.copied(10, 1, 40, None)
    assert exposed.value("migration_migrated_items") == 10
    assert exposed.value("migration_quarantined_items") == 1
    assert exposed.value("migration_total_items") == 40
    assert exposed.value("migration_eta_seconds") is None
    exposed.meter.copied(20, 1, 40, 9.5)
    assert exposed.value("migration_eta_seconds") == 9.5


def test_a_relay_tells_how_the_collection_stands(exposed: Exposed) -> None:
    """The mode, who is behind its epoch, the rows, and whether it works; nothing about an instance of its own."""
    instances = [Instance("a", "here", None, 3), Instance("b", "here", None, 2), Instance("c", "there", None, 3)]
    exposed.meter.stands(Control(mode=HYBRID, epoch=3), instances)
    exposed.meter.stored(100, 90)
    exposed.meter.relays(is_up=True)
    assert exposed.value("segue_storage_mode", scope="control") == 3
    assert exposed.value("segue_epoch") is None
    assert [exposed.value("segue_instances", state=state) for state in ("current", "behind")] == [2, 1]
    assert (exposed.value("segue_milvus_rows"), exposed.value("segue_milvus_indexed_rows")) == (100, 90)
    assert exposed.value("segue_relay_up") == 1
    exposed.meter.relays(is_up=False)
    assert exposed.value("segue_relay_up") == 0


def test_the_last_verdict_is_told_and_goes_with_the_control_node(exposed: Exposed) -> None:
    """Whoever sees the control node tells it, an instance or a relay; without a verdict nothing is shown."""
    names = [f"migration_validation_{name}" for name in ("clean", "success_ratio", "age_seconds")]
    verdict = Validated(epoch=1, depth=Depth.FULL, clean=True, rate=1.0, digest="0", sink_digest="0", seconds_ago=60.0)
    exposed.meter.acts(Control(mode=SHADOW, epoch=2, validated=verdict), None, SHADOW)
    assert [exposed.value(name) for name in names] == [1, 1, 60]
    exposed.meter.stands(Control(mode=SHADOW, epoch=2, validated=replace(verdict, clean=False, rate=0.75)), [])
    assert [exposed.value(name) for name in names] == [0, 0.75, 60]
    exposed.meter.stands(Control(), [])
    assert [exposed.value(name) for name in names] == [None, None, None]


def test_memory_is_as_it_is_when_scraped(exposed: Exposed) -> None:
    """It grows by what was taken in between, without anybody telling it."""
    before = exposed.value("segue_process_memory_bytes")
    taken = b"x" * (64 << 20)
    after = exposed.value("segue_process_memory_bytes")
    assert before is not None
    assert after is not None
    assert after - before > len(taken) / 2


def test_latencies_have_equal_buckets(exposed: Exposed) -> None:
    """Quantiles of both stores, of users and of the fence can be compared."""
    tell_everything(exposed.meter)
    bounds = {
        name: sorted({sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")})
        for name, family in exposed.families().items()
        if name.endswith("_ms")
    }
    assert len(bounds) == 4
    assert len({tuple(one) for one in bounds.values()}) == 1


def test_known_counters_begin_at_zero_and_gauges_when_told(exposed: Exposed) -> None:
    """A rate has a start before the first event; what nobody knows yet is not shown as nothing."""
    assert exposed.value("milvus_search_latency_ms_count", mode="shadow_milvus") == 0
    assert exposed.value("dual_write_attempts_total", store="milvus") == 0
    assert exposed.value("segue_searches_total", mode="hybrid", store="milvus") == 0
    assert exposed.value("segue_shadow_skipped_total") == 0
    assert exposed.value("dual_write_lag_seconds_count") == 0
    assert exposed.value("milvus_search_latency_ms_count", mode="neo4j_only") is None
    assert exposed.value("migration_total_items") is None
    assert exposed.value("dual_write_backlog", state="dirty") is None


def test_collections_and_instances_share_a_registry(exposed: Exposed) -> None:
    """Two collections stay apart, two instances of one add up."""
    Metrics("films", exposed.registry).wrote(MILVUS, 1, 1)
    Metrics("people", exposed.registry).wrote(MILVUS, 5, 5)
    exposed.meter.wrote(MILVUS, 2, 2)
    assert exposed.value("dual_write_success_total", store="milvus") == 3
    assert exposed.value("dual_write_success_total", collection="people", store="milvus") == 5


def test_a_name_that_is_taken_is_an_error_and_registers_nothing() -> None:
    """The application's metric stays, and Segue joins once it is gone."""
    registry = CollectorRegistry()
    theirs = Counter("dual_write_attempts", "Somebody else's.", registry=registry)
    with pytest.raises(ConfigError, match="dual_write_attempts"):
        Metrics("films", registry)
    assert b"segue_" not in generate_latest(registry)
    registry.unregister(theirs)
    Metrics("films", registry)
    assert b"segue_" in generate_latest(registry)


def test_a_registry_is_served_over_http(exposed: Exposed) -> None:
    """What is scraped is what the registry holds, and the port is free after closing."""
    with closing(serve(None, exposed.registry, "127.0.0.1")) as served:
        port = served.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            assert reply.headers["Content-Type"].startswith("text/plain")
            assert b'dual_write_success_total{collection="films",store="milvus"} 0.0' in reply.read()
    serve(port, exposed.registry, "127.0.0.1").close()


def test_probes_tell_stuck_parts_and_those_that_have_not_begun(exposed: Exposed) -> None:
    """Ready when every part has worked once, also later when it waits; well until one gives no sign of life for too long."""
    now = 0.0
    health = Health(("films", "people"), stuck_seconds=10, clock=lambda: now)

    def asked(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode().strip()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode().strip()

    with closing(serve(None, exposed.registry, "127.0.0.1", health)) as served:
        health.works("films")
        assert asked("/healthz") == (200, "ok")
        assert asked("/readyz") == (503, "people: has not reached its stores yet")
        now = 9.0
        health.works("people")
        assert asked("/readyz") == (200, "ok")
        now = 11.0
        assert asked("/healthz") == (503, "films: no sign of life for 11 s")
        health.lives("films")
        assert asked("/healthz") == (200, "ok")


def test_the_last_figures_wait_for_a_scrape_that_began_after_them(exposed: Exposed) -> None:
    """An earlier one does not count, a probe neither; nobody is waited for longer than asked, or after a stop."""
    stop = threading.Event()
    with closing(serve(None, exposed.registry, "127.0.0.1")) as served:

        def ask(path: str) -> None:
            urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}", timeout=5).close()

        ask("/metrics")
        ask("/healthz")
        assert not served.await_scrape(0.2, stop)
        later = threading.Timer(0.3, ask, ("/metrics",))
        later.start()
        assert served.await_scrape(30, stop)
        later.join()
        stop.set()
        assert not served.await_scrape(30, stop)


def test_other_machines_can_scrape_unless_told_otherwise(exposed: Exposed) -> None:
    """It listens at every address of this machine, so at another of loopback too."""
    with closing(serve(None, exposed.registry)) as served:
        urllib.request.urlopen(f"http://127.0.0.2:{served.port}/metrics", timeout=5).close()


def test_a_port_that_is_taken_is_a_config_error(exposed: Exposed) -> None:
    """It names the port and says what to do."""
    with closing(serve(None, exposed.registry, "127.0.0.1")) as served:
        with pytest.raises(ConfigError, match=f"127.0.0.1:{served.port}: the port is taken") as caught:
            serve(served.port, exposed.registry, "127.0.0.1")
        assert "another port" in caught.value.hint


def test_an_address_of_another_machine_is_a_config_error(exposed: Exposed) -> None:
    """It names the address and the system's reason."""
    with pytest.raises(ConfigError, match=r"at 192\.0\.2\.1:any port: .*assign"):
        serve(None, exposed.registry, "192.0.2.1")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH (Debian package prometheus)")
def test_promtool_minds_nothing_but_the_unit_the_names_were_fixed_with(exposed: Exposed) -> None:
    """Prometheus's own check complains about `ms` and about nothing else."""
    tell_everything(exposed.meter)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(exposed.registry), capture_output=True, timeout=60, check=False
    )
    complaints = (checked.stdout + checked.stderr).decode().splitlines()
    assert complaints
    assert [line for line in complaints if not line.endswith(ABBREVIATED)] == []


def tell_everything(meter: Meter) -> None:
    """Call every method once."""
    meter.asked(NEO4J, SHADOW, 0.1)
    meter.asked(MILVUS, SHADOW, 0.1)
    meter.searched(MILVUS, SHADOW, 0.1)
    meter.fell_back("late_fence")
    meter.failed(MILVUS, "search", "StoreTimeout")
    meter.wrote(MILVUS, 1, 1)
    meter.fenced(1, 1, 0.1)
    meter.compared(0.9, 0.01)
    meter.shadow_skipped()
    meter.lagged(0.1)
    meter.backlog(BACKLOG)
    meter.acts(Control(), StorageMode.DUAL_WRITE, StorageMode.NEO4J_ONLY)
    meter.breaker(is_open=False)
    meter.copied(1, 1, 2, 3.0)
    meter.stands(
        Control(validated=Validated(1, Depth.FULL, clean=True, rate=1.0, digest="0", sink_digest="0", seconds_ago=1.0)), []
    )
    meter.stored(1, 1)
    meter.relays(is_up=True)
