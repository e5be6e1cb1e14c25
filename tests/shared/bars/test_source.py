"""Many files are one source: in time order, resumable, told apart from every other."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bars import FileSource, Good, LeftOut, RefusedRow, SourceError, load, open_source
from shared.bars.chunks import CHUNK, Chunk
from shared.bars.files import BarFile

HOUR = 3_600_000
START = 1_733_011_200_000
HEADER = "open_time,open,high,low,close,volume"


def write(path: Path, start: int, count: int, step: int = HOUR, close: str = "11") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{START + start * HOUR + n * step},10,12,9,{close},5" for n in range(count)]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def keys(source: FileSource) -> list[tuple[int, str]]:
    return [(row.bar.open_time + row.bar.interval_ms, row.bar.symbol) for row in source if isinstance(row, Good)]


def test_a_folder_of_symbols_and_months_is_one_stream_in_time_order(tmp_path: Path) -> None:
    write(tmp_path / "b" / "ETHUSDT-1h-2025-01.csv", 40, 30)
    write(tmp_path / "a" / "ETHUSDT-1h-2024-12.csv", 0, 40)
    write(tmp_path / "BTCUSDT-1h-2025-01.csv", 50, 20)
    write(tmp_path / "BTCUSDT-1h-2024-12.csv", 10, 40)
    write(tmp_path / "SOLUSDT-15m.csv", 3, 100, HOUR // 4)
    (tmp_path / "BTCUSDT-1h-2025-01.zip.CHECKSUM").write_text("no bars")
    (tmp_path / ".hidden.csv").write_text("no bars")
    source = open_source(tmp_path)
    found = keys(source)
    assert found == sorted(found)
    assert len(found) == 30 + 40 + 20 + 40 + 100
    assert source.series == (("BTCUSDT", HOUR), ("ETHUSDT", HOUR), ("SOLUSDT", HOUR // 4))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_in_the_encoding_of_its_mark_and_with_any_end_of_line(
    tmp_path: Path, encoding: str, end: str
) -> None:
    file = write(tmp_path / "BTCUSDT-1h.csv", 0, 30)
    expected = keys(open_source(file))
    mark = "\ufeff" if encoding.endswith("e") else ""
    file.write_bytes((mark + file.read_text()).replace("\n", end).encode(encoding))
    assert keys(open_source(file)) == expected


def test_files_that_overlap_show_their_common_bars_twice_in_a_row(tmp_path: Path) -> None:
    write(tmp_path / "BTCUSDT-1h-a.csv", 0, 10)
    write(tmp_path / "BTCUSDT-1h-b.csv", 6, 10)
    write(tmp_path / "BTCUSDT-1h-c.csv", 15, 3, close="11.5")
    left_out: list[RefusedRow] = []
    bars = load(tmp_path, refused=left_out.append)["BTCUSDT", HOUR]
    assert ((bars.open_time - START) // HOUR).tolist() == list(range(18))
    assert [(row.reason, row.where) for row in left_out] == [
        ("duplicate", "BTCUSDT-1h-b.csv:2"),
        ("duplicate", "BTCUSDT-1h-b.csv:3"),
        ("duplicate", "BTCUSDT-1h-b.csv:4"),
        ("duplicate", "BTCUSDT-1h-b.csv:5"),
        ("conflict", "BTCUSDT-1h-c.csv:2"),
    ]


@given(skip=st.integers(0, 115))
def test_a_source_goes_on_behind_any_row(skip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bars")
    write(folder / "BTCUSDT-1h-2024-12.csv", 0, 25)
    write(folder / "BTCUSDT-1h-2025-01.csv", 25, 25)
    with write(folder / "ETHUSDT-15m.csv", 4, 60, HOUR // 4).open("a") as file:
        file.write("nonsense\n")
    source = open_source(folder)
    rows = list(source)
    assert list(source.rows(skip)) == rows[skip:]


def test_rows_beyond_a_chunk_keep_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", 0, 2 * CHUNK + 5)
    rows = list(open_source(path))
    assert [row.where for row in rows] == [f"BTCUSDT-1h.csv:{line}" for line in range(2, 2 * CHUNK + 7)]


def test_a_file_is_opened_only_when_its_time_has_come() -> None:
    open_now: set[int] = set()
    most = 0

    class Month:
        has_symbol = False

        def __init__(self, number: int) -> None:
            self.number = number

        def chunks(self) -> Iterator[Chunk]:
            nonlocal most
            open_now.add(self.number)
            most = max(most, len(open_now))
            times = START + (self.number * 10 + np.arange(10, dtype=np.int64)) * HOUR
            yield Chunk(range(10), times, None, np.full((10, 5), 1.0), None, [""] * 10, {})
            open_now.remove(self.number)

    months = [BarFile(str(n), Path(str(n)), Month(n), "BTCUSDT", HOUR, START + n * 10 * HOUR) for n in range(50)]
    assert len(keys(FileSource("months", "", tuple(months), "replay"))) == 500
    assert most <= 2


def test_a_refused_row_stands_behind_the_row_before_it(tmp_path: Path) -> None:
    write(tmp_path / "AUSDT-1h.csv", 0, 4)
    (tmp_path / "BUSDT-1h.csv").write_text(
        f"{HEADER}\n{START},10,12,9,11,5\nnonsense\n{START + HOUR},10,12,9,11,-1\n{START + 2 * HOUR},10,12,9,11,5\n"
    )
    assert [row.where for row in open_source(tmp_path)] == [
        "AUSDT-1h.csv:2",
        "BUSDT-1h.csv:2",
        "BUSDT-1h.csv:3",
        "BUSDT-1h.csv:4",
        "AUSDT-1h.csv:3",
        "AUSDT-1h.csv:4",
        "BUSDT-1h.csv:5",
        "AUSDT-1h.csv:5",
    ]


def test_rows_may_name_their_symbol(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    rows = [f"{symbol},{START + n * HOUR},10,12,9,11,5" for n in range(5) for symbol in ("ETHUSDT", "BTCUSDT")]
    path.write_text("\n".join([f"symbol,{HEADER}", *rows]) + "\n")
    assert {series: len(bars) for series, bars in load(path).items()} == {("BTCUSDT", HOUR): 5, ("ETHUSDT", HOUR): 5}
    with pytest.raises(SourceError, match="do not state one"):
        open_source(path, symbol="BTCUSDT")


def test_a_file_with_one_symbol_after_the_other_is_refused_before_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    rows = [f"{symbol},{START + n * HOUR},10,12,9,11,5" for symbol in ("ETHUSDT", "BTCUSDT") for n in range(5)]
    path.write_text("\n".join([f"symbol,{HEADER}", *rows]) + "\n")
    with pytest.raises(SourceError, match=r"symbol BTCUSDT begins at .*: sort the file by time, or split it"):
        open_source(path)


def test_a_file_whose_newest_rows_come_first_is_refused_before_its_first_row(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", 0, 50)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")
    with pytest.raises(SourceError, match="the rows run backwards in time"):
        open_source(path)
    rows[3], rows[4] = rows[4], rows[3]  # some rows may be late: they are refused one by one
    path.write_text("\n".join([head, *rows]) + "\n")
    assert len(load(path)["BTCUSDT", HOUR]) == 49


def test_two_files_are_not_silently_one_series_at_other_prices(tmp_path: Path) -> None:
    write(tmp_path / "BTC_USDT_USDT-1h-futures.csv", 0, 10)
    write(tmp_path / "BTC_USDT_USDT-1h-mark.csv", 0, 10, close="11.5")
    with pytest.raises(SourceError, match=r"futures\.csv and .*mark\.csv are both read as BTC_USDT_USDT, 1h"):
        open_source(tmp_path)
    write(tmp_path / "BTC_USDT_USDT-1h-mark.csv", 0, 12)  # the same bars, and more of them
    assert len(load(tmp_path)["BTC_USDT_USDT", HOUR]) == 12


def test_what_was_left_out_is_counted_by_reason_with_the_first_of_each(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", 0, 20)
    lines = path.read_text().splitlines()
    lines[5] = lines[5].replace("12,9", "8,9")
    lines += [lines[-1], lines[-1].replace(",11,", ",11.5,")]
    path.write_text("\n".join(lines) + "\n")
    left_out = LeftOut()
    load(path, refused=left_out)
    assert left_out.sentence().startswith("3 rows left out: 1 ")
    for words in ("1 duplicate (first at BTCUSDT-1h.csv:22: ", "1 conflict (first at BTCUSDT-1h.csv:23: ", "csv:6: "):
        assert words in left_out.sentence()
    assert LeftOut().sentence() == ""


def test_the_interval_is_told_by_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "bars.csv", 0, 10, HOUR // 4)
    assert open_source(path, symbol="BTCUSDT").series == (("BTCUSDT", HOUR // 4),)


def test_missing_bars_do_not_hide_the_interval(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, *(f"{START + n * HOUR},10,12,9,11,5" for n in (0, 1, 2, 5, 6, 8))]) + "\n")
    assert open_source(path, symbol="BTCUSDT").series == (("BTCUSDT", HOUR),)


@pytest.mark.parametrize(
    ("hours", "said"),
    [((0, 2, 4, 5, 7), "2h 3 times, 1h 1 times.*state the interval"), ((0,), "too few rows.*state the interval")],
)
def test_an_ambiguous_interval_must_be_stated(hours: tuple[int, ...], said: str, tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.csv"
    path.write_text("\n".join([HEADER, *(f"{START + n * HOUR},10,12,9,11,5" for n in hours)]) + "\n")
    with pytest.raises(SourceError, match=said):
        open_source(path, symbol="BTCUSDT")
    assert open_source(path, symbol="BTCUSDT", interval_ms=HOUR).series == (("BTCUSDT", HOUR),)


def test_a_stated_interval_that_no_rows_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"should be 15m, but no two neighbours .* \(found 1h 9 times\)"):
        open_source(write(tmp_path / "BTCUSDT-15m.csv", 0, 10))
    with pytest.raises(SourceError, match="expected between"):
        open_source(tmp_path, interval_ms=999)


def test_an_unknown_symbol_must_be_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "bars.csv", 0, 10)
    with pytest.raises(SourceError, match="state the symbol"):
        open_source(path)
    with pytest.raises(SourceError, match="'BTC USDT' is not a symbol"):
        open_source(path, symbol="BTC USDT")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        open_source(tmp_path / "nothing")
    with pytest.raises(SourceError, match="no file of bars in it"):
        open_source(tmp_path)


def test_a_file_with_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT-1h.csv").write_text(HEADER + "\n")
    assert list(open_source(tmp_path)) == []


def test_identity_is_of_content_and_reading_not_of_place(tmp_path: Path) -> None:
    first = write(tmp_path / "one" / "BTCUSDT-1h.csv", 0, 10)
    identity = open_source(first).identity
    copy = tmp_path / "two" / "BTCUSDT-1h.csv"
    copy.parent.mkdir()
    shutil.copy(first, copy)
    assert open_source(copy).identity == identity
    others = {
        open_source(first, origin="live").identity,
        open_source(first, symbol="ETHUSDT").identity,
        open_source(write(tmp_path / "three" / "BTCUSDT-1h.csv", 0, 11)).identity,
        open_source(write(tmp_path / "four" / "BTCUSDT-1h.csv", 0, 10, close="12")).identity,
    }
    assert len(others | {identity}) == 5
