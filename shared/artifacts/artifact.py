"""A loaded artifact: answers windows of feature vectors with calibrated class probabilities."""

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.artifacts.calibration import probabilities
from shared.artifacts.manifest import GOLDEN, Manifest, Scaling, processor
from shared.families import FittedModel, family_named

Probabilities = NDArray[np.float64]
Float32Windows = NDArray[np.float32]
Pause = Callable[[], None]
"""Called between two pieces of a load that others are not to notice."""

TOLERANCE: Final = 1e-6
"""How far an answer may lie from the golden one where libraries or processor differ."""
GOLDEN_ROWS: Final = 32
MOVING_AT_LEAST: Final = 2


class ArtifactError(ValueError):
    """An artifact that must not be served. Names its digest, the file and the fault."""


class Golden(NamedTuple):
    """Windows [N, T, F] float32, what the artifact answered to them when it was made [N, 3], and of which bar
    each is: open times [N] (ms). Rows of one time are of different symbols."""

    windows: Float32Windows
    expected: Probabilities
    times: NDArray[np.int64]


class Artifact:
    """One artifact, verified and warm.

    Guaranteed: ``predict`` uses one thread and no clock; where ``batch_rows`` is None a row's bits do
    not depend on the other rows of the call. Not guaranteed: the same bits on another processor or
    with other libraries (``exact`` says whether these are those of its training)."""

    def __init__(self, digest: str, manifest: Manifest, model: FittedModel) -> None:
        family = family_named(manifest.family)
        self.digest = digest
        self.manifest = manifest
        self.feature_set = manifest.feature_set.digest
        self.interval_ms = manifest.interval_ms
        self.window = manifest.window
        self.features = len(manifest.feature_set.names)
        self.batch_rows = family.batch_rows
        self.exact = family.libraries() == manifest.libraries and processor() == manifest.processor
        self._model = model
        self._scaling = None if manifest.scaler is None else Scaling(manifest.scaler)

    def predict(self, windows: Float32Windows) -> Probabilities:
        """float32 [N, T, F] to float64 [N, 3]: P(SELL), P(HOLD), P(BUY), rows summing to one.

        Raises ``ValueError`` on another shape or type and on values that are not finite: nothing is
        padded, cut or filled."""
        if windows.dtype != np.float32 or windows.ndim != 3 or windows.shape[1:] != (self.window, self.features):
            raise ValueError(
                f"artifact {self.digest[:12]} takes float32 [N, {self.window}, {self.features}]; "
                f"got {windows.dtype} {list(windows.shape)}"
            )
        if not np.logical_and.reduce(np.isfinite(windows), axis=None):
            raise ValueError(f"artifact {self.digest[:12]}: a window holds a value that is not finite")
        if not len(windows):
            return np.empty((0, 3))
        logits = self._model.logits(windows if self._scaling is None else self._scaling(windows))
        if logits.shape != (len(windows), 3):
            raise ValueError(f"artifact {self.digest[:12]}: the model answers {list(logits.shape)}, expected [N, 3]")
        return probabilities(logits, self.manifest.temperature, self.manifest.vector)


def golden_bytes(golden: Golden) -> bytes:
    """The golden vectors as an ``.npz`` file: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, windows=golden.windows, expected=golden.expected, times=golden.times)
    return buffer.getvalue()


def read_golden(data: bytes) -> Golden:
    """Raises ``ArtifactError``. Object arrays (pickles) are refused by NumPy."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Golden(arrays["windows"], arrays["expected"], arrays["times"])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{GOLDEN}: not golden vectors: {error}") from None


def check_golden(artifact: Artifact, golden: Golden, pause: Pause | None = None) -> None:
    """Asks the golden windows again: the same bits where ``exact``, else within 1e-6, and, except for
    a constant family, more than one answer. Also the warm-up. Given a pause, asks them one by one where
    a row's bits are its own. Raises ``ArtifactError``."""
    if not len(golden.windows) or golden.times.shape != (len(golden.windows),):
        raise ArtifactError(f"{GOLDEN}: {len(golden.windows)} windows at {list(golden.times.shape)} times")
    try:
        got = _asked(artifact, golden.windows, pause)
    except ValueError as error:
        raise ArtifactError(f"{GOLDEN}: {error}") from None
    if golden.expected.shape != got.shape:
        raise ArtifactError(f"{GOLDEN}: {list(golden.expected.shape)} answers for {len(got)} windows")
    off = float(np.abs(got - golden.expected).max())
    if not (np.array_equal(got, golden.expected) if artifact.exact else off <= TOLERANCE):
        raise ArtifactError(
            f"{GOLDEN}: answers differ from those at training by up to {off:.3g} "
            f"(allowed: {0 if artifact.exact else TOLERANCE}); made with {artifact.manifest.libraries} on "
            f"{artifact.manifest.processor}; train again here, or serve it where it was made"
        )
    constant = family_named(artifact.manifest.family).constant
    if not constant and len(np.unique(np.rint(got * 1000), axis=0)) < MOVING_AT_LEAST:
        raise ArtifactError(f"{GOLDEN}: one answer for {len(got)} different windows; outputs do not move with inputs")


def _asked(artifact: Artifact, windows: Float32Windows, pause: Pause | None) -> Probabilities:
    if pause is None or artifact.batch_rows is not None:
        return artifact.predict(windows)
    answers = []
    for row in range(len(windows)):
        pause()
        answers.append(artifact.predict(windows[row : row + 1]))
    return np.concatenate(answers)


def build(digest: str, manifest: Manifest, files: Mapping[str, bytes], pause: Pause | None = None) -> Artifact:
    """The artifact from verified files (golden vectors included), checked against them. ``pause`` is called
    between the pieces of the work.
    Raises ``ArtifactError``, ``WeightsError``, ``UnknownFamilyError``, ``LibraryMissingError``."""
    family = family_named(manifest.family)
    if family.scaled != (manifest.scaler is not None):
        raise ArtifactError(
            f"family {family.name!r} {'needs' if family.scaled else 'takes no'} scaler; the manifest has "
            f"{'none' if manifest.scaler is None else 'one'}"
        )
    weights = {name: data for name, data in files.items() if name != GOLDEN}
    artifact = Artifact(digest, manifest, family.load(weights, len(manifest.feature_set.names), manifest.params))
    if pause is not None:
        pause()
    check_golden(artifact, read_golden(files.get(GOLDEN, b"")), pause)
    return artifact
