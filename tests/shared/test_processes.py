"""A process is identified by pid, start time and namespace, and nothing is ever sent to another one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.processes import ProcessIdentity, end, identity_of, pid_namespace, runs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_runs_until_it_is_ended_and_as_a_zombie_no_more(child: "subprocess.Popen[bytes]") -> None:
    process = identity_of(child.pid)
    assert runs(process)
    assert end(process, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: nobody has read its exit code
    assert not runs(process)
    assert not end(process)
    child.wait()
    assert not runs(process)
    assert not end(process)


def test_a_stopped_process_runs(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert runs(identity_of(child.pid))


@pytest.mark.parametrize(
    "other", ["born later", "born earlier", "not known when", "another namespace", "an old record"]
)
def test_another_process_with_the_pid_is_neither_believed_nor_ended(
    other: str, child: "subprocess.Popen[bytes]"
) -> None:
    pid, born, namespace = identity_of(child.pid)
    process = {
        "born later": ProcessIdentity(pid, born + 1, namespace),
        "born earlier": ProcessIdentity(pid, born - 1, namespace),
        "not known when": ProcessIdentity(pid, 0, namespace),
        "another namespace": ProcessIdentity(pid, born, "pid:[1]"),
        "an old record": ProcessIdentity(pid),
    }[other]
    assert not runs(process)
    assert not end(process, signal.SIGKILL)
    assert child.poll() is None


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 40, 1 << 80])
def test_a_pid_that_no_process_can_have_does_not_run(pid: int) -> None:
    """-1 would be a signal to every process, 0 one to the whole process group."""
    process = ProcessIdentity(pid, 1, pid_namespace())
    assert not runs(process)
    assert not end(process)
