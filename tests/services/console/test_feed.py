"""``conclave feed``: a source that was left in its middle, what it says of rows that the market has, and how its end is
shown."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from schemas.market import BarClosed
from services.feed import core
from services.feed.main import Counts
from shared.log import Commit, Log, Owner

HOUR = 3_600_000
START = 1_733_011_200_000
HEADER = "open_time,open,high,low,close,volume"


def test_a_source_is_left_on_request_alone_and_what_the_market_has_is_passed_over_and_counted(
    two: Any, tmp_path: Path
) -> None:
    file = tmp_path / "BTCUSDT-1h.csv"
    file.write_text("\n".join([HEADER, *(f"{START + number * HOUR},10,12,9,11,5" for number in range(1, 9))]) + "\n")
    newest = BarClosed(
        symbol="BTCUSDT",
        interval_ms=HOUR,
        open_time=START + 3 * HOUR,
        open=10.0,
        high=12.0,
        low=9.0,
        close=11.0,
        volume=5.0,
        origin="replay",
    )
    left = core.State("another", "the wrong file", 1, 7, newest={("BTCUSDT", HOUR): newest})

    async def stop_in_its_middle(log: Log) -> None:
        claim = await log.claim("feed", (), 0, Owner("here", 1, "feed"))
        await log.commit(claim, Commit([], {}, {}, core.snapshot(left)))
        await log.release(claim)

    two.with_log(stop_in_its_middle)
    refused = two("feed", "--bars", str(file))
    assert refused.code == 2
    assert "the wrong file" in refused.err
    assert "--restart" in refused.err
    fed = two("feed", "--bars", str(file), "--restart")
    assert fed.code == 0
    assert fed.out.startswith("5 bars sent, 0 rows refused")
    assert "3 passed over: the market has them" in fed.out
    again = two("feed", "--bars", str(file))
    assert again.out.startswith("0 bars sent, 0 rows refused")
    assert "; 8 rows before them were handled by an earlier run" in again.out


def test_inputs_are_sent_beside_bars_and_counted(two: Any, tmp_path: Path) -> None:
    file, inputs = tmp_path / "BTCUSDT-1h.csv", tmp_path / "BTCUSDT-fundingRate-2024-12.csv"
    file.write_text("\n".join([HEADER, *(f"{START + number * HOUR},10,12,9,11,5" for number in range(1, 9))]) + "\n")
    inputs.write_text(f"calc_time,funding_interval_hours,last_funding_rate\n{START},8,0.0001\nx,8,0.0001\n")
    fed = two("feed", "--bars", str(file), "--inputs", str(inputs))
    assert (fed.code, fed.out.partition(" (")[0]) == (0, "8 bars sent, 1 inputs sent, 1 rows refused")
    again = two("feed", "--bars", str(file), "--inputs", str(inputs))
    assert again.out.startswith("0 bars sent, 0 rows refused")


def test_a_feed_at_the_end_of_its_source_is_finished_and_one_in_its_middle_is_not(two: Any) -> None:
    def shown(state: core.State) -> tuple[str, str]:
        async def run(log: Log) -> None:
            claim = await log.claim("feed", (), 0, Owner("here", 1, "feed"))
            await log.commit(claim, Commit([], {}, {}, core.snapshot(state)))
            await log.release(claim)

        two.with_log(run)
        [line] = [line for line in two("status").out.splitlines() if " feed " in line]
        return json.loads(two("doctor", "-o", "json").out)["group feed/0"], line

    doctor, status = shown(core.State("s", "bars.csv", 1, 5_000, ended=True))
    assert doctor.startswith("finished: all 5,000 rows of bars.csv are sent")
    assert "finished" in status
    doctor, status = shown(core.State("s", "bars.csv", 1, 5_000))
    assert doctor.startswith("NOT RUNNING")
    assert "finished" not in status


def test_a_feed_that_is_interrupted_says_how_to_go_on(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*words: Any, **_: Any) -> Counts:
        next(word for word in words if isinstance(word, anyio.Event)).set()
        return Counts(7, 0, 0)

    monkeypatch.setattr("services.console.run.feed._feed", interrupted)
    found = two("feed", "--synthetic", "null", "--count", "9")
    assert found.code == 130, found
    assert "the same command resumes after the last bar that was sent" in found.err
