"""One small logistic artifact, made by hand."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.common import ACTIONS
from shared.artifacts import (
    GOLDEN,
    Artifact,
    ArtifactStore,
    FeatureSetRef,
    Golden,
    Manifest,
    Metrics,
    Scaler,
    TrainingData,
    golden_bytes,
    processor,
)
from shared.artifacts.scoring import Interval, Scores
from shared.families import FAMILIES
from shared.labels.batch import LabelSpec

Parts = tuple[Manifest, dict[str, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def make() -> Callable[..., Parts]:
    """``make(slope=1.0)``: an artifact of two features whose answer moves with the first."""

    def parts(slope: float = 1.0) -> Parts:
        family = FAMILIES["logistic"]
        table = {"coefficients": [[-slope, 0.0, slope], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]]}
        files = {"weights.json": msgspec.json.encode(table)}
        mix = (0.25, 0.5, 0.25)
        scores = Scores(10, 1.0, 1.1, Interval(100.0, 50.0, 150.0), 0.5, 0.5, 0.6, 0.65, mix, mix, 30)
        manifest = Manifest(
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
            prior=(0.25, 0.5, 0.25),
            label=LabelSpec("vfh1", 12, 0.97, 0.5, 0.5),
            data=TrainingData("by hand", 3, ("AAA",), 0, 600_000, 11, 10, "cd" * 32, "ce" * 32),
            metrics=Metrics(scores, scores, {"train": 10}, 1, 1.25),
            seed=1,
            libraries=family.libraries(),
            processor=processor(),
        )
        windows = np.random.default_rng(0).standard_normal((8, 1, 2)).astype(np.float32)
        expected = Artifact("by hand", manifest, family.load(files, 2, family.defaults)).predict(windows)
        return manifest, {**files, GOLDEN: golden_bytes(Golden(windows, expected, np.arange(len(windows))))}

    return parts
