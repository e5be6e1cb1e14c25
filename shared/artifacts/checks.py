"""Check that the predictions of an artifact depend on its input, with the artifact's own golden windows.

No other data are needed. Golden windows are rows of the test part, of several symbols at the same times if there
were several. Checks change them by fixed rules. Each check has a name, a limit and a measured value, and all checks
run even if one fails.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import Name
from shared.artifacts.artifact import Artifact, Golden, read_golden
from shared.artifacts.manifest import GOLDEN
from shared.artifacts.store import ArtifactStore
from shared.families import family_named
from shared.features.installed import FEATURE_SETS

Windows = NDArray[np.float32]
Predictions = NDArray[np.float64]
GRID: Final = 1000
"""Predictions are distinguished to a thousandth."""


class Limits(NamedTuple):
    """The limits of the checks. Those of probabilities are absolute differences. ``latency_ms`` is the median time for
    one row, ``burst_ms`` for a hundred rows together, on the machine that runs the checks."""

    distinct: int = 5
    spread: float = 0.005
    response: float = 0.001
    alike: float = 0.5
    over_time: float = 0.001
    from_prior: float = 0.01
    latency_ms: float = 50.0
    burst_ms: float = 1_000.0
    megabytes: float = 64.0


LIMITS: Final = Limits()


class Check(NamedTuple):
    """The result of one check: the measured value, its limit, and an explanation if needed."""

    name: Name
    passed: bool
    value: float
    limit: float
    detail: str = ""


class CheckReport(NamedTuple):
    """All checks of one artifact, in order."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def __str__(self) -> str:
        return "; ".join(
            f"{check.name}: {check.value:.6g}, limit {check.limit:.6g}{', ' + check.detail if check.detail else ''}"
            for check in self.failed
        )


def check_model(artifact: Artifact, golden: Golden, files: Mapping[str, bytes], limits: Limits = LIMITS) -> CheckReport:
    """Run every check. ``files`` are the artifact's files by name, ``golden`` its golden vectors."""
    windows = golden.windows
    checks = [
        _feature_set(artifact),
        _size(files, limits),
        _same_bits(artifact, golden, files),
        _refuses(artifact, windows),
        _sums(artifact.predict(windows)),
        _repeats(artifact, windows),
        _batch_shape(artifact, windows),
        *_speed(artifact, windows, limits),
    ]
    if not family_named(artifact.manifest.family).constant:
        checks += _moves(artifact, golden, limits)
    return CheckReport(tuple(checks))


def check_stored(store: ArtifactStore, digest: str) -> CheckReport:
    """Run every check of an artifact in a store. Raises ``ArtifactError`` if it cannot be loaded."""
    artifact = store.load(digest)
    _, files = store.content(digest)
    return check_model(artifact, read_golden(files[GOLDEN]), files)


def _feature_set(artifact: Artifact) -> Check:
    """Check that the features are those of this release's set of the same name, in the same order."""
    named = artifact.manifest.feature_set
    known = FEATURE_SETS.get(named.name)
    if known is None:
        return Check("feature_set", False, 0, 1, f"this release has no feature set {named.name!r}")
    if known.names != named.names:
        odd = next(
            (f"{ours} here, {theirs} in the artifact" for ours, theirs in zip(known.names, named.names, strict=False)
             if ours != theirs), f"{len(known.names)} here, {len(named.names)} in the artifact",
        )  # fmt: skip
        return Check("feature_set", False, 0, 1, f"{named.name}: another order or other names: {odd}")
    same = known.digest.hex() == named.digest
    detail = "" if same else f"this release computes {named.name} by other formulas"
    return Check("feature_set", same, float(same), 1, detail)


def _size(files: Mapping[str, bytes], limits: Limits) -> Check:
    size = sum(map(len, files.values())) / 2**20
    return Check("size", size <= limits.megabytes, size, limits.megabytes, "MiB")


def _same_bits(artifact: Artifact, golden: Golden, files: Mapping[str, bytes]) -> Check:
    """Check that the artifact, loaded once more from its files, predicts the golden windows with the original bits."""
    manifest = artifact.manifest
    family = family_named(manifest.family)
    weights = {name: data for name, data in files.items() if name != GOLDEN}
    again = Artifact(artifact.digest, manifest, family.load(weights, artifact.features, manifest.params))
    off = float(np.abs(again.predict(golden.windows) - golden.expected).max())
    limit = 0.0 if artifact.exact else 1e-6
    return Check("same_bits", off <= limit, off, limit, "" if artifact.exact else "other libraries or processor")


def _refuses(artifact: Artifact, windows: Windows) -> Check:
    """Check that another shape, another type, and a value that is not finite each raise ``ValueError``."""
    poisoned = {name: windows[:1].copy() for name in ("a NaN", "an infinity")}
    poisoned["a NaN"][0, -1, -1] = np.nan
    poisoned["an infinity"][0, 0, 0] = np.inf
    wrong: dict[str, Any] = {
        "one vector more": np.concatenate([windows[:1], windows[:1, :1]], axis=1),
        "one feature less": windows[:1, :, :-1],
        "one feature more": np.concatenate([windows[:1], windows[:1, :, :1]], axis=2),
        "no batch": windows[0],
        "float64": windows[:1].astype(np.float64),
        **poisoned,
    }
    accepted = [name for name, bad in wrong.items() if not _raises(artifact.predict, bad)]
    return Check("refuses", not accepted, len(accepted), 0, f"accepted {', '.join(accepted)}" if accepted else "")


def _raises(predict: Callable[[Any], object], windows: object) -> bool:
    try:
        predict(windows)
    except ValueError:
        return True
    return False


def _sums(predictions: Predictions) -> Check:
    valid = bool(np.isfinite(predictions).all() and (predictions >= 0).all())
    off = float(np.abs(predictions.sum(axis=1) - 1.0).max()) if valid else float("inf")
    return Check("sums_to_one", off <= 1e-9, off, 1e-9, "" if valid else "a prediction is negative or not finite")


def _repeats(artifact: Artifact, windows: Windows) -> Check:
    first, second = artifact.predict(windows), artifact.predict(windows)
    off = float(np.abs(first - second).max())
    return Check("repeats", np.array_equal(first, second), off, 0, "predicted twice")


def _batch_shape(artifact: Artifact, windows: Windows) -> Check:
    """Check that the bits of a row do not depend on the batch: alone, in threes, backwards, and repeated."""
    whole = artifact.predict(windows)
    alone = np.concatenate([artifact.predict(windows[row : row + 1]) for row in range(len(windows))])
    threes = np.concatenate([artifact.predict(windows[row : row + 3]) for row in range(0, len(windows), 3)])
    backwards = artifact.predict(windows[::-1].copy())[::-1]
    many = artifact.predict(np.tile(windows, (4, 1, 1)))[: len(windows)]
    ways = {"alone": alone, "in threes": threes, "backwards": backwards, "among more": many}
    other = [name for name, predictions in ways.items() if not np.array_equal(predictions, whole)]
    off = max(float(np.abs(predictions - whole).max()) for predictions in ways.values())
    return Check("batch_shape", not other, off, 0, f"other predictions {', '.join(other)}" if other else "")


def _speed(artifact: Artifact, windows: Windows, limits: Limits) -> list[Check]:
    one, many = windows[:1], np.resize(windows, (100, *windows.shape[1:]))
    alone, together = _median_ms(artifact, one), _median_ms(artifact, many)
    return [
        Check("latency", alone <= limits.latency_ms, alone, limits.latency_ms, "ms, one row"),
        Check("burst", together <= limits.burst_ms, together, limits.burst_ms, "ms, a hundred rows"),
    ]


def _median_ms(artifact: Artifact, windows: Windows) -> float:
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        artifact.predict(windows)
        took.append(1000 * (time.perf_counter() - begun))
    return sorted(took)[2]


def _moves(artifact: Artifact, golden: Golden, limits: Limits) -> list[Check]:
    """Check that the predictions depend on the input in every respect in which inputs differ."""
    predictions = artifact.predict(golden.windows)
    rounded = np.rint(predictions * GRID)
    values = len(np.unique(rounded, axis=0))
    least = min(limits.distinct, len(predictions))
    width = float(np.ptp(predictions, axis=0).max())
    prior = float(np.abs(predictions - np.array(artifact.manifest.prior)).max())
    response = _response(artifact, golden.windows)
    moving = bool((predictions != predictions[0]).any())
    return [
        Check("constant", moving, width, 0, "one prediction, bit for bit" if not width else ""),
        Check("distinct", values >= least, values, least, f"predictions, to 1e-3, for {len(predictions)} windows"),
        Check("spread", width >= limits.spread, width, limits.spread, "from the least probability to the largest"),
        Check("perturbation", response >= limits.response, response, limits.response, "one input moved by a deviation"),
        _across_symbols(golden, rounded, limits),
        _over_time(artifact, golden.windows, predictions, limits),
        Check("not_prior", prior >= limits.from_prior, prior, limits.from_prior, "farthest from the class prior"),
    ]


def _response(artifact: Artifact, windows: Windows) -> float:
    """Return the largest change of a probability when one feature of the last vector moves by one deviation."""
    usual = artifact.predict(windows)
    steps = windows[:, -1].astype(np.float64).std(axis=0)
    largest = 0.0
    for feature, step in enumerate(steps):
        moved = windows.copy()
        moved[:, -1, feature] += np.float32(step)
        largest = max(largest, float(np.abs(artifact.predict(moved) - usual).max()))
    return largest


def _across_symbols(golden: Golden, rounded: Predictions, limits: Limits) -> Check:
    """Check the share of times at which all symbols have the same prediction."""
    name, detail = "across_symbols", "of the times with several symbols have one prediction for all"
    shared = [rows for moment in np.unique(golden.times) if len(rows := np.flatnonzero(golden.times == moment)) > 1]
    if not shared:
        return Check(name, True, 0, limits.alike, "one symbol at each time: nothing to compare")
    alike = sum(len(np.unique(rounded[rows], axis=0)) == 1 for rows in shared) / len(shared)
    return Check(name, alike <= limits.alike, alike, limits.alike, detail)


def _over_time(artifact: Artifact, windows: Windows, predictions: Predictions, limits: Limits) -> Check:
    """Check that a sequence model depends on the order: the older vectors reversed give another prediction."""
    if artifact.window == 1:
        return Check("over_time", True, 0, limits.over_time, "a window of one vector has no order")
    reordered = windows.copy()
    reordered[:, :-1] = windows[:, -2::-1]
    change = float(np.abs(artifact.predict(reordered) - predictions).max())
    return Check("over_time", change >= limits.over_time, change, limits.over_time, "older vectors in reverse order")
