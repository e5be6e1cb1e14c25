"""The compose stack, built from this tree and run: what must hold on a machine with Docker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
import yaml

from bench.installation import wait_until
from schemas.catalogue import STREAMS, Service, partition_of
from services.console.run.service import SERVICES
from shared.log.address import parse_address
from shared.runtime.supervision import STALE_S
from shared.settings import load

ROOT = Path(__file__).parents[2]
GLOBAL = ("archiver", "trainer", "watcher", "observatory", "phone")
"""Services that serve all partitions."""
KILLED = (
    "ensemble-voter", "feature-builder", "model-worker-xgboost", "model-worker-nhits", "feed",
    "executor", "shadow-recorder", "gate-evaluator", "archiver", "trainer", "watcher", "observatory", "guard", "redis",
)  # fmt: skip
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


def test_the_settings_of_the_cluster_differ_from_those_of_one_server_in_their_address_alone() -> None:
    one, cluster = (load(ROOT / "deploy" / f"{name}.toml") for name in ("conclave", "cluster"))
    assert msgspec.structs.replace(cluster, redis=one.redis) == one
    assert (cluster.redis.mode, cluster.redis.ca) == ("cluster", one.redis.ca)


def test_the_nodes_of_the_cluster_are_those_that_its_settings_name_and_its_certificate_is_for() -> None:
    stack = yaml.safe_load((ROOT / "compose.yaml").read_text())
    nodes = sorted(name for name in stack["services"] if name.startswith("node-"))
    host = parse_address(load(ROOT / "deploy" / "cluster.toml").redis.url).hosts
    assert list(host) == nodes == sorted(re.findall(r"node-\d", stack["services"]["keys"]["command"][0]))
    made = stack["services"]["cluster"]
    assert sorted(name for name in made["depends_on"]) == nodes
    assert all(stack["services"][name]["profiles"] == ["cluster"] for name in (*nodes, "cluster"))


def test_each_further_partition_has_its_own_services(tmp_path: Path) -> None:
    (tmp_path / "conclave.toml").write_text("[installation]\npartitions = 3\n")
    words = [str(ROOT / "deploy" / "partitions"), str(tmp_path / "conclave.toml")]
    written = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    once = [word for word in commands((ROOT / "compose.yaml").read_text()) if word[1] not in {"feed", *GLOBAL}]
    assert commands(written) == [[*word, "--partition", f'"{number}"'] for word in once for number in (1, 2)]
    assert len(re.findall(r"^  [a-z-]+-[12]:$", written, re.MULTILINE)) == 2 * len(once)


def test_the_image_of_the_services_has_the_libraries_that_units_have() -> None:
    """Trees are trained in it as in a unit: what one needs the other needs too."""
    [image] = re.findall(r"'\.\[(.*)\]'.*\n\nFROM build AS build-ml$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    [units] = re.findall(r"^extras=\$\{EXTRAS:-(.*)\}$", (ROOT / "systemd" / "install.sh").read_text(), re.MULTILINE)
    assert set(image.split(",")) == set(units.split(","))


def test_a_container_is_healthy_while_its_heartbeat_is_young_and_killed_when_it_is_old(tmp_path: Path) -> None:
    [check] = re.findall(r'\[CMD-SHELL, "(age=.*)"\]', (ROOT / "compose.yaml").read_text())
    heartbeat = tmp_path / "heartbeat"
    for written, here in (("$$", "$"), ("/tmp/heartbeat", str(heartbeat)), ("kill -9 -1", "exit 7")):
        check = check.replace(written, here)

    def answer() -> int:
        return subprocess.run(["sh", "-c", check], check=False, capture_output=True).returncode

    assert answer() not in {0, 7}
    for age, expected in ((0, 0), (STALE_S - 5, 0), (STALE_S + 1, 7)):
        heartbeat.touch()
        os.utime(heartbeat, (time.time() - age,) * 2)
        assert answer() == expected


def test_each_container_is_given_its_own_password_alone() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for block in re.findall(r"CONCLAVE_REDIS_USER: (\S+)}\n    volumes: \[(.*)\]", text):
        user, volumes = block
        assert re.findall(r"key-[a-z-]+", volumes) == [f"key-{user}"]


class Stack:
    """The stack under a name of its own, beside any other; of ``compose.yaml`` and ``files`` that change it."""

    def __init__(self, name: str = "", files: Sequence[Path] = ()) -> None:
        self.project = f"conclave-test-{os.getpid()}{name}"
        self.files = [word for file in files for word in ("--file", str(file))]

    def compose(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *self.files, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"compose {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"[-4000:])
        return done.stdout

    def conclave(self, *words: str) -> str:
        """The console, in a container of its own."""
        return self.compose("run", "--rm", "-T", "console", *words)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.conclave("status", "-o", "json"))
        return found

    def epochs(self) -> dict[str, int]:
        """How often each group was claimed; all have a living owner."""
        groups = self.status()["groups"]
        assert all(view["alive"] for view in groups), groups
        return {view["group"]: view["epoch"] for view in groups}

    def missing(self, service: str, program: str) -> str:
        """What Python says about a program that fails inside a service's container."""
        words = ["docker", "compose", "--project-name", self.project, "exec", "-T", service, "python3", "-c", program]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode
        return done.stdout + done.stderr

    def user(self, service: str) -> str:
        """As whom a service speaks to the server."""
        return self.inside(service, "printenv", "CONCLAVE_REDIS_USER").strip()

    def inside(self, service: str, *words: str, check: bool = True) -> str:
        return self.compose("exec", "-T", service, *words, check=check)

    def decisions(self, last: int = 200) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.conclave("decisions", "-n", str(last), "-o", "json").splitlines()]


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
        running.compose("build", "--no-cache")
        built = time.monotonic()
        running.compose("up", "--build", "--wait")
        healthy = time.monotonic()
        for model, weight in (("xgboost", "1"), ("lightgbm", "0.5")):
            running.conclave(
                "train", "files", "--model", model, "--family", model, *BARS,
                "--promote", "--weight", weight, "--reason", "a first model",
            )  # fmt: skip
        server = running.compose("ps", "--quiet", "redis")
        running.compose("--profile", "feed", "up", "--detach", "feed")
        assert running.compose("ps", "--quiet", "redis") == server  # nobody was restarted for it
        wait_until(lambda: any(one["status"] == "decided" for one in running.decisions(20)))
        decided = time.monotonic()
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print(  # noqa: T201  # figures to keep
                f"\ncompose, from nothing: wheels and images {built - begun:.0f} s, healthy {healthy - begun:.0f} s, "
                f"first decision {decided - begun:.0f} s"
            )
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
    shown = stack.conclave("train", "files", "--model", "xgboost", "--family", "xgboost", *BARS, "--seed", "7",
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
def test_a_network_joins_the_vote_while_decisions_go_on(stack: Stack) -> None:
    """It is trained where torch is, and served where it is not."""
    stack.compose("run", "--rm", "-T", "console-ml",
                  "train", "files", "--model", "nhits", "--family", "nhits", "--param", "epochs=1", *BARS,
                  "--promote", "--weight", "0.2", "--reason", "a network")  # fmt: skip
    wait_until(lambda: "nhits" in {ballot["model"] for ballot in stack.decisions(1)[0]["counted"]})
    assert "ModuleNotFoundError" in stack.missing("model-worker-nhits", "import torch")


@pytest.mark.stack
@pytest.mark.parametrize("service", KILLED)
def test_a_killed_container_comes_back_and_decisions_go_on(stack: Stack, service: str) -> None:
    container = stack.compose("ps", "--quiet", service).strip()
    before = stack.epochs()
    os.kill(int(inspected(container, "{{.State.Pid}}")), signal.SIGKILL)
    wait_until(lambda: inspected(container, "{{.RestartCount}} {{.State.Health.Status}}") == "1 healthy")
    if service == "redis":  # away for longer than a lease runs, it finds every lease at its end
        wait_until(lambda: all(view["alive"] for view in stack.status()["groups"]))
    group = service.replace("model-worker-", "model-worker.")
    # Started once: it needs to wait for no lease, since its predecessor is known to be gone. While the server is gone
    # and reads its file the others wait: it has all that it acknowledged, so none of them begins again.
    assert {name for name, epoch in stack.epochs().items() if epoch > before[name]} == ({group} & before.keys())
    newest = stack.decisions(1)[0]["open_time"]
    wait_until(lambda: bool(stack.decisions(1)[0]["open_time"] > newest))


@pytest.mark.stack
def test_a_service_whose_loop_stands_still_is_killed_and_comes_back(stack: Stack) -> None:
    container = stack.compose("ps", "--quiet", "ensemble-voter").strip()
    before = int(inspected(container, "{{.RestartCount}}"))
    listed = subprocess.run(["docker", "top", container, "-eo", "pid,args"], capture_output=True, text=True, check=True)
    [pid] = [line.split()[0] for line in listed.stdout.splitlines() if re.search(r"python\S* .*conclave run", line)]
    os.kill(int(pid), signal.SIGSTOP)
    wait_until(lambda: inspected(container, "{{.RestartCount}} {{.State.Health.Status}}") == f"{before + 1} healthy")
    newest = stack.decisions(1)[0]["open_time"]
    wait_until(lambda: bool(stack.decisions(1)[0]["open_time"] > newest))


@pytest.mark.stack
def test_the_trainer_makes_an_artifact_of_what_was_recorded(stack: Stack) -> None:
    wait_until(lambda: len(stack.decisions(1_000_000)) > 6000)
    before = stack.status()["models"]["xgboost"]["shadows"]
    stack.conclave("train", "request", "--model", "xgboost", "--force", "--wait", "--reason", "what was recorded")
    assert len(stack.status()["models"]["xgboost"]["shadows"]) > len(before)


@pytest.mark.stack
def test_down_and_up_again_loses_nothing(stack: Stack) -> None:
    history = stack.conclave("history", "-o", "json")
    decisions = stack.decisions(1_000_000)
    stack.compose("--profile", "feed", "down")
    stack.compose("--profile", "feed", "up", "--detach", "--wait")
    assert "CRITICAL" not in stack.compose("logs", "redis")
    assert stack.conclave("history", "-o", "json") == history
    assert stack.decisions(1_000_000)[: len(decisions)] == decisions
    wait_until(lambda: len(stack.decisions(1_000_000)) > len(decisions))
    opened = [(one["symbol"], one["open_time"]) for one in stack.decisions(1_000_000)]
    assert len(opened) == len(set(opened))


@pytest.mark.stack
def test_a_new_password_and_a_new_certificate_are_in_force_after_a_restart(stack: Stack) -> None:
    look = "cat /run/key/password; echo; cat /run/key/server.crt"
    before, newest = stack.inside("feed", "sh", "-c", look), stack.decisions(1)[0]["open_time"]
    stack.compose("run", "--rm", "-T", "--entrypoint", "sh", "keys", "-c", "rm -r /keys/feed/password /keys/tls")
    stack.compose("--profile", "feed", "down")
    stack.compose("--profile", "feed", "up", "--detach", "--wait")
    after = stack.inside("feed", "sh", "-c", look)
    for part in (0, 2):  # the password, and all of the certificate: two of them may share a line
        assert before.partition("\n")[part] != after.partition("\n")[part]
    wait_until(lambda: bool(stack.decisions(1)[0]["open_time"] > newest))


@pytest.mark.stack
def test_a_service_is_nobody_on_a_read_only_root_without_a_compiler(stack: Stack) -> None:
    look = (
        "import os, shutil; print(os.getuid(), [p for p in ('cc', 'gcc', 'make') if shutil.which(p)]); "
        "open('/opt/conclave/x', 'w')"
    )
    artifacts = "open('/var/lib/conclave/artifacts/x', 'w')"
    said = stack.missing("ensemble-voter", look)
    assert said.startswith("10001 []\n")
    assert "Read-only file system" in said
    assert "Read-only file system" in stack.missing("model-worker-xgboost", artifacts)


@pytest.mark.stack
def test_two_partitions_decide_beside_each_other(stack: Stack, tmp_path: Path) -> None:
    """A second installation, with the services that `deploy/partitions` wrote."""
    settings, more, changed = tmp_path / "conclave.toml", tmp_path / "partitions.yaml", tmp_path / "settings.yaml"
    text = (ROOT / "deploy" / "conclave.toml").read_text()
    settings.write_text(text.replace("[installation]", "[installation]\npartitions = 2"))
    words = [str(ROOT / "deploy" / "partitions"), str(settings)]
    more.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    changed.write_text(f"configs:\n  settings: {{file: {settings}}}\n")
    two = Stack("-two", [ROOT / "compose.yaml", more, changed])
    services = [
        f"{name}{at}" for name in ("feature-builder", "model-worker-xgboost", "ensemble-voter") for at in ("", "-1")
    ]
    try:
        two.compose("up", "--wait", *services)
        two.conclave("train", "files", "--model", "xgboost", "--family", "xgboost", *BARS,
                     "--promote", "--weight", "1", "--reason", "a first model")  # fmt: skip
        two.compose("--profile", "feed", "up", "--detach", "feed")
        wait_until(lambda: {partition_of(one["symbol"], 2) for one in two.decisions() if one["counted"]} == {0, 1})
        alive = {(view["group"], view["partition"]) for view in two.status()["groups"] if view["alive"]}
        assert {("ensemble-voter", 0), ("ensemble-voter", 1), ("model-worker.xgboost", 1)} <= alive
    finally:
        two.compose("--profile", "*", "down", "--volumes", "--timeout", "5", check=False)


ATTEMPT = """
import pathlib, redis, sys
user, *commands = sys.argv[1:]
over = {"ssl": True, "ssl_ca_certs": "/run/key/server.crt"}
mine = redis.Redis("redis", username=user, password=pathlib.Path("/run/key/password").read_text(), **over)
assert mine.ping()
for command in commands:
    try:
        print(command, mine.execute_command(*command.split()))
    except redis.exceptions.NoPermissionError:
        print("refused")
try:
    print(redis.Redis("redis", **over).ping())
except redis.exceptions.AuthenticationError:
    print("refused")
try:
    print(redis.Redis("redis").ping())  # plain text
except redis.exceptions.ConnectionError:
    print("refused")
"""
FORBIDDEN: Final = (
    "XTRIM conclave:{p0}:decisions MAXLEN 0",
    "DEL conclave:control",
    "FUNCTION FLUSH",
    "FLUSHALL",
    "CONFIG SET appendonly no",
    "ACL SETUSER x on nopass +@all ~*",
)


@pytest.mark.stack
@pytest.mark.parametrize("user", ["feed", "feature-builder", "model-worker-nhits", "ensemble-voter", "executor",
                                  "shadow-recorder", "gate-evaluator", "archiver", "trainer", "watcher",
                                  "observatory", "guard"])  # fmt: skip
def test_the_server_refuses_a_service_what_is_not_its_own(stack: Stack, user: str) -> None:
    name = "model-worker" if user.startswith("model-worker") else user
    others = [
        f"XADD {spec.key()} * e x" for spec in STREAMS.values() if name not in spec.writers
    ]  # what it may write it is not asked to
    attempts = [*FORBIDDEN, *others]
    said = stack.inside(user, "python3", "-c", ATTEMPT, stack.user(user), *attempts).splitlines()
    assert said == ["refused"] * (len(attempts) + 2)


@pytest.mark.stack
def test_the_doctor_finds_everything_in_force(stack: Stack) -> None:
    found = {check["what"]: check for check in json.loads(stack.conclave("doctor", "-o", "json"))["in force"]}
    assert {what for what, check in found.items() if check["verdict"] == "good"} == {
        "encryption", "default user", "users", "memory", "persistence", "functions", "mode", "writes",
    }  # fmt: skip
    assert found["reached from"]["verdict"] == "open"  # by the containers of one internal network
