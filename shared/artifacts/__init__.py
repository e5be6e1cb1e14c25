"""Artifacts: trained models as content-addressed directories with data and no code.

``ArtifactStore`` saves, verifies and loads them, ``Artifact.predict`` serves them, and ``Manifest`` describes them.
The format is documented in ``docs/reference/artifacts.md``.
"""

from shared.artifacts.artifact import GOLDEN_ROWS, Artifact, ArtifactError, Golden, golden_bytes
from shared.artifacts.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    CalibrationMetrics,
    FeatureSetRef,
    FileEntry,
    Manifest,
    ManifestError,
    Metrics,
    Scaler,
    TrainingData,
    digest_of,
    processor,
)
from shared.artifacts.store import ArtifactStore

__all__ = [
    "FORMAT",
    "GOLDEN",
    "GOLDEN_ROWS",
    "MANIFEST",
    "Artifact",
    "ArtifactError",
    "ArtifactStore",
    "CalibrationMetrics",
    "FeatureSetRef",
    "FileEntry",
    "Golden",
    "Manifest",
    "ManifestError",
    "Metrics",
    "Scaler",
    "TrainingData",
    "digest_of",
    "golden_bytes",
    "processor",
]
