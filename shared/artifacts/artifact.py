"""Serve a loaded artifact: calibrated class probabilities for windows of feature vectors."""

import io
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
"""Called between two pieces of a load, to give other work a turn."""

TOLERANCE: Final = 1e-6
"""The largest difference from a golden prediction if libraries or processor differ from those of training."""
GOLDEN_ROWS: Final = 32
MOVING_AT_LEAST: Final = 2


class ArtifactError(ValueError):
    """An artifact must not be served. The message names its digest, the file and the fault."""


class Golden(NamedTuple):
    """The golden vectors of an artifact.

    ``windows`` [N, T, F] are float32. ``expected`` [N, 3] are the probabilities that the artifact predicted for them
    when it was made. ``times`` [N] are the open times (ms) of their bars; rows with equal times are of different
    symbols.
    """

    windows: Float32Windows
    expected: Probabilities
    times: NDArray[np.int64]


class Artifact:
    """One artifact, verified and warmed up.

    Guaranteed: ``predict`` uses one thread and no clock. If ``batch_rows`` is None, the bits of a row do not depend on
    the other rows of the call. Not guaranteed: the same bits with another processor or other libraries. ``exact`` is
    whether processor and libraries are those of the training.
    """

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
        """Return P(SELL), P(HOLD), P(BUY) for windows: float32 [N, T, F] to float64 [N, 3], rows summing to one.

        Raises ``ValueError`` for another shape or type, and for values that are not finite. Nothing is padded, cut or
        filled in.
        """
        if windows.dtype != np.float32 or windows.ndim != 3 or windows.shape[1:] != (self.window, self.features):
            raise ValueError(
                f"artifact {self.digest[:12]} takes float32 [N, {self.window}, {self.features}]; "
                f"got {windows.dtype} {list(windows.shape)}"
            )
        if not np.logical_and.reduce(np.isfinite(windows), axis=None):
            raise ValueError(f"artifact {self.digest[:12]}: a window has a value that is not finite")
        if not len(windows):
            return np.empty((0, 3))
        logits = self._model.logits(windows if self._scaling is None else self._scaling(windows))
        if logits.shape != (len(windows), 3):
            raise ValueError(
                f"artifact {self.digest[:12]}: expected logits [{len(windows)}, 3], got {list(logits.shape)}"
            )
        return probabilities(logits, self.manifest.temperature, self.manifest.vector)


def golden_bytes(golden: Golden) -> bytes:
    """Return the golden vectors as an ``.npz`` file. The same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, windows=golden.windows, expected=golden.expected, times=golden.times)
    return buffer.getvalue()


def read_golden(data: bytes) -> Golden:
    """Return the golden vectors in an ``.npz`` file. Object arrays (pickles) are refused. Raises ``ArtifactError``."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Golden(arrays["windows"], arrays["expected"], arrays["times"])
    except Exception as error:  # the library raises whatever its parts do: zipfile, zlib, struct
        raise ArtifactError(f"{GOLDEN}: not golden vectors: {error}") from None


def check_golden(artifact: Artifact, golden: Golden, pause: Pause | None = None) -> None:
    """Predict the golden windows again and compare. This also warms the artifact up.

    The predictions must be bit-identical if ``artifact.exact``, and within 1e-6 otherwise. Unless the family is
    constant, they must not all be equal. With a ``pause`` the windows are predicted one by one if that cannot change
    their bits. Raises ``ArtifactError``.
    """
    if not len(golden.windows) or golden.times.shape != (len(golden.windows),):
        raise ArtifactError(f"{GOLDEN}: {len(golden.windows)} windows at {list(golden.times.shape)} times")
    try:
        got = _predict(artifact, golden.windows, pause)
    except ValueError as error:
        raise ArtifactError(f"{GOLDEN}: {error}") from None
    if golden.expected.shape != got.shape:
        raise ArtifactError(f"{GOLDEN}: {list(golden.expected.shape)} predictions for {len(got)} windows")
    off = float(np.abs(got - golden.expected).max())
    if not (np.array_equal(got, golden.expected) if artifact.exact else off <= TOLERANCE):
        raise ArtifactError(
            f"{GOLDEN}: predictions differ from those at training by up to {off:.3g} "
            f"(allowed: {0 if artifact.exact else TOLERANCE}); made with {artifact.manifest.libraries} on "
            f"{artifact.manifest.processor}; train again here, or serve it where it was made"
        )
    constant = family_named(artifact.manifest.family).constant
    if not constant and len(np.unique(np.rint(got * 1000), axis=0)) < MOVING_AT_LEAST:
        raise ArtifactError(
            f"{GOLDEN}: one prediction for {len(got)} different windows; outputs do not depend on the inputs"
        )


def _predict(artifact: Artifact, windows: Float32Windows, pause: Pause | None) -> Probabilities:
    if pause is None or artifact.batch_rows is not None:
        return artifact.predict(windows)
    predictions = []
    for row in range(len(windows)):
        pause()
        predictions.append(artifact.predict(windows[row : row + 1]))
    return np.concatenate(predictions)


def build(digest: str, manifest: Manifest, files: Mapping[str, bytes], pause: Pause | None = None) -> Artifact:
    """Return the artifact from verified files, checked against its golden vectors.

    ``files`` are the weights and the golden vectors. ``pause`` is called between the pieces of the work. Raises
    ``ArtifactError``, ``WeightsError``, ``UnknownFamilyError``, ``LibraryMissingError``.
    """
    family = family_named(manifest.family)
    if family.scaled != (manifest.scaler is not None):
        raise ArtifactError(
            f"family {family.name!r} {'needs a' if family.scaled else 'takes no'} scaler; the manifest has "
            f"{'none' if manifest.scaler is None else 'one'}"
        )
    weights = {name: data for name, data in files.items() if name != GOLDEN}
    artifact = Artifact(digest, manifest, family.load(weights, len(manifest.feature_set.names), manifest.params))
    if pause is not None:
        pause()
    check_golden(artifact, read_golden(files.get(GOLDEN, b"")), pause)
    return artifact
