"""Dashboards, alert rules and runbooks ask for metrics that exist, and each alert says what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from schemas.catalogue import STREAMS, events_of
from schemas.operations import Refusal
from schemas.orders import Reason
from services.watcher.alerts import ALERTS
from shared.telemetry.metrics import METRICS, label

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "telemetry"
RUNBOOKS = ROOT / "docs" / "how-to" / "runbooks"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
SERIES = {series: metric for metric in METRICS.values() for series in metric.series}
LABELS = {label(attribute) for metric in METRICS.values() for attribute in metric.attributes}
VALUES = {
    "conclave_alert": set(ALERTS),
    "conclave_alarm": {event.__struct_config__.tag for event in events_of(STREAMS["alarms"])},
    "conclave_stream": set(STREAMS),
    "conclave_reason": {*get_args(Refusal), *get_args(Reason)},
    "conclave_status": {"decided", "no_quorum"},
    "conclave_action": {"SELL", "HOLD", "BUY", "absent"},
}


def queries(dashboard: Path) -> Iterator[str]:
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def strange(query: str) -> set[str]:
    """Words of ours in a query that are neither a metric nor an attribute; values that never come."""
    words = set(re.findall(r"\bconclave_\w+", query))
    values = {
        f"{name}={value}"
        for name, value in re.findall(r'(\w+)!?="([^"]*)"', query)
        if name in VALUES and value not in VALUES[name]
    }
    return (words - SERIES.keys() - LABELS) | values


def misplaced(query: str) -> set[str]:
    """Attributes that a selector asks of a metric which has them not."""
    return {
        f"{series}{{{name}}}"
        for series, selector in re.findall(r"\b(conclave_\w+)\{([^}]*)\}", query)
        for name in re.findall(r"(\w+)!?[=~]", selector)
        if name.startswith("conclave_") and name not in {label(each) for each in SERIES[series].attributes}
    }


def kebab(alert: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert.removeprefix("Conclave")).lower()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_that_exist(dashboard: Path) -> None:
    asked = list(queries(dashboard))
    assert asked
    assert set().union(*map(strange, asked)) == set()
    assert set().union(*map(misplaced, asked)) == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_can_lay_out(dashboard: Path) -> None:
    shown = json.loads(dashboard.read_text())
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/conclave.yaml").read_text())["datasources"]
    assert shown["uid"] == dashboard.stem
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in shown["panels"]:
        assert panel["datasource"]["uid"] in {source["uid"] for source in sources}
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_an_alert_rule_asks_for_metrics_that_exist() -> None:
    assert set().union(*(strange(rule["expr"]) for rule in RULES)) == set()
    assert set().union(*(misplaced(rule["expr"]) for rule in RULES)) == set()
    told = " ".join(text for rule in RULES for text in rule["annotations"].values())
    assert set(re.findall(r"labels\.(conclave_\w+)", told)) <= LABELS


@pytest.mark.parametrize(
    "query",
    [
        "conclave_decision_total",
        'conclave_decisions_total{conclave_status="noquorum"}',
        "sum by (conclave_modell) (conclave_ballots_total)",
    ],
)
def test_a_name_that_does_not_exist_is_found(query: str) -> None:
    assert strange(query)


def test_an_attribute_of_another_metric_is_found() -> None:
    assert misplaced('conclave_decisions_total{conclave_reason="duplicate"}')


def test_every_metric_is_shown_on_a_dashboard() -> None:
    shown = " ".join(query for dashboard in DASHBOARDS for query in queries(dashboard))
    assert [name for name, metric in METRICS.items() if not any(series in shown for series in metric.series)] == []


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = set(ALERTS) | {kebab(rule["alert"]) for rule in RULES}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == alerts
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/how-to/runbooks/{kebab(rule['alert'])}.md"
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        known = ALERTS.get(kebab(rule["alert"]))
        assert known is None or known.severity == rule["labels"]["severity"], rule["alert"]


@pytest.mark.parametrize("runbook", sorted(RUNBOOKS.glob("[a-z]*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_what_to_look_at_and_what_to_do(runbook: Path) -> None:
    text = runbook.read_text()
    assert text.startswith(f"# {runbook.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "Look", "Do", "Over when"]
    listed = (RUNBOOKS / "README.md").read_text()
    assert f"[{runbook.stem}]({runbook.name})" in listed


def test_commands_in_runbooks_exist() -> None:
    from services.console.cli import MODULES

    for runbook in RUNBOOKS.glob("*.md"):
        for command in re.findall(r"`conclave ([a-z]+(?:-[a-z]+)*)", runbook.read_text()):
            assert command in MODULES, f"{runbook.name}: conclave {command}"


def test_compose_mounts_what_is_there() -> None:
    text = (ROOT / "compose.yaml").read_text()
    mounted = re.findall(r"\./(deploy/telemetry/[\w./-]+):", text)
    assert len(mounted) == 5
    assert all((ROOT / path).exists() for path in mounted)
    for file in FOLDER.rglob("*.yaml"):
        assert yaml.safe_load(file.read_text())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")
def test_prometheus_reads_the_rules_and_they_fire_as_said() -> None:
    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
