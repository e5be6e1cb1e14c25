"""Who may claim a group whose former owner has not released it: after a dead owner at once, after a silent one when its
lease has ended, after a living one never."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from shared.log import Claim, Log, OwnedError, Owner
from shared.log.leases import LEASE_MS, owner_is_dead
from shared.log.memory import MemoryLog
from shared.processes import pid_namespace, process_start_time
from shared.runtime.claims import claim_group

pytestmark = pytest.mark.anyio
HERE = pid_namespace()
ME = Owner("here", os.getpid(), "successor", process_start_time(os.getpid()), HERE)


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def owner_of(process: subprocess.Popen[bytes], *, start: int | None = None, namespace: str = HERE) -> Owner:
    return Owner("here", process.pid, "former", process_start_time(process.pid) if start is None else start, namespace)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid: int, state: str) -> None:
    while state_of(pid) != state:
        pass


@pytest.mark.parametrize("start", [None, 0], ids=["with its start time", "of an older release"])
def test_a_zombie_is_dead_although_its_pid_is_not_free(start: int | None) -> None:
    with child() as process:
        former = owner_of(process, start=start)
        assert not owner_is_dead(former, ME)
        process.kill()
        wait_for_state(process.pid, "Z")
        os.kill(process.pid, 0)  # the pid is not free
        assert owner_is_dead(former, ME)


def test_a_stopped_process_is_not_dead() -> None:
    with child() as process:
        process.send_signal(signal.SIGSTOP)
        wait_for_state(process.pid, "T")
        assert not owner_is_dead(owner_of(process), ME)


def test_a_pid_that_another_process_has_now_is_that_of_a_dead_owner() -> None:
    with child() as process:
        assert owner_is_dead(owner_of(process, start=process_start_time(process.pid) - 1), ME)


def test_nothing_is_known_about_the_pids_of_another_host_or_namespace() -> None:
    with child() as process:
        former = owner_of(process)
        process.kill()
        process.wait()
        assert owner_is_dead(former, ME)
        assert not owner_is_dead(former._replace(host="there"), ME)
        assert not owner_is_dead(former._replace(namespace="another boot pid:[7]"), ME)
        assert not owner_is_dead(ME._replace(namespace="another boot pid:[7]"), ME), "the same pid elsewhere"
        assert owner_is_dead(former._replace(namespace=""), ME), "an older release did not note it"


def test_a_container_that_was_restarted_has_a_new_namespace_and_its_former_processes_are_dead() -> None:
    host = "3f2a9c0d1e4b"
    assert owner_is_dead(Owner(host, 7, "former", 5, "boot pid:[1]"), Owner(host, 7, "next", 9, "boot pid:[2]"))
    assert not owner_is_dead(Owner(host, 7, "former", 5, "boot pid:[1]"), Owner("3f2a9c0d1e4c", 7, "next", 9, ""))


async def test_a_zombie_keeps_no_lease(log: Log) -> None:
    with child() as process:
        await log.claim("voter", ["market"], 0, owner_of(process))
        process.kill()
        wait_for_state(process.pid, "Z")
        claim = await log.claim("voter", ["market"], 0, ME)
        assert claim.former == f"former (pid {process.pid} on here)"


class Clock:
    """A clock that goes on with each look at it."""

    def __init__(self, step_ms: int) -> None:
        self.now, self.step_ms = 1_000_000, step_ms

    def __call__(self) -> int:
        self.now += self.step_ms
        return self.now


@pytest.mark.parametrize("where", ["stopped", "on another host", "in another namespace"])
async def test_the_successor_of_an_owner_that_is_silent_waits_for_the_end_of_its_lease(where: str) -> None:
    log = MemoryLog(Clock(LEASE_MS // 4))
    with child() as process:
        former = owner_of(process)
        if where == "stopped":
            process.send_signal(signal.SIGSTOP)
            wait_for_state(process.pid, "T")
        elif where == "on another host":
            former = former._replace(host="there")
        else:
            former = former._replace(namespace="another boot pid:[7]")
        await log.claim("voter", ["market"], 0, former)
        with pytest.raises(OwnedError):
            await log.claim("voter", ["market"], 0, ME)
        with anyio.fail_after(10):
            claim = await claim_group(log, "voter", ["market"], 0, ME)
        assert (claim.epoch, claim.former) == (2, str(former))


async def test_a_second_copy_is_refused_at_once_if_the_owner_is_known_to_run(log: Log) -> None:
    with child() as process:
        await log.claim("voter", ["market"], 0, owner_of(process))
        with anyio.fail_after(2), pytest.raises(OwnedError, match="former"):
            await claim_group(log, "voter", ["market"], 0, ME)


async def test_a_second_copy_is_refused_as_soon_as_the_owner_extends_its_lease() -> None:
    class Renewed(MemoryLog):
        claims = 0

        async def claim(self, *args: object, **options: object) -> Claim:
            self.claims += 1
            if self.claims > 1:
                await self.renew(first)
            return await super().claim(*args, **options)  # type: ignore[arg-type]

    log = Renewed(Clock(1))
    first = await MemoryLog.claim(log, "voter", ["market"], 0, Owner("there", 7, "living"))
    with anyio.fail_after(10), pytest.raises(OwnedError, match="living"):
        await claim_group(log, "voter", ["market"], 0, ME)
    assert log.claims == 2
