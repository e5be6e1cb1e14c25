"""A real time series database, told by a real installation: the names that it makes are those of the table, and it
takes every query of dashboards and rules. Needs ``victoria-metrics`` (1.97 or later: it speaks OTLP and PromQL) on
the path; the rules' own tests need ``promtool`` (``test_telemetry``)."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml

from bench.installation import Installation, free_port, running, wait_until
from shared.telemetry.metrics import METRICS, label

FOLDER = Path(__file__).parents[2] / "deploy" / "telemetry"
BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2000")
WHY = ("--reason", "a test of it")
SELDOM = (
    "conclave.ballots.late", "conclave.decision.delay", "conclave.verdict", "conclave.gate.", "conclave.training.",
)  # fmt: skip
"""What an hour of replayed bars does not bring about."""

pytestmark = pytest.mark.skipif(shutil.which("victoria-metrics") is None, reason="victoria-metrics is not installed")


class Database:
    """Its API, which is that of Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask(f"query?nocache=1&query={quote(expression)}")["result"]
        return found

    def ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    port = free_port()
    with (tmp_path / "database.log").open("w") as log:
        process = subprocess.Popen(
            ["victoria-metrics", f"-storageDataPath={tmp_path / 'data'}", f"-httpListenAddr=127.0.0.1:{port}",
             "-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s", "-memory.allowedBytes=64MiB"],
            stdout=log, stderr=log,
        )  # fmt: skip
        told = Database(port)
        try:
            wait_until(told.ready)
            yield told
        finally:
            process.terminate()
            process.wait(timeout=30)


def expressions() -> Iterator[str]:
    """Every query there is."""
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for dashboard in (FOLDER / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(dashboard.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])


def test_the_names_that_a_database_makes_are_those_of_the_table(tmp_path: Path, database: Database) -> None:
    telemetry = f'\n[telemetry]\nendpoint = "{database.url}/opentelemetry"\nsample = 0.0\nexport_ms = 500\n'
    installation = Installation(tmp_path / "here", models=("prior", "logistic"), extra=telemetry)
    with running(installation):
        for model, weight in (("prior", 1.0), ("logistic", 0.5)):
            installation.train(model, *BARS, weight=weight)
        installation.conclave("halt", *WHY)
        installation.conclave("feed", *BARS, "--limit", "2000")
        wait_until(lambda: database.query("sum(conclave_decisions_total) >= 2000"))
        wait_until(lambda: database.query('conclave_group_lag{conclave_group="ensemble-voter"} == 0'))
        assert database.query("conclave_control_halted == 1")
        known = {series: metric for metric in METRICS.values() for series in metric.series}
        ours = {name for name in database.ask("label/__name__/values") if name.startswith("conclave_")}
        assert ours <= set(known)
        missing = {metric.name for name, metric in known.items() if name not in ours}
        assert {name for name in missing if not name.startswith(SELDOM)} == set()
        for name in ours:
            labels = {key for found in database.query(name) for key in found["metric"] if key.startswith("conclave_")}
            allowed = {label(attribute) for attribute in known[name].attributes} | {"conclave_partition"}
            assert labels <= allowed, name
        answered = [expression for expression in expressions() if database.query(expression)]
        assert len(answered) > 20
