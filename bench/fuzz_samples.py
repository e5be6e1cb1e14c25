"""Valid inputs of every reader that ``bench.fuzz`` tries."""

import io
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

FIRST_MS: Final = 1_600_000_000_000
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


def parquet(folder: Path) -> bytes:
    """Return bars as Parquet. It is written to ``folder`` first."""
    import pyarrow as pa  # an optional dependency
    from pyarrow import parquet as files  # an optional dependency

    times = [FIRST_MS + 60_000 * number for number in range(40)]
    columns: dict[str, Any] = {"open_time": times, **{name: [1.0] * 40 for name in ("open", "high", "low", "close")}}
    path = folder / "sample.parquet"
    files.write_table(pa.table({**columns, "volume": [2.0] * 40}), path)
    return path.read_bytes()


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
