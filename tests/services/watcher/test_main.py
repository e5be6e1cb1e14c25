"""The watcher on a log that lost its last entries: its own positions are in a file, and may be after the end of a
stream."""

import os
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.control import Found
from schemas.operations import GroupRecreated
from services.watcher.main import Channels, Watcher
from shared.control.issuing import issue
from shared.log import Commit, Owner
from shared.log.memory import MemoryLog
from shared.telemetry.reporting import Telemetry

pytestmark = pytest.mark.anyio
ME = Owner("here", os.getpid(), "me")


async def alarm(log: MemoryLog, stream: str) -> None:
    claim = await log.claim("feature-builder", (), 0, ME)
    await log.commit(claim, Commit([encode("alarms", GroupRecreated(f"reader-of-{stream}", stream, "1-0", 1))], {}, {}))


async def test_an_alarm_that_has_a_lower_id_than_a_lost_one_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000_000]
    log = MemoryLog(lambda: now[0])
    await issue(log, Found(1, "log-of-a-test"), actor="me", reason="a test")
    watcher = Watcher(log, 1, tmp_path / "watcher.json", Channels([]), [], Telemetry())
    await watcher.begin()
    await alarm(log, "scores")
    await watcher.turn()
    image = log.image()
    now[0] += 60_000
    await alarm(log, "market")
    await watcher.turn()
    assert "on market" in caplog.text
    log.restore(image)  # by a server whose clock is earlier
    now[0] -= 50_000
    await alarm(log, "features")
    caplog.clear()
    await watcher.turn()
    assert "alarms was read up to" in caplog.text
    assert "features" in caplog.text
    assert "on scores" not in caplog.text, "it was read before"
