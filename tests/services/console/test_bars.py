"""``conclave bars``: exit codes, what is printed, and that nothing is written where something is unclear."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.console.cli import cli, main
from tests.shared.bars.test_refused import HEADER, HOUR, START, row


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_check_says_what_would_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", *map(row, range(48)))
    found = run("bars", "check", path)
    assert found.exit_code == 0, found.output
    for words in (
        "BTCUSDT, 1h: 48 bars",
        "2024-12-01 00:00 to 2024-12-02 23:00 UTC",
        "ms (48 rows)",
        "nothing to note",
    ):
        assert words in found.stdout
    found = run("bars", "check", path, "-o", "json")
    assert json.loads(found.stdout)["series"][0]["bars"] == 48


def test_check_shows_inputs_beside_bars(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", *map(row, range(48)))
    rates = tmp_path / "BTCUSDT-fundingRate-2024-12.csv"
    lines = [f"{START + 8 * number * HOUR},8,0.0001" for number in range(3)]
    rates.write_text("\n".join(["calc_time,funding_interval_hours,last_funding_rate", *lines]) + "\n")
    found = run("bars", "check", path, "--inputs", rates)
    assert found.exit_code == 0, found.output
    for words in (
        "inputs: 1 file of Binance funding rates",
        "BTCUSDT, funding: 3 samples",
        "2024-12-01 00:00 to 2024-12-01 16:00 UTC, at most 8h apart",
        "nothing to note",
    ):
        assert words in found.stdout
    rates.write_text(rates.read_text() + f"{lines[2]}\nx,8,1\n")
    found = run("bars", "check", path, "--inputs", rates)
    assert found.exit_code == 1
    assert "samples of one time, of which the first counts: 1" in found.stdout
    assert "rows that would be left out: 1" in found.stdout
    found = run("bars", "check", path, "--inputs", rates, "-o", "json")
    inputs = json.loads(found.stdout)["inputs"]
    assert (inputs["clean"], inputs["series"][0]["samples"], list(inputs["left_out"])) == (False, 4, ["bad_row"])


def test_check_ends_with_1_for_what_it_finds(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", *map(row, (0, 1, 2, 5)), row(5, "10,12,9,11.5,5"))
    found = run("bars", "check", path)
    assert found.exit_code == 1, found.output
    for words in (
        "gaps: 1, bars missing: 2",
        "2024-12-01 03:00 to 2024-12-01 04:00",
        "1 conflict (a bar again, revised)",
    ):
        assert words in found.stdout


def test_resample_writes_whole_bars_and_names_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1h.csv", *map(row, (*range(8), *range(9, 16))))
    found = run("bars", "resample", path, "--to", "4h", "--out", tmp_path / "out.csv")
    assert found.exit_code == 0, found.output
    assert "BTCUSDT 2024-12-01 08:00: 3 of 4 bars" in found.stdout
    opened = [int(line.split(",")[1]) for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert opened == [START, START + 4 * HOUR, START + 12 * HOUR]


def test_merge_writes_nothing_over_a_conflict(tmp_path: Path) -> None:
    first = write(tmp_path / "BTCUSDT-1h-a.csv", *map(row, range(5)))
    second = write(tmp_path / "BTCUSDT-1h-b.csv", row(4, "10,12,9,11.5,5"), *map(row, range(5, 9)))
    out = tmp_path / "out.parquet"
    found = run("bars", "merge", first, second, "--out", out)
    assert found.exit_code == 1
    assert f"{first}:6 and {second}:2 have one bar with other content" in found.stderr
    assert not out.exists()
    write(second, row(4), *map(row, range(5, 9)))
    found = run("bars", "merge", first, second, "--out", out, "-o", "json")
    assert found.exit_code == 0, found.output
    assert "rows that only repeat a bar, left out: 1" in found.stderr
    assert json.loads(found.stdout)["series"][0]["bars"] == 9
    assert run("bars", "check", out).exit_code == 0


def test_ctrl_c_leaves_a_sentence_and_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = write(tmp_path / "BTCUSDT-1h.csv", *map(row, range(9)))
    monkeypatch.setattr("services.console.bars.commands.check_rows", interrupted)
    monkeypatch.setattr(sys, "argv", ["conclave", "bars", "check", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert "conclave: interrupted before it was done" in capsys.readouterr().err
