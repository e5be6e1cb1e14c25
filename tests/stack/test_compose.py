"""The compose stack, built from this tree and run: what must hold on a machine with Docker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from schemas.catalogue import Service
from services.console.run import SERVICES
from shared.settings import load

ROOT = Path(__file__).parents[2]
BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "3000", "--source-seed", "2")


def commands(text: str) -> list[list[str]]:
    return [found.split(", ") for found in re.findall(r"^    command: \[(run, .*)\]$", text, re.MULTILINE)]


def test_compose_runs_every_service_that_can_be_run_and_no_other() -> None:
    named = {words[1] for words in commands((ROOT / "compose.yaml").read_text())}
    assert named == set(SERVICES) <= set(get_args(Service))


def test_compose_has_one_worker_for_each_model_of_its_settings() -> None:
    words = commands((ROOT / "compose.yaml").read_text())
    models = [word[3] for word in words if word[1] == "model-worker"]
    assert models == list(load(ROOT / "deploy" / "conclave.toml").models.names)


def test_each_container_is_given_its_own_password_alone() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for block in re.findall(r"CONCLAVE_REDIS_USER: (\S+)}\n    volumes: \[(.*)\]", text):
        user, volumes = block
        assert re.findall(r"key-[a-z-]+", volumes) == [f"key-{user}"]


class Stack:
    """The stack under a name of its own, beside any other."""

    def __init__(self) -> None:
        self.project = f"conclave-test-{os.getpid()}"

    def compose(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"compose {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"[-4000:])
        return done.stdout

    def conclave(self, *words: str) -> str:
        """The console, in the container that makes decisions: quicker than a container for each command."""
        return self.compose("run", "--rm", "--no-deps", "-T", "console", *words)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.conclave("status", "-o", "json"))
        return found

    def inside(self, service: str, *words: str, check: bool = True) -> str:
        return self.compose("exec", "-T", service, *words, check=check)

    def decisions(self, last: int = 200) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.conclave("decisions", "-n", str(last), "-o", "json").splitlines()]


def wait_until(condition: Callable[[], bool], limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.5)


def inspected(container: str, what: str) -> str:
    words = ["docker", "inspect", "--format", what, container]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode or (
        subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Docker engine with Compose answers here")
    begun = time.monotonic()
    if not any((ROOT / "wheels").glob("*.whl")):
        subprocess.run(["make", "wheels", f"PYTHON={sys.executable}"], cwd=ROOT, check=True, capture_output=True)
    os.environ["PIP_NO_INDEX"] = "1"
    (ROOT / "bars").mkdir(exist_ok=True)
    running = Stack()
    try:
        running.compose("up", "--build", "--wait", "--pull", "never")
        healthy = time.monotonic()
        running.compose("build", "console")
        for model, weight in (("xgboost", "1"), ("lightgbm", "0.5")):
            running.conclave(
                "train", "--model", model, "--family", model, *BARS,
                "--promote", "--weight", weight, "--reason", "a first model",
            )  # fmt: skip
        running.compose("--profile", "feed", "up", "--detach", "--pull", "never", "feed")
        wait_until(lambda: any(one["status"] == "decided" for one in running.decisions(20)))
        decided = time.monotonic()
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print(f"\ncompose: healthy after {healthy - begun:.0f} s, first decision after {decided - begun:.0f} s")  # noqa: T201  # a figure to keep
        yield running
    finally:
        running.compose("--profile", "feed", "--profile", "console", "down", "--volumes", "--timeout", "5", check=False)


@pytest.mark.stack
def test_every_group_has_a_living_owner_and_both_models_vote(stack: Stack) -> None:
    status = stack.status()
    assert all(group["alive"] for group in status["groups"])
    assert stack.decisions(1)[0]["total_models"] == 2


@pytest.mark.stack
def test_a_promotion_and_its_rollback_take_effect(stack: Stack) -> None:
    before = stack.status()
    shown = stack.conclave("train", "--model", "xgboost", "--family", "xgboost", *BARS, "--seed", "7",
                           "--shadow", "--reason", "a candidate")  # fmt: skip
    digest = re.findall(r"^[0-9a-f]{64}$", shown, re.MULTILINE)[0]
    promoted = json.loads(
        stack.conclave("promote", "xgboost", digest, "--force", "--wait", "--reason", "try", "-o", "json")
    )
    assert any(ballot["artifact"] == digest for ballot in promoted["first_decision"]["event"]["counted"])
    back = json.loads(stack.conclave("rollback", "--wait", "--reason", "enough", "-o", "json"))
    assert all(ballot["artifact"] != digest for ballot in back["first_decision"]["event"]["counted"])
    assert stack.status()["models"]["xgboost"]["champion"] == before["models"]["xgboost"]["champion"]


@pytest.mark.stack
@pytest.mark.parametrize("service", ["ensemble-voter", "feature-builder", "model-worker-xgboost", "feed"])
def test_a_killed_container_comes_back_and_decisions_go_on(stack: Stack, service: str) -> None:
    container = stack.compose("ps", "--quiet", service).strip()
    group = service.replace("model-worker-", "model-worker.")
    [before] = [view for view in stack.status()["groups"] if view["group"] == group]
    os.kill(int(inspected(container, "{{.State.Pid}}")), signal.SIGKILL)

    def back() -> bool:
        views = [view for view in stack.status()["groups"] if view["group"] == group]
        return bool(views[0]["epoch"] > before["epoch"] and views[0]["alive"])

    wait_until(back)
    assert inspected(container, "{{.RestartCount}}") == "1"  # at once: its predecessor is known to be gone
    newest = stack.decisions(1)[0]["open_time"]
    wait_until(lambda: bool(stack.decisions(1)[0]["open_time"] > newest))


@pytest.mark.stack
def test_down_and_up_again_loses_nothing(stack: Stack) -> None:
    history = stack.conclave("history", "-o", "json")
    decisions = stack.decisions(1_000_000)
    stack.compose("--profile", "feed", "down")
    stack.compose("--profile", "feed", "up", "--detach", "--wait", "--pull", "never")
    assert "CRITICAL" not in stack.compose("logs", "redis")
    assert stack.conclave("history", "-o", "json") == history
    assert stack.decisions(1_000_000)[: len(decisions)] == decisions
    wait_until(lambda: len(stack.decisions(1_000_000)) > len(decisions))
    opened = [(one["symbol"], one["open_time"]) for one in stack.decisions(1_000_000)]
    assert len(opened) == len(set(opened))


@pytest.mark.stack
def test_a_service_is_nobody_on_a_read_only_root_without_a_compiler(stack: Stack) -> None:
    look = (
        "import os, shutil; print(os.getuid(), [p for p in ('cc', 'gcc', 'make') if shutil.which(p)]); "
        "open('/opt/conclave/x', 'w')"
    )
    done = subprocess.run(
        ["docker", "compose", "--project-name", stack.project, "exec", "-T", "ensemble-voter", "python3", "-c", look],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split(maxsplit=1) == ["10001", "[]\n"]
    assert "Read-only file system" in done.stderr


@pytest.mark.stack
def test_the_server_refuses_a_service_what_is_not_its_own(stack: Stack) -> None:
    attempt = """
import pathlib, redis
voter = redis.Redis("redis", username="ensemble-voter", password=pathlib.Path("/run/key/password").read_text())
for command in (
    "XADD conclave:control * e x",
    "XADD conclave:{p0}:predictions * e x",
    "XTRIM conclave:{p0}:decisions MAXLEN 0",
    "FUNCTION FLUSH",
    "CONFIG SET appendonly no",
):
    try:
        print(voter.execute_command(*command.split()))
    except redis.exceptions.NoPermissionError:
        print("refused")
try:
    print(redis.Redis("redis").ping())
except redis.exceptions.AuthenticationError:
    print("refused")
"""
    assert stack.inside("ensemble-voter", "python3", "-c", attempt).split() == ["refused"] * 6
