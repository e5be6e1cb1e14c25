"""Files are put together without a last one that wins, and longer bars are made only of all their parts."""

import math
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from shared.bars import Good, LeftOut, Row, SourceError, load, open_source
from shared.bars.columns import Stated
from shared.bars.formats import FURTHER
from shared.bars.merging import MergedBars, merge, refuse_output, resample, rows_of, sources_of, write
from tests.shared.bars.test_refused import HEADER, HOUR, START, bar

DAY = 24 * HOUR


def series(*rows: Row) -> MergedBars:
    (found,) = merge(rows, LeftOut()).values()
    return found


def times(bars: MergedBars) -> list[int]:
    found: list[int] = bars.table.column("open_time").to_pylist()
    return [(time - START) // HOUR for time in found]


@given(st.lists(st.integers(0, 20), max_size=40))
def test_rows_in_any_order_become_bars_in_the_order_of_time(steps: list[int]) -> None:
    found = merge([Good(bar(n), str(n)) for n in steps], LeftOut())
    merged = [n for bars in found.values() for n in times(bars)]
    assert merged == sorted(set(steps))
    assert sum(bars.duplicates for bars in found.values()) == len(steps) - len(set(steps))
    assert not any(bars.conflicts for bars in found.values())


def test_two_contents_of_one_bar_are_a_conflict_whichever_comes_first() -> None:
    rows = [Good(bar(0), "a:1"), Good(bar(1), "a:2"), Good(bar(1, 11.5), "b:1"), Good(bar(2), "b:2")]
    for order in (rows, rows[::-1]):
        found = series(*order)
        assert times(found) == [0, 2]
        assert [{conflict.first, conflict.second} for conflict in found.conflicts] == [{"a:2", "b:1"}]


def test_gaps_are_named() -> None:
    found = series(*(Good(bar(n), "") for n in (0, 1, 4, 5, 7)))
    assert [((gap.first - START) // HOUR, (gap.last - START) // HOUR, gap.bars) for gap in found.gaps()] == [
        (2, 3, 2),
        (6, 6, 1),
    ]


hours = st.lists(st.tuples(st.integers(0, 200), st.floats(1, 1e6), st.floats(0, 1e6)), unique_by=lambda row: row[0])


@given(hours, st.sampled_from([2, 3, 4, 12, 24]))
def test_a_longer_bar_is_made_of_all_its_parts_alone(rows: list[tuple[int, float, float]], parts: int) -> None:
    opened = np.array(sorted(row[0] for row in rows), dtype=np.int64) * HOUR + START
    prices = {row[0] * HOUR + START: row[1:] for row in rows}
    close, volume = (np.array([prices[time][at] for time in opened.tolist()], dtype=np.float64) for at in (0, 1))
    columns = {
        "open_time": opened,
        "open": close,
        "high": close + 1,
        "low": close / 2,
        "close": close,
        "volume": volume,
    }
    table = pa.table(columns | dict.fromkeys(FURTHER, np.full(len(opened), np.nan)))
    found = resample(MergedBars("A", HOUR, table, 0, []), parts * HOUR)
    expected = {}
    for bucket in sorted({time - time % (parts * HOUR) for time in opened.tolist()}):
        inside = [bucket + n * HOUR for n in range(parts) if bucket + n * HOUR in prices]
        if len(inside) == parts:
            closes = [prices[time][0] for time in inside]
            expected[bucket] = (closes[0], max(closes) + 1, min(closes) / 2, closes[-1])
        else:
            assert (bucket, len(inside)) in found.incomplete
    rows_found = found.merged.table.to_pylist()
    assert {row["open_time"]: (row["open"], row["high"], row["low"], row["close"]) for row in rows_found} == expected
    assert [row["open_time"] for row in rows_found] == sorted(expected)
    volumes = [sum(prices[time + n * HOUR][1] for n in range(parts)) for time in expected]
    assert [row["volume"] for row in rows_found] == pytest.approx(volumes)


@pytest.mark.parametrize("interval", [HOUR, HOUR // 2, HOUR + HOUR // 2])
def test_a_length_that_is_no_multiple_is_refused(interval: int) -> None:
    with pytest.raises(SourceError, match="expected a multiple of it that is longer"):
        resample(series(Good(bar(0), "")), interval)


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.csv", "x.csv.gz"])
def test_what_is_written_is_read_as_the_same_bars(name: str, tmp_path: Path) -> None:
    found = series(*(Good(bar(n, 10 + n / 7), "") for n in range(12)))
    write(tmp_path / name, [found])
    assert os.listdir(tmp_path) == [name]
    bars = load(tmp_path / name)["BTCUSDT", HOUR]
    assert bars.open_time.tolist() == found.table.column("open_time").to_pylist()
    assert bars.close.tolist() == found.table.column("close").to_pylist()


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.csv", "x.csv.gz"])
def test_further_fields_are_kept_where_bars_have_them(name: str, tmp_path: Path) -> None:
    bars = [structs.replace(bar(0), trades=9, quote_volume=1.5), bar(1), structs.replace(bar(2), trades=8)]
    write(tmp_path / name, [series(*(Good(each, "") for each in bars))])
    assert [row.bar for row in open_source(tmp_path / name) if isinstance(row, Good)] == bars


def test_of_two_rows_for_one_bar_the_further_fields_of_both_are_kept_whichever_comes_first() -> None:
    rows = [
        Good(bar(0), "a"),
        Good(structs.replace(bar(0), trades=9), "b"),
        Good(structs.replace(bar(0), quote_volume=1.5), "c"),
    ]
    for order in permutations(rows):
        found = series(*order)
        assert (found.duplicates, found.conflicts) == (2, [])
        (row,) = found.table.to_pylist()
        assert (row["trades"], row["quote_volume"]) == (9, 1.5)
    other = Good(structs.replace(bar(0), trades=8), "d")
    assert all(series(*order).conflicts for order in permutations([*rows, other]))


def test_a_longer_bar_has_a_further_field_only_if_all_its_parts_have_it() -> None:
    counts = [9, 8, 7, None]
    bars = [structs.replace(bar(n), trades=count, quote_volume=1.5) for n, count in enumerate(counts)]
    found = resample(series(*(Good(each, "") for each in bars)), 2 * HOUR).merged.table.to_pylist()
    assert [(row["trades"], row["quote_volume"]) for row in found] == [
        (17, 3.0),
        (pytest.approx(math.nan, nan_ok=True), 3.0),
    ]


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("mine")
    for wrong, said in ((path, "exists"), (tmp_path / "x.txt", "ends in"), (tmp_path / "no" / "x.csv", "no folder")):
        with pytest.raises(SourceError, match=said):
            refuse_output(wrong)
    assert path.read_text() == "mine"


def test_files_whose_newest_rows_come_first_are_merged_although_they_cannot_be_fed(tmp_path: Path) -> None:
    for part, hours in (("a", range(10, 20)), ("b", range(10))):
        rows = [f"{START + n * HOUR},10,12,9,11,5" for n in reversed(hours)]
        (tmp_path / f"BTCUSDT-1h-{part}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    with pytest.raises(SourceError, match="conclave bars merge"):
        open_source(tmp_path)
    found = merge(rows_of(sources_of([tmp_path], Stated())), LeftOut())["BTCUSDT", HOUR]
    assert times(found) == list(range(20))
