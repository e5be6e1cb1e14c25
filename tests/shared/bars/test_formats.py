"""One series, written in each format that is read, comes back as the same bars."""

import gzip
import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market import BarClosed
from shared.bars import Good, SourceError, load, open_source
from shared.bars.chunks import milliseconds
from shared.bars.columns import Layout
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


WRITERS: list[Callable[[Path], None]] = [
    plain,
    other_order,
    quoted,
    iso,
    seconds,
    spot_milliseconds,
    spot_microseconds,
    unit_changes_within,
    futures,
    rest,
    rest_gzipped,
    gzipped,
    zipped,
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
        )
        for open_time, open_, high, low, close, volume in BARS
    ]


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
