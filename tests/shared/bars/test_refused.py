"""A row that is no bar is refused with its reason, file and line; the rows around it go on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.market import BarClosed
from shared.bars import Good, RefusedRow, gather, load, misplaced, open_source
from shared.bars.chunks import Chunk, faults

HOUR = 3_600_000
START = 1_733_011_200_000
HEADER = "open_time,open,high,low,close,volume"


def row(n: int, rest: str = "10,12,9,11,5") -> str:
    return f"{START + n * HOUR},{rest}"


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        (row(2, "10,9,8,11,5"), "impossible_prices", "high 9.0"),
        (row(2, "10,12,10.5,11,5"), "impossible_prices", "low 10.5"),
        (row(2, "11,12,10,9.5,5"), "impossible_prices", "close 9.5"),
        (row(2, "9,10,8,11,5"), "impossible_prices", "close 11.0"),
        (row(2, "10,12,0,11,5"), "impossible_prices", "low 0.0"),
        (row(2, "-1,12,-2,11,5"), "impossible_prices", "low -2.0"),
        (row(2, "10,1e15,9,11,5"), "impossible_prices", "under|< 1e15"),
        (row(2, "10,12,9,11,-0.5"), "negative_volume", "volume -0.5"),
        (row(2, "10,nan,9,11,5"), "not_finite", "high nan"),
        (row(2, "10,12,9,11,inf"), "not_finite", "volume inf"),
        (row(2, "10,12,9,11,1e18"), "bad_row", "below 1e18"),
        (row(2, "10,12,9,11"), "bad_row", "expected 6 columns, found 5"),
        (row(2, "10,12,9,11,5,6"), "bad_row", "expected 6 columns, found 7"),
        (row(2, "10,,9,11,5"), "bad_row", "'' is not a number"),
        (row(2, "10,1_2,9,11,5"), "bad_row", "'1_2' is not a number"),
        (row(2, "10,\N{FULLWIDTH DIGIT ONE},9,11,5"), "bad_row", "is not a number"),
        (HEADER, "bad_row", "'open_time' is not a time"),
        ("-5,10,12,9,11,5", "bad_row", "from 1970 on"),
        (f"{START + 2 * HOUR + 1},10,12,9,11,5", "off_grid", "not a multiple of 3600000"),
        (f"{START + 2 * HOUR}001,10,12,9,11,5", "off_grid", "and a fraction"),
        ("9" * 40 + ",10,12,9,11,5", "bad_row", "too"),
    ],
)
def test_a_bad_row_is_refused_and_its_neighbours_go_on(bad: str, reason: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("\n".join([HEADER, row(0), row(1), bad, row(3)]) + "\n")
    rows = list(open_source(path))
    assert [type(found) for found in rows] == [Good, Good, RefusedRow, Good]
    refused = rows[2]
    assert isinstance(refused, RefusedRow)
    assert (refused.reason, refused.where, refused.raw, refused.symbol) == (reason, "BTCUSDT-1h.csv:4", bad, "BTCUSDT")
    assert any(part in refused.detail for part in said.split("|"))


def test_bytes_that_are_no_text_are_refused_readably(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_bytes("\n".join([HEADER, row(0), row(1), "X", row(3)]).encode().replace(b"X", b"\xff\x00,1"))
    refused = [found for found in open_source(path) if isinstance(found, RefusedRow)]
    assert [found.raw for found in refused] == ["\\xff\x00,1"]


def test_a_bar_that_is_not_over_is_refused(tmp_path: Path) -> None:
    """An outage cuts a bar short; a REST answer ends with the bar still open."""

    def kline(n: int, lasts: int = HOUR - 1, volume: str = "5") -> list[object]:
        return [START + n * HOUR, "10", "12", "9", "11", volume, START + n * HOUR + lasts, "0", 1, "0", "0", "0"]

    path = tmp_path / "BTCUSDT-1h.json"
    path.write_text(json.dumps([kline(0), kline(1, 2_381_646, "0"), kline(3), kline(4, 2 * HOUR), kline(5, 60_000)]))
    rows = list(open_source(path))
    assert [found.reason if isinstance(found, RefusedRow) else "good" for found in rows] == [
        "good",
        "bad_row",
        "good",
        "bad_row",
        "bad_row",
    ]
    assert isinstance(rows[1], RefusedRow)
    assert "incomplete bar: it ends 2381646 ms after its open" in rows[1].detail
    assert rows[1].where == "BTCUSDT-1h.json:2"


def test_a_rest_row_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.json"
    good = [START, "10", "12", "9", "11", "5", START + HOUR - 1, "0", 1, "0", "0", "0"]
    path.write_text(
        json.dumps([good, {"code": -1121}, [1, 2], [START + HOUR, None, *good[2:6], START + 2 * HOUR - 1, *good[7:]]])
    )
    rows = list(open_source(path))
    assert [type(found) for found in rows] == [Good, RefusedRow, RefusedRow, RefusedRow]


def test_a_symbol_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many-1h.csv"
    path.write_text(f"symbol,{HEADER}\nBTCUSDT,{row(0)}\nBTC USDT,{row(0)}\nBTCUSDT,{row(1)}\nBTCUSDT,{row(2)}\n")
    rows = list(open_source(path))
    assert [type(found) for found in rows] == [Good, RefusedRow, Good, Good]
    assert isinstance(rows[1], RefusedRow)
    assert rows[1].symbol is None


number = st.floats(-2, 3, width=16) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 1e15, 1e18])


@given(st.lists(st.tuples(st.integers(-2, 5), number, number, number, number, number), min_size=1, max_size=30))
def test_a_row_is_refused_exactly_where_a_rule_is_broken(rows: list[tuple[float, ...]]) -> None:
    def possible(time: int, *numbers: float) -> bool:
        first, high, low, last, volume = numbers
        finite = all(math.isfinite(number) for number in numbers)
        ordered = 0 < low <= min(first, last) and max(first, last) <= high < 1e15
        return finite and ordered and 0 <= volume < 1e18 and time >= 0 and time % 2000 == 0

    times = [2**41 + 1000 * int(found[0]) if found[0] >= 0 else -1 for found in rows]
    expected = [possible(time, *found[1:]) for time, found in zip(times, rows, strict=True)]
    opened = np.array(times, dtype=np.int64)
    values = np.array([found[1:] for found in rows])
    chunk = Chunk(range(len(rows)), opened, None, values, None, [""] * len(rows), {})
    _, found = faults(chunk, 2000)
    assert [index not in found for index in range(len(rows))] == expected


def bar(n: int, close: float = 11.0) -> BarClosed:
    return BarClosed(
        symbol="BTCUSDT",
        interval_ms=HOUR,
        open_time=START + n * HOUR,
        open=10.0,
        high=12.0,
        low=9.0,
        close=close,
        volume=5.0,
        origin="replay",
    )


def test_a_bar_keeps_its_place_behind_the_newest_of_its_series() -> None:
    assert misplaced(None, bar(0)) is None
    assert misplaced(bar(0), bar(1)) is None
    assert misplaced(bar(0), bar(7)) is None  # missing bars are the feature builder's business


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [(bar(5), "duplicate"), (bar(5, 11.5), "conflict"), (bar(4), "out_of_order"), (bar(0), "out_of_order")],
)
def test_a_bar_out_of_place_is_told_by_its_reason(candidate: BarClosed, reason: str) -> None:
    found = misplaced(bar(5), candidate)
    assert found is not None
    assert found[0] == reason


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([10.5, 11.0])), max_size=40))
def test_columns_rise_strictly_and_every_row_is_kept_or_told(steps: list[tuple[int, float]]) -> None:
    left_out: list[RefusedRow] = []
    rows = [Good(bar(n, close), str(index)) for index, (n, close) in enumerate(steps)]
    bars = gather(rows, left_out.append)
    times = [time for series in bars.values() for time in series.open_time.tolist()]
    assert times == sorted(set(times))
    assert len(times) + len(left_out) == len(rows)
    expected = [
        row.bar.open_time
        for index, row in enumerate(rows)
        if all(row.bar.open_time > former.bar.open_time for former in rows[:index])
    ]
    assert times == expected


def test_training_is_told_what_it_does_not_get(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("\n".join([HEADER, row(0), row(1), row(1), row(0), row(2, "10,nan,9,11,5"), row(3)]) + "\n")
    left_out: list[RefusedRow] = []
    assert load(path, refused=left_out.append)["BTCUSDT", HOUR].open_time.tolist() == [
        START,
        START + HOUR,
        START + 3 * HOUR,
    ]
    assert [(found.reason, found.where) for found in left_out] == [
        ("duplicate", "BTCUSDT-1h.csv:4"),
        ("out_of_order", "BTCUSDT-1h.csv:5"),
        ("not_finite", "BTCUSDT-1h.csv:6"),
    ]


def test_a_bar_that_was_read_before_its_further_fields_were_is_a_duplicate() -> None:
    known, again = bar(1), structs.replace(bar(1), trades=9, quote_volume=1.5)
    for last, other in ((known, again), (again, known)):
        found = misplaced(last, other)
        assert found is not None
        assert found[0] == "duplicate"
    found = misplaced(structs.replace(bar(1), trades=8), again)
    assert found is not None
    assert found[0] == "conflict"
