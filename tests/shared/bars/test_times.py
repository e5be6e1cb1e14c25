"""Columns of times: all columns that say when a bar opened are used, or the file is refused and says which differ."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.bars import RefusedRow, SourceError, load

HOUR = 3_600_000
START = 1_733_011_200_000  # 2024-12-01T00:00Z
PRICES = ["open", "high", "low", "close", "volume"]


def rows(count: int = 60) -> list[list[str]]:
    return [[f"{100 + n}", f"{102 + n}", f"{99 + n}", f"{101 + n}", "5"] for n in range(count)]


def day(n: int) -> str:
    return f"2024-12-{1 + n // 24:02}"


def write(path: Path, names: list[str], times: list[list[str]]) -> Path:
    lines = [[*time, *row] for time, row in zip(times, rows(len(times)), strict=True)]
    path.write_text("\n".join(",".join(line) for line in [[*names, *PRICES], *lines]) + "\n")
    return path


@pytest.mark.parametrize("clock", ["{:02}:00", "{:02}:00:00", "{:02}0000", '"{:02}:00"', "{:02}:00+00:00"])
@pytest.mark.parametrize("names", [["Date", "Time"], ["Time", "Date"], ["ticker", "DATE", "TIME"]])
def test_a_date_and_a_time_of_day_are_one_time(names: list[str], clock: str, tmp_path: Path) -> None:
    def cell(name: str, n: int) -> str:
        return {"date": day(n), "time": clock.format(n % 24)}.get(name.lower(), "AAA")

    path = write(tmp_path / "AAA.csv", names, [[cell(name, n) for name in names] for n in range(60)])
    bars = load(path, symbol="AAA")
    assert {series: len(columns) for series, columns in bars.items()} == {("AAA", HOUR): 60}
    assert bars["AAA", HOUR].open_time.tolist() == [START + n * HOUR for n in range(60)]


def parquet(path: Path, times: dict[str, pa.Array]) -> Path:
    numbers = {name: pa.array([float(row[n]) for row in rows()]) for n, name in enumerate(PRICES)}
    pq.write_table(pa.table(times | numbers), path)
    return path


def test_a_time_in_two_columns_of_parquet_is_asked_for_in_one(tmp_path: Path) -> None:
    """The date alone would be a time, too."""
    days = pa.array([(START + n * HOUR) // (24 * HOUR) * 24 * HOUR for n in range(60)], pa.timestamp("ms"))
    clocks = pa.array([f"{n % 24:02}:00" for n in range(60)])
    with pytest.raises(SourceError, match=r"--columns time=date \(.*--columns time=date\+time"):
        load(parquet(tmp_path / "AAA-1h.parquet", {"Date": days, "Time": clocks}))


DAYS = [f"2024{month:02}{number:02}" for month in (1, 2) for number in range(1, 30)]


def in_parquet(path: Path, texts: list[str], kind: pa.DataType) -> Path:
    numbers = {name: pa.array([100.0 + (name == "high") - (name == "low")] * len(texts)) for name in PRICES}
    array = pa.array(texts) if kind == pa.string() else pa.array(list(map(float, texts))).cast(kind)
    pq.write_table(pa.table({"date": array, **numbers}), path)
    return path


def in_text(path: Path, texts: list[str], end: str) -> Path:
    path.write_text("\n".join(["date," + ",".join(PRICES), *(f"{text}{end},100,101,99,100,5" for text in texts)]))
    return path


@pytest.mark.parametrize("interval_ms", [None, 24 * HOUR])
@pytest.mark.parametrize("kind", ["", ".0", pa.string(), pa.int32(), pa.int64(), pa.float64()])
def test_a_column_of_eight_digits_is_dates_in_every_kind_of_file(
    kind: str | pa.DataType, interval_ms: int | None, tmp_path: Path
) -> None:
    def written(texts: list[str]) -> Path:
        if isinstance(kind, str):
            return in_text(tmp_path / "AAA.csv", texts, kind)
        return in_parquet(tmp_path / "AAA.parquet", texts, kind)

    bars = load(written(DAYS), symbol="AAA", interval_ms=interval_ms)
    assert list(bars) == [("AAA", 24 * HOUR)]
    assert bars["AAA", 24 * HOUR].open_time[0] == 1_704_067_200_000  # 2024-01-01
    assert len(bars["AAA", 24 * HOUR]) == len(DAYS)
    with pytest.raises(SourceError, match="'20240230' has eight digits, and is no date"):
        load(written([*DAYS, "20240230"]), symbol="AAA", interval_ms=interval_ms)


def test_two_times_in_parquet_are_compared(tmp_path: Path) -> None:
    starts, ends = ([START + n * HOUR + add for n in range(60)] for add in (0, HOUR))
    with pytest.raises(SourceError, match="timestamp, time could each be the time"):
        load(parquet(tmp_path / "AAA-1h.parquet", {"timestamp": pa.array(starts), "time": pa.array(ends)}))
    texts = pa.array([str(time) for time in starts])
    assert load(parquet(tmp_path / "AAA-1h.parquet", {"timestamp": pa.array(starts), "date": texts}))


def test_a_row_with_half_a_time_is_refused_by_itself(tmp_path: Path) -> None:
    times = [[day(n), f"{n % 24:02}:00"] for n in range(60)]
    times[30] = [day(30), ""]
    left_out: list[RefusedRow] = []
    bars = load(write(tmp_path / "AAA-1h.csv", ["date", "time"], times), refused=left_out.append)
    assert len(bars["AAA", HOUR]) == 59
    assert [(row.where, "are not a date and a time of day" in row.detail) for row in left_out] == [
        ("AAA-1h.csv:32", True)
    ]


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (["timestamp", "datetime"], [[f"{START + n * HOUR}", f"{day(n)}T{n % 24:02}:00+02:00"] for n in range(60)]),
        (["open_time", "time"], [[f"{START + n * HOUR}", f"{START + (n + 1) * HOUR}"] for n in range(60)]),
        (["datetime", "date"], [[f"{day(n)} {n % 24:02}:00", day(n + 24)] for n in range(60)]),
    ],
)
def test_two_times_that_differ_are_refused_with_both(names: list[str], times: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(
        SourceError,
        match=f"({names[0]}, {names[1]}|{names[1]}, {names[0]}) could each be the time of a bar, and are not the same",
    ):
        load(write(tmp_path / "AAA-1h.csv", names, times))


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (["timestamp", "datetime"], [[f"{START + n * HOUR}", f"{day(n)} {n % 24:02}:00"] for n in range(60)]),
        (["timestamp", "date"], [[f"{START // 1000 + n * 3600}", day(n)] for n in range(60)]),
        (["timestamp", "date", "time"], [[f"{START + n * HOUR}", day(n), f"{n % 24:02}:00"] for n in range(60)]),
    ],
)
def test_two_times_that_agree_are_read(names: list[str], times: list[list[str]], tmp_path: Path) -> None:
    bars = load(write(tmp_path / "AAA-1h.csv", names, times))["AAA", HOUR]
    assert bars.open_time.tolist() == [START + n * HOUR for n in range(60)]


def test_hourly_rows_of_which_only_the_date_is_known_are_not_daily_bars(tmp_path: Path) -> None:
    path = write(tmp_path / "AAA.csv", ["date", "hour"], [[day(n), str(n % 24)] for n in range(60)])
    with pytest.raises(SourceError, match="57 of the first 60 rows have the time of the row before and other prices"):
        load(path, symbol="AAA")


@pytest.mark.parametrize("name", ["close", "time", "symbol"])
def test_a_name_that_two_columns_have_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "AAA-1h.csv"
    path.write_text(f"time,symbol,{','.join(PRICES)},{name.upper()}\n")
    with pytest.raises(SourceError, match=f"the header has {name} more than once"):
        load(path)
