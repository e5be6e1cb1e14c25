"""Models are trained, checked and trained again on bars with inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.artifacts import ArtifactStore

HOUR = 3_600_000
START = 1_733_011_200_000
BARS = 1_500


@pytest.fixture(name="files")
def files_fixture(tmp_path: Path) -> list[str]:
    """The options of bars of two symbols and a table of inputs, of which the second symbol has none."""
    random = np.random.default_rng(2)
    (tmp_path / "bars").mkdir()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        close = (100.0 * np.exp(np.cumsum(random.normal(0.0, 0.01, BARS)))).tolist()
        rows = ["open_time,open,high,low,close,volume"]
        for number, last in enumerate(close):
            first = close[max(number - 1, 0)]
            high, low = max(first, last) * 1.01, min(first, last) * 0.99
            rows.append(f"{START + number * HOUR},{first!r},{high!r},{low!r},{last!r},{1 + random.random()!r}")
        (tmp_path / "bars" / f"{symbol}-1h.csv").write_text("\n".join(rows))
    table = ["timestamp,symbol,funding_rate,open_interest,mark_price,index_price"]
    for number in range(1, BARS + 1):
        rate = f"{random.normal(1e-4, 1e-5):.8f}" if number % 8 == 0 else ""
        prices = f"{100 + random.random()},{100 + random.random()}"
        table.append(f"{START + number * HOUR},BTCUSDT,{rate},{1000 + random.random()},{prices}")
    (tmp_path / "inputs.csv").write_text("\n".join(table))
    return ["--bars", str(tmp_path / "bars"), "--inputs", str(tmp_path / "inputs.csv")]


def test_a_model_is_trained_on_inputs_and_trained_again_to_the_same_bytes(
    desk: Any, tmp_path: Path, files: list[str]
) -> None:
    train = ("train", "files", "--model", "m", "--family", "prior", "--set", "derivatives-39", "--reason", "a test")
    ended = desk(*train, *files)
    assert ended.code == 0, ended.err
    assert "inputs.csv: it has no inputs of ETHUSDT" in ended.err
    digest = ended.out.split()[-1]
    manifest = ArtifactStore(tmp_path / "var" / "artifacts").load(digest).manifest
    assert manifest.feature_set.name == "derivatives-39"
    again = desk("train", "verify", digest, *files)
    assert (again.code, "the same" in again.out) == (0, True), again
    without = desk(*train, *files[:2])
    assert without.code == 2
    assert "features are undefined: funding_bp of" in " ".join(without.err.split())


def test_a_set_that_reads_inputs_is_checked_for_leaks(desk: Any, files: list[str]) -> None:
    checked = desk("features", "check", "derivatives-39", *files, "--trials", "20")
    assert (checked.code, checked.out.strip()) == (0, "derivatives-39: no value moved in 20 trials"), checked
    unchecked = desk("features", "check", "book-32", *files, "--trials", "20")
    assert unchecked.code == 2
    assert "book at their closes" in " ".join(unchecked.err.split())
