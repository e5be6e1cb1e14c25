"""Child processes run the installed program wherever they are started, and get a low priority once all are up."""

import ast
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import redis

from bench.installation import free_port
from services.console.errors import exit_code, message
from services.console.run import processes
from services.console.run.installation import _missing, found_if_new, partition_in, service_names
from services.console.run.processes import Child, Supervisor, console_command
from services.console.run.server import server_for
from shared.control.issuing import current
from shared.log import Owner
from shared.log.durability import check_server
from shared.log.memory import MemoryLog
from shared.runtime.process import InstallationError, opened_log, record_of
from shared.settings import Settings, load

ROOT = Path(__file__).parents[3]


def test_a_child_runs_the_installed_program_in_a_folder_with_packages_of_the_same_names(tmp_path: Path) -> None:
    for package in ("services", "shared", "schemas"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('not this one')\n")
    (tmp_path / "anyio.py").write_text("raise SystemExit('nor this one')\n")
    done = subprocess.run(console_command("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "promote" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have niceness alone")
@pytest.mark.anyio
async def test_a_child_gets_a_low_priority_once_all_are_up_and_whenever_it_is_started_again(tmp_path: Path) -> None:
    sleeper = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], low_priority=True)
    supervisor = Supervisor([sleeper], tmp_path, report=lambda _: None)

    async def started(times: int) -> int:
        with anyio.fail_after(20):
            while sleeper.starts < times or sleeper.pid is None:
                await anyio.sleep(0.01)
        return sleeper.pid

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.run)
        first = await started(1)
        assert os.sched_getscheduler(first) == os.SCHED_OTHER
        supervisor.lower_priorities()
        assert os.sched_getscheduler(first) == os.SCHED_IDLE
        os.kill(first, signal.SIGKILL)
        assert os.sched_getscheduler(await started(2)) == os.SCHED_IDLE
        supervisor.kill()


@pytest.mark.anyio
async def test_a_child_that_cannot_run_is_tried_again_and_each_reason_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_REFUSAL_S", 0.01)
    reason = tmp_path / "reason"
    reason.write_text("a gap")
    code = f"import pathlib; said = pathlib.Path({str(reason)!r}).read_text(); print(said); exit(2 if said else 0)"
    child = Child("recorder", [sys.executable, "-c", code], finishes=True)
    reports: list[str] = []
    supervisor = Supervisor([child], tmp_path, report=reports.append)

    async def started(times: int) -> None:
        with anyio.fail_after(20):
            while child.starts < times:
                await anyio.sleep(0.01)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            await started(3)
            assert (child.refusal, child.code) == ("a gap", None)
            reason.write_text("another gap")
            await started(child.starts + 2)
            reason.write_text("")  # an operator accepted the gap
    assert child.code == 0
    assert [report.rpartition(": ")[2] for report in reports] == ["a gap", "another gap"]


@pytest.mark.anyio
async def test_a_service_that_somebody_ended_is_started_again_and_a_feed_at_its_end_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "pass"]
    service, feed = Child("voter", command), Child("feed", command, finishes=True)
    reports: list[str] = []
    supervisor = Supervisor([service, feed], tmp_path, report=reports.append)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            while service.starts < 2 or feed.code is None:
                await anyio.sleep(0.01)
            supervisor.stop()
    assert (feed.starts, feed.code) == (1, 0)
    assert reports[0].startswith("voter ended with code 0")


@pytest.mark.anyio
async def test_a_service_that_cannot_be_started_is_tried_again_until_it_can(tmp_path: Path) -> None:
    program = tmp_path / "program"
    child = Child("voter", [os.fspath(program)], finishes=True)
    reports: list[str] = []
    supervisor = Supervisor([child], tmp_path / "log", report=reports.append)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.run)
            while not reports:
                await anyio.sleep(0.01)
            other = tmp_path / "other"
            other.write_text("#!/bin/sh\n")
            other.chmod(0o700)
            other.rename(program)
    assert child.code == 0
    assert len(reports) == 1
    assert "voter cannot be started" in reports[0]


def site(folder: Path) -> tuple[int, Settings]:
    """The settings of an installation whose server has a free port."""
    port, file = free_port(), folder / "conclave.toml"
    file.write_text(f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n\n[installation]\nstate = "{folder}"\n')
    return port, load(file, {})


@pytest.mark.anyio
async def test_an_embedded_server_that_was_killed_is_started_again(tmp_path: Path) -> None:
    _, settings = site(tmp_path)
    async with server_for(settings) as started:
        assert started
        card = tmp_path / "redis" / "server.json"
        before = json.loads(card.read_text())["pid"]
        os.kill(before, signal.SIGKILL)
        with anyio.fail_after(30):
            while not card.exists() or json.loads(card.read_text() or "{}").get("pid") in {before, None}:
                await anyio.sleep(0.05)
            await check_server(settings.redis.url, ephemeral=False)


@pytest.mark.anyio
async def test_a_server_that_lost_everything_gets_no_second_installation(tmp_path: Path) -> None:
    port, settings = site(tmp_path)
    async with server_for(settings):
        await found_if_new(settings, "me")
        async with opened_log(settings, "test") as log:
            record = record_of(settings)
            assert record is not None
            record.note(await current(log), 1)
        with redis.Redis(port=port) as client:
            client.flushall()
        with pytest.raises(InstallationError, match="archive restore"):
            await found_if_new(settings, "me")
        async with opened_log(settings, "test") as log:
            assert (await current(log)).version == 0


def test_every_child_is_started_without_the_working_folder_on_its_path() -> None:
    paths = [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]
    started = [
        (os.fspath(path.relative_to(ROOT)), ast.unparse(node.elts[1]))
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable"
    ]
    assert started, "where the command of a child is made"
    assert [child for child in started if child[1] not in {"'-P'", "'-I'"}] == []


@pytest.mark.anyio
async def test_a_child_whose_log_cannot_be_written_runs_all_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    reports = list[str]()
    child = Child("child", [sys.executable, "-c", "print('it ran')"], finishes=True)
    await Supervisor([child], tmp_path / "file" / "log", reports.append).run()
    assert child.code == 0
    assert "it ran" in capfd.readouterr().err
    assert [report for report in reports if "write to this terminal" in report] == reports[:1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
@pytest.mark.anyio
async def test_a_child_whose_log_is_on_a_full_disk_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "child.log").symlink_to("/dev/full")
    said = "import logging; from shared.telemetry.logs import configure; configure('child'); logging.warning('a line')"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = Child("child", [sys.executable, "-P", "-c", said], path, finishes=True)
    supervisor = Supervisor([child], tmp_path, lambda _: None)
    with anyio.fail_after(30):
        await supervisor.run()
    assert (child.code, child.starts) == (0, 1)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "x"),
        OSError(errno.EROFS, "Read-only file system", "x"),
        PermissionError(errno.EACCES, "Permission denied", "x"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
    ],
)
def test_a_disk_that_refuses_ends_a_command_with_a_message(error: OSError) -> None:
    assert exit_code(error) == 2
    assert message(error).startswith(f"x: {error.strerror}")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_where_to_make_room_also_when_the_system_names_no_file(number: int) -> None:
    said = message(OSError(number, os.strerror(number)))
    assert said.startswith(f"{os.strerror(number)}. Make room")
    assert "state in [installation]" in said


def test_an_error_that_no_answer_of_the_system_explains_is_a_bug() -> None:
    assert exit_code(OSError("no number")) is None
    assert exit_code(KeyError("x")) is None


@pytest.mark.anyio
async def test_the_embedded_server_of_another_folder_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    port, settings = site(tmp_path)
    async with server_for(settings) as started:
        assert started
        other = tmp_path / "other"
        other.mkdir()
        file = other / "conclave.toml"
        file.write_text(f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n\n[installation]\nstate = "{other}"\n')
        with pytest.raises(InstallationError, match=f"of another installation, with its data in {tmp_path}/redis"):
            async with server_for(load(file, {})):
                pass
        async with server_for(settings) as again:  # another command of the same folder
            assert not again


@pytest.mark.anyio
async def test_services_of_another_up_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    _, settings = site(tmp_path)
    log = MemoryLog()
    for number, (name, words, group) in enumerate(service_names(settings)):
        await log.claim(group, (), partition_in(words), Owner(socket.gethostname(), 100 + number, name))
    children = [Child(name, words, pid=2) for name, words, _ in service_names(settings)]
    supervisor = Supervisor(children, tmp_path / "log", report=print)
    assert set(await _missing(settings, log, supervisor)) == {child.name for child in children}
    children[0].pid = 100
    assert set(await _missing(settings, log, supervisor)) == {child.name for child in children[1:]}
    assert await _missing(settings, log, None) == {}
