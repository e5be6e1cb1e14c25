"""Valid inputs of every reader that ``bench.fuzz`` tries."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from schemas.common import ACTIONS
from shared.archive import cuts, sealed
from shared.artifacts.artifact import Golden, golden_bytes
from shared.artifacts.manifest import FeatureSetRef, Manifest, Metrics, Scaler, TrainingData, canonical, processor
from shared.artifacts.scoring import Interval, Scores
from shared.families import FAMILIES
from shared.families.tensors import written
from shared.labels.batch import LabelSpec
from shared.log import Entry, StreamKey
from shared.settings import describe

FIRST_MS: Final = 1_600_000_020_000
ROWS: Final = [f"{FIRST_MS + 60_000 * n},1.0,2.0,0.5,1.5,{n}" for n in range(40)]
CSV: Final = "\n".join(["open_time,open,high,low,close,volume", *ROWS]).encode()
KLINE: Final = '[{},"1.0","2.0","0.5","1.5","10.0",{},"12.0",5,"4.0","6.0","0"]'
JSON: Final = (
    "[" + ",".join(KLINE.format(at, at + 59_999) for at in range(FIRST_MS, FIRST_MS + 600_000, 60_000)) + "]"
).encode()
SCALER: Final = b'{"mean": [0.5, 1.0], "scale": [1.0, 2.0]}'
COMMAND: Final = (
    b'{"command": {"type": "promote", "model": "m", "artifact": "' + b"ab" * 32 + b'"}, "actor": "ada", '
    b'"reason": "it is better", "command_id": "c-1", "expects": 7}'
)


def settings() -> bytes:
    """Return a settings file with every setting at its default."""
    sections: dict[str, list[str]] = {}
    for each in describe():
        sections.setdefault(each.section, []).append(f"{each.key} = {each.default}")
    return "\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items()).encode()


FIRST_S: Final = FIRST_MS // 1000
LISTS: Final = [[FIRST_S + 60 * n, 1.0, 2.5, 0.5, 1.5 + n / 100, 2.0] for n in range(20)]


def _lines(header: str, rows: Sequence[Sequence[object]], separator: str = ",") -> bytes:
    return "\n".join([*([header] if header else []), *(separator.join(map(str, row)) for row in rows)]).encode()


def zipped() -> bytes:
    """Return bars as the only file of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bars.csv", CSV)
    return buffer.getvalue()


def rows_without_names() -> list[bytes]:
    """Return bars as text, of which only the caller can state the columns."""
    return [_lines("", LISTS), _lines("", [[*row, "x"] for row in LISTS], ";")]


def texts_of_programs() -> list[bytes]:
    """Return bars as text, as different programs write them."""
    clocks = [f"2024.12.01\t00:{n:02}:00" for n in range(20)]
    okx = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm"
    terminal = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>"
    site = "https://www.CryptoDataDownload.com\nunix,date,open,high,low,close,Volume BTC,Volume USD"
    return [
        CSV,
        _lines("", [[*row, 7] for row in LISTS]),
        _lines("", [[at * 1000, *row, at * 1000 + 59_999, 1, 1, 1, 1, 0] for at, *row in LISTS]),
        _lines(okx, [["A-B", *row, 1, 1, at * 1000, 1] for at, *row in LISTS]),
        _lines(terminal, [[clock, *row[1:]] for clock, row in zip(clocks, LISTS, strict=True)], "\t"),
        _lines("", [[clock[:16].replace("\t", " "), *row[1:]] for clock, row in zip(clocks, LISTS, strict=True)]),
        _lines(site, [[at, f"2020-09-13 12:{27 + n:02}:00", *row, 1] for n, (at, *row) in enumerate(LISTS)]),
        _lines("time,open,high,low,close,Volume,Volume MA", [[*row, ""] for row in LISTS]),
    ]


def responses() -> list[bytes]:
    """Return bars as JSON, as different interfaces answer."""
    named = [
        dict(zip(("start", "open", "high", "low", "close", "volume"), map(str, row), strict=True)) for row in LISTS
    ]
    texts = [[str(at * 1000), *map(str, row), "1"] for at, *row in reversed(LISTS)]
    answers: list[object] = [
        [[at * 1000, *row] for at, *row in LISTS],
        [[at, low, high, first, last, volume] for at, first, high, low, last, volume in LISTS],
        {"candles": named},
        {"data": {"pair": "BTC/USD", "ohlc": [{"timestamp": row["start"], **row} for row in named]}},
        {"retCode": 0, "result": {"symbol": "BTCUSDT", "list": texts}},
        {"code": "0", "data": [[*row, "1", "1"] for row in texts]},
        {"error": [], "result": {"XXBTZUSD": [[*row[:5], "1.0", row[5], 7] for row in LISTS], "last": 1}},
    ]
    return [JSON, *(json.dumps(answer).encode() for answer in answers)]


def tables(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Return bars as Parquet and as Feather. They are written to ``folder`` first."""
    import pyarrow as pa  # an optional dependency
    from pyarrow import feather  # an optional dependency
    from pyarrow import parquet as files  # an optional dependency

    times = [FIRST_MS + 60_000 * number for number in range(40)]
    columns: dict[str, Any] = {name: [1.0] * 40 for name in ("open", "high", "low", "close", "volume")}
    as_parquet, as_feather = [], []
    for kind in (pa.int64(), pa.timestamp("ms"), pa.timestamp("ms", "UTC")):
        table = pa.table({"open_time": pa.array(times, kind), **columns})
        files.write_table(table, folder / "sample.parquet")
        as_parquet.append((folder / "sample.parquet").read_bytes())
        feather.write_feather(table, str(folder / "sample.feather"), compression="lz4")
        as_feather.append((folder / "sample.feather").read_bytes())
    return as_parquet, as_feather


def weights() -> bytes:
    """Return a safetensors file."""
    return written({"encoder.weight": np.ones((4, 3), np.float32), "encoder.bias": np.zeros(4, np.float32)})


def state_dict() -> bytes:
    """Return a file of torch."""
    import torch  # an optional dependency

    buffer = io.BytesIO()
    torch.save({"layer.weight": torch.ones(4, 3), "layer.bias": torch.zeros(4)}, buffer)
    return buffer.getvalue()


def golden() -> bytes:
    """Return golden vectors."""
    return golden_bytes(Golden(np.ones((2, 3, 4), np.float32), np.ones((2, 3)), np.arange(2)))


def manifest() -> bytes:
    """Return the manifest of a small logistic artifact."""
    family = FAMILIES["logistic"]
    mix = (0.25, 0.5, 0.25)
    scores = Scores(10, 1.0, 1.1, Interval(100.0, 50.0, 150.0), 0.5, 0.5, 0.6, 0.65, mix, mix, 30)
    return canonical(
        Manifest(
            format=1,
            family="logistic",
            params=dict(family.defaults),
            feature_set=FeatureSetRef("pair", "ab" * 32, ("first", "second")),
            interval_ms=60_000,
            window=1,
            classes=ACTIONS,
            scaler=Scaler((0.5, 0.0), (2.0, 1.0), 8.0),
            temperature=1.25,
            centre=(-1.2, -0.9, -1.2),
            prior=mix,
            label=LabelSpec("vfh1", 12, 0.97, 0.5, 0.5),
            data=TrainingData("by hand", 3, ("AAA",), 0, 600_000, 11, 10, "cd" * 32, "ce" * 32),
            metrics=Metrics(scores, scores, {"train": 10}, 1, 1.25),
            seed=1,
            libraries=family.libraries(),
            processor=processor(),
        )
    )


def sealed_file(place: StreamKey, data: bytes) -> bytes:
    """Return a sealed file of three entries."""
    entries = [Entry(place, f"{number}-0", data) for number in range(1, 4)]
    return sealed.build(place, entries, number=1, previous=sealed.NOTHING, after="0-0", before=0)[1]


def cut() -> bytes:
    """Return a cut of one stream and one group."""
    end = cuts.SealedEnd("market", 0, "3-0", 3, 1, "ab" * 32)
    group = cuts.ArchivedGroup("feed", 0, {"epoch": b"1"})
    return cuts.encode(cuts.Cut(cuts.FORMAT, 1, sealed.NOTHING, 1, 1, (end,), (group,)))
