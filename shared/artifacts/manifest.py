"""The manifest: all that must be known to serve an artifact, and where it came from.

Its canonical bytes (JSON, keys in order, no spaces) are what the artifact's name is the SHA-256 of.
"""

import hashlib
import platform
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

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
    """A manifest that cannot be read or contradicts itself. Says which field."""


class FeatureSetRef(Struct, frozen=True, forbid_unknown_fields=True):
    """The feature set by name, digest of its definition, and the names in their order."""

    name: Name
    digest: DigestHex
    names: Annotated[tuple[str, ...], Meta(min_length=1)]


class Scaler(Struct, frozen=True, forbid_unknown_fields=True):
    """Standardises each feature with the mean and deviation of the training part and cuts at
    ``limit`` deviations. Arrays, never an object."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    limit: float

    def apply(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """[N, T, F] float64."""
        return Scaling(self)(windows)


class Scaling:
    """A scaler with its arrays at hand: [N, T, F] to [N, T, F] float64."""

    def __init__(self, scaler: Scaler) -> None:
        self._mean, self._scale = np.array(scaler.mean), np.array(scaler.scale)
        self._limit = scaler.limit

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """A new array."""
        z: NDArray[np.float64] = windows.astype(np.float64)
        z -= self._mean
        z /= self._scale
        np.maximum(z, -self._limit, out=z)
        np.minimum(z, self._limit, out=z)
        return z


class TrainingData(Struct, frozen=True, forbid_unknown_fields=True):
    """What an artifact was trained on. ``bridge`` is the gap policy its vectors were made under,
    ``digest`` the SHA-256 of the bars, ``vectors`` that of the vectors (``shared.training.series``)."""

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
    """What calibration did, kept or not. ``method`` is what is served with; ``tried`` what did best on
    rows held out from fitting it; where the two differ, ``tried`` did harm there or on the test part.
    Log losses in nats before and after ``tried``, there and on the test part, and the test part's
    calibration error (``shared.artifacts.calibration.error``)."""

    method: Method
    tried: Literal["temperature", "vector"]
    held_before: float
    held_after: float
    test_before: float
    test_after: float
    error_before: float
    error_after: float


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """Scores on the untouched test part and on the validation part; rows and steps behind them.
    ``fitted_temperature`` is what calibration found, kept or not."""

    test: Scores
    validation: Scores
    rows: dict[str, int]
    steps: int
    fitted_temperature: float
    calibration: CalibrationMetrics | None = None


class ImportedFrom(Struct, frozen=True, forbid_unknown_fields=True):
    """Where imported weights came from: the file's name and SHA-256, the layout it was recognised as (empty: by
    its parts), the scaler's file if there was one, and how far a probability lay from the reference's. What such a
    model was trained on is not known: ``data`` and ``metrics`` are of the bars it was measured on, which it may
    have seen."""

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
    """See the module. ``vector`` is applied to the logits before the ``temperature``; ``trained_with``
    are the libraries that had part in the weights and have none in the answers; ``centre`` is the mean
    log probability of each class over the calibration part (what the pool subtracts), ``prior`` the
    class frequencies of the training part, ``backtest`` what gates compare its live evidence with,
    ``imbalance`` what was done about classes of unequal share."""

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


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Manifest).decode


def canonical(manifest: Manifest) -> bytes:
    """The manifest's bytes. Raises ``ManifestError`` where reading them would give another."""
    data = _encode(manifest)
    if parse(data) != manifest:
        raise ManifestError("a value does not survive encoding (NaN, infinity, or a wrong type)")
    return data


def parse(data: bytes) -> Manifest:
    """The manifest in ``data``. Strict: unknown fields, missing fields, NaN, another class order,
    a scaler of another width raise ``ManifestError``."""
    try:
        manifest = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def processor() -> str:
    """The processor by name, and a short digest of its instruction sets: NumPy and the tree libraries
    choose their code by them, and virtual machines of one name may show different ones."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    name = about.get("model name") or platform.processor()
    flags = about.get("flags") or about.get("Features") or ""
    return f"{platform.machine()} {name} {digest_of(flags.encode())[:8] if flags else ''}".strip()
