"""One series, written in each format that is read, comes back as the same bars."""

import gzip
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pyarrow import feather

from schemas.codec import encode
from schemas.market import BarClosed
from shared.bars import Good, RefusedRow, Row, SourceError, load, open_source
from shared.bars.chunks import milliseconds
from shared.bars.columns import Layout, stated_columns
from shared.bars.text import parse
from shared.distribution import install_command

HOUR = 3_600_000
START = 1_733_011_200_000
HEADER = "open_time,open,high,low,close,volume"
BARS = [(START + n * HOUR, 100.25 + n, 103.5 + n, 99.125 + n, 101.1 + n, 7.625 * n) for n in range(30)]


def kline(bar: tuple[float, ...], unit: int = 1) -> list[str]:
    opened = int(bar[0])
    closed = (opened + HOUR) * unit - 1
    return [str(opened * unit), *(f"{price:.8f}" for price in bar[1:]), str(closed), "1.5", "9", "0.5", "0.25", "0"]


def plain(path: Path) -> None:
    path.write_text("\n".join([HEADER, *(",".join(map(str, bar)) for bar in BARS)]) + "\n")


def other_order(path: Path) -> None:
    rows = ["Symbol,Close,Low,High,Open,Volume,Open time"]
    rows += [",".join(map(str, ("BTCUSDT", c, low, h, o, v, t))) for t, o, h, low, c, v in BARS]
    path.write_text("\ufeff" + "\r\n".join(rows))


def quoted(path: Path) -> None:
    path.write_text("\n".join([HEADER, "", *(",".join(f'"{cell}"' for cell in bar) for bar in BARS)]) + "\n")


def iso(path: Path) -> None:
    times = np.array([bar[0] for bar in BARS], "datetime64[ms]").astype(str)
    rows = [f"{time}{zone}" for time, zone in zip(times, ["", "Z", "+00:00"] * 10, strict=True)]
    rows = [",".join(map(str, (time, *bar[1:]))) for time, bar in zip(rows, BARS, strict=True)]
    path.write_text("\n".join(["date,open,high,low,close,volume", *rows]) + "\n")


def seconds(path: Path) -> None:
    rows = [",".join(map(str, (bar[0] // 1000, *bar[1:], (bar[0] + HOUR) // 1000 - 1))) for bar in BARS]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume,close_time", *rows]) + "\n")


def spot_milliseconds(path: Path) -> None:
    path.write_text("".join(",".join(kline(bar)) + "\n" for bar in BARS))


def spot_microseconds(path: Path) -> None:
    path.write_text("".join(",".join(kline(bar, 1000)) + "\n" for bar in BARS))


def unit_changes_within(path: Path) -> None:
    rows = [kline(bar, 1 if n < 10 else 1000) for n, bar in enumerate(BARS)]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def futures(path: Path) -> None:
    head = f"{HEADER},close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
    path.write_text("\n".join([head, *(",".join(kline(bar)) for bar in BARS)]) + "\n")


def rest(path: Path) -> None:
    rows = [[int(row[0]), *row[1:6], int(row[6]), *row[7:]] for row in map(kline, BARS)]
    path.write_text(json.dumps(rows, indent=1))


def rest_gzipped(path: Path) -> None:
    rest(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def gzipped(path: Path) -> None:
    plain(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def zipped(path: Path) -> None:
    spot_milliseconds(path)
    text = path.read_text()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1h-2024-12.csv", text)


def columns() -> dict[str, list[float]]:
    names = HEADER.split(",")
    return {name: [bar[index] for bar in BARS] for index, name in enumerate(names)}


def parquet(path: Path) -> None:
    pq.write_table(pa.table(columns()), path)


def parquet_timestamps(path: Path) -> None:
    times = pa.array([bar[0] * 1000 for bar in BARS], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table(columns() | {"open_time": times, "symbol": ["BTCUSDT"] * len(BARS)}), path)


FURTHER: dict[str, list[float]] = {
    "number_of_trades": [9] * 30,
    "Quote asset volume": [1.5] * 30,
    "taker_buy_base_asset_volume": [0.5] * 30,
}


def parquet_klines(path: Path) -> None:
    pq.write_table(pa.table(columns() | FURTHER), path)


def feather_klines_as_text(path: Path) -> None:
    texts = {name: [str(value) for value in values] for name, values in FURTHER.items()}
    feather.write_feather(pa.table(columns() | texts), str(path))


def objects(path: Path) -> None:
    rows = zip(*(columns() | FURTHER).values(), strict=True)
    path.write_text(json.dumps([dict(zip([*HEADER.split(","), *FURTHER], row, strict=True)) for row in rows]))


def klines_of_a_client(path: Path) -> None:
    further = "Quote asset volume,Number of trades,Taker buy base asset volume"
    head = f"Open time,Open,High,Low,Close,Volume,Close time,{further}"
    path.write_text("\n".join([head, *(",".join(kline(bar)[:10]) for bar in BARS)]) + "\n")


KLINE_WRITERS: list[Callable[[Path], None]] = [
    spot_milliseconds,
    spot_microseconds,
    unit_changes_within,
    futures,
    rest,
    rest_gzipped,
    zipped,
    parquet_klines,
    feather_klines_as_text,
    objects,
    klines_of_a_client,
]
WRITERS: list[Callable[[Path], None]] = [
    *KLINE_WRITERS,
    plain,
    other_order,
    quoted,
    iso,
    seconds,
    gzipped,
    parquet,
    parquet_timestamps,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_bars(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "anything.bin"  # the name says nothing about the format
    write(path)
    named = write in (other_order, parquet_timestamps)
    source = open_source(path, symbol=None if named else "BTCUSDT")
    found = [row.bar for row in source if isinstance(row, Good)]
    further: dict[str, Any] = {"trades": 9, "quote_volume": 1.5, "taker_volume": 0.5} if write in KLINE_WRITERS else {}
    assert found == [
        BarClosed(
            symbol="BTCUSDT",
            interval_ms=HOUR,
            open_time=int(open_time),
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            origin="replay",
            **further,
        )
        for open_time, open_, high, low, close, volume in BARS
    ]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_further_field_that_a_file_lacks_is_not_written(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "anything.bin"
    write(path)
    named = write in (other_order, parquet_timestamps)
    row = next(iter(open_source(path, symbol=None if named else "BTCUSDT")))
    assert isinstance(row, Good)
    without = structs.replace(row.bar, trades=None, quote_volume=None, taker_volume=None)
    same = encode("market", row.bar).data == encode("market", without).data
    assert same == (write not in KLINE_WRITERS)


@pytest.mark.parametrize(
    ("cells", "trades", "quote_volume", "taker_volume"),
    [
        (("1.5", "9", "0.5"), 9, 1.5, 0.5),
        (("", "", ""), None, None, None),
        (("1.5", "", "NaN"), None, 1.5, None),
        (("null", "0", "0.0"), 0, None, 0.0),
    ],
)
def test_a_further_field_that_a_row_lacks_is_absent(
    cells: tuple[str, ...], trades: int | None, quote_volume: float | None, taker_volume: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    rows = [[*kline(bar)[:7], *cells, "0.25", "0"] for bar in BARS[:2]]
    path.write_text("".join(",".join(row) + "\n" for row in [kline(BARS[0]), *rows[1:]]))
    *_, row = open_source(path)
    assert isinstance(row, Good)
    assert (row.bar.trades, row.bar.quote_volume, row.bar.taker_volume) == (trades, quote_volume, taker_volume)


@pytest.mark.parametrize(
    "cells", [("-1", "9", "0.5"), ("1.5", "9.5", "0.5"), ("1.5", "9", "inf"), ("1.5", "9", "many"), ("1e18", "9", "0")]
)
def test_a_row_with_an_impossible_further_field_is_refused(cells: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("".join(",".join(row) + "\n" for row in [kline(BARS[0]), [*kline(BARS[1])[:7], *cells, "0", "0"]]))
    first, second = open_source(path)
    assert isinstance(first, Good)
    assert isinstance(second, RefusedRow)
    assert second.reason == "bad_row"


@pytest.mark.parametrize("absent", [None, math.nan, "", "null"])
def test_a_further_field_that_a_row_of_a_table_lacks_is_absent(absent: object, tmp_path: Path) -> None:
    texts = isinstance(absent, str)
    further: dict[str, list[Any]] = {
        name: [absent, *(map(str, values[1:]) if texts else values[1:])] for name, values in FURTHER.items()
    }
    pq.write_table(pa.table(columns() | further), tmp_path / "BTCUSDT-1h.parquet")
    first, second, *_ = open_source(tmp_path / "BTCUSDT-1h.parquet")
    assert kept(first) == (None, None, None)
    assert kept(second) == (9, 1.5, 0.5)


@pytest.mark.parametrize("impossible", [-1.0, 9.5, 2.0**53, math.inf, 2**60, "many", True])
def test_a_row_of_a_table_with_an_impossible_number_of_trades_is_refused(impossible: object, tmp_path: Path) -> None:
    trades = [impossible] if isinstance(impossible, bool) else ["9" if isinstance(impossible, str) else 9, impossible]
    few = {name: values[: len(trades)] for name, values in columns().items()}
    path = tmp_path / "BTCUSDT-1h.parquet"
    pq.write_table(pa.table(few | {"trades": trades}), path)
    *before, last = open_source(path)
    assert all(isinstance(row, Good) for row in before)
    assert isinstance(last, RefusedRow)
    assert last.reason == "bad_row"


def kept(row: Row) -> tuple[int | None, float | None, float | None]:
    assert isinstance(row, Good), row
    return row.bar.trades, row.bar.quote_volume, row.bar.taker_volume


def by_header(path: Path, further: dict[str, float], *stated: str, symbol: str = "BTCUSDT") -> Row:
    rows = [",".join(map(str, (*bar, *further.values()))) for bar in BARS]
    path.write_text("\n".join([",".join([HEADER, *further]), *rows]))
    return next(iter(open_source(path, symbol=symbol, columns=stated_columns(stated))))


def test_a_further_field_that_could_be_one_of_two_columns_is_absent_unless_stated(tmp_path: Path) -> None:
    two = {"count": 9.0, "trades": 8.0}
    assert kept(by_header(tmp_path / "a.csv", two)) == (None, None, None)
    assert kept(by_header(tmp_path / "a.csv", two, "trades=trades")) == (8, None, None)


def test_further_fields_are_stated_as_other_columns_are(tmp_path: Path) -> None:
    own = {"ticks": 9.0, "turnover": 1.5, "bought": 0.5}
    assert kept(by_header(tmp_path / "a.csv", own)) == (None, None, None)
    stated = ("trades=ticks,quote_volume=8", "taker_volume=Bought")
    assert kept(by_header(tmp_path / "a.csv", own, *stated)) == (9, 1.5, 0.5)


def test_fields_in_another_unit_than_the_volume_that_is_stated_are_absent(tmp_path: Path) -> None:
    published = {"quote_volume": 1.5, "count": 9.0, "taker_buy_volume": 0.5}
    assert kept(by_header(tmp_path / "a.csv", published, "volume=quote_volume")) == (9, None, None)


@pytest.mark.parametrize("symbol", ["BTCUSD_PERP", "BTCUSD_241227"])
def test_the_amount_of_the_asset_of_a_coin_margined_contract_is_no_quote_volume(symbol: str, tmp_path: Path) -> None:
    published = {"quote_volume": 1.5, "count": 9.0, "taker_buy_volume": 0.5}
    assert kept(by_header(tmp_path / "a.csv", published, symbol=symbol)) == (9, None, 0.5)
    assert kept(by_header(tmp_path / "a.csv", published, symbol="BTCUSDT_241227")) == (9, 1.5, 0.5)
    spot_milliseconds(tmp_path / "b.csv")
    assert kept(next(iter(open_source(tmp_path / "b.csv", symbol=symbol)))) == (9, None, 0.5)
    spot_milliseconds(tmp_path / "BTCUSD_PERP-1h.csv")
    assert kept(next(iter(open_source(tmp_path / "BTCUSD_PERP-1h.csv")))) == (9, None, 0.5)


def test_a_row_says_its_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    quoted(path)  # header, blank line, rows
    assert [row.where for row in open_source(path)][:2] == ["BTCUSDT-1h.csv:3", "BTCUSDT-1h.csv:4"]


def test_columns_are_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    plain(path)
    bars = load(path)["BTCUSDT", HOUR]
    found = zip(bars.open_time, bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True)
    assert [tuple(map(float, row)) for row in found] == BARS
    assert (bars.symbol, bars.interval_ms, len(bars)) == ("BTCUSDT", HOUR, 30)


@given(st.lists(st.decimals(0, 10**9, places=10) | st.floats(0, 1e15), min_size=5, max_size=5))
def test_a_price_is_the_double_that_python_reads(numbers: list[object]) -> None:
    texts = [str(number) for number in numbers]
    row = ["1733011200000", *texts, "1733014799999", "0", "0", "0", "0", "0"]
    chunk = parse([row], Layout(12, 0, (1, 2, 3, 4, 5), 6), [1], [",".join(row)])
    assert chunk.values[0].tolist() == [float(text) for text in texts]
    assert not chunk.bad


@given(st.integers(10**11, 9 * 10**12))
def test_the_unit_of_a_time_is_told_by_its_size(moment: int) -> None:
    second = moment // 1000
    times = [second, moment, moment * 1000, moment * 1000 + 999, moment * 10**6, moment * 10**6 + 1]
    found, whole = milliseconds(np.array(times, dtype=np.int64))
    assert found.tolist() == [second * 1000, *[moment] * 5]
    assert whole.tolist() == [True, True, True, False, True, False]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "BTCUSDT-1h.parquet"
    parquet(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=re.escape(install_command("parquet"))):
        open_source(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"date,HUFL,HULL\n2016-07-01,5.8,2.0\n", "has no open, high, low, close, volume"),
        (b"open_time,open,high,low,close\n", "has no volume; it has open_time, open"),
        (b"1733011200000,1,2,0.5,1.5,9\n", "no names for their columns .* --columns time=1,open=2"),
        (b"some text\nand more of it\n", "expected a header"),
        (b"[[1,2,", "not JSON with bars"),
        (b"PAR1 and nothing", "not a readable Parquet file"),
        (b"\x1f\x8b\x08\x00broken", "cannot be read"),
    ],
)
def test_a_file_that_holds_no_bars_is_refused_with_what_it_holds(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"BTCUSDT-1h.csv.*{said}"):
        open_source(path)


def test_an_archive_of_two_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", HEADER)
        archive.writestr("b.csv", HEADER)
    with pytest.raises(SourceError, match="expected one file in the archive, found 2"):
        open_source(path)


def test_a_file_cut_off_says_after_which_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv.gz"
    rows = "\n".join(f"{START + n * HOUR},{n % 7 + 1}.{n},99999,0.01,{n % 5 + 1}.{n},{n * n}" for n in range(20_000))
    whole = gzip.compress(f"{HEADER}\n{rows}\n".encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"BTCUSDT-1h.csv.gz: cannot be read on after line \d{4}"):
        list(open_source(path))
