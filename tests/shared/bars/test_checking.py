"""Before bars are used, it is shown what would be read of them and what would be left out."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.bars import Good, open_source
from shared.bars.amount import estimated_rows
from shared.bars.checking import BLOCKS, SeriesCheck, SourceCheck, check, counting_units
from tests.shared.bars.test_refused import HEADER, HOUR, START, bar, row

LATER = START + 10_000 * HOUR


def checked(path: Path, text: str, now_ms: int = LATER) -> SourceCheck:
    path.write_text(text)
    source, files = counting_units(open_source(path))
    return check(source, files, now_ms)


def test_a_series_without_faults_is_clean(tmp_path: Path) -> None:
    found = checked(tmp_path / "BTCUSDT-1h.csv", "\n".join([HEADER, *map(row, range(30))]))
    assert found.clean
    (series,) = found.series.values()
    assert (series.bars, series.gaps, series.missing) == (30, 0, 0)
    assert [(file.program, dict(file.units)) for file in found.files] == [("columns by name", {"ms": 30})]


def test_every_fault_is_found_and_counted(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(1), row(1, "10,12,9,11.5,5"), row(4), row(2), f"{START + 5 * HOUR + 7},10,12,9,11,5"]
    found = checked(tmp_path / "BTCUSDT-1h.csv", "\n".join([HEADER, *rows, row(6, "10,9,9,11,5"), row(7)]))
    (series,) = found.series.values()
    assert [(gap.first, gap.bars) for gap in series.first_gaps] == [(START + 2 * HOUR, 2), (START + 5 * HOUR, 2)]
    assert (series.bars, series.missing) == (4, 4)
    assert found.left_out.counts == {
        "duplicate": 1,
        "conflict": 1,
        "out_of_order": 1,
        "off_grid": 1,
        "impossible_prices": 1,
    }
    assert not found.clean


def test_units_are_counted_by_row(tmp_path: Path) -> None:
    rows = [row(0), row(1), *(f"{(START + n * HOUR) * 1000},10,12,9,11,5" for n in (2, 3, 4))]
    found = checked(tmp_path / "BTCUSDT-1h.csv", "\n".join([HEADER, *rows]))
    assert found.files[0].units == {"us": 3, "ms": 2}
    assert found.clean


def test_times_as_text_are_shown_with_their_zone(tmp_path: Path) -> None:
    hours = [f"2024-12-01 {n:02}:00,10,12,9,11,5" for n in range(9)]
    found = checked(tmp_path / "BTCUSDT-1h.csv", "\n".join(["date,open,high,low,close,volume", *hours]))
    assert found.files[0].units == {"text in UTC": 9}


def test_a_bar_that_is_not_over_is_found(tmp_path: Path) -> None:
    text = "\n".join([HEADER, *map(row, range(5))])
    assert checked(tmp_path / "BTCUSDT-1h.csv", text, START + 5 * HOUR).clean
    found = checked(tmp_path / "BTCUSDT-1h.csv", text, START + 5 * HOUR - 1)
    assert [series.future for series in found.series.values()] == [1]
    assert not found.clean


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(1, 1e9)), min_size=1, max_size=80), st.integers(1, 70))
def test_a_picture_has_its_width_and_shows_gaps(steps: list[tuple[int, float]], width: int) -> None:
    series, at = SeriesCheck("A", HOUR), 0
    for step, close in steps:
        at += step
        series.add(bar(at, close), LATER)
    picture = series.picture(width)
    assert len(picture) == min(width, at - steps[0][0] + 1)
    assert set(picture) <= {*BLOCKS, " "}
    assert picture[0] != " " != picture[-1]


def test_rows_are_estimated_from_the_size_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_text("\n".join([HEADER, *map(row, range(5000))]))
    source = open_source(path)
    assert abs((estimated_rows(source) or 0) - sum(isinstance(found, Good) for found in source)) < 10
