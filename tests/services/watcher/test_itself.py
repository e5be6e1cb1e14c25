"""What a watcher notices about itself: its clock and its file."""

import time
from pathlib import Path

import pytest

from schemas.control import Found
from services.watcher import main
from services.watcher.main import Watcher
from services.watcher.sending import Channels
from shared.control.issuing import ControlWriter
from shared.log.memory import MemoryLog
from shared.runtime.clock import ProcessClock, ServerClock
from shared.telemetry.reporting import Telemetry

pytestmark = pytest.mark.anyio
HOUR_NS = 3_600 * 10**9


async def watcher_of(folder: Path, clock: ServerClock | None = None) -> Watcher:
    log = MemoryLog()
    await ControlWriter(log).issue(Found(1, "log-of-a-test"), actor="ada", reason="a test")
    watcher = Watcher(log, 1, folder / "watcher.json", Channels([]), [], Telemetry(), clock)
    await watcher.begin()
    return watcher


def notices(watcher: Watcher) -> list[str]:
    return sorted(watcher._kept.state.standing)


async def test_given_a_disk_that_refuses_then_the_watcher_goes_on_and_raises_one_alert_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SAVE_S", 0.0)
    folder = tmp_path / "state"
    folder.write_text("a file where a folder should be")
    watcher = await watcher_of(folder)
    for _ in range(4):
        await watcher.turn()
    [alert] = notices(watcher)
    assert alert.startswith("storage-failed watcher ")
    folder.unlink()
    folder.mkdir()
    for _ in range(2):
        await watcher.turn()
    assert notices(watcher) == []
    assert (folder / "watcher.json").exists()


@pytest.mark.parametrize("ahead", [-HOUR_NS, HOUR_NS])
async def test_given_a_watcher_whose_clock_is_wrong_then_nothing_is_overdue_and_it_reports_itself(
    tmp_path: Path, ahead: int
) -> None:
    watcher = await watcher_of(tmp_path, ServerClock(ProcessClock(wall_ns=lambda: time.time_ns() + ahead)))
    for _ in range(3):
        await watcher.turn()
    [alert] = notices(watcher)
    assert alert.startswith("clock-apart watcher ")
    assert abs(watcher._kept.state.standing[alert].since - time.time_ns() // 10**6) < 5_000
