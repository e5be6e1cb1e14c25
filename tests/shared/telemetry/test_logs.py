"""Logs: structured, a line a unit of work, and floods that are counted instead of written."""

import io
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.market import BarClosed
from shared.telemetry.logs import LINES_A_MINUTE, FloodFilter, LogHandler
from shared.telemetry.reporting import BatchReport, Telemetry


class Output(io.StringIO):
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, Output, LogHandler]]:
    output = Output()
    handler = LogHandler("ensemble-voter", output)
    logger = logging.Logger("there", logging.INFO)
    logger.addHandler(handler)
    yield logger, output, handler
    handler.close()


def test_a_line_is_json_with_the_time_in_utc_the_service_and_its_fields(written: Any) -> None:
    logger, output, _ = written
    logger.warning("%d rows of %s", 3, "bars.csv", extra={"fields": {"rows": 3}})
    [line] = output.lines()
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "warning",
        "service": "ensemble-voter",
        "logger": "there",
        "message": "3 rows of bars.csv",
        "rows": 3,
    }


def test_an_error_is_one_line_with_its_traceback(written: Any) -> None:
    logger, output, _ = written
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("it broke")
    [line] = output.lines()
    assert "KeyError: 'x'" in line["exception"]


def test_a_flood_is_ten_lines_a_minute_and_every_one_is_counted(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, output, handler = written
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(10_000):
        logger.warning("row %d refused", number)
    logger.warning("something else")
    assert len(output.lines()) == LINES_A_MINUTE + 1
    now += 61.0
    logger.warning("row %d refused", 10_000)
    assert output.lines()[-1]["more"] == 10_000 - LINES_A_MINUTE
    for number in range(20):
        logger.warning("row %d refused", number)
    handler.close()
    told = [line for line in output.lines() if line["message"].startswith("row")]
    assert sum(1 + line.get("more", 0) for line in told) - 1 == 10_021  # the last tells only of others


def test_what_was_counted_is_told_at_the_minutes_end_though_nothing_like_it_comes(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, output, _ = written
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(30):
        logger.error("100%% wrong: %s", "x")
    now += 61.0
    logger.info("worked")
    last = output.lines()[-1]
    assert (last["level"], last["more"]) == ("error", 20)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=200))
def test_however_lines_come_each_passes_or_is_counted(moments: list[tuple[str, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 0.0
        patch.setattr(time, "monotonic", lambda: now)
        counted = FloodFilter(3)
        sums: Counter[str] = Counter()
        for text, pause in moments:
            now += pause
            record = logging.LogRecord("there", logging.INFO, "", 0, text, (), None)
            if counted.filter(record):
                sums[text] += 1 + getattr(record, "more", 0)
            for (_, _, alike), more in counted.take_suppressed():
                sums[alike] += more
        for (_, _, alike), more in counted.take_suppressed(all_of_them=True):
            sums[alike] += more
    assert sums == Counter(text for text, _ in moments)


def test_work_is_one_line_a_minute_and_the_sum_of_lines_is_all_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bar = encode(
        "market",
        BarClosed(
            symbol="BTCUSDT",
            interval_ms=60_000,
            open_time=0,
            open=1.0,
            high=2.0,
            low=0.5,
            close=1.5,
            volume=10.0,
            origin="synthetic",
        ),
    )
    telemetry = Telemetry()
    batch = BatchReport(
        consumed={"market": 7}, outputs=[bar, bar], started_ns=0, handled_ns=2_000_000, committed_ns=3_000_000
    )
    for _ in range(1000):
        telemetry.batch(batch)
        now += 0.1
    telemetry.stop()
    telemetry.stop()
    lines: list[dict[str, Any]] = [record.__dict__["fields"] for record in caplog.records]
    assert len(lines) == 3  # the first batch, a minute of them, the rest
    assert sum(line["batches"] for line in lines) == 1000
    assert sum(line["consumed"]["market"] for line in lines) == 7000
    assert sum(line["produced"]["market"] for line in lines) == 2000
    assert sum(line["handling_s"] for line in lines) == pytest.approx(2.0)
