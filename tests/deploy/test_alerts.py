"""The rules: Prometheus's own tests of them, each alert fires and keeps still, is explained, and runs on a real Prometheus."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.scraped_run import ScrapedRun, exposed, metrics_of
from segue.sandbox.system_programs import required

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "segue-rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's tool on our rules."""
    command = (required("promtool", "prometheus"), *arguments)
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False)


def test_prometheus_takes_the_rules_and_its_cases_pass() -> None:
    """`promtool check rules` and `promtool test rules`."""
    checked = promtool("check", "rules", "segue-rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    played = promtool("test", "rules", "rules-test.yml")
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_seen_firing_and_keeping_still(alert: str) -> None:
    """By the cases that promtool plays."""
    cases = [
        bool(case["exp_alerts"])
        for played in yaml.safe_load((FOLDER / "rules-test.yml").read_text(encoding="utf-8"))["tests"]
        for case in played["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_each_rule_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    """What Segue exposes, or another rule records."""
    assert metrics_of(rule["expr"]) <= exposed() | RECORDED


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_leads_to_its_section_of_the_runbook(alert: str) -> None:
    """A link that exists, with a severity, a summary and a description."""
    rule = ALERTS[alert]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"
    runbook = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"### {alert}\n" in runbook
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


def test_the_rules_run_on_a_real_prometheus(scraped_run: ScrapedRun) -> None:
    """Without errors, with data in what they record, and without an alert while everything is well."""
    assert {rule["name"] for rule in scraped_run.rules} == set(ALERTS) | RECORDED
    assert [rule["name"] for rule in scraped_run.rules if rule["health"] == "err"] == []
    firing = {rule["name"] for rule in scraped_run.rules if rule.get("state") == "firing"}
    assert not firing
    for name in RECORDED:
        assert scraped_run.values(name), name
