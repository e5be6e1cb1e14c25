"""`conclave up` and `down` know the process that uses a state folder, and no other one that has its pid by now."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.console.cli import _inherited
from services.console.run.up_file import FILE, UpFile, refuse_second, running, terminate
from shared.processes import identity_of
from shared.runtime.process import InstallationError
from shared.settings import VARIABLE, find

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is known by its pid alone")


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with the installation."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def note(state: Path, pid: int, **changes: Any) -> None:
    state.mkdir(exist_ok=True)
    (state / FILE).write_text(json.dumps({**identity_of(pid)._asdict(), "since": 1.0, "ready": True} | changes))


@pytest.mark.parametrize("changes", [{"born": 1}, {"namespace": "another boot pid:[1]"}, {"born": 0, "namespace": ""}])
def test_down_does_not_end_a_process_that_has_the_pid_of_an_up_that_is_gone(
    desk: Any, tmp_path: Path, stranger: "subprocess.Popen[bytes]", changes: dict[str, Any]
) -> None:
    note(tmp_path / "var", stranger.pid, **changes)
    ended = desk("down")
    assert (ended.code, ended.out) == (0, "not up; nothing to do\n")
    assert stranger.poll() is None
    refuse_second(tmp_path / "var")


def test_down_says_which_process_a_file_of_an_older_release_names(
    desk: Any, tmp_path: Path, stranger: "subprocess.Popen[bytes]"
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / FILE).write_text(json.dumps({"pid": stranger.pid, "since": 1e9}))
    ended = desk("down")
    assert (ended.code, ended.out) == (0, "not up; nothing to do\n")
    assert f"kill {stranger.pid}" in ended.err
    assert stranger.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}', '{"pid": -1}', '{"pid": 1}', '{"pid": 1e300}'])
def test_a_file_that_is_stale_or_not_readable_stops_nothing(desk: Any, tmp_path: Path, text: str) -> None:
    """pid 1 is that of every process that a container starts."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / FILE).write_text(text)
    assert desk("down").code == 0
    refuse_second(tmp_path / "var")
    assert terminate(tmp_path / "var", 0.0) is False


def test_a_second_up_is_refused_while_the_first_runs_and_its_file_is_its_own(tmp_path: Path) -> None:
    with UpFile(tmp_path).written() as file:
        with pytest.raises(InstallationError, match=f"already up, as pid {os.getpid()}"):
            refuse_second(tmp_path)
        up = running(tmp_path)
        assert up is not None
        assert not up.ready
        file.ready()
        up = running(tmp_path)
        assert up is not None
        assert up.ready
    assert list(tmp_path.iterdir()) == []
    with UpFile(tmp_path).written():
        note(tmp_path, 1)  # a later one took the folder over
    assert (tmp_path / FILE).exists()


def test_the_settings_of_a_command_are_those_of_the_processes_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "before")
    with _inherited(Path("other.toml")):
        monkeypatch.chdir("/")
        assert find() == tmp_path / "other.toml"
    assert os.environ[VARIABLE] == "before"
