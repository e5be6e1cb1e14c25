"""The manifest of an artifact: everything needed to serve it, and its origin.

The name of an artifact is the SHA-256 of the manifest's canonical bytes (JSON, keys in order, no spaces).
"""

import hashlib
import platform
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from schemas.codec import UNDECODABLE
from schemas.common import ACTIONS, Action, DigestHex, IntervalMs, Milliseconds, Name, Probabilities
from schemas.control import Backtest
from schemas.training import Imbalance
from shared.artifacts.calibration import Method, VectorScaling
from shared.artifacts.scoring import Scores
from shared.families.base import LONGEST_WINDOW
from shared.labels.batch import LabelSpec

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
GOLDEN: Final = "golden.npz"

FileName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)+$", max_length=64)]


class ManifestError(ValueError):
    """A manifest cannot be read, or contradicts itself. The message names the field."""


class FeatureSetRef(Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a feature set, the digest of its definition, and the names of its features in order."""

    name: Name
    digest: DigestHex
    names: Annotated[tuple[str, ...], Meta(min_length=1)]


class Scaler(Struct, frozen=True, forbid_unknown_fields=True):
    """Standardise each feature by the mean and standard deviation of the training part, and clip it at ``limit``
    deviations. Stored as numbers, never as a pickled object."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    limit: float

    def apply(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scaled windows, [N, T, F] float64."""
        return Scaling(self)(windows)


class Scaling:
    """A scaler as NumPy arrays: windows [N, T, F] to [N, T, F] float64."""

    def __init__(self, scaler: Scaler) -> None:
        self._mean, self._scale = np.array(scaler.mean), np.array(scaler.scale)
        self._limit = scaler.limit

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scaled windows as a new array."""
        z: NDArray[np.float64] = windows.astype(np.float64)
        z -= self._mean
        z /= self._scale
        np.maximum(z, -self._limit, out=z)
        np.minimum(z, self._limit, out=z)
        return z


class TrainingData(Struct, frozen=True, forbid_unknown_fields=True):
    """The data of an artifact. ``bridge`` is the gap policy of its vectors, ``digest`` the SHA-256 of the bars,
    ``vectors`` that of the vectors (``shared.training.series``)."""

    source: str
    bridge: int
    symbols: tuple[str, ...]
    first_open_time: Milliseconds
    last_open_time: Milliseconds
    bars: int
    rows: int
    digest: DigestHex
    vectors: DigestHex


class CalibrationMetrics(Struct, frozen=True, forbid_unknown_fields=True):
    """The effect of calibration, selected or not.

    ``method`` is the calibration that is served. ``tried`` is the best one on rows held out from its fit. If they
    differ, ``tried`` increased the log loss of the held-out rows or of the test part. The other fields are before and
    after ``tried``: log losses in nats of the held-out rows and of the test part, and the calibration error of the
    test part (``shared.artifacts.calibration.error``).
    """

    method: Method
    tried: Literal["temperature", "vector"]
    held_before: float
    held_after: float
    test_before: float
    test_after: float
    error_before: float
    error_after: float


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Scores on the untouched test part and on the validation part, with the number of rows of each part and of
    training steps. ``fitted_temperature`` is the fitted temperature, selected or not."""

    test: Scores
    validation: Scores
    rows: dict[str, int]
    steps: int
    fitted_temperature: float
    calibration: CalibrationMetrics | None = None


class ImportedFrom(Struct, frozen=True, forbid_unknown_fields=True):
    """The origin of imported weights.

    ``file`` and ``sha256`` are those of the file with the weights, ``scaler`` is the name of the scaler's file, if any.
    ``layout`` is the known layout, empty if the network was recognised by its tensors alone. ``off`` is the largest
    difference of a probability from the reference implementation. The training data of such a model are not known:
    ``data`` and ``metrics`` of the manifest are of the bars on which it was measured, and it may have been trained on
    them.
    """

    file: str
    sha256: DigestHex
    layout: str
    scaler: str
    off: float


class FileEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an artifact."""

    name: FileName
    sha256: DigestHex
    size: Annotated[int, Meta(ge=1)]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of an artifact.

    ``vector`` is applied to the logits before the ``temperature``. ``centre`` is the mean log probability of each class
    over the calibration part, which the pool subtracts. ``prior`` are the class frequencies of the training part.
    ``backtest`` are the reference values for gates. ``imbalance`` is the correction for unequal class frequencies.
    ``trained_with`` are libraries that were used in training and are not used in serving. ``spread``: the mean
    divergence (nats) of the predictions over the calibration part from their mean, and ``reach`` the mean
    absolute return of the moving rows there (a fraction); earlier releases left both out.
    """

    format: Literal[1]
    family: Name
    params: dict[str, int | float]
    feature_set: FeatureSetRef
    interval_ms: IntervalMs
    window: Annotated[int, Meta(ge=1, le=LONGEST_WINDOW)]
    classes: tuple[Action, Action, Action]
    scaler: Scaler | None
    temperature: Annotated[float, Meta(gt=0.0)]
    centre: tuple[float, float, float]
    prior: Probabilities
    label: LabelSpec
    data: TrainingData
    metrics: Metrics
    seed: int
    libraries: dict[str, str]
    processor: str
    backtest: Backtest | None = None
    files: tuple[FileEntry, ...] = ()
    vector: VectorScaling | None = None
    imported: ImportedFrom | None = None
    trained_with: dict[str, str] = {}
    imbalance: Imbalance = "none"
    spread: Annotated[float, Meta(ge=0.0)] | UnsetType = UNSET
    reach: Annotated[float, Meta(gt=0.0)] | UnsetType = UNSET


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Manifest).decode


def canonical(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest. Raises ``ManifestError`` if reading them gives another manifest."""
    data = _encode(manifest)
    if parse(data) != manifest:
        raise ManifestError("a value does not survive encoding (NaN, infinity, or a wrong type)")
    return data


def parse(data: bytes) -> Manifest:
    """Return the manifest in ``data``.

    Raises ``ManifestError`` for unknown or missing fields, NaN, another class order, or a scaler of another width.
    """
    try:
        manifest = _decode(data)
    except UNDECODABLE as error:
        raise ManifestError(f"{MANIFEST}: {error}") from None
    width = len(manifest.feature_set.names)
    scaler = manifest.scaler
    if scaler is not None and not (len(scaler.mean) == len(scaler.scale) == width and min(scaler.scale) > 0):
        raise ManifestError(
            f"{MANIFEST}: the scaler has {len(scaler.mean)} means and {len(scaler.scale)} scales (each above 0) "
            f"for {width} features"
        )
    if manifest.classes != ACTIONS:
        raise ManifestError(
            f"{MANIFEST}: class order {manifest.classes}, expected {ACTIONS}; train again with this order"
        )
    if _encode(manifest) != data:
        raise ManifestError(f"{MANIFEST}: not in canonical form (keys in order, no spaces)")
    return manifest


def digest_of(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def processor() -> str:
    """Return the name of the processor with a short digest of its instruction sets.

    NumPy and the tree libraries choose their code by the instruction sets. Virtual machines with the same processor
    name may have different ones.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    name = about.get("model name") or platform.processor()
    flags = about.get("flags") or about.get("Features") or ""
    return f"{platform.machine()} {name} {digest_of(flags.encode())[:8] if flags else ''}".strip()
